"""The pages in docs/ name files, functions and fields that exist."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import h5py
import numpy as np
import pytest
from h5py import h5d, h5s, h5t

import h5bound
from h5bound.conversion.provenance import PROVENANCE_VERSION
from h5bound.graph.settings import DEFAULTS
from h5bound.reports.conversion import digest_conversion
from h5bound.reports.forms import FORMS, Kind
from h5bound.zarr_model.node_names import escape, escape_siblings
from tests.support.own_document import read_own

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

REFERENCE = ("api", "configuration")
"""Pages that list all there is."""

TEMPLATES = {"tests/ROOM/test_MODULE.py"}
"""Paths that stand for many."""


def find_file(name: str) -> Path:
    """Return the path of a file that a page names, from the root or from the package."""
    return next((path for path in (ROOT / name, ROOT / "h5bound" / name) if path.exists()), ROOT / name)


def list_definitions(path: Path) -> set[str]:
    """Return the names that a module defines."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_and_functions_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:[\w.]+/)*\w+\.(?:py|txt|toml|md))(?:: (\w+))?`", page.read_text(encoding="utf-8"))
    for name, function in named:
        path = find_file(name)
        if name in TEMPLATES or ("/" not in name and name.startswith("test_")):
            continue
        assert path.exists(), name
        assert not function or function in list_definitions(path), f"{name}: {function}"


def test_the_architecture_names_every_module_once() -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("## Modules")[2].partition("\n## ")[0]
    named = {
        (room, module)
        for room, cell in re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
        for module in re.findall(r"`(\w+)`", cell)
    }
    modules = {(path.parent.name, path.stem) for path in (ROOT / "h5bound").glob("*/*.py") if path.stem != "__init__"}
    assert named == modules


def test_the_reference_has_every_public_name_and_setting() -> None:
    pages = {name: (ROOT / "docs/reference" / f"{name}.md").read_text(encoding="utf-8") for name in REFERENCE}
    errors = {name for name in h5bound.__all__ if name.endswith("Error")}
    named = set(re.findall(r"^::: h5bound\.(\w+)$", pages["api"], re.MULTILINE))
    assert named == {*h5bound.__all__} - errors
    assert all((getattr(h5bound, name).__doc__ or "").count("\n\n") for name in errors), "each says what to do"
    for setting in DEFAULTS:
        assert f"| `h5bound.{setting}` | `DASK_H5BOUND__{setting.upper()}` |" in pages["configuration"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    anchors |= set(re.findall(r'<a id="([\w-]+)">', text))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif "://" not in link:
            assert (page.parent / link.partition("#")[0]).exists(), link


def write_odd_file(path: Path) -> None:
    """Write a file that needs each field of ``h5bound.json``."""
    with h5py.File(path, "w") as file:
        scale = file.create_dataset("x", data=np.arange(3.0))
        scale.make_scale("x")
        data = file.create_dataset("Data", data=np.arange(3, dtype=">i2"))
        data.dims[0].attach_scale(scale)
        file["data"] = np.ones(3)
        file.attrs.update({"complex": 1 + 2j, "single": np.float32(1.5), "_LINKS": "of the source"})
        file.create_dataset("null", data=h5py.Empty("f4"))
        file.create_dataset("switch", data=[0, 1], dtype=h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1"))
        file.create_dataset("pair", (2,), "(2,)f4")
        file.create_dataset("fixed", data=np.array([b"a", b"bb"]))
        rows = file.create_dataset("rows", (2,), h5py.vlen_dtype("i4"))
        rows[0] = [1, 2]
        file["again"] = h5py.SoftLink("/x")
        file["type"] = np.dtype("i4")
        file["type"].attrs["of"] = "nothing"
        file.create_dataset("region", (1,), h5py.vlen_dtype(h5py.regionref_dtype))
        name = h5py.h5a.create(file.id, b"\xff", h5py.h5t.STD_I64LE, h5py.h5s.create(h5py.h5s.SCALAR))
        name.write(np.array(3))


def list_fields(own: dict[str, Any]) -> Iterator[str]:
    """Yield the name of each field of ``h5bound.json``, in entries and details too."""
    yield from own
    entries = []
    for details in own["details"].values():
        yield from details
        entries += [*details.get("attributes", {}).values(), *details.get("odd_names", ())]
    for item in (*entries, own["source"], own["settings"], own["limits"], *own["skipped"]):
        yield from item


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_page_on_the_format_names_every_field(tmp_path: Path, zarr_format: Any) -> None:
    write_odd_file(tmp_path / "a.h5")
    h5bound.convert(tmp_path / "a.h5", tmp_path / "a.zarr", zarr_format=zarr_format, on_unsupported="skip")
    page = (ROOT / "docs" / "explanation" / "format.md").read_text(encoding="utf-8")
    fields = {*list_fields(read_own(tmp_path / "a.zarr")), "external"}
    assert len(fields) > 30
    assert {field for field in fields if f"`{field}`" not in page} == set()
    assert f"**{PROVENANCE_VERSION}** today" in page


def test_the_page_on_the_format_names_nodes_as_they_are_named() -> None:
    page = (ROOT / "docs" / "explanation" / "format.md").read_text(encoding="utf-8")
    table = page.partition("## Names of nodes")[2].partition("\n## ")[0]
    pairs: dict[str, str] = {}
    for row in re.findall(r"^\| (.*?) \| (.*?) \|", table, re.MULTILINE):
        names, nodes = (re.findall(r"`(.+?)`", cell) for cell in row)
        if len(names) == len(nodes):
            pairs.update(zip(names, nodes, strict=True))
    assert len(pairs) > 8
    for name, node in pairs.items():
        assert escape(name.encode().replace(rb"\xff", b"\xff")) == node, name
    assert escape_siblings(["Time", "time"])["Time"] in table


def write_what_is_read_back(path: Path) -> dict[str, Any]:
    """Write a file with each thing that the page on the format reads back, and return what h5py selects by region."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    frame = pd.DataFrame({"a": [1.0, 2.0], "n": [1, 2], "s": ["x", "é"], "b": [3.0, 4.0]}, index=[10, 20])
    frame.to_hdf(path, key="frame", format="table", mode="w")
    with h5py.File(path, "a") as file:
        file.attrs.update({"empty": h5py.Empty("f4"), "z": 1 + 2j})
        file.create_dataset("switch", data=[0, 1], dtype=h5py.enum_dtype({"OFF": 0, "ON": 1}, "i1"))
        file.create_dataset("null", data=h5py.Empty("f4"))
        file.create_dataset("pairs", (4,), "(2,3)f4")
        sequences = file.create_dataset("rows", (3,), h5py.vlen_dtype("i4"))
        sequences[0], sequences[2] = [1, 2], [3]
        kind = np.dtype([("label", "S5"), ("matrix", "f8", (2, 3)), ("inner", [("pair", "i2", (2,))])])
        file["table"] = np.frombuffer(bytes(range(57)) * 5, kind, 5)
        data = file.create_dataset("data", data=np.arange(60).reshape(6, 10), maxshape=(None, 10))
        file["references"] = np.array([data.ref, h5py.Reference()], h5py.ref_dtype)
        regions = [data.regionref[1:3], data.regionref[::2, 1:9:3], data.regionref[...]]
        space = data.id.get_space()
        space.select_hyperslab((1, 0), (h5s.UNLIMITED, 2), stride=(3, 5), block=(1, 2))
        regions.append(h5py.h5r.create(data.id, b".", h5py.h5r.DATASET_REGION, space))
        space.select_elements([[1, 2], [0, 9]])
        regions.append(h5py.h5r.create(data.id, b".", h5py.h5r.DATASET_REGION, space))
        file["regions"] = np.array(regions, h5py.regionref_dtype)
        for name, size in (("wide", 16), ("three", 3)):
            wide = h5t.STD_U64LE.copy()
            wide.set_size(size)
            wide.set_precision(8 * size)
            raw = np.arange(2 * size, dtype="u1").view(f"V{size}")
            h5d.create(file.id, name.encode(), wide, h5s.create_simple((2,))).write(h5s.ALL, h5s.ALL, raw, wide)
        file["long"] = np.ones(2, np.longdouble) / 3
        for name, time in (("time64", h5t.UNIX_D64LE), ("time32", h5t.UNIX_D32LE)):
            raw = np.arange(2 * time.get_size(), dtype="u1").view(f"V{time.get_size()}")
            h5d.create(file.id, name.encode(), time, h5s.create_simple((2,))).write(h5s.ALL, h5s.ALL, raw, time)
        file.create_dataset("latin", data=np.array([b"caf\xe9", b"x"], object), dtype=h5py.string_dtype())
        return {"frame": frame, "table": file["table"][()], "rows": [list(row) for row in sequences[()]]}


@pytest.mark.parametrize("zarr_format", [3, 2])
@pytest.mark.filterwarnings("ignore")  # of pandas and PyTables
def test_what_has_another_form_is_read_back_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zarr_format: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = write_what_is_read_back(tmp_path / "a.h5")
    assert h5bound.convert("a.h5", "a.zarr", zarr_format=zarr_format, verify=True).exit_code == 0
    page = (ROOT / "docs" / "explanation" / "format.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    results = [
        value
        for code in re.findall(r"```python\n(.*?)```", page.partition("## Read it back")[2], re.DOTALL)
        for value in run_lines(code, found)
    ]
    with h5py.File("a.h5") as file:
        assert [["OFF", "ON"], True, True, (4,), expected["rows"]] == results[:5]
        assert found["rows"].tobytes() == expected["table"].tobytes()
        assert (
            found["frame"]
            .assign(s=found["frame"]["s"].str.decode("utf-8"))[list("anbs")]
            .equals(expected["frame"][list("anbs")])
        )
        assert [target and target.path for target in found["targets"]] == ["data", None]
        data = file["data"][()]  # h5py itself reads no region up to the end of an axis
        selected = [data[1:3], data[::2, 1:9:3], data, data[1::3][:, [0, 1, 5, 6]], data[[1, 0], [2, 9]]]
        assert [np.ravel(one).tolist() for one in found["all_selected"]] == [one.ravel().tolist() for one in selected]
        assert file["data"][found["reference"]].tolist() == [[*range(10, 20)], [*range(20, 30)]]
    low_high, longs, seconds, times, three, texts, complex_value = results[5:]
    assert low_high.tobytes() == bytes(range(32))
    assert longs.tolist() == [np.longdouble(1) / 3] * 2
    assert seconds.tolist() == (np.frombuffer(bytes(range(16)), "<i4").reshape(2, 2) @ [1e-6, 1]).tolist()
    assert times.tobytes() == bytes(range(8))
    assert three.tolist() == [int.from_bytes(bytes(range(i, i + 3)), "little") for i in (0, 3)]
    assert (texts, complex_value.item()) == (["café", "x"], 1 + 2j)


def run_lines(code: str, names: dict[str, Any]) -> Iterator[Any]:
    """Run the statements of an example, and yield the value of each that is an expression, but for calls of methods."""
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Expr):
            yield eval(compile(ast.Expression(statement.value), "format.md", "eval"), names)
        else:
            exec(compile(ast.Module([statement], []), "format.md", "exec"), names)


OWN_VALUES = {"h5bound", "seconds", "source", "stored_bytes", "written_bytes"}
"""Fields whose values depend on the machine."""


def test_the_report_is_as_the_page_on_reports_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "reference" / "reports.md").read_text(encoding="utf-8")
    code, shown = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)[0] for kind in ("python", "json"))
    exec(code, {})  # what the page says, and nothing else

    def read(text: str) -> Any:
        return json.loads(text, object_hook=lambda item: {name: item[name] for name in item if name not in OWN_VALUES})

    assert read((tmp_path / "scan.json").read_text()) == read(shown)
    assert json.loads((tmp_path / "scan.json").read_text()).keys() == json.loads(shown).keys()


def test_the_page_on_reports_names_every_field_kind_and_line(tmp_path: Path) -> None:
    write_odd_file(tmp_path / "a.h5")
    report = h5bound.convert(
        tmp_path / "a.h5", tmp_path / "a.zarr", verify=True, exclude=["/null"], on_unsupported="skip"
    )
    batch = h5bound.convert([tmp_path / "a.h5"], tmp_path / "out", on_unsupported="skip")
    page = (ROOT / "docs" / "reference" / "reports.md").read_text(encoding="utf-8")
    documents: Any = [report.to_dict(), batch.to_dict(), report.verification.to_dict()]  # type: ignore[union-attr]
    documents.append(h5bound.references(tmp_path / "a.h5", tmp_path / "a.json", on_unsupported="skip").to_dict())
    fields = {name for document in documents for name in document} | {"foreign", "remark", "rechunking"}
    entries = [entry for name in ("converted", "skipped", "links", "notes") for entry in documents[0][name]]
    entries += documents[-1]["arrays"]
    fields |= {name for entry in entries for name in entry}
    assert {name for name in (*fields, *get_args(Kind)) if f"`{name}`" not in page} == set()
    for kind, form in FORMS.items():
        assert f"| `{kind}` | {form.noun} |" in page
    lines = {section.title for section in digest_conversion(report).sections}
    assert {title for title in lines if f"| `{title}` |" not in page} == set()

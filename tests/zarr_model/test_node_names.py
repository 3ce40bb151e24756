"""Escaping of link names: nothing leaves the target, no two names share a node name, every name comes back."""

from __future__ import annotations

import json
import os
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
from h5py import h5a, h5d, h5g, h5s, h5t
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from h5bound import convert, verify
from h5bound.errors import TargetError
from h5bound.hdf5.links import decode_name
from h5bound.hdf5.type_json import text_from_json
from h5bound.stores.name_limits import ask_folder
from h5bound.zarr_model.node_names import EMPTY, HASHED, PORTABLE, NameLimits, escape, escape_siblings
from h5bound.zarr_model.zarr_warnings import quiet_zarr
from tests.support.own_document import read_own

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDINARY = [
    "data",
    "entry 1",
    "X",
    ".hidden",
    "a.b",
    "c",
    "0",
    "_x",
    "__categories",
    "a-b",
    "naïve",
    "温度",
    "a[0]{1}",
    "a'b&c=d",
]

ESCAPED = [
    pytest.param("zarr.json", "%7Aarr.json", id="metadata document of format 3"),
    pytest.param("ZARR.JSON", "%5AARR.JSON", id="metadata document where case is folded"),
    pytest.param(".zarray", "%2Ezarray", id="array document of format 2"),
    pytest.param(".zgroup", "%2Ezgroup", id="group document of format 2"),
    pytest.param(".zattrs", "%2Ezattrs", id="attribute document of format 2"),
    pytest.param(".zmetadata", "%2Ezmetadata", id="consolidated metadata of format 2"),
    pytest.param(".", "%2E", id="one period"),
    pytest.param("..", ".%2E", id="two periods"),
    pytest.param("...", "..%2E", id="three periods"),
    pytest.param("", "%", id="empty"),
    pytest.param("100%", "100%25", id="percent sign"),
    pytest.param("%41", "%2541", id="what looks like an escape"),
    pytest.param("a\\b", "a%5Cb", id="backslash"),
    pytest.param("a/b", "a%2Fb", id="slash"),
    pytest.param("a\nb\0", "a%0Ab%00", id="control characters"),
    pytest.param("\u202eb", "%E2%80%AEb", id="invisible character"),
    pytest.param('<>:"|?*', "%3C%3E%3A%22%7C%3F%2A", id="characters that Windows forbids"),
    pytest.param("a.", "a%2E", id="trailing period"),
    pytest.param("a ", "a%20", id="trailing space"),
    pytest.param("nul", "%6Eul", id="Windows device"),
    pytest.param("Com1.txt", "%43om1.txt", id="Windows device with an extension"),
    pytest.param("caf\udce9", "caf%E9", id="bytes that are not UTF-8"),
    pytest.param("cafe\u0301", "cafe%CC%81", id="text that is not in NFC"),
    pytest.param("\\\u0301", "%5C%CC%81", id="mark that would join with an escape"),
]

names = st.one_of(
    st.binary(max_size=300).map(os.fsdecode),
    st.text(st.sampled_from("aAbBcC.%_ \\/:\u0301éÉß\u017fKkK\u0131İ\udcff"), max_size=6),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=90),
    st.sampled_from(ORDINARY),
)


def unescape(node_name: str) -> str:
    """Return the link name of a node name; raise ValueError if `escape` never returns it, or it was shortened."""
    if node_name == EMPTY:
        return ""
    if HASHED in node_name:
        raise ValueError(f"node name {node_name!r} was shortened; the link name is stored elsewhere")
    if not re.fullmatch(r"(?:[^%]|%[0-9A-F]{2})+", node_name, re.DOTALL):
        raise ValueError(f"{node_name!r} is not an escaped name: after each % come two upper-case hexadecimal digits")
    return decode_name(re.sub(rb"%(..)", lambda escaped: bytes.fromhex(escaped[1].decode()), node_name.encode("utf-8")))


def folded(node_name: str) -> set[str]:
    """Return what file systems that fold case or normalize may make of a node name."""
    forms = {node_name, node_name.casefold(), node_name.upper(), node_name.lower(), node_name.upper().casefold()}
    return {unicodedata.normalize(form, text).casefold() for text in forms for form in ("NFC", "NFD")}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert escape(name) == unescape(name) == name


@pytest.mark.parametrize(("name", "node_name"), ESCAPED)
def test_an_odd_name_is_escaped_and_comes_back(name: str, node_name: str) -> None:
    assert escape(name) == node_name
    assert unescape(node_name) == name
    assert escape(os.fsencode(name)) == node_name


@given(names)
@example("x" * 256)
@example("é" * 128)
@example("\\" * 200)
def test_every_node_name_is_one_file_name_that_any_system_can_hold(name: str) -> None:
    node_name = escape(name)
    assert 0 < len(node_name.encode()) <= 255
    assert not set(node_name) & set('/\\<>:"|?*\0')
    assert not {unicodedata.category(char) for char in node_name} & {"Cc", "Cf", "Cs"}
    assert node_name[-1] not in ". "
    assert unicodedata.is_normalized("NFC", node_name)


@given(names)
def test_every_name_comes_back_from_its_node_name_unless_it_was_too_long(name: str) -> None:
    node_name = escape(name)
    name = os.fsdecode(os.fsencode(name))
    if "%~" in node_name:
        assert len(os.fsencode(name)) * 3 > 255
        with pytest.raises(ValueError, match="was shortened"):
            unescape(node_name)
    else:
        assert unescape(node_name) == name


def test_long_names_that_differ_at_their_end_keep_apart() -> None:
    long = "x" * 300
    node_names = {escape(long + end) for end in ("", "a", "A", "\\")}
    assert len({node_name.casefold() for node_name in node_names}) == 4
    assert all(node_name.startswith("x" * 100) and len(node_name) == 255 for node_name in node_names)


def test_a_long_name_is_not_cut_inside_an_escape_or_a_character() -> None:
    for shift in range(4):
        for char in ("\\", "é", "温"):
            node_name = escape("x" * shift + char * 300)
            start, _, _ = node_name.rpartition("%~")
            assert unescape(start) == "x" * shift + char * (len(unescape(start)) - shift)


@pytest.mark.parametrize("node_name", ["%4", "%zz", "%7a", "a%", "%%", ""])
def test_a_node_name_that_no_name_has_is_refused(node_name: str) -> None:
    with pytest.raises(ValueError, match="not an escaped name"):
        unescape(node_name)


def test_surrogates_that_stand_for_no_byte_are_refused() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        escape("\ud800")


SIBLINGS = [
    pytest.param({"a": "a", "A": "%41"}, id="one letter"),
    pytest.param({"AB": "AB", "Ab": "%41b"}, id="none without capitals"),
    pytest.param({"ab": "ab", "AB": "%41%42", "aB": "a%42", "Ab": "%41b"}, id="all ways"),
    pytest.param({"é": "é", "e\u0301": "e%CC%81", "É": "%C3%89"}, id="case and normalization"),
    pytest.param({"ss": "ss", "ß": "%C3%9F"}, id="sharp s"),
    pytest.param({"k": "k", "\u212a": "%E2%84%AA"}, id="Kelvin sign"),
    pytest.param({"i": "i", "\u0131": "%C4%B1"}, id="dotless i"),
    pytest.param({"zarr.json": "%7Aarr.json", "Zarr.json": "%5Aarr.json"}, id="metadata documents"),
    pytest.param({"%41": "%2541", "A": "A"}, id="a name like an escape"),
]


@pytest.mark.parametrize("expected", SIBLINGS)
def test_siblings_that_fold_together_are_told_apart(expected: dict[str, str]) -> None:
    assert escape_siblings(expected) == expected
    assert escape_siblings(reversed(list(expected))) == expected


@given(st.lists(names, max_size=8, unique_by=os.fsencode))
@example(["I", "i", "İ", "\u0131", "i\u0307"])
@example(["\u017f", "s", "S", "ß", "ẞ", "SS", "ss"])
@example(["E\u0323", "e\u0323", "É\u0323"])
def test_node_names_of_siblings_stay_apart_on_every_file_system(group: list[str]) -> None:
    node_names = escape_siblings(group)
    assert list(node_names) == group
    assert escape_siblings(sorted(group)) == node_names
    for name, node_name in node_names.items():
        assert len(node_name.encode()) <= 255
        assert "%~" in node_name or unescape(node_name) == os.fsdecode(os.fsencode(name))
        assert unicodedata.is_normalized("NFC", node_name)
        assert all(folded(node_name).isdisjoint(folded(node_names[other])) for other in group if other != name)


@given(names)
def test_a_name_without_siblings_has_its_ordinary_node_name(name: str) -> None:
    assert escape_siblings([name]) == {name: escape(name)}


EXACT = [
    pytest.param(
        [
            "Sex",
            "sex",
            "%mito",
            "%CD8",
            "x:y",
            "T cell?",
            "<5",
            "con",
            "a.",
            "a ",
            "x\ny",
            "é",
            "e\u0301",
            "\u202eb",
            "%",
        ],
        id="what folders of Linux hold",
    ),
    pytest.param(["ZARR.JSON", "x.partial", "%41", "A", "%7Aarr.json", "%~"], id="what looks like another"),
]


@pytest.mark.parametrize("group", EXACT)
def test_names_that_a_target_holds_stay_as_they_are(group: list[str]) -> None:
    assert escape_siblings(group, NameLimits()) == {name: name for name in group}


def test_a_name_that_must_change_never_takes_that_of_another() -> None:
    limits = NameLimits()
    assert escape_siblings(["zarr.json", "a\\%41"], limits) == {"zarr.json": "%7Aarr.json", "a\\%41": "a%5C%2541"}
    named = escape_siblings(["zarr.json", "%7Aarr.json", "n\udcff", "n%FF", "%6E%FF"], limits)
    assert named["%7Aarr.json"] == "%7Aarr.json"
    assert named["n%FF"] == "n%FF"
    assert len(set(named.values())) == 5


limits_of_targets = st.builds(
    NameLimits,
    folds=st.booleans(),
    controls=st.booleans(),
    windows=st.booleans(),
    longest=st.sampled_from([143, 255, 1000]),
)


@given(st.lists(names, max_size=8, unique_by=os.fsencode), limits_of_targets)
@example(["j", "J", "%4a", "%4A"], NameLimits(folds=True))
def test_exact_names_of_siblings_stay_apart_and_change_only_where_they_must(
    group: list[str], limits: NameLimits
) -> None:
    node_names = escape_siblings(group, limits)
    assert escape_siblings(reversed(group), limits) == node_names
    values = [node_name.casefold() if limits.folds else node_name for node_name in node_names.values()]
    assert len(set(values)) == len(group)
    for name, node_name in node_names.items():
        assert 0 < len(node_name.encode()) <= limits.longest
        assert not set(node_name) & set("/\\\0")
        assert node_name.strip(".")
        if not limits.folds:
            assert (node_name == name) == (escape(name, limits) == name)


@pytest.mark.parametrize("name", ["..", "../x", "/etc/passwd", "..\\x", "C:\\x", "a/../../x", "\0", "con"])
def test_a_file_of_any_name_lies_directly_in_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / escape(name)).touch()
    assert [entry.name for entry in tmp_path.iterdir()] == ["target"]
    assert len(list((tmp_path / "target").iterdir())) == 1


# Whole files.

HOSTILE = [
    b"..",
    b"...",
    b".. ",
    b"a\\..\\b",
    b"C:",
    b"~",
    b"zarr.json",
    b"ZARR.JSON",
    b".zarray",
    b".zgroup",
    b".zattrs",
    b".zmetadata",
    b"h5bound-unfinished.json",
    b"x.partial",
    b"zarr.json.partial",
    b"c",
    b"0",
    b"0.0",
    b"__x",
    b"values",
    b"offsets",
    b"A",
    b"a",
    b"\xc3\xa9",
    b"e\xcc\x81",
    b"\xc3\x89",
    b"\xff\xfe",
    b"caf\xe9",
    b"line\nbreak",
    b"tab\t",
    b"\x1b[31mred",
    b"con",
    b"NUL.txt",
    b"end.",
    b"end ",
    b"100%",
    b"%2E%2E",
    b"%",
    b"x" * 255,
    b"x" * 256,
    b"X" * 256,
    b"\xe6\xb8\xa9" * 100,
    b"_h5bound",
    b"_LINKS",
    b"\xe2\x80\xaegpj.exe",
]

raw_names = st.sampled_from(HOSTILE) | st.binary(min_size=1, max_size=12).filter(
    lambda raw: raw != b"." and not set(raw) & set(b"/\0")
)
attribute_names = raw_names | st.sampled_from(
    [b"_ARRAY_DIMENSIONS", b"_DTYPE", b"a/b", b"/", b".", b"_FillValue", b"units"]
)
trees = st.dictionaries(raw_names, st.sampled_from(["dataset", "group", "sequences", "link"]), min_size=1, max_size=5)


def write_tree(group: h5g.GroupID, tree: dict[bytes, str], inside: dict[bytes, str]) -> None:
    """Write the objects of `tree` into a group, and those of `inside` into each new group."""
    for number, (name, kind) in enumerate(tree.items()):
        if kind == "group":
            made = h5g.create(group, name)
            write_tree(made, inside, {})
        elif kind == "dataset":
            write_values(group, name, h5t.STD_I32LE, number)
        elif kind == "sequences":
            h5d.create(group, name, h5t.vlen_create(h5t.STD_I8LE), h5s.create_simple((2,)))
        else:
            group.links.create_soft(name, b"/nowhere/" + name)


def write_values(group: h5g.GroupID, name: bytes, tid: h5t.TypeID, value: int) -> None:
    made = h5d.create(group, name, tid, h5s.create_simple((3,)))
    made.write(h5s.ALL, h5s.ALL, np.full(3, value, "i4"))


def write_attributes(group: h5g.GroupID, names: list[bytes]) -> None:
    for number, name in enumerate(names):
        made = h5a.create(group, name, h5t.STD_I32LE, h5s.create_simple((2,)))
        made.write(np.full(2, number, "i4"))


def list_tree(path: Path) -> dict[str, str]:
    """Return the objects of an HDF5 file: what each is, by its path."""
    objects = {"": "group"}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: objects.update({os.fsdecode(name): kind_of(item)}))
    return objects


def kind_of(item: h5py.Group | h5py.Dataset) -> str:
    if isinstance(item, h5py.Group):
        return "group"
    return "dataset" if item.dtype.kind == "i" else "sequences"


def list_store(root: Path, zarr_format: int) -> dict[str, str]:
    """Return the same for a Zarr store, from its metadata documents alone, under the original names."""
    objects: dict[str, str] = {}
    originals = {root: ""}
    for folder, document, _ in read_nodes(root, zarr_format):
        metadata = find_details(root, folder)
        if folder != root:
            above = originals[folder.parent]
            if "sequences" in objects.get(above, ""):
                continue
            name = text_from_json(metadata["name"]) if "name" in metadata else folder.name
            originals[folder] = f"{above}/{name}".lstrip("/")
        is_array = document.get("node_type") == "array" or "shape" in document
        kind = "sequences" if "sequences" in metadata else "dataset" if is_array else "group"
        objects[originals[folder]] = kind
        for link in metadata.get("links", []):
            objects[f"{originals[folder]}/{text_from_json(link['name'])}".lstrip("/")] = "link"
    return objects


def read_nodes(folder: Path, zarr_format: int) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Yield each node of a store with its metadata document and attributes, parents first."""
    if zarr_format == 3:
        document = json.loads((folder / "zarr.json").read_text())
        attributes = document.get("attributes", {})
    else:
        kind = ".zarray" if (folder / ".zarray").exists() else ".zgroup"
        document = json.loads((folder / kind).read_text())
        attributes = json.loads((folder / ".zattrs").read_text())
    yield folder, document, attributes
    for inner in sorted(folder.iterdir()):
        if any((inner / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
            yield from read_nodes(inner, zarr_format)


def find_details(root: Path, folder: Path) -> dict[str, Any]:
    """Return the details of a node."""
    details: dict[str, Any] = read_own(root)["details"].get("/".join(folder.relative_to(root).parts), {})
    return details


def list_attributes(attributes: dict[str, Any], metadata: dict[str, Any]) -> set[str]:
    """Return the names of the source's attributes, from the attributes and details of a store's root."""
    odd = {text_from_json(entry["name"]) for entry in metadata.get("odd_names", [])}
    return {*attributes} | {*metadata.get("attributes", {})} | odd


formats: tuple[Literal[2, 3], ...] = (2, 3)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    tree=trees,
    inside=trees,
    names=st.lists(attribute_names, max_size=4, unique=True),
    zarr_format=st.sampled_from(formats),
)
@example(dict.fromkeys(HOSTILE, "dataset"), {}, HOSTILE, 3)
@example(dict.fromkeys(HOSTILE, "group"), dict.fromkeys(HOSTILE[:9], "sequences"), HOSTILE, 2)
@example(dict.fromkeys(HOSTILE, "link"), {}, [], 3)
@example(dict.fromkeys(HOSTILE, "sequences"), {}, [], 3)
def test_a_file_of_hostile_names_is_converted_within_its_target_and_gives_them_back(
    tree: dict[bytes, str], inside: dict[bytes, str], names: list[bytes], zarr_format: Literal[2, 3]
) -> None:
    with tempfile.TemporaryDirectory() as above, quiet_zarr():
        folder = Path(above) / "folder"
        folder.mkdir()
        source, target = folder / "a.h5", folder / "target"
        with h5py.File(source, "w") as file:
            write_tree(h5g.open(file.id, b"/"), tree, inside)
            write_attributes(h5g.open(file.id, b"/"), names)
        report = convert(source, target, zarr_format=zarr_format, verify=True)
        assert report.exit_code == 0
        assert sorted(path.name for path in Path(above).iterdir()) == ["folder"]
        assert sorted(path.name for path in folder.iterdir()) == ["a.h5", "target"]
        assert not any(path.is_symlink() for path in target.rglob("*"))
        links = {path.path.strip("/") for path in report.links}
        assert list_store(target, zarr_format) == list_tree(source) | dict.fromkeys(links, "link")
        assert {entry.path.strip("/") for entry in report.converted} == list_tree(source).keys()
        _, _, attributes = next(read_nodes(target, zarr_format))
        assert {os.fsdecode(name) for name in names} <= list_attributes(attributes, find_details(target, target))


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_names_are_exact_where_the_folder_holds_them_and_portable_on_demand(
    tmp_path: Path, zarr_format: Literal[2, 3]
) -> None:
    source, exact, portable = tmp_path / "a.h5", tmp_path / "exact.zarr", tmp_path / "portable.zarr"
    names = ["Sex", "sex", "%mito", "x:y", "T cell?", "<5", "con", "a.", "plain"]
    with h5py.File(source, "w") as file:
        for name in names:
            file[name] = np.arange(3)
    limits = ask_folder(tmp_path)
    assert sorted(tmp_path.iterdir()) == [source]
    report = convert(source, exact, zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    assert {entry.target for entry in report.arrays} == set(escape_siblings(names, limits).values())
    assert report.forms.get("renamed", 0) == sum(a != b for a, b in escape_siblings(names, limits).items())
    assert convert(source, exact, zarr_format=zarr_format, resume=True).remark == "already complete"
    report = convert(source, portable, zarr_format=zarr_format, names="portable", verify=True)
    assert report.exit_code == 0
    assert {note.path: note.to for note in report.notes if note.kind == "renamed"} == {
        f"/{name}": node for name, node in escape_siblings(names).items() if node != name
    }
    with pytest.raises(TargetError, match="names=exact, now names=portable"):
        convert(source, exact, zarr_format=zarr_format, names="portable", resume=True)


def test_a_store_keeps_its_names_where_another_folder_would_have_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, moved = tmp_path / "a.h5", tmp_path / "a.zarr", tmp_path / "moved.zarr"
    with h5py.File(source, "w") as file:
        file["T"], file["t"] = 1, 2
    folding = NameLimits(folds=True, longest=255)
    with monkeypatch.context() as patch:
        patch.setattr("h5bound.stores.name_limits.ask_folder", lambda _: folding)
        assert [entry.target for entry in convert(source, target, verify=True).arrays] == ["%54", "t"]
    target.rename(moved)
    assert verify(source, moved).equal
    assert convert(source, moved, resume=True).remark == "already complete"


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_columns_of_compounds_are_named_like_nodes(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    source = tmp_path / "a.h5"
    inner = np.dtype([("zarr.json", "i4"), ("x:y", "i4")])
    rows = np.ones(3, [("Sex", "i4"), ("sex", "i4"), ("%mito", "f4", (2,)), ("a\\b", inner)])
    with h5py.File(source, "w") as file:
        file["rows"] = rows
    for names in ("exact", "portable"):
        target = tmp_path / f"{names}.zarr"
        report = convert(source, target, names=names, compounds="columns", zarr_format=zarr_format, verify=True)
        assert report.exit_code == 0
        members = ["Sex", "sex", "%mito", "a\\b"]
        nodes = escape_siblings(members, ask_folder(tmp_path) if names == "exact" else PORTABLE)
        assert {path.name for path in (target / "rows").iterdir() if path.is_dir()} == set(nodes.values())
        renamed = {f"/rows/{member}": f"rows/{node}" for member, node in nodes.items() if member != node}
        noted = {note.path: note.to for note in report.notes if note.kind == "renamed"}
        assert noted.items() >= renamed.items()
        assert noted["/rows/a\\b/zarr.json"] == "rows/a%5Cb/%7Aarr.json"


def test_unfinished_work_goes_on_only_where_names_are_held_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["T"], file["t"] = 1, 2
    with monkeypatch.context() as patch:
        patch.setattr("h5bound.stores.name_limits.ask_folder", lambda _: NameLimits(folds=True, longest=255))
        with pytest.raises(KeyboardInterrupt):
            convert(source, target, progress=stop)
    with pytest.raises(TargetError, match="begun with a target that holds other names"):
        convert(source, target, resume=True)


def test_no_folder_is_asked_for_names_that_all_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data"] = 1
    monkeypatch.setattr("h5bound.stores.name_limits.ask_folder", None)
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify=True).exit_code == 0


@pytest.mark.skipif(not hasattr(os, "pathconf"), reason="this system does not tell how long a path may be")
def test_paths_that_the_system_does_not_take_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with h5py.File(source, "w") as file:
        file["near"] = np.arange(3)
        file["/".join(["n" * 200] * 20) + "/x"] = np.arange(3)
    with pytest.raises(TargetError, match=r"a\.zarr: a path of 4,\d\d\d bytes, where this system takes 4,096: nnn"):
        convert(source, target)
    assert not target.exists()
    assert convert(source, target, exclude=["nnn*"]).exit_code == 0
    assert (target / "near").is_dir()

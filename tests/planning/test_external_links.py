"""External links: they stay links unless allowed; then their targets are converted in their place."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

from h5bound import convert, verify
from h5bound.cli.main import run_command
from h5bound.errors import SourceChangedError, TargetError, UnsafeSourceError
from h5bound.zarr_model.zarr_warnings import quiet_zarr
from tests.support import odd_files
from tests.support.own_document import read_own

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence warnings of zarr about data types without a specification."""
    with quiet_zarr():
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file with external links to datasets and a group of a file in another folder."""
    for name in ("in", "main", "far"):
        (tmp_path / name).mkdir()
    with h5py.File(tmp_path / "in" / "other.h5", "w") as file:
        file.attrs["title"] = "other"
        data = file.create_dataset("group/data", data=np.arange(100), chunks=(30,), compression="gzip", shuffle=True)
        data.attrs["units"] = "m"
        data.attrs["self"] = data.ref
        file["group/same"] = data
        file["group/near"] = h5py.SoftLink("data")
        file["group/absolute"] = h5py.SoftLink("/group/data")
        file["group/inner/piece"] = np.arange(5.0)
        file["group/inner"].attrs["n"] = 3
        file["plain"] = ["a", "b"]
        sequences = file.create_dataset("sequences", (2,), h5py.vlen_dtype(np.dtype("i4")))
        sequences[0], sequences[1] = [1, 2], [3]
        references = file.create_dataset("group/references", (2,), h5py.ref_dtype)
        references[0], references[1] = data.ref, file["group/inner"].ref
    path = tmp_path / "main" / "a.h5"
    with h5py.File(path, "w") as file:
        file["here"] = [1, 2]
        file["entry/data"] = h5py.ExternalLink("../in/other.h5", "/plain")
        file["entry/group"] = h5py.ExternalLink(str(tmp_path / "in" / "other.h5"), "group")
        file["lists"] = h5py.ExternalLink("../in/other.h5", "sequences")
    return path


def read(target: Path, name: str) -> Any:
    group: Any = zarr.open_group(target, mode="r")
    return np.asarray(group[name][...])


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_targets_of_allowed_links_are_converted_at_the_paths_of_the_links(source: Path, zarr_format: Any) -> None:
    target, allowed = source.with_suffix(".zarr"), [source.parents[1] / "in"]
    report = convert(source, target, allow_external=allowed, zarr_format=zarr_format, window="1 KiB")
    assert report.exit_code == 0
    strategies = {entry.path: entry.how for entry in report.arrays}
    assert strategies.pop("/entry/group/data") == "copied"
    assert set(strategies) == {
        "/here",
        "/entry/data",
        "/entry/group/inner/piece",
        "/entry/group/references",
        "/lists",
    }
    assert read(target, "entry/group/data").tolist() == list(range(100))
    assert read(target, "entry/data").tolist() == ["a", "b"]
    assert read(target, "lists/values").tolist() == [1, 2, 3]
    assert read(target, "entry/group/references").tolist() == ["/entry/group/data", "/entry/group/inner"]
    group: Any = zarr.open_group(target, mode="r")
    assert group["entry/group/inner"].attrs["n"] == 3
    assert group["entry/group/data"].attrs["self"] == "/entry/group/data"
    assert {item["name"]: item["path"] for item in read_own(target)["details"]["entry/group"]["links"]} == {
        "same": "/entry/group/data",
        "absolute": "/entry/group/data",
        "near": "/entry/group/data",
    }
    linked = [note.path for note in report.notes if note.kind == "followed_link"]
    assert linked == ["/entry/data", "/entry/group", "/lists"]
    assert {note.path for note in report.notes} - {*linked} == {"/entry/group/references", "/entry/group/data"}
    assert verify(source, target, allow_external=allowed).equal
    assert not verify(source, target).equal


def test_only_allowed_files_are_opened(source: Path) -> None:
    folder = source.parents[1]
    for allowed in ([], [folder / "far"]):
        with odd_files.record_opens(folder / "in") as opened:
            report = convert(source, source.with_suffix(".zarr"), allow_external=allowed, overwrite=True)
        assert opened == set()
        assert report.exit_code == 0
        assert {link.path for link in report.links} == {"/entry/data", "/entry/group", "/lists"}
    (folder / "in" / "more.h5").write_bytes(b"")
    with odd_files.record_opens(folder / "in") as opened:
        convert(source, source.with_suffix(".zarr"), allow_external=[folder / "in"], overwrite=True)
    assert opened == {"other.h5"}


def test_a_symbolic_link_out_of_an_allowed_folder_is_not_followed(source: Path) -> None:
    folder = source.parents[1]
    (folder / "in" / "other.h5").rename(folder / "far" / "other.h5")
    (folder / "in" / "other.h5").symlink_to(folder / "far" / "other.h5")
    with odd_files.record_opens(folder / "far") as opened:
        report = convert(source, source.with_suffix(".zarr"), allow_external=[folder / "in"])
    assert opened == set()
    assert [entry.path for entry in report.arrays] == ["/here"]


def test_links_in_a_linked_file_are_resolved_in_the_same_way(tmp_path: Path) -> None:
    for name in ("in", "far"):
        (tmp_path / name).mkdir()
    with h5py.File(tmp_path / "far" / "secret.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "in" / "c.h5", "w") as file:
        file["g/deep"] = [5, 6]
    with h5py.File(tmp_path / "in" / "b.h5", "w") as file:
        file["ok"] = h5py.ExternalLink("c.h5", "/g")
        file["secret"] = h5py.ExternalLink("../far/secret.h5", "/x")
        file["kept"] = [3]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["b"] = h5py.ExternalLink("in/b.h5", "/")
        file["through"] = h5py.ExternalLink("in/b.h5", "/ok/deep")
        file["hidden"] = h5py.ExternalLink("in/b.h5", "/secret")
        file["none"] = h5py.ExternalLink("in/none.h5", "/")
        file["nowhere"] = h5py.ExternalLink("in/b.h5", "/nowhere")
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    with odd_files.record_opens(tmp_path / "far") as opened:
        report = convert(source, target, allow_external=[tmp_path / "in"], on_unsupported="skip", verify=False)
    assert opened == set()
    assert report.skipped == ()
    far = f"kept as a link, not opened; allow_external=['{tmp_path / 'far'}'] reads what it leads to"
    notes = {note.path: note.note for note in report.notes if note.kind == "external_link"}
    assert notes.pop("/nowhere").startswith("kept as a link, since it leads to nothing: ")
    assert notes == {"/b/secret": far, "/hidden": far, "/none": "kept as a link, since there is no such file"}
    assert {(link.path, link.file, link.to) for link in report.links} >= {
        ("/hidden", "in/b.h5", "/secret"),
        ("/b/secret", "../far/secret.h5", "/x"),
    }
    assert read(target, "b/ok/deep").tolist() == [5, 6]
    assert read(target, "b/kept").tolist() == [3]
    assert read(target, "through").tolist() == [5, 6]


def test_circles_of_links_end_in_links_of_the_store(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["g/x"] = [1, 2, 3]
            file["g/other"] = h5py.ExternalLink(f"{other}.h5", "/g")
            file["g/self"] = h5py.ExternalLink(f"{name}.h5", "/g/x")
            file["g/up"] = h5py.ExternalLink(f"{other}.h5", "/")
    source, target = tmp_path / "a.h5", tmp_path / "a.zarr"
    report = convert(source, target, allow_external=[tmp_path])
    assert report.exit_code == 0
    links = {link.path: link.to for link in report.links}
    assert (links["/g/self"], links["/g/other/other"]) == ("/g/x", "/g")
    assert read(target, "g/other/x").tolist() == [1, 2, 3]
    assert verify(source, target, allow_external=[tmp_path]).equal


def test_an_endless_chain_of_links_ends_in_links(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("a.h5", "/x")
        file["y"] = h5py.ExternalLink("a.h5", "/y/z")
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", allow_external=[tmp_path])
    assert {note.note for note in report.notes} == {
        "kept as a link, since it leads to a chain of more than 16 external links"
    }


def test_links_out_of_the_linked_group_stay_links_or_are_copied(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["g/x"] = [1]
        file["aside"] = [2]
        file["g/soft"] = h5py.SoftLink("/aside")
        file["g/sooner"] = h5py.SoftLink("/go")
        file["g/beside"] = h5py.SoftLink("/g/x")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g"] = h5py.ExternalLink("b.h5", "/g")
        file["through"] = h5py.SoftLink("/g/soft")
    options: Any = {"allow_external": [tmp_path], "verify": True}
    report = convert(tmp_path / "a.h5", tmp_path / "keep.zarr", **options)
    assert report.exit_code == 0
    assert {(link.path, link.kind, link.to, link.file) for link in report.links} == {
        ("/g/soft", "external", "/aside", "b.h5"),
        ("/g/sooner", "soft", "/go", None),
        ("/g/beside", "soft", "/g/x", None),
        ("/through", "soft", "/g/soft", None),
    }
    report = convert(tmp_path / "a.h5", tmp_path / "copy.zarr", links="copy", **options)
    assert report.exit_code == 0
    assert [link.path for link in report.links] == ["/g/sooner"]
    assert read(tmp_path / "copy.zarr", "g/soft").tolist() == read(tmp_path / "copy.zarr", "through").tolist() == [2]
    assert read(tmp_path / "copy.zarr", "g/beside").tolist() == [1]


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_a_link_that_is_not_followed_stays_a_link(tmp_path: Path, zarr_format: Any) -> None:
    name = b"r\xe9sultat.h5"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("a_data_000001.h5", "/entry/data/data")
        file.id.links.create_external(b"entry/odd", name, b"/x")
        file["entry/soft"] = h5py.SoftLink("/entry/data/data_000001")
        file["x"] = [1]
    target = tmp_path / "a.zarr"
    report = convert(tmp_path / "a.h5", target, zarr_format=zarr_format, verify=True)
    assert (report.exit_code, report.skipped) == (0, ())
    assert "in another form: 1 link, 2 external links; complete" in report.summary()
    document = json.loads(report.to_json())
    assert document["links"][0] == {
        "path": "/entry/data/data_000001",
        "kind": "external",
        "to": "/entry/data/data",
        "file": "a_data_000001.h5",
    }
    assert {"path": "/entry/data/data_000001", "kind": "external_link"}.items() <= document["notes"][0].items()
    assert f"allow_external=['{tmp_path}']" in document["notes"][0]["note"]
    details = json.loads((target / "h5bound.json").read_bytes())["details"]
    assert details["entry/data"]["links"] == [
        {"name": "data_000001", "source": "a_data_000001.h5", "path": "/entry/data/data", "kind": "external"}
    ]
    assert details["entry"]["links"][0]["source"] == {"base64": base64.b64encode(name).decode()}
    assert convert(tmp_path / "a.h5", target, zarr_format=zarr_format, resume=True).remark
    with h5py.File(tmp_path / "a_data_000001.h5", "w") as file:
        file["entry/data/data"] = [7]
    assert verify(tmp_path / "a.h5", target).equal
    report = convert(tmp_path / "a.h5", target, allow_external=[tmp_path], overwrite=True, verify=True)
    assert read(target, "entry/data/data_000001").tolist() == [7]
    assert [(note.kind, note.note) for note in report.notes if note.kind] == [
        ("followed_link", "what it leads to is in its place"),
        ("external_link", "kept as a link, since there is no such file"),
    ]


def test_nothing_is_looked_for_that_is_not_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path.parent / "server" / "raw.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink(name, "/x")
    touched: list[str] = []
    exists = os.path.exists

    def record(path: Path) -> bool:
        touched.append(str(path))
        return exists(path)

    monkeypatch.setattr("os.path.exists", record)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr")
    assert [path for path in touched if "server" in path] == []
    assert f"allow_external=['{tmp_path.parent / 'server'}']" in report.notes[0].note
    (tmp_path / "raw.h5").touch()  # HDF5 looks there for the last part of the name
    report = convert(tmp_path / "a.h5", tmp_path / "b.zarr")
    assert f"allow_external=['{tmp_path}']" in report.notes[0].note


def test_the_terminal_names_the_directory_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(30):
            file[f"data_{number}"] = h5py.ExternalLink(f"a_{number}.h5", "/data")
    assert run_command(["convert", str(tmp_path / "a.h5"), str(tmp_path / "a.zarr")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("in another form: ")]
    (line,) = lines
    assert line.startswith(
        f"in another form: 30 external links: kept as a link, not opened; --allow-external {tmp_path} reads"
    )


def test_a_linked_file_that_changes_during_the_conversion_leaves_no_store(source: Path) -> None:
    folder = source.parents[1]

    def change(_done: int, _total: int) -> None:
        with h5py.File(folder / "in" / "other.h5", "a") as file:
            file.attrs["again"] = 1

    with pytest.raises(SourceChangedError, match=r"other\.h5"):
        convert(source, source.with_suffix(".zarr"), allow_external=[folder / "in"], progress=change)


def test_the_limits_hold_for_all_files_together(source: Path) -> None:
    for limit, at in (("max_objects", 9), ("max_depth", 3)):
        options: Any = {"allow_external": [source.parents[1] / "in"], limit: at}
        with pytest.raises(UnsafeSourceError, match=limit):
            convert(source, source.with_suffix(".zarr"), **options)


def test_include_and_exclude_match_the_paths_of_the_store(source: Path) -> None:
    target, allowed = source.with_suffix(".zarr"), [source.parents[1] / "in"]
    report = convert(source, target, allow_external=allowed, exclude=["/entry/group/inner", "*/references", "/lists"])
    assert {entry.path for entry in report.arrays} == {"/here", "/entry/data", "/entry/group/data"}
    assert verify(source, target, allow_external=allowed).equal


@pytest.mark.slow
def test_linked_files_are_converted_on_processes_and_listed_in_the_provenance(source: Path) -> None:
    import dask

    target, allowed = source.with_suffix(".zarr"), [source.parents[1] / "in"]
    with dask.config.set(scheduler="processes", num_workers=2):
        convert(source, target, allow_external=allowed)
    assert verify(source, target, allow_external=allowed).equal
    assert [entry["path"] for entry in read_own(target)["external"]] == ["other.h5"]


def test_a_store_with_data_of_other_files_than_are_read_says_which(source: Path) -> None:
    folder = [source.parents[1] / "in"]
    for target, before, now in (("without", [], folder), ("with", folder, [])):
        convert(source, source.with_name(target), allow_external=before)
        report = verify(source, source.with_name(target), allow_external=now)
        assert not report.equal
        assert f"the store has {'data' if before else 'no data'} of other.h5: " in report.remark
        with pytest.raises(TargetError, match=r"now of .*other\.h5|now of no other file"):
            convert(source, source.with_name(target), allow_external=now, resume=True)
        assert verify(source, source.with_name(target), allow_external=before).equal


def test_a_second_external_link_in_a_file_of_nwb_is_one_that_hdmf_zarr_finds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "raw.nwb", "w") as file:
        file["raw/data"] = [1, 2]
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.8.0"
        file["raw"] = h5py.ExternalLink("raw.nwb", "/raw")
        file["same"] = h5py.ExternalLink("raw.nwb", "/raw/data")
    report = convert(tmp_path / "a.nwb", tmp_path / "a.zarr", allow_external=[tmp_path])
    (link,) = report.links
    assert (link.path, link.to, link.note) == (
        "/same",
        "/raw/data",
        "kept as a link in _LINKS, where hdmf-zarr finds it",
    )

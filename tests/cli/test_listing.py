"""h5bound ls: what the tree and its JSON say of each object, and where each reason and each size stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t, h5z

from h5bound import H5Store
from h5bound.cli.main import run_command
from tests.cli.test_main import run_on_a_terminal
from tests.support import odd_files
from tests.support.entry_file import write_entry
from tests.support.http_server import serve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with named dimensions, attributes, text, links, and groups in groups."""
    path = tmp_path / "a.h5"
    with write_entry(path) as file:
        entry = file["entry"]
        more = {"range": np.array([0.5, np.inf]), "of": entry.ref, "long": "word " * 200}
        entry["temperature"].attrs.update(more)
        for name in ("title", "comment", "deep/er/name"):
            entry[name] = ["a", "bb"]
        file["soft"] = h5py.SoftLink("/entry/time")
    return path


def run(*arguments: str | Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """Return what `h5bound ls` prints."""
    assert run_command(["ls", *map(str, arguments)]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def line_of(name: str, out: str) -> str:
    """Return the line of an object, without the lines of the tree."""
    (line,) = (line for line in out.splitlines() if f" {name}  (" in line or f" {name} = " in line)
    return line.lstrip("│├└─ \xa0")


def test_a_line_names_dimensions_type_storage_and_access(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(path, capsys=capsys)
    with h5py.File(path) as file:
        stored = file["entry/temperature"].id.get_storage_size()
    assert line_of("temperature", out) == (
        f"temperature  (time=3, x=40) float32 big-endian, 3 chunks (1, 40), deflate 4, {stored} B of 480 B"
    )
    assert line_of("time", out) == "time  (time=3) float64, contiguous, 24 B"
    assert line_of("title", out) == "title  (2) text, contiguous, 32 B + text [1]"


def test_a_reason_stands_once_with_its_count(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(path, capsys=capsys)
    assert out.count(" [1]\n") == 3
    assert out.count("Python objects") == 1
    assert "[1] read through h5py: text, sequences and references become Python objects; 3 datasets\n" in out


def test_the_last_line_has_the_totals(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(path) as file:
        stored = sum(file[name].id.get_storage_size() for name in H5Store(path))
    for options in ([], ["--depth", "0"], ["--depth", "1"]):
        assert run(path, *options, capsys=capsys).splitlines()[-1] == (
            f"4 groups, 5 datasets, 1 link; {stored} B stored; values of 504 B, without 3 datasets of variable or "
            "unknown length"
        )


def test_a_part_of_a_file_is_listed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(path, "entry/deep", capsys=capsys)
    assert out.splitlines()[0] == f"{path}: /entry/deep"
    assert "name  (2) text" in out
    assert "temperature" not in out
    assert "2 groups, 1 dataset; " in out
    out = run(path, "/entry//time/", capsys=capsys)
    assert "0 groups, 1 dataset; 24 B stored of 24 B" in out
    assert run(path, "soft", capsys=capsys).count("(time=3) float64") == 1


def test_depth_counts_what_is_not_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(path, "--depth", "1", capsys=capsys)
    assert "entry/\n" in out
    assert "temperature" not in out
    assert "… 2 groups, 5 datasets" in out
    assert "… 1 group, 1 dataset" in run(path, "/entry", "--depth", "1", capsys=capsys)
    assert "…" not in run(path, "--depth", "9", capsys=capsys)


def test_attributes_are_shown_below_their_object(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "units" not in run(path, capsys=capsys)
    out = run(path, "--attributes", capsys=capsys)
    assert line_of("units", out) == 'units = "K"'
    assert line_of("of", out) == 'of = "/entry"'
    assert line_of("long", out) == f'long = "{"word " * 200}"'
    assert 'title = "cooling"' in out
    assert "DIMENSION_L" not in out, "the dimensions are named in the line of the dataset"


def test_a_path_that_does_not_exist_names_close_ones(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = run(path, "/entry/temprature", capsys=capsys, code=1)
    assert err.startswith("h5bound: error: ")
    assert "nothing is at '/entry/temprature'; similar names: 'temperature'" in err


def test_a_path_into_another_file_names_that_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd_files.write_external_links(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["far"] = h5py.ExternalLink("other.h5", "/group")
    err = run(tmp_path / "a.h5", "far/x", capsys=capsys, code=1)
    assert "'/far/x' in" in err
    assert "is in another file: list /group/x of other.h5" in err


def test_json_is_one_object_with_all_that_the_tree_shows(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(path, "--json", "--attributes", capsys=capsys))
    assert (document["version"], document["groups"], document["datasets"], document["links"]) == (1, 4, 5, 1)
    assert (document["file"], document["path"]) == (str(path.resolve()), "/")
    assert document["bytes"] == 504
    objects = {item["path"]: item for item in document["objects"]}
    assert list(objects) == sorted(objects, key=lambda name: name.split("/"))
    assert objects["/soft"] == {"path": "/soft", "kind": "link", "note": "soft link to /entry/time"}
    assert objects["/entry"] == {"path": "/entry", "kind": "group", "attributes": {"title": "cooling"}}
    data = objects["/entry/temperature"]
    expected: dict[str, Any] = {
        "shape": [3, 40],
        "dimensions": ["time", "x"],
        "type": "float32 big-endian",
        "layout": "chunked",
        "chunks": [1, 40],
        "filters": [{"id": 1, "name": "deflate 4"}],
        "stored_chunks": 3,
        "bytes": 480,
        "external_files": [],
        "read": "direct",
        "reason": "",
    }
    assert {name: data[name] for name in expected} == expected
    assert data["attributes"]["range"] == [0.5, "Infinity"]
    assert objects["/entry/title"]["bytes"] is None
    assert objects["/entry/title"]["read"] == "h5py"


def test_json_counts_what_depth_hides(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(path, "--json", "--depth", "1", capsys=capsys))
    assert [item["path"] for item in document["objects"]] == ["/", "/entry", "/soft"]
    assert document["objects"][1]["hidden"] == {"groups": 2, "datasets": 5, "links": 0}
    assert document["datasets"] == 5


def test_depth_counts_links_that_it_hides(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(path, "a") as file:
        file["entry/again"] = h5py.SoftLink("/entry")
    assert "… 2 groups, 5 datasets, 1 link\n" in run(path, "--depth", "1", capsys=capsys)
    document = json.loads(run(path, "--json", "--depth", "1", capsys=capsys))
    assert document["objects"][1]["hidden"] == {"groups": 2, "datasets": 5, "links": 1}


def write_filtered(path: Path, number: int, name: str, *, mask: int | None = 0, **options: Any) -> None:
    """Write a chunk of a filter that HDF5 need not have, with this filter mask."""
    with h5py.File(path, "a") as file:
        if options:
            file.create_dataset(name, data=np.arange(64), chunks=(8,), **options)
            return
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_chunk((2,))
        plist.set_filter(number, h5z.FLAG_OPTIONAL, (1, 2))
        h5d.create(file.id, name.encode(), h5t.STD_I32LE, h5s.create_simple((4,)), plist)
        if mask is not None:
            file[name].id.write_direct_chunk((0,), b"12345678", mask)


def test_a_filter_that_nothing_has_makes_a_dataset_unreadable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_filtered(tmp_path / "a.h5", 305, "lzo")
    write_filtered(tmp_path / "a.h5", 305, "more")
    out = run(tmp_path / "a.h5", capsys=capsys)
    assert out.count("cannot be read here [1]") == 2
    assert "[1] cannot be read here: HDF5 has no filter 305, nor has h5bound[filters]: set HDF5_PLUGIN_PATH" in out
    assert "read through h5py" not in out


def test_chunks_that_skipped_a_filter_are_read_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_filtered(tmp_path / "a.h5", 305, "skipped", mask=1)
    write_filtered(tmp_path / "a.h5", 305, "unwritten", mask=None)
    out = run(tmp_path / "a.h5", capsys=capsys)
    assert out.count(" [1]\n") == 2
    assert "cannot be read" not in out
    with h5py.File(tmp_path / "a.h5") as file:
        assert [len(file[name][()]) for name in file] == [4, 4]


def test_a_filter_of_the_extra_names_the_extra(tmp_path: Path) -> None:
    write_filtered(tmp_path / "a.h5", 32026, "blosc2", **hdf5plugin.Blosc2())
    write_filtered(tmp_path / "a.h5", 32015, "zstd", **hdf5plugin.Zstd())
    script = "import sys; sys.modules['hdf5plugin'] = None; from h5bound.cli.main import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}
    command = [sys.executable, "-c", script, "ls", str(tmp_path / "a.h5")]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "[1] cannot be read here: pip install 'h5bound[filters]' (HDF5 has no filter 32026 (blosc2)); 1" in out
    assert "read through" not in line_of("zstd", out)


def test_sizes_of_variable_length_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = "of any length"
        file["fixed"] = np.bytes_("of one length")
        file.create_dataset("rows", (2,), h5py.vlen_dtype(">i4"))
        file.create_dataset("refs", data=[file.ref], dtype=h5py.ref_dtype)
    out = run(tmp_path / "a.h5", capsys=capsys)
    assert line_of("text", out).startswith("text  () text, contiguous, 16 B + text [1]")
    assert line_of("fixed", out).startswith("fixed  () text of 13 B, contiguous, 13 B")
    assert line_of("rows", out).startswith("rows  (2) sequences of int32 big-endian, contiguous, 0 B + values [1]")
    assert line_of("refs", out).startswith("refs  (1) reference, contiguous, 8 B [1]")
    assert "13 B" in out.splitlines()[-1].partition("; values of ")[2]


def test_a_virtual_dataset_has_the_size_of_its_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd_files.write_virtual(tmp_path / "a.h5")
    out = run(tmp_path / "a.h5", capsys=capsys)
    assert line_of("inside", out) == "inside  (4, 5) int64, virtual, 160 B [1]"
    assert "[1] read through h5py: it is virtual; 8 datasets\n" in out


def test_a_problem_of_a_group_does_not_hide_what_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd_files.write_unreachable_links(tmp_path / "a.h5")
    lines = run(tmp_path / "a.h5", capsys=capsys).splitlines()
    assert any(line.startswith("├── cannot be opened: several links") for line in lines)
    assert any(line.endswith("── c1/") and line[0] in "├└" for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_a_terminal_wraps_and_shortens_lines(path: Path, tmp_path: Path) -> None:
    out = run_on_a_terminal(["ls", str(path), "--attributes"], columns=80, directory=tmp_path)
    lines = out.replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(out.replace("│", " ").split())
    assert "3 chunks (1, 40), deflate 4" in words, "nothing of a line is cut"
    assert words.count("word") < 60, "long values are"


def test_a_file_on_a_server_is_listed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(path.parent) as server:
        out = run(f"{server.url}/a.h5", "/entry", capsys=capsys)
    assert "temperature  (time=3, x=40)" in out


@pytest.mark.parametrize(
    "make",
    [
        odd_files.write_hard_links,
        odd_files.write_external_links,
        odd_files.write_odd_names,
        odd_files.write_unreadable_types,
        odd_files.write_damaged_object,
        odd_files.write_layouts,
        odd_files.write_virtual,
    ],
)
def test_json_of_odd_files_is_valid(make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a.h5")
    document = json.loads(run(tmp_path / "a.h5", "--json", "--attributes", capsys=capsys))
    assert len(document["objects"]) > 1

"""A check finds each damage that can be found, says where it is, and goes on."""

from __future__ import annotations

import json
from contextlib import ExitStack
from io import BytesIO
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest

from h5bound import CorruptChunkError, OptionError, SourceNotFoundError, UnsafeSourceError, check, convert, from_hdf5
from h5bound.cli.main import run_command
from tests.support.http_server import serve

if TYPE_CHECKING:
    from pathlib import Path

VALUES = np.random.default_rng(0).integers(0, 50, (20, 30), "i4")

FILTERS: dict[str, dict[str, Any]] = {
    "gzip": {"compression": "gzip", "shuffle": True},
    "lzf": {"compression": "lzf"},
    "fletcher32": {"fletcher32": True},
    "shuffle and fletcher32": {"shuffle": True, "fletcher32": True},
    "gzip and fletcher32": {"compression": "gzip", "fletcher32": True},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a whole file with a dataset of each filter, and some others."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, options in FILTERS.items():
            file.create_dataset(name, data=VALUES, chunks=(10, 10), **options)
        file.create_dataset("scale-offset", data=VALUES, chunks=(10, 10), scaleoffset=0)
        large = np.repeat(np.arange(100_000, dtype="i4"), 3)
        file.create_dataset("large", data=large, chunks=(100_000,), compression="gzip", fletcher32=True)
        file.create_dataset("group/plain", data=VALUES, chunks=(10, 10))
        file["contiguous"] = VALUES
        file["compact"] = 1
        file["text"] = [f"text {i}" for i in range(9)]
        file["group"].attrs["units"] = "m"
        file["group"].attrs["long"] = np.arange(3)
    return path


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def find_chunk(path: Path, name: str, number: int = 1) -> Any:
    """Return where a chunk is."""
    with h5py.File(path) as file:
        return file[name].id.get_chunk_info(number)


def test_a_whole_file_is_whole_and_its_chunks_are_counted_by_what_can_be_said(path: Path) -> None:
    report = check(path)
    assert report.whole
    assert report.exit_code == 0
    assert (report.groups, report.datasets, report.attributes) == (2, 11, 2)
    assert (report.summed.chunks, report.summed.nbytes) == (6 * 4 + 3, 400 * 6 * 4 + 1_200_000)
    assert (report.decoded.chunks, report.decoded.nbytes) == (12, 4800)
    assert (report.plain.chunks, report.plain.nbytes) == (6 + 3, 2400 + 2400 + 8 + 9 * 8)
    assert "can only be read: nothing tells whether they are right" in repr(report)


@pytest.mark.parametrize("name", [*FILTERS, "large"])
def test_a_changed_chunk_is_named_with_its_place(path: Path, name: str) -> None:
    chunk = find_chunk(path, name)
    overwrite(path, chunk.byte_offset + chunk.size // 2, b"\xff\x13")
    report = check(path)
    start = chunk.chunk_offset
    ends = [300_000] if name == "large" else [20, 30]
    sizes = [100_000] if name == "large" else [10, 10]
    region = ", ".join(f"{i}:{min(i + n, end)}" for i, n, end in zip(start, sizes, ends, strict=True))
    found = [(item.path, item.region, item.offset, item.nbytes) for item in report.damages]
    assert found == [(f"/{name}", f"[{region}]", chunk.byte_offset, chunk.size)]
    assert report.exit_code == 1
    assert f"/{name}[{region}]" in repr(report)


def test_it_goes_on_after_each_damage(path: Path) -> None:
    chunks = {name: find_chunk(path, name, 2) for name in FILTERS}
    raw = bytearray(path.read_bytes())
    heap = raw.index(b"GCOL")
    raw[heap : heap + 4] = b"gcol"
    for chunk in chunks.values():
        middle = chunk.byte_offset + chunk.size // 2
        raw[middle : middle + 2] = b"\xff\x13"
    path.write_bytes(raw)
    report = check(path)
    damaged = {(item.path, item.attribute) for item in report.damages}
    assert damaged == {*((f"/{name}", None) for name in FILTERS), ("/group", "units"), ("/text", None)}
    assert report.attributes == 1


def test_chunks_that_the_index_has_in_wrong_places_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in ("past", "same"):
            file.create_dataset(name, data=np.arange(40), chunks=(10,))
    for name, place in (("past", 1 << 40), ("same", None)):
        first, second = (find_chunk(path, name, number) for number in (0, 1))
        raw = path.read_bytes()
        at = raw.index(second.byte_offset.to_bytes(8, "little"))
        overwrite(path, at, (first.byte_offset if place is None else place).to_bytes(8, "little"))
    found = {item.path: (item.region, item.reason) for item in check(path).damages}
    assert found["/past"][0] == "[10:20]"
    assert "extends past the end of the file" in found["/past"][1]
    assert found["/same"] == ("[10:20]", "the chunk index is damaged: /same[0:10] has some of the same bytes")


def test_an_object_that_cannot_be_opened_is_named(path: Path) -> None:
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file["group"].id).addr
    overwrite(path, address, b"\x07")
    report = check(path)
    assert [item.path for item in report.damages] == ["/group"]
    assert "cannot be opened" in report.damages[0].reason
    assert report.datasets == 10


def test_data_in_other_files_is_read_if_it_is_allowed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other.create_dataset("x", data=VALUES, chunks=(10, 10), compression="gzip")
    path = tmp_path / "a.h5"
    layout = h5py.VirtualLayout((20, 30), "i4")
    layout[...] = h5py.VirtualSource("other.h5", "x", (20, 30))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("outside", (3,), "i4", external=[(str(tmp_path / "raw.bin"), 0, 12)])[...] = 1
        file["link"] = h5py.ExternalLink("other.h5", "/x")
    report = check(path)
    assert report.exit_code == 3
    assert {item.path for item in report.unchecked} == {"/virtual", "/outside"}
    assert check(path, exclude=["virtual", "outside"]).exit_code == 0
    assert check(path, allow_external=[tmp_path]).exit_code == 0
    chunk = find_chunk(tmp_path / "other.h5", "x")
    overwrite(tmp_path / "other.h5", chunk.byte_offset + 5, b"\xff\x13")
    (tmp_path / "raw.bin").unlink()
    report = check(path, allow_external=[tmp_path])
    assert {item.path for item in report.damages} == {"/virtual", "/outside", "/link"}
    link = next(item for item in report.damages if item.path == "/link")
    assert (link.region, link.file) == ("[0:10, 10:20]", str(tmp_path / "other.h5"))
    assert link.to_dict()["file"] == str(tmp_path / "other.h5")
    assert str(link).endswith(f"; in {tmp_path / 'other.h5'}")


def test_the_damaged_source_of_a_virtual_dataset_is_named(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((60, 30), "i4")
    for i in range(3):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file.create_dataset("x", data=VALUES, chunks=(10, 10), compression="gzip")
        layout[20 * i : 20 * i + 20] = h5py.VirtualSource(f"{i}.h5", "x", (20, 30))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("all", layout)
    overwrite(tmp_path / "1.h5", find_chunk(tmp_path / "1.h5", "x").byte_offset + 5, b"\xff\x13")
    (damage,) = check(tmp_path / "a.h5", allow_external=[tmp_path]).damages
    assert (damage.path, damage.region, damage.file) == ("/all", "[20:40, 0:30]", "")
    assert damage.reason.startswith("virtual source '1.h5', 'x': HDF5 cannot read it: ")
    with pytest.raises(CorruptChunkError, match="`h5bound check` says in which source"):
        from_hdf5(tmp_path / "a.h5", "all", allow_external=[tmp_path]).compute()


def test_include_and_exclude_choose_what_is_checked(path: Path) -> None:
    chunk = find_chunk(path, "gzip")
    overwrite(path, chunk.byte_offset + 9, b"\xff\x13")
    assert not check(path, include=["gzip"]).whole
    assert check(path, exclude=["gzip"]).exit_code == 0
    with pytest.raises(OptionError, match=r"include='gzap': matches nothing in .*close to it: /gzip"):
        check(path, include=["gzap"])


def test_limits_and_other_errors_are_those_of_a_conversion(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsafeSourceError, match="more than 3 objects and links"):
        check(path, max_objects=3)
    with pytest.raises(UnsafeSourceError, match="stored chunks exceed the limit of 10"):
        check(path, max_chunks=10)
    with pytest.raises(SourceNotFoundError):
        check(tmp_path / "none.h5")


def test_a_sparse_dataset_costs_what_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2**40,), "i1", chunks=(2**20,), compression="gzip")[0] = 1
    report = check(path)
    assert report.summed.chunks == 1
    assert report.whole


def test_a_file_that_is_open_for_writing_and_one_in_memory_are_read_through_hdf5(path: Path) -> None:
    chunk = find_chunk(path, "gzip")
    overwrite(path, chunk.byte_offset + 9, b"\xff\x13")
    with h5py.File(path, "a") as file:
        assert [(item.path, item.region) for item in check(file).damages] == [("/gzip", "[0:10, 10:20]")]
        assert file, "it stays open"
    with path.open("rb") as stream:
        assert [item.path for item in check(stream).damages] == ["/gzip"]


def test_a_file_on_a_server_is_checked(path: Path) -> None:
    chunk = find_chunk(path, "lzf")
    overwrite(path, chunk.byte_offset + 9, b"\xff\x13")
    with serve(path.parent) as server:
        report = check(f"{server.url}/a.h5")
    assert [(item.path, item.offset) for item in report.damages] == [("/lzf", chunk.byte_offset)]
    assert report.datasets == 11


def test_what_no_filter_here_decodes_is_not_checked(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for name, number in (("unknown", 305), ("plain", None)):
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_chunk((10,))
            if number is not None:
                plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
            space, place = h5py.h5s.create_simple((20,)), file["group"].id
            made = h5py.h5d.create(place, f"{name} filter".encode(), h5py.h5t.NATIVE_INT8, space, plist)
            made.write_direct_chunk((0,), bytes(10))
    report = check(path)
    assert report.exit_code == 3
    assert [(item.path, item.reason[:31]) for item in report.unchecked] == [
        ("/group/unknown filter", "HDF5 has no filter 305, nor has")
    ]
    assert "no damage found" in repr(report)
    assert "Not checked" in report.to_html()


def test_progress_and_threads(path: Path) -> None:
    told: list[tuple[int, int]] = []
    with dask.config.set(scheduler="threads"):
        check(path, workers=2, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 1_200_000


def test_the_command_says_what_is_damaged(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("whole; 11 datasets, 2 groups, 2 attributes read in ")
    assert "27 chunks (1.2 MiB) match their checksums; " in out
    chunk = find_chunk(path, "gzip")
    other = tmp_path / "other.h5"
    other.write_bytes(path.read_bytes())
    overwrite(path, chunk.byte_offset + 9, b"\xff\x13")
    report = tmp_path / "report.json"
    assert run_command(["check", str(path), "--report", str(report)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("damaged in 1 place; ")
    assert "damaged: /gzip[0:10, 10:20]: deflate: it is not a zlib stream of 400 bytes" in out
    told = json.loads(report.read_text())
    assert told["whole"] is False
    assert told["damages"] == [
        {
            "path": "/gzip",
            "slice": "[0:10, 10:20]",
            "offset": chunk.byte_offset,
            "bytes": chunk.size,
            "reason": "deflate: it is not a zlib stream of 400 bytes",
        }
    ]
    assert run_command(["check", str(other), str(path), "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "text.h5").write_text("no HDF5")
    files = [str(tmp_path / "cut.h5"), str(other)]
    assert run_command(["check", *files]) == 1
    shown = capsys.readouterr()
    assert f"\n{other}: whole; " in shown.out
    assert shown.out.endswith("\n1 of 2 files whole; 1 damaged (cut.h5)\n")
    size = path.stat().st_size
    assert f"damaged: /: the file is truncated: it has {size - 100:,} of the {size:,} bytes" in shown.out
    assert run_command(["check", *files, str(tmp_path / "text.h5"), "--report", str(report)]) == 2
    assert "text.h5: this is not an HDF5 file" in capsys.readouterr().err
    told = json.loads(report.read_text())
    assert [(item["source"], item["whole"]) for item in told["reports"]] == [(files[0], False), (files[1], True)]
    assert [item["source"] for item in told["failed"]] == [str(tmp_path / "text.h5")]
    assert run_command(["check", str(path), "--include", "nosuch"]) == 2
    assert run_command(["check", str(path), "--report", str(path)]) == 2


def write_parts(path: Path, **options: Any) -> list[int]:
    """Write a file with a dataset after another, and return the byte at which the data of each ends."""
    values = np.random.default_rng(0).random((4, 500))
    with h5py.File(path, "w", **options) as file:
        for name in ("first", "second", "third"):
            file.create_dataset(name, data=values, chunks=(1, 500), compression="gzip", fletcher32=True)
            file[name].attrs["units"] = name  # in a heap
            file.flush()
        chunks = [file[name].id.get_chunk_info(3) for name in file]
        return [chunk.byte_offset + chunk.size for chunk in chunks]


@pytest.mark.parametrize("how", ["path", "object", "url"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("userblock_size", [0, 512])
def test_of_a_truncated_file_what_is_left_is_checked(
    tmp_path: Path, how: str, libver: Any, userblock_size: int
) -> None:
    path = tmp_path / "a.h5"
    ends = write_parts(path, libver=libver, userblock_size=userblock_size)
    whole = path.read_bytes()
    path.write_bytes(whole[: ends[1] - 1])
    with ExitStack() as stack:
        file: Any = path if how == "path" else BytesIO(path.read_bytes())
        if how == "url":
            file = stack.enter_context(serve(tmp_path)).url + "/a.h5"
        report = check(file)
    assert report.exit_code == 1
    first, *others = report.damages
    assert first.path == "/"
    assert f"truncated: it has {ends[1] - 1:,} of the {len(whole):,} bytes that HDF5 recorded" in first.reason
    assert {item.path for item in others} == {"/second", "/third"}
    assert [item.region for item in others if item.path == "/second" and not item.attribute] == ["[3:4, 0:500]"]
    text = repr(report)
    assert text.index("the file is truncated") < text.index("/second")


@pytest.mark.parametrize("size", [8, 12, 40, 90, 130])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_of_which_hardly_anything_is_left_is_damaged(tmp_path: Path, libver: Any, size: int) -> None:
    path = tmp_path / "a.h5"
    write_parts(path, libver=libver)
    path.write_bytes(path.read_bytes()[:size])
    report = check(path)
    assert (report.exit_code, {item.path for item in report.damages}, report.datasets) == (1, {"/"}, 0)


def test_other_uses_of_a_truncated_file_name_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_parts(path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    message = f"truncated: it has 1,000 of the {size:,} bytes that HDF5 recorded"
    for use in (lambda: from_hdf5(path, "first"), lambda: convert(path, tmp_path / "a.zarr")):
        with pytest.raises(CorruptChunkError, match=message):
            use()


@pytest.mark.parametrize("how", ["path", "object", "url"])
@pytest.mark.parametrize("options", [{}, {"libver": "latest", "track_order": True}])
def test_attributes_in_a_heap_from_which_hdf5_never_returns_are_named(
    tmp_path: Path, how: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", **options) as file:
        file["x"] = [1, 2]
        file["x"].attrs["plain"] = 3
        file["x"].attrs.update({f"text {i}": f"value {i}" for i in range(12)})
    data = bytearray(path.read_bytes())
    place = data.index(b"GCOL")
    data[place + 40 : place + 56] = bytes(16)
    path.write_bytes(data)
    with ExitStack() as stack:
        source: Any = path if how == "path" else BytesIO(data)
        if how == "url":
            source = stack.enter_context(serve(tmp_path)).url + "/a.h5"
        report = check(source)
    assert report.attributes == 1
    assert {(item.path, item.attribute) for item in report.damages} == {("/x", f"text {i}") for i in range(12)}
    assert {item.reason.partition(": ")[2] for item in report.damages} == {
        f"the heap of values of variable length at byte {place} is damaged"
    }

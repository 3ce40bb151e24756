"""Codecs of numcodecs and zarr as the option `codecs`: what is written decodes to every bit, in both formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from h5bound import OptionError, TargetError, convert, verify
from h5bound.zarr_model.array_spec import WRITTEN_CODECS, list_codecs
from h5bound.zarr_model.codec_options import PARAMETERS, parse_codecs, plan_chain
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from pathlib import Path

SHUFFLE = numcodecs.Shuffle(4)
SHUFFLED: dict[str, Any] = {"id": "shuffle", "elementsize": 4}

OBJECTS: list[tuple[Any, Any]] = [
    (numcodecs.Zstd(3), "zstd:3"),
    (ZstdCodec(level=-5), "zstd:-5"),
    (numcodecs.GZip(2), "gzip:2"),
    (GzipCodec(level=2), "gzip:2"),
    (numcodecs.Blosc("zstd", 9, -1), "blosc-zstd:9"),
    (BloscCodec(cname="lz4", clevel=3), "blosc-lz4:3"),  # without a shuffle: by the type, as text has it
    ([], "none"),
    (("zstd:4",), "zstd:4"),
    (ZstdCodec(level=5, checksum=True), ({"id": "zstd", "level": 5, "checksum": True},)),
    (
        BloscCodec(cname="zlib", shuffle="bitshuffle", typesize=8),
        ({"id": "blosc", "cname": "zlib", "clevel": 5, "shuffle": 2, "blocksize": 0},),
    ),
    ([SHUFFLE, numcodecs.Zlib(7)], (SHUFFLED, {"id": "zlib", "level": 7})),
    ([{"id": "shuffle"}, "zstd:1"], (SHUFFLED, {"id": "zstd", "level": 1})),
    ([SHUFFLE, numcodecs.BZ2(1), numcodecs.Fletcher32()], (SHUFFLED, {"id": "bz2", "level": 1}, {"id": "fletcher32"})),
    ({"name": "numcodecs.zlib", "configuration": {"level": 4}}, ({"id": "zlib", "level": 4},)),
]


@pytest.mark.parametrize(("given", "kept"), OBJECTS, ids=range(len(OBJECTS)))
def test_an_object_is_kept_as_text_or_as_configurations(given: Any, kept: Any) -> None:
    assert parse_codecs(given) == kept
    assert parse_codecs(json.loads(json.dumps(kept))) == kept  # as the store keeps it


def test_a_codec_of_zarr_for_numcodecs_is_taken() -> None:
    with quiet_zarr():
        codec = zarr.codecs.numcodecs.Shuffle(elementsize=2)
    assert parse_codecs([codec]) == ({"id": "shuffle", "elementsize": 2},)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with types of many sizes, copied or not, text, compounds and sequences."""
    path = tmp_path_factory.mktemp("codecs") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("i4", data=np.arange(700, dtype=">i4").reshape(10, 70), chunks=(3, 7), compression="lzf")
        file["u1"] = np.arange(7, dtype="u1")
        file["f8"] = np.linspace(0, 1, 33)
        file["text"] = ["a", "bcd"]
        file["bytes"] = np.array([b"ab", b"c"])
        file["table"] = np.array([(1, 2.0)], [("a", "<i4"), ("b", "<f8")])
        file["scalar"] = 3.5
        file.create_dataset(
            "sequences", data=np.array([np.arange(2), np.arange(5)], object), dtype=h5py.vlen_dtype("<i8")
        )
    return path


@pytest.mark.parametrize(("zarr_format", "shards"), [(2, None), (3, None), (3, "1 KiB")], ids=["2", "3", "shards"])
@pytest.mark.parametrize("given", [item for item, kept in OBJECTS if not isinstance(kept, str)], ids=str)
def test_zarr_reads_what_codecs_of_objects_wrote(
    given: Any, zarr_format: Literal[2, 3], shards: str | None, source: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"codecs": given, "zarr_format": zarr_format, "shards": shards}
    report = convert(source, tmp_path / "a.zarr", verify=True, **options)
    assert report.verification is not None
    assert report.verification.equal
    with quiet_zarr(), h5py.File(source) as file:
        store: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
        for name in ("i4", "u1", "f8", "bytes", "scalar"):
            assert np.array_equal(np.asarray(store[name]), file[name][()])
        assert list(np.asarray(store["text"][:])) == ["a", "bcd"]
    documents = (tmp_path / "a.zarr").rglob(".zarray" if zarr_format == 2 else "zarr.json")
    names = {name for document in documents for name in list_codecs(json.loads(document.read_text()))}
    assert names <= WRITTEN_CODECS


def test_resume_and_verify_know_the_codecs_of_a_store(source: Path, tmp_path: Path) -> None:
    target, codecs = tmp_path / "a.zarr", [SHUFFLE, numcodecs.Zlib(3)]
    convert(source, target, codecs=codecs)
    assert "already complete" in convert(source, target, codecs=codecs, resume=True).summary()
    with pytest.raises(TargetError, match=r"zlib.*now codecs=gzip:3"):
        convert(source, target, codecs=numcodecs.GZip(3), resume=True)
    assert verify(source, target).equal
    document = json.loads((target / "i4" / "zarr.json").read_text())
    document["codecs"][2]["configuration"]["level"] = 9
    (target / "i4" / "zarr.json").write_text(json.dumps(document))
    assert not verify(source, target).equal


def test_the_report_names_the_codecs_that_were_asked_for(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(9), chunks=(3,))
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", codecs=[SHUFFLE, numcodecs.Zlib(3)])
    assert report.arrays[0].reasons == ("codecs=shuffle(elementsize=4), zlib(level=3)",)


def test_every_codec_that_may_be_asked_for_is_one_that_verify_reads() -> None:
    assert {*PARAMETERS} <= WRITTEN_CODECS


def test_shuffle_is_left_out_where_it_would_not_get_whole_elements() -> None:
    codecs = parse_codecs([SHUFFLE, numcodecs.Zlib(1)])
    assert plan_chain(codecs, np.dtype("u1"), chunks=(7,), zarr_format=3).compressors == ({"id": "zlib", "level": 1},)
    assert len(plan_chain(codecs, np.dtype("u1"), chunks=(8,), zarr_format=3).compressors) == 2
    assert plan_chain([*codecs, SHUFFLED], np.dtype("u1"), chunks=(8,), zarr_format=3).compressors == codecs  # type: ignore[arg-type]


def test_blosc_is_refused_for_chunks_that_it_cannot_encode_unless_h5bound_chose_it() -> None:
    big: dict[str, Any] = {"chunks": (2**31,), "zarr_format": 3}
    with pytest.raises(OptionError, match="Blosc encodes less than 2 GiB at once"):
        plan_chain("blosc-lz4:5", np.dtype("u1"), **big)
    assert plan_chain("keep", np.dtype("u1"), **big).compressors == ({"id": "zstd", "level": 3},)

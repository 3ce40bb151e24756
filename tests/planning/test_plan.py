"""Plans and work units, tested on records alone, without a file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from h5py import h5t

from h5bound.codecs.filters import to_codec_v3
from h5bound.errors import OptionError, UnsafeSourceError
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.hdf5.dataset import DatasetRecord
from h5bound.planning.options import SETTINGS, Settings, make_settings
from h5bound.planning.plan import UNFILTERED_MASK, plan_array
from h5bound.planning.scan_dataset import DatasetScan
from h5bound.planning.selection import matches
from h5bound.planning.work_units import plan_units
from h5bound.zarr_model.array_spec import CodecChain, plan_serializer
from h5bound.zarr_model.codec_options import plan_chain
from h5bound.zarr_model.dtypes import translate_type
from h5bound.zarr_model.fill_values import FillValue

CHAIN = CodecChain((), ({"id": "zstd", "level": 3},))
ZERO = FillValue(np.zeros((), "<i4"), 0, exact=True)


def make_manifest(chunk_coords: list[tuple[int, ...]], masks: int | list[int] = 0) -> ChunkManifest:
    count = len(chunk_coords)
    ndim = len(chunk_coords[0]) if chunk_coords else 2
    return ChunkManifest(
        chunk_coords=np.array(chunk_coords, np.int64).reshape(count, ndim),
        offsets=np.arange(count, dtype=np.int64) * 10,
        nbytes=np.full(count, 10, np.int64),
        masks=np.broadcast_to(np.asarray(masks, np.int64), (count,)).copy(),
    )


def facts(**changes: Any) -> DatasetScan:
    record: dict[str, Any] = {
        "path": "/x",
        "shape": (10, 10),
        "dtype": np.dtype("<i4"),
        "layout": "chunked",
        "chunks": (4, 5),
        "filters": (),
        "stored_nbytes": 60,
        "stored_chunks": 6,
        "edge_unfiltered": False,
        "problem": None,
        "external_files": (),
    }
    fields: dict[str, Any] = {
        "type": translate_type(h5t.STD_I32LE),
        "target": "x",
        "copy_chain": CHAIN,
        "no_copy_reason": "",
        "manifest": make_manifest([(i, j) for i in range(3) for j in range(2)]),
        "fill": ZERO,
        "attributes": {},
        "dimension_names": None,
    }
    fields |= {name: value for name, value in changes.items() if name not in record}
    record |= {name: value for name, value in changes.items() if name in record}
    return DatasetScan(record=DatasetRecord(**record), **fields)


def test_a_dataset_with_the_same_grid_and_codecs_is_copied() -> None:
    plan = plan_array(facts(), Settings(), 100)
    assert (plan.strategy, plan.reasons, plan.node.chunks, plan.node.chain) == ("copy", (), (4, 5), CHAIN)
    assert plan.manifest is not None
    assert not plan.manifest.masks.any()


@pytest.mark.parametrize(
    ("changes", "settings", "reason"),
    [
        pytest.param({"copy_chain": None, "no_copy_reason": "no codec"}, Settings(), "no codec", id="filter"),
        pytest.param({}, Settings(codecs="zstd:3"), "codecs=zstd:3", id="codecs"),
        pytest.param({}, Settings(chunks=(("*", (5, 5)),)), "other chunks were asked for", id="chunks"),
        pytest.param({"layout": "contiguous", "chunks": None, "manifest": None}, Settings(), "contiguous", id="layout"),
        pytest.param(
            {"edge_unfiltered": None}, Settings(), "HDF5 does not tell whether its edge chunks are filtered", id="edge"
        ),
    ],
)
def test_every_fallback_has_its_reason(changes: dict[str, Any], settings: Settings, reason: str) -> None:
    plan = plan_array(facts(**changes), settings, 100)
    assert plan.strategy == "decode"
    assert plan.reasons == (reason,)
    assert plan.manifest is None


def test_a_chunk_with_a_filter_mask_is_encoded_anew_and_the_others_are_kept() -> None:
    masks = [0, 0, 1, 0, 0, 0]
    plan = plan_array(
        facts(manifest=make_manifest([(i, j) for i in range(3) for j in range(2)], masks)), Settings(), 100
    )
    assert plan.strategy == "copy"
    assert plan.manifest is not None
    assert plan.manifest.masks.tolist() == masks


def test_unfiltered_partial_edge_chunks_are_encoded_anew() -> None:
    plan = plan_array(facts(edge_unfiltered=True), Settings(), 100)
    assert plan.manifest is not None
    assert plan.manifest.masks.tolist() == [0, 0, 0, 0, UNFILTERED_MASK, UNFILTERED_MASK]


def test_chunks_never_written_are_not_planned() -> None:
    plan = plan_array(facts(manifest=make_manifest([(1, 1)])), Settings(), 100)
    assert plan.chunk_coords.tolist() == [[1, 1]]


@pytest.mark.parametrize("settings", [Settings(), Settings(codecs="none")], ids=["keep", "encode"])
def test_chunks_never_written_are_planned_where_zarr_cannot_say_the_fill_value(settings: Settings) -> None:
    odd = FillValue(np.zeros((), "<i4"), 0, exact=False)
    plan = plan_array(facts(manifest=make_manifest([(1, 1)]), fill=odd), settings, 100)
    assert len(plan.chunk_coords) == 6
    if plan.manifest is not None:
        assert plan.manifest.masks.tolist() == [
            UNFILTERED_MASK,
            UNFILTERED_MASK,
            UNFILTERED_MASK,
            0,
            UNFILTERED_MASK,
            UNFILTERED_MASK,
        ]


def test_a_declared_grid_is_never_enumerated() -> None:
    big = facts(shape=(2**25, 2**25), chunks=(2**10, 2**10), manifest=make_manifest([(5, 7)]))
    assert len(plan_array(big, Settings(), 100).chunk_coords) == 1
    with pytest.raises(UnsafeSourceError, match="larger chunks"):
        plan_array(
            facts(shape=(2**25, 2**25), chunks=None, layout="contiguous", manifest=None, stored_nbytes=1),
            Settings(),
            100,
        )


def test_shards_hold_whole_chunks_and_units_whole_shards() -> None:
    plan = plan_array(facts(), Settings(shards=(("*", (8, 5)),)), 100)
    assert plan.node.shards == (8, 5)
    assert plan.chunk_coords.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1], [2, 0], [2, 1]]
    units = plan_units([plan], 1)
    assert [unit.chunk_coords.tolist() for unit in units] == [[[0, 0], [1, 0]], [[0, 1], [1, 1]], [[2, 0]], [[2, 1]]]
    with pytest.raises(OptionError, match="not whole chunks"):
        plan_array(facts(), Settings(shards=(("*", (6, 5)),)), 100)


@pytest.mark.parametrize(
    "options",
    [
        {"zarr_format": 4},
        {"codecs": "zip"},
        {"codecs": "zstd:x"},
        {"chunks": (0, 1)},
        {"chunks": "64 MiB"},
        {"shards": "many"},
        {"shards": (2, 2), "zarr_format": 2},
        {"include": "/a"},
        {"names": "short"},
        {"nan": "none"},
    ],
    ids=str,
)
def test_an_option_with_an_impossible_value_is_refused(options: dict[str, Any]) -> None:
    usual = {name: getattr(Settings(), name) for name in SETTINGS} | {"chunks": None, "shards": None}
    with pytest.raises(OptionError):
        make_settings(**{**usual, **options})


def test_a_glob_for_a_group_stands_for_all_below_it() -> None:
    assert matches("/a/b/c", "/a")
    assert matches("/a/b/c", "*/b")
    assert not matches("/ab", "/a")


def test_blosc_is_not_asked_to_shuffle_single_bytes() -> None:
    chain = plan_chain("keep", np.dtype("u1"), chunks=(10,), zarr_format=3)
    assert to_codec_v3(chain.compressors[0])["configuration"]["shuffle"] == "noshuffle"
    assert plan_serializer(np.dtype("u1")) is None

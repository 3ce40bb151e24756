"""How chunks are encoded: what h5bound writes is what the codecs of numcodecs read."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest

from h5bound.zarr_model.array_spec import encode_chunk, make_codecs

BLOCKS = [
    np.arange(1000, dtype="<f4"),
    np.arange(12, dtype=">i8").reshape(3, 4),
    np.zeros(5, dtype=[("a", "i1"), ("b", "<f8")]),
    np.array([b"text", b""]),
    np.array(["2000-01-01"], dtype="M8[s]"),
    np.array(7, "u1"),
]


@pytest.mark.parametrize("level", [0, 1, 5, 9])
@pytest.mark.parametrize("name", ["gzip", "zlib"])
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.dtype.str)
def test_gzip_and_zlib_are_read_by_the_codec_and_have_no_time_stamp(block: np.ndarray, name: str, level: int) -> None:
    codecs = make_codecs([{"id": name, "level": level}])
    data = encode_chunk(codecs, block, fill=np.zeros((), block.dtype), chunks=block.shape)
    assert codecs[0].decode(data) == block.tobytes()
    assert {"gzip": gzip, "zlib": zlib}[name].decompress(data) == block.tobytes()
    if name == "gzip":
        assert data[4:8] == bytes(4)

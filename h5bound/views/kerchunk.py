"""References in kerchunk's forms: a dict, a JSON file, or a folder of parquet files."""

from __future__ import annotations

import json
import os
import shutil
from base64 import b64encode
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, islice
from math import prod
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from h5bound.errors import OptionError, TargetError, UnsupportedError
from h5bound.views.served_array import BATCH
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from h5bound.views.chunk_references import Inlined
    from h5bound.views.served_array import ServedArray

PARQUET = (".parquet", ".parq")
"""Ends of the paths of the parquet form."""

PROVENANCE = "h5bound"
"""Field beside the references with what a store has in its key ``h5bound.json``."""

RECORD = 10_000
"""Most references in a parquet file, which always has room for as many: each array has one of its own at least."""


def list_references(inlined: Inlined) -> Iterator[tuple[str, Any]]:
    """Yield all keys, and what they hold or the ranges that they are. Raise UnsupportedError if that is too large.

    The provenance is no key, of which readers would warn: it stands beside them.
    """
    keys = inlined.refs.view.keys
    yield from ((key, document.decode("ascii")) for key, document in keys.documents.items() if key != OWN_KEY)
    for array in keys.arrays.values():
        for key, reference in zip(array.list_keys(), inlined.list_all(array), strict=False):
            yield (
                key,
                f"base64:{b64encode(reference).decode('ascii')}" if isinstance(reference, bytes) else list(reference),
            )
    inlined.check()


def make_dict(inlined: Inlined) -> dict[str, Any]:
    """Return references as a dict."""
    refs = dict(list_references(inlined))
    return {"version": 1, "refs": refs, PROVENANCE: json.loads(inlined.refs.view.keys.documents[OWN_KEY])}


def write_json(path: Path, inlined: Inlined) -> None:
    """Write references to a file, which appears when it is whole."""
    items = list_references(inlined)
    with appearing(path) as partial, partial.open("w", encoding="ascii") as file:
        file.write('{"version":1,"refs":{')
        for first in items:
            separator = "" if file.tell() == len('{"version":1,"refs":{') else ","
            part = dict(chain([first], islice(items, BATCH)))
            file.write(separator + json.dumps(part, separators=(",", ":"))[1:-1])
        file.write(f'}},"{PROVENANCE}":{inlined.refs.view.keys.documents[OWN_KEY].decode("ascii")}}}')


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of `path` at the end, or is deleted."""
    partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")  # another program may write to the same path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        if path.is_dir() and partial.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)  # noqa: PTH105 - Path.replace is the same
    except OSError as error:
        raise TargetError(f"{path}: it cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if partial.exists():
            partial.unlink()


def check_parquet(path: Path) -> None:
    """Raise OptionError if references cannot be written there in the parquet form."""
    if any(part in str(path) for part in ("{", "}", "::")):
        raise OptionError(f"target={str(path)!r}: kerchunk's parquet form cannot be in a path with {{}} or ::")
    if any(find_spec(package) is None for package in ("fastparquet", "kerchunk")):
        raise OptionError("target: parquet needs more packages: pip install 'h5bound[kerchunk]'")


def write_parquet(path: Path, inlined: Inlined) -> None:
    """Write references as a folder of parquet files, which appears when it is whole."""
    keys = inlined.refs.view.keys
    hidden = [key for key in keys.documents if any(name.startswith(".z") for name in key.split("/")[:-1])]
    if hidden:
        raise UnsupportedError(
            f"{path}: kerchunk's parquet form cannot hold names that begin with .z, like that of {hidden[0]!r}; leave "
            "them out with exclude=, or write .json"
        )
    most = max((prod(array.counts) for array in keys.arrays.values()), default=1)
    record = max(1, min(most, RECORD))
    with appearing(path) as folder:
        folder.mkdir()
        for name, array in keys.arrays.items():
            for number, columns in list_records(array, inlined, record):
                write_record(folder / name / f"refs.{number}.parq", columns)
        inlined.check()
        listed = ((key, text) for key, text in keys.documents.items() if key not in (OWN_KEY, ".zmetadata"))
        documents = {key: json.loads(text) for key, text in listed}
        provenance = json.loads(keys.documents[OWN_KEY])
        text = json.dumps({"metadata": documents, "record_size": record, PROVENANCE: provenance})
        (folder / ".zmetadata").write_text(text, encoding="ascii")


def list_records(array: ServedArray, inlined: Inlined, record: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and columns of each parquet file of an array that has chunks: `record` places in C order.

    fsspec reads a place without a chunk as one at NaN where pandas 3 is installed, so chunks that were never written
    are inlined beside others.
    """
    coords, total = array.plan.chunk_coords, prod(array.counts)
    numbers = np.ravel_multi_index(tuple(coords.T), array.counts) if array.counts else np.zeros(len(coords), np.int64)
    paths, raws = np.full((2, len(coords)), None, object)
    offsets, sizes = np.zeros((2, len(coords)), np.int64)
    for row, reference in enumerate(inlined.list_all(array)):
        if isinstance(reference, bytes):
            raws[row] = reference
        else:
            paths[row], offsets[row], sizes[row] = reference
    order = np.argsort(numbers, kind="stable")
    found, starts = np.unique(numbers[order] // record, return_index=True)
    for number, rows in zip(found.tolist(), np.split(order, starts[1:]), strict=len(found) > 0):
        spots, room = numbers[rows] - number * record, min(record, total - number * record)
        columns = {"path": paths, "offset": offsets, "size": sizes, "raw": raws}
        padded = {name: np.zeros(record, column.dtype) for name, column in columns.items()}
        padded["path"][:] = padded["raw"][:] = None
        if len(spots) < room:
            padded["raw"][:room] = inlined.fill(array, count=room - len(spots))
        for name, column in columns.items():
            padded[name][spots] = column[rows]
        yield number, padded


def write_record(path: Path, columns: dict[str, Any]) -> None:
    """Write the columns of a parquet file."""
    from pandas import DataFrame

    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = {"path": "utf8", "raw": "bytes"}
    DataFrame(columns).to_parquet(
        path, engine="fastparquet", compression="zstd", index=False, stats=False, object_encoding=encoding,
        has_nulls=list(encoding),
    )  # fmt: skip

"""The record of a file as JSON text and bytes: for the cache, and between processes.

Files of one shape have the same schemas and attributes. Each is a text of its own in the JSON, and becomes one object
for all files.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.codecs.pipeline import Filter
from h5bound.combining.file_scan import FileScan, VariableScan, VariableSchema
from h5bound.files.file_state import FileState
from h5bound.files.scan_cache import CachedScan
from h5bound.hdf5.chunk_index import ChunkManifest
from h5bound.reports.entries import Link, ReportNote, Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

FORM_VERSION = 6
"""Version of the form."""

MANIFEST = ("chunk_coords", "offsets", "nbytes", "masks")

Spec = list[Any]
"""Type and shape of an array, whose bytes follow those of the ones before it."""


def encode_scan(scan: FileScan) -> CachedScan:
    """Return the record of a file, without its path and state, as text and bytes."""
    parts: list[bytes] = []

    def add(array: np.ndarray[Any, Any] | None) -> Spec | None:
        if array is None:
            return None
        parts.append(array.tobytes())
        return [array.dtype.str, list(array.shape)]

    variables = {path: encode_variable(item, add) for path, item in scan.variables.items()}
    form = {
        "variables": variables,
        "groups": {path: json.dumps(values) for path, values in scan.groups.items()},
        "details": {path: json.dumps(values) for path, values in scan.details.items()},
        **{name: json.dumps([asdict(item) for item in getattr(scan, name)]) for name in ("skipped", "notes", "links")},
        "external_states": {path: asdict(state) for path, state in scan.external_states.items()},
        "elsewhere": sorted(scan.elsewhere),
    }
    return CachedScan(json.dumps(form), b"".join(parts))


def encode_variable(item: VariableScan, add: Callable[[Any], Spec | None]) -> list[Any]:
    """Return one variable as JSON; `add` takes its arrays."""
    manifest = item.manifest
    return [
        item.target,
        encode_schema(item.schema),
        item.shape,
        json.dumps(item.attributes),
        item.offset,
        item.stored_nbytes,
        item.edge_unfiltered,
        None if manifest is None else [add(narrow(getattr(manifest, name))) for name in MANIFEST],
        add(item.values),
        None if item.digest is None else item.digest.hex(),
    ]


find_dtype = lru_cache(64)(np.dtype)
"""The type of a text: numpy takes long to read it."""


def narrow(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return numbers that are not negative in the smallest type: of many files those of all chunks are in memory.

    Never in uint64: with int64, numpy computes in floats.
    """
    largest = int(numbers.max(initial=0))
    return numbers.astype(np.min_scalar_type(largest) if largest < 1 << 32 else np.int64)


@lru_cache(1024)
def encode_schema(schema: VariableSchema) -> str:
    """Return a schema as JSON text: files of one shape have the same ones."""
    return json.dumps(asdict(schema))


class ScanDecoder:
    """What makes records of their texts and bytes, with one object for equal parts of all files."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def decode(self, entry: CachedScan, path: str, state: FileState | None) -> FileScan:
        """Return the record of a file. Raise KeyError, TypeError or ValueError if it is not in this form."""
        form, offset = json.loads(entry.text), 0

        def take(spec: Spec | None) -> np.ndarray[Any, Any] | None:
            nonlocal offset
            if spec is None:
                return None
            dtype, shape = find_dtype(spec[0]), spec[1]
            array = np.frombuffer(entry.data, dtype, prod(shape), offset)
            array = array if len(shape) == 1 else array.reshape(shape)
            offset += array.nbytes
            return array

        return FileScan(
            path=path,
            state=state,
            groups={name: self._share("json", text) for name, text in form["groups"].items()},
            variables={name: self._decode_variable(fields, take) for name, fields in form["variables"].items()},
            details={name: self._share("json", text) for name, text in form["details"].items()},
            skipped=self._share("skipped", form["skipped"]),
            notes=self._share("notes", form["notes"]),
            links=self._share("links", form["links"]),
            external_states={
                name: FileState(**{**state, "stamps": tuple(map(tuple, state["stamps"]))})
                for name, state in form["external_states"].items()
            },
            elsewhere=frozenset(form["elsewhere"]),
        )

    def _decode_variable(self, fields: list[Any], take: Callable[[Spec | None], Any]) -> VariableScan:
        target, schema, shape, attributes, offset, stored_nbytes, edge_unfiltered, manifest, values, digest = fields
        arrays = None if manifest is None else dict(zip(MANIFEST, map(take, manifest), strict=True))
        return VariableScan(
            target=target,
            schema=self._share("schema", schema),
            shape=tuple(shape),
            attributes=self._share("json", attributes),
            manifest=None if arrays is None else ChunkManifest(**arrays),
            offset=offset,
            stored_nbytes=stored_nbytes,
            edge_unfiltered=edge_unfiltered,
            values=take(values),
            digest=None if digest is None else bytes.fromhex(digest),
        )

    def _share(self, kind: str, text: str) -> Any:
        """Return what a text says, the same object for the same text."""
        found = self._known.get((kind, text))
        if found is None:
            found = self._known[kind, text] = MAKERS[kind](json.loads(text))
        return found


def make_schema(form: dict[str, Any]) -> VariableSchema:
    """Return a schema from JSON."""
    filters = tuple(Filter(**{**item, "options": tuple(item["options"])}) for item in form["filters"])
    chunks = None if form["chunks"] is None else tuple(form["chunks"])
    names = {key: tuple(form.get(key, ())) for key in ("dimensions", "short")}
    return VariableSchema(**{**form, **names, "filters": filters, "chunks": chunks})


MAKERS: dict[str, Callable[[Any], Any]] = {
    "json": lambda form: form,
    "schema": make_schema,
    "skipped": lambda form: tuple(Skipped(**item) for item in form),
    "notes": lambda form: tuple(ReportNote(**item) for item in form),
    "links": lambda form: tuple(Link(**item) for item in form),
}
"""What makes the parts of records of JSON."""

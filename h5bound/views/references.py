"""References: the keys of a Zarr store as byte ranges of an HDF5 file, in kerchunk's forms or in icechunk."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from h5bound.errors import OptionError, TargetError, UnsupportedError, shorten_tracebacks
from h5bound.files.local import LocalLocation
from h5bound.files.paths import expand_path
from h5bound.files.urls import redact, strip_local
from h5bound.graph.windows import parse_nbytes
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
from h5bound.reader.source import H5Source
from h5bound.reports.text import format_nbytes, plural
from h5bound.stores.metadata import dump
from h5bound.stores.resolve import open_target
from h5bound.views.served_keys import is_fixed
from h5bound.views.view import View, make_options
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    import h5py

    from h5bound.reports.conversion import ConversionReport
    from h5bound.views.served_keys import ServedArray

INLINE_SHARE = 1024
"""All that is inlined may be this many times larger than one key."""

PARQUET = (".parquet", ".parq")
"""Ends of the paths of kerchunk's parquet form."""

RECORD = 10_000
"""Most references in a parquet file, which always has room for as many: each array has one of its own at least."""

OTHER_REASON = "chunks have other filters, or the file is written to, or is outside the folder of the source"

SHOWN = 8
"""Most arrays that an error lists."""


@dataclass(frozen=True, slots=True)
class Range:
    """A chunk that is a range of a file."""

    url: str
    offset: int
    nbytes: int


@dataclass(slots=True)
class Inlined:
    """What is in the references itself: the bytes that it may take, and the arrays that would take more."""

    limit: int
    """Most bytes of a key."""
    room: int
    """Bytes that are left for all keys."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why arrays cannot be inlined, by their paths."""

    def takes(self, array: ServedArray, data: bytes) -> bool:
        """Return whether a chunk may be inlined; if not, note why."""
        self.room -= len(data)
        if len(data) <= self.limit and self.room >= 0:
            return True
        why = "; ".join(array.plan.reasons) or OTHER_REASON
        self.refused.setdefault(array.plan.path, f"{format_nbytes(len(data))} a chunk: {why}")
        return False


@shorten_tracebacks
def references(
    path: str | PathLike[str] | h5py.File,
    target: str | PathLike[str] | Any = None,
    *,
    zarr_format: Literal[2, 3] = 3,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_unsupported: Literal["raise", "skip"] = "raise",
    links: Literal["keep", "copy"] = "keep",
    nan: Literal["literal", "text"] = "literal",
    names: Literal["exact", "portable"] = "exact",
    compounds: Literal["struct", "columns"] = "struct",
    allow_external: Sequence[str | PathLike[str]] = (),
    storage_options: Mapping[str, Any] | None = None,
    max_objects: int = MAX_OBJECTS,
    max_depth: int = MAX_DEPTH,
    max_chunks: int = MAX_CHUNKS,
    inline_limit: int | str = "64 KiB",
    base_url: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Return references to an HDF5 file: a Zarr store whose chunks are byte ranges of it; or write them.

    Stored chunks are referred to as they are, contiguous data in ranges of at most 16 MiB if possible. All other data
    is encoded and inlined, as far as it is small.

    Parameters
    ----------
    path
        The HDF5 file: a path, a URL that fsspec supports, or an open `h5py.File`.
    target
        Where to write them: a path that ends in ``.json``; a path that ends in ``.parquet``, a folder in kerchunk's
        form (format 2 and portable names only, needs the packages kerchunk and fastparquet); or the store of a
        writable icechunk session, which gets one commit. None to return them only.
    zarr_format, include, exclude, on_unsupported, links, nan, names, compounds, allow_external, storage_options,
    max_objects, max_depth, max_chunks
        As for `ZarrStore`.
    inline_limit
        Most bytes of a chunk that is not in the file as Zarr needs it, and is inlined. All of them together may have
        1,024 times as many. icechunk holds such chunks of any size.
    base_url
        Where readers find what is in the folder of the file, like ``"s3://bucket/folder/"``; None for where it is now.
    overwrite
        Replace an existing `target`.

    Returns
    -------
    dict
        The references in version 1 of kerchunk's form, also where they are written. Where `target` is a store of
        icechunk: the number of its keys by what they are.

    Raises
    ------
    UnsupportedError, UnsafeSourceError
        The file has objects that Zarr cannot hold, or data that is too large to be inlined; the message lists them.
    OptionError
        An option has an invalid value, or a glob matches nothing.
    TargetError
        The target exists, or the references cannot be written.

    Examples
    --------
    >>> import h5py, tempfile, zarr
    >>> path = tempfile.mkdtemp() + "/a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1, 2, 3]
    >>> refs = references(path)
    >>> url, offset, nbytes = refs["refs"]["x/c/0"]
    >>> nbytes
    24
    """
    return write_references(**locals())[0]


def write_references(
    path: Any, target: Any, *, storage_options: Any, inline_limit: Any, base_url: Any, overwrite: bool, **options: Any
) -> tuple[dict[str, Any], ConversionReport]:
    """Return what `references` returns, and the report that a conversion would have."""
    options["nan"] = "text" if is_icechunk(target) else options["nan"]
    options["names"] = "portable" if str(target).endswith(PARQUET) else options["names"]  # each array is a folder
    checked = make_options(**options)
    limit = parse_nbytes(inline_limit, "inline_limit")
    write = choose_writer(target, checked.settings.zarr_format, overwrite=overwrite)
    view = View(H5Source.of(path, storage_options), checked, split=True)
    try:
        if is_icechunk(target):
            return write_icechunk(view, target, base_url), view.keys.report
        refs = make_references(view, Inlined(limit, limit * INLINE_SHARE), base_url)
        view.check_unchanged()
    finally:
        view.close()
    if write is not None:
        write(refs)
    return refs, view.keys.report


def make_references(view: View, inlined: Inlined, base_url: str | None) -> dict[str, Any]:
    """Return all references. Raise UnsupportedError if something is too large to be inlined."""
    refs: dict[str, Any] = {key: document.decode("ascii") for key, document in view.keys.documents.items()}
    for array in view.keys.arrays.values():
        for key, found in list_chunks(view, array, base_url):
            if isinstance(found, Range):
                refs[key] = [found.url, found.offset, found.nbytes]
            elif inlined.takes(array, found):
                refs[key] = f"base64:{base64.b64encode(found).decode('ascii')}"
            else:
                break
    if inlined.refused:
        names = [f"  {path}: {why}" for path, why in list(inlined.refused.items())[:SHOWN]]
        more = len(inlined.refused) - len(names)
        names += [f"  and {plural(more, 'more')}"] if more else []
        raise UnsupportedError(
            f"{view.source.path}: {plural(len(inlined.refused), 'dataset')} cannot be referred to, and would be too "
            "large to be inlined; leave them out with exclude=, raise inline_limit, write to icechunk, or use "
            "ZarrStore, which encodes them when they are read\n" + "\n".join(names)
        )
    return {"version": 1, "refs": refs}


def list_chunks(view: View, array: ServedArray, base_url: str | None) -> Iterator[tuple[str, Range | bytes]]:
    """Yield the key of each chunk of an array, and where it is, or its bytes."""
    manifest = array.plan.manifest
    file = view.keys.sources[array.job.origin]
    url = locate(file, view.source, base_url)
    if manifest is None:
        rows: Iterator[tuple[int, int, int]] = ((0, 0, 1) for _ in range(len(array.plan.chunk_coords)))
    else:
        rows = zip(manifest.offsets.tolist(), manifest.nbytes.tolist(), manifest.masks.tolist(), strict=True)
    for row, (key, (offset, nbytes, mask)) in enumerate(zip(array.list_keys(), rows, strict=True)):
        if mask or url is None:
            yield key, bytes(view.read_chunk(array, row))
        else:
            yield key, Range(url, offset, nbytes)


def locate(file: H5Source, main: H5Source, base_url: str | None) -> str | None:
    """Return the URL of a file for readers, None if it is no file that others can read.

    `base_url` stands for the folder of the main file; what is outside of that has no URL.
    """
    if not is_fixed(file):
        return None
    if base_url is not None:
        folder = f"{main.path.rpartition('/')[0]}/"
        place = file.path.removeprefix(folder)
        return None if place == file.path else f"{base_url.rstrip('/')}/{place}"
    return f"file://{file.path}" if isinstance(file.location, LocalLocation) else file.path


def choose_writer(target: Any, zarr_format: int, *, overwrite: bool) -> Any:
    """Return the function that writes references to a target, None if there is none; raise OptionError if it is odd."""
    if target is None or is_icechunk(target):
        if target is not None and zarr_format == 2:
            raise OptionError("zarr_format=2: icechunk holds format 3")
        return None
    place = Path(strip_local(expand_path(target, "target")))
    if place.exists() and not overwrite:
        raise TargetError(f"{place}: it exists; pass overwrite=True, or name another path")
    if place.suffix == ".json":
        return lambda refs: write_json(place, refs)
    if not place.name.endswith(PARQUET):
        raise OptionError(f"target={redact(str(target))!r}: name a path that ends in .json or .parquet")
    check_parquet(place, zarr_format)
    return lambda refs: write_parquet(place, refs)


def check_parquet(place: Path, zarr_format: int) -> None:
    """Raise OptionError or TargetError if references cannot be written there in kerchunk's parquet form."""
    if zarr_format == 3:
        raise OptionError("zarr_format=3: kerchunk's parquet form holds format 2; pass zarr_format=2, or write .json")
    if any(part in str(place) for part in ("{", "}", "::")):
        raise OptionError(f"target={str(place)!r}: kerchunk's parquet form cannot be in a path with {{}} or ::")
    if any(find_spec(package) is None for package in ("fastparquet", "kerchunk")):
        raise OptionError("target: parquet needs more packages: pip install kerchunk fastparquet")


def write_json(path: Path, refs: dict[str, Any]) -> None:
    """Write references to a file, which appears when it is whole."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="ascii") as file:
            json.dump(refs, file, separators=(",", ":"))
        os.replace(partial, path)  # noqa: PTH105 - Path.replace is the same
    except OSError as error:
        raise TargetError(f"{path}: it cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_parquet(path: Path, refs: dict[str, Any]) -> None:
    """Write references as a folder of parquet files, which appears when it is whole. It has no provenance."""
    from fsspec.implementations.local import LocalFileSystem
    from fsspec.implementations.reference import LazyReferenceMapper

    hidden = [key for key in refs["refs"] if any(name.startswith(".z") for name in key.split("/")[:-1])]
    if hidden:
        raise UnsupportedError(
            f"{path}: kerchunk's parquet form cannot hold names that begin with .z, like that of {hidden[0]!r}; leave "
            "them out with exclude=, or write .json"
        )
    partial = path.with_name(f"{path.name}.partial")
    try:
        most = max(Counter(key.rpartition("/")[0] for key in refs["refs"]).values())
        out = LazyReferenceMapper.create(str(partial), fs=LocalFileSystem(), record_size=min(most, RECORD))
        for key, value in refs["refs"].items():
            if key not in (OWN_KEY, ".zmetadata"):  # it makes its own, and knows no other keys
                out[key] = value
        out.flush()
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    except OSError as error:
        raise TargetError(f"{path}: it cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_icechunk(target: Any) -> bool:
    """Return whether a target is the store of an icechunk session."""
    return type(target).__module__.startswith("icechunk")


def write_icechunk(view: View, store: Any, base_url: str | None) -> dict[str, Any]:
    """Write references to the store of an icechunk session: one commit, or none. Return the number of keys."""
    from icechunk import VirtualChunkSpec

    target = open_target(store, 3, None)
    if not target.keys.is_empty():
        raise TargetError(f"{target.url}: the session holds a store; write to an empty repository or branch")
    documents = {key: json.loads(document) for key, document in view.keys.documents.items()}
    provenance, root = documents.pop(OWN_KEY), documents.pop("zarr.json")
    counts = Counter(documents=len(documents) + 1)
    with target.begin(f"h5bound references: {view.source.path}", overwrite=False) as (started, _):
        started.keys.write((key, dump(document)) for key, document in documents.items())
        for array in view.keys.arrays.values():
            state = view.keys.sources[array.job.origin].state
            known = base_url is None and state is not None and state.mtime_ns  # a copy has a time of its own
            modified = datetime.fromtimestamp(-(-known // 10**9), UTC) if known else None
            chunks = list(zip(array.plan.chunk_coords.tolist(), list_chunks(view, array, base_url), strict=True))
            specs = [
                VirtualChunkSpec(
                    index,
                    quote(found.url, safe=":/"),
                    found.offset,
                    found.nbytes,
                    etag_checksum=None,
                    last_updated_at_checksum=modified,
                )
                for index, (_, found) in chunks
                if isinstance(found, Range)
            ]
            if specs and store.set_virtual_refs(f"/{array.plan.node.target}", specs):
                raise OptionError(
                    f"{target.url}: the repository has no virtual chunk container for {specs[0].location}; add one "
                    "with icechunk.RepositoryConfig.set_virtual_chunk_container, or pass base_url="
                )
            started.keys.write((key, found) for _, (key, found) in chunks if not isinstance(found, Range))
            counts.update(ranges=len(specs), encoded=len(chunks) - len(specs))
        started.write_root({"zarr.json": root}, provenance)
    return dict(counts)

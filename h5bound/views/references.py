"""References: the keys of a Zarr store as byte ranges of an HDF5 file, in kerchunk's forms or in icechunk.

::

    plan of a conversion ──► keys of a view ──► references ──► kerchunk: dict, JSON, parquet
                                                           └─► icechunk: virtual chunks
"""

from __future__ import annotations

import json
import os
import time
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from h5bound.errors import OptionError, TargetError, shorten_tracebacks
from h5bound.files.paths import expand_path
from h5bound.files.urls import redact, strip_local
from h5bound.graph.windows import parse_nbytes
from h5bound.hdf5.hierarchy import MAX_CHUNKS, MAX_DEPTH, MAX_OBJECTS
from h5bound.hdf5.type_names import describe_type
from h5bound.planning.run_options import check_report_path
from h5bound.reports.references import ReferenceReport, Referred
from h5bound.reports.tree import Grid
from h5bound.stores.conflicts import check_report, find_inside, write_report
from h5bound.stores.resolve import describe_store
from h5bound.views.chunk_references import ChunkReferences, Inlined, Tally
from h5bound.views.file_urls import FileUrls
from h5bound.views.kerchunk import PARQUET, check_parquet, make_dict, write_json, write_parquet
from h5bound.views.new_repository import ENDING, check_installed, is_own, write_repository
from h5bound.views.view import View, make_options, plan_view_keys
from h5bound.views.virtual_chunks import is_session, write_icechunk
from h5bound.zarr_model.array_spec import TEXT_CODECS, list_codecs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py

    from h5bound.zarr_model.array_spec import ArrayNode

COMMON_CODECS = {"bytes", "blosc", "bz2", "gzip", "zlib", "zstd", "crc32c", "vlen-utf8", "vlen-bytes"}
"""Codecs that most readers have: those of Zarr's specification and its extensions, and in format 2 of numcodecs."""


@shorten_tracebacks
def references(
    path: str | PathLike[str] | h5py.File | Sequence[str | PathLike[str] | h5py.File],
    target: str | PathLike[str] | Any = None,
    *,
    dim: str | None = None,
    zarr_format: Literal[2, 3] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    on_unsupported: Literal["raise", "skip"] = "raise",
    links: Literal["keep", "copy"] = "keep",
    nan: Literal["literal", "text"] = "literal",
    names: Literal["exact", "portable"] = "exact",
    compounds: Literal["struct", "columns"] = "struct",
    allow_external: Sequence[str | PathLike[str]] = (),
    storage_options: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
    max_open: int | None = None,
    progress: Callable[[int, int], None] | bool | None = None,
    max_objects: int = MAX_OBJECTS,
    max_depth: int = MAX_DEPTH,
    max_chunks: int = MAX_CHUNKS,
    inline_limit: int | str = "64 KiB",
    base_url: str | None = None,
    overwrite: bool = False,
    report: str | PathLike[str] | None = None,
    **rules: Any,
) -> Any:
    """Return references to HDF5 files: a Zarr store whose chunks are byte ranges of one, or many; or write them.

    Stored chunks are referred to as they are, contiguous data in ranges of at most 16 MiB if possible. All other data
    is encoded and inlined, as far as it is small. Of a file on a server only the metadata, and what has to be encoded,
    are read.

    Parameters
    ----------
    path
        The HDF5 file: a path, a URL that fsspec supports, or an open `h5py.File`. With `dim` a list of them, or text
        with ``*``, as for `combine`.
    target
        Where to write them: a path that ends in ``.json``; a path that ends in ``.parquet``, a folder in kerchunk's
        form (format 2 and portable names only, needs ``pip install 'h5bound[kerchunk]'``); a path that ends in
        ``.icechunk``, for a new icechunk repository (needs ``pip install icechunk``); or the store of a writable
        icechunk session, which gets one commit. None to return them.
    dim
        The dimension along which many files are joined.
    zarr_format
        Format of the store that readers see. None for 2, the one that all readers of kerchunk's forms know, and for 3
        in icechunk, which has no other.
    include, exclude, on_unsupported, links, nan, names, compounds, allow_external, storage_options, skip_bad, \
    max_open, progress, max_objects, max_depth, max_chunks
        As for `ZarrStore`.
    inline_limit
        Most bytes of a chunk that is not in the file as Zarr needs it, and is inlined; 0 for none. All of them together
        may have 1,024 times as many. icechunk holds such chunks of any size.
    base_url
        Where readers find what is in the folder of the file, or in the one that all files are in, like
        ``"s3://bucket/folder/"``; None for where it is now.
    overwrite
        Replace existing references at `target`.
    report
        Path of a file to write the report to, as JSON.
    **rules
        How many files are joined: `new_dim`, `sort`, `overlap`, `differing`, `attributes`, `unpack`, `promote` and
        `missing`, as for `combine`. Chunks of their store that are none of a file are encoded, and inlined if small.

    Returns
    -------
    dict or ReferenceReport
        Without `target`, the references in version 1 of kerchunk's form. With it, the report: what the chunks of each
        array are, the codecs that readers need, what has another form, and what was skipped.

    Raises
    ------
    UnsupportedError, UnsafeSourceError
        The file has objects that Zarr cannot hold, or data that is too large to be inlined; the message lists them.
    OptionError
        An option has an invalid value, or a glob matches nothing.
    TargetError
        The target exists, or the references cannot be written.
    CorruptChunkError
        Data that has to be encoded cannot be read, or a chunk lies past the end of the file.

    Examples
    --------
    >>> import h5py, tempfile, zarr
    >>> path = tempfile.mkdtemp() + "/a.h5"
    >>> with h5py.File(path, "w") as file:
    ...     file["x"] = [1, 2, 3]
    >>> refs = references(path)
    >>> url, offset, nbytes = refs["refs"]["x/0"]
    >>> nbytes
    24
    """
    given, started = locals(), time.perf_counter()
    target = target if is_session(target) else check_target(target, overwrite=overwrite)
    checked = make_options(given | choose_forms(target, zarr_format=zarr_format, nan=nan, names=names))
    limit = parse_nbytes(inline_limit, "inline_limit", least=0)
    report_path = None if report is None else check_report_path(report)
    view = View(plan_view_keys(given, checked, split=True))
    try:
        check_conflicts(view, target, report_path)
        typed = view.keys.combination.files if view.keys.combination else [path]
        refs = ChunkReferences(view, FileUrls.of(view.keys.joined_files, typed, base_url))
        made = write(refs, target, limit)
    finally:
        view.close()
    if report_path is None and target is None:
        return made
    result = make_report(refs, target, time.perf_counter() - started)
    if report_path is not None:
        write_report(report_path, result.to_json(), result.summary())
    return result if made is None else made


def write(refs: ChunkReferences, target: Any, limit: int) -> dict[str, Any] | None:
    """Write references to a path or store, or return them if there is none."""
    inlined = Inlined(refs, limit)
    if target is None:
        return make_dict(inlined)
    if is_session(target):
        write_icechunk(target, refs)
    elif is_icechunk(target):
        write_repository(target, refs)
    elif is_parquet(target):
        write_parquet(target, inlined)
    else:
        write_json(target, inlined)
    return None


def is_icechunk(target: Any) -> bool:
    """Return whether references are written to icechunk."""
    return is_session(target) or (isinstance(target, Path) and target.suffix == ENDING)


def is_parquet(target: Any) -> bool:
    """Return whether references are written as parquet."""
    return isinstance(target, Path) and target.suffix in PARQUET


def choose_forms(target: Any, *, zarr_format: Any, nan: Any, names: Any) -> dict[str, Any]:
    """Return the options that decide the form of a store, as a target takes them. Raise OptionError if it cannot."""
    if is_icechunk(target):
        if zarr_format == 2:
            raise OptionError("zarr_format=2: icechunk holds format 3")
        return {"zarr_format": zarr_format or 3, "nan": "text", "names": names}
    if is_parquet(target):  # each array is a folder
        if zarr_format == 3:
            raise OptionError(
                "zarr_format=3: kerchunk's parquet form holds format 2; pass zarr_format=2, or write .json"
            )
        names = "portable"
    return {"zarr_format": 2 if zarr_format is None else zarr_format, "nan": nan, "names": names}


def check_target(target: Any, *, overwrite: bool) -> Path | None:
    """Return the path to write to. Raise OptionError if there cannot be references, TargetError if it must stay."""
    if target is None:
        return None
    path = Path(os.path.abspath(strip_local(expand_path(target, "target"))))  # noqa: PTH100 - resolves no links
    if path.suffix not in (".json", *PARQUET, ENDING):
        raise OptionError(f"target={redact(str(target))!r}: name a path that ends in .json, .parquet or {ENDING}")
    if is_parquet(path):
        check_parquet(path)
    if is_icechunk(path):
        check_installed()
    if path.exists() and not overwrite:
        raise TargetError(f"{path}: it exists; pass overwrite=True, or name another path")
    if path.exists() and not is_references(path):
        raise TargetError(f"{path}: these are no references, and are not replaced; delete them, or name another path")
    return path


def is_references(path: Path) -> bool:
    """Return whether there are references at a path, by how they begin."""
    if is_icechunk(path):
        return is_own(path)
    try:
        if is_parquet(path):
            return "record_size" in json.loads((path / ".zmetadata").read_bytes())
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except (OSError, ValueError):
        return False


def check_conflicts(view: View, target: Any, report: Path | None) -> None:
    """Raise TargetError or OptionError if the target or the report would overwrite a file that is read."""
    files = [*(source.path for source in view.keys.all_files), *view.keys.external_states]
    directory = target if isinstance(target, Path) else None
    found = find_inside(directory, files)
    if found is not None:
        raise TargetError(f"{directory}: {found}, which is read, is there; name another path")
    check_report(report, directory, files)


def describe_array(node: ArrayNode) -> Grid:
    """Return type, shape and chunks of one of the arrays that a dataset becomes."""
    varies = node.dtype.kind in TEXT_CODECS
    nbytes = None if varies else prod(node.shape) * node.dtype.itemsize
    return Grid(
        type="text" if varies else describe_type(node.dtype), shape=node.shape, chunks=node.chunks, nbytes=nbytes
    )


def make_report(refs: ChunkReferences, target: Any, seconds: float) -> ReferenceReport:
    """Return the report of references that were made."""
    keys = refs.view.keys
    arrays, grids = [], {entry.path: entry.grid for entry in keys.report.arrays}
    for name, array in keys.arrays.items():
        tally = refs.tallies.get(name, Tally())
        document = json.loads(keys.documents[f"{name}/{'zarr.json' if keys.zarr_format == 3 else '.zarray'}"])
        arrays.append(
            Referred(
                path=array.plan.path,
                target=name,
                ranges=tally.ranges,
                encoded=tally.encoded,
                encoded_nbytes=tally.nbytes,
                reasons=tally.reasons,
                codecs=tuple(sorted({*list_codecs(document)} - COMMON_CODECS)),
                grid=grids[array.plan.path] if array.plan.part is None else describe_array(array.plan.node),
            )
        )
    planned = keys.report
    return ReferenceReport(
        source=planned.source,
        target="" if target is None else str(target) if isinstance(target, Path) else describe_store(target),
        zarr_format=keys.zarr_format,
        seconds=seconds,
        h5bound=planned.h5bound,
        groups=len(planned.converted) - len(planned.arrays),
        arrays=tuple(arrays),
        skipped=planned.skipped,
        links=planned.links,
        notes=planned.notes,
        files=keys.combination.files if keys.combination else (),
        differences=keys.combination.differences if keys.combination else (),
        bad=keys.combination.bad if keys.combination else (),
    )

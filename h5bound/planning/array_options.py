"""The options chunks, shards, include and exclude on a file: what they give a dataset, and whether each one applies.

An option that applies to nothing is refused before the first write, with the paths that are close to it.
"""

from __future__ import annotations

from difflib import get_close_matches
from math import prod
from typing import TYPE_CHECKING, Any

from h5bound.chunk_grid import count_chunks, plan_shards
from h5bound.errors import OptionError
from h5bound.planning.selection import find_rule, is_selected, matches
from h5bound.reports.text import format_nbytes, printable
from h5bound.zarr_model.array_spec import estimate_itemsize
from h5bound.zarr_model.codec_options import BLOSC_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from h5bound.chunk_grid import Shape
    from h5bound.planning.options import Rules, Settings
    from h5bound.planning.scan import SourceScan
    from h5bound.planning.scan_dataset import DatasetScan


MAX_CHUNK = BLOSC_LIMIT
"""Most bytes of a chunk that `chunks` may ask for, with whatever codec: readers hold it at once."""

MAX_CLOSE = 3
"""Most paths that an error names as close to a glob."""

MAX_COMPARED = 20_000
"""Most paths that are compared with a glob for that: each takes some microseconds."""


def choose_chunks(
    settings: Settings, path: str, shape: Shape, *, dtype: np.dtype[Any], stored: Shape | None = None
) -> Shape | None:
    """Return the chunks that the option asks for, cut to the array's shape; None without a rule for it.

    `stored` are HDF5's chunks. Raise OptionError if a chunk is too large to be encoded.
    """
    rule = find_rule(settings.chunks, path, len(shape))
    if rule is None:
        return None
    size = settings.chunks[rule][1]
    assert isinstance(size, tuple)
    if size == stored:  # these may be larger than the dataset, and can be copied
        return size
    chunks = tuple(min(chunk, max(length, 1)) for chunk, length in zip(size, shape, strict=True))
    nbytes = prod(chunks) * estimate_itemsize(dtype)
    if nbytes > MAX_CHUNK:
        raise OptionError(
            f"chunks={size}: a chunk of {path} would have {format_nbytes(nbytes)}; the most is 2 GiB, and a few MiB "
            "are read fast"
        )
    return chunks


def choose_shards(settings: Settings, dataset: DatasetScan, chunks: Shape) -> Shape | None:
    """Return the shape of a shard, cut to the dataset's shape; None without the option.

    Raise OptionError if it is not whole chunks.
    """
    path, shape = dataset.record.path, dataset.shape
    rule = find_rule(settings.shards, path, len(shape))
    if rule is None or not takes_shards(dataset):
        return None
    size = settings.shards[rule][1]
    if isinstance(size, int):
        return plan_shards(shape, chunks, itemsize=estimate_itemsize(dataset.type.dtype), nbytes=size)
    counts = count_chunks(shape, chunks)
    whole = tuple(max(count, 1) * chunk for count, chunk in zip(counts, chunks, strict=True))
    shards = tuple(map(min, size, whole))
    if any(shard % chunk for shard, chunk in zip(shards, chunks, strict=True)):
        raise OptionError(f"shards={size} for {path!r}: not whole chunks of {chunks}")
    return shards


def takes_shards(dataset: DatasetScan) -> bool:
    """Return whether the array of a dataset can have shards.

    Not of compounds: zarr-python 3.1 cannot read their fill value in shards.
    """
    columns = any(not item.part.flat for item in dataset.parts)
    return bool(dataset.shape) and (columns or (dataset.type.form != "group" and dataset.type.dtype.names is None))


def check_applied(scan: SourceScan, settings: Settings, others: Iterable[str] = ()) -> None:
    """Raise OptionError if a glob matches nothing in the source, or a shape fits no dataset that it matches.

    `others` are the paths of the objects of other files, where the source is many.
    """
    file, paths = scan.origins[0].source.path if others else scan.hierarchy.file, [*scan.paths, *others]
    problems = list(list_unmatched(file, paths, settings, scan=scan))
    if not problems and not any(is_selected(path, settings) for path in paths):
        problems.append(f"exclude={list(settings.exclude)}: leaves nothing to convert in {file}")
    if not problems:
        for option, rules in (("chunks", settings.chunks), ("shards", settings.shards)):
            problems += list_unused(option, rules, scan)
    if problems:
        raise OptionError("; ".join(problems))


def list_unmatched(
    file: str, paths: Sequence[str], settings: Settings, *, scan: SourceScan | None = None
) -> Iterator[str]:
    """Yield a sentence for each glob that matches none of the paths of a file, of which there may be a scan."""
    rules = {"chunks": [glob for glob, _ in settings.chunks], "shards": [glob for glob, _ in settings.shards]}
    for option, globs in {"include": settings.include, "exclude": settings.exclude, **rules}.items():
        for glob in globs:
            if not any(matches(path, glob) for path in paths):
                reason = "" if scan is None else name_dataset(glob, scan)
                yield f"{option}={glob!r}: matches nothing in {file}{reason or name_close(glob, paths)}"


def name_dataset(glob: str, scan: SourceScan) -> str:
    """Return the end of the sentence that names the dataset of which a glob means a column, "" if it means none."""
    asked = f"/{glob.strip('/')}"
    path = next((d.record.path for d in scan.datasets if d.parts and asked.startswith(f"{d.record.path}/")), "")
    return f"; the arrays that {path} becomes are named by its path, {path}" if path else ""


def name_close(glob: str, paths: Sequence[str]) -> str:
    """Return the end of the sentence that names the paths that are close to a glob, "" if none is.

    >>> name_close("/entry/dta", ["/", "/entry", "/entry/data"]), name_close("data", ["/entry/data"])
    ('; close to it: /entry/data, /entry', '; close to it: /entry/data')
    """
    asked = f"/{glob.strip('/')}"
    above, _, name = asked.rpartition("/")
    beside = [path for path in paths if path.startswith(f"{above}/")]  # of many paths, those in the same group first
    some = list(dict.fromkeys([*beside[:MAX_COMPARED], *paths[:MAX_COMPARED]]))[:MAX_COMPARED]
    same_name = [path for path in some if path.rpartition("/")[2].casefold() == name.casefold()]
    close = get_close_matches(asked, some, MAX_CLOSE)
    names = list(dict.fromkeys([*same_name, *close]))[:MAX_CLOSE]
    return f"; close to it: {', '.join(map(printable, names))}" if names else ""


def list_unused(option: str, rules: Rules, scan: SourceScan) -> Iterator[str]:
    """Yield a sentence for each rule that gives no dataset its chunks or shards."""
    skipped = [item.path for item in scan.skipped if item.attribute is None and not item.asked]
    fitting = [item for item in scan.datasets if option == "chunks" or takes_shards(item)]
    used: set[int | None] = set()
    for item in fitting:
        if len(used - {None}) == len(rules):
            break
        used |= {find_rule(rules, item.record.path, ndim) for ndim in list_ndims(item)}
    for number, (glob, size) in enumerate(rules):
        if number in used or any(matches(path, glob) for path in skipped):  # which shape that has is not known
            continue
        matching = [item for item in scan.datasets if matches(item.record.path, glob)]
        if isinstance(size, tuple) or (not matching and glob != "*"):  # bytes may be asked for without a look at it
            yield f"{name_rule(option, glob, size)}: {explain_unused(size, matching, fitting)}"


def name_rule(option: str, glob: str, size: Shape | int | None) -> str:
    """Return a rule as it is given: a glob without a size, or a size for all, or for what a glob matches.

    >>> [name_rule("chunks", glob, (2,)) for glob in ("*", "/a")], name_rule("include", "/b", None)
    (['chunks=(2,)', "chunks={'/a': (2,)}"], "include='/b'")
    """
    if size is None:
        return f"{option}={glob!r}"
    return f"{option}={size}" if glob == "*" else f"{option}={{{glob!r}: {size}}}"


def list_ndims(dataset: DatasetScan) -> set[int]:
    """Return the numbers of axes of the arrays that a dataset becomes."""
    parts = [item.part for item in dataset.parts]
    outer = len(dataset.rows)
    return {(1 if part.flat else outer) + len(part.type.element_shape) for part in parts} or {len(dataset.shape)}


def explain_unused(size: Shape | int, matching: Sequence[DatasetScan], fitting: Iterable[DatasetScan]) -> str:
    """Return why a rule applies to nothing, from the datasets that its glob matches and those that take such rules."""
    paths = {item.record.path for item in fitting}
    left = [item for item in matching if item.record.path in paths]
    if not matching:
        return "it matches no dataset that is converted"
    if not left:
        path = matching[0].record.path
        return f"{path}, like all that it matches, has no shards: scalars, sequences and compounds do not"
    if isinstance(size, tuple) and not any(len(size) in list_ndims(item) for item in left):
        axes = "axis" if len(size) == 1 else "axes"
        return f"no dataset that it matches has {len(size)} {axes}; {left[0].record.path} has shape {left[0].shape}"
    return "rules before it apply to all that it matches; put it first"

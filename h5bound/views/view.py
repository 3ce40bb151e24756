"""A file as the keys of a Zarr store, each read alone: for stores that are not written, and for references."""

from __future__ import annotations

from functools import lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, Any

from h5bound.buffers import reuse_freed
from h5bound.combining.rule_options import complete_rules, make_rules
from h5bound.conversion.transfer import encode_unit, read_unit
from h5bound.conversion.write_store import check_external
from h5bound.errors import OptionError
from h5bound.hdf5.external_files import resolve_directories
from h5bound.planning.options import make_settings
from h5bound.planning.run_options import check_conversion, check_limits, check_progress
from h5bound.reader.many_files import check_max_open
from h5bound.reader.open_file import OpenFile
from h5bound.reader.source import H5Source
from h5bound.views.key_plan import ViewOptions, is_object, plan_keys
from h5bound.views.served_file import ServedFile, refuse_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from h5bound.views.served_array import ServedArray
    from h5bound.views.served_keys import ServedKeys

    Part = Callable[[int], tuple[int, int]]  # begin and end of what is read, for the number of bytes there are

SETTINGS = ("zarr_format", "include", "exclude", "links", "nan", "names", "compounds")
"""Options of a conversion that views have too."""

LIMITS = ("max_objects", "max_depth", "max_chunks")
"""Options that refuse a file."""

MOST_FILES = 64
"""Files that are joined of which a view keeps the connections to their servers."""


def make_options(given: Mapping[str, Any]) -> ViewOptions:
    """Return the options of a view, whose chunks are those of HDF5, from what `ZarrStore` or `references` was given.

    Raise OptionError if one is invalid, or the path of many files is given without rules; TypeError for an unknown one.
    """
    rules = given["rules"] if given["dim"] is None else {**given["rules"], "dim": given["dim"]}
    if not rules and isinstance(given["path"], (list, tuple)):
        raise OptionError("name either dim, a dimension of the files to join them along, or new_dim, a new one")
    check_conversion(
        given["on_unsupported"], resume=False, overwrite=False, dry_run=False, verify=False, skip_bad=given["skip_bad"]
    )
    settings = make_settings(codecs="keep", chunks=None, shards=None, **{name: given[name] for name in SETTINGS})
    return ViewOptions(
        settings=settings,
        limits=check_limits(**{name: given[name] for name in LIMITS}),
        allowed=resolve_directories(given["allow_external"]),
        skip=given["on_unsupported"] == "skip",
        rules=make_rules(**complete_rules(rules), zarr_format=settings.zarr_format) if rules else None,
    )


def plan_view_keys(given: Mapping[str, Any], options: ViewOptions, *, split: bool = False) -> ServedKeys:
    """Return the keys of one file, or of many, that `ZarrStore` or `references` was given.

    Raise OptionError also if an option is for many files.
    """
    path, storage_options, many = given["path"], given["storage_options"], options.rules is not None
    max_open = check_max_open(given["max_open"], many=many)
    check_progress(given["progress"])
    if options.rules is None:
        if given["skip_bad"]:
            raise OptionError("skip_bad=True: this is for many files, of which those that cannot be read are left out")
        return plan_keys(H5Source.of(path, storage_options), options, split=split)
    from h5bound.views.joined_keys import plan_joined_keys  # with dask.array, which views of one file do without

    return plan_joined_keys(
        path, options, options.rules, storage_options=storage_options, skip_bad=given["skip_bad"], max_open=max_open,
        progress=given["progress"], split=split,
    )  # fmt: skip


class View:
    """The keys of a file, or of many, and the files that they are read from."""

    def __init__(self, keys: ServedKeys) -> None:
        self.keys = keys
        self.files = [
            ServedFile(source, has_ranges=has_ranges)
            for source, has_ranges in zip(keys.sources, keys.have_ranges, strict=True)
        ]
        self._find_joined = lru_cache(MOST_FILES)(self._make_joined)
        nodes = [array.plan.node for array in keys.arrays.values()]
        reuse_freed(
            3 * max((prod(node.chunks) * node.dtype.itemsize for node in nodes), default=0)
        )  # zarr decodes them

    @property
    def source(self) -> Any:
        """The file, or all files that are joined."""
        return self.keys.sources[0]

    def find_file(self, array: ServedArray, row: int) -> ServedFile:
        """Return the file that the chunk in a row is a range of, or that has to be open to read it."""
        if array.files is not None and array.find_range(row) is not None:
            file = self._find_joined(int(array.files[row]))
            if file.has_ranges:
                return file
        return self.files[array.job.origin]

    def _make_joined(self, number: int) -> ServedFile:
        source = self.source.sources[number]
        return ServedFile(source, has_ranges=not source.caller_file() and not is_object(source))

    def read(self, key: str, part: Part = lambda size: (0, size)) -> Any:
        """Return a part of the bytes of a key, None if there is no such key."""
        document = self.keys.documents.get(key)
        if document is not None:
            return document[slice(*part(len(document)))]
        found = self.keys.find_chunk(key)
        return None if found is None else self.read_chunk(*found, part)

    def read_chunk(self, array: ServedArray, row: int, part: Part = lambda size: (0, size)) -> Any:
        """Return a part of the bytes of the chunk in a row of the plan of an array."""
        byte_range, file = array.find_range(row), self.find_file(array, row)
        if byte_range is not None and file.has_ranges:
            start, stop = part(byte_range[1])
            with array.naming_chunk(row, file.source):
                return file.read_range(byte_range[0] + start, stop - start)
        unit = array.make_unit(row)
        with file.reading() as opened:
            if isinstance(opened, OpenFile):
                array.check_dataset(opened)
            else:
                for number in array.list_files(row):
                    opened.on_first_use(number, partial(refuse_writer, self.source.sources[number]))
            result = read_unit(opened, array.job, unit)
        if array.job.values.allowed is not None:
            check_external(self.keys.external_states)
        ((_, encoded),) = encode_unit(array.job, unit, result)
        return bytes(encoded)[slice(*part(len(encoded)))]

    def measure(self, array: ServedArray, row: int) -> int:
        """Return the number of bytes of the chunk in a row of the plan of an array."""
        byte_range = array.find_range(row)
        return len(self.read_chunk(array, row)) if byte_range is None else byte_range[1]

    def measure_all(self, prefix: str) -> int:
        """Return the number of bytes of all keys below a folder."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        return sum(len(document) for key, document in self.keys.documents.items() if key.startswith(start)) + sum(
            self.measure(array, row)
            for path, array in self.keys.arrays.items()
            if f"{path}/".startswith(start) or start.startswith(f"{path}/")
            for row in array.find_rows(start)
        )

    def check_unchanged(self) -> None:
        """Raise SourceChangedError or SourceNotFoundError if a file changed since it was planned."""
        for source in self.keys.sources:
            source.check_unchanged()
        check_external(self.keys.external_states)

    def close(self) -> None:
        """Close the files until the next read."""
        for file in self.files:
            file.close()

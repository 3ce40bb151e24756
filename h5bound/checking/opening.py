"""Open a file to check: what is left of a truncated one, and attributes from which HDF5 might never return."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from h5bound.errors import CorruptChunkError
from h5bound.files.guarded import GuardedLocation
from h5bound.files.local import LocalLocation
from h5bound.h5py_compat import describe
from h5bound.reader.source import H5Source
from h5bound.reports.check import Damage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from h5bound.reader.open_file import OpenFile


def guard_source(source: H5Source) -> H5Source:
    """Return a source that is read through Python anyway, guarded; a local file as it is, whose chunks are not."""
    guarded = isinstance(source.location, LocalLocation) or source.state is None
    return source if guarded else H5Source(GuardedLocation(source.location), source.state)


@contextmanager
def open_rest(source: H5Source) -> Iterator[tuple[H5Source, OpenFile | None, list[Damage]]]:
    """Open a file. Yield its source, the file, and no damage; of a truncated one, what is left, if HDF5 can read it."""
    damages: list[Damage] = []
    opened = None
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(source.opened())
        except CorruptChunkError as error:
            damages.append(Damage("/", describe(error).removeprefix(f"{source.path}: ")))
        if damages:
            location = source.location.inner if isinstance(source.location, GuardedLocation) else source.location
            source = H5Source(GuardedLocation(location, shortened=True), source.state)
            try:
                opened = stack.enter_context(source.opened())
            except CorruptChunkError:
                opened = None
        yield source, opened, damages


@contextmanager
def open_attributes(source: H5Source, opened: OpenFile) -> Iterator[h5py.File]:
    """Open a file a second time, guarded, to read attributes; where another opened it, or it is guarded, take that."""
    if not isinstance(source.location, LocalLocation) or source.live or source.state is None or not opened.owned:
        yield opened.file
        return
    file, file_bytes = GuardedLocation(source.location).open(source.state)
    if file_bytes is not None:
        file_bytes.close()
    with file:
        yield file

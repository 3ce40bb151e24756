"""Read everything that a conversion needs before it writes: metadata, and the indexes of stored chunks.

Every object that cannot be converted is logged here with the reason.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from h5bound.errors import UnsafeSourceError
from h5bound.hdf5.references import ReferencePaths
from h5bound.planning.axis_names import name_axes
from h5bound.planning.external_links import LinkResolver
from h5bound.planning.node_targets import name_targets
from h5bound.planning.origins import Origin, read_origin
from h5bound.planning.scan_context import ScanContext
from h5bound.planning.scan_dataset import DatasetScan, try_scan_dataset
from h5bound.planning.scan_forms import HDMF, find_reader, note_reader
from h5bound.planning.scan_group import GroupScan, add_links, scan_committed_types, scan_group
from h5bound.planning.scan_log import ScanLog
from h5bound.planning.scan_references import log_references, note_absent, resolve_values
from h5bound.reports.text import plural
from h5bound.zarr_model.hdmf import is_hdmf
from h5bound.zarr_model.node_names import NameLimits, NodeNamer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from h5bound.files.file_state import FileState
    from h5bound.hdf5.hierarchy import Hierarchy, Limits
    from h5bound.planning.options import Settings
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source
    from h5bound.reports.entries import Link, ReportNote, Skipped

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SourceScan:
    """The metadata of a source, and of the files that its external links lead to."""

    origins: tuple[Origin, ...]
    """The source, then the targets of external links."""
    targets: Mapping[str, str]
    """Path in the store by path in the report, also of skipped objects."""
    groups: tuple[GroupScan, ...]
    datasets: tuple[DatasetScan, ...]
    details: Mapping[str, Any]
    """What the nodes of the store do not say of the source, by path."""
    skipped: tuple[Skipped, ...]
    paths: tuple[str, ...]
    """Paths of all objects and links, also of those that are not selected."""
    links: tuple[Link, ...]
    notes: tuple[ReportNote, ...]
    external_states: Mapping[str, FileState]
    """States of the files of external storage and virtual datasets before they were opened, by their real paths."""
    allowed: tuple[Path, ...]
    """Real paths of directories whose files may be opened."""
    name_limits: NameLimits | None
    """What names the target cannot hold; None if that decides no name."""

    def list_external_files(self) -> list[str]:
        """Return the paths of the other files that are read."""
        return [*(origin.source.path for origin in self.origins[1:]), *self.external_states]

    @property
    def sources(self) -> list[H5Source]:
        """The files of all origins."""
        return [origin.source for origin in self.origins]

    @property
    def hierarchy(self) -> Hierarchy:
        """The objects of the source that are converted."""
        return self.origins[0].hierarchy


def scan_source(
    source: H5Source,
    opened: OpenFile,
    *,
    settings: Settings,
    limits: Limits,
    allowed: tuple[Path, ...] = (),
    find_name_limits: Callable[[], NameLimits] = NameLimits,
) -> SourceScan:
    """Scan an open source, and the files that its external links lead to, which are opened one after another.

    `find_name_limits` is called if there are names that some target could not hold. Raise UnsafeSourceError if they
    exceed one of the limits.
    """
    log = ScanLog()
    resolver = LinkResolver(settings=settings, limits=limits, allowed=allowed, hdmf=is_hdmf(opened.file), log=log)
    resolver.resolve(read_origin(source, opened.file, settings=settings, limits=limits, log=log))
    origins = resolver.origins
    check_chunk_count(origins, limits)
    name_nodes = NodeNamer(find_name_limits, portable=settings.names == "portable")
    targets = name_targets(origins, name_nodes)
    origins = [replace(origin, addresses=origin.addresses.move(targets)) for origin in origins]
    groups: list[GroupScan] = []
    datasets: list[DatasetScan] = []
    for number, origin in enumerate(origins):
        with origin.source.opened() if number else nullcontext(opened) as file:
            context = ScanContext(
                opened=file,
                origin=origin,
                number=number,
                settings=settings,
                allowed=allowed,
                targets=targets,
                resolve=ReferencePaths(file.file, origin.addresses),
                log=log,
                hdmf=resolver.hdmf,
                name_nodes=name_nodes,
            )
            origin.source.make_exclusive_for(record.dtype for record in origin.hierarchy.datasets)
            datasets += scan_datasets(context)
            groups += [scan_group(context, path) for path in origin.hierarchy.groups]
            scan_committed_types(context)
    known = list_nodes(groups, datasets)
    note_absent(log, known)
    note_reader(log, settings, reader=HDMF if resolver.hdmf else find_reader({g.path: g.attributes for g in groups}))
    LOGGER.info("%s: found %s, %s", source.path, plural(len(groups), "group"), plural(len(datasets), "dataset"))
    return SourceScan(
        origins=tuple(origins),
        targets=targets,
        groups=tuple(add_links(groups, resolver.links, nodes=known, log=log)),
        datasets=tuple(name_axes(groups, datasets, log)),
        details=log.details,
        skipped=tuple(log.skipped),
        paths=tuple(log.paths),
        links=tuple(resolver.links),
        notes=tuple(log.notes),
        external_states=log.external_states,
        allowed=allowed,
        name_limits=name_nodes.limits,
    )


def list_nodes(groups: Iterable[GroupScan], datasets: Iterable[DatasetScan]) -> dict[str, str]:
    """Return the path in the store, from ``/``, of all groups and datasets by their paths in the report."""
    nodes = {item.path: f"/{item.target}" for item in groups}
    return nodes | {item.record.path: f"/{item.target}" for item in datasets}


def check_chunk_count(origins: Sequence[Origin], limits: Limits) -> None:
    """Raise UnsafeSourceError if more chunks are stored than the limit."""
    count = sum(record.stored_chunks for origin in origins for record in origin.hierarchy.datasets)
    if count > limits.max_chunks:
        raise UnsafeSourceError(
            f"{origins[0].hierarchy.file}: {count:,} stored chunks exceed the limit of {limits.max_chunks:,}; "
            "raise max_chunks"
        )


def scan_datasets(context: ScanContext) -> list[DatasetScan]:
    """Scan the datasets of an origin, and log the objects of its file that cannot be opened."""
    hierarchy = context.origin.hierarchy
    for path, reason in hierarchy.problems:
        context.log.skip(path, f"h5py cannot open it: {reason}")
    for path in hierarchy.committed_types:
        context.log.note(path, "committed type", "type")
    scans = []
    for record in hierarchy.datasets:
        scan = try_scan_dataset(context, record)
        if scan is not None:
            resolve_values(context, scan)
            scans.append(scan)
        log_references(context, record.path)
    return scans

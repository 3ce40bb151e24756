"""Read everything that a conversion needs before it writes: metadata, and the indexes of stored chunks.

Every object that cannot be converted is logged here with the reason.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py
from h5py import h5p

from h5bound.errors import UnsafeSourceError
from h5bound.hdf5.references import ReferencePaths
from h5bound.planning.external_links import LinkResolver
from h5bound.planning.node_targets import name_targets
from h5bound.planning.origins import Origin, read_origin
from h5bound.planning.scan_context import ScanContext
from h5bound.planning.scan_dataset import DatasetScan, note_name, original_name, try_scan_dataset
from h5bound.planning.scan_forms import HDMF, find_reader, note_reader
from h5bound.planning.scan_log import ScanLog
from h5bound.planning.scan_references import log_references, note_absent, place_links, resolve_values
from h5bound.planning.selection import parent_of
from h5bound.reports.text import plural
from h5bound.zarr_model.dimension_names import FileDimensions, Surroundings, name_by_length, name_dimensions
from h5bound.zarr_model.hdmf import is_hdmf
from h5bound.zarr_model.node_names import NameLimits, NodeNamer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from h5bound.files.file_state import FileState
    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.hdf5.hierarchy import Hierarchy, Limits
    from h5bound.planning.options import Settings
    from h5bound.reader.open_file import OpenFile
    from h5bound.reader.source import H5Source
    from h5bound.reports.entries import Link, ReportNote, Skipped

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScan:
    """The metadata of one group."""

    path: str
    """Path in the report."""
    target: str
    """Path in the store; "" for the root."""
    attributes: Mapping[str, Any]
    """Attributes in the store."""
    origin: int
    """Number of its file among the origins of the scan."""
    order: tuple[str, ...] = ()
    """Names of its links in the order of their creation, if HDF5 knows that: netCDF's readers see them so."""
    hdmf: bool = False
    """Whether HDMF wrote its file."""


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


def scan_group(context: ScanContext, path: str) -> GroupScan:
    """Scan a group; `add_links` adds its links."""
    group = context.open(path)
    assert isinstance(group, h5py.Group)
    record = context.read_attributes(group)
    context.log.add_attributes(path, record)
    log_references(context, path)
    note_name(context, path)
    context.log.add_details(path, original_name(path, context.targets[path]))
    tracked = group.id.get_create_plist().get_link_creation_order() & h5p.CRT_ORDER_TRACKED
    return GroupScan(
        path=path,
        target=context.targets[path],
        attributes=record.values,
        origin=context.number,
        hdmf=context.hdmf,
        order=tuple(group) if tracked else (),
    )


def add_links(
    groups: Iterable[GroupScan], links: Iterable[Link], *, nodes: Mapping[str, str], log: ScanLog
) -> Iterator[GroupScan]:
    """Yield the groups with their links, which are details, and for the readers of hdmf-zarr an attribute."""
    siblings: dict[str, list[Link]] = {}
    for link in links:
        siblings.setdefault(parent_of(link.path), []).append(link)
    for group in groups:
        shown = place_links(log, group.path, siblings.get(group.path, ()), nodes=nodes)
        yield replace(group, attributes={**group.attributes, "_LINKS": shown}) if shown and group.hdmf else group


def scan_committed_types(context: ScanContext) -> None:
    """Log the attributes of committed types as details of the store, which has no node for them."""
    for path in context.origin.hierarchy.committed_types:
        record = context.read_attributes(context.open(path))
        context.log.add_attributes(path, record)
        log_references(context, path)
        if record.values:
            context.log.add_details(path, {"type_attributes": record.values})


def name_axes(groups: Iterable[GroupScan], datasets: Sequence[DatasetScan], log: ScanLog) -> list[DatasetScan]:
    """Return the datasets with the dimension names that netCDF readers use, also for unnamed dimensions.

    Dimensions without a variable, which hold no data, are skipped and noted.
    """
    by_group: dict[str, dict[str, Dimensions]] = {}
    for dataset in datasets:
        if dataset.dimensions is not None:
            name = dataset.record.path.rpartition("/")[2]
            by_group.setdefault(parent_of(dataset.record.path), {})[name] = dataset.dimensions
    file = FileDimensions.of([dims for siblings in by_group.values() for dims in siblings.values()])
    names: dict[str, tuple[str, ...]] = {}
    around: dict[str, Surroundings] = {}
    for group in groups:
        siblings = by_group.get(group.path, {})
        ordered = {name: siblings[name] for name in (*group.order, *siblings) if name in siblings}
        axes = name_dimensions(ordered, around.get(parent_of(group.path), Surroundings()), file=file)
        around[group.path] = axes.below
        path = group.path.rstrip("/")
        names |= {f"{path}/{name}": value for name, value in axes.names.items()}
        for name, text in axes.notes.items():
            log.note(f"{path}/{name}", text, "dimension")
    nodes = list_renamed_scales(datasets)
    return [
        replace(dataset, dimension_names=extend_names(names.get(dataset.record.path), dataset, nodes))
        for dataset in datasets
        if dataset.dimensions is None or not dataset.dimensions.bare
    ]


def list_renamed_scales(datasets: Iterable[DatasetScan]) -> dict[str, str]:
    """Return the node names of dimension scales with another name in the store, by their paths in report and store.

    xarray takes the array with the name of a dimension for its coordinate.
    """
    renamed: dict[str, str] = {}
    for dataset in datasets:
        path, node_name = dataset.record.path, dataset.target.rpartition("/")[2]
        dims = dataset.dimensions
        if dims is not None and dims.scale and not dims.bare and path.rpartition("/")[2] != node_name:
            renamed |= dict.fromkeys([path, f"/{dataset.target}"], node_name)
    return renamed


def extend_names(
    names: tuple[str, ...] | None, dataset: DatasetScan, nodes: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Return the names of the axes of a dataset's array, those of an HDF5 array type last; of a group without these.

    `nodes` are those of :func:`list_renamed_scales`.
    """
    dims = dataset.dimensions
    if names is None or dims is None:
        return None
    scales = dims.scales or (None,) * len(names)
    group = parent_of(dataset.record.path).rstrip("/")
    triples = zip(names, dims.names, scales, strict=True)  # a shorter axis has another name than its scale
    shown = [
        nodes.get(scale or f"{group}/{name}", name) if own in (None, name) else name for name, own, scale in triples
    ]
    return name_by_length(dataset.shape, shown)

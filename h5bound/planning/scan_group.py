"""Scan the groups of a source, and its committed types, which have no node of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import h5py
from h5py import h5p

from h5bound.planning.scan_dataset import note_name, original_name
from h5bound.planning.scan_references import log_references, place_links
from h5bound.planning.selection import parent_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from h5bound.planning.scan_context import ScanContext
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reports.entries import Link


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

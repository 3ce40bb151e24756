"""What the references and links of a source lead to, as paths of the store."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

from h5bound.errors import H5BoundError
from h5bound.h5py_compat import READ_ERRORS
from h5bound.hdf5.type_json import text_to_json
from h5bound.planning.scan_text import list_stored
from h5bound.reports.text import name_first
from h5bound.zarr_model.dtypes import REFERENCES
from h5bound.zarr_model.parts import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from h5bound.hdf5.type_json import JSON
    from h5bound.planning.scan_context import ScanContext
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.scan_log import ScanLog
    from h5bound.reports.entries import Link

LEADS_NOWHERE = "it refers to what is not there, or in a file of which only a part is converted: the path is empty"
"""The note on an object with a reference that has no path."""


def place_links(log: ScanLog, path: str, links: Sequence[Link], *, nodes: Mapping[str, str]) -> list[JSON]:
    """Log the links of the group at a path as details, and return the entries that hdmf-zarr can read.

    `nodes` are paths in the store by those in the report. hdmf-zarr opens no store with a link to nothing, or to a file
    of HDF5.
    """
    if links:
        log.add_details(path, {"links": [link_to_json(link, nodes) for link in links]})
    leading = [link_to_json(link, nodes) for link in links if find_node(link, nodes) is not None]
    return [{name: entry[name] for name in ("name", "source", "path")} for entry in leading]


def find_node(link: Link, nodes: Mapping[str, str]) -> str | None:
    """Return the path in the store of what a link leads to; None if that is not there.

    The path of a soft link may pass through an external link.
    """
    above = "/" if link.to.startswith("/") else f"{link.path.rpartition('/')[0]}/"
    path = f"{above}{link.to.lstrip('/')}" if link.target is None and link.kind == "soft" else link.target
    return None if path is None else nodes.get(path)


def link_to_json(link: Link, nodes: Mapping[str, str]) -> dict[str, JSON]:
    """Return the entry of a link: the path of the node that it leads to, or the path in HDF5 if it leads to none.

    >>> from h5bound.reports.entries import Link
    >>> link_to_json(Link("/a/again", "soft", "../x", target="/x"), {"/x": "/x"})
    {'name': 'again', 'source': '.', 'path': '/x', 'kind': 'soft', 'to': '../x'}
    """
    node = find_node(link, nodes)
    entry: dict[str, JSON] = {
        "name": text_to_json(link.path.rpartition("/")[2]),
        "source": "." if link.file is None else text_to_json(link.file),
        "path": text_to_json(link.to) if node is None else node,
        "kind": link.kind,
    }
    return entry if link.kind != "soft" or node in (None, link.to) else entry | {"to": text_to_json(link.to)}


def resolve_values(context: ScanContext, dataset: DatasetScan) -> None:
    """Resolve the references that a dataset, or its sequences, hold: `note_absent` tells of what is not in the store.

    Values that cannot be read are reported when they are to be converted.
    """
    ways = [item.part.steps for item in dataset.parts if item.part.type.form in REFERENCES]
    ways += [()] if dataset.type.form in REFERENCES else []
    inside = context.origin.locate(dataset.record.path)
    with suppress(H5BoundError, *READ_ERRORS):
        for region in list_stored(dataset.record, dataset.manifest, dataset.boxes) if ways else ():
            block = context.opened.read(inside, region)
            elements = block.reshape(-1, *block.shape[len(region) :])
            for reference in chain.from_iterable(flatten(elements, steps)[0].ravel() for steps in ways):
                context.resolve(reference)


def log_references(context: ScanContext, path: str) -> None:
    """Log the objects to which an object refers: those that were resolved since this was called last."""
    seen, context.resolve.seen = context.resolve.seen, set()
    if seen:
        context.log.references[path] = seen


def note_absent(log: ScanLog, nodes: Mapping[str, str]) -> None:
    """Note the references to what is not in the store. `nodes`: paths in the store by those in the report."""
    known = {*nodes.values(), ""}
    for path, seen in log.references.items():
        absent = sorted(seen - known)
        if path in nodes and absent:
            log.note(path, f"it refers to what is not in the store: {name_first(absent)}")
        if path in nodes and "" in seen:
            log.note(path, LEADS_NOWHERE)

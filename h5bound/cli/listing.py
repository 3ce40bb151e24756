"""The output of `h5bound ls`: a tree with totals, or one JSON object, which ``docs/reference/reports.md`` describes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from h5bound import __version__
from h5bound.hdf5.type_names import describe_type
from h5bound.listing.values import format_value, value_to_json
from h5bound.listing.words import describe_filter, describe_shape, describe_storage
from h5bound.reports.text import format_nbytes, plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.text import Text

    from h5bound.listing.entries import DatasetEntry, Entry, Listing

JSON_VERSION = 1
"""Version of the JSON form. It changes when the meaning of a field changes."""

MAX_VALUE = 200
"""Characters of an attribute's value that are shown on a terminal."""

STYLES = {"group": "bold blue", "dataset": "green", "link": "cyan", "type": "magenta", "problem": "red"}

ACCESS = {"direct": "", "h5py": "read through h5py", "none": "cannot be read here", None: "no elements"}
"""How a dataset is read; the usual way is not named."""


class Footnotes:
    """Reasons that several lines share, each with the number by which the lines refer to it."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def mark(self, dataset: DatasetEntry) -> str:
        """Return what a line says of how a dataset is read: a reason is named by its number."""
        access = ACCESS[dataset.access]
        if not dataset.reason:
            return access
        # what begins with the name of the filter ends with the way to have it
        reason, _, advice = dataset.reason.partition(": pip ")
        text = f"{access}: pip {advice} ({reason})" if advice else f"{access}: {dataset.reason}"
        self.counts[text] = self.counts.get(text, 0) + 1
        number = f"[{list(self.counts).index(text) + 1}]"
        return f"{access} {number}" if dataset.access == "none" else number

    def lines(self) -> Iterator[str]:
        """Yield each reason with the number of datasets that it holds for."""
        for number, (text, count) in enumerate(self.counts.items(), start=1):
            yield f"[{number}] {text}; {plural(count, 'dataset')}"


def show_tree(console: Console, title: str, listing: Listing) -> None:
    """Print objects and links as a tree, the reasons that its lines refer to, and totals."""
    from rich.text import Text
    from rich.tree import Tree

    footnotes = Footnotes()
    is_part = listing.start != "/"
    root = Tree(Text(printable(f"{title}: {listing.start}" if is_part else title), style="bold"))
    nodes: dict[str, Tree] = {}
    for entry in listing.entries:
        if entry.path in nodes:  # a problem of a group that could be opened
            nodes[entry.path].add(Text(printable(entry.note), style=STYLES[entry.kind]))
            continue
        if entry.path == listing.start and entry.kind == "group":
            node = root
        else:
            parent, _, name = entry.path.rpartition("/")
            node = nodes.get(parent or "/", root).add(format_entry(entry, name, footnotes))
        nodes[entry.path] = node
        for name, value in entry.attributes.items():
            if entry.dataset is None or name not in entry.dataset.scale_attributes:
                text = format_value(value, limit=MAX_VALUE if console.is_terminal else None)
                node.add(Text(printable(f"{name} = {text}"), style="dim"))
        if any(entry.hidden):
            groups, datasets, links = entry.hidden
            counts = [plural(groups, "group"), plural(datasets, "dataset"), *([plural(links, "link")] if links else [])]
            node.add(Text(f"… {', '.join(counts)}", style="dim"))
    console.print(root)
    for line in footnotes.lines():
        console.print(Text(printable(line)))
    console.print(Text(format_totals(listing)))


def format_entry(entry: Entry, name: str, footnotes: Footnotes) -> Text:
    """Return the line of an object or link."""
    from rich.text import Text

    line = Text(printable(name), style=STYLES[entry.kind])
    if entry.kind == "group":
        return line.append("/", style="default")
    text = entry.note or "committed type"
    if entry.dataset is not None:
        dtype = describe_type(entry.dataset.record.dtype)
        first = f"{describe_shape(entry.dataset)} {dtype}"
        mark = footnotes.mark(entry.dataset)
        text = ", ".join([first, *describe_storage(entry.dataset)])
        text += f"{' ' if mark.startswith('[') else ', '}{mark}" if mark else ""
    return line.append(f"  {printable(text)}", style="default")


def format_totals(listing: Listing) -> str:
    """Return the number of objects and links, and the bytes of all datasets."""
    counts = [plural(listing.counts[kind], kind) for kind in ("group", "dataset")]
    counts += [plural(listing.counts[kind], kind) for kind in ("link", "type", "problem") if listing.counts[kind]]
    sizes = f"{format_nbytes(listing.stored_nbytes)} stored of {format_nbytes(listing.nbytes)}"
    if listing.varying:  # what is stored of these may be more than all other values
        sizes = (
            f"{format_nbytes(listing.stored_nbytes)} stored; values of {format_nbytes(listing.nbytes)}, "
            f"without {plural(listing.varying, 'dataset')} of variable or unknown length"
        )
    return f"{', '.join(counts)}; {sizes}"


def to_json(listing: Listing) -> str:
    """Return the JSON object of ``--json``."""
    document = {
        "version": JSON_VERSION,
        "h5bound": __version__,
        "file": listing.file,
        "path": listing.start,
        "groups": listing.counts["group"],
        "datasets": listing.counts["dataset"],
        "links": listing.counts["link"],
        "stored_bytes": listing.stored_nbytes,
        "bytes": listing.nbytes,
        "objects": [_entry_to_dict(entry) for entry in listing.entries],
    }
    return json.dumps(document, indent=2)


def _entry_to_dict(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {"path": entry.path, "kind": entry.kind}
    if entry.note:
        fields["note"] = entry.note
    if entry.dataset is not None:
        fields |= _dataset_to_dict(entry.dataset)
    if any(entry.hidden):
        fields["hidden"] = dict(zip(("groups", "datasets", "links"), entry.hidden, strict=True))
    if entry.attributes:
        fields["attributes"] = {name: value_to_json(value) for name, value in entry.attributes.items()}
    return fields


def _dataset_to_dict(dataset: DatasetEntry) -> dict[str, Any]:
    record = dataset.record
    return {
        "shape": record.shape,
        "dimensions": dataset.dimensions,
        "type": describe_type(record.dtype),
        "layout": record.layout,
        "chunks": record.chunks,
        "filters": [{"id": item.id, "name": describe_filter(item)} for item in record.filters],
        "stored_chunks": record.stored_chunks,
        "stored_bytes": record.stored_nbytes,
        "bytes": dataset.nbytes,
        "external_files": record.external_files,
        "read": dataset.access,
        "reason": dataset.reason,
    }

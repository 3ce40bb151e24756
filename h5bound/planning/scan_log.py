"""The log of a scan: everything for the report and the store except groups and datasets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from h5bound.reports.entries import ReportNote, Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5bound.files.file_state import FileState
    from h5bound.reports.forms import Kind
    from h5bound.zarr_model.attributes import AttributesRecord


@dataclass(slots=True)
class ScanLog:
    """The log of a scan."""

    skipped: list[Skipped] = field(default_factory=list)
    """Objects and attributes that cannot be converted, or are not selected."""
    notes: list[ReportNote] = field(default_factory=list)
    """Remarks for the report."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the nodes of the store do not say of the source, by path."""
    references: dict[str, set[str]] = field(default_factory=dict)
    """Paths in the store of the objects that an object refers to, by its path; "" for what is no object."""
    paths: list[str] = field(default_factory=list)
    """Paths of all objects and links, also of those that are not selected."""
    external_states: dict[str, FileState] = field(default_factory=dict)
    """States of the files of external storage and virtual datasets before they were opened, by their real paths."""

    def skip(self, path: str, reason: str, *, unsafe: bool = False) -> None:
        """Record that an object cannot be converted."""
        self.skipped.append(Skipped(path, reason, unsafe=unsafe))

    def note(self, path: str, text: str, kind: Kind | None = None, *, to: str | None = None) -> None:
        """Record a remark on an object; what has another form in the store has a kind."""
        self.notes.append(ReportNote(path, text, kind, to=to))

    def add_attributes(self, path: str, record: AttributesRecord) -> None:
        """Record skipped attributes of an object, notes on them, and their details."""
        self.skipped += [Skipped(path, reason, attribute=name) for name, reason in record.skipped]
        self.notes += [replace(note, path=path) for note in record.notes]
        self.add_details(path, record.details)

    def add_details(self, path: str, details: Mapping[str, Any]) -> None:
        """Add details of an object."""
        if details:
            self.details[path] = {**self.details.get(path, {}), **details}

"""The kinds of things that have another form in a store than in HDF5: how they are counted, and what to do about them.

A note of a report that has one of these kinds is counted in the summary. One without a kind says something else of an
object, which is as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from h5bound.reports.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal[
    "link", "copy", "external_link", "followed_link", "type", "renamed", "dimension", "outside", "null", "array_type",
    "enumeration", "sequences", "columns", "text", "bytes", "references", "attribute",
    "reference_attribute", "nan", "reader",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of things that have another form in the store."""

    noun: str
    """What one of them is, as it is counted."""
    advice: str = ""
    """What to do about it; empty if the note itself says how to read it."""


READER: Kind = "reader"
"""The kind of a note that names a reader which this store is not for. It is no other form, and not counted."""

FORMS: Mapping[Kind, Form] = {
    "link": Form("link", "links='copy' writes a copy in its place"),
    "copy": Form("copied link", "links='keep' keeps it as a link"),
    "external_link": Form("external link"),
    "followed_link": Form("followed external link"),
    "type": Form("type", "no node stands for it; datasets have its type, h5bound.json its attributes"),
    "renamed": Form("renamed node", "open it by its name in the store"),
    "dimension": Form("dataset with other dimensions"),
    "outside": Form("virtual or external dataset"),
    "null": Form("null dataset", "h5bound.json says that it is null"),
    "array_type": Form("dataset of arrays"),
    "enumeration": Form("enumeration", "h5bound.json has their names"),
    "sequences": Form("dataset of sequences", "sequence i, in C order, is values[offsets[i]:offsets[i + 1]]"),
    "columns": Form("compound as columns", "docs/explanation/format.md joins them to rows"),
    "text": Form("compound with text"),
    "bytes": Form("dataset as bytes", "docs/explanation/format.md turns them back"),
    "references": Form("dataset of references", "open the store at these paths"),
    "attribute": Form("attribute", "h5bound.json has its exact value"),
    "reference_attribute": Form("attribute of references"),
    "nan": Form("attribute of NaN or infinity"),
}
"""In the order in which reports have them."""


def advise(reason: str, kind: Kind) -> str:
    """Return a reason with what to do about it.

    >>> advise("a group with the arrays values and offsets", "sequences")
    'a group with the arrays values and offsets; sequence i, in C order, is values[offsets[i]:offsets[i + 1]]'
    """
    return "; ".join(filter(None, [reason, FORMS[kind].advice]))


def count_forms(counts: Mapping[Kind, int]) -> list[str]:
    """Return the phrase with the numbers of things that have another form; no phrase if there are none.

    >>> count_forms({"renamed": 1, "link": 2}), count_forms({})
    (['in another form: 2 links, 1 renamed node'], [])
    """
    counted = ", ".join(plural(counts[kind], form.noun) for kind, form in FORMS.items() if counts.get(kind))
    return [f"in another form: {counted}"] if counted else []

"""What all reports have: JSON, text, and HTML."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from h5bound.reports.html import render
from h5bound.reports.html_page import render_page

if TYPE_CHECKING:
    from h5bound.reports.digest import Digest


class Report(ABC):
    """The base class of reports. Their dataclasses are made with ``repr=False``, which keeps the text form."""

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """Return the JSON object."""

    @abstractmethod
    def summary(self) -> str:
        """Return the result in one line."""

    @abstractmethod
    def digest(self) -> Digest:
        """Return the report in short, which all forms for people show."""

    def to_json(self) -> str:
        """Return the JSON text. Bytes that are not UTF-8 are lone surrogates."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_html(self) -> str:
        """Return the page that `--html` writes, which a browser opens without a network."""
        return render_page(self.digest())

    def __repr__(self) -> str:
        return str(self.digest())

    def _repr_html_(self) -> str:
        return render(self.digest())

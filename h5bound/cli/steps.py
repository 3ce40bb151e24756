"""What a command shows of its work: the steps that the logger ``h5bound`` names, and progress."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from h5bound.cli.messages import name_options
from h5bound.reports.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = (logging.INFO, logging.DEBUG)
"""Levels of ``-v`` and ``-vv``."""


class StepHandler(logging.Handler):
    """A handler that prints on stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record in one line."""
        print(printable(name_options(self.format(record))), file=sys.stderr)  # the bar's, which click would go past


@contextmanager
def show_steps(verbose: int) -> Iterator[None]:
    """Print the steps inside ``with`` on stderr: none for 0, with details from 2 on."""
    if not verbose:
        yield
        return
    logger, handler = logging.getLogger("h5bound"), StepHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(LEVELS[min(verbose, len(LEVELS)) - 1])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)

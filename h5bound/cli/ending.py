"""End a command as a signal does: Ctrl-C (SIGINT), or the end of a batch job (SIGTERM).

The first signal raises KeyboardInterrupt in the main thread, so that files are closed and the message says what is
unfinished. A second one ends the process at once, which is as safe as a kill: the marker of an unfinished store stays.
At the end the process dies of the signal itself: only then does a shell end its loop.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType, TracebackType


SHOW_CURSOR = b"\x1b[?25h"
"""Escape sequence that shows the cursor, which a progress bar hides."""


class Interruption:
    """The signals that interrupt a command, caught inside ``with``."""

    def __init__(self) -> None:
        self.signum = 0

    def __enter__(self) -> Interruption:
        # what is ignored stays ignored: a shell does that for background jobs, nohup for others
        self.before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number, handler in self.before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self.interrupt)
        return self

    def interrupt(self, signum: int, _frame: FrameType | None) -> None:
        """Note the signal, let the next one end the process at once, and raise KeyboardInterrupt."""
        self.signum = signum
        for number, handler in self.before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        if os.environ.get("TERM", "dumb") != "dumb":
            for descriptor in filter(os.isatty, (1, 2)):
                os.write(descriptor, SHOW_CURSOR)
        raise KeyboardInterrupt

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if not self.signum:
            for number, handler in self.before.items():
                signal.signal(number, handler)

    def end(self, code: int) -> None:
        """End the process with an exit code, or by the signal that interrupted the command."""
        if not self.signum:
            sys.exit(code)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        if os.name != "nt":
            os.kill(os.getpid(), self.signum)
        sys.exit(128 + self.signum)

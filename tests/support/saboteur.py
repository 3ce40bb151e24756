"""The command line in a process of its own, where operations on the files below a folder fail, kill, or do worse.

A fresh interpreter for every point of failure would take seconds. So one is started that has everything imported and
used (``python -m tests.support.saboteur``; requests and answers are lines of JSON). What may be killed runs in a
child that it forks, and all else in the interpreter itself, one run after another.
"""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Callable

How = Literal[
    "", "fail", "fail on", "kill", "kill later", "full", "kill full", "touch", "append", "replace", "truncate"
]

OPERATIONS = frozenset({"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.scandir"})
"""Audit events of what is done to files. They come before the deed: what is raised there prevents it."""


@dataclass(frozen=True)
class Sabotage:
    """What happens to a run."""

    folder: str = ""
    """below which operations count"""
    how: How = ""
    """fail on: this operation and all that follow; full: a file cannot grow beyond so many bytes, which kill full has
    kill the process in the midst of writing one"""
    at: float = 0
    """number of the operation, from 1; seconds for "kill later"; bytes for "full" and "kill full" """
    victim: str = ""
    """file that is touched, appended to, replaced or truncated"""

    @property
    def in_child(self) -> bool:
        """Whether the process does not outlive it."""
        return self.how in ("kill", "kill later", "full", "kill full")


NOTHING = Sabotage()


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    """exit code, or the negative number of a signal"""
    error: str
    """last line on stderr"""
    operations: list[list[str]]
    """event and path below the folder of each, empty if it was killed"""


class Saboteur:
    """A process that runs the command line."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.support.saboteur"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def run(self, arguments: list[str], sabotage: Sabotage = NOTHING) -> Run:
        """Give how ``h5bound`` with these arguments ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.lock:
            self.process.stdin.write(json.dumps({"arguments": arguments, **asdict(sabotage)}) + "\n")
            self.process.stdin.flush()
            return Run(**json.loads(self.process.stdout.readline()))


class Watch:
    """Counts the operations of a run, and does to it what is to be done."""

    def __init__(self) -> None:
        self.sabotage = NOTHING
        self.operations: list[tuple[str, str]] = []
        sys.addaudithook(self.see)

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        """Take notice of an audit event."""
        mine = self.sabotage
        if event not in OPERATIONS or not mine.folder:
            return
        path = find_path(event, args)
        if not path.startswith(mine.folder):
            return
        self.operations.append((event, path.removeprefix(mine.folder)))
        number = len(self.operations)
        if mine.how in DEEDS and (number == mine.at or (mine.how == "fail on" and number > mine.at)):
            DEEDS[mine.how](Path(mine.victim))

    def run(self, arguments: list[str], sabotage: Sabotage) -> Run:
        """Give how the command line ends in this process."""
        from h5bound.cli.main import run_command

        self.operations = []
        if sabotage.how == "kill later":
            threading.Timer(sabotage.at, os.kill, (os.getpid(), signal.SIGKILL)).start()
        if sabotage.how == "kill full":
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        if sabotage.how.endswith("full"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sabotage.at), resource.RLIM_INFINITY))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as errors:
            self.sabotage = sabotage
            code = run_command(arguments)
            self.sabotage = NOTHING
        lines = errors.getvalue().splitlines()
        return Run(code, lines[-1] if lines else "", list(map(list, self.operations)))

    def run_child(self, arguments: list[str], sabotage: Sabotage) -> Run:
        """Give how the command line ends in a child."""
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            run = Run(99, "", [])
            try:
                run = self.run(arguments, sabotage)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                os.write(writing, json.dumps(asdict(run)).encode())
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        return Run(**json.loads(told)) if told else Run(os.waitstatus_to_exitcode(status), "", [])


def find_path(event: str, args: tuple[Any, ...]) -> str:
    """Give the path that an operation is about, by the arguments of its audit event."""
    place = {"os.mkdir": 2, "os.remove": 1, "os.rename": 2, "os.rmdir": 1}.get(event)
    path = args[0]
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    if not isinstance(path, (str, bytes, os.PathLike)):
        return ""
    folder = args[place] if place is not None else -1
    base = Path(f"/proc/self/fd/{folder}").readlink() if isinstance(folder, int) and folder >= 0 else Path()
    return str(base / os.fsdecode(path))


def fail(_victim: Path) -> None:
    raise OSError(errno.EIO, "sabotage")


def kill(_victim: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def append(victim: Path) -> None:
    with victim.open("ab") as file:
        file.write(b"more")


def replace(victim: Path) -> None:
    other = victim.with_suffix(".other")
    other.write_bytes(victim.read_bytes())
    stat = victim.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(victim)


def truncate(victim: Path) -> None:
    os.truncate(victim, victim.stat().st_size - 1)


DEEDS: dict[str, Callable[[Path], object]] = {
    "fail": fail,
    "fail on": fail,
    "kill": kill,
    "touch": os.utime,
    "append": append,
    "replace": replace,
    "truncate": truncate,
}


def serve() -> None:
    """Run what is asked for, one request after another."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nobody else writes among the answers
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        watch.run(["demo", folder], NOTHING)  # now all is imported
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)  # zarr's loop is idle meanwhile
    for line in sys.stdin:
        request = json.loads(line)
        arguments, sabotage = request.pop("arguments"), Sabotage(**request)
        run = watch.run_child(arguments, sabotage) if sabotage.in_child else watch.run(arguments, sabotage)
        answers.write(json.dumps(asdict(run)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()

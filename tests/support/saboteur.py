"""The command line in a process of its own, where file operations in a folder fail, kill the process, or worse.

A new interpreter for every point of failure would take seconds. So one is started that has imported and used everything
(``python -m tests.support.saboteur``; requests and answers are lines of JSON). A run that may be killed happens in a
forked child; all others happen in this interpreter, one after another.
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
"""Audit events of file operations. They are raised before the operation, and an exception prevents it."""


@dataclass(frozen=True)
class Sabotage:
    """What happens to a run."""

    folder: str = ""
    """Folder whose operations count."""
    how: How = ""
    """fail on: this operation and all that follow fail. full: a file cannot grow beyond a number of bytes. kill
    full: the process is killed when a file would."""
    at: float = 0
    """Number of the operation, from 1; seconds for "kill later"; bytes for "full" and "kill full"."""
    victim: str = ""
    """File that is touched, appended to, replaced or truncated."""

    @property
    def in_child(self) -> bool:
        """Whether the process does not outlive it."""
        return self.how in ("kill", "kill later", "full", "kill full")


NOTHING = Sabotage()


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    """Exit code, or the negative number of a signal."""
    error: str
    """Last line on stderr."""
    operations: list[list[str]]
    """Event and path in the folder of each operation; empty if the process was killed."""


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
        """Run ``h5bound`` with these arguments and return how it ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.lock:
            self.process.stdin.write(json.dumps({"arguments": arguments, **asdict(sabotage)}) + "\n")
            self.process.stdin.flush()
            return Run(**json.loads(self.process.stdout.readline()))


class Watch:
    """Counts the operations of a run, and interferes with the one that was chosen."""

    def __init__(self) -> None:
        self.sabotage = NOTHING
        self.operations: list[tuple[str, str]] = []
        sys.addaudithook(self.see)

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        """Count an audit event, and interfere if it is the chosen one."""
        sabotage = self.sabotage
        if event not in OPERATIONS or not sabotage.folder:
            return
        path = find_path(event, args)
        if not path.startswith(sabotage.folder):
            return
        self.operations.append((event, path.removeprefix(sabotage.folder)))
        number = len(self.operations)
        if sabotage.how in DEEDS and (number == sabotage.at or (sabotage.how == "fail on" and number > sabotage.at)):
            DEEDS[sabotage.how](Path(sabotage.victim))

    def run(self, arguments: list[str], sabotage: Sabotage) -> Run:
        """Run the command line in this process and return how it ends."""
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
        """Run the command line in a child process and return how it ends."""
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
            answer = pipe.read()
        _, status = os.waitpid(child, 0)
        return Run(**json.loads(answer)) if answer else Run(os.waitstatus_to_exitcode(status), "", [])


def find_path(event: str, args: tuple[Any, ...]) -> str:
    """Return the path of an operation, from the arguments of its audit event."""
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
    """Serve requests, one after another."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep other output out of the answers
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        watch.run(["demo", folder], NOTHING)  # imports everything
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)  # zarr's loop is idle meanwhile
    for line in sys.stdin:
        request = json.loads(line)
        arguments, sabotage = request.pop("arguments"), Sabotage(**request)
        run = watch.run_child(arguments, sabotage) if sabotage.in_child else watch.run(arguments, sabotage)
        answers.write(json.dumps(asdict(run)) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()

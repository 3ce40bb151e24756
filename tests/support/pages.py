"""Pages of the documentation whose examples are run: in order, in one folder, with one set of names for each page.

- ``python`` blocks are executed. What a ``print(…)`` has to print is in the comment behind it, if there is one.
- ``console`` and ``sh`` blocks are run: in a ``console`` block lines after ``$`` are commands, the others their output.
  A comment with ``exit code N`` behind a command says how it ends. Commands that install packages are not run.
- An HTML comment whose first line is ``python`` or ``sh`` is run like a block, but not shown: what has to be there.
- In outputs, ``…`` stands for any text. Addresses of others are those of servers on this machine: see ``SERVERS``.
"""

from __future__ import annotations

import ast
import gc
import io
import re
import shlex
import subprocess
import sys
import tokenize
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from os import environ, pathsep
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from h5bound.cli.main import run_command
from tests.support.http_server import serve
from tests.support.servers import KEY, SECRET, serve_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[2]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *```$"
    r"|^<!-- (?P<hidden>python|sh)\n(?P<unseen>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)

RUN = {"python", "console", "sh"}
SHOWN = {"json", "toml", "yaml", "text", ""}
"""Languages of blocks that are run, and of those that are not."""

SHELL = re.compile(r"[|&;<>(){}$`]|\\$")
"""What only a shell understands."""


@dataclass(frozen=True, slots=True)
class Block:
    """An example of a page."""

    page: str
    line: int
    """Number of its first line of code, from 1."""
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page, also those that are not shown."""
    text, name = page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()
    for found in BLOCK.finditer(text):
        group = "unseen" if found["hidden"] else "code"
        indent = found["indent"] or ""
        code = "".join(line.removeprefix(indent) for line in found[group].splitlines(keepends=True))
        yield Block(
            page=name,
            line=text.count("\n", 0, found.start(group)) + 1,
            language=found["hidden"] or found["language"],
            code=code,
        )


@contextmanager
def serve_bucket(_: Path) -> Iterator[str]:
    """Run a server of S3 with the bucket of the pages; the environment tells s3fs and obstore where it is."""
    s3fs = pytest.importorskip("s3fs")
    with serve_s3() as address, pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()  # instances of another server
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket/"
        s3fs.S3FileSystem.clear_instance_cache()
        gc.collect()  # what s3fs leaves open warns here, and not in a later test


@contextmanager
def serve_here(folder: Path) -> Iterator[str]:
    """Run a web server of the folder of a page."""
    pytest.importorskip("aiohttp")
    with serve(folder) as server:
        yield f"{server.url}/"


@contextmanager
def serve_cluster(_: Path) -> Iterator[str]:
    """Run a dask cluster of two threads."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


SERVERS: Mapping[str, Callable[[Path], Any]] = {
    "s3://bucket/": serve_bucket,
    "https://example.org/": serve_here,
    "tcp://scheduler:8786": serve_cluster,
}
"""What runs in place of an address, if a page has it."""


@dataclass(slots=True)
class Run:
    """A run of a page in the folder that is current."""

    capture: pytest.CaptureFixture[str]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    """Of its Python blocks."""
    addresses: dict[str, str] = field(default_factory=dict)

    def page(self, page: Path) -> None:
        """Run all blocks."""
        blocks = [block for block in read_blocks(page) if block.language in RUN]
        with ExitStack() as stack:
            for address, open_server in SERVERS.items():
                if any(address in block.code for block in blocks):
                    self.addresses[address] = stack.enter_context(open_server(Path.cwd()))
            for block in blocks:
                self.run(block)

    def run(self, block: Block) -> None:
        """Run one block."""
        code = block.code
        for address, local in self.addresses.items():
            code = code.replace(address, local)
        if block.language == "python":
            self._run_python(block, code)
        elif "pip install" in code or "git clone" in code:
            check_extras(code)
        else:
            for command, expected in split_commands(code, prompt=block.language == "console"):
                self._run_command(block, command, expected)

    def _run_python(self, block: Block, code: str) -> None:
        comments = read_comments(code)
        for statement in ast.parse(code).body:
            module = ast.increment_lineno(ast.Module([statement], []), block.line - 1)
            last = (statement.end_lineno or 0) - block.line + 1
            self.capture.readouterr()
            exec(compile(module, str(ROOT / block.page), "exec"), self.names)
            printed = self.capture.readouterr().out
            if is_print(statement) and last in comments:
                assert matches(printed.strip(), comments[last]), f"{block}: {comments[last]!r} is not {printed!r}"

    def _run_command(self, block: Block, command: str, expected: str) -> None:
        code = int(found[1]) if (found := re.search(r"#.*exit code (\d)", command)) else 0
        self.capture.readouterr()
        if SHELL.search(command.partition(" #")[0]) or not command.startswith("h5bound "):
            shell = run_shell(command)
            done, output = shell.returncode, shell.stdout
        else:
            done = run_command(list(expand(command.removeprefix("h5bound "))))
            captured = self.capture.readouterr()
            output = captured.out + captured.err
        assert done == code, f"{block}: {command}: exit code {done}\n{output}"
        if expected:
            assert matches(output, expected), f"{block}: {command} printed\n{output}"


def read_comments(code: str) -> dict[int, str]:
    """Return the comments of Python code by their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(code).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def is_print(statement: ast.stmt) -> bool:
    """Return whether a statement is a call of ``print``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"


def matches(found: str, expected: str) -> bool:
    """Return whether an output is as expected, where ``…`` is any text and blanks at the ends of lines do not count."""
    pattern = ".*?".join(re.escape(part) for part in strip_lines(expected).split("…"))
    return re.fullmatch(pattern, strip_lines(found), re.DOTALL) is not None


def strip_lines(text: str) -> str:
    """Return a text without blanks at the ends of its lines, and of itself."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def split_commands(code: str, *, prompt: bool) -> Iterator[tuple[str, str]]:
    r"""Yield each command with the output that is shown below it; a backslash continues a line.

    >>> list(split_commands("$ a\n1\n2\n$ b\n", prompt=True))
    [('a', '1\n2\n'), ('b', '')]
    """
    if not prompt:
        yield from ((line, "") for line in code.replace("\\\n", " ").splitlines() if line and line[0] != "#")
        return
    for part in re.split(r"^\$ ", code.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def expand(command: str) -> Iterator[str]:
    """Yield the words of a command as a shell would pass them: patterns without quotes become names."""
    for word in shlex.split(command, comments=True, posix=False):
        (plain,) = shlex.split(word)
        found = sorted(map(str, Path().glob(word))) if "*" in word and word == plain else []
        yield from found or [plain]


def run_shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell that finds the scripts of this environment."""
    paths = {"PATH": f"{Path(sys.executable).parent}{pathsep}{environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", command],
        env={**environ, **paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


def check_extras(code: str) -> None:
    """Compare the extras that a command installs with those that there are."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extras in re.findall(r"(?:h5bound|\.)\[([\w,]+)\]", code):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra

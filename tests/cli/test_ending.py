"""Interruptions: what a shell and a batch system see, and what is left."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from h5bound.cli.main import run_command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals")]

OPTIONS = ("--codecs", "gzip:9", "--window", "8 MiB")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file whose conversion with `OPTIONS` takes a few seconds."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.random.default_rng(0).random((24, 250_000)), chunks=(1, 250_000))
    return tmp_path / "a.h5"


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a path exists, or the process ends."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_a_signal_ends_in_one_line_an_unfinished_store_and_a_process_that_died_of_it(
    signum: signal.Signals, source: Path, interruptible: None
) -> None:
    target = source.with_suffix(".zarr")
    command = [sys.executable, "-m", "h5bound", "convert", str(source), str(target), *OPTIONS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(target / "x", process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signum
    way = f"{target} is unfinished: run it again with --resume or --overwrite"
    assert err.splitlines()[-1] == f"h5bound: error: interrupted; {way}"
    assert "Traceback" not in err
    assert run_command(["verify", str(source), str(target)]) == 2


def test_a_second_signal_ends_at_once_and_the_store_can_be_resumed(source: Path, interruptible: None) -> None:
    target = source.with_suffix(".zarr")
    script = f"""
import signal, time
from h5bound.cli import main, messages

def explain(*_):  # what is done after the first signal takes for ever
    print("stuck", flush=True)
    time.sleep(600)

main.explain = explain
main.main(["convert", {str(source)!r}, {str(target)!r}, *{OPTIONS!r}])
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    wait_for(target / "x", process)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert run_command(["convert", str(source), str(target), *OPTIONS, "--resume", "--verify"]) == 0


def test_control_c_ends_the_loop_of_a_shell(source: Path, interruptible: None) -> None:
    import pty

    ours, theirs = pty.openpty()
    terminal = os.ttyname(theirs)
    loop = f"""
exec < {terminal} > {terminal} 2>&1  # the terminal that a session opens first is the one whose Ctrl-C it gets
for i in 1 2 3; do
  echo "begin $i"
  {sys.executable} -m h5bound convert {source} {source.parent}/$i.zarr {shlex.join(OPTIONS)}
done
echo "after the loop"
"""
    shell = subprocess.Popen(["bash", "-c", loop], start_new_session=True, text=True)
    wait_for(source.parent / "1.zarr" / "x", shell)
    os.write(ours, b"\x03")
    shell.wait(timeout=60)
    os.set_blocking(ours, False)
    written = os.read(ours, 65_536)
    os.close(theirs)
    os.close(ours)
    assert b"1.zarr is unfinished" in written
    assert b"begin 1" in written
    assert b"begin 2" not in written
    assert b"after the loop" not in written
    assert shell.returncode == -signal.SIGINT


def test_what_is_ignored_stays_ignored(source: Path) -> None:
    target = source.with_suffix(".zarr")
    command = [sys.executable, "-m", "h5bound", "convert", str(source), str(target), "--codecs", "gzip:1"]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a child inherits that
    process = subprocess.Popen(command, text=True)
    signal.signal(signal.SIGINT, before)
    wait_for(target / "x", process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_ctrl_c_while_the_command_line_is_loaded_prints_no_traceback(interruptible: None) -> None:
    script = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "h5bound.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from h5bound.__main__ import main

main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")

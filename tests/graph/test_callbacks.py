"""What is watched of a local compute: what is left after one that was interrupted."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import dask
import pytest

from h5bound import from_resource
from h5bound.graph import callbacks
from tests.support.recorder import FileReader, eventually

if TYPE_CHECKING:
    from pathlib import Path


class InterruptedReader(FileReader):
    """A reader during whose opening the user presses Ctrl-C."""

    def open(self) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.3)  # the compute has ended by then
        super().open()


def test_a_compute_that_cannot_start_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, ended = FileReader(tmp_path / "log"), list[bool]()
    array = from_resource(reader, reader.read_block, chunks=((2, 2), (3,)), dtype="int64")

    def prepare(*_: object) -> ExitStack:
        written = ExitStack()
        written.callback(ended.append, True)
        return written

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "prepare_writes", prepare)
        patch.setattr(callbacks, "narrow_reads", lambda _: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            array.compute(scheduler="sync")
    assert ended == [True]
    array.compute(scheduler="sync")
    assert reader.log.order()[-1] == "close"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX sends signals to a thread")
def test_what_opens_while_the_compute_is_interrupted_is_closed_at_once(tmp_path: Path, interruptible: None) -> None:
    reader = InterruptedReader(tmp_path / "log")
    array = from_resource(reader, reader.read_block, chunks=((2, 2), (3,)), dtype="int64")
    with pytest.raises(KeyboardInterrupt) as caught, dask.config.set(scheduler="threads", num_workers=2):
        array.compute()
    assert caught.tb is not None  # as an interactive session keeps it, with all that its frames hold
    assert eventually(lambda: reader.log.order() == ["open", "close"])

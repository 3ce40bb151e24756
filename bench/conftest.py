"""The data of all benchmarks: small when they run as tests, 419 MB when they are timed."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from h5py import h5f

from bench.peers import CODECS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pytest_benchmark.fixture import BenchmarkFixture


@dataclass(frozen=True, slots=True)
class Sample:
    """One array, in a file for each codec that is asked for."""

    folder: Path
    values: NDArray[np.float32]
    chunks: tuple[int, ...]
    """Shape of a chunk, in elements."""
    rounds: int
    """How often a case is timed."""

    def path(self, codec: str) -> Path:
        """Return the file whose dataset ``x`` holds the values, encoded with a codec."""
        path = self.folder / f"{codec}.h5"
        if not path.exists():
            options: dict[str, Any] = {"chunks": self.chunks, **CODECS[codec]}
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=self.values, **options)
        return path

    def describe(self, codec: str) -> dict[str, Any]:
        """Return size and codec, to be shown with the figures."""
        return {"codec": codec, "nbytes": self.values.nbytes, "stored_nbytes": self.path(codec).stat().st_size}


def make_values(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a field like measured temperatures, in steps of 1/64 K; deflate reduces it to about two fifths."""
    rng = np.random.default_rng(20180301)
    values = np.empty(shape, np.float32)
    y, x = np.linspace(0, 3, shape[1])[:, None], np.linspace(0, 5, shape[2])[None, :]
    for i in range(shape[0]):
        field = 280 + 15 * np.sin(x + i / 50) * np.cos(y) + rng.normal(0, 8, shape[1:])
        values[i] = np.round(field * 64) / 64
    return values


def repeat(
    benchmark: BenchmarkFixture,
    function: Callable[..., Any],
    *arguments: object,
    rounds: int,
    setup: Callable[[], None] | None = None,
) -> Any:
    """Time a function `rounds` times, after one that does not count; return its result."""
    return benchmark.pedantic(  # type: ignore[no-untyped-call]
        function, arguments, setup=setup, rounds=rounds, warmup_rounds=rounds > 1
    )


@pytest.fixture(scope="session")
def timed(pytestconfig: pytest.Config) -> bool:
    """Return whether the cases are timed, at full size."""
    return bool(pytestconfig.getoption("benchmark_enable") or not pytestconfig.getoption("benchmark_disable"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory, *, timed: bool) -> Sample:
    """Return 419 MB in 160 chunks of 2.6 MB when timed, else 655 kB in 16 chunks."""
    shape, chunks = ((400, 512, 512), (10, 256, 256)) if timed else ((40, 64, 64), (10, 32, 32))
    return Sample(tmp_path_factory.mktemp("sample"), make_values(shape), chunks, rounds=5 if timed else 1)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Fail a benchmark that leaves an HDF5 file open."""
    yield
    if h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE):
        gc.collect()
    assert h5f.get_obj_count(h5f.OBJ_ALL, h5f.OBJ_FILE) == 0, "the benchmark left HDF5 files open"

"""The data of the benchmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bench.peers import CODECS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Sample:
    """One array, in a file for each codec that is asked for."""

    folder: Path
    values: NDArray[np.float32]
    chunks: Any
    """Shape of a chunk, in elements; True for what h5py chooses."""

    @property
    def total(self) -> float:
        """The sum of the values."""
        return float(self.values.sum(dtype=np.float64))

    def path(self, codec: str) -> Path:
        """Return the file whose dataset ``x`` holds the values, encoded with a codec."""
        path = self.folder / f"{codec}.h5"
        if not path.exists():
            options: dict[str, Any] = {"chunks": self.chunks, **CODECS[codec]}
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=self.values, **options)
        return path


def make_sample(folder: Path, *, quick: bool) -> Sample:
    """Return 419 MB in 160 chunks of 2.6 MB, or 655 kB in 16 chunks."""
    shape, chunks = ((40, 64, 64), (10, 32, 32)) if quick else ((400, 512, 512), (10, 256, 256))
    return Sample(folder, make_values(shape), chunks)


def make_values(shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a field like measured temperatures, in steps of 1/64 K; deflate reduces it to about two fifths."""
    rng = np.random.default_rng(20180301)
    values = np.empty(shape, np.float32)
    y, x = np.linspace(0, 3, shape[1])[:, None], np.linspace(0, 5, shape[2])[None, :]
    for i in range(shape[0]):
        field = 280 + 15 * np.sin(x + i / 50) * np.cos(y) + rng.normal(0, 8, shape[1:])
        values[i] = np.round(field * 64) / 64
    return values

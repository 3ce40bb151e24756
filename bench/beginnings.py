"""The first second: what importing h5bound costs, and the first sum of a process, in whole processes.

The sums are of 60 MB, contiguous and in chunks of 400 kB with gzip and shuffle, and include all imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from bench.turns import Ratios, Turns, Way

IMPORT = "import dask.array; from time import perf_counter; start = perf_counter(); {}; print(perf_counter() - start)"
"""Prints the seconds of an import after that of dask."""

IMPORTS = {"h5bound": "import h5bound; h5bound.from_hdf5", "h5py": "import h5py"}

SUMS = {
    "h5bound": "import h5bound; array = h5bound.from_hdf5({path!r}, 'x')",
    "from_array": "import h5py, dask.array; array = dask.array.from_array(h5py.File({path!r})['x'])",
}

VERSIONS = {"h5bound": ["-m", "h5bound", "--version"], "python": ["-c", "pass"]}

FILES: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "gzip": {"compression": "gzip", "shuffle": True, "chunks": (50, 1000)},
}


def run(*arguments: str) -> tuple[float, str]:
    """Return the seconds of a whole Python process, and what it prints."""
    start = perf_counter()
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # where it is set, h5bound would be compiled each time
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment)
    return perf_counter() - start, done.stdout


def time_import(statement: str) -> float:
    """Return the seconds of an import in a fresh process."""
    return float(run("-c", IMPORT.format(statement))[1])


def time_version(arguments: list[str]) -> float:
    """Return the seconds of a process."""
    return run(*arguments)[0]


def time_first_sum(opening: str, path: Path, total: float) -> float:
    """Return the seconds of a process that sums once."""
    seconds, printed = run("-c", f"{opening.format(path=str(path))}; print(float(array.sum().compute()))")
    assert float(printed) == total
    return seconds


def measure_beginnings(turns: Turns) -> Ratios:
    """Measure imports beside h5py's, ``h5bound --version`` beside Python, and first sums beside `da.from_array`."""
    values = (np.arange(75_000 if turns.quick else 7_500_000) // 3).reshape(-1, 1000)
    imports: dict[str, Way] = {name: partial(time_import, statement) for name, statement in IMPORTS.items()}
    versions: dict[str, Way] = {name: partial(time_version, arguments) for name, arguments in VERSIONS.items()}
    ratios = {
        "import: h5bound": turns.compare(imports, "h5py")["h5bound"],
        "version: h5bound": turns.compare(versions, "python")["h5bound"],
    }
    for name, options in list(FILES.items())[: 1 if turns.quick else None]:
        path = turns.folder / f"first-{name}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=values.astype("f8"), **options)
        total = float(values.sum())
        sums: dict[str, Way] = {
            reader: partial(time_first_sum, opening, path, total) for reader, opening in SUMS.items()
        }
        ratios[f"first sum, {name}: h5bound"] = turns.compare(sums, "from_array")["h5bound"]
    return ratios

"""Conversions in windows of several sizes, from a local disk and as from a file system with 5 ms for each open.

Ratios are of the seconds in windows that h5bound chooses to those in windows of a given size.
"""

from __future__ import annotations

import shutil
from functools import partial
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from bench.memory import write_file
from bench.samples import make_sample

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.turns import Ratios, Turns

OPEN_SECONDS = 0.005
"""How long an open of the slow file system takes."""

SIZES = (8, 16, 32, 64, 128, 1024)
"""Windows in MiB."""

LARGE_NBYTES = 1_600_000_000
"""Bytes of the values of the larger file."""


def convert_in_windows(source: Path, target: Path, codecs: str, *, size: int, delay: float) -> float:
    """Return the seconds of a conversion in windows of `size` MiB, 0 for those that h5bound chooses."""
    from h5bound import convert
    from h5bound.execution.windows import choose_window
    from h5bound.files.open import open_file

    def open_slowly(*arguments: Any, **options: Any) -> Any:
        sleep(delay)
        return open_file(*arguments, **options)

    def choose(window: int, sizes: Sequence[int], threads: int) -> int:
        return size << 20 if size else choose_window(window, sizes, threads)

    start = perf_counter()
    with patch("h5bound.files.local.open_file", open_slowly), patch("h5bound.execution.run.choose_window", choose):
        report = convert(source, target, codecs=codecs)
    seconds = perf_counter() - start
    assert report.complete
    shutil.rmtree(target)
    return seconds


def measure_windows(turns: Turns) -> Ratios:
    """Measure windows of several sizes in units of those that are chosen."""
    sample = make_sample(turns.folder, quick=turns.quick)
    source, large = sample.path("gzip"), turns.folder / "large.h5"
    write_file(large, 10**7 if turns.quick else LARGE_NBYTES)
    ratios: Ratios = {}
    for name, path, codecs, delay in (
        ("kept, 0.4 GB", source, "keep", 0.0),
        ("kept, 1.6 GB", large, "keep", 0.0),
        ("zstd:3, 0.4 GB", source, "zstd:3", 0.0),
        ("kept, 0.4 GB, slow open", source, "keep", OPEN_SECONDS),
        ("kept, 1.6 GB, slow open", large, "keep", OPEN_SECONDS),
    ):
        convert = partial(convert_in_windows, path, turns.folder / "target.zarr", codecs, delay=delay)
        ways = {f"{size} MiB": partial(convert, size=size) for size in (0, *SIZES)}
        ratios |= {f"{name}: {size}": ratio for size, ratio in turns.compare(ways, "0 MiB").items()}
    large.unlink()
    return ratios

"""Conversions to other chunks, beside ``from_hdf5(…).rechunk(…).to_zarr(…)``: CPU time, and peak memory.

Every file has gzip and shuffle, and repeats some chunks. Both encode with Zstandard, level 3. CPU time is user and
system time, memory the peak above an idle process. As a script, ``python -m bench.rechunking``, it prints a table of
all cases, with how often a stored chunk is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bench.memory import peak_nbytes
from bench.turns import Turns, call_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.turns import Ratios

    Shape = tuple[int, ...]

MIB = 2**20
REFERENCE = "rechunk and to_zarr"


@dataclass(frozen=True, slots=True)
class Case:
    """A file, and the chunks that it is converted to."""

    name: str
    shape: Shape
    stored: Shape
    asked: Shape
    dtype: str
    windows: tuple[int, ...]
    """Bytes."""

    def write(self, folder: Path, *, quick: bool) -> Path:
        """Write the file unless it is there; the first axes are cut if it is to be small."""
        shape = tuple(min(length, 64 if quick else length) for length in self.shape)
        path = folder / f"{'-'.join(map(str, self.stored))}.h5"
        if path.exists():
            return path
        rng = np.random.default_rng(20180301)
        with h5py.File(path, "w") as file:
            stored = tuple(map(min, self.stored, shape))
            dataset = file.create_dataset(
                "x", shape, self.dtype, chunks=stored, compression="gzip", compression_opts=1, shuffle=True
            )
            kept = []
            for number, index in enumerate(np.ndindex(*(-(-n // c) for n, c in zip(shape, stored, strict=True)))):
                start = tuple(i * c for i, c in zip(index, stored, strict=True))
                if number < 8:
                    values = np.round(rng.normal(280, 8, stored) * 64).astype(self.dtype)
                    with h5py.File(f"{path}.chunk", "w", driver="core", backing_store=False) as other:
                        one = other.create_dataset(
                            "x", data=values, chunks=stored, compression="gzip", compression_opts=1, shuffle=True
                        )
                        kept.append(one.id.read_direct_chunk((0,) * len(stored)))
                mask, data = kept[number * 7 % len(kept)]
                dataset.id.write_direct_chunk(start, data, mask)
        return path


IMAGES: dict[str, Any] = {
    "shape": (64, 512, 512),
    "stored": (1, 512, 512),
    "dtype": "<i2",
    "windows": (4 * MIB, 64 * MIB, 1024 * MIB),
}
SERIES, MAPS = (1024, 1, 8, 8), (1, 1, 256, 512)
FIELD: dict[str, Any] = {"shape": (1024, 4, 256, 512), "dtype": "<f4", "windows": (64 * MIB,)}
CASES = (
    *(
        Case(f"images to {asked}", asked=asked, **IMAGES)
        for asked in ((8, 512, 512), (1, 128, 128), (64, 64, 64), (64, 32, 32))
    ),
    Case("series to maps, 2 GiB", stored=SERIES, asked=MAPS, **FIELD),
    Case("maps to series, 2 GiB", stored=MAPS, asked=SERIES, **FIELD),
    Case("(2000, 1) to (67186, 10)", (67_186, 1000), (2000, 1), (67_186, 10), "<f4", (64 * MIB,)),
    Case("(67186, 10) to (2000, 1)", (67_186, 1000), (67_186, 10), (2000, 1), "<f4", (64 * MIB,)),
)


def convert(source: Path, asked: Shape, window: int) -> float:
    """Convert, check some values, and return the seconds of CPU time."""
    from h5bound import convert as convert_file

    with TemporaryDirectory(dir=source.parent) as folder:
        seconds = process_time()
        convert_file(source, f"{folder}/a.zarr", chunks=asked, codecs="zstd:3", window=window)
        seconds = process_time() - seconds
        check(source, Path(folder, "a.zarr", "x"))
    return seconds


def rechunk(source: Path, asked: Shape, window: int) -> float:
    """Do the same with dask's ``rechunk``."""
    from h5bound import from_hdf5

    with TemporaryDirectory(dir=source.parent) as folder:
        seconds = process_time()
        array = from_hdf5(source, "x", window=window)
        array.rechunk(tuple(map(min, asked, array.shape))).to_zarr(f"{folder}/x")
        seconds = process_time() - seconds
        check(source, Path(folder, "x"))
    return seconds


def repeat(way: Callable[..., float], source: Path, asked: Shape, window: int) -> float:
    """Return the least seconds of three times in this process: the first includes imports."""
    return min(way(source, asked, window) for _ in range(3))


def check(source: Path, target: Path) -> None:
    """Compare the values along one line through the middle for each axis."""
    import zarr

    store: Any = zarr.open_array(target, mode="r")
    with h5py.File(source) as file:
        for axis in range(store.ndim):
            line = tuple(slice(None) if i == axis else n // 2 for i, n in enumerate(store.shape))
            np.testing.assert_array_equal(store[line], file["x"][line])


def measure_peak(source: Path, asked: Shape, window: int) -> int:
    """Convert in this process, and return the peak memory above that of the imported modules."""
    import zarr.codecs.numcodecs  # noqa: F401 - part of the idle process

    from h5bound._convert import convert as convert_file

    idle = peak_nbytes()
    with TemporaryDirectory(dir=source.parent) as folder:
        convert_file(source, f"{folder}/a.zarr", chunks=asked, codecs="zstd:3", window=window)
    return peak_nbytes() - idle


def count_decodes(source: Path, asked: Shape, window: int) -> float:
    """Convert in this process; return how often a stored chunk is decoded, on average."""
    from h5bound import convert as convert_file
    from h5bound.codecs import chunk_decoder

    count = 0
    decode, decode_all = chunk_decoder.Decoder.decode, chunk_decoder.Decoder.decode_all

    def count_one(self: Any, *arguments: Any) -> Any:
        nonlocal count
        count += 1
        return decode(self, *arguments)

    def count_all(self: Any, encoded: Any, *arguments: Any) -> Any:
        nonlocal count
        count += len(encoded)
        return decode_all(self, encoded, *arguments)

    vars(chunk_decoder)["Decoder"].decode, vars(chunk_decoder)["Decoder"].decode_all = count_one, count_all
    with TemporaryDirectory(dir=source.parent) as folder:
        convert_file(source, f"{folder}/a.zarr", chunks=asked, codecs="zstd:3", window=window)
    with h5py.File(source) as file:
        return count / int(file["x"].id.get_num_chunks())


def measure_rechunking(turns: Turns) -> Ratios:
    """Measure how much less CPU time each conversion of the images takes than dask's."""
    ratios: Ratios = {}
    for case in CASES[3:4] if turns.quick else CASES[:4]:
        source = case.write(turns.folder, quick=turns.quick)
        for window in case.windows[:1] if turns.quick else case.windows:
            own, dask = (partial(way, source, case.asked, window) for way in (convert, rechunk))
            found = turns.compare({"h5bound": own, REFERENCE: dask}, REFERENCE)
            ratios[f"{case.name}, windows of {window // MIB} MiB"] = found["h5bound"]
    return ratios


def main() -> None:
    """Print a table."""
    print("| case | window, MiB | CPU, s | dask, s | decodes | peak, MiB |\n|---|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for case in CASES:
            source = case.write(Path(folder), quick=False)
            for window in case.windows:
                own, dask = (call_alone(repeat, way, source, case.asked, window) for way in (convert, rechunk))
                decodes = call_alone(count_decodes, source, case.asked, window)
                peak = call_alone(measure_peak, source, case.asked, window) / MIB
                print(
                    f"| {case.name} | {window // MIB} | {own:.2f} | {dask:.2f} | {decodes:.2f} | {peak:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

"""Measure, compare with the last record, and record: ``python -m bench.record [NAMES…] [--quick] [--compare]``.

Every measurement returns ratios, of which higher is better. A record in ``bench/results/`` holds them with the machine
and the versions. Measuring some of the names adds to the record of the day. With ``--compare`` nothing is written; with
``--quick`` files are small and figures mean nothing, so that nothing is compared or written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench import chart, records
from bench.records import read_last
from bench.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.records import Record
    from bench.turns import Ratios

MEASUREMENTS = {
    "read": "bench.reads:measure_reads",
    "auto blocks": "bench.reads:measure_auto_blocks",
    "default blocks": "bench.defaults:measure_defaults",
    "block sizes": "bench.defaults:measure_block_sizes",
    "slices": "bench.reads:measure_slices",
    "parts": "bench.parts:measure_parts",
    "small chunks": "bench.reads:measure_small_chunks",
    "checks": "bench.reads:measure_checks",
    "graph": "bench.graphs:measure_graphs",
    "cores": "bench.cores:measure_cores",
    "bandwidth": "bench.bandwidth:measure_bandwidth",
    "views": "bench.views:measure_views",
    "convert": "bench.conversions:measure_conversions",
    "limits": "bench.limits:measure_limits",
    "rechunk": "bench.rechunking:measure_rechunking",
    "windows": "bench.windows:measure_windows",
    "small files": "bench.small_files:measure_small_files",
    "many files": "bench.combining:measure_combining",
    "memory": "bench.memory:measure_memory",
    "live blocks": "bench.live_blocks:measure_live",
    "beginnings": "bench.beginnings:measure_beginnings",
}
"""Functions of `Turns` that return ratios. What is measured in a process is imported in that process only."""

STUDIES = frozenset({"block sizes", "windows", "cores", "bandwidth"})
"""Measurements that a default rests on, or a page. They are made only where they are named."""

OTHERS = ("xarray", "recipe", "virtualizarr", "kerchunk", "pyfive", "hidefix", "bare loop", "from_array", "copies")
"""Names, or the first words after a colon, of what is not h5bound, and does not get worse by its changes."""

TOLERANCE = 0.15
"""How much worse a ratio may get, as a part of it, before it is mentioned."""

PACKAGES = ("h5bound", "dask", "distributed", "numpy", "h5py", "zarr", "numcodecs", "deflate", "xarray", "h5netcdf")


def measure(name: str, folder: Path, *, quick: bool) -> Ratios:
    """Return the ratios of a measurement; its files are for the others too."""
    module, _, function = MEASUREMENTS[name].partition(":")
    with Turns(folder, quick=quick) as turns:
        ratios: Ratios = getattr(import_module(module), function)(turns)
    return {key: float(f"{ratio:.3g}") for key, ratio in ratios.items()}


def describe_machine() -> dict[str, str | int]:
    """Return what of a machine makes a difference, without its name."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return {
        "cpus": os.cpu_count() or 1,
        "model": model or platform.machine(),
        "system": platform.system(),
        "memory, GiB": round(gibibytes),
    }


def list_versions() -> dict[str, str]:
    """Return the versions of Python, HDF5 and the packages."""
    from h5py import version

    found = {package: metadata.version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "hdf5": version.hdf5_version, **found}


def find_worse(last: Ratios, now: Ratios) -> Iterator[str]:
    """Yield a line for each ratio of h5bound that became worse.

    >>> list(find_worse({"gzip: h5bound": 2.0, "gzip: xarray": 0.5}, {"gzip: h5bound": 1.6, "gzip: xarray": 0.3}))
    ['gzip: h5bound: 1.6, was 2 (20 % worse)']
    """
    for name in now:
        loss = 1 - now[name] / last.get(name, now[name])
        if loss > TOLERANCE and not name.rpartition(": ")[2].startswith(OTHERS):
            yield f"{name}: {now[name]:g}, was {last[name]:g} ({loss:.0%} worse)".replace("%", " %")


def write_record(ratios: dict[str, Ratios]) -> Path:
    """Write the record of today, with what it holds of other measurements; return its path."""
    date = datetime.now(UTC).date().isoformat()
    path = records.RESULTS / f"{date}.json"
    earlier = json.loads(path.read_text(encoding="utf-8"))["ratios"] if path.exists() else {}
    found = {name: ratios.get(name, earlier.get(name)) for name in MEASUREMENTS if name in {*ratios, *earlier}}
    names = [] if found.keys() == MEASUREMENTS.keys() - STUDIES else found
    record: Record = {
        "date": date,
        "command": shlex.join(["python", "-m", "bench.record", *names]),
        "machine": describe_machine(),
        "versions": list_versions(),
        "ratios": found,
    }
    records.RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def main(arguments: Iterable[str] | None = None) -> None:
    """Read the command line, measure, and print what was measured and what became worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure; without, all but {', '.join(sorted(STUDIES))}: {', '.join(MEASUREMENTS)}",
    )
    parser.add_argument("--quick", action="store_true", help="small files, once; nothing is written")
    parser.add_argument("--compare", action="store_true", help="only compare with the last record; nothing is written")
    options = parser.parse_args(arguments if arguments is None else list(arguments))
    unknown = [name for name in options.names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"no measurement is called {', '.join(unknown)}")
    ratios: dict[str, Ratios] = {}
    worse: list[str] = []
    with TemporaryDirectory() as folder:
        for name in options.names or [name for name in MEASUREMENTS if name not in STUDIES]:
            ratios[name] = measure(name, Path(folder), quick=options.quick)
            worse += [f"{name}, {line}" for line in find_worse(read_last(name)["ratios"][name], ratios[name])]
            print(f"\n{name}", *(f"{key:40} {ratio:8.3g}" for key, ratio in ratios[name].items()), sep="\n", flush=True)
    if not options.quick:
        print(
            "\nworse than in the last record:\n" + "\n".join(worse)
            if worse
            else "\nnothing is worse than in the last record"
        )
    if not options.quick and not options.compare:
        print(write_record(ratios).name)
        chart.write_all()


if __name__ == "__main__":
    main(sys.argv[1:])

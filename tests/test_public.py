"""What is public, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import h5bound

HEAVY = ("click", "deflate", "distributed", "hdf5plugin", "numcodecs", "rich", "zarr")


def test_the_public_names_are_these() -> None:
    assert h5bound.__all__ == ["H5BoundError", "H5Store", "convert", "from_hdf5", "from_resource", "verify"]


def test_the_functions_stay_functions_whatever_is_imported() -> None:
    functions = h5bound.convert, h5bound.verify
    for module in pkgutil.walk_packages(h5bound.__path__, "h5bound."):
        if not module.name.endswith("expression"):  # only under array.query-planning
            importlib.import_module(module.name)
    assert (h5bound.convert, h5bound.verify) == functions
    assert all(map(inspect.isfunction, functions))
    for name in ("convert", "verify"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"h5bound.{name}")


def test_every_room_says_what_it_is_for() -> None:
    rooms = [module.name for module in pkgutil.iter_modules(h5bound.__path__, "h5bound.") if module.ispkg]
    assert rooms
    assert all(importlib.import_module(room).__doc__ for room in rooms)


def test_importing_loads_nothing_that_is_not_needed() -> None:
    script = f"import h5bound, sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_thing_says_what_it_gives() -> None:
    for name in h5bound.__all__:
        assert getattr(h5bound, name).__doc__


def test_the_version_stands_in_one_place() -> None:
    root = Path(__file__).parents[1]
    found = [path for path in root.glob("*.toml") if f'"{h5bound.__version__}"' in path.read_text()]
    assert found == []

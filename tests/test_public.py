"""What is public, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import h5bound

HEAVY = ("click", "dask", "deflate", "distributed", "h5py", "hdf5plugin", "numcodecs", "numpy", "rich", "zarr")


def run(script: str, **environment: str) -> list[str]:
    """Return what a script prints in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return done.stdout.split()


def test_the_public_names_are_the_functions_the_store_and_all_errors() -> None:
    values = vars(h5bound.errors).items()
    tree = [name for name, value in values if inspect.isclass(value) and issubclass(value, Exception)]
    assert sorted(h5bound.__all__) == sorted(
        [
            *tree,
            "H5Store",
            "ZarrStore",
            "check",
            "combine",
            "convert",
            "from_hdf5",
            "from_resource",
            "references",
            "verify",
        ]
    ), "each error is public"
    assert h5bound.__all__ == sorted(h5bound.__all__)


def test_only_what_is_public_is_shown() -> None:
    script = "import h5bound, h5bound.array, h5bound.stores.resolve; h5bound.convert; print(*dir(h5bound))"
    assert sorted(run(script)) == sorted([*h5bound.__all__, "__version__"])
    assert run("from h5bound import *; print(convert.__module__, H5Store.__name__, OptionError.__module__)") == [
        "h5bound._convert",
        "H5Store",
        "h5bound.errors",
    ]
    with pytest.raises(AttributeError, match="module 'h5bound' has no attribute 'nosuch'"):
        h5bound.nosuch  # type: ignore[attr-defined]  # noqa: B018


def test_dask_knows_the_settings_of_h5bound() -> None:
    show = "print(dask.config.get('h5bound.window'))"
    assert run(f"import dask, h5bound; {show}") == ["1", "GiB"]
    assert run(f"import h5bound, dask; h5bound.from_hdf5; {show}") == ["1", "GiB"]
    assert run(f"import dask, h5bound; {show}", DASK_H5BOUND__WINDOW="64 MiB") == ["64", "MiB"]
    script = "from h5bound.graph.windows import window_nbytes; print(window_nbytes(None))"
    assert run(script) == [str(2**30)]
    assert run(script, DASK_H5BOUND__WINDOW="64 MiB") == [str(2**26)]


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
    assert run(script) == []


LOADED = """
import sys, dask.array, h5py
dask.array.ones(2).sum().compute(scheduler="sync")  # what dask loads by itself
before = set(sys.modules)
import h5bound
array = h5bound.from_hdf5(sys.argv[1], "x")
made = set(sys.modules)
array.sum().compute(scheduler="sync")
print(*sorted({name.partition(".")[0] for name in sys.modules.keys() - before} - set(sys.stdlib_module_names)))
print(*sorted(name for name in made - before if name.startswith("h5bound.")))
"""


@pytest.mark.parametrize(("options", "libraries"), [({}, []), ({"compression": "gzip", "shuffle": True}, ["deflate"])])
def test_an_array_loads_only_what_its_file_needs(options: dict[str, Any], libraries: list[str], tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(100), chunks=(10,), **options)
    command = [sys.executable, "-c", LOADED, str(tmp_path / "a.h5")]
    loaded, made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {*loaded.split()} - {"dask", "h5py", "numpy"} == {"h5bound", *libraries}
    used_to_read = {"h5bound.codecs.filters", "h5bound.graph.callbacks", "h5bound.reader.chunked"}
    assert not used_to_read & {*made.split()}


def test_every_public_thing_says_what_it_gives() -> None:
    for name in h5bound.__all__:
        assert getattr(h5bound, name).__doc__


def test_the_version_stands_in_one_place() -> None:
    root = Path(__file__).parents[1]
    found = [path for path in root.glob("*.toml") if f'"{h5bound.__version__}"' in path.read_text()]
    assert found == []

"""What each library makes of awkward HDF5 files: ``python -m bench.compared [CASES…] [--write]``.

Every library reads every case in a process of its own, with a time limit. What it has found is compared with what h5py
reads, bit for bit, in this process. ``--write`` puts the tables into ``docs/compared.md``.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from bench.awkward_cases import DATA_CASES, REFUSED
from bench.awkward_names import NAME_CASES
from bench.awkward_series import SERIES
from bench.converters import CONVERTERS
from bench.same_values import has_other_form, is_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from multiprocessing.connection import Connection

    from bench.awkward_cases import Case

PAGE = Path(__file__).parents[1] / "docs" / "compared.md"

ALL_CASES: Mapping[str, Mapping[str, Case]] = {**DATA_CASES, **NAME_CASES, "Series of files": SERIES}

SECONDS = 60.0
"""A process that takes longer is ended."""

GENERIC = r"Zarr version 3 spec|Zarr V3 spec|no stable|not have a Zarr V3|onsolidated metadata|object_codec|end_write"
"""Warnings that any store brings, and that tell nothing of the data."""

VERDICTS = {
    "equal": "what h5py reads, bit for bit",
    "other form": "all of it is there, as another type or under another name",
    "refused": "an error",
    "told": "missing or different, with a warning, a log message or an entry of the report",
    "missing": "left out in silence",
    "wrong": "other values, in silence",
    "ended": "the process died, or took more than a minute",
}
"""What may come of a case, from the best to the worst."""


@dataclass(slots=True)
class Outcome:
    """What a library made of a case."""

    found: dict[str, Any] = field(default_factory=dict)
    """Values by name, an exception's text where one could not be had; absent names were not there."""
    renamed: bool = False
    """Whether a name was found under another one."""
    told: list[str] = field(default_factory=list)
    """Warnings and log messages."""
    error: str = ""
    """Why there is nothing at all."""


@dataclass(frozen=True, slots=True)
class Job:
    """One case for one library."""

    section: str
    case: str
    peer: str
    paths: list[Path]
    folder: Path
    """Where it may write."""
    names: list[str]
    """What is looked for."""


class AbsentError(Exception):
    """There is nothing of a name."""


class Failure(str):
    """The message of an error that one name gave."""

    __slots__ = ()


def describe(error: BaseException) -> str:
    """Return an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def run_case(job: Job) -> Outcome:
    """Return what a library finds, in this process."""
    case, outcome = ALL_CASES[job.section][job.case], Outcome()
    dask.config.set({"h5bound.cache": False})
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: outcome.told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            store = CONVERTERS[job.peer].open(job.paths, job.folder, case)
            if case.after is not None:
                case.after(job.paths[0])
            find = find_joined if case.series else find_all
            find(store, job.names, outcome)
        except BaseException as error:  # noqa: BLE001 (any error is a result, a panic of Rust too)
            outcome.error = describe(error)
        finally:
            logging.getLogger().removeHandler(handler)
    messages = [str(one.message) for one in caught if not issubclass(one.category, DeprecationWarning | FutureWarning)]
    outcome.told = [text for text in (*outcome.told, *messages) if not re.search(GENERIC, text)]
    return outcome


def find_joined(store: Any, names: Iterable[str], outcome: Outcome) -> None:
    """Read variables as xarray decodes them, since files may be packed in several ways."""
    import xarray as xr

    with xr.open_dataset(store, engine="zarr", chunks=None) as dataset:
        outcome.found.update({name: dataset[name].values for name in names if name in dataset})


def find_all(store: Any, names: Iterable[str], outcome: Outcome) -> None:
    """Read datasets, and attributes, as they are stored."""
    import zarr

    is_zarr = isinstance(store, Path | zarr.abc.store.Store)
    root = zarr.open_group(store, mode="r") if is_zarr else store
    for name in names:
        try:
            outcome.found[name] = find_in_zarr(root, name, outcome) if is_zarr else find_in_file(root, name)
        except AbsentError:
            # A reader of HDF5 is asked for a name, and says no; a store was written without it.
            if not is_zarr:
                outcome.found[name] = Failure("no such name")
        except BaseException as error:  # noqa: BLE001 (a panic of Rust is no Exception)
            outcome.found[name] = Failure(describe(error))


def find_in_file(root: Any, name: str) -> Any:
    """Return the values of a dataset or an attribute from a reader of HDF5."""
    path, _, attribute = name.partition("@")
    node = look_up(root, path)
    if node is None or (attribute and attribute not in node.attrs):
        return find_member(partial(look_up, root), path)
    if attribute:
        return resolve(root, node.attrs[attribute])
    values = node[...] if hasattr(node, "dtype") else node[tuple(map(slice, node.shape()))]
    if np.asarray(values).dtype != object or any(isinstance(one, str | bytes) for one in np.ravel(values)):
        return values
    resolved = [resolve(root, one) for one in values]
    return np.array(resolved, object) if isinstance(resolved[0], str) else [np.asarray(one).tolist() for one in values]


def resolve(root: Any, value: Any) -> Any:
    """Return what an object stands for: the path that a reference leads to, None for a null dataspace."""
    kind = type(value).__name__
    if kind == "Reference":
        return root[value].name if value else ""
    return None if kind == "Empty" else value


def find_member(get: Callable[[str], Any], path: str) -> Any:
    """Return the values of a member of a compound, whose name follows that of the dataset."""
    names = path.split("/")
    for count in range(len(names) - 1, 0, -1):
        node = get("/".join(names[:count]))
        if hasattr(node, "dtype"):
            return reduce(lambda values, member: values[member], names[count:], node[...])
    raise AbsentError


def look_up(root: Any, path: str) -> Any:
    """Return an object of a file or a store, or None."""
    try:
        return root[path]
    except (KeyError, ValueError):
        return None


def find_in_zarr(root: Any, name: str, outcome: Outcome) -> Any:
    """Return the values of a dataset or an attribute from a store."""
    import zarr

    from h5bound.zarr_model.node_names import escape

    path, _, attribute = name.partition("@")
    node = look_up(root, path)
    if node is None:
        node = look_up(root, escape(path.encode()))
        outcome.renamed |= node is not None
    if node is None or (attribute and attribute not in node.attrs):
        return find_member(partial(look_up, root), path)
    if attribute:
        return node.attrs[attribute]
    if isinstance(node, zarr.Array):
        return node[...]
    return [part.tolist() for part in np.split(node["values"][...], node["offsets"][1:-1])]


def run_alone(job: Job) -> Outcome | None:
    """Return what a library finds in a process of its own; None if the process died or took too long."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["bench.awkward_series", "h5bound", "dask.array", "xarray", "zarr"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_outcome, args=(job, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(SECONDS) else None
    except EOFError:
        process.join()
        if process.exitcode == 1:
            raise RuntimeError(f"this script failed, not {job.peer}: {job.case}") from None
        return None
    finally:
        process.kill()
        process.join()


def send_outcome(job: Job, sender: Connection) -> None:
    """Run a case and send what came of it."""
    printed = os.open(job.folder / "printed", os.O_CREAT | os.O_WRONLY)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sender.send(run_case(job))


def classify(expected: Mapping[str, Any], outcome: Outcome | None) -> tuple[str, str]:
    """Return the verdict on what a library has found, and what it rests on."""
    if outcome is None:
        return "ended", "the process died, or took too long"
    if outcome.error:
        return "refused", outcome.error
    verdicts = [compare(name, value, outcome) for name, value in expected.items()]
    return max(verdicts, key=lambda one: list(VERDICTS).index(one[0]))


def compare(name: str, expected: Any, outcome: Outcome) -> tuple[str, str]:
    """Return the verdict on one value."""
    told = f" ({outcome.told[0][:200]})" if outcome.told else ""
    if name not in outcome.found:
        return "told" if told else "missing", f"no {name}{told}"
    found = outcome.found[name]
    if isinstance(found, Failure):
        return "refused", f"{name}: {found}"
    if isinstance(expected, str) and expected == REFUSED:
        return "told" if told else "wrong", f"{name}: no error, but {show(found)}{told}"
    if is_equal(found, expected):
        return "other form" if outcome.renamed else "equal", ""
    if has_other_form(found, expected):
        return "other form", f"{name}: {show(found)}"
    return "told" if told else "wrong", f"{name}: {show_difference(found, expected)}{told}"


def show(value: Any, start: int = 0) -> str:
    """Return a value in a few words, some of its elements from a place on."""
    text = str(value)
    if isinstance(value, np.ndarray) and value.ndim:
        more = ", …" if value.size > start + 3 else ""
        text = f"{value.dtype} {', '.join(map(str, value.ravel()[start : start + 3].tolist()))}{more}"
    return text[:80].encode("utf-8", "backslashreplace").decode()


def show_difference(found: Any, expected: Any) -> str:
    """Return how values differ, from the first element that does."""
    start = 0
    if isinstance(expected, np.ndarray) and np.shape(found) == expected.shape and expected.ndim:
        pairs = zip(np.ravel(found).tolist(), expected.ravel().tolist(), strict=True)
        start = next((place for place, (one, other) in enumerate(pairs) if repr(one) != repr(other)), 0)
    return f"{show(found, start)} for {show(expected, start)}"


def compare_all(wanted: Iterable[str] = ()) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield section, case, library, verdict, and what it rests on, for all cases or those of some names."""
    with TemporaryDirectory() as top:
        number = 0
        for section, cases in ALL_CASES.items():
            peers = [peer for peer, converter in CONVERTERS.items() if converter.takes(section)]
            for name, peer in product([name for name in cases if not wanted or name in wanted], peers):
                number += 1
                yield (section, name, peer, *compare_one(section, name, peer, Path(top, str(number))))


def compare_one(section: str, name: str, peer: str, folder: Path) -> tuple[str, str]:
    """Return the verdict on one library and one case, and what it rests on."""
    case, source = ALL_CASES[section][name], folder / "source"
    for made in (source, folder / "out"):
        made.mkdir(parents=True)
    place = source / ("days" if case.series else "a.h5")
    expected = case.write(place)
    paths = sorted(place.glob("*.nc")) if case.series else [place]
    job = Job(section=section, case=name, peer=peer, paths=paths, folder=folder / "out", names=list(expected))
    return classify(expected, run_alone(job))


def main() -> None:
    """Compare, print, and write the page if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = []
    for row in compare_all(options.cases):
        print(*row, sep=" | ", flush=True)
        rows.append(row)
    if options.write:
        from bench.compared_page import write_page

        write_page(PAGE, rows, datetime.now(UTC).date().isoformat())


if __name__ == "__main__":
    main()

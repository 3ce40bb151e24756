"""Refuse targets and reports that would overwrite the source, another file that is read, or the store."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from h5bound.errors import H5BoundError, OptionError, TargetError, append_notes
from h5bound.reports.entries import REPORT_VERSION, read_version
from h5bound.stores.zarr_internals import unwrap

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from h5bound.reader.source import H5Source
    from h5bound.stores.target import Target


def check_source(target: Target, source: H5Source) -> None:
    """Raise TargetError if the source lies inside the target: an overwriting conversion would delete it first."""
    if not source.remote:
        check_outside(target, [source.path], role="source")
    elif _holds_file(target, source):
        raise _inside(target, f"source {source.path}")


def check_outside(target: Target, paths: Iterable[str], role: str = "external file") -> None:
    """Raise TargetError if one of these local files, which are read, lies inside the target."""
    found = find_inside(find_path(target), paths)
    if found is not None:
        raise _inside(target, f"{role} {found}")


def find_inside(directory: Path | None, paths: Iterable[str]) -> str | None:
    """Return the first of some real paths that is a directory itself, or below it."""
    if directory is None:
        return None
    prefix = os.path.normcase(os.path.realpath(directory).rstrip(os.sep) + os.sep)
    return next((path for path in paths if os.path.normcase(path + os.sep).startswith(prefix)), None)


def _holds_file(target: Target, source: H5Source) -> bool:
    """Return whether a remote file is below the store's path in a file system of the same protocol."""
    fs = getattr(target.store, "fs", None)
    if fs is None:
        return False
    source_fs, path = source.location.find_system()  # type: ignore[attr-defined]
    protocols = [{one.protocol} if isinstance(one.protocol, str) else set(one.protocol) for one in (source_fs, fs)]
    base = target.store.path.strip("/")  # type: ignore[attr-defined]
    return bool(protocols[0] & protocols[1]) and f"{path.strip('/')}/".startswith(f"{base}/" if base else "")


def _inside(target: Target, file: str) -> TargetError:
    return TargetError(
        f"{target.url}: the {file} lies inside the target, where everything outside the store is deleted; "
        "choose another target"
    )


def find_path(target: Target) -> Path | None:
    """Return the local directory or zip file that a store of any class is in, None if there is none."""
    inner = unwrap(target.store)
    obstore: Any = getattr(inner, "store", None)  # in zarr's ObjectStore
    candidates = [getattr(inner, "root", None), getattr(inner, "path", None)]  # of LocalStore and ZipStore
    if type(obstore).__name__ == "LocalStore":
        candidates.append(obstore.prefix)
    return next((path for path in candidates if isinstance(path, Path)), None)


def check_report(
    report: Path | None,
    target: Target | Path | None,
    paths: Iterable[str],
    *,
    new_folder: Path | None = None,
    option: str = "report",
) -> None:
    """Raise OptionError if the report could not be written at the end, or would overwrite the target or these files.

    The target may be the path of what is written. `new_folder` is a folder that will be made before that.
    `option` is what names the report.
    """
    if report is None:
        return
    path = report.absolute()
    if any(_is_same(path, other) for other in paths):
        raise OptionError(f"{option}={str(path)!r}: the report would overwrite a file that is read; name another file")
    directory = target if target is None or isinstance(target, Path) else find_path(target)
    if directory is not None and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory)):
        raise OptionError(f"{option}={str(path)!r}: the report would be inside the target; name a file outside of it")
    place = path.parent
    if new_folder is not None and place == new_folder.absolute() and not place.exists():
        place = next(parent for parent in place.parents if parent.exists())
    if path.is_dir() or not os.access(place, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise OptionError(
            f"{option}={str(path)!r}: no report can be written there; name a file in a writable directory"
        )


def _is_same(path: Path, other: str) -> bool:
    """Return whether both paths are there and lead to one file."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def write_report(report: Path, text: str, outcome: str) -> None:
    """Write the report, in a folder that is made if need be; if that fails, raise a TargetError with the outcome."""
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text, encoding="utf-8")
    except OSError as error:
        raise TargetError(f"{report}: the report cannot be written: {error.strerror}; {outcome}") from error


@contextmanager
def reporting_failure(report: Path | None, target: str) -> Iterator[None]:
    """Write an error to a report that `check_report` took, so that an earlier one is not taken for that of this run.

    `target` is that of the report.
    """
    try:
        yield
    except Exception as error:
        if report is not None and not str(error).startswith("report="):  # else it would overwrite what is read
            message = str(error) if isinstance(error, H5BoundError) else f"{type(error).__name__}: {error}"
            differences = getattr(error, "differences", ())
            document = {
                "version": REPORT_VERSION,
                "h5bound": read_version(),
                "complete": False,
                "target": target,
                "error": append_notes(error, message),
                **({"differences": [item.to_dict() for item in differences]} if differences else {}),
            }
            with suppress(TargetError):  # the error itself says more
                write_report(report, json.dumps(document, indent=2) + "\n", "")
        raise

"""The options of a conversion or a verification that do not change the store: checked before anything is opened."""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from h5bound.errors import OptionError
from h5bound.files.paths import expand_path
from h5bound.files.urls import is_url, redact, strip_local
from h5bound.graph.windows import window_nbytes
from h5bound.hdf5.external_files import resolve_directories
from h5bound.hdf5.hierarchy import Limits
from h5bound.planning.options import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options that `convert` and `verify` share, checked."""

    window: int
    """Bytes between one open and its close."""
    workers: int | None
    """Number of threads; on a cluster, of windows at the same time. None for dask's default."""
    scheduler: str | None
    """Address of a cluster."""
    allowed: tuple[Path, ...]
    """Real paths of directories whose files may be read."""
    report: Path | None
    """File to write the report to."""
    temporary: Path | None
    """Directory for temporary files; None for the default of the target."""


def check_run(
    source: object,
    target: object,
    *,
    window: object,
    workers: object,
    scheduler: object,
    allow_external: object,
    report: object,
    storage_options: object,
    target_options: object,
    progress: Callable[[int, int], None] | bool | None,
    temporary: object = None,
) -> RunOptions:
    """Return the options that `convert` and `verify` share. Raise OptionError if one has an invalid value."""
    if isinstance(source, (str, bytes, PathLike)):
        expand_path(source, "source")
    elif isinstance(source, Iterable) and not (
        isinstance(source, (list, tuple, h5py.Group)) or hasattr(source, "read")
    ):
        raise OptionError(f"source={source!r}: give a path, or a list of paths to convert many files")
    check_url(source, "source")
    check_url(target, "target")
    for name, options in (("storage_options", storage_options), ("target_options", target_options)):
        if options is not None and not isinstance(options, Mapping):
            raise OptionError(f"{name}: pass a mapping of options of fsspec, not {type(options).__name__}")
    check_progress(progress)
    return RunOptions(
        window=window_nbytes(window),
        workers=None if workers is None else check_count(workers, "workers"),
        scheduler=check_address(scheduler),
        allowed=resolve_directories(allow_external),
        report=None if report is None else check_report_path(report),
        temporary=None if temporary is None else check_temporary(temporary),
    )


def check_temporary(path: object) -> Path:
    """Return the path of the directory `temporary`. Raise OptionError if there is none."""
    directory = Path(strip_local(expand_path(path, "temporary")))
    if not directory.is_dir():
        raise OptionError(f"temporary={str(path)!r}: no such directory; make it, or name another one")
    return directory.resolve()


def check_report_path(report: object, option: str = "report") -> Path:
    """Return the path of a report. Raise OptionError if it is none, or a URL."""
    path = strip_local(expand_path(report, option))
    if is_url(path):
        raise OptionError(f"{option}={redact(path)!r}: the report is a local file; name a path")
    return Path(path)


def check_progress(progress: object) -> None:
    """Raise OptionError if `progress` is neither a function of two numbers, nor True, False or None."""
    if not (progress is None or isinstance(progress, bool) or takes_progress(progress)):
        raise OptionError(f"progress={progress!r}: pass a function of what is done and in total, or True")


def takes_progress(progress: object) -> bool:
    """Return whether a function can be called with the bytes done and in total, as far as its signature tells.

    >>> takes_progress(print), takes_progress(lambda done: None)
    (True, False)
    """
    if not callable(progress):
        return False
    try:
        inspect.signature(progress).bind(0, 1)
    except TypeError:
        return False
    except ValueError:  # it has none
        return True
    return True


def check_conversion(on_unsupported: object, **flags: object) -> None:
    """Raise OptionError if an option of `convert` has an invalid value, or two of them exclude each other."""
    if not isinstance(on_unsupported, str) or on_unsupported not in ("raise", "skip"):
        raise OptionError(f"on_unsupported={on_unsupported!r}: it must be 'raise' or 'skip'")
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise OptionError(f"{name}={value!r}: it must be True or False")
    if flags["resume"] and flags["overwrite"]:
        raise OptionError("resume=True and overwrite=True exclude each other; pass one of them")
    if flags["dry_run"] and flags["verify"]:
        raise OptionError("dry_run=True and verify=True exclude each other: nothing is written that could be compared")


def check_limits(**limits: object) -> Limits:
    """Return the limits of a source. Raise OptionError if one is not a number of at least 1."""
    return Limits(**{name: check_count(value, name) for name, value in limits.items()})


def check_count(value: Any, option: str) -> int:
    """Return a number of at least 1; raise OptionError for anything else."""
    if not is_whole(value) or value < 1:
        raise OptionError(f"{option}={value!r}: it must be a whole number, at least 1")
    return int(value)


def check_url(place: object, option: str) -> None:
    """Raise OptionError for a URL whose package is not installed."""
    if not is_url(place):
        return
    from fsspec import get_filesystem_class

    url = str(place)
    for part in url.split("::"):  # of a chain
        try:
            get_filesystem_class(part.partition("://")[0])
        except ValueError:  # not a URL that fsspec knows: whoever opens it says so
            return
        except ImportError as error:
            words = " ".join(str(error).split())
            raise OptionError(
                f"{option}={redact(url)!r}: no installed package knows this kind of URL ({words}); "
                "pip install 'h5bound[remote]' brings those for s3:// and https://"
            ) from error


def check_address(scheduler: object) -> str | None:
    """Return the address of a cluster. Raise OptionError if it is none, or distributed is not installed.

    >>> check_address("threads")
    Traceback (most recent call last):
    h5bound.errors.OptionError: scheduler='threads': pass the address of a dask cluster, like 'tcp://host:8786'; \
without one, threads of this process are used, or what dask.config.set(scheduler=...) says
    """
    if scheduler is None:
        return None
    if not isinstance(scheduler, str) or not re.fullmatch(r"([a-z]+://)?[^\s/]+:\d+(/.*)?|[a-z]+://\S+", scheduler):
        raise OptionError(
            f"scheduler={scheduler!r}: pass the address of a dask cluster, like 'tcp://host:8786'; without one, "
            f"threads of this process are used, or what dask.config.set(scheduler=...) says"
        )
    if importlib.util.find_spec("distributed") is None:
        raise OptionError(f"scheduler={scheduler!r}: a cluster needs more packages: pip install 'h5bound[distributed]'")
    return scheduler

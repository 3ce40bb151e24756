"""The options of a conversion that decide what the store looks like, and which objects they are about."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from dask.utils import parse_bytes

from h5bound.encoding import parse_codec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shape = tuple[int, ...]
    Rules = tuple[tuple[str, Shape | int], ...]

MAX_OBJECTS = 1_000_000
MAX_DEPTH = 64
MAX_CHUNKS = 10_000_000


class OptionError(ValueError):
    """An option has a value that it cannot have."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a source may have before it is refused."""

    max_objects: int = MAX_OBJECTS
    """objects and links"""
    max_depth: int = MAX_DEPTH
    """groups within groups"""
    max_chunks: int = MAX_CHUNKS
    """stored chunks, or chunks to write, of all datasets together"""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that decide what the store looks like."""

    zarr_format: Literal[2, 3] = 3
    codecs: str = "keep"
    """keep, or a codec like ``zstd:3``"""
    chunks: Rules = ()
    """pairs of a glob and the chunk shape of the datasets that it meets"""
    shards: Rules = ()
    """pairs of a glob and the shape of a shard, or its bytes"""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the settings as JSON, as the root of the store keeps them."""
        return {
            "zarr_format": self.zarr_format,
            "codecs": self.codecs,
            "chunks": [[glob, size if isinstance(size, int) else list(size)] for glob, size in self.chunks],
            "shards": [[glob, size if isinstance(size, int) else list(size)] for glob, size in self.shards],
            "include": list(self.include),
            "exclude": list(self.exclude),
        }


def make_settings(
    *,
    zarr_format: Literal[2, 3],
    codecs: str,
    chunks: object,
    shards: object,
    include: Sequence[str],
    exclude: Sequence[str],
) -> Settings:
    """Give the settings that the options of `convert` stand for.

    Raises
    ------
    OptionError
        An option has a value that it cannot have.
    """
    if zarr_format not in (2, 3):
        raise OptionError(f"zarr_format={zarr_format!r}: it is 2 or 3")
    if codecs != "keep":
        try:
            parse_codec(codecs)
        except ValueError as error:
            raise OptionError(str(error)) from None
    if shards is not None and zarr_format == 2:
        raise OptionError("shards: Zarr format 2 has none; use zarr_format=3")
    return Settings(
        zarr_format,
        codecs,
        parse_rules(chunks, "chunks", sizes=False),
        parse_rules(shards, "shards", sizes=True),
        parse_globs(include, "include"),
        parse_globs(exclude, "exclude"),
    )


def parse_globs(globs: Sequence[str], option: str) -> tuple[str, ...]:
    """Give the globs of an option.

    Raises
    ------
    OptionError
        It is one string: each of its letters would be a glob.
    """
    if isinstance(globs, str):
        raise OptionError(f"{option}={globs!r}: pass a list of globs, [{globs!r}]")
    return tuple(globs)


def parse_rules(value: object, option: str, *, sizes: bool) -> Rules:
    """Give pairs of a glob and a shape (or bytes) from one of them, or a mapping of globs to them.

    Parameters
    ----------
    value
        None, a tuple of integers, a size like ``"64 MiB"``, or a mapping.
    option
        What to name in an error.
    sizes
        Whether bytes are allowed.

    Examples
    --------
    >>> parse_rules({"/a*": (1, 2)}, "chunks", sizes=False), parse_rules("1 KiB", "shards", sizes=True)
    ((('/a*', (1, 2)),), (('*', 1024),))
    """
    if value is None:
        return ()
    if isinstance(value, dict):
        return tuple((glob, parse_size(size, option, sizes=sizes)) for glob, size in value.items())
    return (("*", parse_size(value, option, sizes=sizes)),)


def parse_size(value: object, option: str, *, sizes: bool) -> Shape | int:
    """Give a shape, or bytes.

    Raises
    ------
    OptionError
        It is neither.
    """
    if isinstance(value, (tuple, list)) and all(isinstance(size, int) and size > 0 for size in value):
        return tuple(value)
    if sizes and isinstance(value, (int, str)):
        return parse_nbytes(value, option)
    way = "a shape like (100, 200)" + (" or a size like '64 MiB'" if sizes else "")
    raise OptionError(f"{option}={value!r}: it is {way}, or a mapping from globs to that")


def parse_nbytes(value: int | str, option: str) -> int:
    """Give a size in bytes.

    Raises
    ------
    OptionError
        It is none, or not positive.

    Examples
    --------
    >>> parse_nbytes("64 MiB", "window")
    67108864
    """
    try:
        nbytes = int(parse_bytes(value))
    except ValueError:
        nbytes = 0
    if nbytes < 1:
        raise OptionError(f"{option}={value!r}: it must be at least one byte, like '256 MiB'")
    return nbytes


def match_shape(rules: Rules, path: str, ndim: int) -> Shape | int | None:
    """Give the size of the first rule that meets a path: bytes, or a shape with as many axes.

    >>> match_shape((("/a", (3,)), ("*", (1, 2))), "/a", 2)
    (1, 2)
    """
    return next(
        (size for glob, size in rules if matches(path, glob) and (isinstance(size, int) or len(size) == ndim)),
        None,
    )


def matches(path: str, glob: str) -> bool:
    """Tell whether a glob meets a path or a group above it; ``*`` goes across slashes.

    Examples
    --------
    >>> matches("/entry/data/x", "/entry/d*"), matches("/entry/data", "data"), matches("/entry/data", "*/data")
    (True, False, True)
    """
    pattern = glob.rstrip("/") if glob.startswith(("/", "*")) else f"/{glob.rstrip('/')}"
    parts = path.split("/")
    above = ("/".join(parts[:stop]) or "/" for stop in range(1, len(parts) + 1))
    return any(fnmatchcase(name, pattern or "/") for name in above)


def is_wanted(path: str, settings: Settings) -> bool:
    """Tell whether the include and exclude globs let a path in."""
    if any(matches(path, glob) for glob in settings.exclude):
        return False
    return not settings.include or any(matches(path, glob) for glob in settings.include)


def settings_of(mark: Mapping[str, Any]) -> Settings:
    """Give the settings back from their JSON form."""
    rules = {
        name: tuple((glob, size if isinstance(size, int) else tuple(size)) for glob, size in mark[name])
        for name in ("chunks", "shards")
    }
    return Settings(
        mark["zarr_format"], mark["codecs"], rules["chunks"], rules["shards"], tuple(mark["include"]),
        tuple(mark["exclude"]),
    )  # fmt: skip

"""The options of a conversion that decide what the store looks like, and which objects they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import dask
from dask.utils import parse_bytes

from h5bound.errors import OptionError
from h5bound.zarr_model.array_spec import parse_codec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shape = tuple[int, ...]
    Rules = tuple[tuple[str, Shape | int], ...]


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


def check_options(on_unsupported: str, *, resume: bool, overwrite: bool) -> None:
    """Refuse options that make no sense.

    Raises
    ------
    OptionError
        An option has a value that it cannot have.
    """
    if on_unsupported not in ("raise", "skip"):
        raise OptionError(f"on_unsupported={on_unsupported!r}: it is 'raise' or 'skip'")
    if resume and overwrite:
        raise OptionError("resume and overwrite: pass one of them")


def window_nbytes(window: int | str | None) -> int:
    """Give the bytes of a window: as passed, or as dask is configured."""
    return parse_nbytes(dask.config.get("h5bound.window", "1 GiB") if window is None else window, "window")

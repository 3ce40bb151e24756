"""The options of a conversion: parsing and checking them, and the settings that decide the bytes of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from h5bound.errors import OptionError
from h5bound.graph.windows import parse_nbytes
from h5bound.zarr_model.array_spec import parse_codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    Shape = tuple[int, ...]
    Rules = tuple[tuple[str, Shape | int], ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that decide the bytes of the store."""

    zarr_format: Literal[2, 3] = 3
    codecs: str = "keep"
    """``keep``, or a codec like ``zstd:3``."""
    chunks: Rules = ()
    """Pairs of a glob and the chunk shape of the datasets that it matches."""
    shards: Rules = ()
    """Pairs of a glob and the shape of a shard, or its bytes."""
    include: tuple[str, ...] = ()
    """Globs of the paths to convert; empty for all."""
    exclude: tuple[str, ...] = ()
    """Globs of the paths to skip."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON, as the root of the store keeps them."""
        return dict(json.loads(json.dumps(asdict(self))))


def make_settings(
    *,
    zarr_format: Literal[2, 3],
    codecs: str,
    chunks: object,
    shards: object,
    include: Sequence[str],
    exclude: Sequence[str],
) -> Settings:
    """Return the settings for options of `convert`. Raise OptionError if one has an invalid value."""
    if zarr_format not in (2, 3):
        raise OptionError(f"zarr_format={zarr_format!r}: the format is 2 or 3")
    if codecs != "keep":
        try:
            parse_codec(codecs)
        except ValueError as error:
            raise OptionError(str(error)) from None
    if shards is not None and zarr_format == 2:
        raise OptionError(f"shards={shards!r}: Zarr format 2 has no shards; use zarr_format=3")
    return Settings(
        zarr_format=zarr_format,
        codecs=codecs,
        chunks=parse_rules(chunks, "chunks", sizes=False),
        shards=parse_rules(shards, "shards", sizes=True),
        include=parse_globs(include, "include"),
        exclude=parse_globs(exclude, "exclude"),
    )


def check_options(on_unsupported: str, *, resume: bool, overwrite: bool) -> None:
    """Raise OptionError if an option has an invalid value, or two of them exclude each other."""
    if on_unsupported not in ("raise", "skip"):
        raise OptionError(f"on_unsupported={on_unsupported!r}: it must be 'raise' or 'skip'")
    if resume and overwrite:
        raise OptionError("resume=True and overwrite=True exclude each other; pass one of them")


def parse_globs(globs: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the globs of an option. Raise OptionError for a single string: each of its letters would be a glob."""
    if isinstance(globs, str):
        raise OptionError(f"{option}={globs!r}: pass a list of globs, [{globs!r}]")
    return tuple(globs)


def parse_rules(value: object, option: str, *, sizes: bool) -> Rules:
    """Return pairs of a glob and a shape, or bytes if `sizes`, for one of them or a mapping from globs to them.

    >>> parse_rules({"/a*": (1, 2)}, "chunks", sizes=False), parse_rules("1 KiB", "shards", sizes=True)
    ((('/a*', (1, 2)),), (('*', 1024),))
    """
    if value is None:
        return ()
    rules = value if isinstance(value, Mapping) else {"*": value}
    return tuple((glob, parse_size(size, option, sizes=sizes)) for glob, size in rules.items())


def parse_size(value: object, option: str, *, sizes: bool) -> Shape | int:
    """Return a shape, or bytes if `sizes`. Raise OptionError if the value is neither."""
    if isinstance(value, (tuple, list)) and all(isinstance(size, int) and size > 0 for size in value):
        return tuple(value)
    if sizes and isinstance(value, (int, str)):
        return parse_nbytes(value, option)
    form = "a shape like (64, 512)" + (" or a size like '64 MiB'" if sizes else "")
    raise OptionError(f"{option}={value!r}: give {form}, or {{GLOB: {'SIZE' if sizes else 'SHAPE'}}}")

"""The options that decide the bytes of a store: parsed and checked without looking at a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from h5bound.errors import OptionError
from h5bound.graph.windows import parse_nbytes
from h5bound.zarr_model.codec_options import parse_codecs

if TYPE_CHECKING:
    from h5bound.zarr_model.codec_options import Codecs

    Shape = tuple[int, ...]
    Rules = tuple[tuple[str, Shape | int], ...]

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that decide the bytes of the store."""

    zarr_format: Literal[2, 3] = 3
    codecs: Codecs = "keep"
    """``keep``, a codec like ``zstd:3``, or the configurations of codecs."""
    chunks: Rules = ()
    """Pairs of a glob and the chunk shape of the datasets that it matches."""
    shards: Rules = ()
    """Pairs of a glob and the shape of a shard, or its bytes."""
    include: tuple[str, ...] = ()
    """Globs of the paths to convert; empty for all."""
    exclude: tuple[str, ...] = ()
    """Globs of the paths to skip."""
    nan: Literal["literal", "text"] = "literal"
    """How attributes have floats that are not finite."""
    compounds: Literal["struct", "columns"] = "struct"
    """Whether compounds are arrays of structs where these can hold all members, or always columns."""
    names: Literal["exact", "portable"] = "exact"
    """Whether nodes are renamed only where this target cannot hold the name, or where any could not."""
    links: Literal["keep", "copy"] = "keep"
    """Whether hard and soft links stay links, or what they lead to stands in their place."""

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON, as the root of the store keeps them."""
        return dict(json.loads(json.dumps(asdict(self))))


SETTINGS = tuple(field.name for field in fields(Settings))
"""Their names, as parameters of `convert`."""


def make_settings(
    *,
    zarr_format: object,
    codecs: object,
    chunks: object,
    shards: object,
    include: object,
    exclude: object,
    nan: object,
    compounds: object,
    names: object,
    links: object,
) -> Settings:
    """Return the settings for options of `convert`. Raise OptionError if one has an invalid value."""
    if not is_whole(zarr_format) or zarr_format not in (2, 3):
        raise OptionError(f"zarr_format={zarr_format!r}: the format is the number 2 or 3")
    rules = parse_rules(shards, "shards", sizes=True)
    if rules and zarr_format == 2:
        raise OptionError(f"shards={shards!r}: Zarr format 2 has no shards; use zarr_format=3")
    return Settings(
        zarr_format=2 if zarr_format == 2 else 3,
        codecs=parse_codecs(codecs),
        chunks=parse_rules(chunks, "chunks", sizes=False),
        shards=rules,
        include=parse_globs(include, "include"),
        exclude=parse_globs(exclude, "exclude"),
        compounds=check_choice(compounds, "compounds", ("struct", "columns")),
        nan=check_choice(nan, "nan", ("literal", "text")),
        names=check_choice(names, "names", ("exact", "portable")),
        links=check_choice(links, "links", ("keep", "copy")),
    )


def check_choice(value: object, option: str, choices: tuple[Choice, ...]) -> Choice:
    """Return the value of an option. Raise OptionError if it is none of the choices."""
    for choice in choices:
        if value == choice:
            return choice
    raise OptionError(f"{option}={value!r}: choose {' or '.join(map(repr, choices))}")


def parse_globs(globs: object, option: str) -> tuple[str, ...]:
    """Return the globs of an option. Raise OptionError for a single string: each of its letters would be a glob.

    >>> parse_globs({"/b", "/a"}, "include")
    ('/a', '/b')
    """
    if isinstance(globs, str):
        raise OptionError(f"{option}={globs!r}: pass a list of globs, [{globs!r}]")
    if not isinstance(globs, Iterable) or isinstance(globs, (bytes, Mapping)):
        raise OptionError(f"{option}={globs!r}: pass a list of globs, like ['/entry/*']")
    items = sorted(globs) if isinstance(globs, (set, frozenset)) else list(globs)
    return tuple(check_glob(glob, option) for glob in items)


def check_glob(glob: object, option: str) -> str:
    """Return a glob. Raise OptionError if it is not text, or empty."""
    if not isinstance(glob, str) or not glob.strip():
        raise OptionError(f"{option}: {glob!r} is not a glob; for everything give '*'")
    return glob


def parse_rules(value: object, option: str, *, sizes: bool) -> Rules:
    """Return pairs of a glob and a shape, or bytes if `sizes`, for one of them or a mapping from globs to them.

    >>> parse_rules({"/a*": (1, 2)}, "chunks", sizes=False), parse_rules("1 KiB", "shards", sizes=True)
    ((('/a*', (1, 2)),), (('*', 1024),))
    """
    if value is None:
        return ()
    rules = value if isinstance(value, Mapping) else {"*": value}
    return tuple(
        (check_glob(glob, option), parse_size(size, option, glob, sizes=sizes)) for glob, size in rules.items()
    )


def parse_size(value: object, option: str, glob: str, *, sizes: bool) -> Shape | int:
    """Return a shape, or bytes if `sizes`. Raise OptionError if the value is neither."""
    if isinstance(value, (tuple, list)) and all(is_whole(size) and size > 0 for size in value):
        return tuple(map(int, value))
    if sizes and isinstance(value, (int, str, np.integer)):
        with suppress(OptionError):
            return parse_nbytes(value, option)
    shown = repr(value) if glob == "*" else repr({glob: value})
    form = "a shape like (64, 512)" + (" or a size like '64 MiB'" if sizes else "")
    raise OptionError(f"{option}={shown}: give {form}, or {{GLOB: {'SIZE' if sizes else 'SHAPE'}}}")


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, of Python or numpy; True and False are none.

    >>> is_whole(3), is_whole(np.int32(3)), is_whole(True), is_whole(3.0)
    (True, True, False, False)
    """
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

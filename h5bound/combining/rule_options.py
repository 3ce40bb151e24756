"""The options of `combine` that say how files are joined, checked before any file is opened."""

from __future__ import annotations

from dataclasses import fields
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.combining.joined import Rules
from h5bound.errors import OptionError
from h5bound.planning.options import check_choice

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULTS = {
    **{field.name: field.default for field in fields(Rules) if field.name not in ("dim", "new", "zarr_format")},
    "dim": None,
    "new_dim": None,
}
"""Options where none are given."""


def complete_rules(options: Mapping[str, object]) -> dict[str, Any]:
    """Return the options of :func:`make_rules` of which some are given; raise TypeError for one that is not known."""
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
    return {**DEFAULTS, **options}


def make_rules(
    *,
    dim: object,
    new_dim: object,
    sort: object,
    overlap: object,
    differing: object,
    attributes: object,
    unpack: object,
    promote: object,
    missing: object,
    zarr_format: int,
) -> Rules:
    """Return the rules for options of `combine`. Raise OptionError if one has an invalid value."""
    if dim is not None and new_dim is not None:
        raise OptionError(f"dim={dim!r} and new_dim={new_dim!r} exclude each other; pass one of them")
    if dim is None and new_dim is None:
        raise OptionError(
            "give dim=NAME, a dimension of the files along which they are joined, or new_dim=NAME, a new one"
        )
    name = dim if new_dim is None else new_dim
    if not isinstance(name, str) or not name or "/" in name:
        option = "dim" if new_dim is None else "new_dim"
        raise OptionError(f"{option}={name!r}: give the name of a dimension, like 'time'")
    if not isinstance(sort, (bool, np.bool_, NoneType)) and not (isinstance(sort, str) and sort):
        raise OptionError(f"sort={sort!r}: it must be True, False or the path of a variable")
    if not isinstance(promote, (bool, np.bool_)):
        raise OptionError(f"promote={promote!r}: it must be True or False")
    floats: Any = None if unpack is None else check_choice(unpack, "unpack", ("float32", "float64"))
    return Rules(
        dim=name,
        new=new_dim is not None,
        sort=sort if isinstance(sort, (str, NoneType)) else bool(sort),
        overlap=check_choice(overlap, "overlap", ("refuse", "first", "last")),
        differing=check_choice(differing, "differing", ("refuse", "first", "drop")),
        attributes=check_choice(attributes, "attributes", ("refuse", "first", "table")),
        unpack=floats,
        promote=bool(promote),
        missing=check_choice(missing, "missing", ("refuse", "fill")),
        zarr_format=zarr_format,
    )

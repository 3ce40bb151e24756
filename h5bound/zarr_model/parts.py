"""The arrays that one dataset becomes where one array cannot hold it: columns of compounds, values and offsets.

::

    table: compound (x, m: 2x3 floats, n: compound (y), s: sequences)       x: sequences of 2 integers
    ├── x             rows                                                  ├── values       elements x 2
    ├── m             rows x 2 x 3                                          └── offsets      rows + 1
    ├── n
    │   └── y         rows
    └── s
        ├── values    elements of all sequences, end to end
        └── offsets   rows + 1: where each sequence begins, and the end
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from h5py import h5t

from h5bound.errors import UnsupportedError
from h5bound.hdf5.datatypes import strip_arrays
from h5bound.hdf5.element_types import read_dtype
from h5bound.hdf5.links import decode_name
from h5bound.hdf5.raw_objects import holds_pointers
from h5bound.hdf5.type_json import type_to_json
from h5bound.zarr_model.dtypes import ZarrType, translate_element
from h5bound.zarr_model.node_names import escape_siblings
from h5bound.zarr_model.structured import TextWidths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from h5bound.zarr_model.byte_layout import Array, DType

    Compounds = Literal["struct", "columns"]

    NameNodes = Callable[[Sequence[str]], Mapping[str, str]]

MAX_PARTS = 10_000
"""Most arrays that one dataset may become."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of the arrays that a dataset becomes."""

    target: str
    """Path below the node of the dataset."""
    steps: tuple[str | DType, ...]
    """The way to its values in an element: the name of a member, or the type of the elements of sequences."""
    type: ZarrType
    """Type of its values; of offsets, 64-bit integers."""
    offsets: bool = False
    """Whether it says where sequences, to which the steps lead, begin."""

    @property
    def flat(self) -> bool:
        """Whether it holds elements of sequences, or their offsets, and so has no axes of the dataset."""
        return self.offsets or any(not isinstance(step, str) for step in self.steps)

    @property
    def outer(self) -> tuple[str | DType, ...]:
        """The steps to the innermost sequences; of offsets, to the sequences that they are of."""
        if self.offsets:
            return self.steps
        last = max((i for i, step in enumerate(self.steps) if not isinstance(step, str)), default=0)
        return self.steps[:last]


OFFSETS = ZarrType(form="plain", source=np.dtype("i8"), dtype=np.dtype("i8"), reason="")


def needs_parts(tid: h5t.TypeID, compounds: Compounds, *, zarr_format: int) -> bool:
    """Return whether a dataset of a type becomes a group of arrays.

    It does for sequences, and for compounds if the option says so, or if a struct could not hold all their members as
    they are: sequences, array types, and in format 2 other compounds.
    """
    base, _ = strip_arrays(tid)
    if base.get_class() == h5t.VLEN:
        return True
    return is_compound(base) and (compounds == "columns" or not fits_struct(base, zarr_format))


def fits_struct(tid: h5t.TypeCompoundID, zarr_format: int) -> bool:
    """Return whether a Zarr type can hold all members of a compound, each as what it is."""
    members = [tid.get_member_type(i) for i in range(tid.get_nmembers())]
    if any(member.get_class() in (h5t.VLEN, h5t.ARRAY) for member in members):
        return False
    return all(zarr_format == 3 and fits_struct(member, zarr_format) for member in members if is_compound(member))


def is_compound(tid: h5t.TypeID) -> bool:
    """Return whether a type is a compound, but not a complex number."""
    return tid.get_class() == h5t.COMPOUND and read_dtype(tid).kind != "c"


def plan_parts(
    tid: h5t.TypeID, compounds: Compounds, *, zarr_format: int, name_nodes: NameNodes = escape_siblings
) -> tuple[ZarrType, tuple[Part, ...]]:
    """Return the type of a dataset that becomes a group, and its arrays, the values of sequences before their offsets.

    `name_nodes` returns the node names of members. Raise UnsupportedError if one of them has no exact form, or there
    are too many.
    """
    _, dims = strip_arrays(tid)
    parts = []
    options: dict[str, Any] = {"zarr_format": zarr_format, "name_nodes": name_nodes}
    for part in _list_parts(tid, "", (), columns=compounds == "columns", dims=(), **options):
        parts.append(part)
        if len(parts) > MAX_PARTS:
            raise UnsupportedError(f"its type has more than {MAX_PARTS:,} members")
    dtype = read_dtype(tid).base
    details = {"type": type_to_json(tid)} | ({"element_shape": list(dims)} if dims else {})
    kind = "variable-length sequences are stored outside the chunks"
    reason = "its members are columns" if dtype.names else kind
    whole = ZarrType(form="group", source=dtype, dtype=dtype, reason=reason, details=details)
    return whole, tuple(parts)


def _list_parts(
    tid: h5t.TypeID,
    target: str,
    steps: tuple[str | DType, ...],
    *,
    zarr_format: int,
    name_nodes: NameNodes,
    columns: bool,
    dims: tuple[int, ...],
) -> Iterator[Part]:
    """Yield the parts of a type; `dims` are those of array types around it, `columns` makes columns of compounds."""
    options: dict[str, Any] = {"zarr_format": zarr_format, "name_nodes": name_nodes}
    base, inner = strip_arrays(tid)
    dims += inner
    below = f"{target}/".lstrip("/")
    if base.get_class() == h5t.VLEN:
        element = base.get_super()
        inside = (*steps, read_dtype(element))
        yield from _list_parts(element, f"{below}values", inside, columns=columns, dims=(), **options)
        yield Part(target=f"{below}offsets", steps=steps, type=OFFSETS, offsets=True)
        return
    if is_compound(base) and (columns or not steps or holds_pointers(base) or not fits_struct(base, zarr_format)):
        names = [decode_name(base.get_member_name(i)) for i in range(base.get_nmembers())]
        nodes = name_nodes(names)
        for i, name in enumerate(names):
            member = base.get_member_type(i)
            yield from _list_parts(member, f"{below}{nodes[name]}", (*steps, name), columns=True, dims=dims, **options)
        return
    zarr_type = translate_element(base, TextWidths(base), zarr_format)
    reason = "it is a column of a compound" if isinstance(steps[-1], str) else "it holds elements of sequences"
    yield Part(target=target, steps=steps, type=replace(zarr_type, reason=reason, element_shape=dims))


def take_members(values: Array, steps: tuple[str | DType, ...]) -> Array:
    """Return the values of a column, on their own: a view would keep whole compounds in memory."""
    for step in steps:
        assert isinstance(step, str)
        values = values[step]
    return values.copy()


def flatten(values: Array, steps: tuple[str | DType, ...]) -> tuple[Array, NDArray[np.int64]]:
    """Return what the steps lead to in flat elements, end to end, and where that of each element begins, and the end.

    >>> import h5py
    >>> kind = np.dtype([("a", "i8"), ("s", h5py.vlen_dtype("i8"))])
    >>> rows = np.array([(1, np.arange(2)), (2, np.arange(3))], kind)
    >>> flatten(rows, ("s", np.dtype("i8")))
    (array([0, 1, 0, 1, 2]), array([0, 2, 5]))
    """
    bounds = np.arange(len(values) + 1)
    for step in steps:
        if isinstance(step, str):
            values = values[step]
            continue
        bounds, values = bounds * prod(values.shape[1:]), values.reshape(-1)
        lengths = measure(values)
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])[bounds]
        out = np.empty((int(lengths.sum()), *step.shape), step.base)
        values = np.concatenate(values.tolist(), out=out, casting="unsafe") if len(values) else out
    return values, bounds


def measure(sequences: Array) -> NDArray[np.int64]:
    """Return the lengths of sequences, flat."""
    return np.fromiter(map(len, sequences.reshape(-1)), np.int64, sequences.size)

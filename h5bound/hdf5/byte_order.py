"""Values in the byte order, and with the order of members, that their types have in the file: h5py forgets both."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

import h5py
import numpy as np

from h5bound.h5py_compat import memory_file

if TYPE_CHECKING:
    from numpy.typing import NDArray


def restore_byte_order(values: NDArray[Any] | np.generic, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array or a scalar that h5py read as `dtype`, with the byte order of the file in its sequences.

    Members of compounds are in the order of `dtype`: h5py has them as HDF5 does, which may sort them at any read.
    h5py 3.16 returns a sequence of a big-endian type unswapped under a native type: 1 as int16 reads 256. Sequences in
    compounds, in array types and in sequences are found as well. Nothing is copied or changed but Python objects.
    """
    dtype = dtype.base
    values = order_members(np.asarray(values), dtype)
    if not dtype.hasobject or not _h5py_drops_order():
        return values
    if dtype.names is not None:
        for name in dtype.names:
            if dtype[name].hasobject:
                values[name][...] = restore_byte_order(values[name], dtype[name])
        return values
    base = h5py.check_vlen_dtype(dtype)
    return _restore_sequences(values, base) if isinstance(base, np.dtype) else values  # text has str or bytes


def order_members(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return values with the members of compounds in the order of `dtype`; their types stay as h5py has them."""
    base = h5py.check_vlen_dtype(dtype)
    if isinstance(base, np.dtype) and (base.base.names or base.hasobject):
        ordered = np.empty(values.shape, object)
        for index, sequence in np.ndenumerate(values):
            ordered[index] = order_members(sequence, base.base) if isinstance(sequence, np.ndarray) else sequence
        return ordered
    names, actual = dtype.names, values.dtype
    if names is None or actual.names is None or (actual == dtype and not dtype.hasobject):
        return values
    members = [order_members(values[name], dtype[name].base) for name in names]
    formats = [(member.dtype, actual[name].shape) for name, member in zip(names, members, strict=True)]
    offsets = [cast("Any", actual.fields)[name][1] for name in names]
    layout: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": actual.itemsize}
    ordered = np.zeros(values.shape, np.dtype(layout))
    for name, member in zip(names, members, strict=True):
        ordered[name] = member
    return ordered


def _restore_sequences(values: NDArray[Any], base: np.dtype[Any]) -> NDArray[Any]:
    """Return sequences, or a single one of them; `base` is the type of their elements."""
    if base.isnative and not base.hasobject:
        return values
    if not values.dtype.hasobject:
        is_dropped = values.dtype != base and values.dtype == base.newbyteorder("=")
        return values.view(base) if is_dropped else values
    sequences = np.empty(values.size, object)
    for i, sequence in enumerate(values.ravel()):
        sequences[i] = restore_byte_order(sequence, base) if base.hasobject else _restore_sequences(sequence, base)
    return sequences.reshape(values.shape)


@functools.cache
def _h5py_drops_order() -> bool:
    """Return whether this h5py has the fault."""
    order = np.dtype("i2").newbyteorder("S")
    with memory_file() as file:
        dataset = file.create_dataset("d", (1,), h5py.vlen_dtype(order))
        dataset[0] = np.ones(1, order)
        return int(dataset[0][0]) != 1

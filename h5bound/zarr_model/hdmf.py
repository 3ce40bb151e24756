"""What hdmf-zarr looks for in the stores of HDMF, such as those of NWB: attributes that say what references are.

They are written only for files that HDMF wrote: xarray shows them as attributes of the variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py

from h5bound.h5py_compat import READ_ERRORS

if TYPE_CHECKING:
    from h5bound.hdf5.type_json import JSON
    from h5bound.zarr_model.dtypes import ZarrType


def is_hdmf(file: h5py.File) -> bool:
    """Return whether HDMF wrote a file, as it does those of NWB."""
    try:
        names = set(file.attrs)
    except READ_ERRORS:
        return False
    typed = "namespace" in names and ("neurodata_type" in names or "data_type" in names)
    return typed or ".specloc" in names or "nwb_version" in names


def describe_for_hdmf(zarr_type: ZarrType) -> dict[str, JSON]:
    """Return the attributes with which hdmf-zarr reads an array: its type, or which members of it are references.

    A compound without references, and sequences, which are a group, need none. The names of types are those of numpy.
    """
    if zarr_type.form == "object_reference":
        return {"_DTYPE": "object_reference"}
    if zarr_type.form == "string":
        return {"_DTYPE": "str"}
    if zarr_type.form != "plain":
        return {}
    dtype = zarr_type.dtype
    if dtype.names is None:
        return {"_DTYPE": "bool" if dtype.kind == "b" else dtype.type.__name__}
    members = [name for name in dtype.names if h5py.check_ref_dtype(zarr_type.source[name]) is not None]
    return {"_REFERENCE_FIELDS": [*members]} if members else {}

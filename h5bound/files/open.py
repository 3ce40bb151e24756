"""Open an HDF5 file with h5py, with errors that say what to do."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import h5py

from h5bound.errors import CorruptChunkError, H5BoundError, SourceNotFoundError

if TYPE_CHECKING:
    from io import RawIOBase


def open_file(path: str, view: RawIOBase | None = None, *, swmr: bool = False, unlocked: bool = False) -> h5py.File:
    """Open an HDF5 file for reading, through a Python file `view` if it is remote.

    With `swmr`, another program may write to it in SWMR mode; with `unlocked`, netCDF4 in this process.
    Raise SourceNotFoundError if there is no file, CorruptChunkError if it is truncated, or its beginning is damaged,
    H5BoundError if it cannot be opened for another reason.
    """
    if view is None and not is_regular(path):  # opening a pipe would wait for a writer
        description = "a directory" if Path(path).is_dir() else "not a regular file"
        if any((Path(path) / name).exists() for name in STORE_DOCUMENTS):
            description = "a Zarr store"
        raise H5BoundError(f"{path}: this is {description}, not an HDF5 file")
    try:
        locking = {"locking": False} if unlocked else {}
        return h5py.File(path if view is None else view, "r", swmr=swmr, **locking)
    except FileNotFoundError:
        raise SourceNotFoundError(f"{path}: no such file") from None
    except (OSError, RuntimeError, ValueError) as error:
        meaning = explain_error(str(error), path, view)
        if meaning == MARKED and unlocked:
            meaning = MARKED_HERE
        detail = meaning or f"HDF5 {h5py.version.hdf5_version} cannot open the file: {error}"
        damaged = is_damage(str(error)) if meaning is None else meaning.startswith(TRUNCATED)
        raise (CorruptChunkError if damaged else H5BoundError)(f"{path}: {detail}") from None  # HDF5 says no more


def is_damage(error: str) -> bool:
    """Return whether an unknown error of HDF5 means that a file is damaged: no system call failed, nor is it newer."""
    return "errno" not in error and "superblock version" not in error


def is_regular(path: str) -> bool:
    """Return whether a path is that of a regular file, or of none that can be seen."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - in a tenth of the time of a `Path`
    except (OSError, ValueError):
        return True


def explain_error(error: str, path: str, view: RawIOBase | None) -> str | None:
    """Return what an error of HDF5 means for a file, and what to do, None if that is not known."""
    meaning = next((meaning for part, meaning in _MEANINGS.items() if part in error), None)
    if meaning == NO_HDF5:
        meaning = explain_content(read_beginning(path, view))
        if meaning == ZIP_FILE and is_zip_store(path if view is None else view):
            meaning = "this is a Zarr store in a zip file, not an HDF5 file"
    elif meaning in (TRUNCATED, SEVERAL):
        if meaning == TRUNCATED:
            meaning += count_missing(error)
        meaning = explain_members(path, read_beginning(path, view) or b"", meaning)
    return meaning


def count_missing(error: str) -> str:
    """Return what HDF5 says of the size of a truncated file, and what to do.

    >>> count_missing("truncated file: eof = 88, sblock->base_addr = 512, stored_eof = 2048")
    ': it has 600 of the 2,048 bytes that HDF5 recorded; fetch it again'
    """
    found = re.search(r"eof = (\d+), sblock->base_addr = (\d+), stored_eof = (\d+)", error)
    if found is None:
        return ": it is shorter than HDF5 recorded; fetch it again"
    end, base, recorded = map(int, found.groups())
    return f": it has {end + base:,} of the {recorded:,} bytes that HDF5 recorded; fetch it again"


def is_live(file: h5py.File) -> bool:
    """Return whether another program may write to an open file meanwhile: it is read in SWMR mode."""
    return bool(file.mode == "r" and file.swmr_mode)


def read_beginning(path: str, view: RawIOBase | None) -> bytes | None:
    """Return the first bytes of a file, None if they cannot be read."""
    try:
        if view is None:
            with Path(path).open("rb") as file:
                return file.read(BEGINNING)
        view.seek(0)
        return view.read(BEGINNING)
    except (OSError, ValueError):
        return None


def explain_content(beginning: bytes | None) -> str:
    r"""Return what a file is that is no HDF5 file, as far as its first bytes tell, and what to do.

    >>> explain_content(b"CDF\x02"), explain_content(b"")
    ('this is netCDF-3, not an HDF5 file: `nccopy -k nc4 in.nc out.nc` converts it', 'this is empty, not an HDF5 file')
    """
    if beginning == b"":
        return "this is empty, not an HDF5 file"
    for signatures, name, advice in KINDS:
        if beginning is not None and beginning.lower().startswith(signatures):
            return f"this is {name}, not an HDF5 file: {advice}"
    return NO_HDF5


def explain_members(path: str, beginning: bytes, meaning: str) -> str:
    """Return what to do with a file that ends early: it may be one of several that are one HDF5 file together.

    The driver information of HDF5 File Format Specification, II.B, names the driver; HDF5 1.6 wrote none for a family.
    """
    if b"NCSAfami" in beginning:
        return f"this is {FAMILY}"
    if b"NCSAmult" in beginning or meaning == SEVERAL:
        return SEVERAL
    return f"{meaning}, or, if it is {FAMILY}" if re.search(r"(?<!\d)00+\.\w+$", path) else meaning


def is_zip_store(file: str | RawIOBase) -> bool:
    """Return whether a zip file holds a Zarr store."""
    try:
        with zipfile.ZipFile(cast("IO[bytes]", file)) as opened:
            return not STORE_DOCUMENTS.isdisjoint(opened.namelist())
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False


NO_HDF5 = "this is not an HDF5 file"

TRUNCATED = "the file is truncated"

FAMILY = (
    "a member of a family of files, which HDF5 opens as one: pass h5py.File('NAME%05d.h5', 'r', driver='family', "
    "memb_size=0), with %05d for the number as it is in the names, or `h5repart -family_to_sec2 NAME%05d.h5 FILE` "
    "writes one file"
)

SEVERAL = (
    "this is one of several files that HDF5 opens as one: pass h5py.File(NAME, 'r', driver='split', "
    "meta_ext=b'-m.h5', raw_ext=b'-r.h5'), with the ends of their names"
)

MARKED = (
    "the file is marked as open for writing. Close the program that writes it, or, if it writes in SWMR mode, pass "
    "h5py.File(FILE, 'r', swmr=True). If no program writes it, one ended without closing the file: clear the mark with "
    "`h5clear -s FILE`"
)

MARKED_HERE = (
    "netCDF4 has marked the file as open for writing, since it was made with libver='latest' or 'v110', so nothing can "
    "be read from it meanwhile, and new variables are in the file by now, and empty: write with engine='h5netcdf', or "
    "load the values before they are written"
)

ZIP_FILE = "this is a zip file, not an HDF5 file: unpack it"

STORE_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zarray"})
"""Files of which a Zarr store has one in its root."""

BEGINNING = 1024
"""Bytes of a file that are compared with those of other formats, and searched for the driver."""

KINDS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"cdf\x01", b"cdf\x02", b"cdf\x05"), "netCDF-3", "`nccopy -k nc4 in.nc out.nc` converts it"),
    ((b"\x0e\x03\x13\x01",), "HDF4", "`h4toh5 in.hdf out.h5` converts it"),
    ((b"matlab 5.0",), "a MATLAB file before 7.3", "save it in MATLAB with '-v7.3'"),
    ((b"pk\x03\x04",), "a zip file", "unpack it"),
    ((b"\x1f\x8b",), "compressed with gzip", "`gunzip` it"),
    ((b"bzh",), "compressed with bzip2", "`bunzip2` it"),
    ((b"\xfd7zxz",), "compressed with xz", "`unxz` it"),
    ((b"\x28\xb5\x2f\xfd",), "compressed with zstd", "`unzstd` it"),
    ((b"grib",), "GRIB", "xarray opens it with engine='cfgrib'"),
    ((b"simple  =",), "FITS", "astropy opens it"),
    ((b"version https://git-lfs",), "a pointer of Git LFS", "`git lfs pull` fetches the file"),
    ((b"<!doctype html", b"<html"), "a web page", "the download has failed, perhaps it needs a login"),
)
"""What the first bytes, in lower case, tell of a file: its format, and what to do."""

_MEANINGS = {
    "file signature not found": NO_HDF5,
    "consistency flags": MARKED,
    "is already open": "the file is open for writing in this process: pass the open h5py.File itself, or close it",
    "truncated file": TRUNCATED,
    "driver should be used": SEVERAL,
    "Permission denied": "this user may not read the file: `chmod +r FILE`, or ask its owner",
    "Too many open files": "this process may open no more files: close some, or raise the limit with `ulimit -n`",
    "unable to lock file": "the file is locked by a program that writes to it, perhaps this one: close it there, or "
    "set HDF5_USE_FILE_LOCKING=FALSE where the file system has no locks",
}

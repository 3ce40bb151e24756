"""What h5py raises for objects that it cannot read, and what it says of them."""

from __future__ import annotations

READ_ERRORS = (TypeError, ValueError, OSError, RuntimeError, LookupError, ArithmeticError, MemoryError)
"""What h5py raises for objects that it cannot read, damaged ones and unknown types."""


def describe(error: BaseException) -> str:
    """Give what h5py says of an object that it cannot read, in one line.

    >>> describe(KeyError("Unable to open object"))
    'Unable to open object'
    >>> describe(KeyError(2))
    'KeyError: 2'
    """
    words = str(error.args[0]).split() if error.args else []
    return " ".join(words if len(words) > 1 else [f"{type(error).__name__}:", *words])

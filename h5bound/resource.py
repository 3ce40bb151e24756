"""Any object with ``open`` and ``close`` as a source of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


class ObjectSource:
    """Any object with ``open()`` and ``close()``, and the function that reads from it.

    Both travel in one pickle, so that a bound method goes on belonging to its object.
    """

    __slots__ = ("read", "resource")
    exclusive: ClassVar[bool] = True

    def __init__(self, resource: Any, read: Callable[..., Any]) -> None:
        self.resource = resource
        self.read = read

    @property
    def key(self) -> Hashable:
        """One for each object of this process: a session keeps the object, so that its id stays its own."""
        return id(self.resource)

    def open(self) -> None:
        """Open the object."""
        self.resource.open()

    def reader(self, opened: None) -> Callable[..., Any]:
        """Give the function that reads from it."""
        return self.read

    def check(self, opened: None) -> None:
        """Nothing is known of what may change in it."""

    def close(self, opened: None) -> None:
        """Close the object."""
        self.resource.close()

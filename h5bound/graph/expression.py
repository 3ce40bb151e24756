"""The array expression that dask asks for under ``array.query-planning: True``.

The tasks are those of the layers in :mod:`h5bound.graph.layers`. This module is imported only there, since dask keeps
its array expressions in a private package as long as they are experimental.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from dask.array._array_expr._collection import new_collection
from dask.array._array_expr._io import IO

from h5bound.graph.layers import BlockLayer, OpenLayer

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    from numpy.typing import NDArray

    from h5bound.graph.windows import Blocks


class FromBlocks(IO):  # type: ignore[misc]  # dask's IO is untyped
    """The blocks of one array as an expression."""

    _parameters = ("layer", "meta")

    @cached_property
    def _name(self) -> str:
        return str(self.operand("layer").blocks.name)

    @cached_property
    def _meta(self) -> NDArray[Any]:
        meta: NDArray[Any] = self.operand("meta")
        return meta

    @cached_property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The sizes of the blocks along each axis."""
        chunks: tuple[tuple[int, ...], ...] = self.operand("layer").blocks.chunks
        return chunks

    def _layer(self) -> dict[Any, Any]:
        layer: BlockLayer = self.operand("layer")
        return dict(OpenLayer(layer.blocks.lifecycle)) | dict(layer)


def expression_array(blocks: Blocks, meta: NDArray[np.generic]) -> da.Array:
    """Give the array of these blocks as an expression collection."""
    return new_collection(FromBlocks(BlockLayer(blocks), meta))

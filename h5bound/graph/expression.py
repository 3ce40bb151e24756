"""The array expression that dask needs under ``array.query-planning: True``.

It has the tasks of the layers in :mod:`h5bound.graph.layers`. The two imports below are private: dask's array
expressions are experimental and have no public module. Nothing else imports this module, and only under that
setting. If dask changes them, ``test_query_planning_gives_the_same_values_with_one_open_and_one_close`` fails.
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


class BlocksExpr(IO):  # type: ignore[misc]  # dask's IO is untyped
    """The blocks of one array as an expression."""

    _parameters = ("layer", "meta")

    @cached_property
    def _name(self) -> str:
        return str(self.operand("layer").blocks.name)

    @cached_property
    def _meta(self) -> Any:
        return self.operand("meta")

    @cached_property
    def chunks(self) -> Any:
        """Elements of the blocks along each axis."""
        return self.operand("layer").blocks.chunks

    def _layer(self) -> dict[Any, Any]:
        layer: BlockLayer = self.operand("layer")
        return dict(OpenLayer(layer.blocks.lifecycle)) | dict(layer)


def make_expression_array(blocks: Blocks, meta: NDArray[np.generic]) -> da.Array:
    """Return the array of these blocks as an expression collection."""
    return new_collection(BlocksExpr(BlockLayer(blocks), meta))

"""What the documents of a store say: the metadata of arrays and groups, as zarr makes them and as they are written."""

from __future__ import annotations

import json
import warnings
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5bound.stores.target import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import zarr
    from numpy.typing import NDArray
    from zarr.abc.store import Store
    from zarr.core.metadata import ArrayMetadata

    from h5bound.stores.target import Target
    from h5bound.zarr_model.array_spec import ArrayNode

    Document = dict[str, Any]


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence what zarr warns of where its documents are made on purpose, and looked through by h5bound.

    Codecs of numcodecs and data types without a specification are in a store because the source cannot be
    carried exactly without them. Not for threads: the filters of `warnings` are one for the process.
    """
    from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr", category=ZarrUserWarning)
        warnings.filterwarnings("ignore", message="Object at .* is not recognized", category=ZarrUserWarning)
        warnings.filterwarnings("ignore", category=UnstableSpecificationWarning)
        yield


def make_array(target: Target, node: ArrayNode) -> zarr.Array[Any]:
    """Give the Zarr array of a node, ready to be written to. Its document is not in the store yet."""
    return bind(make_metadata(target.zarr_format, node), target.store, node.target)


def make_encoder(target: Target, node: ArrayNode) -> ArrayMetadata:
    """Give the metadata of an array that is one chunk of the node, for `encode_block`."""
    return make_metadata(target.zarr_format, replace(node, shape=node.chunks, shards=None))


def make_metadata(zarr_format: Literal[2, 3], node: ArrayNode) -> ArrayMetadata:
    """Give zarr's metadata of a node."""
    import zarr
    from numcodecs import get_codec
    from zarr.storage import MemoryStore

    chain = node.chain
    options: dict[str, Any] = {"compressors": chain.compressors, "filters": chain.filters}
    if zarr_format == 2:
        options = {name: [get_codec(dict(item)) for item in found] or None for name, found in options.items()}
    else:
        options |= {"shards": node.shards, "dimension_names": node.dimension_names or None}
        if chain.serializer is not None:
            options["serializer"] = chain.serializer
    dtype = "string" if node.dtype.kind == "T" else node.dtype
    made = zarr.create_array(
        MemoryStore(), shape=node.shape, chunks=node.chunks, dtype=dtype, fill_value=node.fill.value[()],
        zarr_format=zarr_format, **options,
    )  # fmt: skip
    return made.metadata


def bind(metadata: ArrayMetadata, store: Store, path: str) -> zarr.Array[Any]:
    """Give the array with this metadata at a path of a store, without a look at the store."""
    import zarr
    from zarr.storage import StorePath

    place = StorePath(store, path)
    made: zarr.AsyncArray[Any] = zarr.AsyncArray(metadata, place, config={"write_empty_chunks": True})  # type: ignore[call-overload]  # it takes either format
    return zarr.Array(made)


def encode_block(metadata: ArrayMetadata | None, block: NDArray[Any]) -> bytes:
    """Give the encoded bytes of one chunk, filled up where the array ends within it."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    assert metadata is not None
    store = MemoryStore()
    array = bind(metadata, store, "")
    whole = np.zeros(metadata.shape, block.dtype)
    whole[tuple(slice(0, size) for size in block.shape)] = block
    array[...] = whole
    key = metadata.encode_chunk_key((0,) * len(metadata.shape))
    found = run(store.get(key, default_buffer_prototype()))
    assert found is not None
    return bytes(found.to_bytes())


def describe_array(array: zarr.Array[Any], node: ArrayNode) -> Document:
    """Give the documents of an array by their file names: its metadata and its attributes.

    The fill value is set as it was planned, since zarr itself drops the payload of a NaN.
    """
    from zarr.core.buffer import default_buffer_prototype

    with quiet_zarr():
        buffers = array.metadata.to_buffer_dict(default_buffer_prototype())
    documents: Document = {name: json.loads(buffer.to_bytes()) for name, buffer in buffers.items()}
    attributes = dict(node.attributes)
    if array.metadata.zarr_format == 2:
        documents[".zarray"]["fill_value"] = node.fill.json
        names = {} if node.dimension_names is None else {"_ARRAY_DIMENSIONS": list(node.dimension_names)}
        return documents | {".zattrs": attributes | names}
    documents["zarr.json"] |= {"fill_value": node.fill.json, "attributes": attributes}
    if node.dimension_names is not None:
        documents["zarr.json"]["dimension_names"] = list(node.dimension_names)
    return documents


def describe_group(zarr_format: int, attributes: Mapping[str, Any]) -> Document:
    """Give the documents of a group by their file names."""
    if zarr_format == 2:
        return {".zgroup": {"zarr_format": 2}, ".zattrs": dict(attributes)}
    return {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}}


def write_root(target: Target, nodes: Mapping[str, Document]) -> None:
    """Write the documents of the root one after another, with all others consolidated in it where that is done.

    Parameters
    ----------
    target
        The store.
    nodes
        Documents of all nodes by the node's path; "" is the root.
    """
    copied = target.store.supports_consolidated_metadata
    for name, document in (consolidate(target.zarr_format, nodes) if copied else nodes[""]).items():
        target.write([(name, dump(document))])


def write_nodes(target: Target, nodes: Mapping[str, Document]) -> None:
    """Write the documents of all nodes but the root, by the node's path."""
    target.write(
        (f"{path}/{name}", dump(document))
        for path, documents in nodes.items()
        for name, document in documents.items()
        if path
    )


def consolidate(zarr_format: int, nodes: Mapping[str, Document]) -> Document:
    """Give the root's documents with all others in them, the one that makes the store a store last.

    v2: ``.zmetadata``; v3: as zarr-python reads and writes it, the specification does not have it yet.
    """
    root = nodes[""]
    # zarr-python builds its tree from these in one pass: parents first, and the children of one parent together.
    ordered = sorted(nodes.items(), key=lambda item: (item[0].count("/"), item[0].split("/")))
    if zarr_format == 2:
        every = {
            f"{path}/{name}" if path else name: document
            for path, documents in ordered
            for name, document in documents.items()
        }
        consolidated = {"zarr_consolidated_format": 1, "metadata": every}
        return {".zattrs": root[".zattrs"], ".zmetadata": consolidated, ".zgroup": root[".zgroup"]}
    inner = {path: documents["zarr.json"] for path, documents in ordered if path}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": inner}
    return {"zarr.json": root["zarr.json"] | {"consolidated_metadata": consolidated}}


def dump(document: Any) -> bytes:
    """Give a document as JSON."""
    return json.dumps(document, indent=2, allow_nan=False).encode("ascii")

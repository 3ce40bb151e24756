"""Metadata documents of arrays and groups, made with zarr and completed for the store."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal

from h5bound.codecs.filters import to_codec_v3
from h5bound.zarr_model.array_spec import make_codecs, plan_serializer
from h5bound.zarr_model.fill_values import choose_zarr_type
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    import zarr
    from zarr.abc.store import Store

    from h5bound.zarr_model.array_spec import ArrayNode

    Document = dict[str, Any]


CONSOLIDATED = "consolidated_metadata"

EMBEDDED = "h5bound"
"""Field of the root's consolidated metadata with the provenance, in a store that takes no key of its own for it."""

MAX_KNOWN = 1024
"""Most arrays whose metadata are kept."""

known_metadata: dict[Hashable, Any] = {}
"""Metadata of arrays by all that decides them: files of one kind have the same arrays, and zarr takes long to make one.

They are immutable, and hold no attributes.
"""


def make_array(store: Store, node: ArrayNode, zarr_format: Literal[2, 3]) -> zarr.Array[Any]:
    """Return the Zarr array of a node, ready for chunks to be written. Its metadata document is not written."""
    form = (
        zarr_format, node.dtype, node.shape, node.chunks, node.shards, node.dimension_names,
        repr(node.fill.value) if node.dtype.kind in "TO" else node.fill.value.tobytes(), repr(node.chain),
    )  # fmt: skip
    metadata = known_metadata.get(form)
    if metadata is None:
        if len(known_metadata) >= MAX_KNOWN:
            known_metadata.clear()
        metadata = known_metadata[form] = make_metadata(node, zarr_format)
    return bind(metadata, store, node.target)


def make_metadata(node: ArrayNode, zarr_format: Literal[2, 3]) -> Any:
    """Return the metadata of a node as zarr makes them, without attributes."""
    import zarr
    from zarr.storage import MemoryStore

    chain = node.chain
    options: dict[str, Any]
    if zarr_format == 2:
        options = {"filters": make_codecs(chain.filters) or None, "compressors": make_codecs(chain.compressors) or None}
        options["order"] = "C"  # as HDF5 stores it, whatever zarr's setting array.order says
    else:
        options = {"shards": node.shards, "dimension_names": node.dimension_names or None}
        options |= {"filters": (), "compressors": tuple(map(to_codec_v3, chain.compressors))}
        serializer = plan_serializer(node.dtype)
        if serializer is not None:
            options["serializer"] = serializer
    template = zarr.create_array(
        MemoryStore(), shape=node.shape, chunks=node.chunks, dtype=choose_zarr_type(node.dtype),
        fill_value=node.fill.value[()], zarr_format=zarr_format, **options,
    )  # fmt: skip
    return template.metadata


def bind(metadata: Any, store: Store, path: str) -> zarr.Array[Any]:
    """Return the array with this metadata at a path of a store, without reading the store."""
    import zarr
    from zarr.storage import StorePath

    return zarr.Array(zarr.AsyncArray(metadata, StorePath(store, path), config={"write_empty_chunks": True}))


def describe_array(array: zarr.Array[Any], node: ArrayNode) -> Document:
    """Return the metadata documents of an array by file name; zarr would drop the payload of a NaN as fill value."""
    from zarr.buffer import default_buffer_prototype

    with quiet_zarr():
        buffers = array.metadata.to_buffer_dict(default_buffer_prototype())
    documents: Document = {name: json.loads(buffer.to_bytes()) for name, buffer in buffers.items()}
    attributes = dict(node.attributes)
    if array.metadata.zarr_format == 2:
        documents[".zarray"]["fill_value"] = node.fill.json
        return documents | {".zattrs": attributes | {"_ARRAY_DIMENSIONS": list(node.dimension_names)}}
    documents["zarr.json"] |= {"fill_value": node.fill.json, "attributes": attributes}
    documents["zarr.json"]["dimension_names"] = list(node.dimension_names)
    return documents


def describe_group(zarr_format: int, attributes: Mapping[str, Any]) -> Document:
    """Return the metadata documents of a group by their file names."""
    if zarr_format == 2:
        return {".zgroup": {"zarr_format": 2}, ".zattrs": dict(attributes)}
    return {"zarr.json": {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}}


def list_items(nodes: Mapping[str, Document]) -> Iterator[tuple[str, Document]]:
    """Yield key and content of each metadata document but the root's. `nodes`: documents by node path."""
    for path, documents in nodes.items():
        if path:
            yield from ((f"{path}/{name}", document) for name, document in documents.items())


def describe_root(zarr_format: int, nodes: Mapping[str, Document]) -> Document:
    """Return the root's metadata documents in the order to write them, with the consolidated metadata of all nodes.

    The last one makes the store a store.
    """
    root = nodes[""]
    if zarr_format == 2:
        return {".zattrs": root[".zattrs"], ".zmetadata": consolidate_v2(nodes), ".zgroup": root[".zgroup"]}
    return {"zarr.json": root["zarr.json"] | {CONSOLIDATED: consolidate_v3(nodes)}}


def consolidate_v2(nodes: Mapping[str, Document]) -> Document:
    """Return the content of ``.zmetadata``."""
    metadata = {
        f"{path}/{name}".lstrip("/"): document
        for path, documents in sort_nodes(nodes)
        for name, document in documents.items()
    }
    return {"zarr_consolidated_format": 1, "metadata": metadata}


def consolidate_v3(nodes: Mapping[str, Document]) -> Document:
    """Return the consolidated metadata of the root in zarr-python's form: Zarr v3 does not specify any."""
    metadata = {path: documents["zarr.json"] for path, documents in sort_nodes(nodes) if path}
    return {"kind": "inline", "must_understand": False, "metadata": metadata}


def sort_nodes(nodes: Mapping[str, Document]) -> list[tuple[str, Document]]:
    """Return the nodes as zarr-python builds its tree in one pass: parents first, the children of one together."""
    return sorted(nodes.items(), key=lambda item: (item[0].count("/"), item[0].split("/")))


READABLE: dict[str, Any] = {"indent": 2}

COMPACT: dict[str, Any] = {"separators": (",", ":")}


def dump(document: Any, *, compact: bool = False) -> bytes:
    """Return a document as JSON, `compact` without white space; NaN is that of Python, as zarr writes it."""
    return json.dumps(document, **COMPACT if compact else READABLE).encode("ascii")


def is_spelled_otherwise(key: str, planned: Document, content: bytes | None) -> bool:
    """Return whether a document of a store is the planned one as another version of zarr may spell it."""
    try:
        documents = (planned, json.loads(content or b"null"))
        one, other = (json.dumps(respell(key, document), sort_keys=True) for document in documents)
    except (AttributeError, KeyError, TypeError, ValueError):  # not a document of a node
        return False
    return one == other


def respell(key: str, document: Document) -> Document:
    """Return a metadata document as the zarr that is installed spells it, without an embedded provenance."""
    name = key.rpartition("/")[2]
    if name == ".zmetadata":
        return {**document, "metadata": {inner: respell(inner, copy) for inner, copy in document["metadata"].items()}}
    if name == "zarr.json" and document["node_type"] == "group":
        copies = document.get(CONSOLIDATED, {}).get("metadata", {})
        return {**document, CONSOLIDATED: [(path, respell(name, copy)) for path, copy in sorted(copies.items())]}
    if name in (".zattrs", ".zgroup"):
        return document
    from zarr.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    with quiet_zarr():
        array = bind(dict(document), MemoryStore(), "")
        buffers = array.metadata.to_buffer_dict(default_buffer_prototype())
    spelled: Document = json.loads(buffers["zarr.json" if array.metadata.zarr_format == 3 else ".zarray"].to_bytes())
    exact = ("attributes", "fill_value", "dimension_names")
    return spelled | {key: document[key] for key in exact if key in document}


def digest(document: Document) -> str:
    """Return the BLAKE2b hash (16 bytes) of a metadata document, whatever the order and spacing of its JSON.

    An embedded provenance, which holds the hash, does not count.

    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    copies = document.get(CONSOLIDATED)
    if isinstance(copies, dict) and EMBEDDED in copies:
        document = {**document, CONSOLIDATED: {name: copies[name] for name in copies if name != EMBEDDED}}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

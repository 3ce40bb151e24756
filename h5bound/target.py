"""The Zarr store that a conversion writes: documents, chunk keys, shards, and the mark that says it is whole.

Chunks are written first and documents last, the root's document last of all. Until then no node of the store can
be opened; `MARKER` says whose unfinished work it is.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from h5bound.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import zarr
    from numpy.typing import NDArray
    from zarr.abc.store import Store
    from zarr.core.metadata import ArrayMetadata

    from h5bound.plan import ArrayNode

    Document = dict[str, Any]

MARKER = "h5bound-unfinished.json"
"""The key that is there from the first write to the last."""

NO_CHUNK = 2**64 - 1
"""Offset and length of an inner chunk that a shard does not hold (Zarr v3, sharding codec, section 3.2)."""


@dataclass(frozen=True)
class Target:
    """A store, by its path or URL; travels to other processes."""

    url: str
    zarr_format: Literal[2, 3]

    @cached_property
    def root(self) -> Path | None:
        """The directory, None where the store is not a local one."""
        local = self.url.removeprefix("file://")
        return None if "://" in local else Path(local)

    @cached_property
    def store(self) -> Store:
        """The Zarr store."""
        from zarr.storage import FsspecStore, LocalStore

        return FsspecStore.from_url(self.url) if self.root is None else LocalStore(self.root)

    def write(self, items: Iterable[tuple[str, bytes | memoryview]]) -> int:
        """Write keys, each whole or not at all; gives how many bytes that were."""
        if self.root is not None:
            return sum(write_file(self.root / key, data) for key, data in items)
        pairs = list(items)
        run(_set_all(self.store, pairs))
        return sum(len(data) for _, data in pairs)

    def read(self, key: str) -> bytes | None:
        """Give the bytes of a key, None if there is no such key."""
        from zarr.core.buffer import default_buffer_prototype

        found = run(self.store.get(key, default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def measure(self, keys: Iterable[str]) -> int:
        """Give how many bytes the keys have together."""
        if self.root is not None:
            return sum((self.root / key).stat().st_size for key in keys)
        return sum(run(self.store.getsize(key)) for key in keys)

    def delete(self, key: str) -> None:
        """Delete a key if it is there."""
        run(self.store.delete(key))

    def clear(self) -> None:
        """Delete everything."""
        run(self.store.clear())

    def delete_prefix(self, prefix: str) -> None:
        """Delete all keys below a path."""
        run(self.store.delete_dir(prefix))

    def list_keys(self, prefix: str = "") -> Iterator[str]:
        """Give the keys below a path."""
        return iter(run(_list(self.store, prefix)))

    def is_empty(self) -> bool:
        """Tell whether nothing is there: no file, and no key."""
        if self.root is not None:
            return not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir()))
        return bool(run(self.store.is_empty("")))


def write_file(path: Path, data: bytes | memoryview) -> int:
    """Write a file under another name first, so that it is there whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(data)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
    partial.replace(path)
    return len(data)


def run(coroutine: Any) -> Any:
    """Give the result of one of zarr's coroutines."""
    from zarr.core.sync import sync

    return sync(coroutine)


async def _set_all(store: Store, items: list[tuple[str, bytes | memoryview]]) -> None:
    from zarr.core.buffer import default_buffer_prototype

    make = default_buffer_prototype().buffer.from_bytes
    await asyncio.gather(*(store.set(key, make(bytes(data))) for key, data in items))


async def _list(store: Store, prefix: str) -> list[str]:
    return [key async for key in store.list_prefix(prefix)]


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


def write_documents(target: Target, nodes: Mapping[str, Document]) -> None:
    """Write the documents of all nodes, the root's last, with all others consolidated in it.

    Parameters
    ----------
    target
        The store.
    nodes
        Documents by the node's path; "" is the root.
    """
    for path, documents in nodes.items():
        if path:
            target.write((f"{path}/{name}", dump(document)) for name, document in documents.items())
    target.write((name, dump(document)) for name, document in consolidate(target.zarr_format, nodes).items())


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


def read_mark(target: Target) -> Mapping[str, Any]:
    """Give the ``_h5bound`` attribute of a complete store's root.

    Raises
    ------
    TargetError
        Nothing is there, it is unfinished, or h5bound did not write it.
    """
    marker = target.read(MARKER)
    document = target.read("zarr.json" if target.zarr_format == 3 else ".zattrs")
    if document is None and marker is None:
        raise TargetError(f"{target.url}: no Zarr store of format {target.zarr_format} there")
    if document is None:
        raise TargetError(f"{target.url}: an unfinished conversion; convert again with resume or overwrite")
    attributes = json.loads(document)
    mark = (attributes.get("attributes", {}) if target.zarr_format == 3 else attributes).get("_h5bound", {})
    if not mark.get("complete"):
        raise TargetError(f"{target.url}: not a store that h5bound wrote, so its source is not known")
    return dict(mark)


def find_target(url: str) -> Target:
    """Give the store at a path or URL in the format that it has there; 3 if nothing tells."""
    second = Target(url, 2)
    return second if second.read(".zgroup") is not None else Target(url, 3)


def pack_shard(
    parts: Sequence[NDArray[np.uint8]], sizes: NDArray[np.int64], places: NDArray[np.int64], count: int
) -> bytes:
    """Give a shard of encoded inner chunks, its index at the end with its checksum (Zarr v3, sharding codec).

    Parameters
    ----------
    parts
        The bytes of the chunks, one chunk after another.
    sizes
        How many bytes each chunk has.
    places
        Its position in C order within the shard.
    count
        Positions in a shard.
    """
    import google_crc32c

    index: NDArray[np.uint64] = np.full((count, 2), NO_CHUNK, dtype="<u8")
    index[places, 0] = np.cumsum(sizes) - sizes
    index[places, 1] = sizes
    table = index.tobytes()
    return b"".join([*parts, table, google_crc32c.value(table).to_bytes(4, "little")])

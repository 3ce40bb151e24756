"""The nodes of a Zarr store, and the keys of their chunks."""

from __future__ import annotations

import json
import re
from array import array as numbers_array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from h5bound.chunk_grid import count_chunks
from h5bound.errors import TargetError
from h5bound.h5py_compat import describe
from h5bound.stores.metadata import CONSOLIDATED, bind, digest
from h5bound.stores.target import LocalTarget
from h5bound.zarr_model.array_spec import check_codecs
from h5bound.zarr_model.node_names import OWN_KEY, PARTIAL_SUFFIX, RESERVED_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import zarr
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target


READS_AT_ONCE = 256
"""Metadata documents in memory before they are parsed."""

NAMES = {3: ("zarr.json",), 2: (".zarray", ".zgroup", ".zattrs", ".zmetadata")}
"""File names of metadata documents by format, first those that make a node."""

CHUNK_NAME = re.compile(r"c|(?:c\.)?[0-9]+(?:\.[0-9]+)*")
"""The last component of a key that is a chunk in some array, or of one that is spelled as no chunk is."""


@dataclass(frozen=True, slots=True, eq=False)
class StoreNode:
    """A group or array of a store."""

    path: str
    """Node path without a leading slash, "" for the root."""
    documents: Mapping[str, Document]
    """Metadata documents by their file names."""
    array: zarr.Array[Any] | None
    """The array, None for a group."""
    counts: Shape = ()
    """Number of keys that the array may have along each axis."""

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the node."""
        if "zarr.json" in self.documents:
            return dict(self.documents["zarr.json"].get("attributes", {}))
        return dict(self.documents.get(".zattrs", {}))

    @property
    def fill_json(self) -> Any:
        """The fill value of an array as JSON."""
        return self.documents.get("zarr.json", self.documents.get(".zarray", {})).get("fill_value")


@dataclass(frozen=True, slots=True, eq=False)
class StoreTree:
    """All keys of a store."""

    nodes: Mapping[str, StoreNode]
    """Nodes by their paths."""
    chunk_coords: Mapping[str, NDArray[np.int64]]
    """Chunk coordinates of the keys by the path of their array, in its grid of chunks or shards."""
    strays: Mapping[str | None, Sequence[str]]
    """Keys below each array that are not its chunks, by its path; under None the keys below no array."""
    foreign: Sequence[str]
    """Files of other programs, which no reader of Zarr reads."""

    def digest_documents(self) -> dict[str, str]:
        """Return the digest of each metadata document by its key."""
        return {
            f"{node.path}/{name}".lstrip("/"): digest(document)
            for node in self.nodes.values()
            for name, document in node.documents.items()
        }


def read_tree(target: Target) -> StoreTree:
    """Return all nodes and keys of a store. Raise TargetError if a metadata document is damaged."""
    keys: list[str] = []
    document_keys: list[str] = []
    foreign: list[str] = []
    for key in list_keys(target):
        if key != OWN_KEY:
            kind = document_keys if is_document(key, target.zarr_format) else foreign if is_foreign(key) else keys
            kind.append(key)
    by_path: dict[str, dict[str, Document]] = {}
    for key, document in read_documents(target, document_keys):
        path, _, name = key.rpartition("/")
        by_path.setdefault(path, {})[name] = document
    nodes = {}
    for path, documents in sorted(by_path.items()):
        node_name = next((name for name in NAMES[target.zarr_format][:2] if name in documents), "")
        used = {one: documents[one] for one in documents if node_name and one in (node_name, ".zattrs", ".zmetadata")}
        if node_name:
            nodes[path] = make_node(target, path, name=node_name, documents=used)
        keys += [f"{path}/{one}".lstrip("/") for one in documents if one not in used]
    chunk_coords, strays = sort_keys(keys, nodes)
    return StoreTree(nodes=nodes, chunk_coords=chunk_coords, strays=strays, foreign=sorted(foreign))


def is_foreign(key: str) -> bool:
    """Return whether a key is a file of another program: no format of Zarr has a document or chunk of such a name.

    >>> [is_foreign(key) for key in ("a/.DS_Store", "notes.txt", "a/c/01", "a/0.0", "a/zarr.json")]
    [True, True, False, False, False]
    """
    name = key.rpartition("/")[2]
    return not (name in RESERVED_KEYS or name.endswith(PARTIAL_SUFFIX) or CHUNK_NAME.fullmatch(name))


def list_foreign(target: Target) -> list[str]:
    """Return the files of other programs in a directory; of no other store, where each listing is a request."""
    keys = target.keys.list_all() if isinstance(target, LocalTarget) else []
    return sorted(key for key in keys if is_foreign(key))


def is_document(key: str, zarr_format: int) -> bool:
    """Return whether a key is that of a metadata document."""
    path, _, name = key.rpartition("/")
    return name in NAMES[zarr_format] and (name != ".zmetadata" or not path)


def list_keys(target: Target) -> list[str]:
    """Return the keys of a store. Raise TargetError if it lists none: a web server may not list keys."""
    reason = "its keys cannot be listed, so keys that do not belong to it would not be found"
    try:
        keys = target.keys.list_all()
    except Exception as error:
        raise TargetError(f"{target.url}: {reason} ({describe(error)})") from error
    if not keys:
        raise TargetError(f"{target.url}: {reason}")
    return keys


def read_documents(target: Target, keys: Sequence[str]) -> Iterator[tuple[str, Document]]:
    """Yield key and content of metadata documents; raise TargetError if one is not a JSON object with attributes."""
    for start in range(0, len(keys), READS_AT_ONCE):
        batch = keys[start : start + READS_AT_ONCE]
        for key, data in zip(batch, target.keys.read_all(batch), strict=True):
            try:
                document = json.loads(data or b"")
            except (ValueError, RecursionError) as error:
                raise damaged_document(target, key, error) from error
            if not isinstance(document, dict) or not isinstance(document.get("attributes", {}), dict):
                raise damaged_document(target, key, TypeError("it or its attributes are not a JSON object"))
            yield key, document


def damaged_document(target: Target, key: str, error: BaseException) -> TargetError:
    """Return the error for a metadata document that cannot be used."""
    return TargetError(
        f"{target.url}: the metadata document {key} is damaged ({describe(error)}); convert again with overwrite=True"
    )


def make_node(target: Target, path: str, *, name: str, documents: Mapping[str, Document]) -> StoreNode:
    """Return a node as zarr reads it. `name`: file name of the document that makes it an array or a group.

    Raise TargetError if zarr cannot read it, its format is another one, or a codec is one that h5bound does not write.
    """
    import zarr
    from zarr.storage import StorePath

    own = without_copies(documents[name])
    try:
        check_format(own, target.zarr_format)
        if name == ".zgroup" or own.get("node_type") == "group":
            zarr.AsyncGroup.from_dict(StorePath(target.store, path), dict(own))
            return StoreNode(path=path, documents=documents, array=None)
        check_codecs(own)
        array = bind(own, target.store, path)
        counts = count_chunks(array.shape, array.shards or array.chunks)
        return StoreNode(path=path, documents=documents, array=array, counts=counts)
    except Exception as error:
        raise damaged_document(target, f"{path}/{name}".lstrip("/"), error) from error


def check_format(document: Document, zarr_format: int) -> None:
    """Raise ValueError for a document of another or no format: zarr may read it all the same."""
    if document.get("zarr_format") != zarr_format:
        raise ValueError(f"its zarr_format is {document.get('zarr_format')!r}, not {zarr_format}")


def sort_keys(
    keys: Iterable[str], nodes: Mapping[str, StoreNode]
) -> tuple[dict[str, NDArray[np.int64]], dict[str | None, list[str]]]:
    """Return the chunk coordinates of the keys by array, and the keys that are not a chunk."""
    flat: dict[str, numbers_array[int]] = {}
    strays: dict[str | None, list[str]] = {}
    for key in keys:
        owner = find_array(key, nodes)
        coords = None if owner is None else find_chunk_coords(owner, key)
        if owner is None or coords is None:
            strays.setdefault(None if owner is None else owner.path, []).append(key)
        else:
            flat.setdefault(owner.path, numbers_array("q")).extend(coords or (0,))
    chunk_coords = {}
    for path, numbers in flat.items():
        axes = len(nodes[path].counts)
        chunk_coords[path] = np.array(numbers, np.int64).reshape(-1, max(axes, 1))[:, :axes]
    return chunk_coords, strays


def find_array(key: str, nodes: Mapping[str, StoreNode]) -> StoreNode | None:
    """Return the innermost array that a key is below."""
    path = key
    while path:
        path = path.rpartition("/")[0]
        node = nodes.get(path)
        if node is not None and node.array is not None:
            return node
    return None


def find_chunk_coords(node: StoreNode, key: str) -> Shape | None:
    """Return the chunk coordinates of a key, None if the grid does not have that chunk."""
    assert node.array is not None
    coords = read_chunk_coords(node.array, key[len(node.path) :].lstrip("/"))
    inside = coords is not None and all(i < count for i, count in zip(coords, node.counts, strict=True))
    return coords if inside else None


def read_chunk_coords(array: zarr.Array[Any], name: str) -> Shape | None:
    """Return the coordinates of a chunk, which may be past the end, from its key below the array; None for others."""
    coords = tuple(map(int, re.findall(r"[0-9]{1,18}", name)))[: array.ndim]
    is_chunk = len(coords) == array.ndim and array.metadata.encode_chunk_key(coords) == name
    return coords if is_chunk else None


def without_copies(document: Document) -> Document:
    """Return a metadata document without consolidated metadata."""
    return {name: value for name, value in document.items() if name != CONSOLIDATED}

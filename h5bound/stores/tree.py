"""The nodes of a Zarr store as they are in it: their own documents, the copies of these, and the keys of their chunks.

Zarr and xarray read the copies, the consolidated metadata, where there are any. So a store is what its source is only
if each copy is what the node itself has.
"""

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
from h5bound.stores.metadata import bind
from h5bound.zarr_model.array_spec import check_codecs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import zarr
    from numpy.typing import NDArray

    from h5bound.chunk_grid import Shape
    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target


CONSOLIDATED = "consolidated_metadata"

READS_AT_ONCE = 256
"""Documents that are in memory at once, before they are read."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredNode:
    """A group or array of a store."""

    path: str
    """without a leading slash; "" for the root"""
    documents: Mapping[str, Document]
    """by their file names"""
    array: zarr.Array[Any] | None
    """None for a group"""
    counts: Shape = ()
    """how many keys the array may have along each axis"""

    @property
    def attributes(self) -> dict[str, Any]:
        """Of the node itself."""
        if "zarr.json" in self.documents:
            return dict(self.documents["zarr.json"].get("attributes", {}))
        return dict(self.documents.get(".zattrs", {}))

    @property
    def fill_json(self) -> Any:
        """The fill value of an array as its document spells it."""
        return self.documents.get("zarr.json", self.documents.get(".zarray", {})).get("fill_value")


@dataclass(frozen=True, slots=True, eq=False)
class StoredTree:
    """All keys of a store."""

    nodes: Mapping[str, StoredNode]
    """by their paths"""
    chunk_coords: Mapping[str, NDArray[np.int64]]
    """cells of which there is a key, by the path of the array, in the grid of its keys"""
    strays: Mapping[str | None, Sequence[str]]
    """keys that are no chunk of the array at whose path they stand; None: that stand at none"""


def read_tree(target: Target) -> StoredTree:
    """Give the nodes of a store and what keys it has.

    Raises
    ------
    TargetError
        A document is damaged, or the keys cannot be listed.
    """
    files = {3: {"zarr.json"}, 2: {".zarray", ".zgroup", ".zattrs"}}[target.zarr_format]
    keys: list[str] = []
    found: list[str] = []
    for key in list_keys(target):
        (found if key.rpartition("/")[2] in files or key == ".zmetadata" else keys).append(key)
    by_path: dict[str, dict[str, Document]] = {}
    for key, document in read_documents(target, found):
        path, _, name = key.rpartition("/")
        by_path.setdefault(path, {})[name] = document
    nodes = {}
    for path, documents in sorted(by_path.items()):
        kept = keep_documents(documents)
        if kept:
            nodes[path] = make_node(target, path, kept)
        keys += [f"{path}/{name}".lstrip("/") for name in documents if name not in kept]
    return StoredTree(nodes, *sort_keys(keys, nodes))


def list_keys(target: Target) -> list[str]:
    """Give the keys of a store that has some.

    Raises
    ------
    TargetError
        They cannot be listed, as behind a web server that shows no folders.
    """
    reason = "its keys cannot be listed, so nothing says that it has none too many"
    try:
        keys = target.list_keys()
    except Exception as error:
        raise TargetError(f"{target.url}: {reason} ({describe(error)})") from error
    if not keys:
        raise TargetError(f"{target.url}: {reason}")
    return keys


def read_documents(target: Target, keys: Sequence[str]) -> Iterator[tuple[str, Document]]:
    """Give the documents of a store by their keys.

    Raises
    ------
    TargetError
        One is no JSON object, or its attributes are none.
    """
    for start in range(0, len(keys), READS_AT_ONCE):
        some = keys[start : start + READS_AT_ONCE]
        for key, data in zip(some, target.read_all(some), strict=True):
            try:
                document = json.loads(data or b"")
            except (ValueError, RecursionError) as error:
                raise damaged(target, key, error) from error
            if not isinstance(document, dict) or not isinstance(document.get("attributes", {}), dict):
                raise damaged(target, key, TypeError("no JSON object, or its attributes are none"))
            yield key, document


def damaged(target: Target, key: str, error: BaseException) -> TargetError:
    """Give the error that says so of a document."""
    return TargetError(
        f"{target.url}: {key} is a damaged document ({describe(error)}); convert again with overwrite=True"
    )


def keep_documents(documents: Mapping[str, Document]) -> dict[str, Document]:
    """Give those that make one node: of format 2 an array if it is one, else a group; none without either."""
    if "zarr.json" in documents:
        return dict(documents)
    kind = next((name for name in (".zarray", ".zgroup") if name in documents), None)
    return {name: item for name, item in documents.items() if kind and name in (kind, ".zattrs", ".zmetadata")}


def make_node(target: Target, path: str, documents: Mapping[str, Document]) -> StoredNode:
    """Give a node, as zarr understands its documents.

    Raises
    ------
    TargetError
        It does not.
    """
    from zarr.core.group import GroupMetadata

    name = next(name for name in ("zarr.json", ".zarray", ".zgroup") if name in documents)
    own: Any = {key: value for key, value in documents[name].items() if key != CONSOLIDATED}
    try:
        check_format(own, target.zarr_format)
        if name == ".zgroup" or own.get("node_type") == "group":
            GroupMetadata.from_dict(dict(own))
            return StoredNode(path, documents, None)
        check_codecs(own)
        array = bind(own, target.store, path)
        return StoredNode(path, documents, array, count_chunks(array.shape, array.shards or array.chunks))
    except Exception as error:
        raise damaged(target, f"{path}/{name}".lstrip("/"), error) from error


def check_format(document: Document, zarr_format: int) -> None:
    """Refuse a document of another format, or of none, which zarr may read all the same.

    Raises
    ------
    ValueError
        It is.
    """
    if document.get("zarr_format") != zarr_format:
        raise ValueError(f"its zarr_format is {document.get('zarr_format')!r}, not {zarr_format}")


def sort_keys(
    keys: Iterable[str], nodes: Mapping[str, StoredNode]
) -> tuple[dict[str, NDArray[np.int64]], dict[str | None, list[str]]]:
    """Give the cells that have a key, by array, and the keys that are no chunk of any."""
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


def find_array(key: str, nodes: Mapping[str, StoredNode]) -> StoredNode | None:
    """Give the array at whose path a key stands, the innermost one."""
    path = key
    while path:
        path = path.rpartition("/")[0]
        node = nodes.get(path)
        if node is not None and node.array is not None:
            return node
    return None


def find_chunk_coords(node: StoredNode, key: str) -> Shape | None:
    """Give the cell whose key this is; None if there is none in the grid."""
    assert node.array is not None
    name = key[len(node.path) :].lstrip("/")
    coords = tuple(map(int, re.findall(r"[0-9]{1,18}", name)))[: len(node.counts)]
    inside = len(coords) == len(node.counts) and all(i < count for i, count in zip(coords, node.counts, strict=True))
    return coords if inside and node.array.metadata.encode_chunk_key(coords) == name else None


def compare_copies(target: Target, nodes: Mapping[str, StoredNode]) -> Iterator[tuple[str, str]]:
    """Yield path and difference of each node whose consolidated document is not its own.

    Raises
    ------
    TargetError
        The consolidated metadata are none.
    """
    if target.zarr_format == 2:
        held = nodes[""].documents.get(".zmetadata")
        own = {
            f"{path}/{name}".lstrip("/"): document
            for path, node in nodes.items()
            for name, document in node.documents.items()
            if name != ".zmetadata"
        }
        yield from compare_with_copies(target, "", ".zmetadata", held, own)
        return
    for path, node in nodes.items():
        held = node.documents["zarr.json"].get(CONSOLIDATED)
        if held is None and (path or not target.store.supports_consolidated_metadata):
            continue  # only the root has to have any, where zarr reads them at all
        below = f"{path}/" if path else ""
        own = {
            inner.removeprefix(below): without_copies(other.documents["zarr.json"])
            for inner, other in nodes.items()
            if inner and inner.startswith(below)
        }
        yield from compare_with_copies(target, path, f"{below}zarr.json", held, own)


def compare_with_copies(
    target: Target, base: str, key: str, held: Any, own: Mapping[str, Document]
) -> Iterator[tuple[str, str]]:
    """Yield path and difference of each document below a group that has no copy, or another one."""
    if held is None:
        yield base, f"{key} has no consolidated metadata"
        return
    copies = held.get("metadata") if isinstance(held, dict) else None
    if not isinstance(copies, dict) or not all(isinstance(copy, dict) for copy in copies.values()):
        raise damaged(target, key, TypeError("its consolidated metadata are no JSON objects"))
    for name in sorted(own.keys() | copies.keys()):
        path = f"{base}/{name}".lstrip("/")
        if target.zarr_format == 2:
            path = path.rpartition("/")[0]
        if name not in copies:
            yield path, f"{name} is not in the consolidated metadata of {key}"
        elif name not in own:
            yield path, f"{name} is in the consolidated metadata of {key}, and not in the store"
        else:
            parts = list_differing_parts(own[name], without_empty_copies(copies[name]))
            if parts:
                yield path, f"{', '.join(parts)} of {name} differs in the consolidated metadata of {key}"


def without_copies(document: Document) -> Document:
    """Give a document by itself."""
    return {name: value for name, value in document.items() if name != CONSOLIDATED}


def without_empty_copies(document: Document) -> Document:
    """Give a document without consolidated metadata of nothing, as zarr-python puts them into its copies of groups."""
    held = document.get(CONSOLIDATED)
    return (
        without_copies(document) if held is None or (isinstance(held, dict) and not held.get("metadata")) else document
    )


def list_differing_parts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Give the names whose values are not the same JSON.

    >>> list_differing_parts({"a": 1, "b": 1, "c": [0]}, {"a": 1.0, "c": [0]})
    ['a', 'b']
    """
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or not same_json(one[name], other[name])
    ]


def same_json(one: Any, other: Any) -> bool:
    """Tell whether two values are the same JSON: 1, 1.0 and true are three.

    >>> same_json({"a": (1,)}, {"a": [1]}), same_json(1, True)
    (True, False)
    """
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)

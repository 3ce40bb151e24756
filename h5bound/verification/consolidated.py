"""Compare the consolidated metadata of a store with the documents of its nodes.

Zarr and xarray read consolidated metadata if there are any, so each copy must equal the document of its node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from h5bound.stores.differences import list_differing_parts
from h5bound.stores.metadata import CONSOLIDATED, consolidate_v2, consolidate_v3
from h5bound.stores.tree import damaged_document, without_copies

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from h5bound.stores.metadata import Document
    from h5bound.stores.target import Target
    from h5bound.stores.tree import StoreNode


def compare_copies(target: Target, nodes: Mapping[str, StoreNode]) -> Iterator[tuple[str, str]]:
    """Yield node path and difference of each metadata document that differs from its copy in the consolidated metadata.

    Any group of format 3 may have consolidated metadata; the root must, if zarr reads them from this store.
    """
    for base, node in nodes.items():
        name = "zarr.json" if target.zarr_format == 3 else ".zmetadata"
        key = f"{base}/{name}".lstrip("/")
        document = node.documents.get(name)
        consolidated = document if document is None or target.zarr_format == 2 else document.get(CONSOLIDATED)
        if consolidated is None:
            if not base and target.store.supports_consolidated_metadata:
                yield base, f"{key} has no consolidated metadata"
            continue
        copies = consolidated.get("metadata") if isinstance(consolidated, dict) else None
        if not isinstance(copies, dict) or not all(isinstance(copy, dict) for copy in copies.values()):
            raise damaged_document(target, key, TypeError("its consolidated metadata are not JSON objects"))
        expected = make_copies(target, base, nodes)
        for inner in sorted(expected.keys() | copies.keys()):
            difference = compare_copy(inner, expected.get(inner), copies.get(inner), key=key)
            path = f"{base}/{inner}".lstrip("/")
            if difference:
                yield path if target.zarr_format == 3 else path.rpartition("/")[0], difference


def make_copies(target: Target, base: str, nodes: Mapping[str, StoreNode]) -> dict[str, Document]:
    """Return the expected consolidated metadata of a group, by their names in it."""
    below = f"{base}/" if base else ""
    documents = {
        path.removeprefix(below): {
            name: without_copies(document) for name, document in node.documents.items() if name != ".zmetadata"
        }
        for path, node in nodes.items()
        if path.startswith(below)
    }
    copies: dict[str, Document] = (consolidate_v3 if target.zarr_format == 3 else consolidate_v2)(documents)["metadata"]
    return copies


def compare_copy(name: str, own: Document | None, copy: Document | None, *, key: str) -> str:
    """Return how a document differs from its copy in the metadata document `key`, "" if it does not."""
    if copy is None:
        return f"{name} is not in the consolidated metadata of {key}"
    if own is None:
        return f"{name} is in the consolidated metadata of {key}, and not in the store"
    inner = copy.get(CONSOLIDATED)
    if inner is None or (isinstance(inner, dict) and not inner.get("metadata")):  # zarr-python puts that into groups
        copy = without_copies(copy)
    parts = list_differing_parts(own, copy)
    return f"the copy of {name} in the consolidated metadata of {key} has other {', '.join(parts)}" if parts else ""

"""References in an icechunk repository: virtual chunks for ranges, chunks of its own for all else, in one commit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from h5bound.conversion.job import key_of
from h5bound.errors import OptionError, TargetError
from h5bound.files.file_state import FileState  # noqa: TC001 - the examples use it
from h5bound.stores.metadata import dump
from h5bound.stores.resolve import open_target
from h5bound.views.file_urls import WEB
from h5bound.zarr_model.node_names import OWN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from h5bound.stores.target import Target
    from h5bound.views.chunk_references import ChunkReferences
    from h5bound.views.served_array import ServedArray

MOST_SPECS = 10_000
"""Most virtual chunks that are passed to icechunk at a time."""

MOST_HELD = 16 * 2**20
"""Bytes of encoded chunks that are written at a time, but at least one."""


RESERVED = str.maketrans({character: f"%{ord(character):02X}" for character in "%#?\\"})
"""What a name must not have in icechunk's URLs of files and buckets. Other characters may be encoded or not."""

TAGS = ("ETag", "etag", "e_tag")
"""Names of the stamp that icechunk can compare."""


COMMIT = "h5bound references: "
"""Begins the message of the commit."""


def is_session(target: Any) -> bool:
    """Return whether a target is the store of an icechunk session."""
    return type(target).__module__.startswith("icechunk")


def write_icechunk(store: Any, refs: ChunkReferences) -> None:
    """Write references to the store of an icechunk session: one commit, or none."""
    keys, target = refs.view.keys, open_target(store, 3, None)
    if not target.keys.is_empty():
        raise TargetError(f"{target.url}: the session holds a store; write to an empty repository or branch")
    documents = {key: json.loads(document) for key, document in keys.documents.items()}
    provenance, root = documents.pop(OWN_KEY), documents.pop("zarr.json")
    with target.begin(f"{COMMIT}{refs.view.source.path}", overwrite=False) as (started, _):
        started.keys.write((key, dump(document)) for key, document in documents.items())
        make_spec = prepare_spec(refs)
        for name in list(keys.arrays):
            write_chunks(started, keys.arrays[name], refs, make_spec=make_spec)
            refs.forget_chunks(name)  # the commit needs the memory
        refs.view.check_unchanged()
        started.write_root({"zarr.json": root}, provenance)


def write_chunks(target: Target, array: ServedArray, refs: ChunkReferences, *, make_spec: Callable[..., Any]) -> None:
    """Write the chunks of an array. Raise OptionError if the repository may not refer to its file."""
    specs: list[Any] = []
    encoded: list[tuple[str, bytes]] = []
    held = 0
    for index, reference in zip(array.list_coords(), refs.list_all(array), strict=True):
        if isinstance(reference, bytes):
            encoded.append((key_of(array.job, index), reference))
            held += len(reference)
        else:
            specs.append(make_spec(index, *reference))
        if len(specs) == MOST_SPECS:
            refer(target, array, specs)
        if held >= MOST_HELD:
            target.keys.write(encoded)
            encoded.clear()
            held = 0
    refer(target, array, specs)
    target.keys.write(encoded)


def prepare_spec(refs: ChunkReferences) -> Callable[..., Any]:
    """Return a function that makes icechunk's record of a virtual chunk: of its coordinates, URL, offset and size."""
    from icechunk import VirtualChunkSpec

    files = {refs.locate(file): file for file in refs.view.keys.all_files if refs.locate(file) is not None}

    @cache
    def describe(url: str) -> tuple[str, str | None, datetime | None]:
        state = files[url].state if refs.urls.base_url is None else None
        checksum = (None, None) if state is None else choose_checksum(state, files[url].path)
        return url if url.lower().startswith(WEB) else url.translate(RESERVED), *checksum

    def make(index: list[int], url: str, offset: int, nbytes: int) -> Any:
        name, tag, until = describe(url)
        return VirtualChunkSpec(index, name, offset, nbytes, tag, until)

    return make


def refer(target: Target, array: ServedArray, specs: list[Any]) -> None:
    """Write virtual chunks. Raise OptionError if the repository may not refer to their file."""
    store: Any = target.store
    if specs and store.set_virtual_refs(f"/{array.plan.node.target}", specs):
        raise OptionError(
            f"{target.url}: the repository has no virtual chunk container for {specs[0].location}; add one with "
            "icechunk.RepositoryConfig.set_virtual_chunk_container, or pass base_url="
        )
    specs.clear()


def choose_checksum(state: FileState, path: str) -> tuple[str | None, datetime | None]:
    """Return by what icechunk notices that a file was replaced: its ETag, or else the time until which it is the same.

    It sends ETags without their quotes, which buckets take, but not all web servers.

    >>> choose_checksum(FileState(size=3, mtime_ns=1_500_000_000), "/a.h5")
    (None, datetime.datetime(1970, 1, 1, 0, 0, 2, tzinfo=datetime.timezone.utc))
    >>> choose_checksum(FileState(size=3, mtime_ns=0, stamps=(("ETag", '"a"'),)), "s3://bucket/a.h5")
    ('"a"', None)
    >>> choose_checksum(FileState(size=3, mtime_ns=0, stamps=(("ETag", '"a"'),)), "https://host/a.h5")
    (None, None)
    """
    tag = next((value for name, value in state.stamps if name in TAGS), "")
    if tag and not tag.startswith("W/") and not path.lower().startswith(WEB):
        return tag, None
    return None, datetime.fromtimestamp(-(-state.mtime_ns // 10**9), UTC) if state.mtime_ns else None

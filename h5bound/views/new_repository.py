"""A new icechunk repository in a folder: it may refer to the files that are read, and holds one commit."""

from __future__ import annotations

import re
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

from h5bound.errors import OptionError
from h5bound.views.kerchunk import appearing
from h5bound.views.virtual_chunks import COMMIT, write_icechunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from h5bound.views.chunk_references import ChunkReferences

ENDING = ".icechunk"
"""End of the path of a repository."""

PLAIN = r"[\w.~/:@+,=-]"
"""Characters that URLs of icechunk have as they are: it finds no file below a folder with others."""

BRANCH = "main"

MOST_CHUNKS = 50_000
"""Most chunks in one manifest: with one manifest for all, a commit takes 650 bytes of memory for each chunk."""


def check_installed() -> None:
    """Raise OptionError if icechunk is not installed."""
    if find_spec("icechunk") is None:
        raise OptionError("target: a repository needs one more package: pip install icechunk")


def write_repository(path: Path, refs: ChunkReferences) -> None:
    """Write references as a repository, which appears when it is whole."""
    import icechunk

    config = icechunk.RepositoryConfig.default()
    for folder in list_folders(refs):
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(folder, choose_store(folder)))
    config.manifest = split_manifests(refs)
    with appearing(path) as partial:
        repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(partial)), config)
        write_icechunk(repository.writable_session(BRANCH).store, refs)


def is_own(path: Path) -> bool:
    """Return whether there is a repository with nothing but references that h5bound wrote."""
    import icechunk

    try:
        repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))
        messages = [commit.message for commit in repository.ancestry(branch=BRANCH)]
        return set(repository.list_branches()) == {BRANCH} and len(messages) == 2 and messages[0].startswith(COMMIT)
    except icechunk.IcechunkError:
        return False


def list_folders(refs: ChunkReferences) -> list[str]:
    """Return the URLs of the folders that the repository may refer to, without those in others of them."""
    located = map(refs.locate, refs.view.keys.all_files)
    folders = {find_folder(url) for url in located if url is not None}
    return [folder for folder in sorted(folders) if not any(folder.startswith(other) for other in folders - {folder})]


def find_folder(url: str) -> str:
    """Return the URL of the folder of a file, or of the one above with a name that icechunk compares right.

    >>> find_folder("file:///data/a b.h5"), find_folder("file:///data/my scans/1/a.h5"), find_folder("s3://bucket/a.h5")
    ('file:///data/', 'file:///data/', 's3://bucket/')
    """
    found = re.match(rf"{PLAIN}*/", url, re.ASCII)
    assert found is not None
    return found[0]


def choose_store(folder: str) -> Any:
    """Return how readers reach a folder; without credentials, which they pass. Raise OptionError if they cannot."""
    import icechunk

    scheme, _, rest = folder.partition("://")
    if scheme == "file":
        return icechunk.local_filesystem_store(rest)
    stores: Mapping[str, Callable[[], Any]] = {
        "http": lambda: icechunk.http_store({"allow_http": "true"}),
        "https": icechunk.http_store,
        "s3": icechunk.s3_store,
        "gs": icechunk.gcs_store,
        "gcs": icechunk.gcs_store,
    }
    if scheme not in stores:
        raise OptionError(
            f"{folder}: a repository of icechunk cannot refer to files there; pass base_url of another place, or write "
            ".json"
        )
    return stores[scheme]()


def split_manifests(refs: ChunkReferences) -> Any:
    """Return how the chunks of large arrays are divided: by ranges of the first axes, in manifests of one size."""
    import icechunk

    conditions: dict[Any, Any] = {
        icechunk.ManifestSplitCondition.path_matches(f"^/{re.escape(name)}$"): {
            icechunk.ManifestSplitDimCondition.Axis(axis): size for axis, size in enumerate(split_grid(array.counts))
        }
        for name, array in refs.view.keys.arrays.items()
        if len(array.plan.chunk_coords) > MOST_CHUNKS
    }
    return icechunk.ManifestConfig(splitting=icechunk.ManifestSplittingConfig.from_dict(conditions))


def split_grid(counts: Iterable[int]) -> tuple[int, ...]:
    """Return the number of chunks along each axis that a manifest has, at most `MOST_CHUNKS` in all.

    >>> split_grid((10, 1000, 500)), split_grid((1_000_000,)), split_grid((3, 4))
    ((1, 100, 500), (50000,), (3, 4))
    """
    cells: list[int] = []
    for count in reversed(tuple(counts)):
        cells.append(max(1, min(count, MOST_CHUNKS // prod(cells))))
    return tuple(reversed(cells))

"""The arguments of `convert`, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import h5py
    import numcodecs.abc
    import zarr.abc.codec

    CodecLike: TypeAlias = str | Mapping[str, Any] | numcodecs.abc.Codec | zarr.abc.codec.Codec
    Source: TypeAlias = str | PathLike[str] | h5py.File
    SourceType = TypeVar("SourceType", bound=Source)


class Options(TypedDict, total=False):
    """The keywords of `convert`, for its overloads, which differ in the type of the source."""

    storage_options: Mapping[str, Any] | None
    target_options: Mapping[str, Any] | None
    include: Sequence[str]
    exclude: Sequence[str]
    zarr_format: Literal[2, 3]
    codecs: CodecLike | Sequence[CodecLike]
    nan: Literal["literal", "text"]
    compounds: Literal["struct", "columns"]
    chunks: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None
    shards: str | int | tuple[int, ...] | Mapping[str, str | int | tuple[int, ...]] | None
    names: Literal["exact", "portable"]
    links: Literal["keep", "copy"]
    window: int | str | None
    temporary: str | PathLike[str] | None
    workers: int | None
    scheduler: str | None
    on_unsupported: Literal["raise", "skip"]
    resume: bool
    overwrite: bool
    verify: bool
    report: str | PathLike[str] | None
    dry_run: bool
    allow_external: Sequence[str | PathLike[str]]
    max_objects: int
    max_depth: int
    max_chunks: int
    progress: Callable[[int, int], None] | bool | None

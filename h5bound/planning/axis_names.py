"""Name the axes of all arrays of a source, as netCDF's readers do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from h5bound.planning.selection import parent_of
from h5bound.zarr_model.dimension_names import FileDimensions, Surroundings, name_by_length, name_dimensions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from h5bound.hdf5.dimension_scales import Dimensions
    from h5bound.planning.scan_dataset import DatasetScan
    from h5bound.planning.scan_group import GroupScan
    from h5bound.planning.scan_log import ScanLog


def name_axes(groups: Iterable[GroupScan], datasets: Sequence[DatasetScan], log: ScanLog) -> list[DatasetScan]:
    """Return the datasets with the dimension names that netCDF readers use, also for unnamed dimensions.

    Dimensions without a variable, which hold no data, are skipped and noted.
    """
    by_group: dict[str, dict[str, Dimensions]] = {}
    for dataset in datasets:
        if dataset.dimensions is not None:
            name = dataset.record.path.rpartition("/")[2]
            by_group.setdefault(parent_of(dataset.record.path), {})[name] = dataset.dimensions
    file = FileDimensions.of([dims for siblings in by_group.values() for dims in siblings.values()])
    names: dict[str, tuple[str, ...]] = {}
    around: dict[str, Surroundings] = {}
    for group in groups:
        siblings = by_group.get(group.path, {})
        ordered = {name: siblings[name] for name in (*group.order, *siblings) if name in siblings}
        axes = name_dimensions(ordered, around.get(parent_of(group.path), Surroundings()), file=file)
        around[group.path] = axes.below
        path = group.path.rstrip("/")
        names |= {f"{path}/{name}": value for name, value in axes.names.items()}
        for name, text in axes.notes.items():
            log.note(f"{path}/{name}", text, "dimension")
    nodes = list_renamed_scales(datasets)
    return [
        replace(dataset, dimension_names=extend_names(names.get(dataset.record.path), dataset, nodes))
        for dataset in datasets
        if dataset.dimensions is None or not dataset.dimensions.bare
    ]


def list_renamed_scales(datasets: Iterable[DatasetScan]) -> dict[str, str]:
    """Return the node names of dimension scales with another name in the store, by their paths in report and store.

    xarray takes the array with the name of a dimension for its coordinate.
    """
    renamed: dict[str, str] = {}
    for dataset in datasets:
        path, node_name = dataset.record.path, dataset.target.rpartition("/")[2]
        dims = dataset.dimensions
        if dims is not None and dims.scale and not dims.bare and path.rpartition("/")[2] != node_name:
            renamed |= dict.fromkeys([path, f"/{dataset.target}"], node_name)
    return renamed


def extend_names(
    names: tuple[str, ...] | None, dataset: DatasetScan, nodes: Mapping[str, str]
) -> tuple[str, ...] | None:
    """Return the names of the axes of a dataset's array, those of an HDF5 array type last; of a group without these.

    `nodes` are those of :func:`list_renamed_scales`.
    """
    dims = dataset.dimensions
    if names is None or dims is None:
        return None
    scales = dims.scales or (None,) * len(names)
    group = parent_of(dataset.record.path).rstrip("/")
    triples = zip(names, dims.names, scales, strict=True)  # a shorter axis has another name than its scale
    shown = [
        nodes.get(scale or f"{group}/{name}", name) if own in (None, name) else name for name, own, scale in triples
    ]
    return name_by_length(dataset.shape, shown)

"""A store that another program wrote, copied or edited never passes for one of h5bound."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import convert, verify
from h5bound.errors import TargetError
from h5bound.stores.lock import MARKER
from h5bound.stores.metadata import digest
from tests.support.own_document import read_own

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Format = Literal[2, 3]
    Edit = Callable[[Path, Format], object]

COPIES = ("consolidated_metadata", "metadata")
FORMATS = pytest.mark.parametrize("zarr_format", [pytest.param(3, id="v3"), pytest.param(2, id="v2")])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "a.nc"
    data = xr.DataArray(np.arange(20.0).reshape(4, 5), dims=("x", "y"), attrs={"units": "m", "gain": np.float32(0.5)})
    dataset = xr.Dataset({"v": data, "kind": ("x", ["a", "b", "c", "d"])}, {"x": np.arange(4)}, {"title": "t"})
    dataset.to_netcdf(path, engine="h5netcdf")
    with h5py.File(path, "r+") as file:
        file.create_group("g").attrs["n"] = 1
    return path


@pytest.fixture
def target(source: Path, zarr_format: Format) -> Path:
    path = source.with_suffix(".zarr")
    convert(source, path, zarr_format=zarr_format)
    return path


def assert_refused(source: Path, target: Path, zarr_format: Format, what: str) -> None:
    """Check that a store is not taken for a complete one, with the reason and what to do."""
    with pytest.raises(TargetError) as caught:
        convert(source, target, zarr_format=zarr_format, resume=True)
    assert what in str(caught.value)
    assert "overwrite=True" in str(caught.value)
    assert what in convert(source, target, zarr_format=zarr_format, resume=True, dry_run=True).remark
    assert convert(source, target, zarr_format=zarr_format, overwrite=True, verify=True).exit_code == 0


def edit_json(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def name_of(name: str, zarr_format: Format) -> str:
    """Return the file name of the document with the attributes of a node, or with the metadata of an array."""
    return {"attributes": ".zattrs", "array": ".zarray"}[name] if zarr_format == 2 else "zarr.json"


@FORMATS
@pytest.mark.filterwarnings("ignore:Consolidated metadata is")
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")  # older versions of xarray and zarr
def test_a_copy_by_xarray_is_not_ours_with_or_without_our_document(
    source: Path, target: Path, tmp_path: Path, zarr_format: Format
) -> None:
    copy = tmp_path / "copy.zarr"
    with xr.open_zarr(target) as opened:
        dataset = opened.load()
    dataset["v"].values[:] = 7
    dataset.drop_encoding().to_zarr(copy, zarr_format=zarr_format)
    with pytest.raises(TargetError, match="not a store that h5bound wrote"):
        verify(source, copy)
    shutil.copy(target / "h5bound.json", copy)
    assert not verify(source, copy).equal
    assert_refused(source, copy, zarr_format, "the store is complete, but g/")


def by_zarr(path: str, **attributes: Any) -> Edit:
    """Return an edit that another program makes through zarr."""
    return lambda target, zarr_format: zarr.open(target, path=path, mode="r+", zarr_format=zarr_format).attrs.update(
        attributes
    )


def of_copies(target: Path, zarr_format: Format) -> None:
    """Edit only what readers see first: the consolidated metadata."""
    if zarr_format == 2:
        edit_json(target / ".zmetadata", lambda doc: doc["metadata"]["v/.zattrs"].update(units="s"))
    else:
        edit_json(target / "zarr.json", lambda doc: find(doc, *COPIES, "v", "attributes").update(units="s"))


def find(document: Any, *names: str) -> Any:
    for name in names:
        document = document[name]
    return document


def add_array(target: Path, zarr_format: Format) -> None:
    zarr.create_array(target, name="more", data=np.arange(3), zarr_format=zarr_format)


def add_field(target: Path, zarr_format: Format) -> None:
    """Edit what changes nothing that is read, also in the consolidated metadata."""
    field = {"note": {"must_understand": False}}
    edit_json(target / "v" / name_of("array", zarr_format), lambda doc: doc.update(field))
    if zarr_format == 2:
        edit_json(target / ".zmetadata", lambda doc: doc["metadata"]["v/.zarray"].update(field))
    else:
        edit_json(target / "zarr.json", lambda doc: find(doc, *COPIES, "v").update(field))


EDITS: dict[str, tuple[Edit, str, str]] = {
    "the root": (by_zarr("", title="other"), "attribute 'title' of /", ""),
    "an attribute more": (by_zarr("g", more=1), "attribute 'more' of /g", "g/"),
    "an array": (by_zarr("v", units="s"), "attribute 'units' of /v", "v/"),
    "copies": (of_copies, "v", ""),
    "a node more": (add_array, "/more: in the store, and not in the source", "more/"),
    "a field": (add_field, "/v: the metadata document v/", "v/"),
}


@FORMATS
@pytest.mark.parametrize("name", EDITS)
@pytest.mark.filterwarnings("ignore:Object at h5bound.json")
def test_an_edited_document_is_named(name: str, source: Path, target: Path, zarr_format: Format) -> None:
    edit, what, place = EDITS[name]
    edit(target, zarr_format)
    report = verify(source, target)
    assert any(what in str(item) for item in report.differences), report
    with pytest.raises(
        TargetError, match=rf"the store is complete, but {place}\.?z\w+(\.json)? was (changed|added) by another"
    ):
        convert(source, target, zarr_format=zarr_format, resume=True)


@FORMATS
def test_chunks_of_other_sizes_are_noticed_without_reading_them(
    source: Path, target: Path, zarr_format: Format
) -> None:
    array: Any = zarr.open_array(target, path="v", mode="r+")
    array[:] = 7
    assert not verify(source, target).equal
    assert_refused(source, target, zarr_format, "the store is complete, but the chunks of v have ")


@pytest.mark.parametrize("zarr_format", [3])
@pytest.mark.parametrize(
    "change", [lambda details: details["v"].clear(), lambda details: details.setdefault("g", {"a": 1})]
)
def test_edited_details_are_noticed(
    source: Path, target: Path, zarr_format: Format, change: Callable[[Any], object]
) -> None:
    edit_json(target / "h5bound.json", lambda document: change(document["details"]))
    assert not verify(source, target).equal
    assert_refused(source, target, zarr_format, "in h5bound.json were changed by another program")


@pytest.mark.parametrize("zarr_format", [3])
def test_what_was_skipped_must_be_a_list(source: Path, target: Path, zarr_format: Format) -> None:
    edit_json(target / "h5bound.json", lambda document: document.update(skipped={}))
    assert_refused(source, target, zarr_format, "the provenance in h5bound.json cannot be used")


@FORMATS
def test_a_document_that_is_only_spelled_otherwise_is_the_same(source: Path, target: Path, zarr_format: Format) -> None:
    for path in [path for path in target.rglob("*") if path.name.startswith((".z", "zarr"))]:
        document = json.loads(path.read_text())
        path.write_text(json.dumps(dict(reversed(document.items())), indent=None))
    assert verify(source, target).equal
    assert convert(source, target, zarr_format=zarr_format, resume=True).complete


@FORMATS
def test_a_store_whose_metadata_another_version_of_zarr_spelled_is_ours(
    source: Path, target: Path, zarr_format: Format
) -> None:
    path = target / "v" / name_of("array", zarr_format)
    field: dict[str, Any] = {"dimension_separator": "."} if zarr_format == 2 else {"storage_transformers": []}
    edit_json(path, lambda doc: doc.update(field))
    own = read_own(target)
    key = path.relative_to(target).as_posix()
    document = json.loads(path.read_text())
    own["documents"][key] = digest(document)
    if zarr_format == 3:
        edit_json(target / "zarr.json", lambda doc: find(doc, *COPIES).update(v=document))
        own["documents"]["zarr.json"] = digest(json.loads((target / "zarr.json").read_text()))
    (target / "h5bound.json").write_text(json.dumps(own))
    assert verify(source, target).equal
    assert convert(source, target, zarr_format=zarr_format, resume=True).complete


@FORMATS
@pytest.mark.parametrize("change", [{"units": "s"}, {"more": 1}])
def test_an_edit_that_the_provenance_was_made_to_say_is_noticed(
    source: Path, target: Path, zarr_format: Format, change: dict[str, Any]
) -> None:
    by_zarr("v", **change)(target, zarr_format)
    own = read_own(target)
    for key in own["documents"]:
        own["documents"][key] = digest(json.loads((target / key).read_text()))
    (target / "h5bound.json").write_text(json.dumps(own))
    assert not verify(source, target).equal
    assert_refused(source, target, zarr_format, f"v/{name_of('attributes', zarr_format)} is not what this conversion")


@FORMATS
def test_a_store_of_version_1_is_refused_with_what_to_do(source: Path, target: Path, zarr_format: Format) -> None:
    own = read_own(target)
    own |= {"version": 1, "complete": True}
    del own["documents"]
    (target / "h5bound.json").unlink()
    edit_json(
        target / name_of("attributes", zarr_format),
        lambda doc: (doc if zarr_format == 2 else doc["attributes"]).update(_h5bound=own),
    )
    with pytest.raises(TargetError, match=r"an older h5bound wrote this store.*convert again with overwrite=True"):
        verify(source, target)
    assert_refused(source, target, zarr_format, "an older h5bound wrote this store")


@pytest.mark.parametrize("zarr_format", [3])
def test_what_version_1_began_is_refused_with_what_to_do(source: Path, target: Path, zarr_format: Format) -> None:
    inputs = {key: value for key, value in read_own(target).items() if key not in ("details", "documents", "skipped")}
    for name in ("zarr.json", "h5bound.json"):
        (target / name).unlink()
    (target / MARKER).write_text(json.dumps({"fingerprint": "0" * 32, **inputs, "version": 1}))
    assert_refused(source, target, zarr_format, "begun with version=1, now version=2")


def test_the_document_of_an_icechunk_repository_is_in_no_attribute(source: Path) -> None:
    module = pytest.importorskip("icechunk", reason="icechunk has no wheel for this Python")
    repository = module.Repository.create(module.in_memory_storage())
    convert(source, repository.writable_session("main").store)
    store = repository.readonly_session("main").store
    with xr.open_dataset(source, engine="h5netcdf") as wanted:
        xr.testing.assert_identical(xr.open_zarr(store, chunks=None).load(), wanted.load())
    assert verify(source, store).equal
    assert convert(source, repository.writable_session("main").store, resume=True).complete
    session = repository.writable_session("main")
    zarr.open_array(session.store, path="v", mode="r+").attrs["units"] = "s"
    session.commit("edited")
    store = repository.writable_session("main").store
    assert "attribute 'units' of /v" in str(verify(source, store).differences[0])
    assert_refused(source, store, 3, "v/zarr.json was changed by another program")

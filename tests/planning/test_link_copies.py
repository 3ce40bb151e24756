"""Links of a file as copies of what they lead to."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from h5bound import OptionError, convert, verify
from h5bound.cli.main import run_command
from h5bound.errors import UnsafeSourceError
from h5bound.zarr_model.zarr_warnings import quiet_zarr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence warnings of zarr about data types without a specification."""
    with quiet_zarr():
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file with links as NeXus and others have them: data linked into groups, circles, links to nothing."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        angle = file.create_dataset(
            "entry/data/polar_angle", data=np.arange(148.0), chunks=(50,), compression="gzip", shuffle=True
        )
        angle.attrs["target"] = "/entry/data/polar_angle"
        file["entry/instrument/detector/polar_angle"] = angle
        file["entry/instrument/detector/near"] = h5py.SoftLink("polar_angle")
        file["entry/instrument/detector/chain"] = h5py.SoftLink("/entry/tools/./detector/near")
        file["entry/tools"] = h5py.SoftLink("instrument")
        file["entry/instrument/up"] = file["entry"]
        file["entry/self"] = h5py.SoftLink("self")
        file["entry/none"] = h5py.SoftLink("/nowhere")
        file["entry/parent"] = h5py.SoftLink("../entry")
        file["references"] = np.array([angle.ref, file["entry/instrument"].ref], h5py.ref_dtype)
    return tmp_path / "a.h5"


def open_store(path: Path) -> Any:
    return zarr.open_group(path, mode="r")


def list_nodes(group: Any) -> set[str]:
    return {name for name, _ in group.members(max_depth=None)}


@pytest.mark.parametrize("zarr_format", [3, 2])
def test_what_links_lead_to_stands_in_their_place(source: Path, tmp_path: Path, zarr_format: Any) -> None:
    target = tmp_path / "a.zarr"
    report = convert(source, target, links="copy", zarr_format=zarr_format, verify=True)
    assert report.exit_code == 0
    copies = ["entry/instrument/detector/polar_angle", "entry/instrument/detector/near", "entry/tools/detector/chain"]
    keys = sorted(key.name for key in (target / "entry/data/polar_angle").rglob("*") if key.is_file())
    for path in copies:
        assert open_store(target)[path][:].tolist() == list(range(148))
        assert open_store(target)[path].attrs["target"] == "/entry/data/polar_angle"
        assert sorted(key.name for key in (target / path).rglob("*") if key.is_file()) == keys
        assert all(
            key.read_bytes() == (target / path / key.relative_to(target / "entry/data/polar_angle")).read_bytes()
            for key in (target / "entry/data/polar_angle").rglob("*")
            if key.is_file()
        )
    dataset = xr.open_zarr(target, group="entry/instrument/detector", consolidated=True)
    assert set(dataset.variables) == {"polar_angle", "near", "chain"}
    kept = {link.path: link.kind for link in report.links}
    assert kept == {
        "/entry/instrument/up": "hard",
        "/entry/tools/up": "hard",
        "/entry/self": "soft",
        "/entry/none": "soft",
        "/entry/parent": "soft",
    }
    assert "in another form: 5 links, 7 copied links, 1 dataset of references" in report.summary()
    assert json.loads(report.to_json())["forms"]["copy"]["count"] == 7


def test_references_lead_to_the_first_path_that_is_in_the_store(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "a.zarr", links="copy")
    assert open_store(tmp_path / "a.zarr")["references"][:].tolist() == ["/entry/data/polar_angle", "/entry/instrument"]
    report = convert(
        source, tmp_path / "b.zarr", links="copy", exclude=["/entry/data", "/entry/instrument", "*/chain"], verify=True
    )
    assert report.exit_code == 0
    group = open_store(tmp_path / "b.zarr")
    assert group["references"][:].tolist() == ["/entry/tools/detector/near", "/entry/tools"]
    assert all(path.strip("/") in group for path in group["references"][:].tolist())


@pytest.mark.parametrize("links", ["keep", "copy"])
def test_include_applies_to_the_paths_of_links(source: Path, tmp_path: Path, links: Any) -> None:
    report = convert(source, tmp_path / "a.zarr", links=links, include=["/entry/instrument/detector"], verify=True)
    assert report.exit_code == 0
    found = {entry.path.rpartition("/")[2] for entry in report.arrays}
    assert found == ({"polar_angle"} if links == "keep" else {"polar_angle", "near", "chain"})


def test_a_conversion_with_copies_is_resumed(source: Path, tmp_path: Path) -> None:
    whole, target = tmp_path / "whole.zarr", tmp_path / "a.zarr"
    convert(source, whole, links="copy")

    def stop(done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, target, links="copy", progress=stop, workers=1)
    assert convert(source, target, links="copy", resume=True, verify=True).exit_code == 0
    keys = [{key.relative_to(path): key.read_bytes() for key in path.rglob("*/c/*")} for path in (whole, target)]
    assert keys[0]
    assert keys[0] == keys[1]
    next((target / "entry/instrument/detector/near").rglob("1")).write_bytes(b"")
    assert [item.path for item in verify(source, target).differences] == ["/entry/instrument/detector/near"]


def test_a_few_links_that_stand_for_too_many_objects_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(30):
            for name in ("one", "two"):
                file[f"{number}/{name}"] = h5py.SoftLink(f"/{number + 1}")
        file["30/x"] = 1
    with pytest.raises(
        UnsafeSourceError, match=r"links='copy' makes more than 1,000 objects.*links='keep'.*max_objects"
    ):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", links="copy", max_objects=1000)
    with pytest.raises(UnsafeSourceError, match=r"links='copy' makes more than 5 components.*max_depth"):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", links="copy", max_depth=5, include=["/30"])
    assert not (tmp_path / "a.zarr").exists()


def test_links_in_another_file_are_copied_too(source: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "main.h5", "w") as file:
        file["far"] = h5py.ExternalLink("a.h5", "/entry/instrument")
    report = convert(
        tmp_path / "main.h5", tmp_path / "a.zarr", links="copy", allow_external=[tmp_path], on_unsupported="skip"
    )
    assert {entry.path for entry in report.arrays} >= {"/far/detector/polar_angle", "/far/detector/near"}
    assert open_store(tmp_path / "a.zarr")["far/detector/near"][:].tolist() == list(range(148))
    assert verify(tmp_path / "main.h5", tmp_path / "a.zarr", allow_external=[tmp_path]).equal


def test_globs_of_many_sources_may_name_what_is_in_a_copy(source: Path, tmp_path: Path) -> None:
    report = convert([source], tmp_path / "out", links="copy", chunks={"/entry/tools/detector/near": (7,)})
    assert report.exit_code == 0
    group = open_store(tmp_path / "out" / "a.zarr")
    assert group["entry/tools/detector/near"].chunks == (7,)
    assert group["entry/instrument/detector/near"].chunks == (50,)


def test_links_are_an_option_of_the_command_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "a.zarr")
    assert run_command(["convert", str(source), target]) == 0
    assert "which few readers see; --links copy writes a copy in its place" in capsys.readouterr().out
    assert run_command(["convert", str(source), target, "--overwrite", "--links", "copy", "--verbose"]) == 0
    out = capsys.readouterr().out
    assert "copied link /entry/tools -> /entry/instrument: a copy in place of the link; --links keep" in out
    assert "soft link /entry/none -> /nowhere: kept as a link: it leads to nothing" in out
    assert "hard link /entry/instrument/up -> /entry: kept as a link: it leads to a group that it is in" in out


def test_another_word_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="links='follow': choose 'keep' or 'copy'"):
        convert(source, tmp_path / "a.zarr", links="follow")  # type: ignore[call-overload]  # refused when it runs


def test_a_group_around_its_own_copy_is_not_copied_again(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a/b/x"] = 1
        file["a/b/up"] = h5py.SoftLink("/a")
        file["s"] = h5py.SoftLink("/a/b")
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", links="copy", verify=True)
    assert list_nodes(open_store(tmp_path / "a.zarr")) == {"a", "a/b", "a/b/x", "s", "s/x", "s/up"}
    assert {(link.path, link.to) for link in report.links} == {("/a/b/up", "/a"), ("/s/up/b", "/a/b")}


def test_links_between_files_that_go_in_a_circle_end_in_links(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["g/x"] = [1, 2, 3]
            file["g/other"] = h5py.ExternalLink(f"{other}.h5", "/g")
            file["h/again"] = h5py.ExternalLink(f"{other}.h5", "/g/x")
            file["through"] = h5py.SoftLink("/g/other/x")
    options: Any = {"links": "copy", "allow_external": [tmp_path]}
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", verify=True, **options)
    assert report.exit_code == 0
    group = open_store(tmp_path / "a.zarr")
    assert list_nodes(group) == {"g", "g/x", "g/other", "g/other/x", "h", "h/again", "through"}
    assert group["through"][:].tolist() == [1, 2, 3]
    assert [(link.path, link.to) for link in report.links] == [("/g/other/other", "/g")]


def list_expected(file: h5py.File) -> dict[str, float | None]:
    """Return the paths that h5py finds without going round in a circle, with the values of datasets."""
    found: dict[str, float | None] = {}

    def walk(group: h5py.Group, path: str, above: tuple[h5py.Group, ...]) -> None:
        for name in group:
            item = group.get(name)
            if isinstance(item, h5py.Dataset):
                found[f"{path}/{name}"] = item[()]
            elif isinstance(item, h5py.Group) and item not in (*above, group):
                found[f"{path}/{name}"] = None
                walk(item, f"{path}/{name}", (*above, group))

    walk(file, "", ())
    return found


@pytest.mark.parametrize("seed", range(8))
def test_any_web_of_links_is_what_h5py_finds(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        paths = ["/"]
        for number in range(5):
            paths.append(file.create_group(f"{chance.choice(paths).rstrip('/')}/g{number}").name)
        groups = list(paths)
        for number in range(4):
            path = f"{chance.choice(groups).rstrip('/')}/d{number}"
            file[path] = float(number)
            paths.append(path)
        for number in range(6):
            group, to = file[chance.choice(groups)], chance.choice(paths)
            if chance.random() < 0.5:
                group[f"l{number}"] = file[to]
            else:
                group[f"l{number}"] = h5py.SoftLink(
                    chance.choice([to, to.lstrip("/") or ".", f"{to}/l{number - 1}", "g0/l1"])
                )
        expected = list_expected(file)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", links="copy", verify=True)
    assert report.exit_code == 0
    group = open_store(tmp_path / "a.zarr")
    assert list_nodes(group) == {path.strip("/") for path in expected}
    for path, value in expected.items():
        assert value is None or group[path.strip("/")][()] == value

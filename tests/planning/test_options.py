"""Options with impossible values: refused by one error before the first write, and nothing that is there is lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from fsspec.registry import known_implementations
from zarr.codecs import BytesCodec

from h5bound import OptionError, TargetError, convert, from_hdf5, verify
from h5bound.cli.main import run_command
from h5bound.planning.array_options import list_unmatched, name_close
from h5bound.planning.options import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a file and a store of it, which no test changes."""
    made = tmp_path_factory.mktemp("options")
    with h5py.File(made / "a.h5", "w") as file:
        data = np.arange(148 * 75, dtype="<i4").reshape(148, 75)
        file.create_dataset("entry/data", data=data, chunks=(10, 75), compression="gzip")
        file["entry/image"] = np.ones((4, 6))
        file["table"] = np.zeros((3, 2), [("a", "<i4"), ("b", "<f8")])
        file["alias"] = h5py.SoftLink("/entry/data")
    convert(made / "a.h5", made / "done.zarr")
    return made


def read_all(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


REFUSED: list[tuple[dict[str, Any], str]] = [
    *(({"workers": value}, "workers=.* whole number, at least 1") for value in (0, "a", -1, True, 1.5)),
    *(({"window": value}, "window=.* is not a size") for value in (0, "abc", -1, float("nan"), "", "kB", True, [1])),
    ({"codecs": "zstd:99"}, r"codecs='zstd:99': the level of zstd is -131072 to 22"),
    ({"codecs": "zstd:-131073"}, "the level of zstd"),
    ({"codecs": "gzip:12"}, "the level of gzip is 0 to 9"),
    ({"codecs": "blosc-zstd:10"}, "the level of blosc-zstd is 0 to 9"),
    *(({"codecs": value}, "codecs=.* with a level like") for value in ("zip", "", "zstd:", "zstd:1.5", ["keep"])),
    *(
        ({"codecs": value}, "codecs=.* codec of numcodecs or zarr")
        for value in (np.zeros(2), 3, None, b"zstd", numcodecs.Zstd, {"name": "zstd", "configuration": 3})
    ),
    ({"codecs": "none:3"}, "none has no level"),
    ({"codecs": numcodecs.Zstd(99)}, "the level of zstd is -131072 to 22, not 99"),
    ({"codecs": numcodecs.Quantize(2, "<f4")}, "quantize does not give back every bit; use blosc, zstd"),
    ({"codecs": [numcodecs.Delta("<i4")]}, "delta is not a codec that h5bound writes"),
    ({"codecs": BytesCodec()}, "leave it out"),
    ({"codecs": {"id": "zstd", "level": True}}, "the level of zstd"),
    ({"codecs": {"id": "zstd", "window": 3}}, "zstd has no parameter 'window'"),
    *(({"zarr_format": value}, "zarr_format=.* 2 or 3") for value in ("3", 4, True, 3.0, None)),
    *(
        ({"chunks": value}, "chunks=.* give a shape like")
        for value in (0, -1, (0,), "4x4", 10, (True, 1), (1.0, 2), {"/entry": "x"})
    ),
    *(({"shards": value}, "shards=") for value in (0, "abc", (0,), -5, True)),
    ({"shards": "1 MiB", "zarr_format": 2}, "format 2 has no shards"),
    *(({name: 3}, f"{name}=3: pass a list of globs") for name in ("include", "exclude")),
    *(({name: None}, f"{name}=None: pass a list of globs") for name in ("include", "exclude")),
    *(({name: [""]}, f"{name}: '' is not a glob") for name in ("include", "exclude")),
    *(
        ({name: value}, f"{name}=.* at least 1")
        for name in ("max_objects", "max_depth", "max_chunks")
        for value in (0, "a", True, None)
    ),
    *(({"on_unsupported": value}, "'raise' or 'skip'") for value in ("ignore", None, True)),
    *(({"scheduler": value}, "address of a dask cluster") for value in ("threads", "processes", 3, "", "nowhere")),
    ({"allow_external": "/nope"}, "pass a list"),
    ({"allow_external": ["/nope"]}, "allow_external='/nope': there is no such directory"),
    *(({"allow_external": value}, "allow_external=") for value in (None, 3, [3], [__file__])),
    *(({"report": value}, "report='-?': ") for value in ("-", "")),
    ({"report": "s3://bucket/report.json"}, "the report is a local file"),
    ({"report": "a\ud800"}, "this is not a path"),
    *(({name: value}, name) for name in ("storage_options", "target_options") for value in (3, "x", {"a": 1})),
    *(({"progress": value}, "progress=") for value in (3, "x", lambda: None)),
    *(
        ({name: "no"}, f"{name}='no': it must be True or False")
        for name in ("resume", "overwrite", "verify", "dry_run")
    ),
    ({"resume": True, "overwrite": True}, "exclude each other"),
    ({"dry_run": True, "verify": True}, "exclude each other: nothing is written"),
    # what only the file tells
    ({"include": ["/entry/dta"]}, r"include='/entry/dta': matches nothing in .*a\.h5; close to it: /entry/data"),
    ({"include": ["/entry", "nosuch"]}, "include='nosuch': matches nothing"),
    ({"exclude": ["data"]}, "exclude='data': .* close to it: /entry/data"),
    ({"exclude": ["/DATA"]}, "exclude='/DATA': .* close to it: /entry/data"),
    ({"include": ["/alias/x"]}, "close to it: /alias"),
    ({"include": ["/entry/data"], "exclude": ["/entry"]}, "leaves nothing to convert"),
    ({"exclude": ["*"]}, r"exclude=\['\*'\]: leaves nothing to convert in .*a\.h5"),
    ({"chunks": (10, 10, 10)}, r"^chunks=\(10, 10, 10\): no dataset that it matches has 3 axes"),
    ({"chunks": {"/table": ()}}, r"chunks={'/table': \(\)}: no dataset that it matches has 0 axes"),
    ({"chunks": {"/entry/imge": (2, 2)}}, "chunks='/entry/imge': .* close to it: /entry/image"),
    ({"shards": {"/nosuch": "1 MiB"}}, "shards='/nosuch': matches nothing"),
    ({"chunks": (10,)}, r"no dataset that it matches has 1 axis; /entry/data has shape \(148, 75\)"),
    ({"chunks": {"/entry": (1, 2, 3), "/table": (1, 1)}}, "no dataset that it matches has 3 axes"),
    ({"chunks": {"*": (2, 2), "/entry": (5, 5)}}, "rules before it apply to all that it matches; put it first"),
    ({"chunks": {"/table": (2, 2)}, "exclude": ["/table"]}, "it matches no dataset that is converted"),
    ({"shards": {"/table": (3, 2)}}, "/table, like all that it matches, has no shards"),
    ({"shards": (33, 75)}, r"shards=\(33, 75\) for '/entry/data': not whole chunks of \(10, 75\)"),
]


@pytest.mark.parametrize(
    ("options", "message"), REFUSED, ids=[str(options)[:60].partition(" at 0x")[0] for options, _ in REFUSED]
)
def test_an_impossible_option_is_refused_and_nothing_is_written_or_lost(
    options: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        convert(folder / "a.h5", tmp_path / "a.zarr", **options)
    assert not list(tmp_path.iterdir())
    if not {"resume", "overwrite"} & {*options}:
        before = read_all(folder)
        with pytest.raises(OptionError, match=message):
            convert(folder / "a.h5", folder / "done.zarr", overwrite=True, **options)
        assert read_all(folder) == before


@pytest.mark.parametrize("name", ["window", "workers", "scheduler", "allow_external", "report", "progress"])
def test_a_verification_judges_the_options_that_it_shares(name: str, folder: Path) -> None:
    for options, message in REFUSED:
        if [*options] == [name]:
            with pytest.raises(OptionError, match=message):
                verify(folder / "a.h5", folder / "done.zarr", **options)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--include", "nosuch"],
        ["--exclude", "nosuch"],
        ["--chunks", "/nosuch=1,1"],
        ["--chunks", "10"],
        ["--codecs", "blosc-zstd:99"],
        ["--scheduler", "threads"],
        ["--report", "-"],
        ["--allow-external", "/nope"],
        ["--dry-run", "--verify"],
    ],
    ids=" ".join,
)
def test_the_command_ends_with_2_before_it_writes(
    arguments: list[str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["convert", str(folder / "a.h5"), str(tmp_path / "a.zarr"), *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


NO_PATH = r"standard streams|not a path"


@pytest.mark.parametrize("place", ["", "-", "/dev/stdin", "a\0b", "a\ud800"])
def test_a_text_that_is_no_path_is_refused(place: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=NO_PATH):
        convert(place, tmp_path / "a.zarr")
    with pytest.raises(OptionError, match=NO_PATH):
        convert(folder / "a.h5", place)
    with pytest.raises(OptionError, match=NO_PATH):
        verify(folder / "a.h5", place)
    with pytest.raises(OptionError, match=NO_PATH):
        from_hdf5(place, "x")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def home(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a home directory with a copy of the file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.h5").write_bytes((folder / "a.h5").read_bytes())
    monkeypatch.chdir(folder)
    yield tmp_path
    assert not (folder / "~").exists()


def test_the_home_directory_may_be_written_as_a_tilde(home: Path) -> None:
    report = convert("~/a.h5", Path("~/a.zarr"), report="~/a.json", allow_external=["~"])
    assert (report.source.path, report.target) == (str(home / "a.h5"), str(home / "a.zarr"))
    assert {path.name for path in home.iterdir()} == {"a.h5", "a.zarr", "a.json"}
    assert verify("~/a.h5", "~/a.zarr", report="~/b.json").equal
    assert (home / "b.json").exists()
    assert run_command(["convert", "~/a.h5", "~/a.h5", "~/many"]) == 2
    assert convert(["~/a.h5"], "~/many").complete
    assert (home / "many" / "a.zarr" / "zarr.json").exists()
    assert from_hdf5("~/a.h5", "entry/image").shape == (4, 6)


def test_chunks_and_shards_are_cut_to_the_shape(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"chunks": (100_000, 100_000), "shards": {"/entry": (200_000, 200_000)}}
    report = convert(folder / "a.h5", tmp_path / "a.zarr", exclude=["/table"], verify=True, **options)
    assert report.verification is not None
    assert report.verification.equal
    store: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert [store[name].chunks for name in ("entry/data", "entry/image")] == [(148, 75), (4, 6)]
    assert [store[name].shards for name in ("entry/data", "entry/image")] == [(148, 75), (4, 6)]


def test_a_chunk_that_cannot_be_encoded_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (200_000, 200_000), "u1", chunks=(100, 100))[0, 0] = 1
    with pytest.raises(OptionError, match=r"chunks=\(100000, 100000\): a chunk of /x would have 9\.3 GiB"):
        convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(100_000, 100_000))
    assert not (tmp_path / "a.zarr").exists()


def test_chunks_of_hdf5_that_are_larger_than_the_dataset_are_still_copied(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(5), maxshape=(None,), chunks=(16,))
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(16,)).arrays[0].how == "copied"
    assert convert(tmp_path / "a.h5", tmp_path / "b.zarr", chunks=(20,)).arrays[0].how == "decoded"
    assert zarr.open_array(tmp_path / "b.zarr" / "x", mode="r").chunks == (5,)


def test_both_arrays_of_sequences_take_chunks_of_one_axis(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", (40,), h5py.vlen_dtype("<i4"))
        made[...] = np.array([np.arange(i % 5 + 1) for i in range(40)], object)
    report = convert(tmp_path / "a.h5", tmp_path / "a.zarr", chunks=(16,), verify=True)
    assert report.verification is not None
    assert report.verification.equal
    store: Any = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert [store[f"x/{name}"].chunks for name in ("values", "offsets")] == [(16,), (16,)]
    with pytest.raises(OptionError, match="no dataset that it matches has 2 axes"):
        convert(tmp_path / "a.h5", tmp_path / "b.zarr", chunks=(2, 2))


def test_bytes_of_shards_may_be_asked_for_where_nothing_can_have_them(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("empty")
    assert convert(tmp_path / "a.h5", tmp_path / "a.zarr", shards="1 MiB").exit_code == 0
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["scalar"] = 1
    assert convert(tmp_path / "a.h5", tmp_path / "b.zarr", shards="1 MiB").exit_code == 0


def test_what_was_left_out_on_purpose_is_counted_and_no_failure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "a.zarr")
    assert run_command(["convert", str(folder / "a.h5"), target, "--exclude", "/entry/*", "--exclude", "/table"]) == 0
    shown = capsys.readouterr().out
    assert "3 objects left out by --include or --exclude" in shown
    assert "/entry/image" not in shown
    report = convert(folder / "a.h5", target, exclude=["/entry/*", "/table"], resume=True)
    assert [entry for entry in report.to_dict()["skipped"] if entry["path"] == "/table"] == [  # type: ignore[attr-defined]
        {"path": "/table", "reason": "left out by include or exclude", "asked": True}
    ]
    assert "left out" in verify(folder / "a.h5", target).summary()


def test_a_resumed_conversion_that_was_complete_says_so(folder: Path) -> None:
    summary = convert(folder / "a.h5", folder / "done.zarr", resume=True).summary()
    assert "already complete; nothing written" in summary
    assert " written in " not in summary


def test_a_dry_run_says_that_the_conversion_would_be_refused(folder: Path, tmp_path: Path) -> None:
    report = convert(folder / "a.h5", folder / "done.zarr", dry_run=True)
    assert "the conversion would be refused: " in report.summary()
    assert "overwrite=True replaces it" in str(report.to_dict()["remark"])
    assert "refused" not in convert(folder / "a.h5", folder / "done.zarr", dry_run=True, overwrite=True).summary()
    assert "refused" not in convert(folder / "a.h5", tmp_path / "a.zarr", dry_run=True).summary()


def test_globs_are_judged_by_names_alone() -> None:
    paths = ["/", "/entry", "/entry/data"]
    settings = Settings(include=("/entry/d*", "data"), chunks=(("/x", (1,)),))
    sentences = list(list_unmatched("a.h5", paths, settings))
    assert [text.partition(";")[0] for text in sentences] == [
        "include='data': matches nothing in a.h5", "chunks='/x': matches nothing in a.h5",
    ]  # fmt: skip
    assert name_close("/completely/else/where", paths) == ""
    assert name_close("/d", [f"/d{i}" for i in range(100_000)]).count(",") == 2
    far = [f"/{group}/d{i}" for group in "ab" for i in range(15_000)]
    assert re.findall("/([ab])/d1499", name_close("/b/d1499x", far)) == ["b"] * 3


@pytest.mark.parametrize("role", ["source", "target"])
def test_a_url_whose_package_is_missing_names_the_extra(
    role: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"class": "a_package_that_is_absent.FileSystem", "err": "Install a-package-that-is-absent"}
    monkeypatch.setitem(known_implementations, "absent", absent)
    places = {"source": folder / "a.h5", "target": tmp_path / "a.zarr", role: "absent://key:hush@bucket/a"}
    with pytest.raises(OptionError, match=rf"{role}='absent://.*pip install 'h5bound\[remote\]'") as caught:
        convert(**places)  # type: ignore[call-overload]  # as a mapping has them
    assert "hush" not in str(caught.value)
    assert not (tmp_path / "a.zarr").exists()


def test_a_store_in_memory_is_for_python_only(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"memory://{tmp_path.name}/a.zarr"
    assert run_command(["convert", str(folder / "a.h5"), url]) == 2
    assert "a store in memory ends with the command" in capsys.readouterr().err
    assert convert(folder / "a.h5", url).complete
    assert verify(folder / "a.h5", url).equal


def test_what_is_no_store_is_named_by_a_verification(folder: Path, tmp_path: Path) -> None:
    source, target = folder / "a.h5", folder / "done.zarr"
    (tmp_path / "b.h5").write_bytes(source.read_bytes())
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["new"] = np.zeros(1000)
    (tmp_path / "text").write_text("text")
    for place, message in (
        (source, r"a\.h5: this is an HDF5 file, not a Zarr store; name the source first"),
        (tmp_path / "text", "this is a file, not a Zarr store"),
        (tmp_path, "no Zarr store"),
        (tmp_path / "none", "missing or empty"),
    ):
        with pytest.raises(TargetError, match=message):
            verify(source, place)
    report = verify(tmp_path / "b.h5", target)
    found = report.differences
    assert repr(report).splitlines()[1].strip().startswith("the store was made from 'a.h5'")
    assert re.fullmatch(
        r"the store was made from 'a\.h5', [\d,]+ bytes of 2.* UTC; .*b\.h5 has [\d,]+ .*", found[0].what
    )
    assert ("/new", "not in the store") in [(item.path, item.what) for item in found[1:]]


def test_a_source_that_settings_do_not_fit_is_another_one(tmp_path: Path) -> None:
    for name, chunks in (("a.h5", (2, 5)), ("b.h5", (4, 4))):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("x", data=np.ones((20, 20)), chunks=chunks)
    convert(tmp_path / "a.h5", tmp_path / "a.zarr", shards=(10, 10), include=["/x"])
    with pytest.raises(TargetError, match=r"the store was made from 'a\.h5'.*not whole chunks"):
        verify(tmp_path / "b.h5", tmp_path / "a.zarr")


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="no devices")
def test_a_device_is_no_target(folder: Path) -> None:
    with pytest.raises(TargetError, match="this is a file, not a directory for a store"):
        convert(folder / "a.h5", "/dev/null")

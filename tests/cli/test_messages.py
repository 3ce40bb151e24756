"""Errors in the words of the command line."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
from pathlib import Path

import h5py
import pytest

import h5bound
from h5bound.cli.combine import combine_command
from h5bound.cli.convert import convert_command
from h5bound.cli.main import run_command
from h5bound.cli.messages import KEYWORDS, PHRASES, name_options
from h5bound.cli.references import references_command
from h5bound.cli.verify import verify_command


def test_every_parameter_that_is_an_option_is_translated() -> None:
    functions = (h5bound.combine, h5bound.convert, h5bound.verify, h5bound.references)
    parameters = {name for function in functions for name in inspect.signature(function).parameters}
    options = {
        item.name
        for command in (combine_command, convert_command, verify_command, references_command)
        for item in command.params
    }
    assert set(KEYWORDS) == parameters & options - {"source", "sources", "target"} | {"html"}  # no keyword


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize(
    ("form", "typed"),
    [
        ("{}='a b': no", "{} a b: no"),
        ("pass {}=True", "pass {}"),
        ("pass {}=['a', 'b'] or not", "pass {} a {} b or not"),
        ("{}=(1, 2) for '/x'", "{} 1,2 for '/x'"),
        ("{}={{'/a': (1, 2), '*': '1 MiB'}}: no", "{} /a=1,2 {} 1 MiB: no"),
        ("{}=-1 is no number", "{} -1 is no number"),
        ("skip it with {}=", "skip it with {}"),
        ("use `{}=`", "use `{}`"),
        ("{}: '' is not one", "{}: '' is not one"),
        ("begun with {}=[], now {}=[['/a', [1, 2]]]", "begun with no {}, now {} /a=1,2"),
    ],
)
def test_a_parameter_in_a_message_is_an_option(keyword: str, form: str, typed: str) -> None:
    by_path = keyword == "sort" and form.startswith("{}='")
    option = "--sort-by" if by_path else f"--{keyword.replace('_', '-')}"
    assert name_options(form.format(keyword, keyword)) == typed.format(option, option)


def test_the_phrases_of_python_that_are_replaced_are_in_messages() -> None:
    texts = []
    for path in (Path(h5bound.__file__).parent).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.stem != "messages" and isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(item.value) for item in node.values if isinstance(item, ast.Constant)))
    assert [phrase for phrase in PHRASES if not any(phrase in text for text in texts)] == []


def test_other_words_stay_as_they_are() -> None:
    assert name_options("target='-': a pipe") == "TARGET '-': a pipe"
    assert (
        name_options("sources: a.nc is named twice; sort=False takes it")
        == "SOURCE a.nc is named twice; --no-sort takes it"
    )
    text = "/data/chunks=3/max_depth.h5: 3 chunks; verify the report, include all; 'window' of x=4"
    assert name_options(text) == text


@pytest.mark.parametrize(
    "options",
    [
        "--include nosuch --exclude /nothing",
        "--include ''",
        "--chunks /nosuch=3",
        "--chunks 3,4",
        "--chunks 0",
        "--chunks '*=4x4'",
        "--shards 3",
        "--shards 7",
        "--shards /x=none",
        "--shards 2 --zarr-format 2",
        "--codecs zstd:99",
        "--codecs zip",
        "--codecs ''",
        "--window none",
        "--window 0",
        "--scheduler ''",
        "--scheduler threads",
        "--resume --overwrite",
        "--dry-run --verify",
        "--report -",
        "--report ''",
        "--report {source}",
        "--allow-external nosuch",
        "--allow-external ''",
        "--storage-options {options}",
        "--target-options {options}",
        "--storage-options {source}",
    ],
)
def test_a_bad_option_ends_with_2_and_is_named_as_it_is_typed(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=range(10), chunks=(2,))
    (tmp_path / "o.json").write_text('{"anon": true}')
    words = [word.format(source=tmp_path / "a.h5", options=tmp_path / "o.json") for word in shlex.split(options)]
    command = ["convert", str(tmp_path / "a.h5"), str(tmp_path / "a.zarr"), *words]
    assert run_command(command) == 2
    err = capsys.readouterr().err
    assert re.search(r"--[a-z]", err.splitlines()[-1])
    assert not re.search(rf"(?<![\w-])({'|'.join(KEYWORDS)})=|[a-z]_[a-z]|=True|None", err.replace(str(tmp_path), ""))
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize(
    "arguments", [["", "b.zarr"], ["-", "b.zarr"], ["a.h5", "-"], ["a.h5", ""], ["a.h5", "memory://x"]]
)
def test_a_bad_path_ends_with_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["convert", *arguments]) == 2
    assert not re.search("source=|target=", capsys.readouterr().err)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a file with many unsupported objects of two kinds."""
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        for i in range(30):
            file.create_dataset(f"regions{i:02d}", (1,), h5py.vlen_dtype(h5py.regionref_dtype))
        file.create_dataset("a raw one", (2,), "i1", external=[("raw.bin", 0, 2)])
    return path


def test_what_is_refused_is_a_list_by_reason_and_the_last_line_is_the_error(
    odd: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["convert", str(odd), str(odd.with_suffix(".zarr"))]
    assert run_command(command) == 1
    piped = capsys.readouterr().err.splitlines()
    assert piped[1:31] == [f"    /regions{i:02d}" for i in range(30)]  # a log has room for all
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run_command([*command, "--quiet"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        "  h5py crashes on sequences of region references:",
        *(f"    /regions{i:02d}" for i in range(3)),
    ]
    assert lines[4].startswith("  /a raw one: external storage 'raw.bin'")
    assert lines[5] == "  … and 27 more; --dry-run --on-unsupported skip --verbose lists all"
    assert lines[6:] == [
        f"h5bound: error: {odd}: 31 things cannot be converted (--on-unsupported skip skips and lists them)"
    ]
    assert not odd.with_suffix(".zarr").exists()


def test_one_thing_that_is_refused_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (2,), "i1", external=[("raw.bin", 0, 2)])
    assert run_command(["convert", str(tmp_path / "a.h5"), str(tmp_path / "a.zarr")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("/raw: external storage.*--allow-external.*--on-unsupported skip skips and lists it", line)


def test_what_is_skipped_or_decoded_is_named_with_options_too(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(odd, "a") as file:
        file.create_dataset("x", data=[1, 2], chunks=(2,))
    options = ["--on-unsupported", "skip", "--codecs", "zstd:1", "--verbose"]
    assert run_command(["convert", str(odd), str(odd.with_suffix(".zarr")), *options]) == 3
    out = capsys.readouterr().out
    assert "not under --allow-external" in out
    assert "--codecs zstd:1" in out
    assert not re.search("allow_external|codecs=", out)


def test_the_error_in_python_lists_everything(odd: Path) -> None:
    with pytest.raises(h5bound.H5BoundError) as caught:
        h5bound.convert(odd, odd.with_suffix(".zarr"))
    assert all(f"/regions{i:02d}" in str(caught.value) for i in range(30))
    assert "on_unsupported='skip'" in str(caught.value)


@pytest.mark.parametrize("append", [[], ["--append"]])
def test_a_store_that_is_not_named_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], append: list[str]
) -> None:
    paths = [str(tmp_path / f"{name}.h5") for name in "ab"]
    for path in paths:
        with h5py.File(path, "w") as file:
            file["x"] = [1]
    for given in ([], ["days/*.nc"]):
        assert run_command(["combine", *given, "--dim", "time", *append]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            "h5bound: error: Name the HDF5 files, then the Zarr store: "
            "`h5bound combine 'days/*.nc' out.zarr --dim time`."
        )
    assert run_command(["combine", *paths, "--new-dim", "run", *append]) == 1  # the last one is taken for the store
    assert capsys.readouterr().err.endswith(
        "b.h5: this is an HDF5 file, not a directory for a store; name the target after the sources\n"
    )

"""The command line: exit codes, errors in one line, tables, trees, progress and help."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

import h5bound
from h5bound import convert
from h5bound.cli import demo_file
from h5bound.cli.main import main, main_group, run_command
from h5bound.stores.lock import MARKER
from tests.support import odd_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a file without unsupported objects."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("group/x", data=np.arange(100), chunks=(30,), compression="gzip", shuffle=True)
        made.attrs["units"] = "m"
        file["text"] = ["a", "b"]
        file["soft"] = h5py.SoftLink("/group/x")
    return path


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Return a file with an unsupported dataset."""
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["good"] = [1, 2]
        file.create_dataset("regions", (1,), h5py.vlen_dtype(h5py.regionref_dtype))
    return path


def test_ls_shows_how_everything_is_stored_and_read(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["ls", str(source)]) == 0
    out = capsys.readouterr().out
    for text in ("group/", "(100) int64", "chunks (30)", "shuffle + deflate 4", "soft link to /group/x"):
        assert text in out
    assert " of 800 B" in out
    assert "read through h5py" in out
    assert "2 groups, 2 datasets" in out


@pytest.mark.parametrize(
    "make",
    [
        odd_files.write_hard_links,
        odd_files.write_external_links,
        odd_files.write_user_link,
        odd_files.write_odd_names,
        odd_files.write_unreadable_types,
        odd_files.write_damaged_object,
        odd_files.write_layouts,
        odd_files.write_virtual,
    ],
)
def test_ls_shows_odd_files(make: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "a.h5")  # type: ignore[operator]  # one of the writers
    assert run_command(["ls", str(tmp_path / "a.h5")]) == 0
    assert capsys.readouterr().out


def test_convert_and_verify_report_what_they_did_and_exit_with_0(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(source.with_suffix(".zarr"))
    report = source.with_name("report.json")
    assert run_command(["convert", str(source), target, "--verify", "--report", str(report)]) == 0
    out = capsys.readouterr().out
    assert "/group/x" in out
    assert "copied" in out
    assert " s; in another form: 1 link; complete" in out
    assert "equal; 2 datasets" in out
    assert json.loads(report.read_text())["complete"] is True
    assert run_command(["verify", str(source), target, "--report", str(report)]) == 0
    assert json.loads(report.read_text())["equal"] is True


def test_skipped_objects_are_listed_and_the_exit_code_is_3(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, report = str(odd.with_suffix(".zarr")), odd.with_name("report.json")
    assert run_command(["convert", str(odd), target, "--on-unsupported", "skip", "--report", str(report)]) == 3
    assert "skipped: /regions: h5py crashes on sequences of region references" in capsys.readouterr().out
    assert json.loads(report.read_text())["skipped"][0]["path"] == "/regions"


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.rstrip("\n").splitlines()[-1]


def test_a_failure_prints_one_line_and_exits_with_1(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(odd.with_suffix(".zarr"))
    for arguments in (
        ["convert", str(odd), target],
        ["convert", str(odd.with_name("none\n.h5")), target],
        ["ls", str(odd.parent)],
    ):
        assert run_command(arguments) == 1
        assert last_line(capsys).startswith("h5bound: error: ")


def test_verify_exits_with_2_where_nothing_can_be_compared(
    source: Path, odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = source.with_suffix(".zarr")
    assert run_command(["convert", str(source), str(target), "--quiet"]) == 0
    (target.parent / "unfinished").mkdir()
    (target.parent / "unfinished" / MARKER).write_text("{}")
    for arguments in (
        [str(odd), str(odd.with_suffix(".zarr"))],
        [str(source.with_name("none.h5")), str(target)],
        [str(target / "zarr.json"), str(target)],
        [str(source), str(target.parent / "unfinished")],
        [str(source), str(target), "--window", "none"],
    ):
        assert run_command(["verify", *arguments]) == 2
        assert last_line(capsys).startswith("h5bound: error: ")


def test_a_difference_exits_with_1(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = source.with_suffix(".zarr")
    assert run_command(["convert", str(source), str(target), "--codecs", "none"]) == 0
    (target / "group/x/c/0").write_bytes(bytes(240))
    assert run_command(["verify", str(source), str(target)]) == 1
    assert "differs: /group/x: values differ in [0:30]" in capsys.readouterr().out
    assert run_command(["verify", str(source), str(target), "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "options",
    [["--codecs", "zip"], ["--window", "none"], ["--zarr-format", "4"], ["--chunks", "0"], ["--resume", "--overwrite"]],
    ids=" ".join,
)
def test_invalid_usage_exits_with_2(options: list[str], source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["convert", str(source), str(source.with_suffix(".zarr")), *options]) == 2
    assert last_line(capsys)
    assert not source.with_suffix(".zarr").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chunks", "64x64"], "--chunks 64x64: give a shape like 64,512, or GLOB=SHAPE"),
        (["--shards", "1,0"], "or a size like '64 MiB', or GLOB=SIZE"),
        (["--zarr-format", "2", "--shards", "2"], "use --zarr-format 3"),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other"),
        (["--max-objects", "1"], "raise --max-objects"),
        (["--scheduler", "nowhere"], "--scheduler nowhere: "),
    ],
)
def test_errors_name_options_as_they_are_typed(
    options: list[str], message: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["convert", str(source), str(source.with_suffix(".zarr")), *options]) in (1, 2)
    assert message in last_line(capsys)


@pytest.mark.parametrize("command", ["check", "refs"])
def test_the_limits_that_an_error_names_can_be_raised(command: str, source: Path) -> None:
    last = [] if command == "check" else [str(source.with_suffix(".json"))]
    assert run_command([command, str(source), *last, "--max-objects", "1"]) in (1, 2)
    assert run_command([command, str(source), *last, "--max-objects", "100"]) in (0, 3)


@pytest.mark.parametrize("command", ["convert", "combine", "verify", "check", "refs"])
def test_what_a_function_takes_is_an_option_of_its_command(command: str) -> None:
    function = getattr(h5bound, {"refs": "references"}.get(command, command))
    options = {parameter.name for parameter in main_group.commands[command].params}
    of_python = {"progress", "max_open", "rules", "source", "path"}
    assert set(inspect.signature(function).parameters) - of_python <= options


def test_a_path_with_an_equals_sign_is_named_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["ls", str(tmp_path / "chunks=3" / "max_depth.h5")]) == 1
    assert f"{tmp_path}/chunks=3/max_depth.h5: no such file" in last_line(capsys)


def test_a_cluster_without_its_library_names_the_extra(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run_command(["convert", str(source), str(source.with_suffix(".zarr")), "--scheduler", "tcp://a:1"]) == 2
    assert "pip install 'h5bound[distributed]'" in last_line(capsys)


def test_options_reach_the_conversion(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(source.with_suffix(".zarr"))
    options = ["--chunks", "/group=10", "--chunks", "2", "--shards", "1 KiB", "--codecs", "zstd:1", "--verify"]
    assert run_command(["convert", str(source), target, *options, "--window", "1 MiB", "--workers", "2"]) == 0
    assert "equal" in capsys.readouterr().out
    import zarr

    array = zarr.open_array(target, path="group/x", mode="r")
    assert (array.chunks, array.shards) == ((10,), (100,))


def test_a_dry_run_shows_the_plan(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = source.with_suffix(".zarr")
    assert run_command(["convert", str(source), str(target), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "contiguous" in out
    assert "dry run: nothing written" in out
    assert not target.exists()


@pytest.mark.slow
def test_the_demo_says_what_it_made_where_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["demo"]) == 0
    out = capsys.readouterr().out
    story = ("wrote", "h5bound-demo/demo.h5", "converted", "h5bound-demo/demo.zarr", "equal", "decoded: ", "next")
    places = [out.index(word) for word in story]
    assert places == sorted(places)
    assert "an earlier demo" not in out
    commands = [line for line in out.partition("next")[2].splitlines() if line and not line.startswith("#")]
    assert len(commands) >= 3
    assert max(map(len, commands)) <= 80
    for command in commands[1:]:
        words = shlex.split(command.strip())
        assert words[0] in ("python", "h5bound")
        command_line = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", *words])]
        assert subprocess.run(command_line, capture_output=True, check=True).stdout
    assert run_command(["demo"]) == 0
    assert "an earlier demo" in capsys.readouterr().out


def test_a_demo_that_was_killed_while_it_wrote_is_no_file_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_file, "write_weather", fail)
    assert run_command(["demo", str(tmp_path)]) == 130
    assert not (tmp_path / "demo.h5").exists()
    monkeypatch.undo()
    assert run_command(["demo", str(tmp_path), "--quiet"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.h5", "demo.zarr"]


@pytest.mark.parametrize("name", ["demo.h5", "demo.zarr"])
def test_the_demo_replaces_its_own_files_only(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("precious")
    assert run_command(["demo", str(tmp_path)]) == 1
    assert f"{name}: exists and was not made by h5bound demo" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "precious"


def test_closed_standard_streams_are_no_error(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has None in their place, as in programs without a console on Windows."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert convert(source, source.with_suffix(".zarr"), progress=True).complete
    for arguments in (["convert", str(source), str(source.with_suffix(".zarr")), "--overwrite"], ["ls", str(source)]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    for stream in (sys.stdout, sys.stderr):
        stream.close()


@pytest.mark.parametrize("command", [[], ["ls"], ["convert"], ["verify"], ["demo"]], ids=" ".join)
def test_help_teaches_by_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert not command or f"h5bound {command[0]}" in out.split("Examples")[1]


def run_on_a_terminal(arguments: list[str], *, columns: int, directory: Path) -> str:
    """Run a command on a terminal of so many columns in a directory, and return its output without colours."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "h5bound", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**environment, "TERM": "xterm"}, cwd=directory
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while piece := os.read(ours, 65_536):
                written += piece
        except OSError:  # raised on Linux once nobody has the terminal open
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
@pytest.mark.parametrize(
    "command", [["convert", "a.h5", "a.zarr"], ["verify", "a.h5", "a.zarr"], ["demo"]], ids=" ".join
)
def test_quiet_and_verbose_contradict_each_other(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([*command, "-q", "-v"]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith("--quiet and --verbose contradict each other; pass one of them.")
    )


@pytest.mark.parametrize("command", ["convert", "combine", "verify"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--report", "s3.json", "--target-options", "s3.json"], "--target-options and --report"),
        (["--html", "./s3.json", "--storage-options", "s3.json"], "--storage-options and --html"),
        (["--report", "page", "--html", "page"], "--report and --html"),
    ],
)
def test_a_report_overwrites_no_file_of_options_and_no_page(
    command: str, options: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3.json").write_text('{"anon": true}')
    assert run_command([command, "a.h5", "a.zarr", *options]) == 2
    assert f"{named} name one file" in capsys.readouterr().err
    assert (tmp_path / "s3.json").read_text() == '{"anon": true}'
    assert list(tmp_path.iterdir()) == [tmp_path / "s3.json"]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_bar_and_a_table_that_fits(columns: int, tmp_path: Path) -> None:
    out = run_on_a_terminal(["demo"], columns=columns, directory=tmp_path)
    lines = [line for line in out.replace("\r", "\n").splitlines() if line.strip()]
    assert max(map(len, lines)) <= columns
    assert any("converting" in line and "━" in line for line in lines)
    assert any(line.startswith("copied") for line in lines)
    assert any("equal; 14 datasets" in line for line in lines)


@pytest.mark.parametrize("command", [[], ["ls"], ["convert"], ["verify"], ["demo"]], ids=" ".join)
def test_help_fits_a_terminal_of_80_columns(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command([*command, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_a_file_that_a_program_left_open_for_writing_names_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    script = f"import h5py, os; file = h5py.File({str(path)!r}, 'w', libver='latest'); file.flush(); os._exit(0)"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert run_command(["convert", str(path), str(tmp_path / "a.zarr")]) == 1
    assert "h5clear -s" in last_line(capsys)


def test_many_sources_are_converted_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = [1, 2]
    (tmp_path / "bad.h5").write_bytes(b"no HDF5")
    sources = [str(tmp_path / name) for name in ("a.h5", "bad.h5", "b.h5")]
    out = tmp_path / "out"
    assert run_command(["convert", *sources, f"{out}/", "--report", str(tmp_path / "report.json")]) == 1
    shown = capsys.readouterr()
    assert shown.err == f"h5bound: error: {out}/: 1 of 3 files failed\n"
    assert "2 of 3 files converted, 2 datasets" in shown.out
    assert shown.out.count("bad.h5") == 1
    assert len(json.loads((tmp_path / "report.json").read_text())["failed"]) == 1
    (tmp_path / "bad.h5").unlink()
    assert run_command(["convert", *sources[::2], str(out), "--resume"]) == 0
    assert run_command(["convert", sources[0], sources[0], str(out)]) == 2
    assert "named 2 times" in capsys.readouterr().err


def test_a_target_that_ends_in_a_slash_is_a_folder_unless_it_is_a_store(source: Path, tmp_path: Path) -> None:
    assert run_command(["convert", str(source), f"{tmp_path / 'out'}/"]) == 0
    store = tmp_path / "out" / f"{source.stem}.zarr"
    assert (store / "zarr.json").exists()
    assert run_command(["convert", str(source), f"{store}/", "--resume"]) == 0
    assert run_command(["convert", str(source), str(tmp_path / "new")]) == 0
    assert (tmp_path / "new" / "zarr.json").exists()


def test_a_forgotten_target_is_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["convert", str(source)]) == 2
    begin = "h5bound: error: Name the HDF5 file and the Zarr store, like `h5bound convert"
    assert last_line(capsys).startswith(begin)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["conver"], "No such command 'conver'"),
        (["ls"], "Missing argument 'FILE'"),
        (["convert", "a.h5", "a.zarr", "--chunk", "2"], "No such option"),
        (["verify", "a.h5", "a.zarr", "--workers", "0"], "Invalid value for '--workers'"),
        (["convert", "a.h5", "a.zarr", "--zarr-format", "4"], "Invalid value for '--zarr-format'"),
        (["verify", "a.h5", "a.zarr", "--storage-options", "none.json"], "Invalid value for '--storage-options'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_use_ends_as_every_error_does_below_the_usage(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Usage: h5bound")
    assert lines[-1].startswith(f"h5bound: error: {error}")


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals")
def test_the_steps_of_verbose_are_lines_above_the_bar(source: Path) -> None:
    arguments = ["convert", str(source), str(source.with_suffix(".zarr")), "--verbose"]
    out = run_on_a_terminal(arguments, columns=200, directory=source.parent)
    (line,) = [line for line in out.replace("\r", "\n").splitlines() if "plan: " in line]
    assert re.match(r"\d\d:\d\d:\d\d plan: ", line)

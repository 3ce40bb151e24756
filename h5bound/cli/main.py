"""All commands, and how they end: exit codes, and one line for any error."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from signal import SIGINT

import click

from h5bound import __version__
from h5bound.cli.check import check_command
from h5bound.cli.combine import combine_command
from h5bound.cli.convert import convert_command
from h5bound.cli.demo import demo_command
from h5bound.cli.ending import Interruption
from h5bound.cli.ls import list_command
from h5bound.cli.messages import explain, fail, fail_usage
from h5bound.cli.parameters import Group
from h5bound.cli.references import references_command
from h5bound.cli.verify import verify_command
from h5bound.errors import H5BoundError, OptionError


@click.group(
    cls=Group,
    epilog="""
    # write an HDF5 file, convert it and verify the result
    h5bound demo
    h5bound ls scan.h5
    h5bound convert scan.h5 scan.zarr
    h5bound verify scan.h5 scan.zarr
    h5bound combine 'days/*.nc' year.zarr --dim time
    h5bound refs scan.h5 scan.json
    h5bound check scan.h5
    # in ~/.bashrc: Tab completes options and paths (or zsh_source, fish_source)
    eval "$(_H5BOUND_COMPLETE=bash_source h5bound)"
    """,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
def main_group() -> None:
    """Inspect HDF5 files, convert them to Zarr without loss, verify the result, or refer to the files as Zarr.

    h5bound COMMAND --help says what a command does by default, and what its exit codes mean.
    """


for command in (
    list_command, convert_command, demo_command, combine_command, verify_command, references_command, check_command,
):  # fmt: skip
    main_group.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code, or by the signal that interrupted it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell (`>&-`), or a program without a console
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):  # names of any language on a terminal or in a pipe that has not all
            stream.reconfigure(errors="backslashreplace")
    with Interruption() as interruption:
        code = run_command(sys.argv[1:] if arguments is None else arguments)
    interruption.end(code)


def run_command(arguments: list[str]) -> int:
    """Run the command line and return its exit code. The last line on stderr is the error, if there is one."""
    failed = 2 if arguments[:1] in (["verify"], ["check"]) else 1  # of these, 1 is a result
    try:
        return int(main_group.main(arguments or ["--help"], prog_name="h5bound", standalone_mode=False) or 0)
    except click.ClickException as error:
        return fail_usage(error)
    except OptionError as error:
        return fail(explain(error), code=2)
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__ or error
        if isinstance(cause, EOFError):  # click takes it for the end of its own input
            return fail(explain(cause, f"EOFError: {cause}"), code=failed)
        return fail(explain(cause, "interrupted"), code=128 + SIGINT)
    except BrokenPipeError:  # the reader of the output has gone, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failed
    except H5BoundError as error:
        return fail(explain(error), code=failed)
    except Exception as error:  # noqa: BLE001 - any error ends in one line
        return fail(explain(error, f"{type(error).__name__}: {error}"), code=failed)


if __name__ == "__main__":
    main()

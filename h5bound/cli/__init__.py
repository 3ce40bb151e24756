"""The command line: commands and exit codes, tables and progress, the listing of a file, and the demo file."""

import sys
from importlib.util import find_spec


def check_installed() -> None:
    """End the process with exit code 2 and one line on stderr if the libraries of the command line are missing."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        needed = " and ".join(missing)
        print(f"h5bound: error: the command line needs {needed}: pip install 'h5bound[cli]'", file=sys.stderr)
        sys.exit(2)

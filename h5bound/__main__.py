"""Run the command line: the script ``h5bound``, and ``python -m h5bound``."""

import signal


def main() -> None:
    """Run the command line. While it is loaded, Ctrl-C ends the process at once and without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from h5bound.cli import check_installed

    check_installed()
    from h5bound.cli.main import main as run

    run()


if __name__ == "__main__":
    main()

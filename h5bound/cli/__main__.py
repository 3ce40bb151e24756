"""Run the command line as ``python -m h5bound.cli``."""

from h5bound.cli import check_installed

if __name__ == "__main__":
    check_installed()
    from h5bound.cli.main import main

    main()

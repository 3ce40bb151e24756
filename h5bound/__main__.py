"""Run the command line as ``python -m h5bound``."""

from h5bound.cli.main import main

if __name__ == "__main__":
    main()

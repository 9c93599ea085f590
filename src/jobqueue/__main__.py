"""`python -m jobqueue`, and the command `jobqueue`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit with its code: 130 when it is interrupted, also while it is being loaded."""
    try:
        from jobqueue.cli.main import main as run  # noqa: PLC0415 - an interruption of the import is one of the command

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()

"""Asks every published library what our cron expressions mean, and prints the table of docs/reference/cron.md.

python -m tests.crons
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.crons.crons import LIBRARIES, install, rows, theirs

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        install(Path(name))
        print(rows([(library, theirs(library, Path(name))) for library in LIBRARIES]))

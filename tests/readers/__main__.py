"""Has every reader of ZIPs read our archives, and prints the table of docs/reference/archive-readers.md.

python -m tests.readers
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.readers.readers import install, outcomes, readers, table, write_archives

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder)
        write_archives(folder)
        print(table([(reader, outcomes(reader, folder)) for reader in readers(folder)]))

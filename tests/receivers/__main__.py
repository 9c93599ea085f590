"""Has every published library verify our webhooks, and prints the table of docs/reference/webhook-receivers.md.

python -m tests.receivers
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.receivers.receivers import FORMS, LIBRARIES, install, outcome, table

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        install(Path(name))
        print(table([(it, [outcome(it, form, Path(name)) for form in FORMS]) for it in LIBRARIES]))

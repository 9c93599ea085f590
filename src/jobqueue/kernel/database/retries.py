"""How many attempts a job has whose row says what the table says by itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jobqueue.kernel.database.statements import statement

if TYPE_CHECKING:
    from jobqueue.kernel.database.link import Link
    from jobqueue.kernel.database.statements import Description


def default_retries(link: Link, description: Description) -> int | None:
    """What max_retries is in a row of the queue's table that does not say; None when that is no plain number."""
    rows = link.fetch(statement("default_retries"), {"table": description.table})
    found = re.fullmatch(r"'?(\d+)'?(::\w+)?", rows[0][0]) if rows else None
    return int(found[1]) if found else None

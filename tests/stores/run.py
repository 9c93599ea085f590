"""Runs the checks on one store, and says of each what came of it."""

from __future__ import annotations

import re
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError
from tests.stores import rights, uploads, weather, whole_objects
from tests.stores.checks import CHECKS, Store

from jobqueue.errors import JobError, Retry

if TYPE_CHECKING:
    from collections.abc import Iterable

AS_ASKED: Final = "as asked"

# Each has registered its checks when it was imported. They run in this order: not every store goes on after the last.
_PARTS: Final = (whole_objects, rights, weather, uploads)
ORDERED: Final = [words for part in _PARTS for words, check in CHECKS.items() if check.__module__ == part.__name__]


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check: AS_ASKED, what the store does instead, or, of a fault of ours, its traceback."""

    words: str
    said: str
    fault: bool = False


def run(store: Store, chosen: Iterable[str] = ORDERED) -> Iterable[Finding]:
    """Make the bucket where it is missing, and run the checks one after the other."""
    objects = store.objects()
    with suppress(ClientError):
        objects.client.create_bucket(Bucket=store.bucket)
    objects.close()
    for words in chosen:
        try:
            yield Finding(words, CHECKS[words](store) or AS_ASKED)
        except JobError as error:
            yield Finding(words, _words(error, objects.host))
        except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
            yield Finding(words, traceback.format_exc(limit=-6), fault=True)


def _words(error: JobError, host: str) -> str:
    # Somebody who stands before the store has an address of its own.
    said = re.sub(r" (?:127\.0\.0\.1:\d+|" + re.escape(host) + ")", "", str(error))
    then = "the job is tried again" if isinstance(error, Retry) else "the job fails"
    return f"{then}: {said}"


def table(findings: Iterable[tuple[str, Finding]]) -> str:
    """What differs, as the documentation shows it; each finding comes with the name and version of its store."""
    rows: dict[tuple[str, str], list[str]] = {}
    for store, finding in findings:
        if finding.said != AS_ASKED:
            rows.setdefault((finding.words, finding.said), []).append(store)
    lines = [
        f"| {words} | {', '.join(stores)} | {said} |"
        for (words, said), stores in sorted(rows.items(), key=lambda row: (ORDERED.index(row[0][0]), row[1]))
    ]
    return "\n".join(["| what is asked | of | what it does instead |", "|---|---|---|", *lines])

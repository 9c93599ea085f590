"""The work of a run: what job number n is, what its sources hold, and how it has to end. All of it follows from the seed.

Queues are mixed: most jobs are cheap ones of `jobs`, some publish a picture, some are events that webhooks are told of, and a
few ask for an archive.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from tests.support.jpeg import picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

QUEUES: Final = ("jobs", "publish_jobs", "platform_events", "download_artifacts")
_SHARES: Final = (0.89, 0.06, 0.045, 0.005)

HOWS: Final = {
    "jobs": {
        "return": 30,
        "commit": 22,
        "write": 10,
        "flaky": 8,
        "snooze": 5,
        "slow": 10,
        "stubborn": 8,
        "fail": 4,
        "exhaust": 3,
    },
    "publish_jobs": {"photo": 50, "changing": 40, "missing": 5, "broken": 5},
    "platform_events": {"event": 1},
    "download_artifacts": {"small": 82, "large": 8, "empty": 10},
}
"""How each queue's jobs go, with weights. Of `jobs`: an effect in the transaction of the outcome (commit), before it (write) or
none (return); a first attempt that fails (flaky) or is put off (snooze); seconds of work, with checkpoints (slow) or without
(stubborn), and so for longer than its lease when its process stood still; failing for good (fail) or too often (exhaust). A source can change with each request (changing), be missing, or hold no picture (broken)."""

FAILING: Final = frozenset({"fail", "exhaust", "missing", "broken", "empty"})
"""Those that have to end failed; all others have to complete."""

COMMITTING: Final = frozenset({"commit", "flaky", "snooze", "slow", "stubborn"})
"""Those whose effect is committed together with their outcome."""

# No job may fail because faults came too often.
PATIENCE: Final = 1000

WEBHOOKS: Final = ("first", "second")
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

_BASES: Final = 8
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Piece:
    """One piece of work: number `n`, the table it is inserted into, and how it goes."""

    n: int
    queue: str
    how: str

    @property
    def fails(self) -> bool:
        return self.how in FAILING


class Work:
    """All pieces of a run, and the files they need. Safe to use from many threads."""

    def __init__(self, seed: int, total: int) -> None:
        self.total = total
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._bases = [picture(n, 160, 120) for n in range(_BASES)]

    def piece(self, n: int) -> Piece:
        draw = random.Random(f"{self._seed} {n}")
        queue = draw.choices(QUEUES, _SHARES)[0]
        hows = HOWS[queue]
        return Piece(n, queue, draw.choices(list(hows), list(hows.values()))[0])

    def file(self, key: str) -> bytes | None:
        """What the origin has under `key`; None when there is nothing."""
        how, _, rest = key.partition("-")
        match how:
            case "photo":
                return self._photo(rest)
            case "changing":
                with self._lock:
                    self._asked[key] += 1
                    return self._photo(f"{rest} {self._asked[key]}")
            case "broken":
                return f"this is no picture: {rest}".encode() * 100
            case "media":
                return media(int(rest.split("-")[0]), int(rest.split("-")[1]))
        return None

    def _photo(self, words: str) -> bytes:
        """A picture whose bytes are its own: a comment tells it from others (ITU-T T.81, B.2.4.5)."""
        base = self._bases[int(words.split(maxsplit=1)[0]) % _BASES]
        comment = words.encode()
        return base[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + base[2:]


@lru_cache(maxsize=32)
def media(n: int, number: int) -> bytes:
    """File `number` of the project of piece `n`: two of 6 MiB when it is to be large, three of tens of kilobytes else."""
    draw = random.Random(f"media {n} {number}")
    return draw.randbytes(6 * _MIB if number >= 100 else draw.randrange(1, 60_000))


def media_numbers(piece: Piece) -> range:
    """The numbers of the files of an archive's project."""
    match piece.how:
        case "large":
            return range(100, 102)
        case "small":
            return range(3)
        case _:
            return range(0)


def insert(cursor: psycopg.Cursor[Any], pieces: Sequence[Piece]) -> None:
    """Insert `pieces` as a host does, in the caller's transaction."""
    by_queue: dict[str, list[Piece]] = {queue: [] for queue in QUEUES}
    for piece in pieces:
        by_queue[piece.queue].append(piece)
    if jobs := by_queue["jobs"]:
        cursor.execute(
            """
            INSERT INTO jobs (kind, payload, max_retries)
            SELECT 'chaos', jsonb_build_object('n', n, 'how', how), CASE how WHEN 'exhaust' THEN 2 ELSE %s END
            FROM unnest(%s::int[], %s::text[]) AS piece (n, how)
            """,
            [PATIENCE, [piece.n for piece in jobs], [piece.how for piece in jobs]],
        )
    if publish := by_queue["publish_jobs"]:
        cursor.execute(
            """
            WITH file AS (
                INSERT INTO auction_files (source_key, original_name)
                SELECT how || '-' || n, n FROM unnest(%s::int[], %s::text[]) AS piece (n, how) RETURNING id)
            INSERT INTO publish_jobs (file_id, max_retries) SELECT id, %s FROM file
            """,
            [[piece.n for piece in publish], [piece.how for piece in publish], PATIENCE],
        )
    if events := by_queue["platform_events"]:
        cursor.execute(
            "INSERT INTO platform_events (event_category, event_type, entity_id)"
            " SELECT 'chaos', 'chaos.happened', n FROM unnest(%s::int[]) AS piece (n)",
            [[piece.n for piece in events]],
        )
    for piece in by_queue["download_artifacts"]:
        cursor.execute("INSERT INTO projects (name) VALUES (%s) RETURNING id", [str(piece.n)])
        [project] = cursor.fetchone() or [None]
        cursor.execute(
            """
            INSERT INTO project_media (project_id, kind, source_key, filename)
            SELECT %s, 'PHOTO', 'media-' || %s || '-' || number, number || '.jpg' FROM unnest(%s::int[]) AS number
            """,
            [project, piece.n, list(media_numbers(piece))],
        )
        cursor.execute("INSERT INTO download_artifacts (project_id, max_retries) VALUES (%s, %s)", [project, PATIENCE])

"""The ledger: what there has to be at the end, and what is not as it has to be."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.chaos.reading import not_a_picture, not_the_archive, unreadable
from tests.chaos.work import COMMITTING, WEBHOOKS, Piece, Work, media_numbers

from jobqueue.storage.multipart import unfinished

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.chaos.helpers import Row, Site

# How many cases of one kind are told in full.
_SHOWN: Final = 5

_STATES: Final = """
SELECT 'jobs' AS queue, status, count(*) AS n FROM jobs GROUP BY 2
UNION ALL SELECT 'publish_jobs', status, count(*) FROM publish_jobs GROUP BY 2
UNION ALL SELECT 'download_artifacts', status, count(*) FROM download_artifacts GROUP BY 2
UNION ALL SELECT 'webhook_deliveries', status, count(*) FROM webhook_deliveries GROUP BY 2
ORDER BY 1, 2"""

_ENDED: Final = frozenset({"completed", "failed", "cancelled", "READY", "FAILED", "CANCELLED"})


class Ledger:
    """Checks a site whose work has come to its end and whose workers have left. `problems` is what is off, in sentences."""

    def __init__(self, site: Site, work: Work, executions: Path) -> None:
        self.problems: list[str] = []
        self.lines: list[str] = []
        self._site = site
        self._executions = executions
        self._pieces: defaultdict[str, dict[int, Piece]] = defaultdict(dict)
        for piece in map(work.piece, range(work.total)):
            self._pieces[piece.queue][piece.n] = piece

    def check(self) -> None:
        self._states()
        self._outcomes()
        self._jobs()
        self._publishing()
        self._archives()
        self._webhooks()
        self._schedules()
        self._store()
        self._leftovers()

    def _wrong(self, what: str, cases: Iterable[object]) -> None:
        """Note `what` when there is any case of it."""
        found = list(cases)
        if found:
            shown = "; ".join(str(case) for case in found[:_SHOWN])
            self.problems.append(f"{what}: {len(found)} ({shown}{'; ...' if len(found) > _SHOWN else ''})")

    def _tell(self, what: str, found: object) -> None:
        self.lines.append(f"{what:58} {found}")

    def _states(self) -> None:
        states: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for row in self._site.database.rows(_STATES):
            states[row["queue"]][row["status"]] = row["n"]
        for queue, counts in states.items():
            self._tell(f"{queue}: rows by state", ", ".join(f"{n:,} {status}" for status, n in counts.items()))
        left = [(queue, status, n) for queue, counts in states.items() for status, n in counts.items()]
        self._wrong("rows that have not ended", [case for case in left if case[1] not in _ENDED])

    def _outcomes(self) -> None:
        """Each job has one outcome, and it is the one in its row."""
        rows = self._site.database.rows(
            """
            WITH ended AS (
                SELECT 'jobs' AS queue, id::text, status, lease_token FROM jobs
                UNION ALL SELECT 'publish_jobs', id::text, status, lease_token FROM publish_jobs
                UNION ALL SELECT 'download_artifacts', id::text, status, lease_token FROM download_artifacts
                UNION ALL SELECT 'webhook_deliveries', id::text, status, lease_token FROM webhook_deliveries
            ), noted AS (
                SELECT queue, job_id, count(*) AS n, max(status) AS status, max(token::text) AS token
                FROM chaos.outcomes GROUP BY 1, 2)
            SELECT e.queue, e.id, e.status, n.n, n.status AS noted
            FROM ended AS e LEFT JOIN noted AS n ON n.queue = e.queue AND n.job_id = e.id
            WHERE n.n IS DISTINCT FROM 1 OR n.status <> e.status OR n.token IS DISTINCT FROM e.lease_token::text
            """
        )
        self._wrong("jobs without exactly one outcome, or with another than their row's", rows)

    def _jobs(self) -> None:
        pieces = self._pieces["jobs"]
        rows = self._site.database.rows(
            """
            SELECT j.id, (j.payload->>'n')::int AS n, j.status, j.retry_count, j.crash_count, j.lease_token::text AS token,
                   count(e.job_id) AS effects, count(e.job_id) FILTER (WHERE e.token = j.lease_token) AS own
            FROM jobs AS j LEFT JOIN chaos.effects AS e ON e.job_id = j.id
            WHERE j.kind = 'chaos' AND j.payload ? 'n' GROUP BY j.id
            """
        )
        self._accounted("jobs", Counter(row["n"] for row in rows), pieces)
        by_n = {row["n"]: row for row in rows}
        expected = {n: "failed" if piece.fails else "completed" for n, piece in pieces.items()}
        self._wrong(
            "jobs that ended otherwise than they had to",
            (
                f"{pieces[n].how} {row['status']}, id {row['id']}"
                for n, row in by_n.items()
                if row["status"] != expected[n]
            ),
        )
        self._wrong("jobs whose effect and outcome are not one", self._effects(by_n, pieces))
        self._wrong(
            "other jobs that did not complete",
            self._site.database.rows(
                "SELECT id, kind, status, error_message FROM jobs WHERE kind <> 'chaos' AND status <> 'completed'"
            ),
        )
        self._wrong(
            "jobs of the measured batches that did not complete",
            self._site.database.rows(
                "SELECT id, status FROM jobs WHERE NOT payload ? 'n' AND kind = 'chaos' AND status <> 'completed'"
            ),
        )
        self._tell("jobs: attempts charged", sum(row["retry_count"] for row in rows))
        self._runs(rows)

    def _effects(self, by_n: dict[int, Row], pieces: dict[int, Piece]) -> Iterator[str]:
        for n, row in by_n.items():
            how, effects, own = pieces[n].how, row["effects"], row["own"]
            if how in COMMITTING:
                right = effects == own == 1
            elif how == "write":
                # Written before the outcome: once under the lease that completed it, and at most once under each other.
                right = own == 1
            else:
                right = effects == 0
            if not right:
                yield f"{how} id {row['id']}: {effects} effects, {own} under the token of its outcome"

    def _runs(self, rows: list[Row]) -> None:
        """What the handlers wrote down for themselves: each lease began one run, and every outcome had a run of its lease."""
        began: Counter[tuple[int, str]] = Counter()
        ended: Counter[tuple[int, str]] = Counter()
        with self._executions.open() as lines:
            for line in lines:
                what, job, token, _ = line.split()
                (began if what == "began" else ended)[int(job), token] += 1
        self._wrong("leases that began more than one run", (key for key, n in began.items() if n > 1))
        self._wrong(
            "completed jobs without a run under the lease that completed them",
            (row["id"] for row in rows if row["status"] == "completed" and (row["id"], row["token"]) not in began),
        )
        whole = Counter(job for job, _ in ended)
        self._tell("jobs: runs begun", f"{sum(began.values()):,}")
        self._tell("jobs: run to the end more than once (by a lost worker first)", sum(n > 1 for n in whole.values()))

    def _publishing(self) -> None:
        pieces = self._pieces["publish_jobs"]
        rows = self._site.database.rows(
            """
            SELECT f.id, f.original_name::int AS n, j.status, f.publish_status, f.thumb_url, f.display_url, j.retry_count,
                   j.error_message, (SELECT count(*) FROM chaos.publications AS p WHERE p.id = f.id) AS publications
            FROM auction_files AS f JOIN publish_jobs AS j ON j.file_id = f.id
            """
        )
        self._accounted("publish_jobs", Counter(row["n"] for row in rows), pieces)
        wrong = []
        for row in rows:
            fails = pieces[row["n"]].fails
            expected = ("failed", "failed", 0, False) if fails else ("completed", "published", 1, True)
            found = (
                row["status"],
                row["publish_status"],
                row["publications"],
                bool(row["thumb_url"] and row["display_url"]),
            )
            if found != expected:
                wrong.append(f"{pieces[row['n']].how} {found}, file {row['id']}: {row['error_message']}")
        self._wrong("files that ended otherwise than they had to (job, file, times published, URLs)", wrong)
        urls = {url for row in rows for url in (row["thumb_url"], row["display_url"]) if url}
        checks = [(url, not_a_picture) for url in urls]
        self._wrong("published URLs that do not show a picture", unreadable(self._site.cdn.url, checks))
        self._tell("pictures read by their URLs", f"{len(urls):,}")
        self._tell("publish_jobs: attempts charged", sum(row["retry_count"] for row in rows))

    def _archives(self) -> None:
        pieces = self._pieces["download_artifacts"]
        rows = self._site.database.rows(
            """
            SELECT a.id, p.name::int AS n, a.status, a.cdn_url, a.manifest, a.error_message, a.upload_key, a.retry_count,
                   (SELECT count(*) FROM chaos.publications AS c WHERE c.id = a.id) AS publications
            FROM download_artifacts AS a JOIN projects AS p ON p.id = a.project_id
            """
        )
        self._accounted("download_artifacts", Counter(row["n"] for row in rows), pieces)
        expected = {n: ("FAILED", 0) if piece.fails else ("READY", 1) for n, piece in pieces.items()}
        self._wrong(
            "archives that ended otherwise than they had to (state, times published)",
            (
                f"{row['status']}, {row['publications']}, {row['id']}: {row['error_message']}"
                for row in rows
                if (row["status"], row["publications"]) != expected[row["n"]]
            ),
        )
        ready = [row for row in rows if row["status"] == "READY"]
        checks, left_out = [], 0
        for row in ready:
            missing = {entry["name"] for entry in row["manifest"]["missing"]}
            left_out += len(missing)
            wanted = {f"{number}.jpg" for number in media_numbers(pieces[row["n"]])} - missing
            checks.append((row["cdn_url"], partial(not_the_archive, n=row["n"], wanted=wanted)))
        self._wrong("archives that are not whole", unreadable(self._site.cdn.url, checks))
        self._tell("archives read and verified", len(ready))
        self._tell("archives: files left out and named in the manifest", left_out)

    def _webhooks(self) -> None:
        events = self._pieces["platform_events"]
        rows = self._site.database.rows(
            """
            SELECT d.id, e.entity_id AS n, d.status, d.retry_count, right(w.webhook_url, 6) AS path, d.error_message
            FROM webhook_deliveries AS d JOIN platform_events AS e ON e.id = d.event_id JOIN app_webhooks AS w ON w.id = d.webhook_id
            """
        )
        names = {name[-6:]: name for name in WEBHOOKS}
        made = Counter((names[row["path"].lstrip("/")], str(row["n"])) for row in rows)
        wanted = Counter((name, str(n)) for name in WEBHOOKS for n in events)
        self._wrong("events without exactly one delivery to each webhook", [*(made - wanted), *(wanted - made)])
        self._wrong(
            "deliveries that were not taken",
            (f"{row['id']} {row['status']}: {row['error_message']}" for row in rows if row["status"] != "completed"),
        )
        receiver = self._site.receiver
        self._wrong("deliveries that did not arrive", (key for key in wanted if not receiver.told[key]))
        self._wrong("calls that the receiver refused", receiver.refused)
        [sums] = self._site.database.rows("SELECT sum(total_deliveries - total_failures)::int AS n FROM app_webhooks")
        completed = sum(row["status"] == "completed" for row in rows)
        if sums["n"] != completed:
            self.problems.append(f"the webhooks count {sums['n']} successes, and {completed} deliveries are completed")
        self._wrong(
            "attempts that were never added up", self._site.database.rows("SELECT * FROM jobqueue.webhook_attempts")
        )
        self._tell("webhooks: deliveries, calls that arrived", f"{completed:,}, {sum(receiver.told.values()):,}")

    def _schedules(self) -> None:
        """A tick every five seconds from the first to the last, each with one job."""
        rows = self._site.database.rows(
            """
            SELECT t.tick, t.state, extract(epoch FROM t.tick - lag(t.tick) OVER (ORDER BY t.tick))::float8 AS since,
                   (SELECT count(*) FROM jobs AS j WHERE j.schedule = t.schedule AND j.tick_at = t.tick) AS jobs
            FROM jobqueue.schedule_ticks AS t WHERE t.schedule = 'chaos' ORDER BY t.tick
            """
        )
        self._wrong(
            "ticks that are missing, made more than once, or not worked off",
            (row for row in rows if row["since"] not in (None, 5.0) or row["jobs"] != 1 or row["state"] != "completed"),
        )
        self._tell("schedules: ticks, each with one job", len(rows))

    def _store(self) -> None:
        """What is at the store is named by something, and what is named is there."""
        prefixes = self._site.database.rows(
            "SELECT cdn_key_prefix AS p FROM auction_files WHERE cdn_key_prefix IS NOT NULL"
            " UNION SELECT prefix FROM jobqueue.superseded_prefixes"
        )
        named = {f"{row['p']}/{variant}.webp" for row in prefixes for variant in ("thumb", "display")}
        keys = self._site.database.rows("SELECT storage_key AS k FROM download_artifacts WHERE storage_key IS NOT NULL")
        named |= {row["k"] for row in keys}
        found = set(self._site.objects.keys())
        self._wrong("objects that nothing names", sorted(found - named))
        self._wrong("objects that are named and not there", sorted(named - found))
        uploads = [upload.key for upload in unfinished(self._site.objects, "")]
        self._wrong("uploads that were neither completed nor aborted", uploads)
        noted = self._site.database.rows(
            "SELECT id, status, upload_key FROM download_artifacts WHERE upload_key IS NOT NULL"
        )
        self._wrong("archives that ended with their upload noted", noted)
        self._tell("objects at the store, each named", f"{len(found):,}")

    def _leftovers(self) -> None:
        """Nothing is left of processes that have left: no connection, no temporary file."""
        rows = self._site.database.rows(
            "SELECT application_name, state FROM pg_stat_activity WHERE application_name LIKE 'jobqueue:%'"
        )
        self._wrong("connections of workers that have left", rows)
        files = [path for path in self._site.temporary.rglob("*") if path.is_file()]
        self._wrong("temporary files that were left", [str(path.relative_to(self._site.temporary)) for path in files])

    def _accounted(self, queue: str, found: Counter[int], pieces: dict[int, Piece]) -> None:
        self._wrong(f"{queue}: pieces of work that are not there", pieces.keys() - found.keys())
        self._wrong(
            f"{queue}: pieces of work that are there more than once", (n for n, times in found.items() if times > 1)
        )
        self._tell(f"{queue}: pieces of work inserted and accounted for", f"{len(found):,} of {len(pieces):,}")

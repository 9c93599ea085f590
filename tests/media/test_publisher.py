"""One picture's path from its row to the CDN, and every fault of the origin and the store on that way."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import pyvips
from tests.support import http_server
from tests.support.gated_worker import GatedWorker
from tests.support.http_server import Answer, FaultyServer, reply
from tests.support.jpeg import picture
from tests.support.origin import SteadyOrigin
from tests.support.waiting import eventually

from jobqueue.media.memory_budget import MemoryBudget
from jobqueue.media.publisher import CACHE_CONTROL, STAGES, Publisher
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.observe.redact import Redactor
from jobqueue.origin.origin_client import OriginClient
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host
    from tests.support.s3 import Bucket


ORIGIN_SECRET = "canary-origin-secret"
STORE_SECRET = "canary-store-secret"
STORE_KEY_ID = "canary-key-id"
CDN = "https://cdn.example.test"

# Quick to give up: what is tested is what becomes of the job.
LIMITS = DownloadLimits(
    max_bytes=200_000, total_seconds=5, read_seconds=0.4, min_rate=1000, rate_window_seconds=0.4, max_resumes=1
)

PICTURE = picture(1)


class Publishing:
    """Publishes what is due with the services that a test chose."""

    def __init__(self, worker: GatedWorker, bucket: Bucket) -> None:
        self.bucket = bucket
        self.metrics = worker.metrics
        self._worker = worker

    def run(self, origin: str, *, store: str | None = None) -> None:
        """Work until nothing is due. `store` is another endpoint than the real store's."""
        objects = self.bucket.objects
        if store is not None:
            objects = Objects(
                store, STORE_KEY_ID, STORE_SECRET, "bucket", "region", attempts=1, connect_seconds=1, read_seconds=1
            )
        source = OriginClient(origin, ORIGIN_SECRET, limits=LIMITS)
        publisher = Publisher(
            source, objects, MemoryBudget(1 << 28), self.metrics, cdn_base_url=CDN, max_pixels=200_000, concurrency=4
        )
        self._worker.run(publisher.publish)
        publisher.close()
        source.close()
        if store is not None:
            objects.close()


@pytest.fixture(scope="module")
def worker(shared_host: Host) -> Iterator[GatedWorker]:
    with GatedWorker(shared_host, Redactor([ORIGIN_SECRET, STORE_SECRET, STORE_KEY_ID]).redact) as worker:
        yield worker


@pytest.fixture
def publishing(worker: GatedWorker, host: Host, bucket: Bucket) -> Publishing:
    return Publishing(worker, bucket)


def assert_no_secret(message: str) -> None:
    assert "canary" not in message
    assert "Bearer" not in message
    assert "?key=" not in message


# What a job that ends well leaves behind


def test_a_published_file_names_objects_that_are_there(host: Host, bucket: Bucket, publishing: Publishing) -> None:
    with SteadyOrigin({"a/photo.jpg": PICTURE}, secret=ORIGIN_SECRET) as origin:
        job = host.enqueue("a/photo.jpg")
        publishing.run(origin.endpoint)

    row, file = host.job(job), host.file_of(job)
    assert (row["status"], row["retry_count"], row["error_message"]) == ("completed", 0, None)
    assert row["started_at"] <= row["completed_at"]
    assert row["lease_expires_at"] is row["locked_by"] is None
    assert (file["publish_status"], file["bytes"], file["width"], file["height"]) == (
        "published",
        len(PICTURE),
        400,
        300,
    )
    assert file["published_at"] is not None
    prefix = file["cdn_key_prefix"]
    assert file["thumb_url"] == f"{CDN}/{prefix}/thumb.webp"
    assert file["display_url"] == f"{CDN}/{prefix}/display.webp"
    assert bucket.contents() == host.named_keys() == {f"{prefix}/thumb.webp", f"{prefix}/display.webp"}


def test_objects_are_pictures_that_may_be_kept_for_ever(host: Host, bucket: Bucket, publishing: Publishing) -> None:
    with SteadyOrigin({"photo": PICTURE}, secret=ORIGIN_SECRET) as origin:
        host.enqueue("photo")
        publishing.run(origin.endpoint)
    objects = bucket.objects
    for key in bucket.contents():
        info = objects.head(key)
        assert info is not None
        assert info.content_type == "image/webp"
        assert info.cache_control == CACHE_CONTROL == "public, max-age=31536000, immutable"
        decoded = pyvips.Image.new_from_buffer(objects.get(key), "")
        assert decoded.get("vips-loader") == "webpload_buffer"


def test_files_with_the_same_bytes_share_their_objects(host: Host, bucket: Bucket, publishing: Publishing) -> None:
    with SteadyOrigin({"one": PICTURE, "two": PICTURE}, secret=ORIGIN_SECRET) as origin:
        jobs = [host.enqueue("one"), host.enqueue("two")]
        publishing.run(origin.endpoint)
    assert [host.job(job)["status"] for job in jobs] == ["completed", "completed"]
    assert len(bucket.contents()) == 2
    assert bucket.contents() == host.named_keys()


def test_every_stage_and_every_byte_is_measured(host: Host, bucket: Bucket, publishing: Publishing) -> None:
    def value(name: str, **labels: str) -> float:
        return publishing.metrics.registry.get_sample_value(f"jobqueue_{name}", labels) or 0.0

    def stage(name: str) -> float:
        return value("job_stage_duration_seconds_count", queue="publish_jobs", stage=name)

    before, uploaded_before = value("bytes_downloaded_total"), value("bytes_uploaded_total")
    stages_before = {name: stage(name) for name in STAGES}
    with SteadyOrigin({"photo": PICTURE}, secret=ORIGIN_SECRET) as origin:
        host.enqueue("photo")
        publishing.run(origin.endpoint)
    uploaded = sum(len(bucket.objects.get(key)) for key in bucket.contents())
    assert value("bytes_downloaded_total") - before == len(PICTURE)
    assert value("bytes_uploaded_total") - uploaded_before == uploaded
    # The stages are counted when the outcome is reported, a moment after it was recorded.
    eventually(lambda: all(stage(name) == count + 1 for name, count in stages_before.items()))


@pytest.mark.parametrize("table", ["auction_files", "publish_jobs"])
def test_a_row_that_a_host_holds_locked_is_waited_for(host: Host, publishing: Publishing, table: str) -> None:
    """The work is done by then: neither an attempt nor the pictures are thrown away."""
    stored = reply(200, headers={"ETag": '"e"'})
    with closing(psycopg.connect(host.dsn)) as holder:

        def lock_and_store(request: http_server.Request, wire: http_server.Wire) -> None:
            if "/display" in request.target:
                holder.execute(f"SELECT FROM {table} FOR UPDATE".encode())
                # Longer than a statement that only records an outcome waits for its row.
                threading.Timer(1.2, holder.rollback).start()
            stored(request, wire)

        job = host.enqueue("photo")
        with FaultyServer(http_server.file(PICTURE)) as origin, FaultyServer(lock_and_store) as store:
            publishing.run(origin.url, store=store.url)
            assert (len(origin.requests), len(store.requests)) == (1, 2)
    assert (host.job(job)["status"], host.job(job)["retry_count"]) == ("completed", 0)
    assert host.file_of(job)["publish_status"] == "published"


# Rows that cannot be published


@pytest.mark.parametrize(
    "source_key", ["../etc/passwd", "a/../../b", "http://elsewhere/x", "with\x07bell", "k" * 1025, "", None]
)
def test_a_source_key_that_is_no_key_fails_before_any_request(
    host: Host, publishing: Publishing, source_key: str | None
) -> None:
    with FaultyServer(reply(200, PICTURE)) as origin:
        job = host.enqueue(source_key)
        publishing.run(origin.url)
        assert origin.requests == []
    row = host.job(job)
    assert (row["status"], row["retry_count"]) == ("failed", 5)
    assert "source_key" in row["error_message"]
    assert host.file_of(job)["publish_status"] == "failed"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"this is not a picture", "picture|format|supported"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG|format|supported"),
        (PICTURE[: len(PICTURE) // 2], "truncated|cut|incomplete|end|broken|damaged"),
        (picture(2, 600, 450), "MAX_SOURCE_PIXELS|pixels"),
    ],
    ids=["text", "svg", "truncated", "too many pixels"],
)
def test_a_source_that_is_no_usable_picture_fails_at_once(
    host: Host, bucket: Bucket, publishing: Publishing, body: bytes, reason: str
) -> None:
    with SteadyOrigin({"photo": body}, secret=ORIGIN_SECRET) as origin:
        job = host.enqueue("photo")
        publishing.run(origin.endpoint)
        assert origin.asked["photo"] == 1
    row = host.job(job)
    assert (row["status"], row["retry_count"]) == ("failed", 5)
    assert any(word.lower() in row["error_message"].lower() for word in reason.split("|")), row["error_message"]
    assert bucket.contents() == set()


def test_a_deleted_file_cancels_its_job_without_a_request(host: Host, publishing: Publishing) -> None:
    job = host.enqueue("photo")
    host.execute("UPDATE auction_files SET deleted_at = now(), publish_status = 'deleted'")
    with FaultyServer(reply(200, PICTURE)) as origin:
        publishing.run(origin.url)
        assert origin.requests == []
    row = host.job(job)
    assert (row["status"], row["retry_count"]) == ("cancelled", 0)
    assert "deleted" in row["error_message"]
    assert host.file_of(job)["publish_status"] == "deleted"


def test_a_file_deleted_while_it_is_published_gets_no_url(host: Host, publishing: Publishing) -> None:
    def delete(request: http_server.Request, wire: http_server.Wire) -> None:
        with psycopg.connect(host.dsn) as connection:
            connection.execute("UPDATE auction_files SET deleted_at = now(), publish_status = 'deleted'")
        reply(200, PICTURE)(request, wire)

    job = host.enqueue("photo")
    with FaultyServer(delete) as origin:
        publishing.run(origin.url)
    file = host.file_of(job)
    assert host.job(job)["status"] == "cancelled"
    assert (file["thumb_url"], file["display_url"], file["publish_status"]) == (None, None, "deleted")


# Faults of the origin


def drip(request: http_server.Request, wire: http_server.Wire) -> None:
    wire.head(200, {"Content-Length": str(len(PICTURE))})
    wire.drip(PICTURE, 0.02)


def too_short(request: http_server.Request, wire: http_server.Wire) -> None:
    reply(200, PICTURE, {"Content-Length": str(len(PICTURE) + 7)})(request, wire)
    wire.close()


ECHO = f"you sent Bearer {ORIGIN_SECRET}".encode()
LARGE = bytes(LIMITS.max_bytes + 1)

PERMANENT: dict[str, tuple[Answer, str]] = {
    "404": (reply(404, ECHO), "has no file under this source_key (404)"),
    "401": (reply(401, ECHO), "refused our credentials (401): check RAID_PUBLISHER_SECRET"),
    "redirect": (
        reply(302, headers={"Location": f"http://elsewhere.test/?token={ORIGIN_SECRET}"}),
        "redirects are not followed",
    ),
    "oversize with Content-Length": (reply(200, LARGE), "larger than MAX_SOURCE_BYTES of 200000 bytes"),
    "oversize without Content-Length": (http_server.unsized(LARGE), "larger than MAX_SOURCE_BYTES of 200000 bytes"),
}

TRANSIENT: dict[str, tuple[Answer, str]] = {
    "429": (reply(429, ECHO), "429 Too Many Requests"),
    "500": (reply(500, ECHO), "500 Internal Server Error"),
    "503": (reply(503, ECHO), "503 Service Unavailable"),
    "hang": (http_server.hang, "sent nothing for 0.4 s"),
    "slow drip": (drip, "sends too slowly"),
    "reset": (http_server.reset, "broke the connection"),
    "body cut short": (http_server.file(PICTURE, cut=500), "resumed 1 times"),
    "body cut short, no ranges": (http_server.file(PICTURE, cut=500, etag=None), "does not offer to resume"),
    "chunks cut short": (http_server.chunked(PICTURE[:500], end=False), "does not offer to resume"),
    "longer stated than sent": (
        too_short,
        f"after {len(PICTURE)} of {len(PICTURE) + 7} bytes",
    ),
}


@pytest.mark.parametrize("fault", PERMANENT)
def test_a_fault_of_the_origin_that_stays_fails_the_job_at_once(
    host: Host, bucket: Bucket, publishing: Publishing, fault: str
) -> None:
    answer, cause = PERMANENT[fault]
    job = host.enqueue("photo")
    with FaultyServer(answer) as origin:
        publishing.run(origin.url)
        assert len(origin.requests) == 1
        assert origin.requests[0].headers["authorization"] == f"Bearer {ORIGIN_SECRET}"
    row, file = host.job(job), host.file_of(job)
    assert (row["status"], row["retry_count"]) == ("failed", 5)
    assert row["completed_at"] is not None
    assert cause in row["error_message"]
    assert_no_secret(row["error_message"])
    assert (file["publish_status"], file["thumb_url"]) == ("failed", None)
    assert bucket.contents() == set()


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_fault_of_the_origin_that_passes_is_retried(
    host: Host, bucket: Bucket, publishing: Publishing, fault: str
) -> None:
    answer, cause = TRANSIENT[fault]
    job = host.enqueue("photo")
    with FaultyServer(answer) as origin:
        publishing.run(origin.url)
    row, file = host.job(job), host.file_of(job)
    assert (row["status"], row["retry_count"]) == ("pending", 1)
    assert row["run_after"] >= row["started_at"]
    assert row["lease_expires_at"] is row["locked_by"] is None
    assert cause in row["error_message"]
    assert_no_secret(row["error_message"])
    assert (file["publish_status"], file["thumb_url"]) == ("pending", None)
    assert bucket.contents() == set()

    host.execute("UPDATE publish_jobs SET run_after = now()")
    with FaultyServer(http_server.file(PICTURE)) as mended:
        publishing.run(mended.url)
    row = host.job(job)
    assert (row["status"], row["retry_count"], row["error_message"]) == ("completed", 1, None)
    assert host.file_of(job)["publish_status"] == "published"
    assert bucket.contents() == host.named_keys()


@pytest.mark.parametrize("status", [429, 503])
def test_the_origin_says_when_to_come_back(host: Host, publishing: Publishing, status: int) -> None:
    job = host.enqueue("photo")
    with FaultyServer(reply(status, headers={"Retry-After": "120"})) as origin:
        publishing.run(origin.url)
        assert len(origin.requests) == 1
    row = host.job(job)
    assert (row["status"], row["retry_count"]) == ("pending", 1)
    assert 119.5 < (row["run_after"] - row["updated_at"]).total_seconds() < 120.5
    assert "asks to wait 120 s" in row["error_message"]


def test_busy_for_a_moment_and_then_fine(host: Host, publishing: Publishing) -> None:
    """The retry comes by itself, in one run, when the origin wants it at once."""
    job = host.enqueue("photo")
    with FaultyServer(reply(503, headers={"Retry-After": "0"}), http_server.file(PICTURE)) as origin:
        publishing.run(origin.url)
        assert len(origin.requests) == 2
    row = host.job(job)
    assert (row["status"], row["retry_count"], row["error_message"]) == ("completed", 1, None)


def test_the_last_attempt_that_fails_is_the_end(host: Host, publishing: Publishing) -> None:
    job = host.enqueue("photo", max_retries=2)
    with FaultyServer(reply(500, headers={"Retry-After": "0"})) as origin:
        publishing.run(origin.url)
        assert len(origin.requests) == 2
    row = host.job(job)
    assert (row["status"], row["retry_count"], row["max_retries"]) == ("failed", 2, 2)
    assert "500" in row["error_message"]
    assert host.file_of(job)["publish_status"] == "failed"


def test_raising_max_retries_runs_a_failed_job_again(host: Host, publishing: Publishing) -> None:
    job = host.enqueue("photo", max_retries=1)
    with FaultyServer(reply(500), http_server.file(PICTURE)) as origin:
        publishing.run(origin.url)
        assert host.file_of(job)["publish_status"] == "failed"
        host.execute("UPDATE publish_jobs SET max_retries = 10 WHERE status = 'failed'")
        assert host.file_of(job)["publish_status"] in ("pending", "processing")
        publishing.run(origin.url)
    assert host.job(job)["status"] == "completed"


def test_one_job_that_fails_does_not_disturb_the_others(host: Host, publishing: Publishing) -> None:
    with SteadyOrigin({f"good-{n}": picture(n) for n in range(4)}, secret=ORIGIN_SECRET) as origin:
        good = [host.enqueue(f"good-{n}") for n in range(4)]
        bad = [host.enqueue("missing"), host.enqueue("../up")]
        publishing.run(origin.endpoint)
    assert {host.job(job)["status"] for job in good} == {"completed"}
    assert {host.job(job)["status"] for job in bad} == {"failed"}


# Faults of the store


def s3_error(status: int, code: str, headers: dict[str, str] | None = None) -> Answer:
    document = f"<Error><Code>{code}</Code><Message>key {STORE_SECRET} said so</Message></Error>"
    return reply(status, document.encode(), {"Content-Type": "application/xml", **(headers or {})})


def test_a_store_that_refuses_us_fails_the_job_at_once(host: Host, publishing: Publishing) -> None:
    job = host.enqueue("photo")
    with FaultyServer(http_server.file(PICTURE)) as origin, FaultyServer(s3_error(403, "AccessDenied")) as store:
        publishing.run(origin.url, store=store.url)
    row, file = host.job(job), host.file_of(job)
    assert (row["status"], row["retry_count"]) == ("failed", 5)
    assert "refused access (403 AccessDenied): check B2_KEY_ID and B2_APP_KEY" in row["error_message"]
    assert_no_secret(row["error_message"])
    assert (file["publish_status"], file["thumb_url"], file["display_url"]) == ("failed", None, None)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (s3_error(503, "SlowDown"), "could not take the request (503 SlowDown)"),
        (http_server.reset, "broke the connection"),
        (http_server.hang, "stopped answering"),
    ],
    ids=["503", "reset", "hang"],
)
def test_a_store_in_trouble_is_tried_again(host: Host, publishing: Publishing, answer: Answer, cause: str) -> None:
    job = host.enqueue("photo")
    with FaultyServer(http_server.file(PICTURE)) as origin, FaultyServer(answer) as store:
        publishing.run(origin.url, store=store.url)
        row, file = host.job(job), host.file_of(job)
        assert (row["status"], row["retry_count"]) == ("pending", 1)
        assert cause in row["error_message"]
        assert_no_secret(row["error_message"])
        assert (file["publish_status"], file["thumb_url"], file["cdn_key_prefix"]) == ("pending", None, None)

        host.execute("UPDATE publish_jobs SET run_after = now()")
        publishing.run(origin.url)
    assert (host.job(job)["status"], host.job(job)["retry_count"]) == ("completed", 1)
    assert publishing.bucket.contents() == host.named_keys()


def test_the_store_says_when_to_come_back(host: Host, publishing: Publishing) -> None:
    job = host.enqueue("photo")
    busy = s3_error(503, "SlowDown", {"Retry-After": "90"})
    with FaultyServer(http_server.file(PICTURE)) as origin, FaultyServer(busy) as store:
        publishing.run(origin.url, store=store.url)
    row = host.job(job)
    assert 89.5 < (row["run_after"] - row["updated_at"]).total_seconds() < 90.5


def test_one_variant_that_cannot_be_stored_leaves_no_url(host: Host, publishing: Publishing) -> None:
    """One put succeeds and the other does not: nothing is named, and the next attempt writes both under the same keys."""

    def only_thumbs(request: http_server.Request, wire: http_server.Wire) -> None:
        answer = reply(200, headers={"ETag": '"e"'}) if "/thumb" in request.target else s3_error(503, "SlowDown")
        answer(request, wire)

    job = host.enqueue("photo")
    with FaultyServer(http_server.file(PICTURE)) as origin:
        with FaultyServer(only_thumbs) as store:
            publishing.run(origin.url, store=store.url)
        row, file = host.job(job), host.file_of(job)
        assert (row["status"], file["thumb_url"], file["display_url"]) == ("pending", None, None)
        host.execute("UPDATE publish_jobs SET run_after = now()")
        publishing.run(origin.url)
    assert host.file_of(job)["cdn_key_prefix"] == row["key_prefix"] == host.job(job)["key_prefix"]


def test_an_answer_that_repeats_our_secret_is_cleaned(host: Host, publishing: Publishing) -> None:
    """The peer's own words are in the message only where they help, and never with what we sent."""
    job = host.enqueue("photo")
    status: Any = reply(418, ECHO, {"X-Echo": ORIGIN_SECRET, "Location": f"http://u:{ORIGIN_SECRET}@h/"})
    with FaultyServer(status) as origin:
        publishing.run(origin.url)
    row = host.job(job)
    assert row["status"] == "failed"
    assert "418" in row["error_message"]
    assert_no_secret(row["error_message"])

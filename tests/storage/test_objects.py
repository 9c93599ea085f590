from __future__ import annotations

import hashlib
import os
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.support.http_server import (
    Answer,
    FaultyServer,
    Request,
    Wire,
    certificate_pem,
    chunked,
    hang,
    reply,
    reset,
    unsized,
)
from tests.support.s3 import strict_store, without_list_right

from jobqueue.errors import JobError, Permanent, Retry
from jobqueue.storage.multipart import unfinished
from jobqueue.storage.objects import Objects
from jobqueue.storage.store_failures import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jobqueue.demo.object_store import ObjectStore

KEY_ID = "keyid-3b9f11"
APP_KEY = "canary-3b9f11"
FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture
def objects(object_store: ObjectStore) -> Iterator[Objects]:
    """A real store that checks signatures and keeps no versions."""
    store = object_store
    made = Objects(store.endpoint, store.key_id, store.app_key, store.bucket, store.region)
    yield made
    made.close()


@pytest.fixture(scope="module")
def protocol_server() -> Iterator[str]:
    """A server that has the protocol right, versions included, and checks no signatures."""
    with strict_store() as endpoint:
        yield endpoint


@pytest.fixture
def versioned(protocol_server: str, request: pytest.FixtureRequest) -> Iterator[Objects]:
    bucket = f"bucket-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    made = Objects(protocol_server, KEY_ID, APP_KEY, bucket, "us-east-1")
    made.client.create_bucket(Bucket=bucket)
    made.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield made
    made.close()


def put(objects: Objects, key: str, body: bytes | Path = b"webp") -> int:
    return objects.put(key, body, content_type="image/webp", cache_control=FOREVER)


def test_put_get_head_keys_delete(objects: Objects) -> None:
    body = os.urandom(300_000)
    assert put(objects, "roundtrip/a b/ü.webp", body) == len(body)
    assert objects.get("roundtrip/a b/ü.webp") == body
    info = objects.head("roundtrip/a b/ü.webp")
    assert info is not None
    assert (info.size_bytes, info.content_type) == (len(body), "image/webp")
    put(objects, "roundtrip/b.webp")
    assert sorted(objects.keys("roundtrip/")) == ["roundtrip/a b/ü.webp", "roundtrip/b.webp"]
    objects.delete("roundtrip/a b/ü.webp")
    assert objects.head("roundtrip/a b/ü.webp") is None
    assert list(objects.keys("roundtrip/")) == ["roundtrip/b.webp"]


def test_put_of_a_file_and_of_nothing(objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(os.urandom(3_000_000))
    assert put(objects, "file.webp", path) == 3_000_000
    assert objects.get("file.webp", max_bytes=3_000_000) == path.read_bytes()
    assert put(objects, "empty.webp", b"") == 0
    assert objects.get("empty.webp") == b""
    with pytest.raises(FileNotFoundError):
        put(objects, "file.webp", tmp_path / "missing")


def test_put_again_replaces(objects: Objects) -> None:
    put(objects, "again.webp", b"old")
    put(objects, "again.webp", b"new one")
    assert objects.get("again.webp") == b"new one"


def test_missing_objects(objects: Objects) -> None:
    assert objects.head("missing/x") is None
    assert list(objects.keys("missing/")) == []
    objects.delete("missing/x")
    with pytest.raises(Permanent, match=r"404 NoSuchKey"):
        objects.get("missing/x")


def test_get_is_for_small_objects(objects: Objects) -> None:
    put(objects, "eleven", b"x" * 11)
    with pytest.raises(Permanent, match="larger than the 10 bytes"):
        objects.get("eleven", max_bytes=10)
    assert objects.get("eleven", max_bytes=11) == b"x" * 11


def test_check_leaves_nothing_behind(objects: Objects) -> None:
    objects.check()
    assert list(objects.keys("jobqueue-check/")) == []


def test_threads_share_it(objects: Objects) -> None:
    bodies = {f"threads/{n}": os.urandom(20_000) for n in range(40)}
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: put(objects, key, bodies[key]), bodies))
    assert {key: objects.get(key) for key in objects.keys("threads/")} == bodies


def test_credentials_are_checked(object_store: ObjectStore) -> None:
    store = object_store
    for key_id, app_key, variable in [(store.key_id, "wrong", "B2_APP_KEY"), ("wrong", store.app_key, "B2_KEY_ID")]:
        made = Objects(store.endpoint, key_id, app_key, store.bucket, store.region)
        with pytest.raises(Permanent, match=variable) as caught:
            put(made, "a")
        made.close()
        assert store.app_key not in "".join(traceback.format_exception(caught.value))


def test_missing_bucket(object_store: ObjectStore) -> None:
    store = object_store
    made = Objects(store.endpoint, store.key_id, store.app_key, "no-such-bucket", store.region)
    calls: list[Callable[[], object]] = [
        lambda: put(made, "a"),
        lambda: list(made.keys()),
        lambda: made.get("a"),
        made.check,
    ]
    for call in calls:
        with pytest.raises(Permanent, match=r"has no bucket no-such-bucket .*: check B2_BUCKET"):
            call()
    made.close()


def test_headers_are_kept(versioned: Objects) -> None:
    versioned.put(
        "zip", b"zip", content_type="application/zip", cache_control=FOREVER, content_disposition="attachment"
    )
    info = versioned.head("zip")
    assert info is not None
    assert (info.content_type, info.cache_control, info.content_disposition) == (
        "application/zip",
        FOREVER,
        "attachment",
    )
    assert info.etag == hashlib.md5(b"zip").hexdigest()
    put(versioned, "webp")
    bare = versioned.head("webp")
    assert bare is not None
    assert bare.content_disposition is None


def versions(objects: Objects) -> list[str]:
    said = objects.client.list_object_versions(Bucket=objects.bucket)
    return [entry["Key"] for entry in [*said.get("Versions", ()), *said.get("DeleteMarkers", ())]]


def test_delete_removes_all_versions_and_markers_of_the_key_alone(versioned: Objects) -> None:
    for key in ("a/1", "a/1", "a/1", "a/10", "a/1/x", "a"):
        put(versioned, key)
    versioned.client.delete_object(Bucket=versioned.bucket, Key="a/1")
    put(versioned, "a/1")
    assert versions(versioned).count("a/1") == 5
    versioned.delete("a/1")
    assert sorted(versions(versioned)) == ["a", "a/1/x", "a/10"]
    versioned.delete("a/1")
    assert sorted(versions(versioned)) == ["a", "a/1/x", "a/10"]


def test_delete_of_what_is_hidden_already(versioned: Objects) -> None:
    put(versioned, "a")
    versioned.client.delete_object(Bucket=versioned.bucket, Key="a")
    assert versioned.head("a") is None
    versioned.delete("a")
    assert versions(versioned) == []


def test_check_leaves_no_version_behind(versioned: Objects) -> None:
    versioned.check()
    assert versions(versioned) == []


def fake(server: FaultyServer, **more: object) -> Objects:
    return Objects(server.url, KEY_ID, APP_KEY, "pictures", "us-west-000", **{"attempts": 1, **more})  # type: ignore[arg-type]


def error_body(code: str, message: str = "because") -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


@pytest.fixture(scope="module")
def faulty() -> Iterator[tuple[FaultyServer, Objects]]:
    """A store that misbehaves as it is told, and one client of it: making clients costs more than the tests."""
    with FaultyServer(hang) as server:
        objects = fake(server)
        yield server, objects
        objects.close()


@pytest.fixture
def failure(faulty: tuple[FaultyServer, Objects]) -> Callable[..., JobError]:
    """The error that these answers lead to, which must be fit for an operator's eyes."""

    def provoke(*answers: Answer, call: Callable[[Objects], object] | None = None) -> JobError:
        server, objects = faulty
        server.script(*answers)
        with pytest.raises((Permanent, Retry)) as caught:
            put(objects, "secret/key.webp") if call is None else call(objects)
        message = str(caught.value)
        assert f"the store 127.0.0.1:{server.port}" in message
        assert "\n" not in message
        assert "secret/key" not in message
        assert APP_KEY not in "".join(traceback.format_exception(caught.value))
        assert KEY_ID not in message
        return caught.value

    return provoke


def test_what_a_put_sends(faulty: tuple[FaultyServer, Objects], tmp_path: Path) -> None:
    server, objects = faulty
    (tmp_path / "file").write_bytes(b"webp")
    for body in (b"webp", tmp_path / "file"):
        server.script(reply(200, headers={"ETag": '"x"'}))
        put(objects, "a/b.webp", body)
        request = server.requests[0]
        assert (request.method, request.target, request.body) == ("PUT", "/pictures/a/b.webp", b"webp")
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(b"webp").hexdigest()
        assert request.headers["content-type"] == "image/webp"
        assert request.headers["cache-control"] == FOREVER
        assert "expect" not in request.headers
        assert "content-encoding" not in request.headers
        assert not [name for name in request.headers if "checksum" in name or "trailer" in name]


def test_no_other_call_asks_for_checksums(faulty: tuple[FaultyServer, Objects]) -> None:
    server, objects = faulty
    server.script(reply(200, b"<ListBucketResult/>"))
    list(objects.keys("a"))
    objects.client.delete_object(Bucket="pictures", Key="a")
    objects.get("a")
    assert len(server.requests) == 3
    for request in server.requests:
        assert not [name for name in request.headers if "checksum" in name]


def test_keys_come_in_pages(faulty: tuple[FaultyServer, Objects]) -> None:
    def page(keys: str, more: str) -> Answer:
        entries = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
        return reply(200, f"<ListBucketResult>{entries}{more}</ListBucketResult>".encode())

    truncated = "<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>"
    server, objects = faulty
    server.script(page("ab", truncated), page("c", "<IsTruncated>false</IsTruncated>"))
    assert list(objects.keys("x")) == ["a", "b", "c"]
    assert "prefix=x" in server.requests[0].target
    assert "continuation-token=next" in server.requests[1].target


def test_fault_between_pages(failure: Callable[..., JobError]) -> None:
    truncated = "<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>"
    first = reply(200, f"<ListBucketResult><Contents><Key>a</Key></Contents>{truncated}</ListBucketResult>".encode())
    error = failure(first, reply(503, error_body("SlowDown")), call=lambda it: list(it.keys()))
    assert isinstance(error, Retry)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "InvalidAccessKeyId", "check B2_KEY_ID"),
        (403, "SignatureDoesNotMatch", "check B2_APP_KEY"),
        (403, "AccessDenied", "check B2_KEY_ID and B2_APP_KEY, and that the key may write objects"),
        (401, "Unauthorized", "check B2_KEY_ID and B2_APP_KEY"),
        (404, "NoSuchBucket", "has no bucket pictures (404 NoSuchBucket): check B2_BUCKET"),
        (400, "AuthorizationHeaderMalformed", "check B2_REGION"),
        (400, "InvalidArgument", "did not accept the request (400 InvalidArgument); it says: because"),
        (400, "EntityTooLarge", "did not accept the request"),
        (501, "NotImplemented", "did not accept the request"),
        (403, "", "check B2_KEY_ID"),
        (404, "", "knows nothing at this address (404): check B2_ENDPOINT and B2_BUCKET"),
        (301, "PermanentRedirect", "check B2_REGION and B2_ENDPOINT"),
        (301, "", "check B2_REGION and B2_ENDPOINT"),
        (302, "", "check B2_REGION and B2_ENDPOINT"),
        (307, "TemporaryRedirect", "check B2_REGION and B2_ENDPOINT"),
        (308, "", "check B2_REGION and B2_ENDPOINT"),
    ],
)
def test_refusals_that_stay(status: int, code: str, words: str, failure: Callable[..., JobError]) -> None:
    body = error_body(code) if code else b""
    error = failure(reply(status, body, {"Retry-After": "5"}))
    assert isinstance(error, Permanent)
    assert words in str(error)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (500, "InternalError"),
        (502, ""),
        (504, ""),
        (429, "TooManyRequests"),
        (408, ""),
        (400, "RequestTimeout"),
        (400, "BadDigest"),
        (403, "RequestTimeTooSkewed"),
        (409, "OperationAborted"),
    ],
)
def test_refusals_that_pass(status: int, code: str, failure: Callable[..., JobError]) -> None:
    error = failure(reply(status, error_body(code) if code else b"<html>busy</html>"))
    assert isinstance(error, Retry)
    assert f"could not take the request ({status}" in str(error)
    assert error.after is None
    waiting = failure(reply(status, error_body(code), {"Retry-After": "17"}))
    assert isinstance(waiting, Retry)
    assert waiting.after == 17
    assert "asks to wait 17 s" in str(waiting)


def test_a_clock_that_is_off_passes_under_every_code(failure: Callable[..., JobError]) -> None:
    said = "The difference between the request time and the server's time exceeds the maximum allowed."
    error = failure(reply(400, error_body("AccessDenied", said)))
    assert isinstance(error, Retry)
    assert f"(400 AccessDenied); it says: {said}" in str(error)


def test_what_the_store_says_is_shown_without_credentials(failure: Callable[..., JobError]) -> None:
    said = f"Cap exceeded for {KEY_ID} and {APP_KEY}\n" + "x" * 500
    error = failure(reply(403, error_body("AccessDenied", said).replace(APP_KEY.encode(), b"***")))
    assert "it says: Cap exceeded for *** and ***" in str(error)
    assert len(str(error)) < 500


def test_503_then_fine_within_one_call() -> None:
    with FaultyServer(reply(503, error_body("ServiceUnavailable")), reply(200, headers={"ETag": '"x"'})) as server:
        objects = fake(server, attempts=2)
        assert put(objects, "a", b"webp") == 4
        objects.close()
    assert [request.body for request in server.requests] == [b"webp", b"webp"]


def test_attempts_are_counted() -> None:
    with FaultyServer(reply(500, error_body("InternalError"))) as server:
        objects = fake(server, attempts=3)
        with pytest.raises(Retry):
            put(objects, "a")
        objects.close()
    assert len(server.requests) == 3


def test_reset(failure: Callable[..., JobError]) -> None:
    error = failure(reset)
    assert isinstance(error, Retry)
    assert "broke the connection" in str(error)


def test_hang() -> None:
    with FaultyServer(hang) as server:
        objects = fake(server, read_seconds=0.2)
        with pytest.raises(Retry, match="stopped answering"):
            put(objects, "a")
        objects.close()


def test_answer_that_is_not_of_the_protocol(failure: Callable[..., JobError]) -> None:
    assert isinstance(failure(reply(200, b"<html><p>captive portal"), call=lambda it: list(it.keys())), Retry)
    unconfirmed = failure(reply(200))
    assert isinstance(unconfirmed, Retry)
    assert "did not confirm a write" in str(unconfirmed)


def test_body_cut_short_on_the_way_back(failure: Callable[..., JobError]) -> None:
    def cut(_request: Request, wire: Wire) -> None:
        wire.head(200, {"Content-Length": "1000", "ETag": '"x"'})
        wire.send(b"x" * 999)
        wire.close()

    assert isinstance(failure(cut, call=lambda it: it.get("a")), Retry)


def test_nobody_listens() -> None:
    with FaultyServer(hang) as server:
        pass
    objects = fake(server)
    with pytest.raises(Retry, match="could not be reached: Connection refused"):
        put(objects, "a")
    objects.close()


def test_untrusted_certificate_and_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(reply(200, headers={"ETag": '"x"'}), tls=True) as server:
        objects = fake(server)
        with pytest.raises(Retry, match="certificate that cannot be trusted"):
            put(objects, "a")
        objects.close()
        (tmp_path / "ca.pem").write_text(certificate_pem())
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        # A host without a scheme is asked over https.
        trusting = Objects(f"127.0.0.1:{server.port}", KEY_ID, APP_KEY, "pictures", "us-west-000")
        put(trusting, "a")
        trusting.close()
    assert [request.target for request in server.requests] == ["/pictures/a"]


def test_request_that_cannot_be_made(objects: Objects) -> None:
    with pytest.raises(Permanent, match="could not be made"):
        put(objects, "")


@pytest.mark.parametrize(
    ("code", "status"), [("NotImplemented", 501), ("MethodNotAllowed", 405), ("NotImplemented", 400)]
)
def test_delete_where_versions_are_unknown(faulty: tuple[FaultyServer, Objects], code: str, status: int) -> None:
    head = reply(200, headers={"ETag": '"x"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    server, objects = faulty
    server.script(reply(status, error_body(code)), head, reply(204))
    objects.delete("a")
    assert [request.method for request in server.requests] == ["GET", "HEAD", "DELETE"]
    assert server.requests[2].target == "/pictures/a"


def test_delete_leaves_versions_of_longer_keys_alone(faulty: tuple[FaultyServer, Objects]) -> None:
    listed = "".join(f"<Version><Key>{key}</Key><VersionId>of-{key}</VersionId></Version>" for key in ("a", "ab"))
    server, objects = faulty
    server.script(reply(200, f"<ListVersionsResult>{listed}</ListVersionsResult>".encode()), reply(204))
    objects.delete("a")
    assert [request.target for request in server.requests[1:]] == ["/pictures/a?versionId=of-a"]


def test_delete_that_may_not_list_says_so(failure: Callable[..., JobError]) -> None:
    error = failure(reply(403, error_body("AccessDenied")), call=lambda it: it.delete("secret/key.webp"))
    assert isinstance(error, Permanent)
    assert "that the key may list and delete objects" in str(error)


@pytest.mark.parametrize(
    ("endpoint", "bucket", "url"),
    [
        ("s3.us-west-004.backblazeb2.com", "pictures", "https://pictures.s3.us-west-004.backblazeb2.com/a"),
        ("https://s3.example.com", "my.pictures", "https://s3.example.com/my.pictures/a"),
        ("http://localhost:9000", "pictures", "http://localhost:9000/pictures/a"),
        ("http://minio:9000", "pictures", "http://minio:9000/pictures/a"),
        ("http://[::1]:9000", "pictures", "http://[::1]:9000/pictures/a"),
        ("10.0.0.7:9000", "pictures", "https://10.0.0.7:9000/pictures/a"),
    ],
)
def test_addresses(endpoint: str, bucket: str, url: str) -> None:
    objects = Objects(endpoint, KEY_ID, APP_KEY, bucket, "us-west-004")
    signed = objects.client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a"})
    objects.close()
    assert signed.partition("?")[0] == url


def test_repr_holds_no_secret() -> None:
    objects = Objects("s3.example.com", KEY_ID, APP_KEY, "pictures", "us-west-004")
    objects.close()
    assert repr(objects) == "Objects(pictures at s3.example.com)"
    assert APP_KEY not in repr(vars(objects))


CALLS: dict[str, Callable[[Objects], object]] = {
    "put": lambda it: it.put("a", b"x", content_type="text/plain"),
    "head": lambda it: it.head("a"),
    "get": lambda it: it.get("a"),
    "keys": lambda it: list(it.keys()),
    "delete": lambda it: it.delete("a"),
    "unfinished": lambda it: list(unfinished(it, "a")),
}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_store_that_sends_us_elsewhere(
    faulty: tuple[FaultyServer, Objects], failure: Callable[..., JobError], status: int, call: Callable[..., object]
) -> None:
    server, _ = faulty
    error = failure(reply(status, headers={"Location": "https://cdn.example.com/secret/key?sig=1"}), call=call)
    assert isinstance(error, Permanent)
    assert f"sends us to https://cdn.example.com ({status}): check B2_ENDPOINT" in str(error)
    # boto3 asks once for the bucket's region.
    assert len(server.requests) <= 2


def test_the_region_that_a_store_names_is_still_taken(faulty: tuple[FaultyServer, Objects]) -> None:
    server, objects = faulty
    elsewhere = reply(301, headers={"x-amz-bucket-region": "eu-central-1"})
    server.script(elsewhere, reply(200, headers={"ETag": '"x"'}))
    put(objects, "a")
    assert "/eu-central-1/s3/" in server.requests[1].headers["authorization"]


NO_DATE = {"ETag": '"x"', "Content-Length": "3"}


def test_head_of_an_answer_without_a_date_or_a_length(
    faulty: tuple[FaultyServer, Objects], failure: Callable[..., JobError]
) -> None:
    server, objects = faulty
    server.script(reply(200, headers=NO_DATE))
    info = objects.head("a")
    assert info is not None
    assert (info.size_bytes, info.modified) == (3, None)
    garbled = failure(reply(200, headers={**NO_DATE, "Last-Modified": "yesterday"}), call=lambda it: it.head("a"))
    assert isinstance(garbled, Retry)
    assert "answered something that cannot be read" in str(garbled)

    def streaming(_request: Request, wire: Wire) -> None:
        wire.head(200, {"ETag": '"x"', "Transfer-Encoding": "chunked"})

    unknown = failure(streaming, call=lambda it: it.head("a"))
    assert isinstance(unknown, Retry)
    assert "gave an answer without its ContentLength" in str(unknown)


def test_get_of_a_body_without_a_length(faulty: tuple[FaultyServer, Objects], failure: Callable[..., JobError]) -> None:
    server, objects = faulty
    for answer in (chunked(b"abc", b"de"), unsized(b"abcde")):
        server.script(answer)
        assert objects.get("a", max_bytes=5) == b"abcde"
        server.script(answer)
        with pytest.raises(Permanent, match="larger than the 4 bytes"):
            objects.get("a", max_bytes=4)
    assert isinstance(failure(chunked(b"abc", end=False), call=lambda it: it.get("a")), Retry)


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("keys", "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>"),
        ("delete", "<ListVersionsResult><Version><VersionId>1</VersionId></Version></ListVersionsResult>"),
        ("delete", "<ListVersionsResult><Version><Key>a</Key></Version></ListVersionsResult>"),
    ],
)
def test_listings_that_lack_something(call: str, body: str, failure: Callable[..., JobError]) -> None:
    error = failure(reply(200, body.encode()), call=CALLS[call])
    assert isinstance(error, Retry)
    assert "gave an answer without its" in str(error)


@pytest.fixture
def unlisted(object_store: ObjectStore) -> Iterator[Objects]:
    """The real store with a key that may not list."""
    store = object_store
    with without_list_right(store.endpoint) as front:
        made = Objects(front.url, store.key_id, store.app_key, store.bucket, store.region)
        yield made
        made.close()


def test_a_key_that_may_not_list_reads_writes_and_deletes(unlisted: Objects, objects: Objects) -> None:
    unlisted.check()
    put(unlisted, "unlisted/a")
    assert unlisted.head("unlisted/a") is not None
    unlisted.delete("unlisted/a")
    unlisted.delete("unlisted/a")
    assert list(objects.keys("unlisted/")) == []
    with pytest.raises(AccessRefused, match="that the key may read objects"):
        unlisted.head("unlisted/a")
    with pytest.raises(AccessRefused, match="that the key may list objects"):
        list(unlisted.keys())


def test_delete_without_the_list_right_finds_the_versions_one_by_one(versioned: Objects) -> None:
    with without_list_right(versioned.client.meta.endpoint_url) as front:
        made = Objects(front.url, KEY_ID, APP_KEY, versioned.bucket, "us-east-1")
        for body in (b"1", b"2", b"3"):
            put(made, "a", body)
        put(made, "ab")
        made.delete("a")
        made.close()
    assert [key for key in versions(versioned) if key == "a"] in ([], ["a"])
    assert [entry["Key"] for entry in versioned.client.list_object_versions(Bucket=versioned.bucket)["Versions"]] == [
        "ab"
    ]

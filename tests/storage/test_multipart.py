from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.support.http_server import FaultyServer, Request, Wire, reply
from tests.support.s3 import strict_store, without_list_right

from jobqueue.errors import Retry
from jobqueue.storage.multipart import MultipartUpload, UploadGone, abort, unfinished
from jobqueue.storage.objects import Objects
from jobqueue.storage.store_failures import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.demo.object_store import ObjectStore

PART = 5 * 1024 * 1024


@pytest.fixture(scope="module", params=["rclone", "moto"])
def objects(request: pytest.FixtureRequest, object_store: ObjectStore) -> Iterator[Objects]:
    """A bucket at a store that keeps bytes, and at one that keeps to the protocol."""
    with ExitStack() as stack:
        if request.param == "rclone":
            endpoint, keys = object_store.endpoint, (object_store.key_id, object_store.app_key)
        else:
            endpoint, keys = stack.enter_context(strict_store()), ("key", "secret-key")
        objects = Objects(endpoint, *keys, f"multipart-{os.getpid()}", "us-east-1")
        stack.callback(objects.close)
        objects.client.create_bucket(Bucket=objects.bucket)
        yield objects


def begin(objects: Objects, key: str) -> MultipartUpload:
    return MultipartUpload(
        objects, key, content_type="application/zip", cache_control="no-cache", content_disposition="attachment"
    )


def test_parts_in_any_order_become_the_object(objects: Objects) -> None:
    data = os.urandom(PART + 1000)
    upload = begin(objects, "order/a b.zip")
    upload.part(2, bytearray(data[PART:]))
    assert objects.head("order/a b.zip") is None
    assert [each.key for each in unfinished(objects, "order/")] == ["order/a b.zip"]
    upload.part(1, bytearray(data[:PART]))
    upload.complete(len(data))
    assert objects.get("order/a b.zip", max_bytes=2 * PART) == data
    info = objects.head("order/a b.zip")
    assert info is not None
    assert info.content_type == "application/zip"
    assert list(unfinished(objects, "order/")) == []


def test_an_aborted_upload_leaves_nothing(objects: Objects) -> None:
    upload = begin(objects, "gone.zip")
    upload.part(1, bytearray(10))
    upload.abort()
    assert list(unfinished(objects, "gone.zip")) == []
    assert objects.head("gone.zip") is None
    upload.abort()
    abort(objects, "gone.zip", upload.id)


def test_a_part_of_an_aborted_upload_says_so(object_store: ObjectStore) -> None:
    objects = Objects(object_store.endpoint, object_store.key_id, object_store.app_key, "pictures", object_store.region)
    upload = begin(objects, "gone.zip")
    upload.abort()
    with pytest.raises(UploadGone, match="no longer knows the upload"):
        upload.part(1, bytearray(10))
    objects.close()


def test_completing_again_after_a_lost_answer_succeeds(objects: Objects) -> None:
    upload = begin(objects, "again.zip")
    upload.part(1, bytearray(10))
    upload.complete(10)
    upload.complete(10)


def test_another_size_than_was_written_is_noticed(objects: Objects) -> None:
    upload = begin(objects, "size.zip")
    upload.part(1, bytearray(10))
    with pytest.raises(Retry, match="shows 10 bytes where 11 bytes were written"):
        upload.complete(11)


def test_unfinished_uploads_are_found_by_prefix(objects: Objects) -> None:
    uploads = [begin(objects, key) for key in ("prefix/a", "prefix/b", "other/c")]
    found = list(unfinished(objects, "prefix/"))
    assert [(each.key, each.id) for each in found] == [(each.key, each.id) for each in uploads[:2]]
    assert all(each.begun.tzinfo is not None for each in found)
    for each in uploads:
        each.abort()


@pytest.fixture(scope="module")
def strict() -> Iterator[Objects]:
    with strict_store() as endpoint:
        objects = Objects(endpoint, "key", "secret-key", "parts", "us-east-1")
        objects.client.create_bucket(Bucket=objects.bucket)
        yield objects
        objects.close()


@pytest.mark.parametrize("etags", [{1: '"wrong"'}, {1: '"wrong"', 2: '"of a part that is not there"'}])
def test_a_lost_part_or_another_etag_asks_for_another_upload(strict: Objects, etags: dict[int, str]) -> None:
    upload = begin(strict, "lost.zip")
    upload.part(1, bytearray(10))
    upload._etags = etags
    with pytest.raises(UploadGone, match=r"^the store 127\.0\.0\.1:\d+ lost a part of the upload$"):
        upload.complete(10)
    upload.abort()


def test_a_key_that_may_not_list_completes_an_upload(object_store: ObjectStore) -> None:
    store = object_store
    with without_list_right(store.endpoint) as front:
        objects = Objects(front.url, store.key_id, store.app_key, store.bucket, store.region)
        data = os.urandom(PART + 10)
        upload = begin(objects, "unlisted.zip")
        upload.part(1, bytearray(data[:PART]))
        upload.part(2, bytearray(data[PART:]))
        upload.complete(len(data))
        assert objects.get("unlisted.zip", max_bytes=2 * PART) == data
        with pytest.raises(AccessRefused, match="that the key may list uploads"):
            list(unfinished(objects, "unlisted"))
        objects.delete("unlisted.zip")
        objects.close()
    whole = Objects(store.endpoint, store.key_id, store.app_key, store.bucket, store.region)
    assert list(whole.keys("unlisted")) == []
    whole.close()


BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"


def test_answers_that_lack_something_are_tried_again_and_said_in_words() -> None:
    part = reply(200, headers={"ETag": '"x"'})
    with FaultyServer(reply(200)) as server:
        objects = Objects(server.url, "key", "secret-key", "pictures", "us-east-1", attempts=1)

        server.script(reply(200, b"<InitiateMultipartUploadResult/>"))
        with pytest.raises(Retry, match="gave an answer without its UploadId"):
            begin(objects, "a")
        server.script(reply(200, BEGUN), reply(200))
        upload = begin(objects, "a")
        with pytest.raises(Retry, match="gave an answer without its ETag"):
            upload.part(1, bytearray(10))
        server.script(part, reply(200, COMPLETED), unlengthed)
        upload.part(1, bytearray(10))
        with pytest.raises(Retry, match="gave an answer without its ContentLength"):
            upload.complete(10)
        # Not to be seen, and said to be complete.
        server.script(reply(200, COMPLETED), reply(403))
        upload.complete(10)
        # Not to be seen, and gone: whether an earlier answer was lost nobody knows.
        server.script(reply(404, b"<Error><Code>NoSuchUpload</Code></Error>"), reply(403))
        with pytest.raises(UploadGone):
            upload.complete(10)
        listed = b"<ListMultipartUploadsResult><Upload><Key>a</Key></Upload></ListMultipartUploadsResult>"
        server.script(reply(200, listed))
        with pytest.raises(Retry, match="gave an answer without its UploadId"):
            list(unfinished(objects, ""))
        objects.close()


def unlengthed(_request: Request, wire: Wire) -> None:
    """An answer to HEAD from something that does not state the length of what it would stream."""
    wire.head(200, {"ETag": '"x"', "Transfer-Encoding": "chunked", "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})

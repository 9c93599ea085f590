from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from tests.support.s3 import strict_store

from jobqueue.errors import Retry
from jobqueue.storage.multipart import MultipartUpload, UploadGone, abort, unfinished
from jobqueue.storage.objects import Objects

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

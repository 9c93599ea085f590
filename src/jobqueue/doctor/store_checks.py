"""Checks of the object store and the CDN, with one key of our own that is always removed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from urllib3.exceptions import HTTPError

from jobqueue.doctor.checkup import Checkup, Verdict, fail, warn, well
from jobqueue.errors import JobError
from jobqueue.net.http_pool import describe, host_of, pool
from jobqueue.storage.multipart import MultipartUpload
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobqueue.settings.environment import MediaSettings

PREFIX: Final = "jobqueue-check/"
"""What the key begins with that an examination writes."""

_SECONDS: Final = 10.0
_OK: Final = 200


def object_store(checkup: Checkup) -> Iterator[Verdict]:
    """The key may write, read, list and delete, and upload in parts; the CDN serves what was written."""
    media = checkup.settings.require_media()
    objects = _open(media)
    key = f"{PREFIX}{uuid.uuid4()}"
    try:
        try:
            objects.put(key, key.encode(), content_type="text/plain", cache_control="no-store")
        except JobError as error:
            yield _refused("store-write", error)
            return
        yield well(f"{objects.host} takes objects of the bucket {objects.bucket}", "store-write")
        try:
            yield from _read(objects, key)
            yield from _list(objects, key)
            yield from _upload(objects, key)
            yield from _serve(media, key)
            yield from _open_to_all(checkup, objects, key)
        finally:
            # Whatever was found out, and whatever was raised: the key goes.
            removal = _remove(objects, key)
        yield removal
        yield from _lifecycle(objects)
    finally:
        objects.close()


def _open(media: MediaSettings) -> Objects:
    return Objects(
        media.b2_endpoint,
        media.b2_key_id.first,
        media.b2_app_key.first,
        media.b2_bucket,
        media.b2_region,
        connections=2,
        attempts=2,
        read_seconds=_SECONDS,
    )


def _read(objects: Objects, key: str) -> Iterator[Verdict]:
    try:
        if objects.get(key) != key.encode():
            yield fail("the store gave back other bytes than were written to it", "check B2_ENDPOINT", "store-read")
            return
    except JobError as error:
        yield _refused("store-read", error)
        return
    yield well("what was written can be read", "store-read")


def _list(objects: Objects, key: str) -> Iterator[Verdict]:
    try:
        listed = key in objects.keys(key)
    except JobError as error:
        yield warn(
            f"{error}",
            "give the key the right to list (listFiles, s3:ListBucket): without it old versions stay, and are billed",
            "store-list",
        )
        return
    yield (
        well("objects can be listed", "store-list")
        if listed
        else warn(
            "the store does not list what was just written", "nothing, unless it stays so: listings lag", "store-list"
        )
    )


def _upload(objects: Objects, key: str) -> Iterator[Verdict]:
    try:
        MultipartUpload(objects, key, content_type="text/plain").abort()
    except JobError as error:
        yield _refused("store-multipart", error)
        return
    yield well("uploads in parts can be begun and aborted", "store-multipart")


def _remove(objects: Objects, key: str) -> Verdict:
    try:
        objects.delete(key)
    except JobError as error:
        return fail(
            f"{error}; the object {key} stays behind", "give the key the right to delete, and delete it", "store-delete"
        )
    return well("objects can be deleted", "store-delete")


def _serve(media: MediaSettings, key: str) -> Iterator[Verdict]:
    host = host_of(media.cdn_base_url)
    try:
        status, body = _get(f"{media.cdn_base_url}/{key}")
    except HTTPError as error:
        yield fail(describe(error, f"the CDN {host}"), "check CDN_BASE_URL", "cdn")
        return
    if status != _OK:
        yield fail(
            f"the CDN {host} answered {status} for an object that is in the bucket {media.b2_bucket}",
            "check that CDN_BASE_URL serves this bucket, and that it may be read there",
            "cdn",
        )
    elif body != key.encode():
        yield fail(f"the CDN {host} served something else than the object", "check CDN_BASE_URL", "cdn")
    else:
        yield well(f"the CDN {host} serves the bucket's objects", "cdn")


def _open_to_all(checkup: Checkup, objects: Objects, key: str) -> Iterator[Verdict]:
    """Archives of events must not lie where everybody reads."""
    settings = checkup.settings
    archives_here = settings.archive_before_delete and settings.archive_bucket in (None, objects.bucket)
    url = urlsplit(objects.client.meta.endpoint_url)
    try:
        status, _ = _get(f"{url.scheme}://{url.netloc}/{objects.bucket}/{key}")
    except HTTPError:
        return
    if status != _OK:
        yield well("the bucket is private", "store-privacy")
    elif archives_here:
        yield warn(
            f"the bucket {objects.bucket} is public, and old events are archived in it",
            "set ARCHIVE_BUCKET to a private bucket, or ARCHIVE_BEFORE_DELETE=false",
            "store-privacy",
        )
    else:
        yield well("the bucket is public, and holds published pictures alone", "store-privacy")


def _lifecycle(objects: Objects) -> Iterator[Verdict]:
    try:
        found = objects.client.get_bucket_lifecycle_configuration(Bucket=objects.bucket)
    except ClientError:
        # There is none, the store knows none, or the key may not see it.
        return
    rules: list[Any] = list(found.get("Rules", ()))
    for rule in rules:
        if rule.get("Status") == "Enabled" and {"Days", "Date"} & rule.get("Expiration", {}).keys():
            yield warn(
                f"a lifecycle rule of the bucket {objects.bucket} deletes objects ({rule.get('ID', 'without a name')})",
                "limit it to unfinished uploads and hidden versions: published pictures are never written again",
                "store-lifecycle",
            )
            return
    yield well("no lifecycle rule deletes published objects", "store-lifecycle")


def _get(url: str) -> tuple[int, bytes]:
    """The status and the first KiB of an answer. Raises urllib3's HTTPError."""
    manager = pool(1, read_seconds=_SECONDS)
    try:
        answer = manager.request("GET", url, preload_content=False)
        body = answer.read(1024)
        answer.close()
        return answer.status, body
    finally:
        manager.clear()


def _refused(about: str, error: JobError) -> Verdict:
    says, _, remedy = str(error).partition(": ")
    checks = remedy.startswith("check ")
    return fail(says if checks else str(error), remedy if checks else "check the variables B2_*", about)

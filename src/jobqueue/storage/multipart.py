"""Multipart uploads: an object written in parts, in any order, that nobody sees before it is complete.

The store bills an upload that is neither completed nor aborted forever, and only `unfinished` shows it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from jobqueue.errors import Retry
from jobqueue.storage.store_failures import AccessRefused, code_of, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from jobqueue.storage.objects import Objects

_ACTION = "write objects"

# The parts that the store has are not those that we sent.
_LOST_PARTS = frozenset({"InvalidPart", "InvalidPartOrder"})


class UploadGone(Retry):
    """The store no longer has the upload, or a part of it: only another upload can help."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that was begun and neither completed nor aborted."""

    key: str
    id: str
    begun: datetime


class MultipartUpload:
    """One upload of object `key`. Parts may be sent from several threads. Raises as `Objects` does."""

    def __init__(
        self,
        objects: Objects,
        key: str,
        *,
        content_type: str,
        cache_control: str | None = None,
        content_disposition: str | None = None,
    ) -> None:
        optional = {"CacheControl": cache_control, "ContentDisposition": content_disposition}
        headers: dict[str, Any] = {name: value for name, value in optional.items() if value is not None}
        with objects.calls(_ACTION):
            begun = objects.client.create_multipart_upload(
                Bucket=objects.bucket, Key=key, ContentType=content_type, **headers
            )
        self.key = key
        self.id: str = objects.stated(begun, "UploadId")
        self._objects = objects
        self._lock = threading.Lock()
        self._etags: dict[int, str] = {}

    def part(self, number: int, body: bytearray) -> None:
        """Send part `number`, counted from 1. All but the last must have at least 5 MiB. A part may be sent again.

        Also raises UploadGone.
        """
        with self._objects.calls(_ACTION):
            try:
                said = self._objects.client.upload_part(
                    Bucket=self._objects.bucket,
                    Key=self.key,
                    UploadId=self.id,
                    PartNumber=number,
                    Body=body,  # type: ignore[arg-type] # a bytearray is sent as it is, without a copy
                )
            except ClientError as error:
                self._raise_if_gone(error)
                raise
        with self._lock:
            self._etags[number] = self._objects.stated(said, "ETag")

    def complete(self, size_bytes: int) -> None:
        """Make the parts, in the order of their numbers, one visible object of `size_bytes`; Retry when it is not.

        Also raises UploadGone, for one without all of its parts, too.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())]
        gone: ClientError | None = None
        with self._objects.calls(_ACTION):
            try:
                self._objects.client.complete_multipart_upload(
                    Bucket=self._objects.bucket,
                    Key=self.key,
                    UploadId=self.id,
                    MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
                )
            except ClientError as error:
                if code_of(error) in _LOST_PARTS:
                    raise UploadGone(f"the store {self._objects.host} lost a part of the upload") from error
                # A completion whose answer was lost comes again. Then the upload is gone because the first succeeded.
                if not _is_gone(error):
                    raise
                gone = error
        try:
            info = self._objects.head(self.key)
        except AccessRefused:
            # The key may not read, or not list: the store has said that the object is complete, and says no more.
            if gone is not None:
                self._raise_if_gone(gone)
            return
        if info is None or info.size_bytes != size_bytes:
            if gone is not None:
                self._raise_if_gone(gone)
            found = "nothing" if info is None else f"{info.size_bytes} bytes"
            raise Retry(f"the store {self._objects.host} shows {found} where {size_bytes} bytes were written")

    def abort(self) -> None:
        """Give the upload up, so that the store frees its parts. An upload that is gone is no error."""
        abort(self._objects, self.key, self.id)

    def _raise_if_gone(self, error: ClientError) -> None:
        if _is_gone(error):
            raise UploadGone(f"the store {self._objects.host} no longer knows the upload: it was aborted") from error


def abort(objects: Objects, key: str, upload_id: str) -> None:
    """Give up the upload `upload_id` of `key`. One that is gone is no error. Raises as `Objects` does."""
    with objects.calls("abort uploads"):
        try:
            objects.client.abort_multipart_upload(Bucket=objects.bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if not _is_gone(error):
                raise


def unfinished(objects: Objects, prefix: str) -> Iterator[Unfinished]:
    """The unfinished uploads of keys that start with `prefix`. A store that cannot list them shows none."""
    pages = iter(objects.client.get_paginator("list_multipart_uploads").paginate(Bucket=objects.bucket, Prefix=prefix))
    while True:
        with objects.calls("list uploads"):
            try:
                page = next(pages, None)
            except ClientError as error:
                # rclone answers NoSuchUpload where there is none at all.
                unable = status_of(error) in (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)
                if not unable and code_of(error) != "NoSuchUpload":
                    raise
                page = None
        if page is None:
            return
        for upload in page.get("Uploads", ()):
            yield Unfinished(*(objects.stated(upload, name) for name in ("Key", "UploadId", "Initiated")))


def _is_gone(error: ClientError) -> bool:
    return code_of(error) in ("NoSuchUpload", "404") or status_of(error) == HTTPStatus.NOT_FOUND

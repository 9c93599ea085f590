"""Archives in the object store: written from a file and read back as a stream, so that none is in memory as a whole."""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus
from typing import IO, TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from jobqueue.errors import Retry
from jobqueue.retention.archive_format import CONTENT_TYPE, Damaged, read_content
from jobqueue.storage.store_failures import status_of

if TYPE_CHECKING:
    from jobqueue.retention.archive_format import Content
    from jobqueue.storage.objects import Objects

# No cache may keep an archive.
_CACHE_CONTROL: Final = "private, no-store"


class ArchiveStore:
    """The archives of one bucket. Every method raises Permanent and Retry as `Objects` does."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def write(self, key: str, file: IO[bytes]) -> None:
        """Write `file`, from its beginning, as the object `key`."""
        file.seek(0)
        with self._objects.calls("write objects"):
            said = self._objects.client.put_object(
                Bucket=self._objects.bucket,
                Key=key,
                Body=file,
                ContentType=CONTENT_TYPE,
                CacheControl=_CACHE_CONTROL,
            )
        if not said.get("ETag"):
            raise Retry(f"the store {self._objects.host} did not confirm a write: its answer has no ETag")

    def holds(self, key: str, content: Content) -> bool:
        """Whether the object `key`, read from its first byte to its last, is an archive of just this content."""
        with self._objects.calls("read objects"):
            try:
                said = self._objects.client.get_object(Bucket=self._objects.bucket, Key=key)
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return False
                raise
            with closing(said["Body"]) as body:
                try:
                    return read_content(body) == content
                except Damaged:
                    return False

    def delete(self, key: str) -> None:
        """Remove an object. One that is gone already is no error."""
        self._objects.delete(key)

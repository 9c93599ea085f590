"""The bucket that published objects live in: put, head, get, list and delete, over boto3.

boto3 is kept from what S3-compatible stores trip over. It adds checksum headers and trailers only where an operation
requires them (Backblaze B2 rejected them through 2025). The signature guards integrity: it covers the SHA-256 of each
body, and the store verifies it. Nothing here deletes in batches: those carry such a checksum whatever is configured.
"""

from __future__ import annotations

import ipaddress
import uuid
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.handlers import add_expect_header

from jobqueue.errors import Permanent, Retry
from jobqueue.net.http_pool import host_of
from jobqueue.storage.store_failures import Failures, code_of, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from mypy_boto3_s3 import S3Client

# Versions of one object that are deleted one by one.
_MOST_VERSIONS: Final = 1000

# How stores without versions answer when asked for them.
_NO_VERSIONS = frozenset({"NotImplemented", "MethodNotAllowed", "XNotImplemented"})


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says of an object. `etag` has no quotes; what the store does not keep is empty or None."""

    size_bytes: int
    etag: str
    modified: datetime | None
    content_type: str | None
    cache_control: str | None
    content_disposition: str | None


class Objects:
    """One bucket at one S3-compatible store. Thread-safe. Make it once, for that costs about 0.1 s of CPU time.

    `endpoint` (B2_ENDPOINT) is a URL, or a host, which means https. `connections` is the number of threads that use it.
    On faults that pass a call tries `attempts` times, with growing pauses of up to a few seconds.

    Every method raises Permanent, which names the variable to check, when the store refuses credentials, region, bucket
    or the request; and Retry, with `after` from Retry-After, when the store is busy, out of reach or breaks off.
    """

    def __init__(
        self,
        endpoint: str,
        key_id: str,
        app_key: str,
        bucket: str,
        region: str,
        *,
        connections: int = 8,
        attempts: int = 4,
        connect_seconds: float = 5.0,
        read_seconds: float = 30.0,
    ) -> None:
        url = endpoint if "://" in endpoint else f"https://{endpoint}"
        self.bucket = bucket
        self.host = host_of(url)
        self._failures = Failures(self.host, bucket, secrets=(app_key, key_id))
        self.client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=url,
            aws_access_key_id=key_id,
            aws_secret_access_key=app_key,
            region_name=region,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": _addressing_style(url, bucket)},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"mode": "standard", "total_max_attempts": attempts},
                # Two to spare: nobody must pay a TLS handshake because another thread just gives its connection back.
                max_pool_connections=connections + 2,
                tcp_keepalive=True,
                connect_timeout=connect_seconds,
                read_timeout=read_seconds,
            ),
        )
        # `Expect: 100-continue` saves a body that the store would refuse, and costs every other put a round trip.
        self.client.meta.events.unregister("before-call.s3", add_expect_header)
        # boto3 asks HeadBucket for the region when an answer is a redirect, and again when that answer is one, forever.
        self.client.meta.events.register("before-call.s3.HeadBucket", _ask_once)
        self.client.meta.events.register("before-parse.s3", _refuse_interim)

    def __repr__(self) -> str:
        return f"Objects({self.bucket} at {self.host})"

    def put(
        self,
        key: str,
        body: bytes | Path,
        *,
        content_type: str,
        cache_control: str | None = None,
        content_disposition: str | None = None,
    ) -> int:
        """Write `body`, or the file at that path, as the whole object `key`. Returns its size in bytes.

        Readers see the old object or the new one, never a part. Raises OSError when the file cannot be read.
        """
        optional = {"CacheControl": cache_control, "ContentDisposition": content_disposition}
        headers = {name: value for name, value in optional.items() if value is not None}
        if isinstance(body, Path):
            with body.open("rb") as file:
                return self._put(key, file, body.stat().st_size, content_type, headers)
        return self._put(key, body, len(body), content_type, headers)

    def _put(self, key: str, body: bytes | IO[bytes], size: int, content_type: str, headers: dict[str, Any]) -> int:
        with self.calls("write objects"):
            said = self.client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, **headers)
        # Every store answers a write with the ETag of what it wrote. The empty 200 of a proxy or a portal has none.
        if not said.get("ETag"):
            raise Retry(f"the store {self.host} did not confirm a write: its answer has no ETag")
        return size

    def head(self, key: str) -> ObjectInfo | None:
        """What the store knows of `key`; None when there is no such object (or no such bucket: stores do not tell).

        Raises AccessRefused when the key may not read it. So do stores answer about an object that is not there, too, when
        the key may not list objects.
        """
        with self.calls("read objects"):
            try:
                said = self.client.head_object(Bucket=self.bucket, Key=key)
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return None
                raise
        return ObjectInfo(
            size_bytes=self.stated(said, "ContentLength"),
            etag=said.get("ETag", "").strip('"'),
            modified=said.get("LastModified"),
            content_type=said.get("ContentType"),
            cache_control=said.get("CacheControl"),
            content_disposition=said.get("ContentDisposition"),
        )

    def get(self, key: str, *, max_bytes: int = 1024 * 1024) -> bytes:
        """The whole of a small object. Raises Permanent when it is missing or larger than `max_bytes`."""
        with self.calls("read objects"):
            said = self.client.get_object(Bucket=self.bucket, Key=key)
            with closing(said["Body"]) as body:
                data = b""
                # A body in chunks states no length.
                if said.get("ContentLength", 0) <= max_bytes:
                    while len(data) <= max_bytes and (piece := body.read(max_bytes + 1 - len(data))):
                        data += piece
                    if len(data) <= max_bytes:
                        return data
                raise Permanent(f"the object {key} is larger than the {max_bytes} bytes that may be read at once")

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys of all objects that start with `prefix`, in the store's order, a page of 1,000 at a time."""
        pages = iter(self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix))
        while True:
            with self.calls("list objects"):
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                yield self.stated(entry, "Key")

    def delete(self, key: str) -> None:
        """Remove `key` with all its versions and markers, so that nothing of it is kept or billed.

        An object that is gone is no error. In a bucket that keeps versions, as those of Backblaze B2 always do, a plain
        deletion would free nothing: it hides them. With a key that may not list, only what a version in sight hides is
        found, one after the other.
        """
        with self.calls("list and delete objects"):
            try:
                versions = self._versions(key)
            except ClientError as error:
                if status_of(error) != HTTPStatus.FORBIDDEN:
                    raise
                self._delete_unlisted(key)
                return
            for version in versions:
                self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
            if not versions and self.head(key) is not None:
                self.client.delete_object(Bucket=self.bucket, Key=key)

    def _delete_unlisted(self, key: str) -> None:
        """Delete the version that the store shows of `key`, then the one that it shows after that, and so on."""
        for _ in range(_MOST_VERSIONS):
            try:
                version = self.client.head_object(Bucket=self.bucket, Key=key).get("VersionId")
            except ClientError as error:
                if status_of(error) == HTTPStatus.NOT_FOUND:
                    return
                if status_of(error) != HTTPStatus.FORBIDDEN:
                    raise
                version = None
            if version is None:
                # The store keeps no versions; or it has nothing, and does not say so to a key that may not list.
                self.client.delete_object(Bucket=self.bucket, Key=key)
                return
            self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
        raise Retry(f"the store {self.host} has more than {_MOST_VERSIONS} versions of an object that was deleted")

    def _versions(self, key: str) -> list[str]:
        """The ids of all versions and markers of exactly `key`. A store that keeps no versions has none."""
        found: list[str] = []
        try:
            # The key sorts before every longer one, so its versions come first.
            for page in self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=key):
                entries = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
                ours = [entry for entry in entries if self.stated(entry, "Key") == key]
                found += [self.stated(entry, "VersionId") for entry in ours]
                if len(ours) < len(entries):
                    break
        except ClientError as error:
            if code_of(error) in _NO_VERSIONS or status_of(error) in (
                HTTPStatus.METHOD_NOT_ALLOWED,
                HTTPStatus.NOT_IMPLEMENTED,
            ):
                return []
            raise
        return found

    def check(self) -> None:
        """Write, read and delete a small object of a random key. Raises as every method, and when other bytes return."""
        key = f"jobqueue-check/{uuid.uuid4()}"
        written = key.encode()
        self.put(key, written, content_type="text/plain", cache_control="no-store")
        try:
            if self.get(key) != written:
                raise Permanent(f"the store {self.host} gave back other bytes than were written to it")
        finally:
            self.delete(key)

    def stated(self, said: Mapping[str, Any], name: str) -> Any:
        """What the answer `said` has under `name`. Raises Retry for one without it: it is not, or not all, the store's."""
        if said.get(name) in (None, ""):
            raise Retry(f"the store {self.host} gave an answer without its {name}")
        return said[name]

    def close(self) -> None:
        """Close the connections that are kept open."""
        self.client.close()

    def calls(self, action: str) -> AbstractContextManager[None]:
        """Turn errors of `client` within the block into Permanent and Retry. `action` completes "the key may ..."."""
        return self._failures.translated(action)


def _ask_once(context: dict[str, Any], **_: object) -> None:
    """Mark a request as redirected already, so that boto3 takes its answer as it is."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _refuse_interim(response_dict: dict[str, Any], **_: object) -> None:
    """Make an interim answer, such as 103 Early Hints, a failure that passes: boto3 takes it for the answer, an empty one."""
    if response_dict["status_code"] < HTTPStatus.OK:
        response_dict |= {"status_code": int(HTTPStatus.BAD_GATEWAY), "body": b""}


def _addressing_style(url: str, bucket: str) -> Literal["path", "virtual"]:
    """`path` where the bucket, put before the endpoint's host, would not resolve or not fit its certificate."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        named = "." in host and not host.endswith(".localhost")
        return "virtual" if named and "." not in bucket else "path"
    return "path"

"""The CDN: reads the bucket's objects with its own key and serves them to everybody, as the store describes them."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from jobqueue.demo.loopback import LoopbackServer, Request, Response

if TYPE_CHECKING:
    from jobqueue.demo.object_store import ObjectStore

_CHUNK = 256 * 1024
_HEADERS = {
    "ContentType": "Content-Type",
    "CacheControl": "Cache-Control",
    "ContentDisposition": "Content-Disposition",
    "ContentRange": "Content-Range",
    "ETag": "ETag",
}


def _is_key(key: str) -> bool:
    """Whether the store may be asked for `key`: it keeps objects as files, so `..` must not reach it."""
    return key.isprintable() and not {"", ".", ".."} & set(key.split("/"))


class Cdn(LoopbackServer):
    """Serves object `k` of the store's bucket at `{url}/k`, with the type and caching it was stored with.

    Answers 404 when there is no such object, and 502 when the store does not answer.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(self._serve)
        self._store = store
        self._client: Any = None

    def start(self) -> None:
        """Listen. Start the store first: only then its address is known."""
        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self._store.endpoint,
                aws_access_key_id=self._store.key_id,
                aws_secret_access_key=self._store.app_key,
                region_name=self._store.region,
                config=Config(
                    connect_timeout=2,
                    read_timeout=30,
                    max_pool_connections=32,
                    proxies={},
                    retries={"total_max_attempts": 4, "mode": "standard"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        super().start()

    def stop(self) -> None:
        """Stop listening and let go of the store."""
        super().stop()
        if self._client is not None:
            self._client.close()
            self._client = None

    def _serve(self, request: Request) -> Response:
        key = request.path.removeprefix("/")
        if not _is_key(key):
            return Response.of(HTTPStatus.NOT_FOUND)
        wanted = {"Bucket": self._store.bucket, "Key": key}
        if "Range" in request.headers:
            wanted["Range"] = request.headers["Range"]
        try:
            found = self._client.get_object(**wanted)
        except ClientError as error:
            code = error.response["ResponseMetadata"]["HTTPStatusCode"]
            known = {HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
            if code in known:
                return Response.of(HTTPStatus(code))
            return Response.of(HTTPStatus.BAD_GATEWAY, f"the store answered {code}\n")
        except BotoCoreError as error:
            return Response.of(HTTPStatus.BAD_GATEWAY, f"the store did not answer: {type(error).__name__}\n")
        headers = {name: str(found[field]) for field, name in _HEADERS.items() if field in found}
        headers |= {"Accept-Ranges": "bytes", "Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff"}
        status = HTTPStatus.PARTIAL_CONTENT if "ContentRange" in found else HTTPStatus.OK
        body = found["Body"]
        return Response(status, headers, found["ContentLength"], body.iter_chunks(_CHUNK), body.close)

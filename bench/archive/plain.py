"""The plainer ways: a temporary file that boto3 sends, and one stream from file after file.

Run as a process of its own: `python -m bench.archive.plain WAY ORIGIN STORE COUNT`; prints seconds and peak memory.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
import zipfile
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import urllib3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.handlers import add_expect_header

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 256 * 1024
PART = 8 << 20


def client(store: dict[str, str]) -> Any:
    """A client as one would configure it for Backblaze."""
    made = boto3.client(
        "s3",
        endpoint_url=store["endpoint"],
        aws_access_key_id=store["key_id"],
        aws_secret_access_key=store["app_key"],
        region_name=store["region"],
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=12,
        ),
    )
    # As ours does: waiting for a 100 would cost these ways another round trip for every part.
    made.meta.events.unregister("before-call.s3", add_expect_header)
    return made


def files(origin: str, count: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Names and contents, one after the other."""
    pool = urllib3.PoolManager(maxsize=2)
    for number in range(count):
        response = pool.request("GET", f"{origin}?key={number}", preload_content=False)
        yield f"{number:05}.jpg", response.stream(CHUNK)
        response.release_conn()


def temporary_file(origin: str, s3: Any, store: dict[str, str], count: int) -> None:
    """All of the archive to disk, then boto3's multipart transfer with its own settings."""
    with tempfile.NamedTemporaryFile(suffix=".zip") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in files(origin, count):
                with archive.open(name, "w", force_zip64=True) as entry:
                    for chunk in data:
                        entry.write(chunk)
        file.flush()
        s3.upload_file(file.name, store["bucket"], "plain.zip", Config=TransferConfig())


class _Parts:
    """A stream that is cut into parts; `in_flight` of them are sent at a time."""

    def __init__(self, s3: Any, store: dict[str, str], in_flight: int) -> None:
        self._s3, self._bucket, self._in_flight = s3, store["bucket"], in_flight
        self._pool = ThreadPoolExecutor(in_flight)
        self._upload = s3.create_multipart_upload(Bucket=self._bucket, Key="plain.zip")["UploadId"]
        self._buffer = bytearray()
        self._sent: deque[Future[dict[str, Any]]] = deque()
        self._at = 0

    def write(self, data: bytes) -> int:
        self._buffer += data
        self._at += len(data)
        if len(self._buffer) >= PART:
            self._send()
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._send()
        parts = [each.result() for each in self._sent]
        self._s3.complete_multipart_upload(
            Bucket=self._bucket, Key="plain.zip", UploadId=self._upload, MultipartUpload={"Parts": parts}
        )

    def _send(self) -> None:
        body, self._buffer = bytes(self._buffer), bytearray()
        waiting = [each for each in self._sent if not each.done()]
        if len(waiting) >= self._in_flight:
            waiting[0].result()
        self._sent.append(self._pool.submit(self._put, len(self._sent) + 1, body))

    def _put(self, number: int, body: bytes) -> dict[str, Any]:
        said = self._s3.upload_part(
            Bucket=self._bucket, Key="plain.zip", UploadId=self._upload, PartNumber=number, Body=body
        )
        return {"PartNumber": number, "ETag": said["ETag"]}


def stream(origin: str, s3: Any, store: dict[str, str], count: int, in_flight: int) -> None:
    """File after file through zipfile into parts, without touching the disk."""
    parts = _Parts(s3, store, in_flight)
    with zipfile.ZipFile(parts, "w") as archive:
        for name, data in files(origin, count):
            with archive.open(name, "w", force_zip64=True) as entry:
                for chunk in data:
                    entry.write(chunk)
    parts.close()


def main() -> None:
    """Take one of the ways and print what it cost."""
    way, origin, store_text, count_text = sys.argv[1:]
    store, count = json.loads(store_text), int(count_text)
    s3 = client(store)
    zlib.crc32(b"")
    began = time.perf_counter()
    match way:
        case "file":
            temporary_file(origin, s3, store, count)
        case "stream":
            stream(origin, s3, store, count, 1)
        case "stream4":
            stream(origin, s3, store, count, 4)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


if __name__ == "__main__":
    main()

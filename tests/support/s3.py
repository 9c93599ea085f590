"""Buckets at the session's store (rclone), another store that keeps to the protocol (moto), and keys without all rights."""

from __future__ import annotations

import http.client
import itertools
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from moto.server import ThreadedMotoServer
from tests.support.http_server import FaultyServer, Request, Wire, reply

from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jobqueue.demo.object_store import ObjectStore

_numbers = itertools.count(1)


class Bucket:
    """A bucket of the test's own at the session's store, with a client for it; used as a context manager."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.name = f"bucket-{os.getpid()}-{next(_numbers)}"
        self.objects = Objects(store.endpoint, store.key_id, store.app_key, self.name, store.region)

    def __enter__(self) -> Self:
        # Not by mkdir: the store keeps a list of what was there when it last looked.
        self.objects.client.create_bucket(Bucket=self.name)
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self.objects.close()

    def contents(self) -> set[str]:
        """The keys of all objects in it."""
        return set(self.objects.keys())

    def clear(self) -> None:
        for key in self.contents():
            self.objects.delete(key)

    def environment(self) -> dict[str, str]:
        """The variables by which a worker finds it."""
        store = self.store
        return {
            "B2_ENDPOINT": store.endpoint,
            "B2_KEY_ID": store.key_id,
            "B2_APP_KEY": store.app_key,
            "B2_BUCKET": self.name,
            "B2_REGION": store.region,
        }


@contextmanager
def strict_store() -> Iterator[str]:
    """A server that knows versions and multipart uploads, and checks no signatures: gives its endpoint; its buckets go with it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


_DENIED = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


@dataclass(frozen=True, slots=True)
class Said:
    """A store's answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def pass_on(self, request: Request, wire: Wire) -> None:
        """Give it to the client as it came."""
        headers = dict(self.headers)
        if request.method != "HEAD":
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            headers["Content-Length"] = str(len(self.body))
        wire.head(self.status, headers)
        wire.send(self.body)


def ask_store(endpoint: str, request: Request) -> Said:
    """What the store at `endpoint` answers to a request that came to somebody who stands before it."""
    where = urlsplit(endpoint)
    assert where.hostname
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname, where.port, timeout=30)
    try:
        connection.request(request.method, request.target, request.body or None, dict(request.headers))
        said = connection.getresponse()
        headers = {name: value for name, value in said.getheaders() if name.lower() not in _OF_THE_CONNECTION}
        return Said(said.status, headers, said.read())
    finally:
        connection.close()


@contextmanager
def without_list_right(endpoint: str) -> Iterator[FaultyServer]:
    """The store at `endpoint` as a key finds it that may read, write and delete, and not list.

    It refuses every listing, and answers 403 for a missing object, as Amazon S3 documents it for HeadObject and GetObject
    without s3:ListBucket.
    """

    def answer(request: Request, wire: Wire) -> None:
        bucket_alone = request.target.partition("?")[0].strip("/").count("/") == 0
        if request.method in ("GET", "HEAD") and bucket_alone:
            reply(403, _DENIED, {"Content-Type": "application/xml"})(request, wire)
            return
        said = ask_store(endpoint, request)
        if said.status == 404 and request.method in ("GET", "HEAD"):
            wire.head(403, {"Content-Type": "application/xml", "Content-Length": str(len(_DENIED))})
            wire.send(_DENIED if request.method == "GET" else b"")
            return
        said.pass_on(request, wire)

    with FaultyServer(answer) as server:
        yield server


_OF_THE_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding"})

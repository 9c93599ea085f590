"""Buckets at the session's store (rclone), and another store that keeps to the protocol (moto)."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from moto.server import ThreadedMotoServer

from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

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

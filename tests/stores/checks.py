"""What the product asks of a store, each as a check that runs the product's own code.

A check returns None where the store does what is asked, else a phrase: what it does instead. An AssertionError, or an
error that is not of the product's own vocabulary, is a fault of ours: whatever a store does, the product says so in words,
and takes nothing for done that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.support.http_server import FaultyServer, Request, Wire

from jobqueue.artifacts.entry_names import content_disposition
from jobqueue.storage.multipart import MultipartUpload
from jobqueue.storage.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator

PART: Final = 5 * 1024 * 1024

# Latin, Greek, Cyrillic, Arabic, Chinese, what no BMP has, and what a header or a URL would trip over.
NAME: Final = 'Müller & søn, Ωμέγα «Лот» مزاد 拍賣 𝄞 100% "a;b".zip'


@dataclass(frozen=True, slots=True)
class Store:
    """A bucket at the store under test, and how to reach it in other ways."""

    endpoint: str
    key_id: str
    app_key: str
    bucket: str
    region: str

    def objects(
        self,
        endpoint: str | None = None,
        *,
        key_id: str | None = None,
        app_key: str | None = None,
        bucket: str | None = None,
        region: str | None = None,
        attempts: int = 4,
    ) -> Objects:
        """The product's client for it, with what differs from its own settings."""
        return Objects(
            endpoint or self.endpoint,
            key_id or self.key_id,
            app_key or self.app_key,
            bucket or self.bucket,
            region or self.region,
            attempts=attempts,
        )


Check = Callable[[Store], str | None]
CHECKS: dict[str, Check] = {}


def check(words: str) -> Callable[[Check], Check]:
    """Register a check under `words`, which the documentation's table repeats."""

    def register(run: Check) -> Check:
        CHECKS[words] = run
        return run

    return register


@contextmanager
def client(store: Store, **differing: str) -> Iterator[Objects]:
    objects = store.objects(**differing)  # type: ignore[arg-type]
    try:
        yield objects
    finally:
        objects.close()


@contextmanager
def before(store: Store, answer: Callable[[Request, Wire], None]) -> Iterator[Objects]:
    """A client of somebody who stands before the store and answers in its place."""
    with FaultyServer(answer) as server, client(store, endpoint=server.url) as objects:
        yield objects


def begin(objects: Objects, key: str) -> MultipartUpload:
    return MultipartUpload(
        objects,
        key,
        content_type="application/zip",
        cache_control="private, no-cache",
        content_disposition=content_disposition(NAME),
    )


def gone(objects: Objects, *keys: str) -> None:
    for key in keys:
        objects.delete(key)
        assert objects.head(key) is None, f"{key} is still there after its deletion"

"""Looks whether whatever URL a host's file names can be read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import psycopg
from tests.support.daemon import CDN

if TYPE_CHECKING:
    from tests.support.s3 import Bucket


class UrlWatcher:
    """Reads the object behind every URL as soon as a file names it; `unreadable` are those that were not there yet."""

    def __init__(self, dsn: str, bucket: Bucket) -> None:
        self.seen: set[str] = set()
        self.unreadable: list[str] = []
        self._dsn = dsn
        self._bucket = bucket
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="url-watcher")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.wait(0.002):
                for urls in connection.execute("SELECT thumb_url, display_url FROM auction_files").fetchall():
                    for url in set(urls) - self.seen - {None}:
                        self.seen.add(url)
                        if self._bucket.objects.head(url.removeprefix(f"{CDN}/")) is None:
                            self.unreadable.append(url)

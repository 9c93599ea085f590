from __future__ import annotations

import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPMessage
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
from tests.demo.test_object_store import client

from jobqueue.demo.cdn import Cdn
from jobqueue.demo.demo_origin import DemoOrigin
from jobqueue.demo.object_store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTENT = bytes(range(256)) * 4096


def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, HTTPMessage, bytes]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path, headers=named)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[DemoOrigin]:
    folder = tmp_path / "pictures"
    (folder / "in a folder").mkdir(parents=True)
    (folder / "in a folder" / "süß & ☀.jpg").write_bytes(CONTENT)
    (folder / "empty").touch()
    (tmp_path / "secret").write_text("not yours")
    (folder / "way-out").symlink_to(tmp_path / "secret")
    with DemoOrigin(folder, "the-secret") as server:
        yield server


def ask(origin: DemoOrigin, key: str, **headers: str) -> tuple[int, HTTPMessage, bytes]:
    return fetch(f"{origin.endpoint}?key={quote(key, safe='')}", Authorization="Bearer the-secret", **headers)


def test_the_origin_gives_a_file_to_the_bearer(origin: DemoOrigin) -> None:
    status, headers, body = ask(origin, "in a folder/süß & ☀.jpg")
    assert (status, body) == (200, CONTENT)
    assert headers["Content-Length"] == str(len(CONTENT))
    assert ask(origin, "in a folder/süß & ☀.jpg", If_None_Match=headers["ETag"])[0] == 304
    assert ask(origin, "empty")[0::2] == (200, b"")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "the-secret", "Basic the-secret"])
def test_the_origin_refuses_others(origin: DemoOrigin, authorization: str) -> None:
    status, headers, body = fetch(f"{origin.endpoint}?key=empty", Authorization=authorization)
    assert status == 401
    assert headers["WWW-Authenticate"] == "Bearer"
    assert b"empty" not in body


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../secret",
        "in a folder/../../secret",
        "/etc/passwd",
        "way-out",
        "nothing",
        "in a folder",
        "a\0b",
    ],
)
def test_the_origin_serves_files_of_its_folder_only(origin: DemoOrigin, key: str) -> None:
    assert ask(origin, key)[0] == 404


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=1000-", 1000, None), ("bytes=-10", -10, None), ("bytes=5-99999999", 5, None)],
)
def test_the_origin_resumes(origin: DemoOrigin, asked: str, start: int, end: int | None) -> None:
    status, headers, body = ask(origin, "in a folder/süß & ☀.jpg", Range=asked)
    assert (status, body) == (206, CONTENT[start:end])
    first = start % len(CONTENT)
    assert headers["Content-Range"] == f"bytes {first}-{first + len(body) - 1}/{len(CONTENT)}"


def test_the_origin_starts_over_when_the_file_changed(origin: DemoOrigin) -> None:
    status, _, body = ask(origin, "in a folder/süß & ☀.jpg", Range="bytes=10-", If_Range='"another"')
    assert (status, body) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-"])
def test_the_origin_ignores_a_range_it_does_not_understand(origin: DemoOrigin, asked: str) -> None:
    assert ask(origin, "in a folder/süß & ☀.jpg", Range=asked)[0::2] == (200, CONTENT)


def test_the_origin_has_nothing_past_the_end(origin: DemoOrigin) -> None:
    status, headers, _ = ask(origin, "in a folder/süß & ☀.jpg", Range=f"bytes={len(CONTENT)}-")
    assert status == 416
    assert headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_a_head_request_has_no_body(origin: DemoOrigin) -> None:
    status, headers, body = fetch(f"{origin.endpoint}?key=empty", "HEAD", Authorization="Bearer the-secret")
    assert (status, body) == (200, b"")
    assert headers["Accept-Ranges"] == "bytes"


def test_a_foreign_host_name_is_refused(origin: DemoOrigin) -> None:
    assert ask(origin, "empty", Host="rebound.example")[0] == 421


def test_stopping_ends_idle_connections_and_keeps_the_address(origin: DemoOrigin) -> None:
    url = origin.url
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=10) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(9) == b"HTTP/1.1 "
        origin.stop()
        while idle.recv(1024):
            pass
    with pytest.raises(ConnectionRefusedError):
        ask(origin, "empty")
    origin.start()
    assert origin.url == url
    assert ask(origin, "empty")[0] == 200


def test_the_cdn_serves_objects_as_they_were_stored(object_store: ObjectStore) -> None:
    caching = "public, max-age=31536000, immutable"
    with closing(client(object_store)) as s3:
        s3.put_object(
            Bucket=object_store.bucket, Key="p/1 ☀.webp", Body=CONTENT, ContentType="image/webp", CacheControl=caching
        )
    with Cdn(object_store) as cdn:
        url = f"{cdn.url}/{quote('p/1 ☀.webp')}"
        status, headers, body = fetch(url)
        assert (status, body) == (200, CONTENT)
        assert headers["Content-Type"] == "image/webp"
        assert headers["Cache-Control"] == caching
        status, headers, body = fetch(url, Range="bytes=10-19")
        assert (status, body) == (206, CONTENT[10:20])
        assert headers["Content-Range"] == f"bytes 10-19/{len(CONTENT)}"
        assert fetch(url, "HEAD")[0] == 200
        for missing in ("p/nothing", "p", "", "p/../p/1 ☀.webp", "../../etc/passwd", "p//1"):
            assert fetch(f"{cdn.url}/{quote(missing)}")[0] == 404, missing


def test_the_cdn_answers_502_while_the_store_is_away(tmp_path: Path) -> None:
    with ObjectStore(tmp_path) as store, Cdn(store) as cdn:
        with closing(client(store)) as s3:
            s3.put_object(Bucket=store.bucket, Key="k", Body=b"v")
        assert fetch(f"{cdn.url}/k")[2] == b"v"
        store.stop()
        assert fetch(f"{cdn.url}/k")[0] == 502
        store.start()
        assert fetch(f"{cdn.url}/k")[2] == b"v"

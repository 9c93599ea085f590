from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.http_server import FaultyServer, Request, Wire, reply

from jobqueue.errors import LeaseLost, Permanent, Retry
from jobqueue.net.download_limits import DownloadLimits
from jobqueue.origin.origin_client import OriginClient, check_source_key

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "canary-77d0a2"


def refused(key: str) -> str:
    with pytest.raises(Permanent) as caught:
        check_source_key(key)
    return str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "auctions/2026/IMG 0001 (2).jpg",
        "фото/Ünïcode/写真.jpg",
        "family-👩‍👩‍👧.heic",
        "a..b/...jpg",
        "100%.jpg",
        "50%25 off.jpg",
        "12:30.jpg",
        "dir/a:b.jpg",
        "x" * 1024,
        "é" * 512,
        "a?b=c&d#e+f.jpg",
        "trailing/",
    ],
)
def test_ordinary_keys(key: str) -> None:
    check_source_key(key)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "empty"),
        ("x" * 1025, "1025 bytes"),
        ("é" * 513, "1026 bytes"),
        ("a\x00b", "control"),
        ("a\nb", "control"),
        ("a\x7fb", "control"),
        ("a\x85b", "control"),
        ("a\u2028b", "control"),
        ("a%00b", "control"),
        ("a%0d%0aHost: b", "control"),
        ("a%250ab", "control"),
        ("http://inside/", "scheme"),
        ("HTTPS:x", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("data:image/png;base64,AA", "scheme"),
        (" javascript:x", "scheme"),
        ("http%3A//inside/", "scheme"),
        ("..", ".."),
        ("../a", ".."),
        ("a/../b", ".."),
        ("a/..", ".."),
        ("a/%2e%2e/b", ".."),
        ("a/.%2E/b", ".."),
        ("a%2f..%2fb", ".."),
        ("a/%252e%252e/b", ".."),
        ("..\\a", "backslash"),
        ("a\\b", "backslash"),
        ("a%5c..%5cb", "backslash"),
        ("a%255cb", "backslash"),
        ("/etc/passwd", "starts with a slash"),
        ("//host/x", "starts with a slash"),
        ("%2Fetc", "starts with a slash"),
        ("\ud800", "surrogate"),
    ],
)
def test_refused_keys(key: str, words: str) -> None:
    message = refused(key)
    assert message.startswith("source_key ")
    assert words in message
    assert "\n" not in message


@given(st.text(max_size=40))
@example("%")
@example("%%2e%2e")
def test_any_key_is_judged_by_permanent_or_passes_unharmed(key: str) -> None:
    try:
        check_source_key(key)
    except Permanent:
        return
    query = urlsplit(OriginClient("http://origin.example/files", "s").url(key)).query
    assert parse_qs(query, keep_blank_values=True, strict_parsing=True) == {"key": [key]}


def test_refused_before_any_request(tmp_path: Path) -> None:
    with FaultyServer(reply(200)) as server:
        origin = OriginClient(server.url, CANARY)
        with pytest.raises(Permanent, match="scheme"):
            origin.fetch("http://inside/", tmp_path / "file")
        origin.close()
        assert server.requests == []
        assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/?key="),
        ("/files", "/files?key="),
        ("/files/", "/files/?key="),
        ("/files?tenant=7", "/files?tenant=7&key="),
        ("/files?tenant=7&", "/files?tenant=7&key="),
        ("/files?", "/files?key="),
        ("/files#part", "/files?key="),
    ],
)
def test_request(tmp_path: Path, path: str, target: str) -> None:
    counted: list[int] = []
    with FaultyServer(reply(200, b"picture")) as server:
        origin = OriginClient(server.url + path, CANARY)
        got = origin.fetch("dir/ä b&c=?.jpg", tmp_path / "file", on_bytes=counted.append)
        origin.close()
    assert got.path.read_bytes() == b"picture"
    assert counted == [7]
    assert server.requests[0].target == target + "dir%2F%C3%A4%20b%26c%3D%3F.jpg"
    assert server.requests[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "does not accept this source_key (400)"),
        (401, "refused our credentials (401): check RAID_PUBLISHER_SECRET"),
        (403, "refused our credentials (403): check RAID_PUBLISHER_SECRET"),
        (404, "has no file under this source_key (404)"),
        (405, "check RAID_PUB_ENDPOINT"),
        (410, "no longer has the file"),
    ],
)
def test_refusals_say_what_to_check(tmp_path: Path, status: int, words: str) -> None:
    with FaultyServer(reply(status)) as server:
        origin = OriginClient(f"{server.url}/?access={CANARY}", CANARY)
        with pytest.raises(Permanent) as caught:
            origin.fetch("a.jpg", tmp_path / "file")
        origin.close()
    assert str(caught.value).startswith(f"the origin 127.0.0.1:{server.port} ")
    assert words in str(caught.value)
    assert CANARY not in str(caught.value)


def test_refusals_use_up_no_connection(tmp_path: Path) -> None:
    """A pool that lost a place with each refusal would be empty after as many missing files as it has places."""
    with FaultyServer(*(reply(404) for _ in range(5))) as server:
        origin = OriginClient(server.url, "secret", limits=DownloadLimits(read_seconds=0.5), pool_size=2)
        for _ in range(5):
            with pytest.raises(Permanent, match="404"):
                origin.fetch("missing.jpg", tmp_path / "source")


def test_limits_and_their_setting(tmp_path: Path) -> None:
    with FaultyServer(reply(200, b"12345"), reply(503, headers={"Retry-After": "9"})) as server:
        origin = OriginClient(server.url, CANARY, limits=DownloadLimits(max_bytes=4))
        with pytest.raises(Permanent, match="larger than MAX_SOURCE_BYTES of 4 bytes"):
            origin.fetch("a.jpg", tmp_path / "file")
        with pytest.raises(Retry, match=r"the origin .* answered 503 .* asks to wait 9 s") as caught:
            origin.fetch("a.jpg", tmp_path / "file")
        origin.close()
    assert caught.value.after == 9


def test_checkpoint_reaches_the_download(tmp_path: Path) -> None:
    def stop(_request: Request, wire: Wire) -> None:
        reached.set()
        wire.hang()

    def checkpoint() -> None:
        if reached.is_set():
            raise LeaseLost("gone")

    reached = threading.Event()
    with FaultyServer(stop) as server:
        origin = OriginClient(server.url, CANARY)
        with pytest.raises(LeaseLost):
            origin.fetch("a.jpg", tmp_path / "file", checkpoint=checkpoint)
        origin.close()


def test_secret_is_never_shown() -> None:
    origin = OriginClient(f"https://origin.example/?access={CANARY}", CANARY)
    assert repr(origin) == "Origin(origin.example)"
    for unfit in (f"{CANARY}\n", f"{CANARY}\x00", f"{CANARY}é"):
        with pytest.raises(ValueError, match="printable ASCII") as caught:
            OriginClient("https://origin.example", unfit)
        assert CANARY not in str(caught.value)

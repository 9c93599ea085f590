"""Each URL is read once and whole, and what is wrong with any of them is said."""

from __future__ import annotations

import io
import threading
import zipfile
from collections import Counter
from functools import partial
from http import HTTPStatus

from tests.chaos.reading import not_a_picture, not_the_archive, unreadable
from tests.chaos.work import media

from jobqueue.demo.loopback import LoopbackServer, Request, Response

PICTURE = b"RIFF" + (4 + 1000).to_bytes(4, "little") + b"WEBP" + bytes(1000)


def archive(*names: str, data: bytes | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, media(1, int(name.removesuffix(".jpg"))) if data is None else data)
    return file.getvalue()


class Shop:
    """Serves what it holds, as type and bytes, and counts what it was asked for."""

    def __init__(self, held: dict[str, tuple[str, bytes]]) -> None:
        self.asked: Counter[str] = Counter()
        self._held = held
        self._lock = threading.Lock()

    def respond(self, request: Request) -> Response:
        with self._lock:
            self.asked[request.path] += 1
        if request.path not in self._held:
            return Response.of(HTTPStatus.NOT_FOUND)
        kind, data = self._held[request.path]
        return Response(HTTPStatus.OK, {"Content-Type": kind}, len(data), (data,))


def test_every_picture_is_read_and_each_that_is_none_is_told() -> None:
    good = {f"/{n}.webp": ("image/webp", PICTURE) for n in range(100)}
    bad = {
        "/short.webp": ("image/webp", PICTURE[:-1]),
        "/long.webp": ("image/webp", PICTURE + b"."),
        "/other.webp": ("image/webp", b"JUNK" + PICTURE[4:]),
        "/kind.webp": ("image/jpeg", PICTURE),
    }
    shop = Shop(good | bad)
    with LoopbackServer(shop.respond) as server:
        paths = [*good, *bad, "/absent.webp"]
        told = unreadable(server.url, [(f"{server.url}{path}", not_a_picture) for path in paths])
        assert shop.asked == Counter(paths)
        assert sorted(told) == sorted(
            f"{server.url}{path}: {said}"
            for path, said in {
                "/short.webp": f"200, image/webp, {len(PICTURE) - 1} bytes",
                "/long.webp": f"200, image/webp, {len(PICTURE) + 1} bytes",
                "/other.webp": f"200, image/webp, {len(PICTURE)} bytes",
                "/kind.webp": f"200, image/jpeg, {len(PICTURE)} bytes",
                "/absent.webp": "404, text/plain; charset=utf-8, 14 bytes: b'404 Not Found\\n'",
            }.items()
        )


def test_an_archive_has_the_files_of_its_project_and_no_others() -> None:
    whole = archive("0.jpg", "2.jpg")
    broken = bytearray(whole)
    broken[100] ^= 1
    shop = Shop(
        {
            "/whole.zip": ("application/zip", whole),
            "/broken.zip": ("application/zip", bytes(broken)),
            "/fewer.zip": ("application/zip", archive("0.jpg")),
            "/foreign.zip": ("application/zip", archive("0.jpg", "2.jpg", data=b"another's")),
            "/none.zip": ("application/zip", b"no archive"),
            "/kind.zip": ("text/plain", whole),
        }
    )
    check = partial(not_the_archive, n=1, wanted={"0.jpg", "2.jpg"})
    with LoopbackServer(shop.respond) as server:
        names = ("whole", "broken", "fewer", "foreign", "none", "kind")
        told = unreadable(server.url, [(f"{server.url}/{name}.zip", check) for name in names])
    reasons = dict(line.removeprefix(f"{server.url}/").split(".zip: ") for line in told)
    assert reasons.keys() == set(names) - {"whole"}
    assert reasons["broken"] == "0.jpg has a wrong CRC"
    assert reasons["fewer"] == "it holds ['0.jpg'] and not ['0.jpg', '2.jpg']"
    assert "are other bytes" in reasons["foreign"]
    assert reasons["none"] == "File is not a zip file"
    assert reasons["kind"] == "200, text/plain"

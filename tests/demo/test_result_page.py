from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import TYPE_CHECKING

import pytest
import pyvips
from rich.console import Console
from tests.demo.test_http import fetch

from jobqueue.demo.demo_artifact import DemoArtifact, LeftOut, show
from jobqueue.demo.demo_results import Result, ShownVariant
from jobqueue.demo.demo_sources import DemoSource
from jobqueue.demo.result_page import ResultPage, render
from jobqueue.demo.result_table import change, size, summary, tables

if TYPE_CHECKING:
    from pathlib import Path

STAGES = {"download": 10.0, "decode": 20.4, "encode": 30.0, "upload": 5.0, "commit": 1.0}
LEFT_OUT = LeftOut("gone <1>.jpg", "the origin says [bold]404[/]", expected=True)
ARTIFACT = DemoArtifact("A & <b>.zip", "http://127.0.0.1:9/a?b&c.zip", 3, 1_840_000, (LEFT_OUT,), None, 0.51)
BROKEN = replace(ARTIFACT, problem="[bold]cut <short>[/]")
FAILED = DemoArtifact("The artifact", problem="no <media>")


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    picture = pyvips.Image.black(64, 48).linear(1, [200, 100, 50]).cast("uchar").copy(interpretation="srgb")
    names = ["plain.jpg", 'a "quoted" <b> [red]name[bold] & more.tif', "broken.jpg"]
    for name in names[:2]:
        picture.write_to_file(str(tmp_path / name))
    (tmp_path / names[2]).write_text("not a picture at all")
    display = ShownVariant("http://127.0.0.1:9/display.webp", 1600, 1200, 60)
    thumb = ShownVariant("http://127.0.0.1:9/thumb.webp", 400, 300, 20)
    done = [
        Result(DemoSource(name, tmp_path / name, "JPEG & co"), 64, 48, display, thumb, None, 66.4, STAGES)
        for name in names[:2]
    ]
    failed = DemoSource(names[2], tmp_path / names[2], "broken", must_fail=True)
    return [*done, Result(failed, error="it is <truncated> [bold]here[/]", duration_ms=3)]


class Collector(HTMLParser):
    """Void elements aside, every element must be closed in order; collects images and text."""

    VOID = frozenset({"meta", "img", "link", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_the_page_shows_each_picture_beside_its_variants(results: list[Result]) -> None:
    page = Collector()
    page.feed(render(results, 1.25, ARTIFACT))
    assert page.open == []
    assert [image["src"] for image in page.images] == [
        f"/original/{number}" if kind == "original" else f"http://127.0.0.1:9/{kind}.webp"
        for number in (0, 1)
        for kind in ("original", "display", "thumb")
    ]
    assert all(image["alt"] for image in page.images)
    text = " ".join(page.text)
    assert 'a "quoted" <b> [red]name[bold] & more.tif' in text
    assert "it is <truncated> [bold]here[/]" in text
    assert "20 ms" in text


@pytest.mark.parametrize(
    ("artifact", "links", "texts", "absent"),
    [
        (ARTIFACT, True, ("3 files · 1.8 MB · built in 0.5 s", LEFT_OUT.reason, "CRC matches"), "cut <short>"),
        (BROKEN, True, (LEFT_OUT.name, "[bold]cut <short>[/]"), "CRC matches"),
        (FAILED, False, ("The artifact", "no <media>"), "CRC matches"),
    ],
)
def test_the_artifact_is_told_with_what_is_wrong_with_it(
    results: list[Result], artifact: DemoArtifact, texts: tuple[str, ...], absent: str, *, links: bool
) -> None:
    html = render(results, 1.25, artifact)
    page = Collector()
    page.feed(html)
    assert page.open == []
    assert ('href="http://127.0.0.1:9/a?b&amp;c.zip"' in html) is links
    out = StringIO()
    show(artifact, Console(file=out, width=200))
    said = out.getvalue()
    for text in texts:
        assert text in " ".join(page.text)
        assert text.replace(" ·", ",") in said
    assert absent not in " ".join(page.text) + said
    assert artifact.as_expected is (artifact is ARTIFACT)
    unexpected = replace(artifact, left_out=(replace(LEFT_OUT, expected=False),))
    assert not unexpected.as_expected


def test_the_page_server_shows_originals_that_browsers_cannot(results: list[Result]) -> None:
    with ResultPage(results, 1.0, ARTIFACT, "http://127.0.0.1:9") as page:
        status, headers, body = fetch(f"{page.url}/")
        assert status == 200
        assert b"plain.jpg" in body
        assert "script-src" not in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        status, headers, body = fetch(f"{page.url}/original/0")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert body == results[0].source.path.read_bytes()
        status, headers, body = fetch(f"{page.url}/original/1")
        assert (status, headers["Content-Type"]) == (200, "image/webp")
        assert pyvips.Image.new_from_buffer(body, "").width == 64
        for missing in ("/original/2", "/original/3", "/original/-1", "/original/x", "/original/", "/favicon.ico"):
            assert fetch(f"{page.url}{missing}")[0] == 404, missing


@pytest.mark.parametrize("width", [80, 160])
def test_the_tables_say_it_all(results: list[Result], width: int) -> None:
    out = StringIO()
    console = Console(file=out, width=width, color_system=None)
    for table in tables(results, width):
        console.print(table)
    said = out.getvalue()
    for word in ("1600 x 1200", "400 x 300", "64 x 48", "60 B", "decode", "20", "66", "plain.jpg", "[bold]here[/]"):
        assert word in said, word
    assert "made to fail" in said
    assert max(map(len, said.splitlines())) <= width


def test_figures_are_for_people(results: list[Result]) -> None:
    assert [size(n) for n in (0, 999, 1000, 38_400, 999_999, 1_840_000)] == [
        "0 B",
        "999 B",
        "1 kB",
        "38 kB",
        "1000 kB",
        "1.8 MB",
    ]
    assert change(results[2]) == ""
    assert change(results[0]).startswith("-")
    assert summary(results, 2.04).startswith("2 published, 1 failed, 2.0 s, ")
    assert [result.as_expected for result in results] == [True, True, True]

"""The result as a page on loopback: original, display and thumb side by side, with pixels, bytes and stage times."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

import pyvips

from jobqueue.demo.demo_artifact import VERIFIED
from jobqueue.demo.demo_results import STAGES, Result, ShownVariant
from jobqueue.demo.file_answers import file_response
from jobqueue.demo.loopback import LoopbackServer, Request, Response
from jobqueue.demo.result_table import change, pixels, size
from jobqueue.errors import JobError
from jobqueue.media.formats import Format, sniff

if TYPE_CHECKING:
    from pathlib import Path

    from jobqueue.demo.demo_artifact import DemoArtifact

_TYPES = {
    Format.JPEG: "image/jpeg",
    Format.PNG: "image/png",
    Format.GIF: "image/gif",
    Format.WEBP: "image/webp",
    Format.AVIF: "image/avif",
}


class ResultPage(LoopbackServer):
    """Serves the page at `/` and the originals, which browsers may not know how to show, at `/original/N`.

    The variants come from the CDN at `cdn_url`, as for every visitor.
    """

    def __init__(self, results: list[Result], seconds: float, packed: DemoArtifact, cdn_url: str) -> None:
        super().__init__(self._serve)
        self._results = results
        self._html = render(results, seconds, packed)
        self._policy = f"default-src 'none'; img-src 'self' {cdn_url} data:; style-src 'unsafe-inline'; base-uri 'none'"

    def _serve(self, request: Request) -> Response:
        if request.path == "/":
            return Response.of(
                HTTPStatus.OK,
                self._html,
                kind="text/html",
                content_security_policy=self._policy,
                cache_control="no-store",
                x_content_type_options="nosniff",
            )
        number = request.path.removeprefix("/original/")
        if number.isascii() and number.isdigit() and int(number) < len(self._results):
            return self._original(self._results[int(number)].source.path, request)
        return Response.of(HTTPStatus.NOT_FOUND)

    def _original(self, path: Path, request: Request) -> Response:
        try:
            kind = _TYPES.get(sniff(path))
            if kind is not None:
                return file_response(path, request, kind=kind)
            shown = _as_webp(str(path))
        except (OSError, JobError, pyvips.Error):
            return Response.of(HTTPStatus.NOT_FOUND)
        return Response(HTTPStatus.OK, {"Content-Type": "image/webp"}, len(shown), (shown,))


@lru_cache(maxsize=32)
def _as_webp(path: str) -> bytes:
    """Convert a picture that browsers do not show, such as a TIFF, for display only."""
    data: bytes = pyvips.Image.thumbnail(path, 1600, size="down").webpsave_buffer(Q=90, effort=2)
    return data


def render(results: list[Result], seconds: float, packed: DemoArtifact) -> str:
    """Make the page's HTML. It loads from its own server and from the CDN, and from nowhere else."""
    numbered = list(enumerate(results))
    failed = "".join(_failure(result) for _, result in numbered if not result.published)
    page = Template((files("jobqueue.demo") / "page.html").read_text("utf-8"))
    return page.substitute(
        sums=_sums(results, seconds),
        failed=f'<h2 id="failed">Failed</h2>{failed}' if failed else "",
        published="".join(_card(number, result) for number, result in numbered if result.published)
        or "<p>No picture was published.</p>",
        artifact=_artifact(packed),
    )


def _sums(results: list[Result], seconds: float) -> str:
    done = [result for result in results if result.published]
    before = sum(result.source.size for result in done)
    after = sum(variant.size for result in done for variant in (result.display, result.thumb) if variant)
    failed = len(results) - len(done)
    figures = {
        "published": str(len(done)),
        "failed": f'<a href="#failed">{failed}</a>' if failed else "0",
        "originals": size(before),
        "display and thumb": size(after),
        "megapixels": f"{sum((r.width or 0) * (r.height or 0) for r in done) / 1e6:.0f}",
        "from insert to the last": f"{seconds:.1f} s",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())


def _figure(name: str, url: str, alt: str, width: int | None, height: int | None, facts: str) -> str:
    shape = f' width="{width}" height="{height}"' if width and height else ""
    image = f'<img src="{escape(url)}" alt="{escape(alt)}"{shape} loading="lazy" decoding="async">'
    caption = f"<b>{name}</b> &middot; {pixels(width, height)} &middot; {facts}"
    return f'<figure><a href="{escape(url)}">{image}</a><figcaption>{caption}</figcaption></figure>'


def _variant(name: str, variant: ShownVariant | None, alt: str, facts: str = "") -> str:
    if variant is None:
        return ""
    return _figure(name, variant.url, alt, variant.width, variant.height, size(variant.size) + facts)


def _card(number: int, result: Result) -> str:
    source = result.source
    mark = ' class="good"' if result.display is not None and result.display.size < source.size else ""
    saved = f" &middot; <span{mark}>{change(result)}</span>"
    original = _figure(
        "original",
        f"/original/{number}",
        f"Original of {source.key}",
        result.width,
        result.height,
        size(source.size),
    )
    return (
        f"<article><h3>{escape(source.key)}</h3><p>{escape(source.about)}</p>"
        f'<div class="three">{original}'
        f"{_variant('display', result.display, f'Display variant of {source.key}', saved)}"
        f"{_variant('thumb', result.thumb, f'Thumb of {source.key}')}"
        f"</div>{_times(result)}</article>"
    )


def _times(result: Result) -> str:
    stages = {stage: result.stages[stage] for stage in STAGES if stage in result.stages}
    whole = sum(stages.values()) or 1
    bar = "".join(f'<span class="{stage}" style="width:{time / whole:.1%}"></span>' for stage, time in stages.items())
    items = "".join(f'<li><i class="{stage}"></i>{stage} <b>{time:.0f} ms</b></li>' for stage, time in stages.items())
    return (
        f'<div class="bar" aria-hidden="true">{bar}</div>'
        f'<ul class="times" aria-label="Time by stage">{items}<li>in all <b>{result.duration_ms:.0f} ms</b></li></ul>'
    )


def _failure(result: Result) -> str:
    source = result.source
    expected = "<p>As it should: this one was made to fail.</p>" if source.must_fail else ""
    return (
        f'<article class="failed"><h3>{escape(source.key)}</h3>'
        f"<p>{escape(source.about)} &middot; {size(source.size)}</p>"
        f'<p class="bad">{escape(result.error or "")}</p>{expected}</article>'
    )


def _artifact(packed: DemoArtifact) -> str:
    left_out = "".join(f"<li>{escape(item.name)}: {escape(item.reason)}</li>" for item in packed.left_out)
    name = escape(packed.filename)
    title = f'<a href="{escape(packed.url)}">{name}</a>' if packed.url else name
    facts = f"<p>{packed.files} files &middot; {size(packed.size)} &middot; built in {packed.seconds:.1f} s</p>"
    state = f'<p class="bad">{escape(packed.problem)}</p>' if packed.problem else f'<p class="good">{VERIFIED}</p>'
    missing = f"<p>Left out, as MISSING.txt inside says:</p><ul>{left_out}</ul>" if left_out else ""
    mark = ' class="failed"' if packed.problem else ""
    return f"<article{mark}><h3>{title}</h3>{facts if packed.url else ''}{state}{missing}</article>"

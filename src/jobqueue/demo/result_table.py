"""The result in the terminal."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table

from jobqueue.demo.demo_results import STAGES, Result, ShownVariant
from jobqueue.observe.printable_text import printable

_WIDE = 128  # columns that the table with stage times needs


def pixels(width: int | None, height: int | None) -> str:
    """Give `4000 x 3000`, or nothing when unknown."""
    return f"{width} x {height}" if width and height else ""


def size(count: int) -> str:
    """Give bytes for people, in decimal units: 420 B, 38 kB, 1.8 MB."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def change(result: Result) -> str:
    """Compare the display variant's bytes with the original's: -93%."""
    return f"{result.display.size / max(result.source.size, 1) - 1:+.0%}" if result.display else ""


def tables(results: list[Result], width: int) -> list[Table]:
    """Make the tables for a terminal of `width` columns; on a narrow one stage times get a table of their own."""
    published = [result for result in results if result.published]
    failed = [result for result in results if not result.published]
    wide = width >= _WIDE
    made = []
    if published:
        made.append(_published(published, with_stages=wide))
        if not wide:
            made.append(_stages(published))
    if failed:
        made.append(_failed(failed))
    return made


def shown(text: str) -> str:
    """Give text from elsewhere as rich's markup: nothing in it is obeyed, by rich or by the terminal."""
    return escape(printable(text))


def summary(results: list[Result], seconds: float) -> str:
    """Say in one line how many, how long and how much smaller."""
    done = [result for result in results if result.published]
    failed = len(results) - len(done)
    parts = [f"{len(done)} published", *([f"{failed} failed"] if failed else []), f"{seconds:.1f} s"]
    if done:
        before = sum(result.source.size for result in done)
        after = sum(variant.size for result in done for variant in (result.display, result.thumb) if variant)
        parts.append(f"{size(before)} of originals became {size(after)} of display and thumb")
    return ", ".join(parts)


def _table(title: str, style: str = "bold") -> Table:
    return Table(title=title, title_justify="left", title_style=style, box=box.SIMPLE_HEAD, pad_edge=False)


def _file(result: Result) -> str:
    return f"{shown(result.source.key)}\n[dim]{shown(result.source.about)}[/]"


def _variant(variant: ShownVariant | None) -> str:
    return f"{pixels(variant.width, variant.height)}\n[dim]{size(variant.size)}[/]" if variant else ""


def _times(result: Result) -> list[str]:
    stages = [f"{result.stages[stage]:.0f}" if stage in result.stages else "" for stage in STAGES]
    return [*stages, f"[bold]{result.duration_ms:.0f}[/]"]


def _published(results: list[Result], *, with_stages: bool) -> Table:
    table = _table("Published" + (", with milliseconds by stage" if with_stages else ""))
    table.add_column("file", overflow="fold", ratio=1)
    for title in ("original", "display", "thumb"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("bytes", justify="right", style="green", no_wrap=True)
    for title in (*STAGES, "all") if with_stages else ():
        table.add_column(title, justify="right", no_wrap=True)
    for result in results:
        original = f"{pixels(result.width, result.height)}\n[dim]{size(result.source.size)}[/]"
        cells = [_file(result), original, _variant(result.display), _variant(result.thumb), change(result)]
        table.add_row(*cells, *(_times(result) if with_stages else ()))
    return table


def _stages(results: list[Result]) -> Table:
    table = _table("Milliseconds by stage")
    table.add_column("file", overflow="fold", ratio=1)
    for title in (*STAGES, "all"):
        table.add_column(title, justify="right", no_wrap=True, min_width=max(len(title), 4))
    for result in results:
        table.add_row(shown(result.source.key), *_times(result))
    return table


def _failed(results: list[Result]) -> Table:
    table = _table("Failed", "bold red")
    table.add_column("file", overflow="fold", ratio=2)
    table.add_column("why", overflow="fold", ratio=3)
    for result in results:
        expected = "\n[dim]as it should: made to fail[/]" if result.source.must_fail else ""
        table.add_row(_file(result), f"{shown(result.error or '')}{expected}")
    return table

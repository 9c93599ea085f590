"""Writes docs/reference/api.md from the docstrings of what a host may import: `python -m tests.docs.api_reference`."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from tests.structure.helpers import ROOT

import jobqueue
from jobqueue import testing
from jobqueue.testing import fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs/reference/api.md"

_HEAD = """# The API in Python

What `import jobqueue` offers, from its docstrings; `make reference` writes this page. Whatever is not here is ours, and changes without notice.
"""

# In the order in which a host meets them; a test holds the list to `jobqueue.__all__`.
CHAPTERS = {
    "Handlers": ("App", "Context", "Job"),
    "How a handler ends otherwise than well": ("Permanent", "Retry", "Snooze", "Cancelled"),
    "Enqueue and wait": ("enqueue", "wait", "wait_async", "JobEnd"),
}

# Made by the worker, or by what returns them: how they are made is not a host's.
_NOT_MADE_BY_HOSTS = {"Context", "Job", "JobEnd", "Performed", "Statement", "JobsFailed"}


def written() -> str:
    """The text of the page."""
    parts = [_HEAD]
    for chapter, names in CHAPTERS.items():
        parts.append(f"## {chapter}\n")
        for name in names:
            parts += _entry(f"jobqueue.{name}", getattr(jobqueue, name))
    parts += ["## Tests\n", f"{_text(testing)}\n"]
    for name in testing.__all__:
        parts += _entry(f"jobqueue.testing.{name}", getattr(testing, name))
    parts.append("### Fixtures of `jobqueue.testing.fixtures`\n")
    for name, value in vars(fixtures).items():
        if name.startswith("jobqueue_"):
            parts.append(f"- `{name}`: {' '.join(_text(value).split())}")
    return "\n".join(parts).rstrip() + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### `{name}`\n"
    short = name.rpartition(".")[2]
    if not isinstance(value, type):
        awaited = "await " if inspect.iscoroutinefunction(value) else ""
        yield f"    {awaited}{short}{_signature(value)}\n"
        yield f"{_text(value)}\n"
        return
    if short not in _NOT_MADE_BY_HOSTS:
        yield f"    {short}{_signature(value)}\n"
    yield f"{_text(value)}\n"
    if is_dataclass(value):
        yield "\n".join(f"- `{field.name}: {field.type}`" for field in fields(value)) + "\n"
    for method, member in _members(value):
        if isinstance(member, property):
            yield f"**`{method}`** {_text(member)}\n"
        else:
            yield f"**`{method}{_signature(member, method=True)}`**\n"
            yield f"{_text(member)}\n"


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class of ours defines, in the order in which it does."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and (isinstance(member, property) or inspect.isfunction(member)):
            yield name, member


def _signature(value: Any, *, method: bool = False) -> str:
    try:
        signature = inspect.signature(value)
    except ValueError:
        # An exception without a constructor of its own.
        return "(message: str)"
    parts = []
    starred = False
    for parameter in list(signature.parameters.values())[1 if method else 0 :]:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        prefix = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{prefix}{parameter.name}: {parameter.annotation}{default}")
    result = "" if isinstance(value, type) else f" -> {signature.return_annotation}"
    return f"({', '.join(parts)}){result}"


def _text(value: Any) -> str:
    text = inspect.getdoc(value)
    assert text, f"{value} has no docstring"
    return text


if __name__ == "__main__":
    PAGE.write_text(written())

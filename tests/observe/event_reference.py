"""The table of log events, made from the code: `python -m tests.observe.event_reference` writes docs/reference/log-events.md."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field

from tests.structure.helpers import ROOT, modules

PAGE = ROOT / "docs/reference/log-events.md"

LEVELS = ("debug", "info", "warning", "error", "exception")

# Functions that log an event that they are given: the place of its name among their arguments, and the level.
HANDED_ON = {"_log_failure": (0, "error"), "entrance": (2, "warning")}

HEAD = """\
# Log events

Every event that a line of the log can have, made from the code. What the important ones mean stands in [metrics and logs](metrics-and-logs.md). `queue`, `job_id` and `attempt` come with every line that a job's handler causes, and are not named here.

| event | level | logger | fields |
|---|---|---|---|
"""


@dataclass
class Event:
    """One event: the levels at which it is logged, the modules that do, and its fields."""

    levels: set[str] = field(default_factory=set)
    loggers: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def events() -> dict[str, Event]:
    """Every event of src/ by its name: the first argument, where that is a text, of a call of `log`."""
    found: dict[str, Event] = defaultdict(Event)
    for module in modules().values():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            place, level = HANDED_ON.get(ast.unparse(node.func).rpartition(".")[2], (0, _level(node.func)))
            if level is not None and len(node.args) > place:
                for name in _names(node.args[place]):
                    event = found[name]
                    event.levels.add("error" if level == "exception" else level)
                    event.loggers.add(module.name)
                    if _level(node.func) is not None:
                        event.fields |= {each.arg for each in node.keywords if each.arg not in (None, "exc_info")}
    return dict(found)


def _level(called: ast.expr) -> str | None:
    if isinstance(called, ast.Attribute) and called.attr in LEVELS and ast.unparse(called.value).endswith("log"):
        return called.attr
    return None


def _names(first: ast.expr) -> list[str]:
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        return [first.value]
    if isinstance(first, ast.IfExp):
        return [*_names(first.body), *_names(first.orelse)]
    return []


def page() -> str:
    """The whole document."""
    rows = [
        f"| `{name}` | {', '.join(sorted(event.levels))} | {', '.join(f'`{each}`' for each in sorted(event.loggers))} "
        f"| {', '.join(f'`{each}`' for each in sorted(event.fields))} |\n"
        for name, event in sorted(events().items())
    ]
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())

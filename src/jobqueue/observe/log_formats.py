"""The forms of a log line: JSON for machines, text for a person at a terminal; both redacted as the last step."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from pythonjsonlogger.json import JsonFormatter

from jobqueue.observe import former_names
from jobqueue.observe.log_context import bound_fields
from jobqueue.observe.log_values import message, plain, stack, timestamp
from jobqueue.observe.printable_text import printable

if TYPE_CHECKING:
    from jobqueue.observe.redact import Redactor

FIELD_LIMIT: Final = 8192
"""Characters of one field that are kept."""

_OWN: Final = ("timestamp", "level", "event", "logger", "former_event", "former_loop")


class _LogLines:
    """What both forms share: a record becomes one redacted line, or a line that says that this failed."""

    def __init__(self, redactor: Redactor, stream: TextIO) -> None:
        self._redactor = redactor
        # A lone surrogate, as in a file name that is not UTF-8, cannot be encoded: it becomes its JSON escape.
        self._encoding = stream.encoding or "utf-8"

    def finish(self, record: logging.LogRecord) -> str:
        try:
            line = self._redactor.redact(self.render(self._entry(record)))
            return line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        except Exception:  # noqa: BLE001 - the boundary: a faulty record must neither reach its caller nor leave unredacted
            own = {
                "timestamp": timestamp(record.created),
                "level": "error",
                "event": "log_line_dropped",
                "logger": __name__,
            }
            return self.render(own)

    def render(self, entry: Mapping[str, Any]) -> str:
        raise NotImplementedError

    def _entry(self, record: logging.LogRecord) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "timestamp": timestamp(record.created),
            "level": record.levelname.lower(),
            "event": self._cut(message(record)),
            "logger": record.name,
        }
        if entry["event"] in former_names.EVENTS:
            entry["former_event"] = former_names.EVENTS[entry["event"]]
        fields = getattr(record, "fields", None)
        for key, value in {**bound_fields(), **(fields if isinstance(fields, Mapping) else {})}.items():
            entry[f"{key}_" if key in _OWN else key] = self._field(key, value)
        loop = entry.get("loop")
        if isinstance(loop, str) and loop in former_names.LOOPS:
            entry["former_loop"] = former_names.LOOPS[loop]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            entry.setdefault("error", self._field("error", error))
            entry["stack"] = self._cut(stack(error), keep_end=True)
        return entry

    def _field(self, key: str, value: object) -> object:
        made = plain(key, value)
        if isinstance(made, str):
            return self._cut(made)
        if isinstance(made, dict | list):
            text = json.dumps(made, ensure_ascii=False)
            return made if len(text) <= FIELD_LIMIT else self._cut(text)
        return made

    def _cut(self, text: str, *, keep_end: bool = False) -> str:
        if len(text) <= FIELD_LIMIT:
            return text
        # Redacted before it is cut: half a secret would no longer be recognised in the line.
        text = self._redactor.redact(text)
        kept = text[-FIELD_LIMIT:] if keep_end else text[:FIELD_LIMIT]
        return f"[cut]{kept}" if keep_end else f"{kept}[cut]"


class JsonLines(_LogLines, JsonFormatter):
    """For machines: one JSON object a line, its own fields first."""

    def __init__(self, redactor: Redactor, stream: TextIO) -> None:
        JsonFormatter.__init__(self, json_ensure_ascii=(stream.encoding or "utf-8").lower().replace("-", "") != "utf8")
        _LogLines.__init__(self, redactor, stream)

    def format(self, record: logging.LogRecord) -> str:
        return self.finish(record)

    def render(self, entry: Mapping[str, Any]) -> str:
        return self.serialize_log_record(dict(entry))


class TextLines(_LogLines, logging.Formatter):
    """For a person at a terminal: local time, level, event, then the fields; the stack below."""

    def __init__(self, redactor: Redactor, stream: TextIO) -> None:
        logging.Formatter.__init__(self)
        _LogLines.__init__(self, redactor, stream)
        self._colours = {"debug": "2", "warning": "33", "error": "31", "critical": "31"} if stream.isatty() else {}

    def format(self, record: logging.LogRecord) -> str:
        return self.finish(record)

    def render(self, entry: Mapping[str, Any]) -> str:
        level = str(entry["level"])
        moment = datetime.fromisoformat(entry["timestamp"]).astimezone().isoformat(" ", "milliseconds")[11:23]
        fields = [f"{key}={_word(value)}" for key, value in entry.items() if key not in (*_OWN, "stack")]
        line = " ".join([moment, f"{level.upper():<7}", printable(str(entry["event"])), *fields])
        if level in self._colours:
            line = f"\x1b[{self._colours[level]}m{line}\x1b[0m"
        below = "".join(f"\n    {printable(row)}" for row in str(entry.get("stack", "")).splitlines())
        return line + below


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = printable(text)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r'[\s="]', text) else text

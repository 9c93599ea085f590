"""Logs: one JSON object a line, made of an event and its fields, with every secret removed last.

    log = get_logger(__name__)
    with bind(queue="publish_jobs", job_id=job.id, attempt=1):
        log.info("job_finished", outcome="completed", duration_ms=412)

Records of libraries come out in the same form, with their message as the event. Nothing here raises into its caller:
a line that cannot be made is replaced by one that says so.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, date, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO
from uuid import UUID

from pythonjsonlogger.json import JsonFormatter

from jobqueue.observe import former_names

if TYPE_CHECKING:
    from types import TracebackType

    from jobqueue.observe.redact import Redactor

FIELD_LIMIT: Final = 8192
"""Characters of one field that are kept."""

_FRAMES: Final = 20
_DEPTH: Final = 4
_NOTHING: Final[Mapping[str, object]] = {}
_OWN: Final = ("timestamp", "level", "event", "logger", "former_event")
_HIDDEN: Final = re.compile(
    r"(?i)^(authorization|cookie|token|dsn|signature)$|(^|[_-])(password|passwd|secret|api_?key|app_?key|conninfo|database_url)$"
)
# These write requests, headers or every image operation below warnings; no level of ours asks for that.
_CHATTY: Final = ("boto3", "botocore", "s3transfer", "urllib3", "pyvips", "PIL", "asyncio", "uvicorn")

_bound: ContextVar[Mapping[str, object] | Callable[[], Mapping[str, object]]] = ContextVar("jobqueue_log_fields")


class Logger:
    """Writes events. The first argument is a stable name in snake_case; whatever varies is a field.

    `error` may be an exception: it is written as its type and message. `exc_info` adds the stack to it.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def is_enabled(self, level: str) -> bool:
        """Whether events of `level` are written: for a caller that would work hard to make one."""
        return self._logger.isEnabledFor(logging.getLevelName(level.upper()))

    def debug(self, event: str, /, **fields: object) -> None:
        """Write what only somebody looking for a fault wants to read."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write what happened."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Write what an operator may want to look at."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, exc_info: BaseException | bool = False, **fields: object) -> None:
        """Write what an operator has to look at."""
        self._write(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, /, **fields: object) -> None:
        """Write an error together with the exception being handled and its stack."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(
        self, level: int, event: str, fields: Mapping[str, object], exc_info: BaseException | bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            # The event is a name and not a format: no arguments, so that a "%" in it stays one.
            self._logger.log(level, event, extra={"fields": fields}, exc_info=exc_info or None, stacklevel=3)


def get_logger(name: str) -> Logger:
    """Give the logger of a module: `get_logger(__name__)`."""
    return Logger(logging.getLogger(name))


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Add `fields` to everything logged in this context, by libraries too, until the block ends."""
    token = _bound.set({**_bound_fields(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def attach(fields: Callable[[], Mapping[str, object]]) -> None:
    """Have what `fields()` gives, in place of what was bound, in everything that this thread or task logs from now on.

    For a loop that is in too much of a hurry to `bind`: nothing is called before something is logged.
    """
    _bound.set(fields)


def detach() -> None:
    """Undo `attach`."""
    _bound.set(_NOTHING)


def _bound_fields() -> Mapping[str, object]:
    bound = _bound.get(_NOTHING)
    return bound() if callable(bound) else bound


def configure_logging(
    level: str, style: Literal["json", "text"], redactor: Redactor, stream: TextIO | None = None
) -> None:
    """Send every record of the process from `level` up to `stream` (standard output), as `style` says.

    Can be called again: the handler of the call before is replaced, handlers of others are left alone.
    """
    target = sys.stdout if stream is None else stream
    handler = _StdoutHandler(target)
    handler.setFormatter(_Json(redactor, target) if style == "json" else _Text(redactor, target))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _StdoutHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def log_uncaught_exceptions() -> None:
    """Have exceptions that end the process or a thread written as log lines, redacted, instead of bare tracebacks."""
    log = get_logger(__name__)

    def of_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.error("uncaught_exception", exc_info=error)

    def of_thread(details: threading.ExceptHookArgs) -> None:
        if details.exc_value is not None and not isinstance(details.exc_value, SystemExit):
            log.error("uncaught_exception", exc_info=details.exc_value, thread=details.thread and details.thread.name)

    sys.excepthook = of_process
    threading.excepthook = of_thread


class _StdoutHandler(logging.StreamHandler[TextIO]):
    """Writes lines; a stream that is closed or full costs the line and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Stay silent: the inherited way prints the record, unredacted, to standard error."""


class _Redacting:
    """The part that both forms share: one line for a record, redacted as the last step, or a line that says it failed."""

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
                "timestamp": _timestamp(record.created),
                "level": "error",
                "event": "log_line_dropped",
                "logger": __name__,
            }
            return self.render(own)

    def render(self, entry: Mapping[str, Any]) -> str:
        raise NotImplementedError

    def _entry(self, record: logging.LogRecord) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "timestamp": _timestamp(record.created),
            "level": record.levelname.lower(),
            "event": self._cut(_message(record)),
            "logger": record.name,
        }
        if entry["event"] in former_names.EVENTS:
            entry["former_event"] = former_names.EVENTS[entry["event"]]
        fields = getattr(record, "fields", None)
        for key, value in {**_bound_fields(), **(fields if isinstance(fields, Mapping) else {})}.items():
            entry[f"{key}_" if key in _OWN else key] = self._field(key, value)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            entry.setdefault("error", self._field("error", error))
            entry["stack"] = self._cut(_stack(error), keep_end=True)
        return entry

    def _field(self, key: str, value: object) -> object:
        plain = _plain(key, value, _DEPTH)
        if isinstance(plain, str):
            return self._cut(plain)
        if isinstance(plain, dict | list):
            text = json.dumps(plain, ensure_ascii=False)
            return plain if len(text) <= FIELD_LIMIT else self._cut(text)
        return plain

    def _cut(self, text: str, *, keep_end: bool = False) -> str:
        if len(text) <= FIELD_LIMIT:
            return text
        # Redacted before it is cut: half a secret would no longer be recognised in the line.
        text = self._redactor.redact(text)
        kept = text[-FIELD_LIMIT:] if keep_end else text[:FIELD_LIMIT]
        return f"[cut]{kept}" if keep_end else f"{kept}[cut]"


class _Json(_Redacting, JsonFormatter):
    def __init__(self, redactor: Redactor, stream: TextIO) -> None:
        JsonFormatter.__init__(self, json_ensure_ascii=(stream.encoding or "utf-8").lower().replace("-", "") != "utf8")
        _Redacting.__init__(self, redactor, stream)

    def format(self, record: logging.LogRecord) -> str:
        return self.finish(record)

    def render(self, entry: Mapping[str, Any]) -> str:
        return self.serialize_log_record(dict(entry))


class _Text(_Redacting, logging.Formatter):
    """For a person at a terminal: local time, level, event, then the fields; the stack below."""

    def __init__(self, redactor: Redactor, stream: TextIO) -> None:
        logging.Formatter.__init__(self)
        _Redacting.__init__(self, redactor, stream)
        self._colours = {"debug": "2", "warning": "33", "error": "31", "critical": "31"} if stream.isatty() else {}

    def format(self, record: logging.LogRecord) -> str:
        return self.finish(record)

    def render(self, entry: Mapping[str, Any]) -> str:
        level = str(entry["level"])
        moment = datetime.fromisoformat(entry["timestamp"]).astimezone().isoformat(" ", "milliseconds")[11:23]
        fields = [f"{key}={_word(value)}" for key, value in entry.items() if key not in (*_OWN, "stack")]
        line = " ".join([moment, f"{level.upper():<7}", _printable(str(entry["event"])), *fields])
        if level in self._colours:
            line = f"\x1b[{self._colours[level]}m{line}\x1b[0m"
        stack = "".join(f"\n    {_printable(row)}" for row in str(entry.get("stack", "")).splitlines())
        return line + stack


def _timestamp(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - a library's format that does not fit its arguments still names the place
        return str(record.msg)


def _describe(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _stack(error: BaseException) -> str:
    return "".join(traceback.format_exception(error, limit=-_FRAMES)).rstrip()


def _plain(key: str, value: object, depth: int) -> object:
    """Give `value` as JSON can hold it; unknown things by their text, a key that names a secret without its value."""
    if value is None or isinstance(value, bool):
        return value
    if _HIDDEN.search(key):
        return "***"
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID | PurePath):
        return str(value)
    if isinstance(value, BaseException):
        return _describe(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping) and depth:
        return {str(inner): _plain(str(inner), item, depth - 1) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        items: Iterable[object] = value
        return [_plain(key, item, depth - 1) for item in items]
    with suppress(Exception):
        return str(value)
    return f"<{type(value).__name__}>"


def _printable(text: str) -> str:
    """Escape what would move the cursor, colour the screen or start a line of its own."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = _printable(text)
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r'[\s="]', text) else text

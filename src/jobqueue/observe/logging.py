"""Logs: one JSON object a line, made of an event and its fields, with every secret removed last.

    log = get_logger(__name__)
    with bind(queue="publish_jobs", job_id=job.id, attempt=1):
        log.info("job_finished", outcome="completed", duration_ms=412)

Records of libraries come out in the same form, with their message as the event. Nothing here raises into its caller:
a line that cannot be made becomes one that says so.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final, Literal, TextIO

from jobqueue.observe.log_formats import JsonLines, TextLines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from jobqueue.observe.redact import Redactor

# Below warnings these write requests, headers or every image operation; none of our levels means that.
_CHATTY: Final = ("boto3", "botocore", "s3transfer", "urllib3", "pyvips", "PIL", "asyncio", "uvicorn")


class Logger:
    """Writes events. The first argument is a stable name in snake_case; everything that varies is a field.

    `error` may be an exception: its type and message are written. `exc_info` adds its stack.
    """

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def is_enabled(self, level: str) -> bool:
        """Whether events of `level` are written, for a caller to whom an event is expensive."""
        return self._logger.isEnabledFor(logging.getLevelName(level.upper()))

    def debug(self, event: str, /, **fields: object) -> None:
        """Write an event that matters only to somebody who looks for a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write an event of normal work."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Write an event that an operator may want to look at."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, *, exc_info: BaseException | bool = False, **fields: object) -> None:
        """Write an event that an operator has to look at."""
        self._write(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, /, **fields: object) -> None:
        """Write an error with the exception that is being handled and its stack."""
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


def configure_logging(
    level: str, style: Literal["json", "text"], redactor: Redactor, stream: TextIO | None = None
) -> None:
    """Send every record of the process from `level` up to `stream` (by default standard output), in the form `style`.

    A second call replaces the handler of the first and leaves the handlers of others alone.
    """
    target = sys.stdout if stream is None else stream
    handler = _StdoutHandler(target)
    handler.setFormatter(JsonLines(redactor, target) if style == "json" else TextLines(redactor, target))
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _StdoutHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def log_uncaught_exceptions() -> None:
    """Log exceptions that end the process or a thread, redacted, in place of their bare tracebacks."""
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
    """Writes lines. When the stream is closed or full, the line is lost and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Stay silent: the inherited way prints the record, unredacted, to standard error."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import uuid
import warnings
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pythonjsonlogger.json import JsonFormatter

from jobqueue.observe.log_context import attach, bind, detach
from jobqueue.observe.log_formats import FIELD_LIMIT
from jobqueue.observe.logging import configure_logging, get_logger, log_uncaught_exceptions
from jobqueue.observe.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-canary"

log = get_logger("tests.logging")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Give the root logger back as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    configure_logging("info", "json", Redactor([CANARY]), stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().removesuffix("\n").split("\n")]


def line(stream: io.StringIO) -> dict[str, Any]:
    (only,) = lines(stream)
    return only


class TestJson:
    def test_a_line_has_the_fields_of_the_contract_in_order(self, out: io.StringIO) -> None:
        log.info("job_finished", queue="publish_jobs", job_id="1", attempt=2, duration_ms=412.34567, error="gone")
        entry = line(out)
        moment = entry.pop("timestamp")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
        assert abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()) < 60
        assert list(entry.items()) == [
            ("level", "info"),
            ("event", "job_finished"),
            ("logger", "tests.logging"),
            ("queue", "publish_jobs"),
            ("job_id", "1"),
            ("attempt", 2),
            ("duration_ms", 412.346),
            ("error", "gone"),
        ]

    def test_levels(self, out: io.StringIO) -> None:
        log.debug("hidden")
        log.warning("shown")
        log.error("shown")
        assert [entry["level"] for entry in lines(out)] == ["warning", "error"]
        assert not log.is_enabled("debug")
        assert log.is_enabled("info")

    def test_values_of_any_type_become_json(self, out: io.StringIO) -> None:
        class Faulty:
            def __str__(self) -> str:
                raise ValueError

        identity = uuid.uuid4()
        log.info(
            "values",
            identity=identity,
            path=Path("/a/b"),
            moment=datetime(2026, 1, 2, tzinfo=UTC),
            problem=KeyError("x"),
            blob=b"\x00\x01",
            faulty=Faulty(),
            infinite=float("inf"),
            nested={"a": (1, {2}), 3: None},
            nothing=None,
            yes=True,
        )
        entry = line(out)
        assert entry["identity"] == str(identity)
        assert entry["path"] == "/a/b"
        assert entry["moment"] == "2026-01-02T00:00:00+00:00"
        assert entry["problem"] == "KeyError: 'x'"
        assert entry["blob"] == "<2 bytes>"
        assert entry["faulty"] == "<Faulty>"
        assert entry["infinite"] == "inf"
        assert entry["nested"] == {"a": [1, [2]], "3": None}
        assert entry["nothing"] is None
        assert entry["yes"] is True

    def test_what_contains_itself_comes_out_with_an_end(self, out: io.StringIO) -> None:
        endless: list[object] = []
        endless.append(endless)
        log.info("endless", value=endless)
        assert line(out)["event"] == "endless"

    def test_fields_cannot_take_the_place_of_the_own_ones(self, out: io.StringIO) -> None:
        log.info("real", event="fake", level="fake", timestamp="fake")
        entry = line(out)
        assert (entry["event"], entry["level"]) == ("real", "info")
        assert (entry["event_"], entry["level_"], entry["timestamp_"]) == ("fake", "fake", "fake")

    def test_a_renamed_event_carries_its_former_name(self, out: io.StringIO) -> None:
        log.info("artifact_ready", former_event="fake", files=3)
        entry = line(out)
        assert (entry["event"], entry["former_event"], entry["former_event_"]) == (
            "artifact_ready",
            "archive_ready",
            "fake",
        )

    def test_a_renamed_loop_carries_its_former_name(self, out: io.StringIO) -> None:
        log.warning("database_away", loop="rescue")
        log.warning("database_away", loop="claim")
        log.warning("database_away", loop=["rescue"])
        assert [entry.get("former_loop") for entry in lines(out)] == ["keep", None, None]

    def test_an_event_that_kept_its_name_has_no_former_one(self, out: io.StringIO) -> None:
        log.info("job_finished")
        assert "former_event" not in line(out)

    def test_one_record_is_one_line_whatever_is_in_it(self, out: io.StringIO) -> None:
        log.info("names\nfake", name="a\nb\u2028c\x00", other="ü☀")
        assert out.getvalue().count("\n") == 1
        assert line(out)["name"] == "a\nb\u2028c\x00"
        assert "ü☀" in out.getvalue()

    def test_a_percent_sign_is_no_format(self, out: io.StringIO) -> None:
        log.info("100%s done")
        assert line(out)["event"] == "100%s done"

    def test_long_fields_are_cut(self, out: io.StringIO) -> None:
        log.info("long", text="x" * 100_000, many=[{"n": n} for n in range(10_000)])
        entry = line(out)
        assert len(entry["text"]) <= FIELD_LIMIT + 10
        assert entry["text"].endswith("[cut]")
        assert len(entry["many"]) <= FIELD_LIMIT + 10

    def test_names_that_are_not_utf8_are_written(self, tmp_path: Path) -> None:
        for encoding in ("utf-8", "ascii"):
            file = tmp_path / encoding
            with file.open("w", encoding=encoding) as stream:
                configure_logging("info", "json", Redactor(), stream)
                log.info("odd", name="\udcff", other="☀😀")
                entry = json.loads(file.read_text(encoding=encoding))
            assert entry["name"] == "\udcff"
            assert entry["other"] == "☀😀"


class TestErrors:
    def test_an_exception_as_error_is_its_type_and_message(self, out: io.StringIO) -> None:
        log.warning("retried", error=TimeoutError("no answer within 5 s"))
        assert line(out)["error"] == "TimeoutError: no answer within 5 s"
        assert "stack" not in line(out)

    def test_the_exception_being_handled_comes_with_its_stack(self, out: io.StringIO) -> None:
        try:
            raise ValueError
        except ValueError:
            log.exception("failed")
        entry = line(out)
        assert entry["level"] == "error"
        assert entry["error"] == "ValueError"
        assert "test_the_exception_being_handled_comes_with_its_stack" in entry["stack"]

    def test_a_deep_stack_keeps_its_end(self, out: io.StringIO) -> None:
        def deep(n: int) -> None:
            if n:
                deep(n - 1)
            raise ValueError("at the bottom" + "x" * 20_000)

        with pytest.raises(ValueError, match="at the bottom") as caught:
            deep(100)
        log.error("failed", exc_info=caught.value)
        entry = line(out)
        assert len(entry["stack"]) <= FIELD_LIMIT + 10
        assert entry["error"].startswith("ValueError: at the bottom")


class TestLibraries:
    def test_their_records_have_the_same_form(self, out: io.StringIO) -> None:
        with bind(queue="q"):
            logging.getLogger("urllib3.connectionpool").warning("retrying %s in %d s", "GET", 3, extra={"other": 1})
        entry = line(out)
        assert entry["event"] == "retrying GET in 3 s"
        assert entry["logger"] == "urllib3.connectionpool"
        assert entry["queue"] == "q"
        assert "other" not in entry

    def test_a_format_that_does_not_fit_is_written_as_it_is(self, out: io.StringIO) -> None:
        # pytest's own handler would raise what the mistake raises.
        root = logging.getLogger()
        root.handlers[:] = [handler for handler in root.handlers if isinstance(handler.formatter, JsonFormatter)]
        logging.getLogger("other").warning("%d of %d", "x")  # noqa: PLE1206
        assert line(out)["event"] == "%d of %d"

    def test_the_chatty_ones_speak_from_warnings_up(self, out: io.StringIO) -> None:
        configure_logging("debug", "json", Redactor(), out)
        for name in ("botocore.auth", "urllib3.connectionpool", "pyvips.voperation", "uvicorn.error"):
            logging.getLogger(name).info("chatter")
        log.debug("ours")
        assert [entry["event"] for entry in lines(out)] == ["ours"]

    def test_warnings_are_lines_too(self, out: io.StringIO) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=False)
            logging.captureWarnings(capture=True)
            warnings.warn("careful", UserWarning, stacklevel=1)
        assert "careful" in line(out)["event"]


class TestContext:
    def test_attached_fields_are_made_when_something_is_logged(self, out: io.StringIO) -> None:
        made = []

        def fields() -> dict[str, object]:
            made.append(1)
            return {"job_id": 7}

        attach(fields)
        try:
            assert made == []
            log.info("in_job")
            with bind(stage="upload"):
                log.info("in_stage")
        finally:
            detach()
        log.info("after")
        inside, staged, after = lines(out)
        assert inside["job_id"] == staged["job_id"] == 7
        assert staged["stage"] == "upload"
        assert "job_id" not in after

    def test_bound_fields_are_added_and_taken_back(self, out: io.StringIO) -> None:
        with bind(queue="q", job_id=1):
            log.info("outer")
            with bind(job_id=2, attempt=1):
                log.info("inner", attempt=9)
            log.info("outer")
        log.info("outside")
        seen = [{key: entry.get(key) for key in ("queue", "job_id", "attempt")} for entry in lines(out)]
        assert seen == [
            {"queue": "q", "job_id": 1, "attempt": None},
            {"queue": "q", "job_id": 2, "attempt": 9},
            {"queue": "q", "job_id": 1, "attempt": None},
            {"queue": None, "job_id": None, "attempt": None},
        ]

    def test_threads_do_not_share_them_unless_given_a_copy(self, out: io.StringIO) -> None:
        with bind(job_id=1):
            context = copy_context()
            for target in (lambda: log.info("bare"), lambda: context.run(log.info, "copied")):
                thread = threading.Thread(target=target)
                thread.start()
                thread.join()
        assert [(entry["event"], entry.get("job_id")) for entry in lines(out)] == [("bare", None), ("copied", 1)]


class TestSecrecy:
    def test_no_part_of_a_line_holds_a_secret(self, out: io.StringIO) -> None:
        event = f"event {CANARY}"

        def fail() -> None:
            raise ValueError(f"connecting with {CANARY}")

        with bind(queue=CANARY):
            try:
                fail()
            except ValueError as error:
                log.exception(event, value=CANARY, nested={CANARY: [CANARY]}, problem=error)
            logging.getLogger("library").warning("to %s", CANARY)
        assert CANARY not in out.getvalue()
        assert len(lines(out)) == 2
        assert lines(out)[0]["nested"] == {"***": ["***"]}

    def test_fields_whose_name_says_so_are_hidden(self, out: io.StringIO) -> None:
        log.info(
            "named",
            password="abc",
            authorization="abc",
            b2_app_key="abc",
            headers={"Cookie": "abc", "x-webhook-secret": ["abc"], "Accept": "text"},
            api_key=123456,
            lease_token="0e98",
            source_key="a.jpg",
        )
        entry = line(out)
        assert "abc" not in out.getvalue()
        assert "123456" not in out.getvalue()
        assert entry["headers"] == {"Cookie": "***", "x-webhook-secret": "***", "Accept": "text"}
        assert entry["lease_token"] == "0e98"
        assert entry["source_key"] == "a.jpg"

    def test_a_secret_at_the_cut_is_not_cut_in_half(self, out: io.StringIO) -> None:
        log.info("long", text="x" * (FIELD_LIMIT - 6) + CANARY + "y" * FIELD_LIMIT)
        assert "canary" not in out.getvalue()

    @pytest.mark.parametrize("style", ["json", "text"])
    def test_when_redaction_fails_nothing_of_the_line_is_written(self, style: Any) -> None:
        class Broken(Redactor):
            def redact(self, text: str) -> str:
                raise RuntimeError("no memory")

        stream = io.StringIO()
        configure_logging("info", style, Broken(), stream)
        log.info("event", value=CANARY)
        assert "log_line_dropped" in stream.getvalue()
        assert CANARY not in stream.getvalue()
        if style == "json":
            assert line(stream)["level"] == "error"


class TestNeverInTheWay:
    def test_a_closed_stream_costs_the_line_and_nothing_else(
        self, out: io.StringIO, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out.close()
        log.info("lost", value=CANARY)
        assert capsys.readouterr() == ("", "")

    def test_a_mapping_that_cannot_be_read_costs_the_line(self, out: io.StringIO) -> None:
        class Faulty(dict[str, object]):
            def items(self) -> Any:
                raise RuntimeError

        log.info("lost", value=Faulty())
        assert line(out)["event"] == "log_line_dropped"

    def test_configuring_again_replaces_the_own_handler_and_no_other(self, out: io.StringIO) -> None:
        foreign = logging.NullHandler()
        logging.getLogger().addHandler(foreign)
        second = io.StringIO()
        configure_logging("info", "json", Redactor(), second)
        log.info("once")
        assert out.getvalue() == ""
        assert line(second)["event"] == "once"
        assert foreign in logging.getLogger().handlers

    def test_standard_output_is_the_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logging("info", "json", Redactor())
        log.info("to_stdout")
        assert json.loads(capsys.readouterr().out)["event"] == "to_stdout"


class TestUncaught:
    @pytest.fixture(autouse=True)
    def _hooks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.setattr(threading, "excepthook", threading.excepthook)
        log_uncaught_exceptions()

    def test_of_a_thread(self, out: io.StringIO) -> None:
        def fail() -> None:
            raise ValueError(CANARY)

        thread = threading.Thread(target=fail, name="loop")
        thread.start()
        thread.join()
        entry = line(out)
        assert (entry["event"], entry["thread"], entry["error"]) == ("uncaught_exception", "loop", "ValueError: ***")
        assert CANARY not in out.getvalue()

    def test_of_the_process(self, out: io.StringIO) -> None:
        error = ValueError(CANARY)
        sys.excepthook(ValueError, error, None)
        assert line(out)["error"] == "ValueError: ***"


class TestText:
    def configured(self, *, terminal: bool = False) -> io.StringIO:
        stream = io.StringIO()
        if terminal:
            stream.isatty = lambda: True  # type: ignore[method-assign]
        configure_logging("info", "text", Redactor([CANARY]), stream)
        return stream

    def test_a_line_reads_well(self) -> None:
        stream = self.configured()
        log.info("job_finished", queue="publish_jobs", attempt=1, error="no such file", empty="", secret_thing=CANARY)
        assert re.fullmatch(
            r'\d\d:\d\d:\d\d\.\d{3} INFO    job_finished queue=publish_jobs attempt=1 error="no such file" empty="" '
            r"secret_thing=\*\*\*\n",
            stream.getvalue(),
        )

    def test_a_person_needs_no_former_name(self) -> None:
        stream = self.configured()
        log.info("artifact_ready", files=3)
        assert stream.getvalue().endswith(" artifact_ready files=3\n")

    def test_nothing_in_it_can_move_the_cursor_or_begin_a_line(self) -> None:
        stream = self.configured()
        log.info("red\x1b[31m\nINFO fake", name="a\rb\u202ec")
        assert stream.getvalue().count("\n") == 1
        assert not set("\x1b\r\u202e") & set(stream.getvalue())

    def test_the_stack_stands_below(self) -> None:
        stream = self.configured()
        try:
            raise ValueError
        except ValueError:
            log.exception("failed")
        first, *rest = stream.getvalue().splitlines()
        assert "failed error=ValueError" in first
        assert rest[0] == "    Traceback (most recent call last):"
        assert all(row.startswith("    ") for row in rest)

    def test_colours_are_for_terminals(self) -> None:
        plain, coloured = self.configured(), self.configured(terminal=True)
        log.warning("careful")
        assert plain.getvalue() == ""
        assert coloured.getvalue().startswith("\x1b[33m")

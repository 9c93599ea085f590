"""The guide to middleware, run as it is written, with the SDKs that it is about."""

from __future__ import annotations

import json
import re
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.transport import Transport
from tests.structure.helpers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentry_sdk.envelope import Envelope
    from tests.kernel.helpers import Rig

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Kept(Transport):
    """Keeps what would be sent to Sentry."""

    events: list[dict[str, Any]]

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.events = []

    def capture_envelope(self, envelope: Envelope) -> None:
        if event := envelope.get_event():
            self.events.append(json.loads(json.dumps(event, default=str)))


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """What the tracer of this process exports; a process has one."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def sentry() -> Iterator[Kept]:
    kept = Kept()
    # Its integrations change libraries of the process for good, and with them the other tests.
    bare: dict[str, Any] = {"default_integrations": False, "auto_enabling_integrations": False}
    sentry_sdk.init("https://public@sentry.invalid/1", transport=kept, **bare)
    yield kept
    sentry_sdk.init(**bare)


@pytest.fixture
def guide(exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program that the guide's blocks are."""
    text = (ROOT / "docs/how-to/middleware.md").read_text()
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    module = ModuleType("guide_to_middleware")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(program, "middleware.md", "exec"), vars(module))
    exporter.clear()
    return module


def test_the_guide_traces_and_reports_each_attempt(
    rig: Rig, guide: ModuleType, exporter: InMemorySpanExporter, sentry: Kept
) -> None:
    rig.sql.execute(b"ALTER TABLE invoices ADD COLUMN traceparent text")
    rig.insert(1, "invoices", customer="Ada", traceparent=TRACEPARENT)
    rig.insert(1, "invoices", customer="")
    rig.insert(kind="remind", payload=json.dumps({"customer": "Ada", "traceparent": TRACEPARENT}))
    rig.insert(kind="remind")
    rig.unstarted(*guide.app.queues(), concurrency=1).run_once(20.0)

    assert rig.rows("SELECT status, error_message FROM invoices ORDER BY id") == [
        ("completed", None),
        ("pending", "ValueError: an invoice to nobody"),
    ]
    assert rig.rows("SELECT status, error_message FROM jobs ORDER BY id") == [
        ("completed", None),
        ("failed", "a reminder to nobody"),
    ]
    spans = [
        (span.name, f"{span.context.trace_id:032x}" == TRACE, span.status.description)
        for span in exporter.get_finished_spans()
    ]
    assert sorted(spans, key=str) == [
        ("process invoices", False, "ValueError"),
        ("process invoices", True, None),
        ("process remind", False, "Permanent"),
        ("process remind", True, None),
    ]
    told = {event["tags"]["queue"]: event for event in sentry.events}
    assert {queue: event["exception"]["values"][-1]["type"] for queue, event in told.items()} == {
        "invoices": "ValueError",
        "jobs": "Permanent",
    }
    assert told["invoices"]["contexts"]["job"] == {"id": "2", "attempt": 1}
    assert guide.tenant.get() == ""

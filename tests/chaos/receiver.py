"""The receiver of webhooks: verifies each call with nothing but the specification, and counts what it was told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter

from tests.chaos.work import SECRET
from tests.faults.weather import Answer, Request

# Seconds that a call's timestamp may be off: the specification's advice to receivers is five minutes.
_TOLERANCE = 300


class Receiver:
    """Answers calls at `/first` and `/second`; `told` counts them by path and event, `refused` says what was wrong with others."""

    def __init__(self) -> None:
        self.told: Counter[tuple[str, str]] = Counter()
        self.refused: list[str] = []
        self.ids: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def respond(self, request: Request) -> Answer:
        wrong = self._judge(request)
        if wrong is not None:
            with self._lock:
                self.refused.append(wrong)
            return Answer(400, wrong.encode())
        return Answer(204)

    def _judge(self, request: Request) -> str | None:
        id_, timestamp = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        digest = hmac.new(key, f"{id_}.{timestamp}.".encode() + request.body, hashlib.sha256).digest()
        if f"v1,{base64.b64encode(digest).decode()}" not in request.headers.get("webhook-signature", "").split():
            return f"delivery {id_} has a wrong signature"
        if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > _TOLERANCE:
            return f"delivery {id_} has the timestamp {timestamp!r}"
        path, event = request.target.lstrip("/"), str(json.loads(request.body)["entity_id"])
        with self._lock:
            if self.ids.setdefault(id_, (path, event)) != (path, event):
                return f"delivery {id_} was made for {self.ids[id_]} and for {path, event}"
            self.told[path, event] += 1
        return None

"""python next.py LIBRARY: reads [[expression, zone, after, count], ...] as JSON; writes the ticks of each, or null where it refuses."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo


def croniter(expression: str, zone: str, after: str, count: int) -> list[Any]:
    ticks = import_module("croniter").croniter(expression, datetime.fromisoformat(after).astimezone(ZoneInfo(zone)))
    return [ticks.get_next(datetime) for _ in range(count)]


def cronsim(expression: str, zone: str, after: str, count: int) -> list[Any]:
    ticks = import_module("cronsim").CronSim(expression, datetime.fromisoformat(after).astimezone(ZoneInfo(zone)))
    return [next(ticks) for _ in range(count)]


def apscheduler(expression: str, zone: str, after: str, count: int) -> list[Any]:
    trigger = import_module("apscheduler.triggers.cron").CronTrigger.from_crontab(expression, timezone=ZoneInfo(zone))
    found: list[Any] = []
    last = datetime.fromisoformat(after).astimezone(ZoneInfo(zone))
    for _ in range(count):
        # Given the last tick, it looks for one that is later.
        last = trigger.get_next_fire_time(last, last)
        found.append(last)
    return found


if __name__ == "__main__":
    library = {"croniter": croniter, "cronsim": cronsim, "APScheduler": apscheduler}[sys.argv[1]]
    answers: list[list[str] | None] = []
    for expression, zone, after, count in json.load(sys.stdin):
        try:
            ticks = library(expression, zone, after, count)
            answers.append([tick.astimezone(UTC).isoformat() for tick in ticks])
        except Exception:  # noqa: BLE001 - however it refuses
            answers.append(None)
    print(json.dumps(answers))

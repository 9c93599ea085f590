from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.support.waiting import eventually

from jobqueue.demo.worker_log import Finished, WorkerLog

if TYPE_CHECKING:
    from pathlib import Path


def test_it_takes_the_last_line_of_each_job(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    log = WorkerLog(os.fdopen(reader, "rb"), tmp_path / "worker.log")
    line = {"event": "job_finished", "job_id": "a", "outcome": "retried", "duration_ms": 5, "stages": {"download": 5}}
    last = line | {"outcome": "completed", "duration_ms": 7.5, "stages": {"decode": 3.5}}
    said = [json.dumps(line), "not JSON", "[]", json.dumps({"event": "else", "job_id": "b"}), json.dumps(last)]
    os.write(writer, "\n".join(said).encode() + b"\n")

    expected = {"a": Finished("completed", 7.5, {"decode": 3.5})}
    eventually(lambda: log.finished(["a"], 0) == expected)
    assert log.finished(["a", "never"], 0.01) == expected
    os.write(writer, b"Traceback: the last words")
    os.close(writer)
    log.close()
    assert log.tail().splitlines()[-1] == "Traceback: the last words"
    assert (tmp_path / "worker.log").read_text().splitlines()[: len(said)] == said

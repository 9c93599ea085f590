"""The Cloudflare Worker of deploy/ against a real server, run by Node where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.http_server import FaultyServer, reply

if TYPE_CHECKING:
    from tests.support.http_server import Answer

NODE = shutil.which("node")
SCRIPT = Path(__file__).parents[2] / "deploy" / "cloudflare-worker" / "worker.js"

pytestmark = [pytest.mark.servers, pytest.mark.skipif(NODE is None, reason="there is no Node to run it with")]

STARTED = reply(200, b'{"status": "started"}')


def call(folder: Path, code: str, *answers: Answer) -> tuple[subprocess.CompletedProcess[str], FaultyServer]:
    """Run `code`, which may use `run` and `worker` and ends by printing, against a server that gives these answers."""
    (folder / "worker.mjs").write_text(SCRIPT.read_text())
    with FaultyServer(*answers) as server:
        head = 'import worker, { run } from "./worker.mjs"; const none = async () => {};'
        head += f'const env = {{ JOBQUEUE_URL: "{server.url}", CRON_JOB_API_KEY: "canary-key" }};'
        (folder / "main.mjs").write_text(f"{head}\n{code}\n")
        assert NODE is not None
        done = subprocess.run([NODE, "main.mjs"], cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    return done, server


def test_calls_with_the_key(tmp_path: Path) -> None:
    done, server = call(tmp_path, 'console.log(await run("data-archival", env, none));', STARTED)
    assert done.stdout.strip() == "started", done.stderr
    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/cron/data-archival")
    assert request.headers["authorization"] == "Bearer canary-key"


def test_calls_again_what_got_no_good_answer(tmp_path: Path) -> None:
    done, server = call(tmp_path, 'console.log(await run("a", env, none));', reply(503), reply(429), STARTED)
    assert done.stdout.strip() == "started", done.stderr
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "calls"), [(401, 1), (404, 1), (503, 4)])
def test_gives_up_and_says_why(tmp_path: Path, status: int, calls: int) -> None:
    code = 'await run("a", env, none).catch((error) => console.log(error.message));'
    done, server = call(tmp_path, code, reply(status))
    assert done.stdout.strip() == f"a: answered {status}"
    assert len(server.requests) == calls
    assert "canary" not in done.stdout + done.stderr


def test_a_trigger_runs_its_schedules(tmp_path: Path) -> None:
    code = """
    const waits = [];
    await worker.scheduled({ cron: "*/5 * * * *" }, env, { waitUntil: (promise) => waits.push(promise) });
    await worker.scheduled({ cron: "1 2 3 4 5" }, env, { waitUntil: (promise) => waits.push(promise) });
    await Promise.all(waits);
    """
    done, server = call(tmp_path, code, STARTED)
    assert done.returncode == 0, done.stderr
    assert {request.target for request in server.requests} == {"/cron/webhook-retry", "/cron/notification-expiry"}

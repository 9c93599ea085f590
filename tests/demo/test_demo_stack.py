from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from tests.demo.test_embedded_postgres import alive

import jobqueue
from jobqueue.demo.demo_stack import Stack

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
from jobqueue.demo.demo_stack import Stack, stopping_in_order
with stopping_in_order(), Stack(Path(sys.argv[1])) as stack:
    print(stack.postgres.pid, stack.folder, flush=True)
    sys.stdin.read()
    raise RuntimeError("the end of input is not a signal")
"""


def test_the_environment_is_what_a_worker_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_DIRECT_URL", "postgresql://production")
    monkeypatch.setenv("PGHOST", "production")
    monkeypatch.setenv("HTTPS_PROXY", "http://production:3128")
    (tmp_path / "picture").write_bytes(b"bytes")
    with Stack(tmp_path) as stack:
        folder = stack.folder
        environment = stack.environment()
        assert not any("production" in value for value in environment.values())
        with psycopg.connect(environment["DATABASE_URL"]) as connection:
            connection.execute("SELECT 1")
        origin = urlsplit(environment["RAID_PUB_ENDPOINT"])
        link = http.client.HTTPConnection(str(origin.hostname), origin.port, timeout=5)
        link.request(
            "GET",
            f"{origin.path}?key=picture",
            headers={"Authorization": f"Bearer {environment['RAID_PUBLISHER_SECRET']}"},
        )
        assert link.getresponse().read() == b"bytes"
        link.close()
    assert not folder.exists()


@pytest.mark.extended
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    source = Path(jobqueue.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pid, folder = process.stdout.readline().split()
        process.send_signal(number)
        complaint = process.stderr.read()
        process.wait(30)
    assert "RuntimeError" not in complaint
    assert process.returncode in {-number, 128 + number}
    assert not alive(int(pid))
    assert not Path(folder).exists()


def test_a_server_that_does_not_start_takes_the_others_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path)

    def fail() -> None:
        stack.origin.start()
        raise OSError("no more")

    monkeypatch.setattr(stack, "_start_serving", fail)
    with pytest.raises(OSError, match="no more"), stack:
        pass
    assert not stack.postgres.running
    assert not stack.folder.exists()

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.demo.test_embedded_postgres import alive, as_root

from jobqueue.demo import leash as module
from jobqueue.demo.launch import free_port, launch
from jobqueue.demo.leash import Leash, ServerError, can_run, reachable_folder, unprivileged_user

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.faults

STUBBORN = "trap '' TERM; echo $$; while :; do sleep 0.1; done"


def shell(script: str, **options: object) -> Leash:
    return Leash(["/bin/sh", "-c", script], log=None, **options)  # type: ignore[arg-type]


def test_the_exit_code_is_the_commands() -> None:
    process = shell("echo said; exit 7")
    with process.stdout as output:
        assert output.read() == b"said\n"
    assert process.wait(10) == 7
    assert not process.running


def test_signals_reach_the_command() -> None:
    process = shell("trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.05; done")
    with process.stdout as output:
        assert output.readline() == b"ready\n"
        process.send(signal.SIGUSR1)
        assert output.readline() == b"caught\n"
    assert process.wait(10) == 3


def test_death_by_a_signal_is_128_and_its_number() -> None:
    process = shell("echo ready; exec sleep 60")
    with process.stdout as output:
        output.readline()
        assert process.stop(timeout=10) == 128 + signal.SIGTERM


def test_a_signal_right_after_the_start_is_not_lost() -> None:
    for _ in range(5):
        process = shell("exec sleep 60")
        with process.stdout:
            began = time.monotonic()
            process.stop(timeout=20)
            assert time.monotonic() - began < 15


def test_a_command_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.2)
    process = shell(STUBBORN)
    with process.stdout as output:
        pid = int(output.readline())
        assert process.stop(timeout=0.1) == 128 + signal.SIGKILL
    assert not alive(pid)


def test_a_program_that_is_not_there_is_named_in_the_log(tmp_path: Path) -> None:
    process = Leash(["/no/such/program"], log=tmp_path / "log")
    assert process.wait(10) == 127
    assert "cannot run /no/such/program" in (tmp_path / "log").read_text()


@as_root
def test_root_can_become_nobody_and_keeps_nothing() -> None:
    user = unprivileged_user()
    assert user is not None
    process = shell("id -u; id -G; test -r /etc/shadow || echo refused", user=user)
    with process.stdout as output:
        assert output.read().split() == [str(user.uid).encode(), str(user.gid).encode(), b"refused"]
    assert process.wait(10) == 0
    folder = reachable_folder("jobqueue-test-", user)
    assert can_run(["test", "-x", folder], user)
    folder.chmod(0o700)
    assert not can_run(["test", "-x", folder], user)
    folder.rmdir()


def test_a_server_that_never_answers_is_stopped_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ServerError, match=r"the silent one was not ready after 2 s(.|\n)*nothing to say"):
        launch(
            "the silent one",
            lambda _: Leash(["/bin/sh", "-c", "echo $$ nothing to say; exec sleep 60"], log=log),
            lambda _: False,
            log=log,
            port=None,
            timeout=1.6,
        )
    assert not alive(int(log.read_text().split()[0]))


def test_free_ports_lie_below_the_ranges_of_outgoing_connections() -> None:
    ports = {free_port() for _ in range(20)}
    assert len(ports) > 10
    assert all(15_000 <= port < 32_000 for port in ports)

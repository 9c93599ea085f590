from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import pytest
from tests.support.waiting import Stopwatch

from jobqueue.observe.systemd import SystemdNotifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What systemd is to us: a bound datagram socket, and the way it is written in NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@jobqueue-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        receiver.settimeout(5)
        yield name, receiver


def test_each_state_is_one_datagram(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
    assert notifier.ready("3 free")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=3 free"
    assert notifier.status("2 running\n1 free")
    assert receiver.recv(4096) == b"STATUS=2 running 1 free"
    assert notifier.watchdog()
    assert receiver.recv(4096) == b"WATCHDOG=1"
    assert notifier.stopping()
    assert receiver.recv(4096) == b"STOPPING=1"
    assert notifier.extend_timeout(15)
    assert receiver.recv(4096) == b"EXTEND_TIMEOUT_USEC=15000000"


def test_the_process_environment_is_the_default(
    manager: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, receiver = manager
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert SystemdNotifier().ready()
    assert receiver.recv(4096) == b"READY=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "@"])
def test_without_a_socket_nothing_happens(address: str) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert notifier.watchdog_interval is None


def test_a_manager_that_is_gone_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = SystemdNotifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert not notifier.ready()
    assert not notifier.watchdog()
    assert [record.message for record in caplog.records] == ["systemd_notify_failed"]


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name)
        notifier = SystemdNotifier({"NOTIFY_SOCKET": name})
        with Stopwatch() as idle:
            assert not all(notifier.watchdog() for _ in range(100_000))
        assert idle.seconds < 1


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time(variables: dict[str, str], interval: float | None) -> None:
    assert SystemdNotifier({"NOTIFY_SOCKET": "@any", **variables}).watchdog_interval == interval

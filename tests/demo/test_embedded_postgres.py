from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.support.waiting import eventually

import jobqueue
from jobqueue.demo import embedded_postgres as module
from jobqueue.demo import launch as launching
from jobqueue.demo.embedded_postgres import Postgres
from jobqueue.demo.leash import ServerError, can_run, reachable_folder, unprivileged_user

pytestmark = [pytest.mark.slow, pytest.mark.faults]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def one_value(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and that nobody has reaped yet does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_it_is_durable_and_takes_a_password_on_loopback_only(server_folder: Path) -> None:
    with Postgres(server_folder / "durable") as postgres:
        settings = {
            name: one_value(postgres.dsn, f"SELECT current_setting('{name}')")
            for name in ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "max_connections")
        }
        assert settings == {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "127.0.0.1",
            "max_connections": "200",
        }
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=postgres.port, user="postgres", password="wrong")


def test_each_test_has_a_database_of_its_own(database: str, postgres: Postgres) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE TABLE mine (id int)")
    copied_from = str(one_value(database, "SELECT current_database()"))
    copy = postgres.create_database("copy_of_mine", template=copied_from)
    assert one_value(copy, "SELECT to_regclass('mine')::text") == "mine"
    with psycopg.connect(copy) as lingering:
        postgres.drop_database("copy_of_mine")
        with pytest.raises(psycopg.OperationalError):
            lingering.execute("SELECT 1")


@pytest.mark.extended
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_data_and_address_survive_a_restart(server_folder: Path, mode: module.StopMode) -> None:
    with Postgres(server_folder / f"restart-{mode}") as server:
        dsn, first = server.dsn, server.pid
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS n")
        server.stop(mode)
        assert not server.running
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)
        server.start()
        assert server.dsn == dsn
        assert server.pid != first
        assert one_value(dsn, "SELECT n FROM kept") == 42


def test_a_server_that_cannot_start_says_why(server_folder: Path) -> None:
    server = Postgres(server_folder / "misconfigured", settings={"shared_buffers": "nonsense"})
    with pytest.raises(ServerError, match='invalid value for parameter "shared_buffers"'):
        server.start()
    assert not server.running
    server.close()


def test_another_servers_data_are_left_alone(postgres: Postgres, server_folder: Path) -> None:
    with pytest.raises(ServerError, match="holds the data of another server"):
        Postgres(server_folder / "postgres").start()
    assert one_value(postgres.dsn, "SELECT 1") == 1


@pytest.mark.extended
def test_a_taken_port_is_left_for_another(
    postgres: Postgres, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = iter([postgres.port, postgres.port])
    real = launching.free_port
    monkeypatch.setattr(launching, "free_port", lambda: next(offered, None) or real())
    with Postgres(server_folder / "clash") as server:
        assert server.port != postgres.port
        assert one_value(server.dsn, "SELECT 1") == 1
    assert next(offered, None) is None


@pytest.mark.extended
@as_root
def test_root_may_keep_the_data_in_a_private_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "deeper").mkdir(mode=0o700)
    with Postgres(tmp_path / "deeper" / "postgres") as server:
        data = Path(str(one_value(server.dsn, "SHOW data_directory")))
        assert data.stat().st_uid == unprivileged_user().uid  # type: ignore[union-attr]
        assert data.stat().st_mode & 0o777 == 0o700
        server.restart()
        assert data.exists()
    assert not data.parent.exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.extended
@as_root
def test_root_may_keep_the_programs_in_a_private_folder(
    tmp_path: Path, server_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = module.install_prefix().parent
    private = tmp_path / "site-packages"
    private.mkdir(mode=0o700)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        (private / folder.name).symlink_to(folder)
    hidden = private / package.name / "pginstall18"
    monkeypatch.setattr(module, "install_prefix", lambda: hidden)
    with Postgres(server_folder / "private-programs") as server:
        assert one_value(server.dsn, "SELECT 1") == 1
        program = Path(f"/proc/{server.pid}/exe").readlink()
        assert program.is_relative_to(server_folder)


KEEPER = """
import sys, threading
from pathlib import Path
from jobqueue.demo.embedded_postgres import Postgres
server = Postgres(Path(sys.argv[1]))
starter = threading.Thread(target=server.start)  # which ends, and must not take the server with it
starter.start(); starter.join()
print(server.pid, server.dsn, flush=True)
sys.stdin.read()
server.close()
"""


def keeper(python: str, folder: Path, **arguments: object) -> subprocess.Popen[str]:
    paths = [Path(jobqueue.__file__).parents[1], Path(psycopg.__file__).parents[1]]
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [python, "-c", KEEPER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, paths))},
        **arguments,
    )


def test_a_killed_owner_leaves_no_process(server_folder: Path) -> None:
    with keeper(sys.executable, server_folder / "orphan") as owner:
        assert owner.stdout is not None
        pid, dsn = owner.stdout.readline().split()
        assert one_value(dsn, "SELECT 1") == 1
        owner.kill()
    eventually(lambda: not alive(int(pid)), 10)
    assert "received immediate shutdown request" in (server_folder / "orphan" / "postgres.log").read_text()


@pytest.mark.extended
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_killed_leash_leaves_no_process(server_folder: Path) -> None:
    server = Postgres(server_folder / "unleashed")
    server.start()
    pid = server.pid
    leash = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(leash, signal.SIGKILL)
    eventually(lambda: not server.running, 10)
    eventually(lambda: not alive(pid), 10)
    server.close()


@pytest.mark.extended
@as_root
def test_an_ordinary_user_can_run_it() -> None:
    user = unprivileged_user()
    assert user is not None
    candidates = [sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"]
    usable = [python for python in candidates if can_run([python, "-c", ""], user)]
    if not usable or not can_run(["test", "-r", module.__file__], user):
        pytest.skip("no Python of this version, or not this project, within an unprivileged user's reach")
    folder = reachable_folder("jobqueue-user-", user)
    os.chown(folder, user.uid, user.gid)
    try:
        with keeper(usable[0], folder / "server", user=user.uid, group=user.gid, extra_groups=[], cwd="/") as owner:
            assert owner.stdout is not None
            pid, dsn = owner.stdout.readline().split()
            assert one_value(dsn, "SELECT count(*) FROM pg_stat_file('base')") == 1
            assert Path(f"/proc/{pid}").stat().st_uid == user.uid
        assert owner.returncode == 0
        assert not alive(int(pid))
    finally:
        shutil.rmtree(folder)

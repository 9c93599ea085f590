"""What is said of a database that cannot be worked with: nothing is read into it that the server did not say."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobqueue.database_absence import absence, refusal
from jobqueue.database_session import connect
from jobqueue.demo.launch import HOST, free_port


def failure(conninfo: str) -> psycopg.OperationalError:
    with pytest.raises(psycopg.OperationalError) as failed:
        connect(conninfo, "test", connect_timeout=5)
    return failed.value


def test_who_is_refused_is_told_from_a_server_that_is_away(database: str) -> None:
    with pytest.raises(psycopg.OperationalError) as wrong:
        connect(make_conninfo(database, password="canary"), "test")
    said = refusal(wrong.value) or ""
    assert said.startswith("password authentication failed for user")
    assert "canary" not in said
    with pytest.raises(psycopg.OperationalError) as away:
        connect(make_conninfo(database, port="1"), "test")
    assert refusal(away.value) is None
    with pytest.raises(psycopg.OperationalError) as missing:
        connect(make_conninfo(database, dbname="none_such"), "test")
    assert refusal(missing.value) is None


def test_one_of_several_servers_that_refuses_us_is_no_refusal(database: str) -> None:
    """The other one, which is away, may be the one to ask."""
    port = conninfo_to_dict(database)["port"]
    both = {"host": f"{HOST},{HOST}", "password": "canary"}
    one = failure(make_conninfo(database, **both, port=f"{free_port()},{port}"))
    assert refusal(one) is None
    assert absence(one) == "the database does not answer"
    assert refusal(failure(make_conninfo(database, **both, port=f"{port},{port}"))) is not None


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("FATAL:  the database system is starting up", "the database system is starting up"),
        ("FATAL:  the database system is shutting down", "the database system is shutting down"),
        (
            "FATAL:  the database system is not accepting connections\nDETAIL:  Hot standby mode is disabled.",
            "the database system is not accepting connections",
        ),
        ("FATAL:  the database system of postgres://u:canary@h is odd", "the database does not answer"),
        ("connection to server at 10.0.0.1 failed: Connection refused", "the database does not answer"),
        (
            "connection to server at 10.0.0.1 failed: session is read-only",
            "no server of DATABASE_URL takes writes: those that answer are read-only (standbys)",
        ),
        (
            "connection to server at 10.0.0.1 failed: server is in hot standby mode",
            "no server of DATABASE_URL takes writes: those that answer are read-only (standbys)",
        ),
    ],
)
def test_what_a_server_says_of_itself_is_passed_on(said: str, meaning: str) -> None:
    assert absence(psycopg.OperationalError(said)) == meaning

"""Checks of the PostgreSQL server and of the way to it."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

import psycopg

from jobqueue.database_absence import refusal
from jobqueue.database_session import connect
from jobqueue.doctor.checkup import Checkup, Verdict, fail, warn, well

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST: Final = 14

# Connections that a process may hold at once: loops, schedules and handlers.
_WANTED: Final = 14

# Seconds for which a notification is waited for.
_PATIENCE: Final = 3.0

# Settings of a server, the value that harms, what it does, and the statement that mends it.
_HARMFUL: Final = (
    ("autovacuum", "off", "dead rows are never removed, and every claim gets slower"),
    ("track_counts", "off", "autovacuum does not know where dead rows are, and removes none"),
    ("fsync", "off", "a crash of the machine may destroy the database"),
    ("full_page_writes", "off", "a crash of the machine may destroy the database"),
)

_SETTINGS: Final = b"SELECT name, setting FROM pg_settings WHERE name = ANY (%(names)s)"

_ROLE: Final = b"SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user"

_ROOM: Final = b"""
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - count(*)::int, current_setting('max_connections')::int
FROM pg_stat_activity WHERE backend_type = 'client backend'"""

# What keeps dead rows of this database from being removed: transactions, prepared ones, and replication slots.
_OLDEST_SNAPSHOT: Final = b"""
SELECT what, remedy, extract(epoch FROM age)::float8 FROM (
    SELECT format('pid %%s (%%s, %%s)', pid, usename, coalesce(nullif(application_name, ''), 'no name')),
           format('SELECT pg_terminate_backend(%%s);', pid), clock_timestamp() - xact_start
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    UNION ALL
    SELECT format('the prepared transaction %%s', gid), format('ROLLBACK PREPARED %%L;', gid), clock_timestamp() - prepared
    FROM pg_prepared_xacts WHERE database = current_database()) AS open (what, remedy, age)
WHERE age > make_interval(secs => %(seconds)s)
ORDER BY age DESC LIMIT 1"""

_SEES_OTHERS: Final = b"SELECT pg_has_role('pg_read_all_stats', 'USAGE')"

_IDENTITY: Final = (
    b"SELECT pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def database(checkup: Checkup) -> Verdict:
    """The database lets us in."""
    try:
        checkup.connection = connect(checkup.settings.conninfo, "doctor")
    except psycopg.OperationalError as error:
        return _closed("DATABASE_URL", error)
    checkup.facts.add("database")
    info = checkup.connection.info
    return well(f"database {info.dbname} as {info.user}, {info.host}:{info.port}")


def encryption(checkup: Checkup) -> Verdict:
    """Passwords and rows do not cross a network in clear."""
    connection = checkup.connection
    if connection.pgconn.ssl_in_use:
        mode = psycopg.conninfo.conninfo_to_dict(checkup.settings.conninfo).get("sslmode")
        checked = "and verified" if mode == "verify-full" else "not verified, which sslmode=verify-full would do"
        return well(f"encrypted; the server's certificate is {checked}")
    if _is_local(connection.info.hostaddr):
        return well("the server is on this machine")
    return warn(f"the connection to {connection.info.host} is not encrypted", "add sslmode=verify-full to DATABASE_URL")


def version(checkup: Checkup) -> Verdict:
    """The server is one that we know."""
    major, minor = divmod(checkup.connection.info.server_version, 10_000)
    if major < _OLDEST:
        return fail(f"PostgreSQL {major} is too old", f"upgrade the server to {_OLDEST} or later")
    return well(f"PostgreSQL {major}.{minor}")


def writable(checkup: Checkup) -> Verdict:
    """The database can be written to."""
    [(recovering, read_only)] = checkup.rows(
        b"SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'"
    )
    if recovering:
        return fail("DATABASE_URL leads to a replica, which cannot be written to", "set it to the primary")
    if read_only:
        return fail(
            "every transaction is read-only: default_transaction_read_only is on",
            "ALTER ROLE … RESET default_transaction_read_only, or the same of the database; a full disk may be why it was set",
        )
    return well("the database can be written to")


def role(checkup: Checkup) -> Verdict:
    """The role may do no more than it needs."""
    [(name, superuser)] = checkup.rows(_ROLE)
    if superuser:
        return warn(
            f"the role {name} is a superuser",
            "give the worker a role of its own: `jobqueue roles --apply` makes jobqueue_worker",
        )
    return well(f"the role {name} is no superuser")


def server_settings(checkup: Checkup) -> Iterator[Verdict]:
    """No setting of the server harms the database or us."""
    harm = {(name, value): what for name, value, what in _HARMFUL}
    found = dict(checkup.rows(_SETTINGS, names=[*(name for name, _, _ in _HARMFUL), "session_replication_role"]))
    if found.get("session_replication_role", "origin") != "origin":
        yield fail(
            f"session_replication_role is {found['session_replication_role']}: no trigger of a queue fires",
            "ALTER ROLE … RESET session_replication_role",
        )
    bad = [(name, value) for name, value in sorted(found.items()) if (name, value) in harm]
    for name, value in bad:
        yield warn(f"{name} is {value}: {harm[name, value]}", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();")
    if not bad:
        yield well("no setting of the server is in the way")


def pooler(checkup: Checkup) -> Verdict:
    """Behind a transaction pooler there is a direct connection, too."""
    if checkup.connection.ours:
        return well("DATABASE_URL leads to sessions of our own")
    if not checkup.settings.pooled:
        return warn(
            "DATABASE_URL leads through a transaction pooler: nothing wakes a worker, and a killed one's jobs wait for their leases",
            "set DATABASE_DIRECT_URL to the database itself",
        )
    return well("DATABASE_URL leads through a transaction pooler, DATABASE_DIRECT_URL past it")


def direct_connection(checkup: Checkup) -> Verdict:
    """DATABASE_DIRECT_URL leads to the same database, without a pooler, and notifications arrive on it."""
    try:
        connection = connect(checkup.settings.direct_conninfo, "doctor")
    except psycopg.OperationalError as error:
        return _closed("DATABASE_DIRECT_URL" if checkup.settings.pooled else "DATABASE_URL", error)
    with connection:
        if checkup.settings.pooled:
            if not connection.ours:
                return fail("DATABASE_DIRECT_URL leads through a transaction pooler", "set it to the database itself")
            if connection.execute(_IDENTITY).fetchone() != checkup.rows(_IDENTITY)[0]:
                return fail(
                    "DATABASE_DIRECT_URL leads to another database than DATABASE_URL", "set both to the same one"
                )
        if not connection.ours:
            return well("without a direct connection the worker polls")
        connection.execute("LISTEN jobqueue_doctor")
        connection.execute("NOTIFY jobqueue_doctor")
        if not list(connection.notifies(timeout=_PATIENCE, stop_after=1)):
            return warn(f"no notification arrived within {_PATIENCE:g} s", "look at what stands before the database")
    return well("notifications arrive")


def clock(checkup: Checkup) -> Verdict:
    """This machine and the server agree about the time."""
    before = checkup.clock()
    [(there,)] = checkup.rows(b"SELECT extract(epoch FROM clock_timestamp())::float8")
    off = there - (before + checkup.clock()) / 2
    if abs(off) > checkup.limits.clock_seconds:
        way = "behind" if off > 0 else "ahead of"
        return warn(
            f"this machine's clock is {abs(off):.0f} s {way} the database's, and stores refuse what is signed at a wrong time",
            "set it by NTP: timedatectl set-ntp true",
        )
    return well("this machine's clock and the database's agree")


def connections(checkup: Checkup) -> Verdict:
    """The server has room for a process's connections."""
    [(free, most)] = checkup.rows(_ROOM)
    if free < _WANTED:
        return warn(
            f"the server takes {free} more connections of {most}, and a process holds up to {_WANTED}",
            "raise max_connections, or set DATABASE_URL to a transaction pooler and DATABASE_DIRECT_URL to the server",
        )
    return well(f"the server takes {free} more connections")


def oldest_transaction(checkup: Checkup) -> Verdict:
    """Nobody holds a transaction open for hours, so that dead rows pile up."""
    found = checkup.rows(_OLDEST_SNAPSHOT, seconds=checkup.limits.transaction_seconds)
    for what, remedy, age in found:
        return warn(
            f"{what} has had a transaction open for {age / 3600:.1f} h: no dead row can be removed meanwhile", remedy
        )
    seen = "" if checkup.rows(_SEES_OTHERS)[0][0] else ", of the sessions that this role may see"
    return well(f"no transaction has been open for long{seen}")


def _closed(variable: str, error: psycopg.OperationalError) -> Verdict:
    if said := refusal(error):
        return fail(f"{variable} is refused by its server: {said}", f"check the role and the password of {variable}")
    return fail(
        f"the database of {variable} cannot be reached: {' '.join(str(error).split())}",
        f"check the host, the port and the name in {variable}, and that the server runs",
    )


def _is_local(address: Any) -> bool:
    return not address or ip_address(str(address)).is_loopback

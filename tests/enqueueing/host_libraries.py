"""What hosts have at hand in a transaction, of every library, each with a way to commit and to roll back."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import django
import psycopg
from django.conf import settings
from django.db.utils import ConnectionHandler
from django.utils.connection import ConnectionProxy
from psycopg.rows import dict_row
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    AtHand = Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]


@contextmanager
def psycopg_connection(dsn: str) -> AtHand:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        yield connection, connection.commit, connection.rollback


@contextmanager
def psycopg_cursor(dsn: str) -> AtHand:
    with psycopg.connect(dsn, row_factory=dict_row) as connection, connection.cursor() as cursor:
        yield cursor, connection.commit, connection.rollback


@contextmanager
def psycopg_server_cursor(dsn: str) -> AtHand:
    with psycopg.connect(dsn) as connection, connection.cursor("mine") as cursor:
        cursor.execute("SELECT 1")
        yield cursor, connection.commit, connection.rollback


@contextmanager
def sqlalchemy_connection(dsn: str) -> AtHand:
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        yield connection, connection.commit, connection.rollback
    engine.dispose()


@contextmanager
def sqlalchemy_session(dsn: str) -> AtHand:
    with sqlalchemy_connection(dsn) as (connection, _, _), Session(connection.engine) as session:
        yield session, session.commit, session.rollback


@contextmanager
def sqlalchemy_scoped_session(dsn: str) -> AtHand:
    with sqlalchemy_connection(dsn) as (connection, _, _):
        session = scoped_session(sessionmaker(connection.engine))
        yield session, session.commit, session.rollback
        session.remove()


def django_handler(dsn: str) -> Any:
    """Django's connections to one database, outside of any project."""
    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None)
        django.setup()
    info = psycopg.conninfo.conninfo_to_dict(dsn)
    place = {"NAME": info["dbname"], **{name.upper(): info[name] for name in ("user", "password", "host", "port")}}
    handler = ConnectionHandler({"default": {"ENGINE": "django.db.backends.postgresql", **place}})
    handler["default"].set_autocommit(False)
    return handler


@contextmanager
def django_connection(dsn: str) -> AtHand:
    connection = cast("Any", ConnectionProxy(django_handler(dsn), "default"))
    yield connection, connection.commit, connection.rollback
    connection.close()


@contextmanager
def django_cursor(dsn: str) -> AtHand:
    connection = django_handler(dsn)["default"]
    with connection.cursor() as cursor:
        yield cursor, connection.commit, connection.rollback
    connection.close()


SYNC = [
    django_connection,
    django_cursor,
    psycopg_connection,
    psycopg_cursor,
    psycopg_server_cursor,
    sqlalchemy_connection,
    sqlalchemy_session,
    sqlalchemy_scoped_session,
]


@asynccontextmanager
async def async_psycopg_connection(dsn: str) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(dsn, row_factory=dict_row) as connection:
        yield connection


@asynccontextmanager
async def async_psycopg_cursor(dsn: str) -> AsyncIterator[Any]:
    async with async_psycopg_connection(dsn) as connection, connection.cursor() as cursor:
        yield cursor


@asynccontextmanager
async def async_sqlalchemy_connection(dsn: str) -> AsyncIterator[Any]:
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def async_sqlalchemy_session(dsn: str) -> AsyncIterator[Any]:
    async with async_sqlalchemy_connection(dsn) as connection, AsyncSession(connection.engine) as session:
        yield session


ASYNC = [async_psycopg_connection, async_psycopg_cursor, async_sqlalchemy_connection, async_sqlalchemy_session]

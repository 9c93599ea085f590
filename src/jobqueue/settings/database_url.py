"""The database's address as the operator wrote it, with what a daemon needs to notice a dead connection."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic_core import core_schema

from jobqueue.settings.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import GetCoreSchemaHandler

# A dead peer is noticed after 5 + 3 * 5 = 20 s when the connection is idle and after 15 s when data is under way.
# No `options` here: a transaction pooler refuses start-up parameters that it does not track.
_DEFAULTS: Final[Mapping[str, str]] = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
_SHOWN: Final = ("host", "hostaddr", "port", "dbname", "user", "service", "sslmode")
_SECRET: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
_FORM: Final = "must be a libpq URL (postgresql:// or postgres://) or a key=value string"
_UNKNOWN: Final = "has an option that libpq does not know, as pgbouncer and connection_limit are; leave it out"
_ENCODE: Final = "special characters in its user name or password must be percent-encoded"


class DatabaseUrl:
    """A libpq URL or key=value string. `repr` names the place and the user, never a password."""

    __slots__ = ("_given",)

    def __init__(self, text: str) -> None:
        """Parse `text` as libpq does. Raises ValueError, without quoting a value from it, when libpq would refuse it."""
        self._given = _parse(text)

    def conninfo(self, environ: Mapping[str, str]) -> str:
        """Give the connection string to connect with, password included.

        It adds keepalives and time limits where the text says nothing, and `sslmode=require` for a host that is not local
        where neither the text nor PGSSLMODE says anything. libpq takes from `environ` what the text leaves out.
        """
        given = self._given
        added = {key: value for key, value in _DEFAULTS.items() if key not in given}
        if "PGCONNECT_TIMEOUT" in environ:
            added.pop("connect_timeout", None)
        # A service file may name the host and the mode; a mode given here would overrule it.
        if not ({"sslmode", "service"} & given.keys() or environ.get("PGSSLMODE") or self._is_local(environ)):
            added["sslmode"] = "require"
        return make_conninfo("", **given, **added)

    def secrets(self) -> tuple[str, ...]:
        """Every secret in it, each as it is and as it appears inside a URL."""
        return tuple(
            form
            for key in _SECRET
            if (value := self._given.get(key))
            for form in dict.fromkeys((value, quote(value, safe=""), quote_plus(value)))
        )

    def _is_local(self, environ: Mapping[str, str]) -> bool:
        hosts = self._given.get("hostaddr") or self._given.get("host") or environ.get("PGHOST") or ""
        return all(_is_local_host(host.strip()) for host in hosts.split(","))

    def __repr__(self) -> str:
        shown = [f"{key}={self._given[key]}" for key in _SHOWN if key in self._given]
        return " ".join([*shown, *(f"{key}={MASK}" for key in _SECRET if key in self._given)])

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseUrl) and self._given == other._given

    def __hash__(self) -> int:
        return hash(frozenset(self._given.items()))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type[Any], handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(str(value)),
            serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json"),
        )


def _parse(text: str) -> dict[str, str]:
    text = text.strip()
    is_url = text.startswith(("postgresql://", "postgres://"))
    if not is_url and "://" in text.split("=", 1)[0]:
        raise ValueError(_FORM)
    try:
        given = {key: str(value) for key, value in conninfo_to_dict(text).items()}
    except psycopg.ProgrammingError as problem:
        # Its message quotes the part that libpq could not read, maybe half a password, and so goes no further.
        if re.search("query parameter|connection option", str(problem)):
            raise ValueError(_UNKNOWN) from None
        raise ValueError(f"{_FORM}; {_ENCODE}" if is_url else _FORM) from None
    # A stray "@" or "/" in a password ends up in the host, and libpq would look for a host of that name.
    hosts = [host for host in given.get("host", "").split(",") if not host.startswith(("/", "@"))]
    ports = [port for port in given.get("port", "").split(",") if port]
    if any(re.search(r"[\s@/]", host) for host in hosts) or not all(_is_port(port) for port in ports):
        raise ValueError(f"has a host or port that cannot be one; {_ENCODE}")
    return given


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text) <= 65535


def _is_local_host(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.split("%", 1)[0]).is_loopback
    except ValueError:
        return False

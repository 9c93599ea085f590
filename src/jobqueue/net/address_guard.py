"""Which addresses may be dialled when somebody else chose the URL, and a pool of connections that dials no other.

The pool resolves a name once, when it dials. It judges every address of the name, and connects to one that it judged:
there is no moment at which the name could come to mean another. A connection that is kept open leads where it was dialled
to. TLS still verifies the certificate against the name in the URL.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

import urllib3
from urllib3 import exceptions as faults
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from jobqueue.net.dialling import dial, name_fault
from jobqueue.net.http_pool import PatientConnection, PatientTLSConnection, connect_seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from urllib3.connection import HTTPConnection

    Network = IPv4Network | IPv6Network
    Resolve = Callable[..., Sequence[tuple[Any, ...]]]

# What is not the public internet, and what to call it: the IANA special-purpose address registries (RFC 6890) and a few
# addresses of clouds. Of IPv6 only 2000::/3 is given out as global unicast (RFC 4291), so the guard refuses all else.
_REFUSED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(network), name)
    for network, name in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "a cloud's metadata address"),
        ("169.254.0.0/16", "a link-local or metadata address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a special-purpose address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved or broadcast address"),
        ("::1/128", "a loopback address"),
        ("::/128", "this host"),
        ("64:ff9b::/96", "a NAT64 address"),
        ("64:ff9b:1::/48", "a NAT64 address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "a special-purpose address"),
        ("2001:db8::/32", "a documentation address"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "a documentation address"),
        ("2620:4f:8000::/48", "a special-purpose address"),
    )
)
_GLOBAL_V6: Final = ip_network("2000::/3")

# Ports of other protocols, whose servers might misread a request (Fetch Standard, section "Port blocking").
_PORTS: Final = frozenset(
    {0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110,
     111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532,
     540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061,
     6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080}
)  # fmt: skip

# So many endpoints keep connections open. Beyond that, the endpoint not used for longest gives its own up.
_MOST_HOSTS: Final = 256


class Refused(Exception):
    """The guard does not let this URL be dialled. The message names the cause, and of the URL only host and port."""


class Guard:
    """Judges URLs and addresses. Plain http needs `allow_http`; an inside address must be in a network of `allowed`.

    `resolve` has the signature of socket.getaddrinfo.
    """

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        *,
        allow_http: bool = False,
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        self._allowed = tuple(allowed)
        self._schemes = ("https", "http") if allow_http else ("https",)
        self._resolve = resolve

    def check_url(self, url: str) -> None:
        """Raise Refused for a URL that is never dialled, whatever its host means. Looks no address up."""
        try:
            parts = parse_url(url)
        except LocationParseError:
            raise Refused("its address is not a URL") from None
        if not parts.host or any(character.isspace() or not character.isprintable() for character in url):
            raise Refused("its address is not a URL")
        if parts.scheme not in self._schemes:
            raise Refused(
                f"its address begins with {parts.scheme or 'no scheme'}, it must be {' or '.join(self._schemes)}"
            )
        if parts.auth is not None:
            raise Refused("its address holds a user name or password")
        if parts.port in _PORTS:
            raise Refused(f"its address has port {parts.port}, which belongs to another protocol")

    def judge(self, address: str) -> str | None:
        """The reason, in words, why the IP address `address` may not be dialled; None when it may."""
        ip = ip_address(address.partition("%")[0])
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if any(ip in network for network in self._allowed if network.version == ip.version):
            return None
        for network, name in _REFUSED:
            if network.version == ip.version and ip in network:
                return f"{ip} is {name}"
        if isinstance(ip, IPv4Address) or ip in _GLOBAL_V6:
            return None
        return f"{ip} is not a public address"

    def resolve(self, host: str, port: int, seconds: float) -> Sequence[tuple[Any, ...]]:
        """What `host` means now, as socket.getaddrinfo gives it. Every address in it may be dialled.

        Raises Refused when one may not, OSError when there is none, TimeoutError when no answer comes in `seconds`.
        """
        try:
            found = _within(seconds, lambda: self._resolve(host, port, 0, socket.SOCK_STREAM))
        except UnicodeError:
            raise Refused("its host is not a name that can be looked up") from None
        for *_, address in found:
            if (reason := self.judge(address[0])) is not None:
                raise Refused(f"its host is inside: {reason}")
        return found


def guarded_pool(guard: Guard, *, maxsize: int) -> urllib3.PoolManager:
    """A thread-safe pool that dials only what `guard` lets through. It neither retries nor follows redirects by itself.

    It keeps at most `maxsize` connections a host open; more may be in use. `while_waiting` can interrupt its waits, as
    those of jobqueue.net.http_pool.pool. Requests raise Refused and what urllib3 raises. The caller ends the pool with
    `clear()`.
    """

    class Plain(PatientConnection):
        def _new_conn(self) -> socket.socket:
            return _dial(self, guard)

    class Secured(PatientTLSConnection):
        def _new_conn(self) -> socket.socket:
            return _dial(self, guard)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(HTTPSConnectionPool):
        ConnectionCls = Secured

    manager = urllib3.PoolManager(num_pools=_MOST_HOSTS, maxsize=maxsize, block=False, retries=False)
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": SecuredPool}
    return manager


def _dial(connection: HTTPConnection, guard: Guard) -> socket.socket:
    """A connected socket. The connection's own connect timeout covers all that this takes."""
    seconds = connect_seconds_of(connection)
    until = time.monotonic() + seconds
    try:
        found = guard.resolve(connection.host, connection.port, seconds)
    except TimeoutError:
        raise faults.ConnectTimeoutError(connection, "the name was not resolved in time") from None
    except OSError as error:
        raise name_fault(connection, error) from error
    return dial(connection, found, until - time.monotonic())


def _within(seconds: float, call: Callable[[], Sequence[tuple[Any, ...]]]) -> Sequence[tuple[Any, ...]]:
    """What `call` returns or raises. Raises TimeoutError when that takes longer than `seconds`.

    Nobody can interrupt a resolver. The thread that waits for it stays behind, and ends when the resolver gives up.
    """
    answers: list[Sequence[tuple[Any, ...]]] = []
    errors: list[OSError | UnicodeError] = []

    def run() -> None:
        try:
            answers.append(call())
        except (OSError, UnicodeError) as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    with suppress(IndexError):
        return answers[0]
    raise TimeoutError

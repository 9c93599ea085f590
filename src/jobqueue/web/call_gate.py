"""Who may call an endpoint that takes a secret, and how often.

The secret is looked at first, whoever calls and however often, so that the answer takes as long in every case. A client's
failures are counted apart from calls with the right secret: behind a proxy many clients share an address, and a stranger
among them must not lock the scheduler out.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from jobqueue.observe.logging import get_logger
from jobqueue.observe.metrics import Metrics
from jobqueue.web.exchange import client_of, expected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from jobqueue.settings.environment_values import Network
    from jobqueue.settings.secret import Secret

log = get_logger(__name__)

FAILURES_PER_MINUTE: Final = 12
"""Wrong secrets of one client that are answered as such, and logged; more are answered 429."""

_MOST_CLIENTS: Final = 10_000


class RateLimit:
    """Admits at most `calls` in any `seconds` for each client. It remembers a limited number of clients."""

    def __init__(self, calls: int, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._admitted: dict[str, deque[float]] = {}

    def wait_for(self, client: str) -> float:
        """Count a call and return 0; or, where the client may not call now, return the seconds until it may."""
        client = _network(client)
        with self._lock:
            now = self._clock()
            # The client goes last: the dictionary is in the order of last calls.
            times = self._admitted.pop(client, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            self._admitted[client] = times
            while len(self._admitted) > _MOST_CLIENTS:
                del self._admitted[next(iter(self._admitted))]
            if len(times) >= self._calls:
                return times[0] + self._seconds - now
            times.append(now)
            return 0.0


class CallGate:
    """Makes the entrances of one process. Only clients of `allowed` may call those that are for crons; any may when it is empty."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        allowed: Sequence[Network] = (),
        *,
        failures_per_minute: int = FAILURES_PER_MINUTE,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._allowed = tuple(allowed)
        self._failures = failures_per_minute

    def entrance(
        self, name: str, secret: Secret | None, event: str, *, calls_per_minute: int, for_crons: bool = True
    ) -> Entrance:
        """The entrance of one endpoint: `name` is its label in metrics, `event` what a failed attempt is logged as."""
        failed = self._metrics.http_auth_failures.labels(name)
        allowed = self._allowed if for_crons else ()
        return Entrance(
            name, secret, event, failed.inc, allowed, RateLimit(calls_per_minute), RateLimit(self._failures)
        )


class Entrance:
    """The entrance of one endpoint. Without a secret nobody comes in, after the same work."""

    def __init__(
        self,
        name: str,
        secret: Secret | None,
        event: str,
        count_failure: Callable[[], object],
        allowed: tuple[Network, ...],
        calls: RateLimit,
        failures: RateLimit,
    ) -> None:
        self._name = name
        self._wanted = expected(secret)
        self._configured = secret is not None
        self._event = event
        self._count_failure = count_failure
        self._allowed = allowed
        self._calls = calls
        self._failures = failures

    def admits(self, request: Request, given: bytes) -> bool:
        """Whether the caller may come in: it has sent the secret, from an address that may call.

        Raises HTTPException 429 for calls past the limit of the client, of right ones and of wrong ones apart.
        """
        client = client_of(request)
        right = self._wanted.matches(given)
        listed = self._lists(client)
        if right and listed:
            _refuse_for(self._calls.wait_for(client))
            return True
        self._count_failure()
        _refuse_for(self._failures.wait_for(client))
        log.warning(self._event, endpoint=self._name, client=client, configured=self._configured, allowed=listed)
        return False

    def _lists(self, client: str) -> bool:
        if not self._allowed:
            return True
        try:
            address = ip_address(client.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._allowed if network.version == address.version)


def _refuse_for(wait: float) -> None:
    if wait:
        raise HTTPException(429, headers={"Retry-After": str(math.ceil(wait))})


def _network(client: str) -> str:
    """What counts as one client: an address, or in version 6 its /64, which every subscriber has at least."""
    try:
        address = ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return address.exploded[:19]
    return str(address)

"""What a download may cost, and the watch that holds it to its times and rates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobqueue.errors import Retry
from jobqueue.net.http_pool import CONNECT_SECONDS, READ_SECONDS
from jobqueue.net.peer_clock import PeerClock

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadLimits:
    """What a download may cost: bytes, seconds, and bytes a second.

    `total_seconds` covers everything, resumes too, but the time in the caller's checkpoint; `read_seconds` is the longest
    silence. The peer must keep `min_rate` over each `rate_window_seconds` spent waiting for the body; `max_rate` slows a
    download down, None lets it run.
    Raises ValueError for limits that no download can meet.
    """

    max_bytes: int = 100 * 1024 * 1024
    total_seconds: float = 600.0
    min_rate: float = 16 * 1024.0
    rate_window_seconds: float = 30.0
    max_rate: float | None = None
    connect_seconds: float = CONNECT_SECONDS
    read_seconds: float = READ_SECONDS
    max_resumes: int = 5

    def __post_init__(self) -> None:
        if min(self.total_seconds, self.rate_window_seconds, self.connect_seconds, self.read_seconds) <= 0:
            raise ValueError("the times of a download must be above zero")
        if min(self.max_bytes, self.min_rate, self.max_resumes) < 0:
            raise ValueError("the limits of a download must not be negative")
        if self.max_rate is not None and self.max_rate <= self.min_rate:
            raise ValueError("the largest rate of a download must be above its smallest")


class Watch:
    """Judges one download by `limits`, from now on. Only time spent waiting for the peer counts against its rate.

    `checkpoint` returns while the caller still wants the download, and raises when not; how long it takes counts against
    no limit. Every method may raise what it raises, and Retry in the name of `peer` when a limit is passed.
    """

    def __init__(self, limits: DownloadLimits, peer: str, checkpoint: Callable[[], None]) -> None:
        self._limits = limits
        self._peer = peer
        self._clock = PeerClock(checkpoint)
        self._deadline = self._clock.now() + limits.total_seconds
        self._in_body = False

    def begin_request(self) -> None:
        """A request is about to be made: the peer may be silent for `read_seconds`."""
        self._go_on()
        self._asked = self._clock.now()
        self._in_body = False

    def begin_body(self) -> None:
        """The head of the answer came: from now on the peer must keep its rate."""
        self._in_body = True
        self._window_waited = 0.0
        self._window_bytes = 0
        self._body_bytes = 0
        self._body_began = self._asked = self._clock.now()

    def waiting(self) -> None:
        """Nothing came just now. Call this several times a second while that lasts."""
        self._go_on()
        waited = self._clock.now() - self._asked
        if waited > self._limits.read_seconds:
            raise Retry(f"{self._peer} stalled: it sent nothing for {self._limits.read_seconds:g} s")
        if self._in_body:
            self._judge(self._window_waited + waited)

    def received(self, count: int) -> None:
        """`count` bytes of the body came."""
        self._window_waited += self._clock.now() - self._asked
        self._window_bytes += count
        self._body_bytes += count
        if self._judge(self._window_waited):
            self._window_waited, self._window_bytes = 0.0, 0

    def before_more(self) -> None:
        """Return when more may be asked for, which `max_rate` can delay by the time of a piece."""
        self._go_on()
        if self._limits.max_rate is not None:
            ahead = self._body_began + self._body_bytes / self._limits.max_rate - self._clock.now()
            time.sleep(max(ahead, 0.0))
        self._asked = self._clock.now()

    def _go_on(self) -> None:
        self._clock.checkpoint()
        if self._clock.now() > self._deadline:
            raise Retry(f"{self._peer} took longer than the {self._limits.total_seconds:g} s that a download may take")

    def _judge(self, waited: float) -> bool:
        """Whether the window is over; raises Retry when too little came in it."""
        if waited < self._limits.rate_window_seconds:
            return False
        if self._window_bytes < self._limits.min_rate * waited:
            raise Retry(
                f"{self._peer} sends too slowly: {self._window_bytes / waited:.0f} bytes a second over {waited:.1f} s,"
                f" where at least {self._limits.min_rate:.0f} are expected"
            )
        return True

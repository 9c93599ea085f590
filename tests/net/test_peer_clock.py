"""The clock that times a peer: what passes in our own checkpoint is not the peer's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jobqueue.net import peer_clock
from jobqueue.net.peer_clock import PeerClock


@pytest.mark.parametrize(
    ("passes", "counted"),
    [
        ([], 0.0),
        ([("peer", 2.0)], 2.0),
        ([("ours", 30.0)], 0.0),
        ([("peer", 2.0), ("ours", 30.0), ("peer", 0.5)], 2.5),
        ([("ours", 0.0), ("peer", 1.0), ("ours", 7.0), ("ours", 3.0), ("peer", 1.0)], 2.0),
    ],
)
def test_it_stands_still_in_the_checkpoint(
    monkeypatch: pytest.MonkeyPatch, passes: list[tuple[str, float]], counted: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(peer_clock, "time", SimpleNamespace(monotonic=lambda: now))

    def checkpoint() -> None:
        nonlocal now
        now += seconds

    clock = PeerClock(checkpoint)
    began = clock.now()
    for whose, seconds in passes:
        if whose == "ours":
            clock.checkpoint()
        else:
            now += seconds
    assert clock.now() - began == counted


def test_what_the_checkpoint_raises_is_raised() -> None:
    def checkpoint() -> None:
        raise ValueError("not wanted any more")

    with pytest.raises(ValueError, match="not wanted"):
        PeerClock(checkpoint).checkpoint()

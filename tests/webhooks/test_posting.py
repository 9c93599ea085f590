"""One request to a receiver: how often it is sent, and what it is called when nobody takes it."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from tests.support.http_server import Answer, FaultyServer, Request, Wire, hang, reply, reset
from tests.support.outage import Outage

from jobqueue.net.address_guard import Guard
from jobqueue.webhooks.posting import NoAnswer, Poster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def poster() -> Iterator[Poster]:
    poster = Poster(Guard([ip_network("127.0.0.0/8")], allow_http=True), connections=2, total_seconds=5.0)
    yield poster
    poster.close()


def close(_request: Request, wire: Wire) -> None:
    """The connection ends in good order, without an answer."""
    wire.close()


def nonsense(_request: Request, wire: Wire) -> None:
    wire.send(b"ICY 200 OK\r\n\r\n")
    wire.close()


def post(poster: Poster, url: str) -> int:
    return poster.post(url, b"{}", {}, lambda: None).status


def trouble(poster: Poster, url: str) -> str:
    with pytest.raises(NoAnswer) as caught:
        post(poster, url)
    return caught.value.trouble


@pytest.mark.parametrize("ending", [reset, close, nonsense])
def test_a_receiver_that_closes_a_fresh_connection_gets_one_post(poster: Poster, ending: Answer) -> None:
    with FaultyServer(ending) as server:
        assert trouble(poster, server.url) == "unreachable"
        assert len(server.requests) == 1


@pytest.mark.parametrize("ending", [reset, close])
def test_a_kept_connection_that_is_closed_is_replaced(poster: Poster, ending: Answer) -> None:
    with FaultyServer(reply(200), ending, reply(202)) as server:
        assert post(poster, server.url) == 200
        assert post(poster, server.url) == 202
        assert server.connections == 2


def test_after_a_kept_connection_the_fresh_one_is_the_last(poster: Poster) -> None:
    with FaultyServer(reply(200), close, close, reply(200)) as server:
        assert post(poster, server.url) == 200
        assert trouble(poster, server.url) == "unreachable"
        assert len(server.requests) == 3


def test_an_answer_on_a_kept_connection_that_makes_no_sense_is_an_answer(poster: Poster) -> None:
    with FaultyServer(reply(200), nonsense, reply(200)) as server:
        assert post(poster, server.url) == 200
        assert trouble(poster, server.url) == "unreachable"
        assert len(server.requests) == 2


def test_nobody_there_is_unreachable_and_a_silent_one_is_a_timeout(poster: Poster) -> None:
    with FaultyServer(hang) as server:
        gone = server.url
    assert trouble(poster, gone) == "unreachable"

    def unknown(*_: object) -> list[tuple[object, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    lost = Poster(Guard(allow_http=True, resolve=unknown), connections=1, total_seconds=5.0)
    assert trouble(lost, "http://nowhere.invalid/") == "unreachable"
    lost.close()

    answered = threading.Event()

    def slow(*_: object) -> list[tuple[object, ...]]:
        answered.wait(20)
        return []

    waiting = Poster(Guard(allow_http=True, resolve=slow), connections=1, total_seconds=0.1)
    assert trouble(waiting, "http://slow.example/") == "timeout"
    answered.set()
    waiting.close()
    impatient = Poster(Guard([ip_network("127.0.0.0/8")], allow_http=True), connections=1, total_seconds=0.3)
    with FaultyServer(hang) as server:
        assert trouble(impatient, server.url) == "timeout"
    impatient.close()


@pytest.fixture
def impatient() -> Iterator[Poster]:
    poster = Poster(Guard([ip_network("127.0.0.0/8")], allow_http=True), connections=2, total_seconds=0.5)
    yield poster
    poster.close()


def test_a_checkpoint_longer_than_the_limit_is_not_the_receivers(impatient: Poster) -> None:
    outage = Outage(1.0)
    with FaultyServer(outage.before(reply(202, b"taken"))) as server:
        answer = impatient.post(server.url, b"{}", {}, outage.checkpoint)
    assert (answer.status, answer.body) == (202, "taken")
    assert answer.seconds < 1.0
    assert outage.over.is_set()


def test_a_receiver_that_stays_silent_after_a_long_checkpoint_is_a_timeout(impatient: Poster) -> None:
    outage = Outage(1.0)
    with FaultyServer(outage.before(hang)) as server, pytest.raises(NoAnswer, match=r"within 0\.5 s") as caught:
        impatient.post(server.url, b"{}", {}, outage.checkpoint)
    assert caught.value.trouble == "timeout"
    assert outage.over.is_set()

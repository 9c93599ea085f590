"""Addresses that are inside are never dialled, however they are written and whenever a name comes to mean one."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.http_server import FaultyServer, certificate_pem, reply
from urllib3 import exceptions as faults

from jobqueue.net.address_guard import Guard, Refused, guarded_pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSIDE = [
    ("0.0.0.0", "this host"),
    ("10.1.2.3", "private"),
    ("100.64.0.1", "shared"),
    ("100.100.100.200", "shared"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "metadata"),
    ("169.254.169.254", "metadata"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.192", "special"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.1.1", "private"),
    ("198.19.0.1", "benchmarking"),
    ("224.0.0.1", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("::", "this host"),
    ("::1", "loopback"),
    ("::7f00:1", "not a public"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:a9fe:a9fe", "metadata"),
    ("64:ff9b::7f00:1", "NAT64"),
    ("64:ff9b::808:808", "NAT64"),
    ("64:ff9b:1::1", "NAT64"),
    ("100::1", "not a public"),
    ("2001::1", "Teredo"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4"),
    ("3fff::1", "documentation"),
    ("5f00::1", "not a public"),
    ("fd00:ec2::254", "private"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("fec0::1", "not a public"),
    ("ff02::1", "multicast"),
]


@pytest.mark.parametrize(("address", "word"), INSIDE)
def test_inside_addresses_are_named_for_what_they_are(address: str, word: str) -> None:
    assert word in (Guard().judge(address) or "")


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "2606:4700::1111", "2a00::1"]
)
def test_public_addresses_pass(address: str) -> None:
    assert Guard().judge(address) is None


@given(st.ip_addresses())
def test_nothing_passes_that_python_calls_inside(address: Any) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    if Guard().judge(str(address)) is None:
        assert mapped.is_global
        assert not mapped.is_multicast


def test_allowed_networks_open_just_themselves() -> None:
    guard = Guard([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
    assert guard.judge("10.200.0.1") is None
    assert guard.judge("::ffff:10.200.0.1") is None
    assert guard.judge("fd12::1") is None
    assert guard.judge("127.0.0.1")
    assert guard.judge("172.16.0.1")
    assert guard.judge("::1")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.com/", "begins with http, it must be https"),
        ("ftp://example.com/", "begins with ftp"),
        ("file:///etc/passwd", "not a URL"),
        ("gopher://example.com/", "begins with gopher"),
        ("example.com/hook", "begins with no scheme"),
        ("https://", "not a URL"),
        ("https:///hook", "not a URL"),
        ("", "not a URL"),
        ("https://exa mple.com/", "not a URL"),
        ("https://example.com/\r\nX: y", "not a URL"),
        ("https://user:word@example.com/", "user name or password"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com:99999/", "not a URL"),
    ],
)
def test_urls_that_are_never_dialled(url: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        Guard().check_url(url)
    assert "word" not in str(caught.value).replace("password", "")


def test_plain_http_needs_the_setting() -> None:
    Guard(allow_http=True).check_url("http://example.com/hook")
    Guard().check_url("https://example.com:8443/hook?key=1")


class Names:
    """A resolver whose names mean what the test says, one answer after the other; the last stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, *_: object) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        found = self.answers[min(len(self.asked), len(self.answers)) - 1]
        return [
            (
                socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET,
                socket.SOCK_STREAM,
                0,
                "",
                (address, port),
            )
            for address in found
        ]


def post(guard: Guard, url: str, **options: Any) -> tuple[int, bytes]:
    """The status and body of the answer to one request, on a connection of its own."""
    manager = guarded_pool(guard, maxsize=1)
    manager.connection_pool_kw.update(options)
    try:
        response = manager.urlopen("POST", url, body=b"{}", redirect=False, retries=False, timeout=5.0)
        return response.status, response.data
    finally:
        manager.clear()


@pytest.fixture
def inside() -> Iterator[FaultyServer]:
    """A server on 127.0.0.1: what must not be reached."""
    with FaultyServer(reply(200, b"secret")) as server:
        yield server


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "localhost",
        "localhost.",
    ],
)
def test_spellings_of_this_host_are_refused_and_not_dialled(inside: FaultyServer, host: str) -> None:
    with pytest.raises(Refused, match=r"inside: (127|::1)"):
        post(Guard(allow_http=True), f"http://{host}:{inside.port}/")
    assert inside.connections == 0


@pytest.mark.parametrize(
    "answer", [["10.0.0.1"], ["64:ff9b::a00:1"], ["93.184.216.34", "10.0.0.1"], ["::1", "1.1.1.1"]]
)
def test_a_name_that_means_an_inside_address_among_others_is_refused(answer: list[str]) -> None:
    with pytest.raises(Refused, match="is inside"):
        post(Guard(resolve=Names(answer)), "https://hooks.example.com/")


def test_a_name_that_changes_is_judged_each_time_it_is_dialled_and_resolved_just_once(inside: FaultyServer) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    guard = Guard([ip_network("127.0.0.1/32")], allow_http=True, resolve=names)
    url = f"http://rebinding.example.com:{inside.port}/"
    with socket.create_server(("127.0.0.2", inside.port)) as elsewhere:
        elsewhere.setblocking(False)
        assert post(guard, url) == (200, b"secret")
        assert names.asked == ["rebinding.example.com"]
        with pytest.raises(Refused, match=r"127\.0\.0\.2 is a loopback"):
            post(guard, url)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert inside.connections == 1


def test_all_addresses_of_a_name_are_tried_in_turn(inside: FaultyServer) -> None:
    guard = Guard([ip_network("127.0.0.0/8")], allow_http=True, resolve=Names(["127.0.0.9", "127.0.0.1"]))
    assert post(guard, f"http://two.example.com:{inside.port}/")[0] == 200


def test_a_redirect_is_an_answer() -> None:
    with FaultyServer(reply(200)) as target, FaultyServer(reply(302, headers={"Location": target.url})) as server:
        assert post(Guard([ip_network("127.0.0.0/8")], allow_http=True), server.url)[0] == 302
        assert target.connections == 0


def test_proxies_of_the_environment_are_not_used(inside: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(reply(200)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(Guard([ip_network("127.0.0.0/8")], allow_http=True), inside.url) == (200, b"secret")
        assert proxy.connections == 0


def test_tls_verifies_the_name_of_the_url_and_not_the_address(tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_text(certificate_pem())
    allowed = [ip_network("127.0.0.0/8")]
    with FaultyServer(reply(200), tls=True) as server:
        assert post(Guard(allowed), f"https://localhost:{server.port}/", ca_certs=str(trusted))[0] == 200
        other = Guard(allowed, resolve=Names(["127.0.0.1"]))
        with pytest.raises(faults.SSLError, match="Hostname mismatch"):
            post(other, f"https://other.example.com:{server.port}/", ca_certs=str(trusted))
        with pytest.raises(faults.SSLError, match="self-signed"):
            post(Guard(allowed), f"https://localhost:{server.port}/")


def test_a_resolver_that_does_not_answer_is_given_up() -> None:
    answer = threading.Event()

    def resolve(*_: object) -> list[tuple[Any, ...]]:
        answer.wait(30.0)
        return []

    with pytest.raises(TimeoutError):
        Guard(resolve=resolve).resolve("slow.example.com", 443, 0.05)
    answer.set()


def test_a_name_that_does_not_resolve_and_one_that_cannot() -> None:
    def resolve(*_: object) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(faults.NameResolutionError):
        post(Guard(resolve=resolve), "https://nothing.example.com/")
    with pytest.raises(Refused, match="not a name"):
        Guard().resolve("x" * 64 + ".example.com", 443, 5.0)

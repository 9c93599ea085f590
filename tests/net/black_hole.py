"""Downloads from an origin whose IPv6 address is a black hole, and from one without; run in namespaces of its own.

    unshare --map-root-user --net --mount python -m tests.net.black_hole FOLDER

Prints, as JSON, the seconds of each download: each on a fresh connection, from one and the other in turns.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROUNDS = 41
BODY = bytes(2_000_000)

_HOSTS = "192.0.2.1 alone.test\n192.0.2.1 both.test\n2001:db8::2 both.test\n127.0.0.1 localhost\n"


class Origin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Nothing: the caller reads what is printed."""


def lay_network(folder: Path) -> None:
    """An interface that takes every packet and gives none back; names that lead to it, and to this machine."""
    hosts = folder / "hosts"
    hosts.write_text(_HOSTS)
    for command in (
        f"mount --bind {hosts} /etc/hosts",
        "ip link set lo up",
        "ip link add hole type veth peer name void",
        "ip link set void up",
        "ip link set hole up",
        "ip addr add 192.0.2.1/24 dev hole",
        "ip addr add 2001:db8::1/64 dev hole nodad",
        # Somebody has that address, as far as the kernel knows, so that nothing says that it is out of reach.
        "ip neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 dev hole",
    ):
        subprocess.run(command.split(), check=True)


def download(host: str, port: int) -> float:
    # Not before there is a network: urllib3 looks, when it is imported, whether there is IPv6.
    from jobqueue.net.http_pool import pool

    began = time.monotonic()
    http = pool(1)
    answer = http.request("GET", f"http://{host}:{port}/file")
    assert answer.data == BODY
    http.clear()
    return time.monotonic() - began


def main() -> None:
    lay_network(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("192.0.2.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    found = {family for family, *_ in socket.getaddrinfo("both.test", port, 0, socket.SOCK_STREAM)}
    assert found == {socket.AF_INET, socket.AF_INET6}
    download("alone.test", port)
    seconds: dict[str, list[float]] = {"alone.test": [], "both.test": []}
    for _ in range(ROUNDS):
        for host, taken in seconds.items():
            taken.append(download(host, port))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()

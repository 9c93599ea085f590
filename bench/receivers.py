"""Receivers of webhooks, of several characters, in one process: what the deliveries of `bench.webhooks` arrive at.

    python -m bench.receivers LOG

Prints the port that it listens on. By the first part of the path: `live` answers 200 at once, `slow` after 1.5 seconds, `gone`
410, `broken` 500, and `silent` never. Each request adds a line to LOG: when it arrived (seconds since 1970), its path, its
webhook-id, and whether its signature is that of the one key that all are signed with.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import sys
import time
from pathlib import Path
from typing import Final

KEY: Final = b"the key that all webhooks of this run are signed with"
SECRET: Final = f"whsec_{base64.b64encode(KEY).decode()}"

SLOW_SECONDS: Final = 1.5

_STATUS: Final = {"gone": b"410 Gone", "broken": b"500 Internal Server Error"}


async def serve(log_file: Path) -> None:
    """Serve until cancelled."""
    with log_file.open("w") as log:

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    first, *lines = head.decode("latin-1").split("\r\n")
                    path = first.split(" ")[1]
                    headers = {
                        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                    }
                    body = await reader.readexactly(int(headers["content-length"]))
                    character = path.split("/")[1]
                    print(f"{time.time():.6f} {path} {headers['webhook-id']} {_genuine(headers, body)}", file=log)
                    log.flush()
                    if character == "silent":
                        await asyncio.sleep(3600)
                    if character == "slow":
                        await asyncio.sleep(SLOW_SECONDS)
                    status = _STATUS.get(character, b"200 OK")
                    writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nok" % status)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()


def _genuine(headers: dict[str, str], body: bytes) -> bool:
    signed = b"%b.%b.%b" % (headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body)
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    return headers["webhook-signature"] == f"v1,{digest}"


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))

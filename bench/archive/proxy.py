"""A distant network: each way of each connection is late by half of the round trip and has a rate of its own."""

from __future__ import annotations

import asyncio
import socket
import sys
import time

_CHUNK = 64 * 1024


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, bytes_per_second: float
) -> None:
    """Pass bytes on, each `delay` seconds after it came, no faster than the rate."""
    # What is on its way at once: a round trip's worth and some more.
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

    async def receive() -> None:
        while True:
            data = await reader.read(_CHUNK)
            await under_way.put((time.monotonic() + delay, data))
            if not data:
                return

    async def deliver() -> None:
        free_at = 0.0
        while True:
            due, data = await under_way.get()
            if not data:
                break
            now = time.monotonic()
            free_at = max(free_at, due) + len(data) / bytes_per_second
            # Timers are coarse: small debts are carried over instead of slept.
            if free_at - now > 0.002:
                await asyncio.sleep(free_at - now)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    await asyncio.gather(receive(), deliver())


async def main(listen: int, target: int, round_trip: float, bytes_per_second: float) -> None:
    """Forward connections to `listen` on loopback to `target`, for ever."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target, limit=1 << 20)
            for each in (writer, far_writer):
                each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(
                carry(reader, far_writer, round_trip / 2, bytes_per_second),
                carry(far_reader, writer, round_trip / 2, bytes_per_second),
            )
            far_writer.close()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", listen, limit=1 << 20)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))

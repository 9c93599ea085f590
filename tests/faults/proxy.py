"""A TCP proxy in front of PostgreSQL that goes silent, and that loses the answers to statements of its choice.

It reads what clients say (PostgreSQL's documentation, "Frontend/Backend Protocol"), without TLS, and so knows each connection by
its application_name and each statement by its text.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import conninfo_to_dict

from jobqueue.demo.launch import HOST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_CHUNK = 64 * 1024

# The first word of what a client sends before anything else: a protocol version, or one of the requests that come before it.
_PROTOCOL_3 = 3


class _Client:
    """Follows one client's messages; `name` is its application_name, known once it has introduced itself."""

    def __init__(self) -> None:
        self.name = ""
        self._introduced = False
        self._unread = bytearray()
        self._prepared: dict[bytes, bytes] = {}
        self._said: list[bytes] = []

    def hear(self, data: bytes) -> list[str]:
        """Take in what the client sent; returns the text of each command that is complete with it, to be answered now."""
        self._unread += data
        commands: list[str] = []
        while True:
            start = 1 if self._introduced else 0
            if len(self._unread) < start + 4:
                return commands
            (length,) = struct.unpack_from("!i", self._unread, start)
            if len(self._unread) < start + length:
                return commands
            kind, body = bytes(self._unread[:start]), bytes(self._unread[start + 4 : start + length])
            del self._unread[: start + length]
            if not self._introduced:
                self._introduce(body)
            elif command := self._understand(kind, body):
                commands.append(command)

    def _introduce(self, body: bytes) -> None:
        if struct.unpack_from("!h", body)[0] == _PROTOCOL_3:
            words = body[4:].split(b"\0")
            self.name = dict(zip(words[::2], words[1::2], strict=False)).get(b"application_name", b"").decode()
            self._introduced = True

    def _understand(self, kind: bytes, body: bytes) -> str | None:
        match kind:
            case b"Q":
                self._said.append(body)
            case b"P":
                name, text, _ = body.split(b"\0", 2)
                self._prepared[name] = text
                return None
            case b"B":
                self._said.append(self._prepared.get(body.split(b"\0", 2)[1], b""))
                return None
            case b"S":
                pass
            case _:
                return None
        text, self._said = b"\n".join(self._said), []
        return text.rstrip(b"\0").decode(errors="replace")


@dataclass
class Loss:
    """Answers that are to be lost: to `times` commands whose text has `text` in it, on connections of this `name`.

    Empty words fit everything. `commands` are those whose answer was lost: the server had carried them out. Their connection is
    reset, or goes silent where it is lost `silently`.
    """

    text: str
    name: str
    times: int
    silently: bool
    commands: list[str]

    def fits(self, name: str, command: str) -> bool:
        return self.times > 0 and self.text in command and (not self.name or name == self.name)


class _Pair:
    """A client's connection and the server's."""

    def __init__(self, proxy: Proxy, client: _Ends, server: _Ends) -> None:
        self.silenced = False
        self._proxy = proxy
        self._client = client
        self._server = server
        self._heard = _Client()
        self._loses: Loss | None = None
        self._command = ""
        self._over = asyncio.Event()

    async def carry(self) -> None:
        """Forward both ways until either side ends; once silenced, until `reset`."""
        ways = [asyncio.ensure_future(way) for way in (self._from_client(), self._from_server())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if self.silenced:
                # Neither side hears anything of the other any more, not even its end.
                await self._over.wait()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def reset(self) -> None:
        """End both connections without ceremony."""
        self._over.set()
        for _, writer in (self._client, self._server):
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _from_client(self) -> None:
        while data := await self._client[0].read(_CHUNK):
            commands = self._heard.hear(data)
            if self.silenced:
                return
            for command in commands:
                loss = self._proxy.loss_of(self._heard.name, command)
                if loss is not None:
                    self._loses, self._command = loss, command
            self._server[1].write(data)
            await self._server[1].drain()

    async def _from_server(self) -> None:
        swallowed = bytearray()
        while data := await self._server[0].read(_CHUNK):
            if self.silenced:
                return
            if self._loses is None:
                self._client[1].write(data)
                await self._client[1].drain()
                continue
            swallowed += data
            if _is_answered(swallowed):
                self._loses.commands.append(self._command)
                if self._loses.silently:
                    self._proxy.silence_one(self)
                else:
                    self.reset()
                return


def _is_answered(said: bytearray) -> bool:
    """Whether the server's messages go as far as ReadyForQuery: what was asked of it has happened, or has failed."""
    at = 0
    while len(said) >= at + 5:
        if said[at] == ord("Z"):
            return True
        at += 1 + struct.unpack_from("!i", said, at + 1)[0]
    return False


_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Used as a context manager; `dsn` leads to the same database as `direct`, through the proxy.

    `forget_after`: seconds after which a connection that was silenced is reset, as an operating system does with a peer that
    does not acknowledge any more; None keeps it silent for ever, as a load balancer may that lost its other side.
    """

    def __init__(self, direct: str, *, forget_after: float | None = None) -> None:
        given = conninfo_to_dict(direct)
        self.direct = direct
        self._target = (HOST, int(given["port"] or 0))
        self._forget_after = forget_after
        self._silent = False
        self._losses: list[Loss] = []
        self._pairs: set[_Pair] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.dsn = f"postgresql://{given['user']}:{given['password']}@{HOST}:{self.port}/{given['dbname']}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._await(self._serve)
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open and not silenced."""
        return sum(not pair.silenced for pair in self._pairs)

    def move(self, direct: str) -> None:
        """Lead to another server from now on, as a name does whose address changes. Connections that there are stay where they are."""
        self._target = (HOST, int(conninfo_to_dict(direct)["port"] or 0))

    def silence(self) -> None:
        """Forward nothing any more, neither way, of any connection there is or that is opened before `speak`. Nobody is told."""
        self._await(self._freeze)

    def speak(self) -> None:
        """Let connections through that are opened from now on. Those that were silenced stay so."""
        self._silent = False

    def lose(self, text: str = "", *, name: str = "", times: int = 1, silently: bool = False) -> Loss:
        """Have commands carried out and their answers lost: the connection is reset in their place, or goes silent."""
        loss = Loss(text, name, times, silently, [])
        self._losses.append(loss)
        return loss

    def keep(self, loss: Loss) -> None:
        """Lose no more of these answers."""
        self._losses.remove(loss)

    def loss_of(self, name: str, command: str) -> Loss | None:
        """Which of the losses this command is to be: it is taken off what is left of it."""
        for loss in self._losses:
            if loss.fits(name, command):
                loss.times -= 1
                return loss
        return None

    def silence_one(self, pair: _Pair) -> None:
        """Forward nothing more of this one. To be called in the proxy's own thread."""
        if not pair.silenced:
            pair.silenced = True
            if self._forget_after is not None:
                self._loop.call_later(self._forget_after, pair.reset)

    def _await(self, work: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await work()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, sock=self._listener)

    async def _freeze(self) -> None:
        self._silent = True
        for pair in self._pairs:
            self.silence_one(pair)

    async def _end(self) -> None:
        self._server.close()
        for pair in self._pairs:
            pair.reset()
        while self._pairs:
            await asyncio.sleep(0.01)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        for _, end in ((reader, writer), server):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = _Pair(self, (reader, writer), server)
        self._pairs.add(pair)
        if self._silent:
            self.silence_one(pair)
        try:
            await pair.carry()
        finally:
            self._pairs.discard(pair)
            for end in (writer, server[1]):
                end.close()

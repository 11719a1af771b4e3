"""A server that does what a script says: answers by the byte, hangs, closes, resets, and counts what it was asked."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .loopback import LoopbackServer

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Received:
    """One request as it came: names of headers in lower case, the moment on the loop's clock."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    at: float

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query; of several values of a name the last."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.target).query).items()}


class Exchange:
    """What an action works with: the request, and the connection to answer on."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.writer = writer
        self.is_over = False

    async def send(self, data: bytes) -> None:
        """Write *data* and hand it to the kernel."""
        self.writer.write(data)
        await self.writer.drain()

    def close(self) -> None:
        """End the connection with a FIN after what was sent."""
        self.is_over = True
        self.writer.close()

    def reset(self) -> None:
        """End the connection with an RST."""
        self.is_over = True
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.writer.transport.abort()


Action = Callable[[Exchange], Awaitable[None]]
Script = Action | Sequence[Action]


class ScriptServer(LoopbackServer):
    """Listens on a free port of 127.0.0.1; request number n gets action number n, all later ones the last.

    Attributes:
        requests: Every complete request, oldest first.
        open_connections: How many of them are open.
        handshakes_failed: How many TLS handshakes the client broke off.
    """

    def __init__(self, *script: Action, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.script = list(script)
        self.requests: list[Received] = []
        self.open_connections = 0

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.requests)

    def gaps(self) -> list[float]:
        """Return the seconds between one request and the next."""
        return [b.at - a.at for a, b in zip(self.requests, self.requests[1:], strict=False)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Converse with one client."""
        self.open_connections += 1
        try:
            await self._converse(reader, writer, self.connections)
        finally:
            self.open_connections -= 1
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while True:
            request = await _read_request(reader, connection)
            action = self.script[min(self.count, len(self.script) - 1)]
            self.requests.append(request)
            exchange = Exchange(request, writer)
            await _unless_client_leaves(action(exchange), reader)
            if exchange.is_over:
                return


async def _unless_client_leaves(action: Awaitable[None], reader: asyncio.StreamReader) -> None:
    """Run *action*, but no longer than the client stays connected."""
    task = asyncio.ensure_future(action)
    while not task.done() and not (reader.at_eof() or reader.exception()):
        await asyncio.wait([task], timeout=0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = head.split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines if text)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body, connection, asyncio.get_running_loop().time())


def head(status: int = 200, **headers: object) -> bytes:
    """Return the head of a response; underscores in names are hyphens, None leaves a header out."""
    lines = [f"HTTP/1.1 {status} Said so"]
    merged = {"content_type": "application/json", **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in merged.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def as_bytes(body: Any) -> bytes:
    """Return bytes as they are, text as UTF-8, anything else as JSON."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def answer(body: Any = b"", status: int = 200, **headers: object) -> Action:
    """Answer in full, with the right length, and keep the connection."""
    data = as_bytes(body)

    async def act(exchange: Exchange) -> None:
        await exchange.send(head(status, **{"content_length": len(data), **headers}) + data)

    return act


def reply(make: Callable[[Received], Any]) -> Action:
    """Answer with what *make* returns for the request."""

    async def act(exchange: Exchange) -> None:
        await answer(make(exchange.request))(exchange)

    return act


def say(data: bytes, then: str = "close") -> Action:
    """Send exactly *data*, then `close`, `reset`, `hang` or `keep` the connection."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(data)
        if then == "hang":
            await asyncio.Event().wait()
        elif then == "reset":
            await asyncio.sleep(0.01)  # lets the client read what was sent before the RST discards it
            exchange.reset()
        elif then == "close":
            exchange.close()

    return act


def close() -> Action:
    """Close without a word."""
    return say(b"", "close")


def reset() -> Action:
    """Reset without a word."""

    async def act(exchange: Exchange) -> None:
        exchange.reset()

    return act


def hang() -> Action:
    """Never answer."""
    return say(b"", "hang")


def dribble(data: bytes, seconds: float, size: int = 1) -> Action:
    """Send *data* in pieces of *size* with a pause before each."""

    async def act(exchange: Exchange) -> None:
        for start in range(0, len(data), size):
            await asyncio.sleep(seconds)
            await exchange.send(data[start : start + size])

    return act


def flood(start: bytes, piece: bytes, *, before: tuple[bytes, int] = (b"", 0)) -> Action:
    """Send *start*, then one piece so many times as *before* says, and then *piece* for ever."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(start)
        for _ in range(before[1]):
            await exchange.send(before[0])
        while True:
            await exchange.send(piece)

    return act


def chunked(*pieces: bytes, last: bool = True) -> bytes:
    """Return *pieces* in the chunked transfer coding, with the last chunk or without."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return body + (b"0\r\n\r\n" if last else b"")

"""A proxy that carries bytes between client and server, and harms them on the way."""

import asyncio
import socket
from collections.abc import Awaitable

from .loopback import LoopbackServer
from .script_server import RESET_ON_CLOSE


class ByteProxy(LoopbackServer):
    """Stands before `port` of 127.0.0.1.

    Args:
        port: The server's.
        latency: Seconds added to each piece in either direction.
        piece: Most bytes carried at once; 1 cuts everything into single bytes.
        cut_after: Bytes of answers after which a connection ends; None never.
        is_reset: Whether a cut is an RST and not a FIN.
        cuts: How many connections are cut; later ones live.
    """

    def __init__(
        self,
        port: int,
        *,
        latency: float = 0.0,
        piece: int = 65_536,
        cut_after: int | None = None,
        is_reset: bool = False,
        cuts: int = 1_000_000,
    ) -> None:
        super().__init__()
        self._upstream = port
        self._latency, self._piece = latency, piece
        self._cut_after, self._is_reset, self._cuts = cut_after, is_reset, cuts

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the bytes of one connection."""
        limit = self._cut_after if self.connections <= self._cuts else None
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            await first_done(self._carry(reader, upstream, None), self._carry(answers, writer, limit))
        finally:
            if upstream is not None:
                upstream.transport.abort()
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, limit: int | None) -> None:
        carried = 0
        while data := await source.read(self._piece):
            if self._latency:
                await asyncio.sleep(self._latency)
            kept = data if limit is None else data[: limit - carried]
            carried += len(kept)
            if kept:
                sink.write(kept)
                await sink.drain()
            if limit is not None and carried >= limit:
                await asyncio.sleep(0.01)  # lets the client read what came before the end
                self._end(sink)
                return

    def _end(self, sink: asyncio.StreamWriter) -> None:
        if self._is_reset:
            sink.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            sink.transport.abort()


async def first_done(*work: Awaitable[None]) -> None:
    """Carry all *work* out until the first ends, and cancel the rest."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

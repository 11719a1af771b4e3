"""What goes back over HTTP: answers that are complete, and answers that come event by event as a run lives."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiohttp import web

from asyncruns.emulator._feed import Event, Feed
from asyncruns.emulator._lifecycle import Lifecycle, next_moment
from asyncruns.emulator._store import Run

_FLUSHED = 0.02


def answer(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})})


class LiveAnswer(web.StreamResponse):
    """An answer still to come; the gate gives it its headers and sends it.

    Args:
        run: The run it is about.
        feed: What listens to the run.
        events: The run's events, as they happen.
    """

    def __init__(self, run: Run, feed: Feed, events: AsyncGenerator[Event]) -> None:
        super().__init__(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
        self.run = run
        self.events = events
        self._feed = feed

    def let_go(self) -> None:
        """Stop listening to the run; who has begun to listen since then is not disturbed."""
        if self.run.listener is self._feed:
            self.run.listener = None


class Cut(Exception):  # noqa: N818 (it is an ending, not a failure)
    """The connection is to end here, before the answer does.

    Args:
        reset: Whether by a reset; else the connection is closed in the middle of the body's framing.
    """

    def __init__(self, *, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


async def live_events(
    lifecycle: Lifecycle, run: Run, feed: Feed, is_wanted: Callable[[], bool]
) -> AsyncGenerator[Event]:
    """Yield the events of *run* as the clock brings them, until its last one or until nobody wants more."""
    while is_wanted():
        lifecycle.settle(run.thread)
        while feed.events:
            yield feed.events.popleft()
        if feed.has_ended:
            return
        await lifecycle.clock.approach(next_moment(run))


async def send(request: web.Request, live: LiveAnswer, chunks: AsyncGenerator[bytes]) -> None:
    """Send the answer; a client that leaves only stops the sending, not the run."""
    live.enable_chunked_encoding()
    try:
        async with aclosing(live.events), aclosing(chunks):
            await live.prepare(request)
            async for chunk in chunks:
                await live.write(chunk)
            await live.write_eof()
    except Cut as cut:
        await hang_up(request, reset=cut.reset)
    except ConnectionError:
        pass
    finally:
        live.let_go()


async def hang_up(request: web.Request, *, reset: bool) -> None:
    """End the connection, by a reset or in good order."""
    transport = request.transport
    if transport is None:  # pragma: no cover (the client was faster)
        return
    if reset:
        await asyncio.sleep(_FLUSHED)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()

"""How events go over the wire: as published, and in the ways that streams are spoilt.

The middle of a stream is its second delta; one that has fewer is spoilt before the run's last event.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from asyncruns.emulator._answers import Cut
from asyncruns.emulator._feed import DONE, LAST_EVENTS, Event
from asyncruns.emulator._json import encode

_BEAT = 0.02
_ERROR = {
    "message": "The server had an error while processing your request. Sorry about that!",
    "type": "server_error",
    "param": None,
    "code": "server_error",
}
_UNKNOWN = (
    b"id: 7\nretry: 10\n\n"
    b": a comment\n\n"
    b'event: thread.run.mood\ndata: {"object":"thread.run.mood","mood":"calm"}\n\n'
    b"event: thread.note\ndata: not JSON\ndata: on two lines\n\n"
    b"event: thread.empty\n\n"
)


def frame(event: Event, *, end: bytes = b"\n", space: bytes = b" ") -> bytes:
    """Return the event as it goes over the wire."""
    return b"event:%b%b%bdata:%b%b%b%b" % (space, event.name.encode(), end, space, event.data, end, end)


async def plainly(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Send events as published."""
    async for event in events:
        yield frame(event)


async def crlf(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """End lines with CR LF."""
    async for event in events:
        yield frame(event, end=b"\r\n")


async def cr(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """End lines with CR."""
    async for event in events:
        yield frame(event, end=b"\r")


async def no_space(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Leave out the space after the colon, and end lines with CR LF."""
    async for event in events:
        yield frame(event, end=b"\r\n", space=b"")


async def single_bytes(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Send each byte alone."""
    async for event in events:
        for byte in frame(event):
            yield bytes([byte])


async def unknown_events(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Put what nobody has heard of before every event."""
    async for event in events:
        yield _UNKNOWN + frame(event)


async def no_created(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Leave out the events that tell of something new."""
    async for event in events:
        if not event.name.endswith(".created"):
            yield frame(event)


async def no_done(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Leave out the end marker."""
    async for event in events:
        if event != DONE:
            yield frame(event)


async def half_event(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """End in the middle of the run's last event."""
    waiting = b""
    async for event in events:
        if event == DONE:
            yield waiting[: len(waiting) // 2]
        else:
            yield waiting
            waiting = frame(event)


async def eof(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """End in the middle of the run."""
    async for event in _first_half(events):
        yield frame(event)


async def cut(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Close the connection in the middle of an event."""
    async for part in _broken_off(events):
        yield part
    raise Cut(reset=False)


async def reset(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Reset the connection in the middle of an event."""
    async for part in _broken_off(events):
        yield part
    raise Cut(reset=True)


def idle(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Say nothing more from the middle of the run on, for as long as somebody listens."""
    return _endless(events, b"")


def pings(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Say nothing but comments from the middle of the run on, for as long as somebody listens."""
    return _endless(events, b": ping\n\n")


def error_flat(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Send the published error event in place of the rest."""
    return _failing(events, encode(_ERROR))


def error_nested(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Send an error event in the shape of an error body in place of the rest."""
    return _failing(events, encode({"error": _ERROR}))


def error_text(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Send an error event that is not JSON in place of the rest."""
    return _failing(events, b"upstream connect error")


async def _first_half(events: AsyncIterator[Event]) -> AsyncGenerator[Event]:
    """Yield the events up to the middle of the run."""
    deltas = 0
    async for event in events:  # pragma: no branch (it runs out only when the client has left)
        deltas += event.name.endswith(".delta")
        if event.name in LAST_EVENTS:
            return
        yield event
        if deltas == 2:
            return


async def _broken_off(events: AsyncGenerator[Event]) -> AsyncGenerator[bytes]:
    """Yield the first half, its last event only in part."""
    waiting = b""
    async for event in _first_half(events):
        yield waiting
        waiting = frame(event)
    yield waiting[: len(waiting) // 2]


async def _endless(events: AsyncGenerator[Event], beat: bytes) -> AsyncGenerator[bytes]:
    """Yield the first half, then *beat* for ever: who sends it stops when the client is gone."""
    async for event in _first_half(events):
        yield frame(event)
    while True:
        await asyncio.sleep(_BEAT)
        yield beat


async def _failing(events: AsyncGenerator[Event], data: bytes) -> AsyncGenerator[bytes]:
    async for event in _first_half(events):
        yield frame(event)
    yield frame(Event("error", data))
    yield frame(DONE)

"""A live run as typed events, and the ways a stream may end. Knows no HTTP."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Literal, Protocol, Self

from asyncruns import models as m
from asyncruns._cutoff import Cutoff
from asyncruns._events import decode_event
from asyncruns._run_states import rests
from asyncruns._snapshots import Snapshots, Subject
from asyncruns._sse import ServerSentEvent, SSEDecoder
from asyncruns.errors import (
    AsyncRunsError,
    ConfigurationError,
    ProtocolError,
    StreamInterrupted,
    StreamServerError,
    TransportError,
)

OnInterrupt = Literal["raise", "poll"]


class LiveBytes(Protocol):
    """The bytes of an answer as they come."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def close(self) -> None:
        """Free the connection."""
        ...


Open = Callable[[], Awaitable[LiveBytes]]
"""Sends the request, and gives the answer once it has begun."""
Settle = Callable[[str, str], Awaitable[m.Run]]
"""Reads a run, named by its thread's id and its own, until it rests."""
Redact = Callable[[AsyncRunsError], AsyncRunsError]
"""Takes the key out of an error, should the server have echoed it."""

_LINGER = 1.0
"""Seconds that a stream may take to say `done` after the run has come to rest, all its further events together."""
_EVENTS_PER_TURN = 8
"""Events of those that came together that are given before others get the loop."""


class RunStream:
    """A live run: `async with` sends the request, `async for` gives its events as they come.

    The stream ends with `done`, or when the run is terminal or requires action. Any other end raises
    `StreamInterrupted`, from `final_run` too; what was given before stays valid. With `on_interrupt="poll"` the run is
    then read until it rests instead, and the events simply end. Leaving the `async with` frees the connection; the
    run itself goes on.

    The events are given once: a second `async for` goes on where the first was left, also where it was cancelled. A
    stream that failed raises the same error again; where it was the reading of the run that failed, with `WaitTimeout`,
    `StatusError` or `TransportError`, the run is read again instead.
    """

    def __init__(
        self,
        open: Open,
        settle: Settle,
        redact: Redact,
        *,
        subject: Subject,
        idle_timeout: float,
        on_interrupt: OnInterrupt,
    ) -> None:
        if on_interrupt not in ("raise", "poll"):
            raise ValueError(f"on_interrupt must be 'raise' or 'poll', not {on_interrupt!r}.")
        self._open = open
        self._settle = settle
        self._redact = redact
        self._subject = subject
        self._snapshots = Snapshots(subject)
        self._idle_timeout = idle_timeout
        self._lingered = 0.0  # Seconds waited since the run came to rest.
        self._on_interrupt = on_interrupt
        self._is_entered = False
        self._chunks: LiveBytes | None = None
        self._decoder = SSEDecoder()
        self._waiting: deque[ServerSentEvent] = deque()
        self._given = 0
        self._reason = ""  # Why no more events come.
        self._ended = False
        self._failure: AsyncRunsError | None = None
        self._last_event: str | None = None
        self._data = b""

    @property
    def run(self) -> m.Run | None:
        """The run as the stream last told it; None until it has."""
        return self._snapshots.run

    @property
    def thread(self) -> m.Thread | None:
        """The thread, if this stream created it; None otherwise."""
        return self._snapshots.thread

    @property
    def messages(self) -> tuple[m.Message, ...]:
        """The run's messages as far as they have come, in the order they began."""
        return self._snapshots.messages

    @property
    def steps(self) -> tuple[m.RunStep, ...]:
        """The run's steps as far as they have come, in the order they began."""
        return self._snapshots.steps

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise ConfigurationError("A stream is entered once: ask for a new one.")
        self._is_entered = True
        self._chunks = await self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._free_connection()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> m.StreamEvent:
        """Return the next event, as soon as it is complete.

        Raises:
            StreamInterrupted: The stream ended before the run came to rest; `reason` is `eof`, `idle` or `lost`.
            StreamServerError: The server sent an `error` event.
            DecodeError: An event's data is not JSON.
            SchemaError: It is JSON of another shape.
            IdentityMismatchError: An event is about another run or thread.
            ResponseTooLargeError: A line or an event's data exceeds 8 MiB.
            WaitTimeout: With `on_interrupt="poll"`: the run did not come to rest in eleven minutes.
            StatusError, TransportError, ProtocolError: With `on_interrupt="poll"`: the run could not be read.
            ConfigurationError: The stream is not open.
        """
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._ended:
            raise StopAsyncIteration
        try:
            event = await self._next()
        except (ProtocolError, StreamInterrupted, StreamServerError) as error:
            self._failure = self._redact(error)
        else:
            if event is None:
                raise StopAsyncIteration
            return event
        raise self._failure

    async def raw(self) -> AsyncGenerator[tuple[m.StreamEvent, bytes], None]:
        """Yield each event with its data exactly as sent: lossless. Raises as `__anext__`."""
        async for event in self:
            yield event, self._data

    async def text_deltas(self) -> AsyncGenerator[str, None]:
        """Yield the text of the run's messages piece by piece, and pass over all else. Raises as `__anext__`.

        Where a run writes several messages, nothing marks the end of one; `messages` keeps them apart.
        """
        async for event in self:
            if isinstance(event, m.MessageDeltaEvent) and event.delta.text:
                yield event.delta.text

    async def final_run(self) -> m.Run:
        """Take what events are left, and return the run at its rest.

        If the server said `done` before it told how the run ended, the run is read until it rests, whatever
        `on_interrupt` says.

        Raises:
            WaitTimeout: The run was read and did not come to rest in eleven minutes; it carries the run as last seen.
            StatusError, TransportError, ProtocolError: The run could not be read.
            AsyncRunsError: What `__anext__` raises.
        """
        async for _ in self:
            pass
        run = self.run
        if run is None or not rests(run):
            run = await self._settled("eof")
        return run

    @property
    def _rests(self) -> bool:
        return self.run is not None and rests(self.run)

    async def _next(self) -> m.StreamEvent | None:
        """Return the next event, or None at a rightful end."""
        self._reason = self._reason or await self._arrived()
        if not self._reason:
            return self._taken(self._waiting.popleft())
        if not self._rests:
            if self._on_interrupt == "raise":
                raise self._interrupted(self._reason)
            await self._settled(self._reason)
        self._ended = True
        return None

    async def _settled(self, reason: str) -> m.Run:
        """Read the run until it rests, and return it; raise that the stream was interrupted if no run is known."""
        thread_id, run_id = self._subject.thread_id, self._subject.run_id
        if thread_id is None or run_id is None:
            raise self._redact(self._interrupted(reason))
        self._free_connection()  # The reads may find no other free.
        run = self._snapshots.run = await self._settle(thread_id, run_id)
        return run

    def _free_connection(self) -> None:
        chunks, self._chunks = self._chunks, None
        if chunks is not None:
            chunks.close()

    def _taken(self, raw: ServerSentEvent) -> m.StreamEvent:
        event = decode_event(raw, self._subject.thread_id)
        if isinstance(event, m.ErrorEvent):
            raise StreamServerError(event.message, code=event.code, run_id=self._subject.run_id)
        self._snapshots.note(event, raw.data)
        self._last_event, self._data = event.name, raw.data
        if isinstance(event, m.DoneEvent):
            self._ended = True
        return event

    async def _arrived(self) -> str:
        """Have at least one event in `_waiting`, or say why none will come: `eof`, `idle` or `lost`."""
        self._given += 1
        if self._waiting and self._given % _EVENTS_PER_TURN == 0:
            await asyncio.sleep(0)
        if self._waiting:
            return ""
        if self._chunks is None:
            raise ConfigurationError("The stream is not open: use it inside 'async with ... as stream:'.")
        rests, began = self._rests, asyncio.get_running_loop().time()
        if not rests:
            self._lingered = 0.0
        patience = min(_LINGER, self._idle_timeout) - self._lingered if rests else self._idle_timeout
        if patience <= 0:
            return "idle"
        try:
            with Cutoff(began + patience):
                async for chunk in self._chunks:
                    self._waiting.extend(self._decoder.feed(chunk))
                    if self._waiting:
                        return ""
                return "eof"
            return "idle"
        except TransportError:
            return "lost"
        finally:
            if rests:
                self._lingered += asyncio.get_running_loop().time() - began

    def _interrupted(self, reason: str) -> StreamInterrupted:
        run_id = self._subject.run_id
        where = f"Run {run_id} may go on: read it, or wait for it." if run_id else "It never named its run."
        return StreamInterrupted(
            f"The stream ended without an end ({reason}) after {self._last_event or 'no event'}. {where}",
            run_id=run_id,
            last_event=self._last_event,
            reason=reason,
        )

"""Wait for runs to come to rest: when to read each again, for one run or for thousands. Knows no HTTP."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import attrs

from asyncruns._pacing import judge_status
from asyncruns._pacing import poll_interval as next_poll_interval
from asyncruns._protocol import Answer
from asyncruns.errors import (
    AsyncRunsError,
    DeadlineExceeded,
    StatusError,
    TLSError,
    TransportError,
    WaitTimeout,
    escape_server_text,
)
from asyncruns.models import Run, RunStatus

logger = logging.getLogger("asyncruns")

_FIRST_POLL = 0.5
_STARTS_PER_TURN = 100
_KNOWN = frozenset(RunStatus)

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[object]]


class Deadline:
    """A moment on the loop's clock, made from the seconds until then."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self.when = self._loop.time() + seconds
        self.seconds = seconds

    def left(self, share: float = 1.0) -> float:
        """Return the seconds left, or a share of them; at least a millisecond, so that they can be a timeout."""
        return max(0.001, (self.when - self._loop.time()) * share)

    @property
    def is_over(self) -> bool:
        """Whether the moment has come."""
        return self._loop.time() >= self.when


@attrs.frozen(kw_only=True)
class Waited:
    """How one wait of many ended.

    Attributes:
        thread_id: The thread.
        run_id: The run.
        run: The run at rest. None: it did not come to rest, or could not be read.
        error: Why. None where there is a run.
    """

    thread_id: str
    run_id: str
    run: Run | None = None
    error: AsyncRunsError | None = None


@attrs.frozen(kw_only=True)
class RunReader:
    """How to read a run; one object for all waits.

    Attributes:
        ask: Asks for the run of these ids, its thread's and its own, until a moment on the loop's clock.
        read: Returns the run of these ids out of the answer.
    """

    ask: Callable[[str, str, float], Awaitable[Answer]]
    read: Callable[[Answer, str, str], Run]


@attrs.frozen(kw_only=True)
class Waiter:
    """How to wait for one run.

    Attributes:
        thread_id: The run's thread.
        run_id: The run.
        reader: Reads it.
        interval: Seconds between two reads. None: what the server asks for, else growing.
        sleep: Waits between reads.
        random: Gives a number from 0 up to 1.
    """

    thread_id: str
    run_id: str
    reader: RunReader
    interval: float | None
    sleep: Sleep
    random: Callable[[], float]

    async def rest(self, deadline: Deadline, is_enough: Callable[[Run], bool], seen: Run | None = None) -> Run:
        """Read the run until *is_enough*, and return it; it may have been seen before.

        Once the run was seen, a read that fails in a way that passes is no reason to give up before the deadline.

        Raises:
            WaitTimeout: The deadline passed; it carries the run as last seen, and comes from the last failure, if any.
            AsyncRunsError: The first read failed, or one in a way that does not pass.
        """
        run = seen
        trouble: AsyncRunsError | None = None
        interval = _FIRST_POLL / 1.5
        while not deadline.is_over:
            try:
                answer = await self.reader.ask(self.thread_id, self.run_id, deadline.when)
                found = self.reader.read(answer, self.thread_id, self.run_id)
            except AsyncRunsError as error:
                if deadline.is_over and isinstance(error, DeadlineExceeded):
                    break
                if run is None or not _may_pass(error):
                    raise
                trouble = error
                interval = next_poll_interval(interval, {}, self.random)
                await self.sleep(min(max(interval, getattr(error, "retry_after", None) or 0.0), deadline.left()))
                continue
            self._tell_unknown(found, run)
            run = found
            if is_enough(run):
                return run
            interval = self.interval or next_poll_interval(interval, answer.headers, self.random)
            del answer  # Thousands may sleep here, and each object that they hold lengthens a garbage collection.
            await self.sleep(min(interval, deadline.left()))
        raise self.too_late(deadline, run) from trouble

    def too_late(self, deadline: Deadline, run: Run | None) -> WaitTimeout:
        """Return the error that says so."""
        seen = f"; it was {run.status} when last seen" if run else ""
        return WaitTimeout(
            f"Run {self.run_id} did not come to rest in {round(deadline.seconds, 3):g} seconds{seen}.", run=run
        )

    def _tell_unknown(self, run: Run, before: Run | None) -> None:
        if run.status not in _KNOWN and (before is None or before.status != run.status):
            status = escape_server_text(run.status, 64)
            logger.warning("Run %s has the unknown status %s; it counts as still moving.", self.run_id, status)


def _may_pass(error: AsyncRunsError) -> bool:
    """Whether a read that failed so, after the session's own attempts, may succeed later."""
    if isinstance(error, StatusError):
        _, transient = judge_status(error.status, error.code, {})
        return transient
    return isinstance(error, TransportError) and not isinstance(error, TLSError)


async def as_they_rest(waits: Iterable[Coroutine[Any, Any, T]]) -> AsyncGenerator[T, None]:
    """Carry all *waits* out at once, and yield what each gives as it comes; leaving early cancels the others.

    Thousands do not begin in one turn of the loop: others get it after each hundred.
    """
    tasks: list[asyncio.Future[T]] = []
    try:
        for wait in waits:
            tasks.append(asyncio.ensure_future(wait))
            if len(tasks) % _STARTS_PER_TURN == 0:
                await asyncio.sleep(0)
        for done in asyncio.as_completed(tasks):
            yield await done
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

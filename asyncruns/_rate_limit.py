"""A shared limit of requests a minute, which also listens to what the server says of its own."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping

from asyncruns._arguments import is_positive
from asyncruns._pacing import parse_retry_after
from asyncruns.errors import ConfigurationError

_UNTOLD_WAIT = 1.0
_LONGEST_WAIT = 900.0
_LATE = 0.1
"""Seconds by which turns that a busy loop took late may be made up for."""
_FIRST_GAP, _LONGEST_GAP = 0.05, 5.0
_WIDER, _NARROWER = 2.0, 0.98
_COUNT = re.compile(r"[0-9]{1,9}")
_RESET = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?")


class RateLimit:
    """How many requests a minute a session sends; pass one object to several sessions and they share it.

    Requests take turns. After a 429 everybody waits as long as the server asks, and turns then come at wider
    intervals, which narrow again with success. So that it seldom comes to that, the server's `x-ratelimit-*-requests`
    are heeded: once half of its limit is used up, what remains is spread over the time until the limit is whole
    again, and when nothing remains, everybody waits for that moment. Waiting for the first turn of a call does not
    count against the call's timeout, but against that of `wait` and `drive`, and of all that begins, answers or cancels
    a run: without a turn in time nothing is sent.

    Args:
        requests_per_minute: Most requests a minute, evenly spread. None: as many as the server takes.

    Attributes:
        refusals: Answers so far that said there were too many requests.
        closed_until: When the present wait of everybody ends, on the event loop's clock; 0 for none so far.
        sleep: Waits; tests replace it.

    Raises:
        ConfigurationError: The number is not above 0.
    """

    def __init__(self, requests_per_minute: float | None = None) -> None:
        if requests_per_minute is not None and not is_positive(requests_per_minute):
            raise ConfigurationError("requests_per_minute must be a number above 0, or None.")
        self._smallest_gap = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._gap = self._smallest_gap
        self._told_gap = 0.0
        self._next = 0.0
        self._lines: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}
        self.refusals = 0
        self.closed_until = 0.0
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    @property
    def pace(self) -> float | None:
        """How many requests a minute may be sent at present; None for as many as come."""
        gap = max(self._gap, self._told_gap)
        return 60.0 / gap if gap else None

    async def turn(self) -> None:
        """Return when the next request may be sent."""
        loop = asyncio.get_running_loop()
        # The first in its loop's line alone takes the next turn: who leaves the line takes none along.
        async with self._line_of(loop):
            is_open = False
            while not is_open:
                closed, before = self.closed_until, self._next
                at = self._next if loop.time() - self._next <= _LATE else loop.time()
                taken = self._next = at + max(self._gap, self._told_gap)
                try:
                    if at > loop.time():
                        await self.sleep(at - loop.time())
                except BaseException:
                    if self._next == taken:  # nobody's of another loop came behind
                        self._next = max(before, self.closed_until)
                    raise
                is_open = self.closed_until == closed

    def _line_of(self, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
        if loop not in self._lines:
            self._lines = {old: line for old, line in self._lines.items() if not old.is_closed()}
            self._lines[loop] = asyncio.Lock()
        return self._lines[loop]

    def note(self, status: int, headers: Mapping[str, str], now: float) -> None:
        """Take in what an answer says; *now* is in Unix seconds."""
        if status == 429:
            self.refusals += 1
            asked = parse_retry_after(headers, now)
            if asyncio.get_running_loop().time() >= self.closed_until:  # The first of those under way together.
                self._gap = max(self._smallest_gap, min(_LONGEST_GAP, max(_FIRST_GAP, self._gap * _WIDER)))
            self._close(_UNTOLD_WAIT if asked is None else asked)
            return
        self._gap = max(self._smallest_gap, self._gap * _NARROWER if self._gap > _FIRST_GAP / 2 else 0.0)
        remaining, reset = _count(headers, "remaining"), parse_reset(headers.get("x-ratelimit-reset-requests", ""))
        if remaining is None or reset is None:
            return
        if remaining == 0:
            self._close(reset)
        self._told_gap = min(_LONGEST_WAIT, spread(_count(headers, "limit"), remaining, reset))

    def _close(self, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + min(seconds, _LONGEST_WAIT)
        if until > self.closed_until and seconds > 0:
            self.closed_until = until
            self._next = max(self._next, until)  # who waits for less than the pace goes no sooner than it


def spread(limit: int | None, remaining: int, reset: float) -> float:
    """Return the interval at which requests may be sent, in seconds; 0 for as many as come.

    Servers limit in two ways, and do not say which. In one, the requests of a window are counted, and *reset* is its
    end: what remains then just lasts. In the other, used requests come back one by one, and *reset* is when all of
    them are back: the interval is then that at which they come back once half of them are used, and longer below, so
    that about half remains. Neither way depends on whether the limit is one of a minute or of a day.

    Args:
        limit: Most requests. None: it is not said.
        remaining: How many of them may still be sent.
        reset: Seconds until all of them may be sent again.
    """
    if remaining == 0 or (limit is not None and remaining > limit / 2):
        return 0.0
    return reset / remaining


def _count(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(f"x-ratelimit-{name}-requests", "").strip()
    return int(text) if _COUNT.fullmatch(text) else None


def parse_reset(text: str) -> float | None:
    """Read a Go duration such as `6m0s` or `76ms`, or plain seconds, in seconds; None for anything else."""
    text = text.strip()
    if _COUNT.fullmatch(text):
        return float(text)
    found = _RESET.fullmatch(text) if text else None
    if found is None:
        return None
    hours, minutes, seconds, millis = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000

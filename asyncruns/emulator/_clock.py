"""The clocks an emulator can run on: tests turn them instead of sleeping."""

import asyncio
import time
from typing import Protocol

_GLANCE = 0.05
_BLINK = 0.005


class Clock(Protocol):
    """Where the emulator's life cycles get their time from."""

    def now(self) -> float:
        """Return Unix seconds."""
        ...

    def advance(self, seconds: float) -> None:
        """Turn the clock forward by *seconds*, which may not be negative."""
        ...

    async def approach(self, moment: float) -> None:
        """Wait until the clock shows *moment*, but no more than a twentieth of a real second.

        Live streams call this between two events, again and again; so they soon see what other requests did.
        """
        ...


class RunningClock:
    """Real time, plus all that it was advanced by."""

    def __init__(self) -> None:
        self._advanced = 0.0

    def now(self) -> float:
        """Return Unix seconds."""
        return time.time() + self._advanced

    def advance(self, seconds: float) -> None:
        """Turn the clock forward by *seconds*.

        Raises:
            ValueError: The seconds are negative: listings are ordered by creation time.
        """
        self._advanced += _forward(seconds)

    async def approach(self, moment: float) -> None:
        """Sleep until the clock shows *moment*, but no more than a twentieth of a second."""
        await asyncio.sleep(min(max(0.0, moment - self.now()), _GLANCE))


class ManualClock:
    """A clock that stands still until it is advanced.

    Live streams turn it too, from one event to the next, so that a test reads a whole stream at once and in
    the same order each time. The other runs of the emulator age with it.

    Args:
        start: Unix seconds it first shows.
        follows_streams: Whether live streams turn the clock. If not, they wait until the test turns it.
    """

    def __init__(self, start: float = 1_750_000_000.0, *, follows_streams: bool = True) -> None:
        self._now = start
        self._follows_streams = follows_streams

    def now(self) -> float:
        """Return Unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Turn the clock forward by *seconds*.

        Raises:
            ValueError: The seconds are negative: listings are ordered by creation time.
        """
        self._now += _forward(seconds)

    async def approach(self, moment: float) -> None:
        """Turn the clock to *moment* if it follows streams, else look away for a moment of real time."""
        if self._follows_streams:
            self._now = max(self._now, moment)
        await asyncio.sleep(0 if self._now >= moment else _BLINK)


def _forward(seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError(f"a clock only turns forward, not by {seconds!r} seconds")
    return seconds

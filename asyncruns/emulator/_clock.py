"""The clocks an emulator can run on: tests turn them instead of sleeping."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where the emulator's life cycles get their time from."""

    def now(self) -> float:
        """Return Unix seconds."""
        ...

    def advance(self, seconds: float) -> None:
        """Turn the clock forward by *seconds*, which may not be negative."""
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


class ManualClock:
    """A clock that stands still until it is advanced.

    Args:
        start: Unix seconds it first shows.
    """

    def __init__(self, start: float = 1_750_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        """Return Unix seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Turn the clock forward by *seconds*.

        Raises:
            ValueError: The seconds are negative: listings are ordered by creation time.
        """
        self._now += _forward(seconds)


def _forward(seconds: float) -> float:
    if not seconds >= 0:
        raise ValueError(f"a clock only turns forward, not by {seconds!r} seconds")
    return seconds

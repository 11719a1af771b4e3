"""Trouble that passes: everybody waits, then goes on; what does not pass ends a thread, or the export."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from asyncruns import (
    AsyncRunsError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    RateLimitError,
    ServerError,
    TLSError,
    TransportError,
)
from asyncruns.archive._progress import Progress

PASSING = (TransportError, ServerError, RateLimitError)
"""Errors that may not come again; the session has tried several times when one gets here."""

FOR_ALL = (AuthenticationError, ConfigurationError)
"""Errors that any other thread would end with, too."""

_TRIES = 5
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 900.0


class ExportStopped(Exception):  # noqa: N818  # never leaves the package
    """The error ends the export and not just a thread."""

    def __init__(self, error: AsyncRunsError) -> None:
        super().__init__(str(error))
        self.error = error


class Patience:
    """The pauses of one export, shared by all its walks.

    Attributes:
        sleep: Waits; tests replace it.
        successes: Pages that came. While they come, the server is there.
    """

    def __init__(self, progress: Progress) -> None:
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self.successes = 0
        self._progress = progress
        self._until = 0.0
        self._given_up: set[object] = set()
        self._given_up_at = -1  # The successes when the last of them was.

    async def calm(self) -> None:
        """Return when nobody is to wait."""
        loop = asyncio.get_running_loop()
        while (remaining := self._until - loop.time()) > 0:
            before = self._until
            await self.sleep(remaining)
            if self._until == before:
                self._until = 0.0

    async def through(self, walk: Callable[[], Awaitable[None]], seen: Callable[[], int], *, of: object) -> None:
        """Carry out *walk*, and begin it again after a pause when trouble of the passing kind ends it.

        Args:
            walk: May be begun again and then goes on where it was.
            seen: Tells how far it is; getting on renews the patience.
            of: What it is a part of. Once a part was tried for long and given up, the others are tried once.

        Raises:
            AsyncRunsError: It cannot be carried out.
            ExportStopped: Nothing can, at the moment.
        """
        tries, at, successes = 0, seen(), self.successes
        while True:
            try:
                return await walk()
            except PASSING as error:
                if seen() != at:
                    tries, at, successes = 0, seen(), self.successes
                tries += 1
                if not _may_pass(error):
                    raise ExportStopped(error) from None
                if of in self._given_up:
                    raise
                if tries == _TRIES:
                    if self.successes == successes and self._is_away(error):
                        raise ExportStopped(error) from None
                    self._given_up.add(of)
                    self._given_up_at = self.successes
                    raise
                self._pause(error, tries)
            await self.calm()

    def _is_away(self, error: AsyncRunsError) -> bool:
        """Whether the server fails for all: nobody is there, or nothing came since something else was given up."""
        return isinstance(error, ConnectError | TLSError) or self._given_up_at == self.successes

    def _pause(self, error: AsyncRunsError, tries: int) -> None:
        asked = getattr(error, "retry_after", None)
        seconds = _FIRST_PAUSE * 2.0 ** (tries - 1) if asked is None else asked
        self._until = max(self._until, asyncio.get_running_loop().time() + seconds)
        self._progress.pauses += 1
        self._progress.paused_until = self._until
        self._progress.last_trouble = str(error)


def _may_pass(error: AsyncRunsError) -> bool:
    if not isinstance(error, RateLimitError):
        return True
    return not error.is_final and (error.retry_after or 0.0) <= _LONGEST_PAUSE


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the error that ends an export of which several workers failed: one that stops it, one of ours, or any."""
    errors = list(_each(group))
    of_kinds = (error for kind in (ExportStopped, AsyncRunsError) for error in errors if isinstance(error, kind))
    found = next(of_kinds, errors[0])
    return found.error if isinstance(found, ExportStopped) else found


def _each(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error

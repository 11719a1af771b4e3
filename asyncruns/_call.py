"""A call under way: what is asked for, how far it has come, and what its attempts failed with."""

from collections.abc import Mapping

from asyncruns._cutoff import Cutoff, Timer
from asyncruns._pacing import Failure
from asyncruns._protocol import Request
from asyncruns.errors import AsyncRunsError, ConnectError, DeadlineExceeded

_NO_HEADERS: Mapping[str, str] = {}


class Call(Cutoff):
    """Ends when its time is up. One object, for thousands may wait.

    Attributes:
        request: What to send.
        live: Whether a stream is asked for.
        attempts: Those begun so far.
        has_renewed: Whether one more was allowed because the key was refused.
        headers: Those of the last answer.
        failed: What the last attempt failed with, until the next begins; also that it found no connection so far. An
            earlier failure stands in its place where the request may have been carried out by that, and may not be
            twice.
    """

    __slots__ = ("_unsure", "attempts", "failed", "has_renewed", "headers", "live", "request")

    def __init__(self, request: Request, *, live: bool, when: float, timer: Timer | None) -> None:
        super().__init__(when, timer)
        self.request, self.live = request, live
        self.attempts, self.has_renewed = 0, False
        self.failed: AsyncRunsError | None = None
        self._unsure: AsyncRunsError | None = None
        self.headers: Mapping[str, str] = _NO_HEADERS

    def begin_attempt(self) -> None:
        """Count one more attempt, of which nothing is known yet."""
        self.attempts, self.headers, self.failed = self.attempts + 1, _NO_HEADERS, self._unsure

    def note(self, failed: Failure) -> AsyncRunsError:
        """Take in what the attempt *failed* with, and return what is to be told where it is the last."""
        if failed.began and not self.request.repeatable:
            self._unsure = failed.error
        self.failed = self._unsure or failed.error
        return self.failed

    def note_no_connection(self) -> None:
        """Take in that the attempt ends, by whatever, before it has a connection."""
        self.failed = self._unsure or ConnectError(f"{self.request.method} {self.request.target}: no connection yet.")

    def too_late(self, seconds: float, request_id: str | None) -> DeadlineExceeded:
        """Return the error which says that the time, so many *seconds*, is up; `failed` is its cause."""
        is_unsent = isinstance(self.failed, ConnectError) or not (self.attempts or self.failed)
        what = "was not sent" if is_unsent else "had no complete answer"
        told = f"{self.request.method} {self.request.target} {what} in {round(seconds, 3):g} seconds."
        late = DeadlineExceeded(told, attempts=self.attempts, request_id=request_id)
        late.__cause__ = self.failed
        return late

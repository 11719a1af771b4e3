"""Do at most once what must not be done twice, and find out where nobody knows whether it was. Knows no HTTP."""

from collections.abc import Awaitable, Callable

import attrs

from asyncruns._pacing import judge_status
from asyncruns._waiting import Deadline, Sleep
from asyncruns.errors import (
    ActiveRunError,
    AsyncRunsError,
    BadRequestError,
    ConflictError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolError,
    RunCreationUnknown,
    StatusError,
    TruncatedBodyError,
    UnexpectedRedirectError,
    WaitTimeout,
)
from asyncruns.models import Run

_MAX_ATTEMPTS = 3
_MAX_ACTIVE_RUNS = 3
REFUSALS = BadRequestError | ConflictError
"""What says that the run is not in the state that a change begins from; it may have been changed before."""
_LAGS = (0.5, 1.0, 2.0)
"""Seconds before each further read of a run that ought to have been changed."""


@attrs.frozen(kw_only=True)
class Creation:
    """How to create one run at most once.

    Attributes:
        thread_id: The thread.
        request_key: Names the request in the run's metadata. None: the run cannot be searched for.
        post: Sends the request, within so many seconds.
        find: Searches the thread for the run with a key, within so many seconds.
        outlast: Waits until the thread's active run, named by its id, is terminal. None: nobody waits for that.
        sleep: Waits between two searches.
    """

    thread_id: str
    request_key: str | None
    post: Callable[[float], Awaitable[Run]]
    find: Callable[[str, float], Awaitable[Run | None]]
    outlast: Callable[[str, Deadline], Awaitable[object]] | None
    sleep: Sleep

    async def carry_out(self, deadline: Deadline) -> Run:
        """Return the run: the one that has the key, else a new one, if need be after up to three other runs."""
        for _ in range(_MAX_ACTIVE_RUNS):
            try:
                return await self._once(deadline)
            except ActiveRunError as error:
                if self.outlast is None or error.run_id is None:
                    raise
                active, run_id = error, error.run_id
            try:
                await self.outlast(run_id, deadline)
            except (WaitTimeout, DeadlineExceeded):
                raise active from None
        return await self._once(deadline)

    async def _once(self, deadline: Deadline) -> Run:
        if self.request_key is not None:
            found = await self.find(self.request_key, deadline.left())
            if found is not None:
                return found
        try:
            # With a key a part of the time is kept for the search that an unknown outcome calls for.
            return await self.post(deadline.left(1.0 if self.request_key is None else 2 / 3))
        except AsyncRunsError as error:
            unknown = creation_unknown(error, self.thread_id, self.request_key)
            if unknown is None and not isinstance(error, ActiveRunError):
                raise
            lost = error
        if self.request_key is not None:
            found = await self._search(self.request_key, deadline, 1 if unknown is None else _MAX_ATTEMPTS)
            if found is not None:
                return found
        if unknown is None:
            raise lost
        raise unknown from lost

    async def _search(self, request_key: str, deadline: Deadline, attempts: int) -> Run | None:
        """Look for the run, again after a while if it is not there yet; None also when looking fails."""
        for attempt in range(attempts):
            if attempt:
                await self.sleep(min(0.5 * attempt, deadline.left()))
            try:
                found = await self.find(request_key, deadline.left())
            except Exception:  # It was tried as often as the session tries anything; a token provider may raise it.
                return None
            if found is not None:
                return found
        return None


@attrs.frozen(kw_only=True)
class Change:
    """How to change a run by what the server carries out only once.

    Attributes:
        post: Sends the request, within so many seconds.
        read: Reads the run, within so many seconds.
        is_done: Whether the run, as read, has been changed.
        deadline: When all of it ends.
        sleep: Waits between two attempts.
        is_alone: Whether nobody else is to change the run so. If not, a refusal may mean that somebody did.
    """

    post: Callable[[float], Awaitable[Run]]
    read: Callable[[float], Awaitable[Run]]
    is_done: Callable[[Run], bool]
    deadline: Deadline
    sleep: Sleep
    is_alone: bool = True

    async def carry_out(self, unknown: AsyncRunsError | None = None) -> Run:
        """Send the request, and where its outcome is unknown, read the run to see; again if it was not changed.

        Where it cannot be read, the loss of the outcome is raised, from the reason.

        Args:
            unknown: How a first attempt ended that was made elsewhere and left its outcome open.
        """
        for attempt in range(_MAX_ATTEMPTS):
            if attempt and await self._is_over_in(0.5 * attempt):
                break
            if attempt or unknown is None:
                try:
                    return await self.post(self.deadline.left(2 / 3))
                except AsyncRunsError as error:
                    lost = error
                unknown = self._left_open(lost, unknown)
            else:
                lost = unknown
            run = await self._read(unknown)
            if self.is_done(run):
                return run
            if isinstance(lost, REFUSALS | ProtocolError):
                return await self._seen_late(unknown, lost)
        raise lost

    async def _seen_late(self, unknown: AsyncRunsError, lost: AsyncRunsError) -> Run:
        """Return the run as changed, where a yes of no use or a refusal says that it should be.

        Reads may lag behind. Nothing is sent again; if no read shows the change, *lost* is raised.
        """
        for seconds in _LAGS:
            if await self._is_over_in(seconds):
                break
            run = await self._read(unknown)
            if self.is_done(run):
                return run
        raise lost

    async def _is_over_in(self, seconds: float) -> bool:
        """Wait for *seconds*, by the deadline, and return whether that has come."""
        await self.sleep(min(seconds, self.deadline.left()))
        return self.deadline.is_over

    def _left_open(self, error: AsyncRunsError, before: AsyncRunsError | None) -> AsyncRunsError:
        """Return what leaves the outcome open: the last *error* or the one *before*; else raise the last."""
        if is_ambiguous(error):
            return error
        if before is not None and isinstance(error, DeadlineExceeded):
            raise before  # That it was not sent again is not the news.
        if not isinstance(error, REFUSALS) or (before is None and self.is_alone):
            raise error
        return before or error

    async def _read(self, unknown: AsyncRunsError) -> Run:
        try:
            return await self.read(self.deadline.left())
        except Exception as error:  # A token provider may raise anything; that nothing was read is not the news.
            raise unknown from error


def is_ambiguous(error: AsyncRunsError) -> bool:
    """Whether the request that ended in *error* may have been carried out.

    So may one that was answered with a yes of no use. That includes an error object under status 200: whatever sent it
    on has dropped the status that would tell a refusal from a failure. A redirect says that nothing was begun.
    """
    if isinstance(error, StatusError):
        began, _ = judge_status(error.status, error.code, {})
        return began or error.status < 200  # It takes the request up, and then speaks another protocol.
    if isinstance(error, DeadlineExceeded):
        last = error.__cause__  # How the last attempt ended, where the time was up before the next.
        return is_ambiguous(last) if isinstance(last, AsyncRunsError) else error.attempts > 0
    is_of_no_use = isinstance(error, ProtocolError) and not isinstance(error, UnexpectedRedirectError)
    return is_of_no_use or isinstance(error, ConnectionLost | TruncatedBodyError)


def creation_unknown(
    error: AsyncRunsError, thread_id: str | None, request_key: str | None = None
) -> RunCreationUnknown | None:
    """Return the error for a create that may have been carried out although *error* ended it, else None."""
    if not is_ambiguous(error):
        return None
    where = f"on thread {thread_id}" if thread_id else "on a new thread"
    see = "List the newest runs to see" if request_key is None else "Its resolve(session) looks for the run"
    return RunCreationUnknown(
        f"Whether a run was created {where} is unknown: {str(error).rstrip('.')}. It is not sent again. {see}.",
        thread_id=thread_id,
        request_key=request_key,
        request_id=getattr(error, "request_id", None),
    )

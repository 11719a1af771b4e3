"""The runs of a thread: create, read, list, modify, cancel, answer, wait."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, Literal, Protocol, Unpack

from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import check_seconds, path, with_query
from asyncruns._resource import (
    REQUEST_KEY,
    RUN,
    Resource,
    check_params,
    creation_unknown,
    is_ambiguous,
    with_request_key,
)
from asyncruns._stream import OnInterrupt, RunStream, Subject
from asyncruns._waiting import Deadline, Waited, as_they_rest, is_terminal, rests
from asyncruns.errors import (
    ActiveRunError,
    AsyncRunsError,
    BadRequestError,
    DeadlineExceeded,
    ProtocolError,
    StreamInterrupted,
    StreamServerError,
    WaitTimeout,
)
from asyncruns.models import RequiredToolCall, Run, RunStatus, StreamEvent
from asyncruns.params import ListParams, RunCreateParams, RunModifyParams, ToolOutput

IfActive = Literal["raise", "wait", "cancel"]

_RUNS = "/threads/{thread_id}/runs"
_MAX_SEARCHES = 3
_MAX_ACTIVE_RUNS = 3


class ToolCaller(Protocol):
    """What `drive` needs of its tools; `Toolbox` is one."""

    async def outputs(self, calls: Sequence[RequiredToolCall], /) -> Sequence[ToolOutput]:
        """Carry the calls out and return one output for each."""
        ...


class Runs(Resource):
    """`session.runs`: the runs of threads (API page: Runs).

    Every method takes `timeout`, seconds for the whole call with its retries and the body (None: the session's own),
    and raises `InvalidIdError` for an id that cannot stand in a URL, `StatusError` for a refusal, `TransportError`
    when no complete answer came, and `ProtocolError` for an answer that cannot be used.
    """

    async def create(
        self,
        thread_id: str,
        *,
        request_key: str | None = None,
        if_active: IfActive = "raise",
        timeout: float | None = None,
        **params: Unpack[RunCreateParams],
    ) -> Run:
        """Create a run on a thread and return it, normally `queued` (API page: Create run).

        It is sent again only if the server provably did not begin it: no connection, or status 429.

        With a *request_key* at most one run comes of any number of calls. The key goes into the run's metadata as
        `request_key`; before the request, and whenever its outcome is unknown, the newest 100 runs of the thread are
        searched for the key, and the run that has it is returned. So a job that is delivered twice finds its run,
        provided that it kept its thread's id. Two calls at the very same moment are not kept apart by it; the rule of
        one active run per thread does that.

        Args:
            thread_id: The thread.
            request_key: Names this request among all on the thread: 1 to 512 characters, such as a job's id.
            if_active: What to do when the thread already has an active run: `raise`; `wait` until it is terminal; or
                `cancel` it and wait. Then the run is created after all, within the timeout.
            timeout: Seconds for the whole call.
            **params: See `RunCreateParams`; `assistant_id` is required.

        Raises:
            ActiveRunError: The thread already has an active run; `run_id` names it.
            RunCreationUnknown: The run may or may not exist: the answer was lost or of no use, or the server failed
                over it, and no run with the key was found, or no key was given. The cause tells which.
            TypeError: A keyword is unknown or missing.
            ValueError: A value is beyond a documented limit, or has no JSON form.
        """
        if if_active not in ("raise", "wait", "cancel"):
            raise ValueError(f"if_active must be 'raise', 'wait' or 'cancel', not {if_active!r}.")
        target, body = _creation(thread_id, params, request_key)
        deadline = self._deadline(timeout)

        async def post() -> Run:
            # With a key a part of the time is kept for the search that an unknown outcome calls for.
            seconds = deadline.left(1.0 if request_key is None else 2 / 3)
            return await self._post(target, Run, body, seconds, thread_id=thread_id)

        for _ in range(_MAX_ACTIVE_RUNS):
            try:
                return await self._created_once(thread_id, post, request_key, deadline)
            except ActiveRunError as error:
                if if_active == "raise" or error.run_id is None:
                    raise
                active = error
            await self._outlast(thread_id, active, if_active, deadline)
        raise active

    async def find(self, thread_id: str, *, request_key: str, timeout: float | None = None) -> Run | None:
        """Return the run that was created with *request_key*, or None; the thread's newest 100 runs are searched."""
        page = await self.list(thread_id, timeout=timeout)
        return next((run for run in page.data if run.metadata.get(REQUEST_KEY) == request_key), None)

    async def _created_once(
        self, thread_id: str, post: Callable[[], Awaitable[Run]], request_key: str | None, deadline: Deadline
    ) -> Run:
        if request_key is not None:
            found = await self.find(thread_id, request_key=request_key, timeout=deadline.left())
            if found is not None:
                return found
        try:
            return await post()
        except AsyncRunsError as error:
            unknown = creation_unknown(error, thread_id, request_key)
            if unknown is None and not isinstance(error, ActiveRunError):
                raise
            lost = error
        if request_key is not None:
            found = await self._search(thread_id, request_key, deadline, 1 if unknown is None else _MAX_SEARCHES)
            if found is not None:
                return found
        if unknown is None:
            raise lost
        raise unknown from lost

    async def _search(self, thread_id: str, request_key: str, deadline: Deadline, attempts: int) -> Run | None:
        """Look for the run, again after a while if it is not there yet; None also when looking fails."""
        for attempt in range(attempts):
            if attempt:
                await self._transport.sleep(min(0.5 * attempt, deadline.left()))
            try:
                found = await self.find(thread_id, request_key=request_key, timeout=deadline.left())
            except AsyncRunsError:  # It was tried as often as the session tries anything.
                return None
            if found is not None:
                return found
        return None

    async def _outlast(self, thread_id: str, active: ActiveRunError, if_active: IfActive, deadline: Deadline) -> None:
        """Wait until the active run is terminal, after asking it to stop if so wished."""
        run_id = active.run_id or ""
        try:
            if if_active == "cancel":
                with suppress(BadRequestError):  # It ended meanwhile.
                    await self.cancel(thread_id, run_id, timeout=deadline.left())
            await self._waiter(thread_id, run_id).rest(deadline, is_terminal)
        except (WaitTimeout, DeadlineExceeded):
            raise active from None

    def stream(
        self,
        thread_id: str,
        *,
        idle_timeout: float = 60.0,
        on_interrupt: OnInterrupt = "raise",
        timeout: float | None = None,
        **params: Unpack[RunCreateParams],
    ) -> RunStream:
        """Return a stream that, when entered, creates a run and gives its events as they come (API page: Streaming).

        Args:
            thread_id: The thread.
            idle_timeout: Seconds without an event after which the stream counts as interrupted. Pings are no events.
            on_interrupt: What a stream that ends without an end does: `raise` `StreamInterrupted`, or `poll` the run
                until it rests (eleven minutes at most).
            timeout: Seconds until the answer begins.
            **params: See `RunCreateParams`; `assistant_id` is required.

        Raises:
            RunCreationUnknown: On entering: the run may or may not exist.
            UnexpectedContentError: On entering: the server answered with something other than a stream. Some servers
                ignore the wish for one, and the run was created: list the newest runs to see.
            ValueError: `on_interrupt` or `idle_timeout` is none of the above.
        """
        target, body = _creation(thread_id, params, None)
        return self._live(target, body, timeout, idle_timeout, on_interrupt, Subject(thread_id))

    def stream_tool_outputs(
        self,
        thread_id: str,
        run_id: str,
        *,
        tool_outputs: Sequence[ToolOutput],
        idle_timeout: float = 60.0,
        on_interrupt: OnInterrupt = "raise",
        timeout: float | None = None,
    ) -> RunStream:
        """Return a stream that, when entered, answers a run in `requires_action` and gives its further events.

        Arguments and errors as `stream` and `submit_tool_outputs`.
        """
        target, body = _outputs(thread_id, run_id, tool_outputs)
        has_them = _has(tool_outputs)
        return self._live(
            target,
            body,
            timeout,
            idle_timeout,
            on_interrupt,
            Subject(thread_id, run_id),
            lambda run: rests(run) and has_them(run),
        )

    async def retrieve(self, thread_id: str, run_id: str, *, timeout: float | None = None) -> Run:
        """Return a run as it is now (API page: Retrieve run)."""
        target = path(RUN, thread_id=thread_id, run_id=run_id)
        return await self._get(target, Run, timeout, thread_id=thread_id, id=run_id)

    def list(
        self, thread_id: str, *, timeout: float | None = None, **params: Unpack[ListParams]
    ) -> AsyncCursorPager[Run]:
        """Return a pager over the runs of a thread, newest first unless `order="asc"` (API page: List runs).

        Nothing is sent until it is used. `timeout` is for each page. On servers that sort by whole seconds, only
        `asc` is known to give every run.

        Args:
            thread_id: The thread.
            timeout: Seconds for each page.
            **params: See `ListParams`.
        """
        check_params(params, ListParams)
        return self._list(path(_RUNS, thread_id=thread_id), Run, params, timeout, thread_id=thread_id)

    async def modify(
        self, thread_id: str, run_id: str, *, timeout: float | None = None, **params: Unpack[RunModifyParams]
    ) -> Run:
        """Replace a run's metadata and return the run (API page: Modify run)."""
        check_params(params, RunModifyParams)
        target = path(RUN, thread_id=thread_id, run_id=run_id)
        return await self._post(target, Run, params, timeout, repeatable=True, thread_id=thread_id, id=run_id)

    async def cancel(self, thread_id: str, run_id: str, *, timeout: float | None = None) -> Run:
        """Ask that a run stop, and return it, normally `cancelling` (API page: Cancel run).

        Raises:
            BadRequestError: The run is terminal already.
        """
        target = path(f"{RUN}/cancel", thread_id=thread_id, run_id=run_id)
        return await self._settled(thread_id, run_id, target, {}, timeout, _is_stopping)

    async def submit_tool_outputs(
        self,
        thread_id: str,
        run_id: str,
        *,
        tool_outputs: Sequence[ToolOutput],
        timeout: float | None = None,
    ) -> Run:
        """Answer a run in `requires_action`, and return it (API page: Submit tool outputs to run).

        Args:
            thread_id: The thread.
            run_id: The run.
            tool_outputs: One for each of `run.tool_calls`, all at once.
            timeout: Seconds for the whole call.

        Raises:
            BadRequestError: The run does not wait for outputs (any more), or one is missing or unknown.
        """
        target, body = _outputs(thread_id, run_id, tool_outputs)
        return await self._settled(thread_id, run_id, target, body, timeout, _has(tool_outputs))

    async def _settled(
        self,
        thread_id: str,
        run_id: str,
        target: str,
        body: Mapping[str, object],
        timeout: float | None,
        is_done: Callable[[Run], bool],
    ) -> Run:
        """Send what the server carries out once, and where the outcome is unknown, read the run to see."""
        deadline = self._deadline(timeout)
        for attempt in range(_MAX_SEARCHES):
            if attempt:
                await self._transport.sleep(min(0.5 * attempt, deadline.left()))
            try:
                return await self._post(target, Run, body, deadline.left(2 / 3), thread_id=thread_id, id=run_id)
            except AsyncRunsError as error:
                if not is_ambiguous(error) and not (attempt and isinstance(error, BadRequestError)):
                    raise
                lost = error
            run = await self.retrieve(thread_id, run_id, timeout=deadline.left())
            if is_done(run):
                return run
            if isinstance(lost, BadRequestError | ProtocolError) or deadline.is_over:
                break
        raise lost

    async def wait(
        self,
        thread_id: str,
        run_id: str,
        *,
        timeout: float,
        poll_interval: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> Run:
        """Read a run until it is terminal or requires action, and return it.

        An unknown status counts as still moving, so the timeout always ends the wait.

        Args:
            thread_id: The thread.
            run_id: The run.
            timeout: Seconds to wait in all.
            poll_interval: Seconds between two reads. None: what the server's `openai-poll-after-ms` says, else from
                half a second on, growing by half each time up to ten seconds.
            cancel_on_timeout: Also ask the server to cancel the run when the time is up; that call has the
                session's own timeout, and if it fails the run may go on.

        Raises:
            WaitTimeout: The time is up; `run` is the run as last seen.
        """
        waiter = self._waiter(thread_id, run_id, poll_interval)
        deadline = Deadline(check_seconds("timeout", timeout))
        try:
            return await waiter.rest(deadline, rests)
        except WaitTimeout as error:
            if not cancel_on_timeout:
                raise
            run = error.run
        with suppress(AsyncRunsError):
            run = await self._cancelled(thread_id, run_id)
        raise waiter.too_late(deadline, run)

    async def wait_all(
        self,
        runs: Iterable[Run | tuple[str, str]],
        *,
        timeout: float,
        poll_interval: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> AsyncGenerator[Waited, None]:
        """Wait for many runs at once, and yield how each wait ended, in the order in which they end.

        A run that cannot be read, or does not come to rest in time, is given with its error and does not stop the
        others. The session's connections are shared by all. Leaving early ends the waits; the runs go on.

        Args:
            runs: The runs, or pairs of thread id and run id.
            timeout: Seconds for all of them together.
            poll_interval: As for `wait`.
            cancel_on_timeout: As for `wait`.
        """
        ids = [run if isinstance(run, tuple) else (run.thread_id, run.id) for run in runs]
        options: dict[str, Any] = {"poll_interval": poll_interval, "cancel_on_timeout": cancel_on_timeout}

        async def wait(thread_id: str, run_id: str) -> Waited:
            try:
                run = await self.wait(thread_id, run_id, timeout=timeout, **options)
            except AsyncRunsError as error:
                return Waited(thread_id=thread_id, run_id=run_id, error=error)
            return Waited(thread_id=thread_id, run_id=run_id, run=run)

        async with aclosing(as_they_rest([wait(*pair) for pair in ids])) as ended:
            async for waited in ended:
                yield waited

    async def drive(
        self,
        thread_id: str,
        run_id: str,
        tools: ToolCaller,
        *,
        timeout: float,
        poll_interval: float | None = None,
        on_event: Callable[[StreamEvent], object] | None = None,
    ) -> Run:
        """Take a run through its required actions to its end, and return it.

        It may be called for a run in any state, also again after a crash: outputs that were submitted are not
        submitted again. A required action of another kind than function calls is the caller's: the run is then
        returned as it is.

        Args:
            thread_id: The thread.
            run_id: The run.
            tools: Carries the tool calls out: a `Toolbox`, or anything with its `outputs`.
            timeout: Seconds for all of it.
            poll_interval: As for `wait`.
            on_event: Called with each event; outputs are then submitted with a stream underneath, and a stream that
                breaks is settled by reading the run.

        Raises:
            WaitTimeout: The time is up; the run may go on.
            BadRequestError: The server refused the outputs, and the run still waits for them.
        """
        deadline = Deadline(check_seconds("timeout", timeout))
        waiter = self._waiter(thread_id, run_id, poll_interval)
        run = await waiter.rest(deadline, rests)
        while asked := _asked(run):
            try:
                async with asyncio.timeout(deadline.left()) as scope:
                    outputs = await tools.outputs(run.tool_calls)
                    refusal = await self._answered(thread_id, run_id, outputs, on_event)
            except TimeoutError:
                if not scope.expired():
                    raise
                raise waiter.too_late(deadline, run) from None
            if refusal is None:
                run = await waiter.rest(deadline, _is_past(asked))
            else:  # It may have expired meanwhile, or another worker may have answered it.
                run = await waiter.rest(deadline, rests)
                if _asked(run) == asked:
                    raise refusal
        return run

    async def _answered(
        self,
        thread_id: str,
        run_id: str,
        outputs: Sequence[ToolOutput],
        on_event: Callable[[StreamEvent], object] | None,
    ) -> BadRequestError | None:
        """Submit *outputs*, and give *on_event* what a stream tells of the run then; return the server's refusal."""
        try:
            if on_event is None or not await self._streamed(thread_id, run_id, outputs, on_event):
                await self.submit_tool_outputs(thread_id, run_id, tool_outputs=outputs)
        except BadRequestError as refusal:
            return refusal
        return None

    async def _streamed(
        self, thread_id: str, run_id: str, outputs: Sequence[ToolOutput], on_event: Callable[[StreamEvent], object]
    ) -> bool:
        """Submit *outputs* with a stream; False where none began, and nobody knows whether they arrived."""
        async with AsyncExitStack() as stack:
            stream = self.stream_tool_outputs(thread_id, run_id, tool_outputs=outputs)
            try:
                await stack.enter_async_context(stream)
            except AsyncRunsError as error:
                if is_ambiguous(error):
                    return False
                raise
            with suppress(StreamInterrupted, StreamServerError, ProtocolError):  # Reading the run tells the rest.
                async for event in stream:
                    on_event(event)
        return True

    async def _cancelled(self, thread_id: str, run_id: str) -> Run:
        """Ask the run to stop; return it as it then is, also if it ended meanwhile."""
        try:
            return await self.cancel(thread_id, run_id)
        except BadRequestError:
            return await self.retrieve(thread_id, run_id)

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._transport.timeout if timeout is None else check_seconds("timeout", timeout))


def _creation(thread_id: str, params: Mapping[str, Any], request_key: str | None) -> tuple[str, dict[str, Any]]:
    """Return the target and the body that create a run."""
    check_params(params, RunCreateParams)
    body = dict(params)
    include = body.pop("include", None) or ()
    if request_key is not None:
        body["metadata"] = with_request_key(body.get("metadata"), request_key)
    target = with_query(path(_RUNS, thread_id=thread_id), [("include[]", str(value)) for value in include])
    return target, body


def _outputs(thread_id: str, run_id: str, tool_outputs: Sequence[ToolOutput]) -> tuple[str, dict[str, Any]]:
    """Return the target and the body that submit *tool_outputs*."""
    for output in tool_outputs:
        check_params(output, ToolOutput)
    target = path(f"{RUN}/submit_tool_outputs", thread_id=thread_id, run_id=run_id)
    return target, {"tool_outputs": list(tool_outputs)}


def _has(tool_outputs: Sequence[ToolOutput]) -> Callable[[Run], bool]:
    """Return the test whether a run waits for none of *tool_outputs* any more."""
    given = {output["tool_call_id"] for output in tool_outputs}
    return lambda run: given.isdisjoint(call.id for call in _asked(run))


def _asked(run: Run) -> tuple[RequiredToolCall, ...]:
    """Return the function calls that the run waits for now; some servers leave old ones on a run that ended."""
    return run.tool_calls if run.status == RunStatus.REQUIRES_ACTION else ()


def _is_past(asked: tuple[RequiredToolCall, ...]) -> Callable[[Run], bool]:
    """Return the test whether a run rests beyond *asked*: a read may lag behind the outputs it was given."""
    return lambda run: rests(run) and _asked(run) != asked


def _is_stopping(run: Run) -> bool:
    return run.is_terminal or run.status == RunStatus.CANCELLING

"""The runs of a thread: create, read, list, modify, cancel, answer, wait."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from inspect import iscoroutinefunction
from math import inf
from typing import Any, Literal, Unpack

from asyncruns._arguments import REQUEST_KEY, check_params, check_request_key, include_query, with_request_key
from asyncruns._driving import Driver, ToolCaller
from asyncruns._once import Change, Creation
from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import Request, check_seconds, run_path, thread_path, with_query
from asyncruns._resource import Resource, get_request, post_request
from asyncruns._run_states import has_taken, is_stopping, is_terminal, rests
from asyncruns._snapshots import Subject
from asyncruns._stream import OnInterrupt, RunStream
from asyncruns._waiting import Deadline, Waited, as_they_rest
from asyncruns.errors import AsyncRunsError, BadRequestError, WaitTimeout, escape_server_text
from asyncruns.models import Run, StreamEvent
from asyncruns.params import ListParams, RunCreateParams, RunModifyParams, ToolOutput

logger = logging.getLogger("asyncruns")

IfActive = Literal["raise", "wait", "cancel"]

_SEARCHED = 100


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

        It is sent again only if the server provably did not begin it: no connection, status 429, or 401 where a token
        provider gives another token.

        With a *request_key* at most one run comes of any number of calls. The key goes into the run's metadata as
        `request_key`; before the request, and whenever its outcome is unknown, the newest 100 runs of the thread are
        searched for the key, and the run that has it is returned. So a job that is delivered twice finds its run,
        provided that it kept its thread's id. Two calls at the very same moment are not kept apart by it; the rule of
        one active run per thread does that. A server that keeps no metadata makes the key void; a warning is logged
        where its answer does not show the key.

        Args:
            thread_id: The thread.
            request_key: Names this request among all on the thread: 1 to 512 characters, such as a job's id.
            if_active: What to do when the thread already has an active run: `raise`; `wait` until it is terminal; or
                `cancel` it and wait. Then the run is created after all, within the timeout, unless others came first
                again and again: three are outlasted.
            timeout: Seconds for the whole call.
            **params: See `RunCreateParams`; `assistant_id` is required.

        Raises:
            ActiveRunError: The thread already has an active run; `run_id` names it.
            RunCreationUnknown: The run may or may not exist: the answer was lost or of no use, or the server failed
                over it, and no run with the key was found, or no key was given. The cause tells which.
            TypeError: A keyword is unknown or missing.
            ValueError: The metadata or the number of tools is beyond a documented limit, or a value has no JSON form.
        """
        if if_active not in ("raise", "wait", "cancel"):
            raise ValueError(f"if_active must be 'raise', 'wait' or 'cancel', not {if_active!r}.")
        request, deadline = post_request(*_creation(thread_id, params, request_key)), self._deadline(timeout)
        creation = Creation(
            thread_id=thread_id,
            request_key=request_key,
            post=lambda seconds: self._sent(request, Run, seconds, deadline.when, thread_id=thread_id),
            find=lambda key, seconds: self._found(thread_id, key, seconds, deadline.when),
            outlast=None if if_active == "raise" else partial(self._outlast, thread_id, cancel=if_active == "cancel"),
            sleep=self._transport.sleep,
        )
        run = await creation.carry_out(deadline)
        if request_key is not None and not _has_key(run, request_key):
            logger.warning(
                "Run %s does not show its request_key; this server may not keep metadata.", escape_server_text(run.id)
            )
        return run

    async def find(self, thread_id: str, *, request_key: str, timeout: float | None = None) -> Run | None:
        """Return the run that was created with *request_key*, or None; the thread's newest 100 runs are searched.

        Raises:
            ValueError: No run can have such a key.
        """
        return await self._found(thread_id, check_request_key(request_key), timeout)

    async def _found(self, thread_id: str, request_key: str, timeout: float | None, by: float = inf) -> Run | None:
        newest = self._list(_runs_path(thread_id), Run, {}, timeout, by, thread_id=thread_id)
        runs = await newest.collect(_SEARCHED)  # A server may give fewer at a time than it was asked for.
        return next((run for run in runs if _has_key(run, request_key)), None)

    async def _outlast(self, thread_id: str, run_id: str, deadline: Deadline, *, cancel: bool) -> None:
        """Wait until another run is terminal, after asking it to stop if *cancel*."""
        if cancel:
            with suppress(BadRequestError):  # It ended meanwhile.
                await self._stopped(thread_id, run_id, None, deadline)
        await self._waiter(thread_id, run_id).rest(deadline, is_terminal)

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
        return self._streaming(thread_id, run_id, tool_outputs, timeout, idle_timeout, on_interrupt)

    def _streaming(
        self,
        thread_id: str,
        run_id: str,
        tool_outputs: Sequence[ToolOutput],
        timeout: float | None = None,
        idle_timeout: float = 60.0,
        on_interrupt: OnInterrupt = "raise",
        by: float | None = None,
    ) -> RunStream:
        tool_outputs = list(tool_outputs)
        target, body = _outputs(thread_id, run_id, tool_outputs)
        is_answered = has_taken(tool_outputs)
        return self._live(
            target,
            body,
            timeout,
            idle_timeout,
            on_interrupt,
            Subject(thread_id, run_id),
            lambda run: rests(run) and is_answered(run),
            by,
        )

    async def retrieve(self, thread_id: str, run_id: str, *, timeout: float | None = None) -> Run:
        """Return a run as it is now (API page: Retrieve run)."""
        target = run_path(thread_id, run_id)
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
        return self._list(_runs_path(thread_id), Run, params, timeout, thread_id=thread_id)

    async def modify(
        self, thread_id: str, run_id: str, *, timeout: float | None = None, **params: Unpack[RunModifyParams]
    ) -> Run:
        """Replace a run's metadata and return the run (API page: Modify run)."""
        check_params(params, RunModifyParams)
        target = run_path(thread_id, run_id)
        return await self._post(target, Run, params, timeout, repeatable=True, thread_id=thread_id, id=run_id)

    async def cancel(self, thread_id: str, run_id: str, *, timeout: float | None = None) -> Run:
        """Ask that a run stop, and return it, normally `cancelling` (API page: Cancel run).

        Raises:
            BadRequestError: The run is terminal already.
        """
        return await self._stopped(thread_id, run_id, timeout, self._deadline(timeout))

    async def _stopped(self, thread_id: str, run_id: str, timeout: float | None, deadline: Deadline) -> Run:
        request = post_request(f"{run_path(thread_id, run_id)}/cancel", {})
        return await self._change(thread_id, run_id, request, timeout, deadline, is_stopping).carry_out()

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
        return await self._submission(thread_id, run_id, tool_outputs, timeout, self._deadline(timeout)).carry_out()

    def _submission(
        self,
        thread_id: str,
        run_id: str,
        tool_outputs: Sequence[ToolOutput],
        timeout: float | None,
        deadline: Deadline,
    ) -> Change:
        tool_outputs = list(tool_outputs)
        request = post_request(*_outputs(thread_id, run_id, tool_outputs))
        return self._change(thread_id, run_id, request, timeout, deadline, has_taken(tool_outputs))

    def _change(
        self,
        thread_id: str,
        run_id: str,
        request: Request,
        timeout: float | None,
        deadline: Deadline,
        is_done: Callable[[Run], bool],
    ) -> Change:
        """Return how to send *request* until it has done its work, by the deadline; the timeout is for each attempt."""
        longest = self._transport.timeout if timeout is None else timeout

        def send(request: Request, seconds: float) -> Awaitable[Run]:
            ids = {"thread_id": thread_id, "id": run_id}
            return self._sent(request, Run, min(seconds, longest), deadline.when, **ids)

        return Change(
            post=partial(send, request),
            read=partial(send, get_request(run_path(thread_id, run_id))),
            is_done=is_done,
            deadline=deadline,
            sleep=self._transport.sleep,
        )

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
                half a second on, growing by half each time up to ten seconds, with up to a tenth added at random.
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
        with suppress(Exception):  # A token provider may raise anything.
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
        others. The session's connections are shared by all. Leaving early ends the waits; the runs go on. An error that
        is none of this package's, such as a token provider's own, ends them too.

        Args:
            runs: The runs, or pairs of thread id and run id.
            timeout: Seconds for all of them together.
            poll_interval: As for `wait`.
            cancel_on_timeout: As for `wait`.
        """
        if isinstance(runs, Run):
            raise TypeError("wait_all takes several runs: write wait_all([run]), or wait for the one.")
        ids = [_ids(run) for run in runs]
        options: dict[str, Any] = {"poll_interval": poll_interval, "cancel_on_timeout": cancel_on_timeout}

        async def wait(thread_id: str, run_id: str) -> Waited:
            try:
                run = await self.wait(thread_id, run_id, timeout=timeout, **options)
            except AsyncRunsError as error:
                return Waited(thread_id=thread_id, run_id=run_id, error=error)
            return Waited(thread_id=thread_id, run_id=run_id, run=run)

        async with aclosing(as_they_rest(wait(*pair) for pair in ids)) as ended:
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
        on_event: Callable[[StreamEvent], None] | None = None,
    ) -> Run:
        """Take a run through its required actions to its end, and return it.

        It may be called for a run in any state, also again after a crash: outputs that were submitted are not
        submitted again. So may several workers: what another has answered is only waited for. A required action of
        another kind than function calls is the caller's: the run is then returned as it is.

        Args:
            thread_id: The thread.
            run_id: The run.
            tools: Carries the tool calls out: a `Toolbox`, or anything with its `outputs`.
            timeout: Seconds for all of it.
            poll_interval: As for `wait`.
            on_event: Called, and not awaited, with each event; outputs are then submitted with a stream underneath. A
                stream that breaks is settled by reading the run; where it broke before it told anything, and the run
                still asks, the outputs are submitted again without one.

        Raises:
            WaitTimeout: The time is up; the run may go on.
            BadRequestError, ConflictError: The server refused the outputs, and the run still waits for them.
        """
        waiter, deadline = self._waiter(thread_id, run_id, poll_interval), Deadline(check_seconds("timeout", timeout))
        if not hasattr(tools, "outputs"):
            raise TypeError(f"tools must be a Toolbox, or have its outputs(), not {type(tools).__name__}")
        if iscoroutinefunction(on_event):
            raise TypeError("on_event must be a plain function, since nothing awaits it; it may fill an asyncio.Queue.")
        driver = Driver(
            deadline=deadline,
            waiter=waiter,
            tools=tools,
            submission=lambda outputs: self._submission(thread_id, run_id, outputs, None, deadline),
            stream=lambda outputs: self._streaming(thread_id, run_id, outputs, by=deadline.when),
            on_event=on_event,
        )
        return await driver.drive()

    async def _cancelled(self, thread_id: str, run_id: str) -> Run:
        """Ask the run to stop; return it as it then is, also if it ended meanwhile."""
        try:
            return await self.cancel(thread_id, run_id)
        except BadRequestError:
            return await self.retrieve(thread_id, run_id)


def _creation(thread_id: str, params: Mapping[str, Any], request_key: str | None) -> tuple[str, dict[str, Any]]:
    """Return the target and the body that create a run."""
    check_params(params, RunCreateParams)
    body = dict(params)
    include = include_query(body.pop("include", None))
    if request_key is not None:
        body["metadata"] = with_request_key(body.get("metadata"), request_key)
    return with_query(_runs_path(thread_id), include), body


def _has_key(run: Run, request_key: str) -> bool:
    return run.metadata.get(REQUEST_KEY) == request_key


def _runs_path(thread_id: str) -> str:
    return f"{thread_path(thread_id)}/runs"


def _ids(run: object) -> tuple[str, str]:
    """Return the ids of a thread and its run, which are given as a run or as a pair."""
    if isinstance(run, Run):
        return run.thread_id, run.id
    if isinstance(run, tuple) and len(run) == 2:
        return run
    raise TypeError(f"Each of the runs must be a Run or a pair of thread id and run id, not {run!r}.")


def _outputs(thread_id: str, run_id: str, tool_outputs: Sequence[ToolOutput]) -> tuple[str, dict[str, Any]]:
    """Return the target and the body that submit *tool_outputs*."""
    for output in tool_outputs:
        if not isinstance(output, Mapping):
            raise TypeError("tool_outputs must be a list of mappings, each with a tool_call_id and its output.")
        check_params(output, ToolOutput)
    target = f"{run_path(thread_id, run_id)}/submit_tool_outputs"
    return target, {"tool_outputs": tool_outputs}

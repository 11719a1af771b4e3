"""The runs of a thread: create, read, list, modify, cancel, answer, wait."""

import asyncio
from collections.abc import Sequence
from typing import Any, Unpack

from asyncruns._pacing import poll_interval as next_poll_interval
from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import Request, path, with_query
from asyncruns._resource import Resource, check_params, creation_unknown
from asyncruns._transport import check_seconds
from asyncruns.errors import AsyncRunsError, DeadlineExceeded, WaitTimeout
from asyncruns.models import Run, RunStatus
from asyncruns.params import ListParams, RunCreateParams, RunModifyParams, ToolOutput

_RUNS = "/threads/{thread_id}/runs"
_RUN = "/threads/{thread_id}/runs/{run_id}"
_FIRST_POLL = 0.5


class Runs(Resource):
    """`session.runs`: the runs of threads (API page: Runs).

    Every method takes `timeout`, seconds for the whole call with its retries and the body (None: the session's own),
    and raises `InvalidIdError` for an id that cannot stand in a URL, `StatusError` for a refusal, `TransportError`
    when no complete answer came, and `ProtocolError` for an answer that cannot be used.
    """

    async def create(self, thread_id: str, *, timeout: float | None = None, **params: Unpack[RunCreateParams]) -> Run:
        """Create a run on a thread and return it, normally `queued` (API page: Create run).

        It is sent again only if the server provably did not begin it: no connection, or status 429.

        Args:
            thread_id: The thread.
            timeout: Seconds for the whole call.
            **params: See `RunCreateParams`; `assistant_id` is required.

        Raises:
            ActiveRunError: The thread already has an active run; `run_id` names it.
            RunCreationUnknown: The run may or may not exist: the answer was lost, or the server failed over it.
            TypeError: A keyword is unknown or missing.
            ValueError: A value is beyond a documented limit, or has no JSON form.
        """
        check_params(params, RunCreateParams)
        body: dict[str, Any] = dict(params)
        include = body.pop("include", None) or ()
        target = with_query(path(_RUNS, thread_id=thread_id), [("include[]", str(value)) for value in include])
        try:
            return await self._post(target, Run, body, timeout, thread_id=thread_id)
        except AsyncRunsError as error:
            unknown = creation_unknown(error, thread_id)
            if unknown is None:
                raise
            raise unknown from error

    async def retrieve(self, thread_id: str, run_id: str, *, timeout: float | None = None) -> Run:
        """Return a run as it is now (API page: Retrieve run)."""
        target = path(_RUN, thread_id=thread_id, run_id=run_id)
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
        target = path(_RUN, thread_id=thread_id, run_id=run_id)
        return await self._post(target, Run, params, timeout, repeatable=True, thread_id=thread_id, id=run_id)

    async def cancel(self, thread_id: str, run_id: str, *, timeout: float | None = None) -> Run:
        """Ask that a run stop, and return it, normally `cancelling` (API page: Cancel run).

        Raises:
            BadRequestError: The run is terminal already.
        """
        target = path(f"{_RUN}/cancel", thread_id=thread_id, run_id=run_id)
        return await self._post(target, Run, {}, timeout, thread_id=thread_id, id=run_id)

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
        for output in tool_outputs:
            check_params(output, ToolOutput)
        target = path(f"{_RUN}/submit_tool_outputs", thread_id=thread_id, run_id=run_id)
        body = {"tool_outputs": list(tool_outputs)}
        return await self._post(target, Run, body, timeout, thread_id=thread_id, id=run_id)

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
            cancel_on_timeout: Also ask the server to cancel the run when the time is up.

        Raises:
            WaitTimeout: The time is up; `run` is the run as last seen.
        """
        target = path(_RUN, thread_id=thread_id, run_id=run_id)
        request = Request(method="GET", target=target, repeatable=True)
        fixed = None if poll_interval is None else check_seconds("poll_interval", poll_interval)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + check_seconds("timeout", timeout)
        interval, run = _FIRST_POLL / 1.5, None
        while (remaining := deadline - loop.time()) > 0:
            try:
                answer = await self._transport.send(request, timeout=min(remaining, self._transport.timeout))
            except DeadlineExceeded:
                if loop.time() < deadline:
                    raise
                break
            run = self._read(answer, Run, thread_id=thread_id, id=run_id)
            if run.is_terminal or run.status == RunStatus.REQUIRES_ACTION:
                return run
            interval = fixed or next_poll_interval(interval, answer.headers, self._transport.random)
            await self._transport.sleep(min(interval, max(0.0, deadline - loop.time())))
        if cancel_on_timeout:
            run = await self.cancel(thread_id, run_id)
        seen = f"; it was {run.status} when last seen" if run else ""
        raise WaitTimeout(f"Run {run_id} did not come to rest in {timeout:g} seconds{seen}.", run=run)

"""Threads: create, read, modify, delete, create with a run, and list where a server can."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Unpack

from asyncruns._arguments import check_params, with_request_key
from asyncruns._codec import encode
from asyncruns._once import creation_unknown
from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import thread_path
from asyncruns._resource import Resource, post_request
from asyncruns._snapshots import Subject
from asyncruns._stream import OnInterrupt, RunStream
from asyncruns._transport import Transport
from asyncruns.errors import AsyncRunsError
from asyncruns.models import Run, Thread, ThreadDeleted
from asyncruns.params import ListParams, ThreadCreateAndRunParams, ThreadCreateParams, ThreadModifyParams

CreateRun = Callable[..., Awaitable[Run]]
"""`Runs.create`; the resources do not know each other, so the session hands it in."""


class Threads(Resource):
    """`session.threads`: conversations (API page: Threads). Errors and `timeout` as in `Runs`."""

    def __init__(self, transport: Transport, *, check_identity: bool, create_run: CreateRun) -> None:
        super().__init__(transport, check_identity=check_identity)
        self._create_run = create_run

    async def create(self, *, timeout: float | None = None, **params: Unpack[ThreadCreateParams]) -> Thread:
        """Create a thread, with its first messages if you give them, and return it (API page: Create thread).

        A create whose answer is lost is not sent again; at worst an empty thread is left on the server.
        """
        check_params(params, ThreadCreateParams)
        return await self._post("/threads", Thread, params, timeout)

    async def retrieve(self, thread_id: str, *, timeout: float | None = None) -> Thread:
        """Return a thread (API page: Retrieve thread)."""
        return await self._get(thread_path(thread_id), Thread, timeout, id=thread_id)

    async def retrieve_raw(self, thread_id: str, *, timeout: float | None = None) -> bytes:
        """Return a thread's JSON bytes exactly as sent; they are looked through as `retrieve` does."""
        return await self._get_raw(thread_path(thread_id), Thread, timeout, id=thread_id)

    def list(self, *, timeout: float | None = None, **params: Unpack[ListParams]) -> AsyncCursorPager[Thread]:
        """Return a pager over all threads, where the server has that listing (Azure AI Foundry does, OpenAI did not).

        Using it elsewhere raises `NotFoundError` or another `StatusError`.
        """
        check_params(params, ListParams)
        return self._list("/threads", Thread, params, timeout)

    async def modify(
        self, thread_id: str, *, timeout: float | None = None, **params: Unpack[ThreadModifyParams]
    ) -> Thread:
        """Replace a thread's metadata or tool resources and return the thread (API page: Modify thread)."""
        check_params(params, ThreadModifyParams)
        target = thread_path(thread_id)
        return await self._post(target, Thread, params, timeout, repeatable=True, id=thread_id)

    async def delete(self, thread_id: str, *, timeout: float | None = None) -> ThreadDeleted:
        """Delete a thread with all that is in it (API page: Delete thread). It is not sent a second time."""
        return await self._delete(thread_path(thread_id), ThreadDeleted, timeout, id=thread_id)

    async def create_and_run(
        self,
        *,
        request_key: str | None = None,
        timeout: float | None = None,
        **params: Unpack[ThreadCreateAndRunParams],
    ) -> Run:
        """Create a thread and a run on it, and return the run (API page: Create thread and run).

        With a *request_key* the thread is created first and then the run in it, as `runs.create` does, so that a run
        whose creation was unclear is found again; at worst an empty thread is left. (A job that may be delivered twice
        should create its thread itself, keep the id, and use `runs.create`: the run is found by the thread's id.)

        Args:
            request_key: As for `runs.create`. None: both are created by one request.
            timeout: Seconds for the whole call.
            **params: See `ThreadCreateAndRunParams`; `assistant_id` is required.

        Raises:
            RunCreationUnknown: The run may or may not exist: the answer was lost or of no use, or the server failed
                over it. The cause tells which.
        """
        check_params(params, ThreadCreateAndRunParams)
        deadline = self._deadline(timeout)
        if request_key is not None:
            # What cannot be sent is refused now, and not when the thread exists.
            encode({**params, "metadata": with_request_key(params.get("metadata"), request_key)})
            thread, run = _parted(params)
            check_params(thread, ThreadCreateParams)
            created = await self._sent(post_request("/threads", thread), Thread, timeout, deadline.when)
            return await self._create_run(created.id, request_key=request_key, timeout=deadline.left(), **run)
        try:
            return await self._sent(post_request("/threads/runs", params), Run, timeout, deadline.when)
        except AsyncRunsError as error:
            unknown = creation_unknown(error, None)
            if unknown is None:
                raise
            raise unknown from error

    def stream_and_run(
        self,
        *,
        idle_timeout: float = 60.0,
        on_interrupt: OnInterrupt = "raise",
        timeout: float | None = None,
        **params: Unpack[ThreadCreateAndRunParams],
    ) -> RunStream:
        """Return a stream that, when entered, creates a thread and a run on it and gives the run's events.

        Arguments and errors as `runs.stream`.
        """
        check_params(params, ThreadCreateAndRunParams)
        return self._live("/threads/runs", params, timeout, idle_timeout, on_interrupt, Subject())


def _parted(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Part the keywords of the one request into those of the thread and those of the run."""
    run = dict(params)
    thread = dict(run.pop("thread", None) or {})
    tool_resources = run.pop("tool_resources", None)
    if tool_resources is not None:
        thread["tool_resources"] = {**(thread.get("tool_resources") or {}), **tool_resources}
    return thread, run

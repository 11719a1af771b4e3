"""Threads: create, read, modify, delete, create with a run, and list where a server can."""

from typing import Unpack

from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import path
from asyncruns._resource import Resource, check_params, creation_unknown
from asyncruns.errors import AsyncRunsError
from asyncruns.models import Run, Thread, ThreadDeleted
from asyncruns.params import ListParams, ThreadCreateAndRunParams, ThreadCreateParams, ThreadModifyParams

_THREAD = "/threads/{thread_id}"


class Threads(Resource):
    """`session.threads`: conversations (API page: Threads). Errors and `timeout` as in `Runs`."""

    async def create(self, *, timeout: float | None = None, **params: Unpack[ThreadCreateParams]) -> Thread:
        """Create a thread, with its first messages if you give them, and return it (API page: Create thread).

        A create whose answer is lost is not sent again; at worst an empty thread is left on the server.
        """
        check_params(params, ThreadCreateParams)
        return await self._post("/threads", Thread, params, timeout)

    async def retrieve(self, thread_id: str, *, timeout: float | None = None) -> Thread:
        """Return a thread (API page: Retrieve thread)."""
        return await self._get(path(_THREAD, thread_id=thread_id), Thread, timeout, id=thread_id)

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
        target = path(_THREAD, thread_id=thread_id)
        return await self._post(target, Thread, params, timeout, repeatable=True, id=thread_id)

    async def delete(self, thread_id: str, *, timeout: float | None = None) -> ThreadDeleted:
        """Delete a thread with all that is in it (API page: Delete thread). It is not sent a second time."""
        return await self._delete(path(_THREAD, thread_id=thread_id), ThreadDeleted, timeout, id=thread_id)

    async def create_and_run(self, *, timeout: float | None = None, **params: Unpack[ThreadCreateAndRunParams]) -> Run:
        """Create a thread and a run on it in one request, and return the run (API page: Create thread and run).

        Args:
            timeout: Seconds for the whole call.
            **params: See `ThreadCreateAndRunParams`; `assistant_id` is required.

        Raises:
            RunCreationUnknown: Both may or may not exist: the answer was lost, or the server failed over it. Creating
                the thread first, then the run, lets you look.
        """
        check_params(params, ThreadCreateAndRunParams)
        try:
            return await self._post("/threads/runs", Run, params, timeout)
        except AsyncRunsError as error:
            unknown = creation_unknown(error, None)
            if unknown is None:
                raise
            raise unknown from error

"""The steps of a run: list and read."""

from collections.abc import Sequence
from typing import Unpack

from asyncruns._arguments import check_params, include_query
from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import check_id, run_path, with_query
from asyncruns._resource import Resource
from asyncruns.models import RunStep
from asyncruns.params import Include, StepListParams


class Steps(Resource):
    """`session.steps`: what runs did, step by step (API page: Run steps). Errors and `timeout` as in `Runs`."""

    def list(
        self, thread_id: str, run_id: str, *, timeout: float | None = None, **params: Unpack[StepListParams]
    ) -> AsyncCursorPager[RunStep]:
        """Return a pager over the steps of a run, newest first unless `order="asc"` (API page: List run steps).

        Args:
            thread_id: The thread.
            run_id: The run.
            timeout: Seconds for each page.
            **params: See `StepListParams`; `include` asks for the text that file search found.
        """
        check_params(params, StepListParams)
        target = f"{run_path(thread_id, run_id)}/steps"
        return self._list(target, RunStep, params, timeout, thread_id=thread_id, run_id=run_id)

    async def retrieve(
        self,
        thread_id: str,
        run_id: str,
        step_id: str,
        *,
        include: Sequence[Include] | None = None,
        timeout: float | None = None,
    ) -> RunStep:
        """Return one step as it is now (API page: Retrieve run step).

        Args:
            thread_id: The thread.
            run_id: The run.
            step_id: The step.
            include: What to add to the answer: the text that file search found. None: nothing.
            timeout: Seconds for the whole call.
        """
        target = f"{run_path(thread_id, run_id)}/steps/{check_id('step_id', step_id)}"
        target = with_query(target, include_query(include))
        return await self._get(target, RunStep, timeout, thread_id=thread_id, run_id=run_id, id=step_id)

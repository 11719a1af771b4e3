"""Drive a run through its required actions: carry its tool calls out, submit the outputs, wait, and again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Protocol

import attrs

from asyncruns._once import is_ambiguous
from asyncruns._run_states import asked, is_past, rests
from asyncruns._stream import RunStream
from asyncruns._waiting import Deadline, Waiter
from asyncruns.errors import (
    AsyncRunsError,
    BadRequestError,
    ProtocolError,
    StreamInterrupted,
    StreamServerError,
)
from asyncruns.models import RequiredToolCall, Run, StreamEvent
from asyncruns.params import ToolOutput


class ToolCaller(Protocol):
    """What `drive` needs of its tools; `Toolbox` is one."""

    async def outputs(self, calls: Sequence[RequiredToolCall], /) -> Sequence[ToolOutput]:
        """Carry the calls out and return one output for each."""
        ...


@attrs.frozen(kw_only=True)
class Driver:
    """How to drive one run.

    Attributes:
        waiter: Waits for the run.
        tools: Carries its tool calls out.
        submit: Submits their outputs.
        stream: Makes a stream that submits them, when entered.
        on_event: Called with each event of such a stream. None: no stream is wanted.
    """

    waiter: Waiter
    tools: ToolCaller
    submit: Callable[[Sequence[ToolOutput]], Awaitable[object]]
    stream: Callable[[Sequence[ToolOutput]], RunStream]
    on_event: Callable[[StreamEvent], object] | None

    async def drive(self, deadline: Deadline) -> Run:
        """Return the run at its end, or where it requires an action that is not a function call.

        Raises:
            WaitTimeout: The time is up.
            BadRequestError: The server refused the outputs, and the run still waits for them.
        """
        run = await self.waiter.rest(deadline, rests)
        while calls := asked(run):
            try:
                async with asyncio.timeout(deadline.left()) as scope:
                    refusal = await self._answered(await self.tools.outputs(calls))
            except TimeoutError:
                if not scope.expired():
                    raise
                raise self.waiter.too_late(deadline, run) from None
            if refusal is None:
                run = await self.waiter.rest(deadline, is_past(calls), run)
            else:  # It may have expired meanwhile, or another worker may have answered it.
                run = await self.waiter.rest(deadline, rests, run)
                if asked(run) == calls:
                    raise refusal
        return run

    async def _answered(self, outputs: Sequence[ToolOutput]) -> BadRequestError | None:
        """Submit *outputs*, and give `on_event` what a stream tells of the run then; return the server's refusal."""
        try:
            if self.on_event is None or not await self._streamed(outputs, self.on_event):
                await self.submit(outputs)
        except BadRequestError as refusal:
            return refusal
        return None

    async def _streamed(self, outputs: Sequence[ToolOutput], on_event: Callable[[StreamEvent], object]) -> bool:
        """Submit *outputs* with a stream; False where none began, and nobody knows whether they arrived."""
        async with AsyncExitStack() as stack:
            stream = self.stream(outputs)
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

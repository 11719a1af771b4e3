"""Drive a run through its required actions: carry its tool calls out, submit the outputs, wait, and again."""

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from asyncruns._cutoff import Cutoff
from asyncruns._once import Change, is_ambiguous
from asyncruns._run_states import is_past, rests
from asyncruns._stream import RunStream
from asyncruns._waiting import Deadline, Waiter
from asyncruns.errors import (
    AsyncRunsError,
    BadRequestError,
    ProtocolError,
    StreamInterrupted,
    StreamServerError,
)
from asyncruns.models import Run, StreamEvent
from asyncruns.params import ToolOutput


class ToolCaller(Protocol):
    """What `drive` needs of its tools; `Toolbox` is one."""

    async def outputs(self, run: Run, /) -> Sequence[ToolOutput]:
        """Carry the tool calls that the run waits for out, and return one output for each of them."""
        ...


@attrs.frozen(kw_only=True)
class Driver:
    """How to drive one run.

    Attributes:
        waiter: Waits for the run.
        tools: Carries its tool calls out.
        submission: Returns how to submit their outputs.
        stream: Returns a stream that submits them, when entered.
        on_event: Called with each event of a stream that submits them. None: no stream is wanted.
    """

    waiter: Waiter
    tools: ToolCaller
    submission: Callable[[Sequence[ToolOutput]], Change]
    stream: Callable[[Sequence[ToolOutput]], RunStream]
    on_event: Callable[[StreamEvent], None] | None

    async def drive(self, deadline: Deadline) -> Run:
        """Return the run at its end, or where it requires an action that is not a function call.

        Raises:
            WaitTimeout: The time is up.
            BadRequestError: The server refused the outputs, and the run still waits for them.
        """
        run = await self.waiter.rest(deadline, rests)
        while calls := run.tool_calls:
            with Cutoff(deadline.when) as cutoff:
                refusal = await self._answered(run, await self.tools.outputs(run), deadline)
            if cutoff.is_over:
                raise self.waiter.too_late(deadline, run)
            if refusal is None:
                run = await self.waiter.rest(deadline, is_past(calls), run)
            else:  # It may have expired meanwhile, or another worker may have answered it.
                run = await self.waiter.rest(deadline, rests, run)
                if run.tool_calls == calls:
                    raise refusal
        return run

    async def _answered(self, run: Run, outputs: Sequence[ToolOutput], deadline: Deadline) -> BadRequestError | None:
        """Submit *outputs*, and give `on_event` what a stream tells of the run then; return the server's refusal."""
        unknown = None
        try:
            if self.on_event is not None:
                unknown = await self._streamed(outputs, self.on_event)
                if unknown is None:
                    return None
            submission = self.submission(outputs)
            if isinstance(unknown, StreamInterrupted | StreamServerError):  # The server may be away for a while.
                submission = attrs.evolve(submission, read=lambda _: self.waiter.rest(deadline, lambda _: True, run))
            await submission.carry_out(unknown)
        except BadRequestError as refusal:
            return refusal
        return None

    async def _streamed(
        self, outputs: Sequence[ToolOutput], on_event: Callable[[StreamEvent], None]
    ) -> AsyncRunsError | None:
        """Submit *outputs* with a stream; where it tells nothing, and nobody knows whether they arrived, return why."""
        has_begun = False
        try:
            async with self.stream(outputs) as stream:
                has_begun = True
                return await _follow(stream, on_event)
        except AsyncRunsError as error:
            if has_begun or not is_ambiguous(error):
                raise
            return error


async def _follow(stream: RunStream, on_event: Callable[[StreamEvent], None]) -> AsyncRunsError | None:
    """Give *on_event* each event until the stream ends or breaks; return why if it broke before the first.

    Once it has told something, reading the run tells the rest; so it does where what came first was of no use.
    """
    is_told = False
    while True:
        try:
            event = await anext(stream, None)
        except (StreamInterrupted, StreamServerError) as error:
            return None if is_told else error
        except ProtocolError:
            return None
        if event is None:
            return None
        is_told = True
        on_event(event)

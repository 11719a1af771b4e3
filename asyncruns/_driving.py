"""Drive a run through its required actions: carry its tool calls out, submit the outputs, wait, and again."""

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from asyncruns._cutoff import Cutoff
from asyncruns._once import REFUSALS, Change, is_ambiguous
from asyncruns._run_states import is_past, says_why_it_rests
from asyncruns._stream import RunStream
from asyncruns._waiting import Deadline, Waiter
from asyncruns.errors import (
    AsyncRunsError,
    ProtocolError,
    StreamInterrupted,
    StreamServerError,
)
from asyncruns.models import Run, StreamEvent, UnknownEvent
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
        deadline: When all of it ends.
        waiter: Waits for the run.
        tools: Carries its tool calls out.
        submission: Returns how to submit their outputs.
        stream: Returns a stream that submits them, when entered.
        on_event: Called with each event of a stream that submits them. None: no stream is wanted.
    """

    deadline: Deadline
    waiter: Waiter
    tools: ToolCaller
    submission: Callable[[Sequence[ToolOutput]], Change]
    stream: Callable[[Sequence[ToolOutput]], RunStream]
    on_event: Callable[[StreamEvent], None] | None

    async def drive(self) -> Run:
        """Return the run at its end, or where it requires an action that is not a function call.

        Raises:
            WaitTimeout: The time is up.
            BadRequestError, ConflictError: The server refused the outputs, and the run still waits for them.
        """
        run = await self.waiter.rest(self.deadline, says_why_it_rests)
        while calls := run.tool_calls:
            try:
                with Cutoff(self.deadline.when) as cutoff:
                    await self._answer(run, await self.tools.outputs(run))
            except AsyncRunsError as error:
                if not self.deadline.is_over:
                    raise
                raise self.waiter.too_late(self.deadline, run) from error
            if cutoff.is_over:
                raise self.waiter.too_late(self.deadline, run)
            run = await self.waiter.rest(self.deadline, is_past(calls), run)
        return run

    async def _answer(self, run: Run, outputs: Sequence[ToolOutput]) -> None:
        """Submit *outputs*, and give `on_event` what a stream tells of the run then.

        They may have been taken although nobody says so, or the run may have expired, or another worker may have
        answered it: what reading it shows counts, and the server may be away for a while meanwhile.
        """
        unknown = None
        if self.on_event is not None:
            unknown = await self._streamed(outputs, self.on_event)
            if unknown is None:
                return
        submission = attrs.evolve(
            self.submission(outputs),
            read=lambda _: self.waiter.rest(self.deadline, lambda _: True, run),
            is_done=lambda seen: seen.tool_calls != run.tool_calls,
            is_alone=False,
        )
        await submission.carry_out(unknown)

    async def _streamed(
        self, outputs: Sequence[ToolOutput], on_event: Callable[[StreamEvent], None]
    ) -> AsyncRunsError | None:
        """Submit *outputs* with a stream; where it tells nothing, and they may have been taken or not, return why."""
        has_begun = False
        try:
            async with self.stream(outputs) as stream:
                has_begun = True
                return await _follow(stream, on_event)
        except AsyncRunsError as error:
            if has_begun or not (is_ambiguous(error) or isinstance(error, REFUSALS)):
                raise
            return error


async def _follow(stream: RunStream, on_event: Callable[[StreamEvent], None]) -> AsyncRunsError | None:
    """Give *on_event* each event until the stream ends or breaks; return why if it broke before the first known one.

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
        is_told = is_told or not isinstance(event, UnknownEvent)  # It may be a ping.
        on_event(event)

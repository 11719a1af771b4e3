"""`asyncruns runs watch`: a live run on the terminal, its steps and its text as they happen."""

import asyncio
import sys

import attrs
import msgspec
from rich.text import Text

import asyncruns
from asyncruns import (
    ContentDelta,
    DoneEvent,
    FunctionToolCall,
    MessageDeltaEvent,
    RefusalDelta,
    Run,
    RunEvent,
    RunStep,
    RunStepEvent,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallsStepDetails,
    UnknownEvent,
)
from asyncruns._codec import without_bom
from asyncruns.cli import _output
from asyncruns.cli._output import cell, count, span, status_cell


async def watch(
    session: "asyncruns.Session", thread_id: str, assistant_id: str, message: str | None, *, as_json: bool
) -> Run:
    """Create a run, show it while it lives, and return it at its rest; a terminal is asked what Ctrl-C means."""
    if message is not None:
        await session.messages.create(thread_id, role="user", content=message)
    stream = session.runs.stream(thread_id, assistant_id=assistant_id)
    screen = Screen()
    for_people = _output.for_people(as_json)
    try:
        async with stream:
            async for event, data in stream.raw():
                if for_people:
                    screen.show(event)
                else:
                    _write_event(event, data)
                sys.stdout.flush()
            return await stream.final_run()
    except asyncio.CancelledError:
        screen.end_line()
        sys.stdout.flush()
        await _part(session, thread_id, stream.run)
        raise
    finally:
        screen.end_line()


@attrs.define
class Screen:
    """What a person sees: a line for each change of the run and of a step, and between them the text.

    Attributes:
        is_line_open: Whether text stands on the last line.
        shown: Id of the run and of each step -> the status that was shown.
    """

    is_line_open: bool = False
    shown: dict[str, str] = attrs.field(factory=dict)

    def show(self, event: StreamEvent) -> None:
        """Show one event, or nothing where it tells a person nothing new."""
        match event:
            case MessageDeltaEvent(delta=delta):
                self._write("".join(map(_said, delta.content)))
            case RunEvent(run=run) if self._is_news(run.id, run.status):
                self._tell(cell(run.id), status_cell(run.status), *_sum(run))
                for call in run.tool_calls:
                    self._tell(cell("to answer"), cell(f"{call.name}({call.arguments})"), cell(call.id))
            case RunStepEvent(step=step) if self._is_news(step.id, step.status):
                self._tell(cell(step.id), status_cell(step.status), *map(cell, _did(step)))

    def end_line(self) -> None:
        """Let what comes next begin on a line of its own."""
        if self.is_line_open:
            sys.stdout.write("\n")
            self.is_line_open = False

    def _is_news(self, id: str, status: str) -> bool:
        before = self.shown.get(id)
        self.shown[id] = status
        return status != before

    def _write(self, text: str) -> None:
        lines = text.split("\n")
        sys.stdout.write("\n".join(asyncruns.escape_server_text(line, 6 * len(line) + 1) for line in lines))
        if text:
            self.is_line_open = not text.endswith("\n")

    def _tell(self, *parts: Text) -> None:
        self.end_line()
        _output.console().print(Text("  ").join(parts), soft_wrap=True)


def _said(part: ContentDelta) -> str:
    match part:
        case TextDelta(value=text) | RefusalDelta(refusal=text):
            return text
        case _:
            return ""


def _did(step: RunStep) -> list[str]:
    """Return what a step does, and what it called as far as that is known."""
    details = step.step_details
    return [step.type, *(map(_call, details.tool_calls) if isinstance(details, ToolCallsStepDetails) else ())]


def _call(call: ToolCall) -> str:
    return f"{call.name}({call.arguments})" if isinstance(call, FunctionToolCall) else call.type


def _sum(run: Run) -> list[Text]:
    """Return how long a run took and what it used, as far as it says."""
    tokens = run.usage and count(run.usage.total_tokens)
    return [cell(text) for text in (span(run.duration), tokens and f"{tokens} tokens") if text]


def _write_event(event: StreamEvent, data: bytes) -> None:
    """Print an event as one line of JSON: its name, and its data as sent."""
    sent: object = msgspec.Raw(without_bom(data))
    match event:
        case DoneEvent():
            sent = None
        case UnknownEvent(data=str(text)):
            sent = text
    _output.write_json_bytes(msgspec.json.encode({"event": event.name, "data": sent}))


async def _part(session: "asyncruns.Session", thread_id: str, run: Run | None) -> None:
    """Cancel the run if whoever sits at the terminal says so; else say that it goes on."""
    if run is None:
        _say(f"Whether a run was created is unknown; see: asyncruns runs list {thread_id}")
    elif run.is_terminal:
        pass
    elif _is_wished(f"Cancel {asyncruns.escape_server_text(run.id)}? [y/N] "):
        cancelled = await session.runs.cancel(run.thread_id, run.id)
        _say(f"{cancelled.id} is {cancelled.status}.")
    else:
        _say(f"{run.id} goes on; to cancel it: asyncruns runs cancel {run.thread_id} {run.id}")


def _is_wished(question: str) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"\n{question}", end="", file=sys.stderr, flush=True)  # The terminal stands behind its own "^C".
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _say(text: str) -> None:
    print(asyncruns.escape_server_text(text), file=sys.stderr)

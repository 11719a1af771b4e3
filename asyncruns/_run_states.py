"""What the state of a run means to whoever waits for it. Pure: no loop, no clock."""

from collections.abc import Callable, Sequence

from asyncruns.models import RequiredToolCall, Run, RunStatus
from asyncruns.params import ToolOutput


def rests(run: Run) -> bool:
    """Whether the run is terminal or waits for the caller."""
    return run.is_terminal or run.status == RunStatus.REQUIRES_ACTION


def is_terminal(run: Run) -> bool:
    """Whether the run will never change again."""
    return run.is_terminal


def is_stopping(run: Run) -> bool:
    """Whether the run was asked to stop, or has ended."""
    return run.is_terminal or run.status == RunStatus.CANCELLING


def says_why_it_rests(run: Run) -> bool:
    """Whether the run is terminal, or shows what it waits for; some servers take that away before the status."""
    return run.is_terminal or (rests(run) and run.required_action is not None)


def is_past(calls: tuple[RequiredToolCall, ...]) -> Callable[[Run], bool]:
    """Return the test whether a run rests beyond *calls*: a read may lag behind the outputs it was given."""
    return lambda run: says_why_it_rests(run) and run.tool_calls != calls


def has_taken(tool_outputs: Sequence[ToolOutput]) -> Callable[[Run], bool]:
    """Return the test whether a run waits for none of *tool_outputs* any more."""
    given = {output["tool_call_id"] for output in tool_outputs}
    return lambda run: given.isdisjoint(call.id for call in run.tool_calls)

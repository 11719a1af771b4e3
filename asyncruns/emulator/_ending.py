"""How runs come to rest, with their steps and messages."""

from asyncruns.emulator import _model, _objects
from asyncruns.emulator._feed import tell
from asyncruns.emulator._store import Body, Message, Run

TERMINAL_STATUSES = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})
_STEP_STATUS = {"incomplete": "completed"}
_MESSAGE_REASONS = {
    "incomplete": "max_tokens",
    "failed": "run_failed",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
}


def close_step(run: Run, status: str, at: float, *, completion_tokens: int = 0, last_error: Body | None = None) -> None:
    """End the open step of *run*, if there is one, as the run's status demands."""
    step, run.open_step = run.open_step, None
    if step is None:
        return
    status = _STEP_STATUS.get(status, status)
    tokens = _objects.usage(_model.count(_model.prompt(run)), completion_tokens)
    step.change(status=status, usage=tokens, last_error=_step_error(last_error), **{f"{status}_at": int(at)})
    tell(run, f"thread.run.step.{status}", step)


def finish(
    run: Run,
    status: str,
    at: float,
    *,
    completion_tokens: int = 0,
    last_error: Body | None = None,
    incomplete_details: Body | None = None,
) -> None:
    """Bring *run* to rest, with its unfinished message and step."""
    _close_message(run, run.open_message, status, int(at))
    close_step(run, status, at, completion_tokens=completion_tokens, last_error=last_error)
    run.change(
        status=status,
        required_action=None,
        last_error=last_error,
        incomplete_details=incomplete_details,
        usage=_sum_usage(run),
        **_end_times(run.body, status, int(at)),
    )
    run.life = run.due = run.turns_at = run.open_message = run.thread.active = None
    tell(run, f"thread.run.{status}")


def _step_error(last_error: Body | None) -> Body | None:
    """Return a run's last error as its step may show it: steps know fewer codes."""
    if last_error is None or last_error["code"] == "rate_limit_exceeded":
        return last_error
    return {**last_error, "code": "server_error"}


def _close_message(run: Run, message: Message | None, status: str, at: int) -> None:
    if message is None:
        return
    if status == "completed":
        message.change(status="completed", completed_at=at)
        tell(run, "thread.message.completed", message)
    else:
        reason = {"reason": _MESSAGE_REASONS[status]}
        message.change(status="incomplete", incomplete_at=at, incomplete_details=reason)
        tell(run, "thread.message.incomplete", message)


def _sum_usage(run: Run) -> Body:
    used = [step.body["usage"] for step in run.steps.items() if step.body["usage"]]
    return _objects.usage(sum(one["prompt_tokens"] for one in used), sum(one["completion_tokens"] for one in used))


def _end_times(run: Body, status: str, at: int) -> Body:
    """Return the time fields of a run at rest; only an expired run still says when it expires."""
    times: Body = {"expires_at": run["expires_at"] if status == "expired" else None}
    if status in ("completed", "failed", "cancelled"):
        times[f"{status}_at"] = at
    return times

"""How a run lives: its transitions in time, worked out when somebody looks."""

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from asyncruns.emulator import _model, _objects, _samples
from asyncruns.emulator._clock import Clock
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._store import Body, Life, Message, Run, Step, Store, Thread
from asyncruns.emulator._validation import check_tool_outputs

TERMINAL_STATUSES = frozenset({"cancelled", "failed", "completed", "incomplete", "expired"})
OUTCOMES = ("completed", "failed", "incomplete", "expired")
_SERVER_ERROR = {"code": "server_error", "message": "Sorry, something went wrong."}
_STEP_STATUS = {"incomplete": "completed"}
_MESSAGE_REASONS = {
    "incomplete": "max_tokens",
    "failed": "run_failed",
    "cancelled": "run_cancelled",
    "expired": "run_expired",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run is to end, and what its last error says if it fails."""

    status: str = "completed"
    last_error: Body | None = None


@dataclass(slots=True)
class Lifecycle:
    """Moves runs along a clock; nothing runs in the background.

    Args:
        store: Where steps and messages of runs are put.
        clock: Says how far runs have come.
        pace: Seconds from one transition to the next.
        seed: Chooses the words of replies.
    """

    store: Store
    clock: Clock
    pace: float
    seed: int
    outcomes: deque[Outcome]

    def begin(self, run: Run) -> None:
        """Start the life of a queued run; it takes the next outcome that was ordered."""
        outcome = self.outcomes.popleft() if self.outcomes else Outcome()
        now = self.clock.now()
        run.life = self._live(run, outcome)
        next(run.life)
        run.due = now + self.pace
        run.expires = now + _objects.EXPIRY
        run.thread.active = run

    def settle(self, thread: Thread) -> None:
        """Bring the active run of *thread* up to the present."""
        run, now = thread.active, self.clock.now()
        while run is not None and run.life is not None:
            moment = run.expires if run.due is None else min(run.due, run.expires)
            if moment > now:
                break
            if run.due is None or run.expires < run.due:
                self._finish(run, "expired", moment)
            else:
                self._go_on(run, run.life, moment)

    def next_transition(self, run: Run) -> float | None:
        """Return seconds until *run* moves by itself; None when it rests or waits for a request."""
        return None if run.life is None or run.due is None else max(0.0, run.due - self.clock.now())

    def cancel(self, run: Run) -> None:
        """Begin to cancel *run*.

        Raises:
            Refusal: It is at rest, or being cancelled already.
        """
        status = run.body["status"]
        if status in TERMINAL_STATUSES or status == "cancelling":
            raise Refusal(f"Cannot cancel run with status '{status}'.")
        run.life = self._be_cancelled(run)
        next(run.life)
        run.due = self.clock.now() + self.pace
        run.change(status="cancelling", required_action=None)

    def submit(self, run: Run, outputs: list[Body]) -> None:
        """Hand *run* the tool outputs that it waits for.

        Raises:
            Refusal: It waits for none, or for others.
        """
        status = run.body["status"]
        if status != "requires_action" or run.open_step is None:
            raise Refusal(f'Runs in status "{status}" do not accept tool outputs.')
        calls = run.open_step.body["step_details"]["tool_calls"]
        by_call = check_tool_outputs(outputs, [call["id"] for call in calls])
        answered = [{**call, "function": {**call["function"], "output": by_call[call["id"]]}} for call in calls]
        run.open_step.change(step_details={"type": "tool_calls", "tool_calls": answered})
        run.change(status="queued", required_action=None)
        run.due = self.clock.now() + self.pace

    def _go_on(self, run: Run, life: Life, at: float) -> None:
        try:
            run.due = life.send(at)
        except StopIteration:
            run.due = None

    def _live(self, run: Run, outcome: Outcome) -> Life:
        at = yield None
        run.change(status="in_progress", started_at=int(at))
        if outcome.status == "expired":
            yield None
        for calls in self._rounds(run):
            at = yield from self._call_tools(run, calls, at)
        yield from self._write(run, outcome, at)

    def _be_cancelled(self, run: Run) -> Life:
        at = yield None
        self._finish(run, "cancelled", at)

    def _rounds(self, run: Run) -> Iterator[list[Body]]:
        """Yield the tool calls of each step: server-side tools first, then the caller's functions."""
        tools = _model.chosen_tools(run.body)
        kinds = {tool["type"] for tool in tools}
        if "code_interpreter" in kinds:
            yield [_samples.code_call(self.store.new_id("call"))]
        if "file_search" in kinds:
            yield [_samples.search_call(self.store.new_id("call"))]
        calls = [
            _samples.function_call(self.store.new_id("call"), tool["function"])
            for tool in tools
            if tool["type"] == "function"
        ]
        if run.body["parallel_tool_calls"]:
            yield from [calls] if calls else []
        else:
            yield from ([call] for call in calls)

    def _call_tools(self, run: Run, calls: list[Body], at: float) -> Generator[float | None, float, float]:
        details = {"type": "tool_calls", "tool_calls": calls}
        searched = any(call["type"] == "file_search" for call in calls)
        run.open_step = step = self._new_step(run, at, details, searched=searched)
        at = yield at + self.pace
        if calls[0]["type"] == "function":
            run.change(status="requires_action", required_action=_model.required_action(calls))
            at = yield None
            run.change(status="in_progress")
        else:
            found = [_samples.with_outcome(call) for call in calls]
            step.change(step_details={"type": "tool_calls", "tool_calls": found})
        self._close_step(run, "completed", at, completion_tokens=8 * len(calls))
        return at

    def _write(self, run: Run, outcome: Outcome, at: float) -> Life:
        prompt = _model.prompt(run)
        message_id = self.store.new_id("msg")
        message = self.store.add_message(run.thread, _objects.reply_body(message_id, run.body, int(at)))
        run.open_message = message
        run.open_step = self._new_step(run, at, _objects.message_creation(message_id))
        at = yield at + self.pace
        words = _samples.reply(self.seed, prompt[-1], run.body["response_format"])
        status, kept, details = _model.cut(run.body, outcome.status, words, _model.count(prompt))
        message.change(content=_objects.text_content(kept))
        self._finish(
            run,
            status,
            at,
            completion_tokens=len(kept.split()),
            last_error=(outcome.last_error or _SERVER_ERROR) if status == "failed" else None,
            incomplete_details=details,
        )

    def _new_step(self, run: Run, at: float, details: Body, *, searched: bool = False) -> Step:
        body = _objects.step_body(self.store.new_id("step"), run.body, int(at), details)
        return self.store.add_step(run, body, searched=searched)

    def _close_step(
        self, run: Run, status: str, at: float, *, completion_tokens: int = 0, last_error: Body | None = None
    ) -> None:
        if run.open_step is None:
            return
        status = _STEP_STATUS.get(status, status)
        tokens = _objects.usage(_model.count(_model.prompt(run)), completion_tokens)
        run.open_step.change(
            status=status, usage=tokens, last_error=_step_error(last_error), **{f"{status}_at": int(at)}
        )
        run.open_step = None

    def _finish(
        self,
        run: Run,
        status: str,
        at: float,
        *,
        completion_tokens: int = 0,
        last_error: Body | None = None,
        incomplete_details: Body | None = None,
    ) -> None:
        """Bring *run* to rest, with its unfinished step and message."""
        self._close_step(run, status, at, completion_tokens=completion_tokens, last_error=last_error)
        _close_message(run.open_message, status, int(at))
        run.change(
            status=status,
            required_action=None,
            last_error=last_error,
            incomplete_details=incomplete_details,
            usage=_sum_usage(run),
            **_end_times(run.body, status, int(at)),
        )
        run.life = run.due = run.open_message = run.thread.active = None


def _step_error(last_error: Body | None) -> Body | None:
    """Return a run's last error as its step may show it: steps know fewer codes."""
    if last_error is None or last_error["code"] == "rate_limit_exceeded":
        return last_error
    return {**last_error, "code": "server_error"}


def _close_message(message: Message | None, status: str, at: int) -> None:
    if message is None:
        return
    if status == "completed":
        message.change(status="completed", completed_at=at)
    else:
        reason = {"reason": _MESSAGE_REASONS[status]}
        message.change(status="incomplete", incomplete_at=at, incomplete_details=reason)


def _sum_usage(run: Run) -> Body:
    used = [step.body["usage"] for step in run.steps.items() if step.body["usage"]]
    return _objects.usage(sum(one["prompt_tokens"] for one in used), sum(one["completion_tokens"] for one in used))


def _end_times(run: Body, status: str, at: int) -> Body:
    """Return the time fields of a run at rest; only an expired run still says when it expires."""
    times: Body = {"expires_at": run["expires_at"] if status == "expired" else None}
    if status in ("completed", "failed", "cancelled"):
        times[f"{status}_at"] = at
    return times

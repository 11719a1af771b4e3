"""What a run does while it is in progress: its steps, its tool calls, its reply, piece by piece."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from asyncruns.emulator import _model, _objects, _samples
from asyncruns.emulator._ending import close_step, finish
from asyncruns.emulator._feed import call_pieces, message_delta, step_delta, tell, text_pieces
from asyncruns.emulator._script import Script
from asyncruns.emulator._store import Body, Life, Run, Step, Store

_SERVER_ERROR = {"code": "server_error", "message": "Sorry, something went wrong."}


@dataclass(frozen=True, slots=True)
class Player:
    """Plays one run as its script says.

    Args:
        store: Where steps and messages of the run are put.
        seed: Chooses the words of replies.
        pace: Seconds for what the script does not time.
        script: What the run does.
    """

    store: Store
    seed: int
    pace: float
    script: Script

    def seconds(self, state: str) -> float:
        """Return seconds that the run spends in *state*."""
        return self.script.seconds.get(state, self.pace)

    def live(self, run: Run) -> Life:
        """Bring a queued run to its end; what is yielded and sent is told at `Life`."""
        at = yield None
        run.change(status="in_progress", started_at=int(at))
        tell(run, "thread.run.in_progress")
        for calls in self._rounds(run):
            at = yield from self._call_tools(run, calls, at)
        if self.script.outcome == "expired":
            yield None
        yield from self._write(run, at)

    def be_cancelled(self, run: Run) -> Life:
        """Bring a run that is being cancelled to its end."""
        at = yield None
        finish(run, "cancelled", at)

    def _rounds(self, run: Run) -> Iterator[list[Body]]:
        """Yield the tool calls of each step: server-side tools first, then the caller's functions."""
        if self.script.rounds is not None:
            for calls in self.script.rounds:
                yield [_samples.scripted_call(self.store.new_id("call"), *call) for call in calls]
        elif self.script.outcome != "expired":
            yield from self._calls_of_tools(run)

    def _calls_of_tools(self, run: Run) -> Iterator[list[Body]]:
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
        searched = any(call["type"] == "file_search" for call in calls)
        step = self._open_step(run, at, _tool_calls([]), searched=searched)
        pieces = [
            (piece, [*calls[:index], so_far])
            for index, call in enumerate(calls)
            for piece, so_far in call_pieces(index, call)
        ]
        moments = self._moments(run, at, len(pieces))
        for piece, so_far in pieces:
            yield next(moments)
            step.change(step_details=_tool_calls(so_far))
            tell(run, "thread.run.step.delta", step_delta(step.id, piece))
        at = yield next(moments)
        run.turns_at = None
        if calls[0]["type"] == "function":
            run.change(status="requires_action", required_action=_model.required_action(calls))
            tell(run, "thread.run.requires_action")
            at = yield None
            run.change(status="in_progress")
            tell(run, "thread.run.in_progress")
        else:
            self._find(run, step, calls, at)
        return at

    def _find(self, run: Run, step: Step, calls: list[Body], at: float) -> None:
        """Let server-side tools bring what they found."""
        step.change(step_details=_tool_calls([_samples.with_outcome(call) for call in calls]))
        outputs = _samples.code_outputs(calls[0])
        if outputs:
            code = {"index": 0, "type": "code_interpreter", "code_interpreter": {"outputs": outputs}}
            tell(run, "thread.run.step.delta", step_delta(step.id, code))
        close_step(run, "completed", at, completion_tokens=8 * len(calls))

    def _write(self, run: Run, at: float) -> Life:
        prompt = _model.prompt(run)
        message_id = self.store.new_id("msg")
        run.open_message = message = self.store.add_message(
            run.thread, _objects.reply_body(message_id, run.body, int(at))
        )
        self._open_step(run, at, _objects.message_creation(message_id))
        tell(run, "thread.message.created", message)
        tell(run, "thread.message.in_progress", message)
        words = _samples.reply(self.seed, prompt[-1], run.body["response_format"])
        status, said, details = _model.cut(run.body, self.script, words, _model.count(prompt))
        pieces, so_far = _pieces(said, self.script.text), ""
        moments = self._moments(run, at, len(pieces))
        for piece in pieces:
            yield next(moments)
            delta = message_delta(message.id, piece, is_first=not so_far)
            so_far += piece
            message.change(content=_objects.text_content(so_far))
            tell(run, "thread.message.delta", delta)
        at = yield next(moments)
        message.change(content=_objects.text_content(said))
        finish(
            run,
            status,
            at,
            completion_tokens=len(said.split()),
            last_error=(self.script.last_error or _SERVER_ERROR) if status == "failed" else None,
            incomplete_details=details,
        )

    def _moments(self, run: Run, at: float, pieces: int) -> Iterator[float]:
        """Return when each of the pieces of a step is due, and at last when the step ends."""
        seconds = self.seconds("in_progress")
        run.turns_at = end = at + seconds
        return iter([*(at + seconds * number / (pieces + 1) for number in range(1, pieces + 1)), end])

    def _open_step(self, run: Run, at: float, details: Body, *, searched: bool = False) -> Step:
        body = _objects.step_body(self.store.new_id("step"), run.body, int(at), details)
        run.open_step = step = self.store.add_step(run, body, searched=searched)
        tell(run, "thread.run.step.created", step)
        tell(run, "thread.run.step.in_progress", step)
        return step


def _tool_calls(calls: list[Body]) -> Body:
    return {"type": "tool_calls", "tool_calls": calls}


def _pieces(said: str, scripted: object) -> list[str]:
    """Return what is said in its deltas: the scripted ones, if all of them are said."""
    if isinstance(scripted, list | tuple) and "".join(scripted) == said:
        return [piece for piece in scripted if piece]
    return text_pieces(said)

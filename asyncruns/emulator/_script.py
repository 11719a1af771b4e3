"""What a test orders of runs to come: scripts, and which run takes which."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from asyncruns.emulator._store import Body

OUTCOMES = ("completed", "failed", "incomplete", "expired")
_TIMED = ("queued", "in_progress", "cancelling")

# The name of a function and its arguments; a text goes over the wire as it is, well formed or not.
Call: TypeAlias = tuple[str, Mapping[str, object] | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What one run does, where that differs from what the emulator would choose itself.

    Args:
        outcome: How the run ends: `completed`, `failed`, `incomplete` or `expired` (it stays in progress
            after its rounds until it is ten minutes old).
        rounds: The function calls it makes, one required action after the other, each a sequence of
            `(name, arguments)`; the run's own tools are then left alone. Arguments that are a text are sent
            as they are, so they may be broken JSON. None: each tool the run may use is called once.
        text: What it says in its reply; a sequence is said in exactly these deltas. None: a sentence that
            repeats the question. A run that fails says nothing, and an incomplete one half, unless told.
        last_error: What a failed run shows, `{"code": ..., "message": ...}`. None: a server error.
        incomplete_reason: What an incomplete run shows: `max_completion_tokens` or `max_prompt_tokens`.
        seconds: Seconds it spends `queued`, `in_progress` (for each step) and `cancelling`. What is not named
            takes the emulator's pace.

    Raises:
        ValueError: There is no such outcome or no such state, or seconds are negative.
    """

    outcome: str = "completed"
    rounds: Sequence[Sequence[Call]] | None = None
    text: str | Sequence[str] | None = None
    last_error: Body | None = None
    incomplete_reason: str = "max_completion_tokens"
    seconds: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"an outcome is one of {', '.join(OUTCOMES)}, not {self.outcome!r}")
        for state, seconds in self.seconds.items():
            if state not in _TIMED:
                raise ValueError(f"a state that takes time is one of {', '.join(_TIMED)}, not {state!r}")
            if not seconds >= 0:
                raise ValueError(f"a run cannot be {state} for {seconds!r} seconds")


class _Order(NamedTuple):
    script: Script
    thread_id: str | None
    when: Callable[[Body], bool] | None

    def fits(self, run: Body) -> bool:
        if self.thread_id is not None and run["thread_id"] != self.thread_id:
            return False
        return self.when is None or self.when(run)


class Scripts:
    """The scripts that no run has taken yet, oldest first."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []

    def add(self, script: Script, thread_id: str | None, when: Callable[[Body], bool] | None) -> None:
        """Line up *script* for the next run that fits."""
        self._orders.append(_Order(script, thread_id, when))

    def take(self, run: Body) -> Script:
        """Return and forget the oldest script that fits the new run; the plain one if none does."""
        for index, order in enumerate(self._orders):
            if order.fits(run):
                del self._orders[index]
                return order.script
        return Script()

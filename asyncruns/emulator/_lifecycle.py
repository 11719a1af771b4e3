"""How runs move along a clock: their transitions are worked out when somebody looks."""

from dataclasses import dataclass

from asyncruns.emulator import _objects
from asyncruns.emulator._clock import Clock
from asyncruns.emulator._ending import TERMINAL_STATUSES, close_step, finish
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._feed import tell
from asyncruns.emulator._life import Player
from asyncruns.emulator._script import Scripts
from asyncruns.emulator._store import Body, Life, Listener, Run, Store, Thread
from asyncruns.emulator._validation import check_tool_outputs


@dataclass(slots=True)
class Lifecycle:
    """Moves runs along a clock; nothing runs in the background.

    Args:
        store: Where steps and messages of runs are put.
        clock: Says how far runs have come.
        pace: Seconds from one transition to the next.
        seed: Chooses the words of replies.
        scripts: What runs to come shall do.
    """

    store: Store
    clock: Clock
    pace: float
    seed: int
    scripts: Scripts

    def begin(self, run: Run) -> None:
        """Start the life of a queued run; it takes the first script that fits."""
        now = self.clock.now()
        run.player = player = Player(self.store, self.seed, self.pace, self.scripts.take(run.body))
        run.life = player.live(run)
        next(run.life)
        run.due = now + player.seconds("queued")
        run.expires = now + _objects.EXPIRY
        run.thread.active = run
        tell(run, "thread.run.created")
        tell(run, "thread.run.queued")

    def settle(self, thread: Thread) -> None:
        """Bring the active run of *thread* up to the present."""
        run, now = thread.active, self.clock.now()
        while run is not None and run.life is not None:
            moment = next_moment(run)
            if moment > now:
                break
            if run.due is None or run.expires < run.due:
                finish(run, "expired", moment)
            else:
                self._go_on(run, run.life, moment)

    def next_transition(self, run: Run) -> float | None:
        """Return seconds until *run* or a step of it changes its status by itself; None when a request must come."""
        if run.life is None or run.due is None:
            return None
        moment = run.due if run.turns_at is None else run.turns_at
        return max(0.0, moment - self.clock.now())

    def cancel(self, run: Run) -> None:
        """Begin to cancel *run*.

        Raises:
            Refusal: It is at rest, or being cancelled already.
        """
        status = run.body["status"]
        if run.player is None or status in TERMINAL_STATUSES or status == "cancelling":
            raise Refusal(f"Cannot cancel run with status '{status}'.")
        run.life = run.player.be_cancelled(run)
        next(run.life)
        run.due = self.clock.now() + run.player.seconds("cancelling")
        run.turns_at = None
        run.change(status="cancelling", required_action=None)
        tell(run, "thread.run.cancelling")

    def submit(self, run: Run, outputs: list[Body], listener: Listener | None = None) -> None:
        """Hand *run* the tool outputs that it waits for; from then on *listener* is told of its events.

        Raises:
            Refusal: It waits for none, or for others.
        """
        status = run.body["status"]
        if status != "requires_action" or run.player is None or run.open_step is None:
            raise Refusal(f'Runs in status "{status}" do not accept tool outputs.')
        calls = run.open_step.body["step_details"]["tool_calls"]
        by_call = check_tool_outputs(outputs, [call["id"] for call in calls])
        answered = [{**call, "function": {**call["function"], "output": by_call[call["id"]]}} for call in calls]
        run.listener, now = listener, self.clock.now()
        run.open_step.change(step_details={"type": "tool_calls", "tool_calls": answered})
        close_step(run, "completed", now, completion_tokens=8 * len(calls))
        run.change(status="queued", required_action=None)
        run.due = now + run.player.seconds("queued")
        tell(run, "thread.run.queued")

    def _go_on(self, run: Run, life: Life, at: float) -> None:
        try:
            run.due = life.send(at)
        except StopIteration:
            run.due = None


def next_moment(run: Run) -> float:
    """Return when *run* moves next by itself, be it that it expires."""
    return run.expires if run.due is None else min(run.due, run.expires)

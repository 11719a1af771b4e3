"""How far an export is, and how it went: figures that change as it goes on."""

import attrs


@attrs.define(kw_only=True)
class Progress:
    """The figures of an export under way; read it as often as you like.

    Attributes:
        threads: Threads to bring.
        threads_done: Threads brought completely.
        threads_failed: Threads of which something could not be brought.
        threads_listed: Threads whose runs are all known.
        runs: Runs brought, or brought again because they may have changed.
        steps: Steps likewise.
        messages: Messages likewise.
        step_listings: Runs so far whose steps are to be brought.
        step_listings_done: Those whose steps were brought.
        pauses: How often everybody waited, because the server was overloaded or away.
        paused_until: When the present pause ends, on the event loop's clock; 0 for none so far.
        last_trouble: What the last pause was for.
        failures: Thread id -> why, of at most a thousand threads.
    """

    threads: int = 0
    threads_done: int = 0
    threads_failed: int = 0
    threads_listed: int = 0
    runs: int = 0
    steps: int = 0
    messages: int = 0
    step_listings: int = 0
    step_listings_done: int = 0
    pauses: int = 0
    paused_until: float = 0.0
    last_trouble: str = ""
    failures: dict[str, str] = attrs.field(factory=dict)

    MOST_FAILURES = 1000

    @property
    def items(self) -> int:
        """Runs, steps and messages together."""
        return self.runs + self.steps + self.messages

    @property
    def share(self) -> float:
        """About how much is done, from 0 to 1: runs that are not known yet are taken to be like those that are."""
        if not self.threads:
            return 0.0
        ended = (self.threads_done + self.threads_failed) / self.threads
        listed = self.step_listings * self.threads
        return max(ended, self.step_listings_done * self.threads_listed / listed if listed else 0.0)

    def note_failure(self, thread_id: str, reason: str) -> None:
        """Count a thread as failed and keep the reason."""
        self.threads_failed += 1
        if len(self.failures) < self.MOST_FAILURES:
            self.failures[thread_id] = reason

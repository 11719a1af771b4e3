"""How far an export is, and how it went: figures that change as it goes on."""

import attrs


@attrs.define(kw_only=True)
class Progress:
    """The figures of an export under way; read it as often as you like.

    Attributes:
        threads: Threads to bring.
        threads_done: Threads brought completely.
        threads_failed: Threads of which something could not be brought.
        runs: Runs brought or brought again.
        steps: Steps likewise.
        messages: Messages likewise.
        pauses: How often everybody waited, because the server was overloaded or away.
        paused_until: When the present pause ends, on the event loop's clock; 0 for none so far.
        last_trouble: What the last pause was for.
        failures: Thread id -> why, of at most a thousand threads.
    """

    threads: int = 0
    threads_done: int = 0
    threads_failed: int = 0
    runs: int = 0
    steps: int = 0
    messages: int = 0
    pauses: int = 0
    paused_until: float = 0.0
    last_trouble: str = ""
    failures: dict[str, str] = attrs.field(factory=dict)

    MOST_FAILURES = 1000

    @property
    def items(self) -> int:
        """Runs, steps and messages together."""
        return self.runs + self.steps + self.messages

    def note_failure(self, thread_id: str, reason: str) -> None:
        """Count a thread as failed and keep the reason."""
        self.threads_failed += 1
        if len(self.failures) < self.MOST_FAILURES:
            self.failures[thread_id] = reason

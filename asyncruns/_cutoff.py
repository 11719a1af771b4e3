"""A time limit on what a task does: `asyncio.timeout_at` in half its time, because every request pays for one."""

import asyncio
from contextvars import Context
from types import TracebackType
from typing import Self

_CONTEXT = Context()  # Each timer would copy the task's otherwise, and to end the block needs nothing of it.


class Cutoff:
    """Ends its block when the time is up. Whoever cancels the task for another reason is heard, as ever.

    Attributes:
        when: When that is, on the event loop's clock.
        is_over: Whether the block was ended. It raises nothing then: the code behind it goes on.
    """

    __slots__ = ("_cancelled_before", "_task", "_timer", "is_over", "when")

    def __init__(self, when: float) -> None:
        self.when = when
        self.is_over = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._task, self._cancelled_before = task, task.cancelling()
        self._timer = loop.call_at(self.when, self, context=_CONTEXT)
        return self

    def __call__(self) -> None:
        """End the block: the timer calls it, and a bound method would be one object more for each request."""
        self.is_over = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if not self.is_over:
            return False
        # The count tells our cancellation from another that came meanwhile (asyncio.Task.uncancel).
        is_ours_alone = self._task.uncancel() <= self._cancelled_before
        self.is_over = is_ours_alone and kind is asyncio.CancelledError
        return self.is_over

"""A time limit on what a task does: `asyncio.timeout_at` in a fifth of its time, because every request pays for one."""

import asyncio
from contextvars import Context
from types import TracebackType
from typing import Self

_CONTEXT = Context()  # Each timer would copy the task's otherwise, and to end the block needs nothing of it.


class Timer:
    """One timer of the event loop for many cutoffs that last equally long: whoever comes last is over last.

    Attributes:
        loop: The event loop. To ask which one is running costs a call of the system, up to Python 3.11.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: dict[Cutoff, None] = {}  # A set that keeps the order.
        self._handle: asyncio.TimerHandle | None = None

    def add(self, cutoff: "Cutoff") -> None:
        """End *cutoff* when its time comes; it is not due before any that was added before."""
        self._waiting[cutoff] = None
        if self._handle is None:
            self._set(cutoff.when)

    def drop(self, cutoff: "Cutoff") -> None:
        """Forget *cutoff*, which may be over."""
        self._waiting.pop(cutoff, None)

    def rest(self) -> None:
        """Leave nothing in the event loop, unless a cutoff still waits."""
        if self._handle is not None and not self._waiting:
            self._handle.cancel()
            self._handle = None

    def _set(self, when: float) -> None:
        self._handle = self.loop.call_at(when, self._ring, when, context=_CONTEXT)

    def _ring(self, when: float) -> None:
        self._handle = None
        now, due = max(when, self.loop.time()), []  # The loop may ring a clock's tick too early.
        for cutoff in self._waiting:
            if cutoff.when > now:
                self._set(cutoff.when)
                break
            due.append(cutoff)
        for cutoff in due:
            self.drop(cutoff)
            cutoff()


class Cutoff:
    """Ends its block when the time is up. Whoever cancels the task for another reason is heard, as ever.

    Args:
        when: When that is, on the event loop's clock.
        timer: What rings; None: one of its own.

    Attributes:
        when: When that is, on the event loop's clock.
        is_over: Whether the block was ended. It raises nothing then: the code behind it goes on.
    """

    __slots__ = ("_cancelled_before", "_handle", "_task", "_timer", "is_over", "when")

    def __init__(self, when: float, timer: Timer | None = None) -> None:
        self.when = when
        self.is_over = False
        self._timer = timer

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop() if self._timer is None else self._timer.loop
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101  # a coroutine runs in a task
        self._task, self._cancelled_before = task, task.cancelling()
        if self._timer is None:
            self._handle = loop.call_at(self.when, self, context=_CONTEXT)
        else:
            self._timer.add(self)
        return self

    def __call__(self) -> None:
        """End the block: the timer calls it, and a bound method would be one object more for each request."""
        self.is_over = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._timer is None:
            self._handle.cancel()
        else:
            self._timer.drop(self)
        if not self.is_over:
            return False
        # The count tells our cancellation from another that came meanwhile (asyncio.Task.uncancel).
        is_ours_alone = self._task.uncancel() <= self._cancelled_before
        self.is_over = is_ours_alone and kind is asyncio.CancelledError
        return self.is_over

"""Whose turn it is: what many workers do next, so that no thread waits for another to be brought whole."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

Job = Callable[[], Awaitable[None]]

_LONGEST_BACKLOG = 1000


class Turns:
    """What is to be done, for many workers.

    Beginnings come first, until as many jobs were put off as there are workers; then what is urgent; then what was
    put off, one job of each lot in turn. Beginnings and urgent jobs may give rise to others.

    Args:
        workers: How many workers there are.
        begin: Gives the next beginning; None when there are no more.

    Attributes:
        waiting: How many jobs that were put off nobody has begun yet.
    """

    def __init__(self, workers: int, begin: Callable[[], Awaitable[Job | None]]) -> None:
        self._workers = workers
        self._begin = begin
        self._fruitful = 0  # Jobs under way that may give rise to others.
        self._urgent: deque[Job] = deque()
        self._lots: deque[deque[Job]] = deque()
        self.waiting = 0
        self._changed = asyncio.Condition()

    async def work(self) -> None:
        """Do one job after the other, until there is nothing left for anybody."""
        while True:
            async with self._changed:
                while not (job := await self._next()):
                    if not self._fruitful:
                        self._changed.notify_all()
                        return
                    await self._changed.wait()
            await job()

    async def urge(self, job: Job) -> None:
        """Leave *job* to whoever is free first."""
        self._urgent.append(job)
        await self._tell_others()

    async def put_off(self, lot: Sequence[Job]) -> None:
        """Leave the jobs of *lot*, one at least, to whoever has time; when too many wait already, help first."""
        self.waiting += len(lot)
        self._lots.append(deque(lot))
        await self._tell_others()
        while self.waiting > _LONGEST_BACKLOG and (job := self._next_put_off()):
            await job()

    async def _next(self) -> Job | None:
        job = await self._begin() if self.waiting < self._workers else None
        if job is None and self._urgent:
            job = self._urgent.popleft()
        if job is None:
            return self._next_put_off()
        self._fruitful += 1
        return partial(self._to_its_end, job)

    async def _to_its_end(self, job: Job) -> None:
        try:
            await job()
        finally:
            self._fruitful -= 1

    def _next_put_off(self) -> Job | None:
        if not self._lots:
            return None
        lot = self._lots.popleft()
        job = lot.popleft()
        if lot:
            self._lots.append(lot)
        self.waiting -= 1
        return job

    async def _tell_others(self) -> None:
        async with self._changed:
            self._changed.notify_all()

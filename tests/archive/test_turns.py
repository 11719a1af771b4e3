"""Whose turn it is among the workers of an export."""

import asyncio
from collections.abc import Iterable
from functools import partial

from asyncruns.archive._turns import Job, Turns


async def _done_by(workers: int, beginnings: Iterable[Job], turns_of: list[Turns]) -> None:
    """Have so many workers do *beginnings* and all that they give rise to; the turns go into *turns_of*."""
    rest = iter(beginnings)

    async def begin() -> Job | None:
        return next(rest, None)

    turns_of.append(Turns(workers, begin))
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(turns_of[0].work(), name=str(number))


async def test_everything_is_done_once_and_lots_take_turns() -> None:
    """What was put off is done one of each lot at a time, and what is urgent before it."""
    done: list[str] = []
    turns: list[Turns] = []

    async def job(name: str) -> None:
        done.append(name)

    async def beginning(name: str) -> None:
        done.append(name)
        await turns[0].put_off([partial(job, f"{name}{number}") for number in range(3)])

    async def last() -> None:
        await turns[0].urge(partial(job, "urgent"))

    await _done_by(1, [partial(beginning, "a")], turns)
    assert done == ["a", "a0", "a1", "a2"]
    done.clear(), turns.clear()
    await _done_by(9, [partial(beginning, "a"), partial(beginning, "b"), last], turns)
    assert done == ["a", "b", "urgent", "a0", "b0", "a1", "b1", "a2", "b2"]
    assert turns[0].waiting == 0


async def test_what_an_urgent_job_gives_rise_to_is_shared() -> None:
    """No worker leaves while a job is under way that others may come of."""
    names: list[str] = []
    turns: list[Turns] = []

    async def small() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        await asyncio.sleep(0)

    async def urgent() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await turns[0].put_off([small] * 8)

    async def beginning() -> None:
        await turns[0].urge(urgent)

    await _done_by(4, [beginning], turns)
    assert len(names) == 8
    assert set(names) == {"0", "1", "2", "3"}

"""Whose turn it is among the workers of an export."""

import asyncio
from collections.abc import Iterable
from functools import partial

from asyncruns.archive._turns import Job, Turns


def _turns(workers: int, beginnings: Iterable[Job]) -> Turns:
    rest = iter(beginnings)

    async def begin() -> Job | None:
        return next(rest, None)

    return Turns(workers, begin)


async def _all_done(turns: Turns, workers: int) -> None:
    """Have so many workers do everything; each is a task that has its number as its name."""
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(turns.work(), name=str(number))


async def test_everything_is_done_once_and_lots_take_turns() -> None:
    """What was put off is done one of each lot at a time, and what is urgent before it."""
    done: list[str] = []

    async def job(name: str) -> None:
        done.append(name)

    async def beginning(name: str) -> None:
        done.append(name)
        await turns.put_off([partial(job, f"{name}{number}") for number in range(3)])

    async def last() -> None:
        await turns.urge(partial(job, "urgent"))

    turns = _turns(1, [partial(beginning, "a")])
    await _all_done(turns, 1)
    assert done == ["a", "a0", "a1", "a2"]
    done.clear()
    turns = _turns(9, [partial(beginning, "a"), partial(beginning, "b"), last])
    await _all_done(turns, 9)
    assert done == ["a", "b", "urgent", "a0", "b0", "a1", "b1", "a2", "b2"]
    assert turns.waiting == 0


async def test_what_an_urgent_job_gives_rise_to_is_shared() -> None:
    """No worker leaves while a job is under way that others may come of."""
    names: list[str] = []

    async def small() -> None:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        await asyncio.sleep(0)

    async def urgent() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        await turns.put_off([small] * 8)

    async def beginning() -> None:
        await turns.urge(urgent)

    turns = _turns(4, [beginning])
    await _all_done(turns, 4)
    assert len(names) == 8
    assert set(names) == {"0", "1", "2", "3"}


async def test_who_puts_off_too_much_helps_first() -> None:
    """What waits does not fill the memory: from a thousand jobs on, some are done before more are put off."""
    waited: list[int] = []
    done = 0

    async def job() -> None:
        nonlocal done
        done += 1

    async def beginning() -> None:
        for _ in range(30):
            await turns.put_off([job] * 90)
            waited.append(turns.waiting)

    turns = _turns(1, [beginning])
    await _all_done(turns, 1)
    assert max(waited) == 1000
    assert done == 2700

"""The time limit of a request, held against `asyncio.timeout_at`."""

import asyncio

import pytest

from asyncruns._cutoff import Cutoff


def soon() -> float:
    """Return a moment a hundredth of a second from now."""
    return asyncio.get_running_loop().time() + 0.01


async def test_ends_its_block_when_the_time_is_up() -> None:
    """The block ends in place, nothing is raised, and the task is not left cancelled."""
    with Cutoff(soon()) as cutoff:
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert cutoff.is_over
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_lets_a_block_that_is_in_time_alone() -> None:
    """Its value comes out, and no timer is left to strike later."""
    with Cutoff(soon()) as cutoff:
        value = await asyncio.sleep(0, "made")
    await asyncio.sleep(0.02)
    assert value == "made"
    assert not cutoff.is_over


async def test_an_error_of_the_block_comes_out_though_the_time_is_up() -> None:
    """An error raised while the block is being ended is not hidden, and the task goes on."""
    cutoff = Cutoff(soon())

    async def fail_at_the_end() -> None:
        with cutoff:
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError("mine")

    with pytest.raises(KeyError):
        await fail_at_the_end()
    assert not cutoff.is_over
    await asyncio.sleep(0)


@pytest.mark.parametrize("both", [False, True], ids=["before the time", "at the same moment"])
async def test_a_cancellation_from_outside_is_heard(both: bool) -> None:
    """Also when the time runs out in the same moment, the task ends as cancelled."""
    gone_on = []

    async def work() -> None:
        with Cutoff(asyncio.get_running_loop().time() + (0.0 if both else 60.0)):
            await asyncio.Event().wait()
        gone_on.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    if both:
        asyncio.get_running_loop().call_later(0.0, task.cancel)
    else:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert not gone_on


async def test_cutoffs_within_each_other_end_their_own_block_only() -> None:
    """The inner one ends the inner block; the outer one goes on."""
    loop = asyncio.get_running_loop()
    with Cutoff(loop.time() + 60) as outer:
        with Cutoff(loop.time() + 0.01) as inner:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
    assert inner.is_over
    assert not outer.is_over


async def test_within_asyncio_timeout_each_ends_its_own() -> None:
    """Callers wrap our calls in `asyncio.timeout`: whichever is first counts."""

    async def work(seconds: float) -> bool:
        with Cutoff(asyncio.get_running_loop().time() + seconds) as cutoff:
            await asyncio.Event().wait()
        return cutoff.is_over

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(60), 0.01)
    async with asyncio.timeout(60):
        assert await work(0.01)

"""The time limit of a request, held against `asyncio.timeout_at`."""

import asyncio
from collections.abc import Callable

import pytest

from asyncruns._cutoff import Cutoff, Timer

After = Callable[[float], Cutoff]


@pytest.fixture(params=["a timer of its own", "a shared timer"])
def after(request: pytest.FixtureRequest) -> After:
    """Give the test a way to make cutoffs that end so many seconds from now."""
    timers: dict[float, Timer] = {}

    def make(seconds: float) -> Cutoff:
        loop = asyncio.get_running_loop()
        shared = timers.setdefault(seconds, Timer(loop)) if request.param == "a shared timer" else None
        return Cutoff(loop.time() + seconds, shared)

    return make


async def test_ends_its_block_when_the_time_is_up(after: After) -> None:
    """The block ends in place, nothing is raised, and the task is not left cancelled."""
    with after(0.01) as cutoff:
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert cutoff.is_over
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_lets_a_block_that_is_in_time_alone(after: After) -> None:
    """Its value comes out, and no timer is left to strike later."""
    with after(0.01) as cutoff:
        value = await asyncio.sleep(0, "made")
    await asyncio.sleep(0.02)
    assert value == "made"
    assert not cutoff.is_over


async def test_an_error_of_the_block_comes_out_though_the_time_is_up(after: After) -> None:
    """An error raised while the block is being ended is not hidden, and the task goes on."""
    cutoff = after(0.01)

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
async def test_a_cancellation_from_outside_is_heard(after: After, both: bool) -> None:
    """Also when the time runs out in the same moment, the task ends as cancelled."""
    gone_on = []

    async def work() -> None:
        with after(0.0 if both else 60.0):
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


async def test_cutoffs_within_each_other_end_their_own_block_only(after: After) -> None:
    """The inner one ends the inner block; the outer one goes on."""
    with after(60) as outer:
        with after(0.01) as inner:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
    assert inner.is_over
    assert not outer.is_over


async def test_within_asyncio_timeout_each_ends_its_own(after: After) -> None:
    """Callers wrap our calls in `asyncio.timeout`: whichever is first counts."""

    async def work(seconds: float) -> bool:
        with after(seconds) as cutoff:
            await asyncio.Event().wait()
        return cutoff.is_over

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(60), 0.01)
    async with asyncio.timeout(60):
        assert await work(0.01)


async def test_a_shared_timer_ends_each_block_in_its_turn() -> None:
    """Blocks end in the order in which they began; those that were left before are none of them, nor hold it up."""
    loop = asyncio.get_running_loop()
    timer, began, ended = Timer(loop), loop.time(), []

    async def wait(number: int) -> None:
        with Cutoff(began + 0.01 * (1 + number // 2), timer) as cutoff:
            await (asyncio.sleep(0) if number in (0, 3, 4, 5) else asyncio.Event().wait())
        ended.append((number, cutoff.is_over, cutoff.is_over and loop.time() >= cutoff.when - 0.001))

    await asyncio.gather(*map(wait, range(8)))
    assert sorted(ended[:4]) == [(number, False, False) for number in (0, 3, 4, 5)]
    assert ended[4:] == [(number, True, True) for number in (1, 2, 6, 7)]
    with Cutoff(loop.time() + 0.01, timer) as another:  # The timer had nothing to wait for any more.
        await asyncio.Event().wait()
    assert another.is_over


async def test_a_timer_at_rest() -> None:
    """It leaves nothing in the event loop, ends whoever still waits, and can be used again."""
    loop = asyncio.get_running_loop()
    timer = Timer(loop)
    timer.rest()
    with Cutoff(loop.time() + 60, timer):
        pass
    timer.rest()
    assert all(handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]
    with Cutoff(loop.time() + 0.01, timer) as cutoff:
        timer.rest()
        await asyncio.Event().wait()
    assert cutoff.is_over

"""The clock that all tests go by."""

import asyncio
import time


async def test_a_pause_of_the_machine_is_not_on_the_clock() -> None:
    """A pause ends no timeout before its time, and what is waited for takes its time."""
    loop, began = asyncio.get_running_loop(), time.monotonic()
    by_the_clock = loop.time()
    async with asyncio.timeout(0.1):
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251  # a machine that pauses
        await asyncio.sleep(0.05)
    assert 0.05 <= loop.time() - by_the_clock <= 0.1
    assert time.monotonic() - began >= 0.35

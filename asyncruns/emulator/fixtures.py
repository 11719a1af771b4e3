"""A pytest fixture, for pytest-asyncio; in your conftest.py: `from asyncruns.emulator.fixtures import emulator`."""

from collections.abc import AsyncIterator

import pytest_asyncio

from asyncruns.emulator._clock import ManualClock
from asyncruns.emulator._server import Emulator

__all__ = ["emulator"]


@pytest_asyncio.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Give the test a started emulator of its own, whose clock stands still until the test turns it."""
    async with Emulator(clock=ManualClock()) as started:
        yield started

"""Exports and ends itself with SIGKILL when a moment was reached so often: ARCHIVE MOMENT TIMES BASE_URL THREAD..."""

import asyncio
import os
import signal
import sys

from asyncruns import Session
from asyncruns.archive import _checkpoints, _moments, export

path, moment, times, base_url, *threads = sys.argv[1:]
remaining = int(times)


def reached(name: str) -> None:
    """End at the moment named."""
    global remaining
    remaining -= name == moment
    if not remaining:
        os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    """Export, four requests at a time."""
    async with Session(base_url=base_url) as session:
        await export(session, path, threads, concurrency=4)


_moments.reached = reached
_checkpoints.BYTES_BETWEEN = 1  # one beside every commit
asyncio.run(main())

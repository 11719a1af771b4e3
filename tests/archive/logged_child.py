"""Runs with `logged_calls.c` preloaded: an export, a conversion and a report, in the folder given."""

import asyncio
import sys
from pathlib import Path

from asyncruns import Session
from asyncruns.archive import Archive, _checkpoints, convert, export, write_report
from asyncruns.emulator import Emulator

folder = Path(sys.argv[1])
# All checkpoints are the writer's: beside it, more is written to the log while what was synced is taken over.
_checkpoints.BYTES_BETWEEN, _checkpoints.LOG_BYTES = sys.maxsize, 2**20


async def main() -> None:
    """Make an archive and what is made of it."""
    async with Emulator() as emulator, Session(emulator.api_key, emulator.base_url) as session:
        await export(session, folder / "runs.db", emulator.fill(threads=2, runs_per_thread=120))
    with Archive.open(folder / "runs.db") as archive:
        convert(archive, folder / "runs.jsonl")
        write_report(archive, folder / "runs.html")


asyncio.run(main())

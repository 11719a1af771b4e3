"""Runs with `recorded_calls.c` preloaded: exports, or makes files of an archive: ARCHIVE [BASE_URL BETWEEN LOG].

BETWEEN and LOG are the bytes between two checkpoints, and of the longest log.
"""

import asyncio
import sys
from pathlib import Path

from asyncruns import Session
from asyncruns.archive import Archive, _checkpoints, convert, export, write_report

path = Path(sys.argv[1])


async def fill(base_url: str, threads: list[str]) -> None:
    """Fill the archive."""
    async with Session("key", base_url) as session:
        await export(session, path, threads, concurrency=3)


def make_files() -> None:
    """Make a file of each kind."""
    with Archive.open(path) as archive:
        for ending in ("jsonl", "jsonl.zst", "parquet"):
            convert(archive, path.with_suffix(f".{ending}"))
        write_report(archive, path.with_suffix(".html"))


if len(sys.argv) == 2:
    make_files()
else:
    base_url, between, log, *threads = sys.argv[2:]
    _checkpoints.BYTES_BETWEEN, _checkpoints.LOG_BYTES = int(between), int(log)
    asyncio.run(fill(base_url, threads))

"""Runs with `failing_writes.c` preloaded: fails each write of an export, a conversion and a report, one by one."""

import asyncio
import ctypes
import errno
import json
import sys
from collections import Counter
from pathlib import Path

from asyncruns import ArchiveError, Session
from asyncruns.archive import Archive, convert, export, write_report
from asyncruns.emulator import Emulator

shim = ctypes.CDLL(sys.argv[1])
folder = Path(sys.argv[2])


async def everything(session: Session, threads: list[str]) -> list[bytes]:
    """Return the bytes of all runs and steps."""
    blobs = []
    for thread_id in threads:
        async for blob in session.runs.list(thread_id, order="asc").raw():
            blobs.append(blob)
            blobs += [step async for step in session.steps.list(thread_id, json.loads(blob)["id"]).raw()]
    return sorted(blobs)


def held(path: Path) -> list[bytes]:
    """Return all that an archive holds."""
    with Archive.open(path) as archive:
        return sorted([*archive.raw("runs"), *archive.raw("steps")])


async def fail_exports(session: Session, threads: list[str], expected: list[bytes], outcomes: Counter[str]) -> None:
    """Fail the N-th write of an export, for every N, once and from then on; then resume."""
    for error, sticky in ((errno.ENOSPC, 1), (errno.EIO, 0)):
        number, made = -1, 0
        while made > number:  # Once there is no N-th write any more, all have failed.
            number += 1
            path = folder / f"{error}-{sticky}-{number}.db"
            shim.arm(number, error, sticky)
            try:
                await export(session, path, threads, concurrency=2)
                told = False
            except ArchiveError:
                told = True
            made = shim.made()
            outcomes["told" if told else "went well"] += 1
            outcomes["defects"] += (folder / f"{path.name}.new").exists()
            outcomes["missing, and not told"] += not told and held(path) != expected
            if path.exists():
                outcomes["torn"] += bool(Counter(held(path)) - Counter(expected))
            await export(session, path, threads)
            outcomes["defects"] += held(path) != expected
            path.unlink()


def fail_conversions(source: Path, outcomes: Counter[str]) -> None:
    """Fail the N-th write of a conversion and of a report, for every N: the old file stays, no other is left."""
    for name in ("runs.jsonl", "runs.jsonl.zst", "runs.parquet", "runs.html"):
        write = write_report if name == "runs.html" else convert
        out = folder / name
        out.write_bytes(b"as it was")
        number, made = -1, 0
        with Archive.open(source) as archive:
            while made > number:
                number += 1
                shim.arm(number, errno.ENOSPC, 0)
                told = False
                try:
                    write(archive, out)
                except ArchiveError:
                    told = True
                made = shim.made()
                kept = out.read_bytes() == b"as it was"
                outcomes["conversions told" if told else "conversions went well"] += 1
                # Only the sync of the folder comes behind the new name, and there the new file may be told of too.
                outcomes["new name, yet told"] += told and not kept
                outcomes["defects"] += (kept and not told) or (folder / f".{name}.new").exists()
                out.write_bytes(b"as it was")


async def main() -> None:
    """Do both, and print what came of it."""
    outcomes: Counter[str] = Counter()
    async with Emulator() as emulator, Session(emulator.api_key, emulator.base_url) as session:
        threads = emulator.fill(threads=2, runs_per_thread=4)
        expected = await everything(session, threads)
        await fail_exports(session, threads, expected, outcomes)
        source = folder / "whole.db"
        await export(session, source, threads)
    fail_conversions(source, outcomes)
    print(json.dumps(outcomes))


asyncio.run(main())

"""What the tests of the archive share: a filled server, what it holds, and an archive of it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

import asyncruns
from asyncruns import Session
from asyncruns.archive import Archive, Progress, export
from asyncruns.emulator import Emulator

WHERE = {**os.environ, "PYTHONPATH": str(Path(asyncruns.__file__).parents[1])}
"""The environment of a process that is to have the package that is tested."""


@attrs.frozen
class Filled:
    """A filled emulator, a session on it, and the bytes of everything on it."""

    emulator: Emulator
    session: Session
    threads: list[str]
    runs: list[bytes]
    steps: list[bytes]

    async def export(self, path: Path, **options: Any) -> Progress:
        """Export all threads."""
        return await export(self.session, path, self.threads, **options)

    async def interrupted_export(self, path: Path) -> None:
        """Export until sixty requests were made, and cancel that."""
        self.emulator.delay = 0.002
        exporting = asyncio.create_task(self.export(path, concurrency=4))
        while len(self.emulator.requests) < 60:
            await asyncio.sleep(0.001)
        exporting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exporting
        self.emulator.delay = 0


async def everything(session: Session, threads: list[str]) -> tuple[list[bytes], list[bytes]]:
    """Walk plainly, and return the bytes of all runs and all steps."""
    runs: list[bytes] = []
    steps: list[bytes] = []
    for thread_id in threads:
        async for blob in session.runs.list(thread_id, order="asc").raw():
            runs.append(blob)
            steps += [step async for step in session.steps.list(thread_id, json.loads(blob)["id"], order="asc").raw()]
    return runs, steps


def rows(path: Path) -> tuple[list[bytes], list[bytes]]:
    """Return the sorted bytes of all runs and steps of an archive."""
    with Archive.open(path) as archive:
        return sorted(archive.raw("runs")), sorted(archive.raw("steps"))


def compiled(name: str, folder: Path) -> Path:
    """Compile a file of C that is here, to be preloaded under a process, or skip the test."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux, to stand between the process and the system")
    shim = folder / f"{name}.so"
    source = Path(__file__).with_name(f"{name}.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    return shim


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the test a place for an archive."""
    return tmp_path / "runs.db"


@pytest.fixture
async def filled(emulator: Emulator, session: Session) -> Filled:
    """Give the test a server with three threads of 130 runs, and its requests not counted yet."""
    threads = emulator.fill(threads=3, runs_per_thread=130)
    runs, steps = await everything(session, threads)
    emulator.requests.clear()
    return Filled(emulator, session, threads, runs, steps)


Fill = Callable[..., Awaitable[Filled]]


@pytest.fixture
async def small(emulator: Emulator, session: Session) -> Filled:
    """Give the test a server with two threads of five runs."""
    threads = emulator.fill(threads=2, runs_per_thread=5)
    runs, steps = await everything(session, threads)
    emulator.requests.clear()
    return Filled(emulator, session, threads, runs, steps)

"""The power goes at any moment: what is on the disk then is an archive that can be gone on with, or the old file."""

import asyncio
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from asyncruns import ArchiveError, Session
from asyncruns.archive import export

from .conftest import WHERE, compiled, rows
from .listings import Listings
from .power_cuts import Call, Disk, read_calls

HERE = Path(__file__).parent
MADE = ("runs.jsonl", "runs.jsonl.zst", "runs.parquet", "runs.html")
BESIDE = (1, 2**24)
"""Bytes between two checkpoints, and of the longest log, so that there is one beside every commit."""


class Recorder:
    """Records what children do in a folder."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "recorded"
        self.folder.mkdir()
        self._shim = compiled("recorded_calls", tmp_path)
        self._record = tmp_path / "calls"

    async def run(self, *words: str) -> list[Call]:
        """Run a child with these words behind the archive's path, and return all calls recorded so far."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            HERE / "recorded_child.py",
            self.folder / "runs.db",
            *words,
            env={
                **WHERE,
                "LD_PRELOAD": str(self._shim),
                "RECORDED_CALLS": str(self._record),
                "RECORDED_FOLDER": str(self.folder),
            },
        )
        assert await asyncio.wait_for(child.wait(), 60) == 0
        return list(read_calls(self._record))


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    """Give the test a recorder of children."""
    return Recorder(tmp_path)


def cuts(calls: Sequence[Call], disk: Disk, count: int, seed: int) -> Iterator[tuple[int, dict[str, bytes]]]:
    """Cut the power so often, at any moment, and yield how many calls there were and what is there then."""
    chance = random.Random(seed)
    places = sorted(chance.randint(0, len(calls)) for _ in range(count))
    done = 0
    for place in places:
        for call in calls[done:place]:
            disk.carry_out(call)
        done = place
        yield place, disk.after_cut(chance)


def write_all(folder: Path, files: dict[str, bytes]) -> None:
    """Make *folder* hold these files alone."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def found(folder: Path) -> dict[str, bytes]:
    """Return what is in *folder*."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def held(path: Path) -> list[bytes]:
    """Return all that an archive holds."""
    runs, steps = rows(path)
    return [*runs, *steps]


@attrs.frozen
class Recorded:
    """An archive that was filled, and filled again with what had come into being since."""

    server: Listings
    calls: list[Call]
    calls_of_first: int
    first: list[bytes]
    all: list[bytes]

    async def look(self, path: Path, calls: int, files: dict[str, bytes]) -> None:
        """Look at what is there after so many calls, then go on to the end.

        Raises:
            ArchiveError: It is no archive.
            AssertionError: Something is lost, doubled or torn.
        """
        write_all(path.parent, files)
        if path.exists():
            kept = held(path)
            assert set(kept) <= set(self.all)
            assert len(kept) == len(set(kept))
            assert calls < self.calls_of_first or set(kept) >= set(self.first)
        async with Session("key", self.server.base_url) as session:
            await export(session, path, self.server.threads)
        assert held(path) == self.all


async def recorded(recorder: Recorder, server: Listings, between: int, log: int) -> Recorded:
    """Fill an archive twice."""
    path, words = recorder.folder / "runs.db", (server.base_url, str(between), str(log))
    for number in range(36):
        server.add_run(f"thread_{number % 3}")
    calls_of_first = len(await recorder.run(*words, *server.threads))
    first = held(path)
    for number in range(12):
        server.add_run(f"thread_{number % 3}")
    calls = await recorder.run(*words, *server.threads)
    return Recorded(server, calls, calls_of_first, first, held(path))


@pytest.mark.parametrize(("between", "log"), [BESIDE, (sys.maxsize, 2**18)])
async def test_exports(recorder: Recorder, tmp_path: Path, between: int, log: int) -> None:
    """Nothing is lost for good, doubled or torn; what an export that ended had brought is there.

    Once with checkpoints beside the commits, and once with those of the writer alone.
    """
    async with Listings(page_items=4) as server:
        exports = await recorded(recorder, server, between, log)
        for place, files in cuts(exports.calls, Disk(), 500, seed=1):
            await exports.look(tmp_path / "cut" / "runs.db", place, files)


async def test_what_is_not_synced_is_missed(recorder: Recorder, tmp_path: Path) -> None:
    """On a disk where syncing does nothing, the same exports lose what they had brought: the states tell."""
    async with Listings(page_items=4) as server:
        exports = await recorded(recorder, server, *BESIDE)
        defects = 0
        for place, files in cuts(exports.calls, Disk(syncs=False), 100, seed=2):
            try:
                await exports.look(tmp_path / "cut" / "runs.db", place, files)
            except (ArchiveError, AssertionError):
                defects += 1
    assert defects > 10  # Of fifty, between 10 and 26 were seen: checkpoints fall beside other commits each time.


async def test_all_calls_are_recorded(recorder: Recorder) -> None:
    """What the calls say is there is what is there."""
    async with Listings(page_items=4) as server:
        exports = await recorded(recorder, server, *BESIDE)
    disk = Disk()
    for call in exports.calls:
        disk.carry_out(call)
    assert disk.now() == found(recorder.folder)


async def test_files_made_of_an_archive(recorder: Recorder) -> None:
    """Each is the old file or the new one, whole; once it was made, the new one."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("zstandard")
    async with Listings() as server, Session("key", server.base_url) as session:
        for _ in range(50):
            server.add_run("thread_0")
        await export(session, recorder.folder / "runs.db", server.threads, steps=False)
    for name in MADE:
        (recorder.folder / name).write_bytes(b"as it was")
    before = found(recorder.folder)
    calls = await recorder.run()
    after = found(recorder.folder)
    named = [number for number, call in enumerate(calls) if (call.kind, call.name) == ("e", ".")]
    made = dict(zip(MADE, named, strict=True))
    for place, files in cuts(calls, Disk(before), 1000, seed=3):
        for name in MADE:
            assert files[name] in (before[name], after[name])
            assert place <= made[name] or files[name] == after[name]

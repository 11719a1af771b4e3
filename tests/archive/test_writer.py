"""The thread that writes an archive, from the event loop's side."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from asyncruns import ArchiveError, ArchiveLocked
from asyncruns.archive import Archive, _file
from asyncruns.archive._records import FROM_NEWEST, PageWrite, Walk
from asyncruns.archive._store import Store
from asyncruns.archive._writer import Writer

from .items import raw_items

GOOD = PageWrite(
    walk=Walk(thread_id="thread_1", kind="runs", position=1), items=raw_items([("run_1", b'{"id": "run_1"}')])
)
BAD = PageWrite(walk=Walk(thread_id="thread_2", kind="runs", position=1), items=raw_items([(None, b"{}")]))  # type: ignore[list-item]


async def test_post_is_carried_out_before_the_end(path: Path) -> None:
    """What nobody waits for is in the archive once that is closed."""
    async with Writer(path) as writer:
        writer.post(GOOD)
    with Store(path) as store:
        assert store.walk("thread_1", "runs") == GOOD.walk


@pytest.mark.parametrize("count", [0, 1, 9, 10, 123, 1999])
async def test_as_many_items_as_come(path: Path, count: int) -> None:
    """All are written, in their order, however many come at once."""
    blobs = [b'{"id":"run_%d"}' % number for number in range(count)]
    items = raw_items((f"run_{number}", blob) for number, blob in enumerate(blobs))
    async with Writer(path) as writer:
        await writer.write(PageWrite(walk=Walk(thread_id="thread_1", kind="runs", position=count), items=items))
    with Archive.open(path) as archive:
        assert list(archive.raw("runs", thread_id="thread_1")) == blobs


@pytest.mark.parametrize("known", [0, 1, 122])
async def test_what_is_there_among_what_is_not(path: Path, known: int) -> None:
    """It is brought up to date, whether it comes first or last of those that are written; the others come, too."""
    ids = [f"run_{number}" for number in range(123)]
    before = raw_items([(ids[known], b'{"old": 1}')])
    blobs = [b'{"id":"%b"}' % id.encode() for id in ids]
    async with Writer(path) as writer:
        await writer.write(PageWrite(walk=Walk(thread_id="thread_1", kind="runs", position=1), items=before))
        items = raw_items(zip(ids, blobs, strict=True))
        await writer.write(PageWrite(walk=Walk(thread_id="thread_1", kind="runs", position=123), items=items))
    with Archive.open(path) as archive:
        assert list(archive.raw("runs", thread_id="thread_1")) == blobs


def test_more_items_than_a_statement_takes(path: Path) -> None:
    """A page of any length is looked up, also where SQLite takes no more values than it does by itself."""
    ids = [f"run_{number}" for number in range(70_000)]
    run = Walk(thread_id="thread_1", kind="runs", order="desc", position=FROM_NEWEST - 1)
    steps = Walk(thread_id="thread_1", kind="steps", run_id=ids[-1], state="done")
    with Store(path) as store:
        store._db.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)
        store.apply([PageWrite(walk=run, items=raw_items([(ids[-1], b"{}")])), PageWrite(walk=steps)])
        assert store.of_other_end(Walk(thread_id="thread_1", kind="runs"), ids) == {ids[-1]}
        assert store.runs_with_steps("thread_1", ids) == {ids[-1]}


def test_standing_is_that_of_the_walk_that_counts(path: Path) -> None:
    """A listing that is under way is not held to have failed for what its walk from the newest end was."""
    newest = Walk(thread_id="thread_1", kind="messages", order="desc", state="failed", reason="No order.")
    with Store(path) as store:
        store.apply([PageWrite(walk=Walk(thread_id="thread_1", kind="messages")), PageWrite(walk=newest)])
        assert store.standing("thread_1", ["messages"]) == ("listed", None)


async def _post_bad_and_write_good(path: Path, error: Exception | None = None) -> None:
    async with Writer(path) as writer:
        writer.post(BAD)
        await writer.write(GOOD)
        if error is not None:
            raise error


async def test_post_that_fails_is_told_at_the_end(path: Path) -> None:
    """What goes wrong with it stops no other, even of the same moment, and is not lost."""
    with pytest.raises(ArchiveError, match="NOT NULL"):
        await _post_bad_and_write_good(path)
    with Store(path) as store:
        assert store.walk("thread_1", "runs") == GOOD.walk
        assert store.walk("thread_2", "runs") is None


async def test_post_that_fails_hides_no_other_error(path: Path) -> None:
    """What ended the block itself is raised, as from any other."""
    with pytest.raises(LookupError):
        await _post_bad_and_write_good(path, LookupError())


@pytest.mark.parametrize("error", [LookupError, None])
async def test_closing_that_fails_hides_no_other_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None
) -> None:
    """An archive that another program holds cannot be given its columns, which is told where nothing else is."""
    monkeypatch.setattr(_file, "_WAIT_SECONDS", 0.01)

    async def fill() -> None:
        async with Writer(path) as writer:
            await writer.write(GOOD)
            other.execute("BEGIN IMMEDIATE")
            if error is not None:
                raise error

    _file.create(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other, pytest.raises(error or ArchiveLocked):
        await fill()
    with Store(path) as store:
        assert store.walk("thread_1", "runs") == GOOD.walk

"""The thread that writes an archive, from the event loop's side."""

from pathlib import Path

import pytest

from asyncruns import ArchiveError
from asyncruns.archive._records import PageWrite, Walk
from asyncruns.archive._store import Store
from asyncruns.archive._writer import Writer

GOOD = PageWrite(walk=Walk(thread_id="thread_1", kind="runs", position=1), items=[("run_1", b'{"id": "run_1"}')])
BAD = PageWrite(walk=Walk(thread_id="thread_2", kind="runs", position=1), items=[(None, b"{}")])  # type: ignore[list-item]


async def test_post_is_carried_out_before_the_end(path: Path) -> None:
    """What nobody waits for is in the archive once that is closed."""
    async with Writer(path) as writer:
        writer.post(GOOD)
    with Store(path) as store:
        assert store.walk("thread_1", "runs") == GOOD.walk


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

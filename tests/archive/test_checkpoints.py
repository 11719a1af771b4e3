"""What is written to an archive comes into its file while more is written, and nothing depends on that."""

import random
import sqlite3
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from asyncruns import ArchiveError
from asyncruns.archive import Archive, _checkpoints, _file, _moments
from asyncruns.archive._records import PageWrite, ThreadWrite, Walk
from asyncruns.archive._schema import PAGE_SIZE
from asyncruns.archive._store import Store

from .items import raw_items

BLOB = b'{"instructions": "%b"}' % (b"x" * 50_000)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make one checkpoint a page."""
    monkeypatch.setattr(_checkpoints, "BYTES_BETWEEN", PAGE_SIZE + len(BLOB))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Count the checkpoints that were made."""
    made = threading.Semaphore(0)
    monkeypatch.setattr(_moments, "reached", lambda moment: made.release() if moment == "after_checkpoint" else None)
    return made


def page(number: int) -> PageWrite:
    """Make a page of one run."""
    return PageWrite(
        walk=Walk(thread_id="thread_1", kind="runs", position=number), items=raw_items([(f"run_{number}", BLOB)])
    )


def names() -> set[str]:
    """Return the names of the threads that there are."""
    return {thread.name for thread in threading.enumerate()}


def test_the_file_takes_over_what_was_written(path: Path, made: threading.Semaphore) -> None:
    """Pages reach the file without the writer's doing, which ends with it; before there is enough, nothing happens."""
    with Store(path) as store:
        store.apply([PageWrite(walk=Walk(thread_id="thread_1", kind="steps", run_id="run_1", state="done"))])
        assert "asyncruns-checkpoints" not in names()
        size = path.stat().st_size
        for number in (1, 2, 3):
            store.apply([page(number)])
            assert made.acquire(timeout=10)
            assert path.stat().st_size > size
            size = path.stat().st_size
        assert "asyncruns-checkpoints" in names()
    assert "asyncruns-checkpoints" not in names()
    with Archive.open(path) as archive:
        assert list(archive.raw("runs")) == [BLOB] * 3


@pytest.mark.parametrize("what", ["cannot be opened", "fails"])
def test_nothing_depends_on_them(path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Where no checkpoint can be made beside the writer, all that is written is there all the same."""
    tried = threading.Event()

    def connect(*where: Any, **how: Any) -> sqlite3.Connection:
        db = _file.connect(*where, **how)
        if how["check"]:
            return db
        tried.set()
        if what == "fails":
            db.set_progress_handler(lambda: 1, 1)  # interrupts whatever is begun
            return db
        db.close()
        raise ArchiveError("It cannot be opened.")

    with Store(path) as store, monkeypatch.context() as patch:
        patch.setattr(_checkpoints, "connect", connect)
        for number in (1, 2, 3):
            store.apply([page(number)])
        assert tried.wait(10)
    with Archive.open(path) as archive:
        assert list(archive.raw("runs")) == [BLOB] * 3


def test_none_begins_beside_the_commit_that_begins_the_log_anew(path: Path, made: threading.Semaphore) -> None:
    """After one that carried everything over, only a commit that began behind it calls for the next one."""
    with Store(path) as store:
        store.apply([page(1)])
        assert made.acquire(timeout=10)
        checkpoints = store._checkpoints
        assert checkpoints.whole == 1
        checkpoints.wrote(2 * PAGE_SIZE + len(BLOB), 0)  # A commit of before, whose end is noted late.
        deadline = time.monotonic() + 10
        while checkpoints._due.is_set() and time.monotonic() < deadline:
            time.sleep(0)  # lets the other thread take it
        store.apply([page(2)])
        assert made.acquire(timeout=10)
    assert not made.acquire(blocking=False)


def test_what_writes_nothing_calls_for_none(path: Path, made: threading.Semaphore) -> None:
    """What is said of a thread once more writes nothing to the log, and so tells nothing of when it begins anew."""
    with Store(path) as store:
        store.stage(["thread_1"])
        store.settle(allow_change=False)
        store.apply([page(1)])
        assert made.acquire(timeout=10)
        for _ in range(10):
            store.apply([ThreadWrite(id="thread_1", state="failed", reason="x")] * 100)
    assert not made.acquire(blocking=False)


def test_the_writer_makes_one_itself_when_the_log_is_long(
    path: Path, made: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the others and however little is counted, the log stays near its bound."""
    monkeypatch.setattr(_checkpoints, "LOG_BYTES", 40 * PAGE_SIZE)
    monkeypatch.setattr(_checkpoints, "BYTES_BETWEEN", 2**30)
    log = path.with_name(path.name + "-wal")
    chance, lengths = random.Random(3), []
    with Store(path) as store:
        store.index_runs()
        for number in range(400):
            walk = Walk(thread_id="thread_1", kind="runs", position=100 * number + 100)
            ids = [f"run_{chance.randbytes(16).hex()}" for _ in range(100)]
            store.apply([PageWrite(walk=walk, items=raw_items([(id, b"{}") for id in ids]))])
            lengths.append(log.stat().st_size)
        assert "asyncruns-checkpoints" not in names()
    assert max(lengths) < 40 * PAGE_SIZE + 2 * max(b - a for a, b in pairwise(lengths))
    assert sum(1 for _ in iter(lambda: made.acquire(blocking=False), False)) > 10
    with Archive.open(path) as archive:
        assert archive.count("runs") == 40_000

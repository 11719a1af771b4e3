"""An archive is read offline, as objects or as bytes, and a file that is none is refused."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from asyncruns import ArchiveCorrupt, ArchiveError, ArchiveLocked, Run, RunStep
from asyncruns.archive import Archive
from asyncruns.archive._store import PageWrite, Store, Walk

from .conftest import Filled


async def test_objects_are_what_the_session_gives(small: Filled, path: Path) -> None:
    """Runs and steps from the archive equal those from the server."""
    await small.export(path)
    with Archive.open(path) as archive:
        for thread_id in small.threads:
            runs = await small.session.runs.list(thread_id, order="asc").collect()
            assert list(archive.runs(thread_id)) == runs
            assert isinstance(runs[0], Run)
            steps = await small.session.steps.list(thread_id, runs[0].id, order="asc").collect()
            assert list(archive.steps(runs[0].id)) == steps
            assert all(isinstance(step, RunStep) for step in steps)
        assert len(list(archive.runs())) == archive.count("runs") == len(small.runs)
        assert len(list(archive.steps())) == archive.count("steps")
        assert list(archive.messages()) == []
        assert archive.count("threads") == 2
        assert archive.verified_at is None


async def test_generated_columns_for_sql(small: Filled, path: Path) -> None:
    """Status, model and counts are columns for anybody's SQL."""
    await small.export(path)
    db = sqlite3.connect(path)
    found = db.execute("SELECT status, count(*), sum(total_tokens), min(created_at), max(model) FROM runs GROUP BY 1")
    by_status = {row[0]: row[1:] for row in found}
    db.close()
    with Archive.open(path) as archive:
        runs = [run for run in archive.runs() if run.status == "completed"]
    assert by_status["completed"] == (
        len(runs),
        sum(run.usage.total_tokens or 0 for run in runs if run.usage),
        min(run.created_at or 0 for run in runs),
        runs[0].model,
    )


async def test_readers_and_an_export_share_the_file(small: Filled, path: Path) -> None:
    """An archive can be read while it is filled; the last reader does not keep the export from closing."""
    await small.export(path)
    with Archive.open(path) as archive:
        walking = archive.runs()
        next(walking)
        small.emulator.fill(threads=1, runs_per_thread=3)
        await small.session.threads.create()
        assert (await small.export(path)).threads_done == 2
        assert len(list(walking)) == len(small.runs) - 1


async def test_read_only_places_can_be_read(small: Filled, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished archive needs no right to write, and no file beside it."""
    await small.export(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Archive.open(path) as archive:
        assert len(list(archive.runs())) == len(small.runs)


def test_missing_file_is_told(path: Path) -> None:
    """Opening what is not there says so and makes nothing."""
    with pytest.raises(ArchiveError, match="There is no archive"):
        Archive.open(path)
    with pytest.raises(ArchiveError, match="There is no archive"):
        Store(path, create=False)
    assert list(path.parent.iterdir()) == []


def test_foreign_files_are_refused(path: Path) -> None:
    """A text, another program's SQLite file and an archive of another version are `ArchiveCorrupt`, and stay."""
    path.write_text("not an archive at all")
    with pytest.raises(ArchiveCorrupt, match="no SQLite file"):
        Store(path)
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE runs (id)")
    db.close()
    with pytest.raises(ArchiveCorrupt, match="no archive of this program"):
        Store(path)
    path.unlink()
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ArchiveCorrupt, match="version 99"):
        Archive.open(path)


def test_changed_tables_are_refused(path: Path) -> None:
    """An archive whose tables were altered is refused: its columns could say anything."""
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("ALTER TABLE runs ADD COLUMN mine")
    db.close()
    with pytest.raises(ArchiveCorrupt, match="its tables are not those"):
        Archive.open(path)


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE runs SET json = replace(json, 'completed', 'cancelled')", lambda a: list(a.runs())),
        ("UPDATE runs SET thread_id = 'thread_x'", lambda a: list(a.raw("runs"))),
        ("UPDATE runs SET thread_id = CAST(x'ff' AS TEXT)", lambda a: list(a.raw("runs"))),
        ("UPDATE runs SET json = CAST(json AS BLOB) || x'20'", lambda a: list(a.columns("runs", ["id"]))),
        ("UPDATE threads SET state = 'done', reason = 'none'", lambda a: list(a.records())),
        ("UPDATE threads SET state = CAST(x'ff' AS TEXT)", lambda a: list(a.records())),
        ("UPDATE walks SET cursor = 'run_x'", lambda a: list(a.walks())),
        ("UPDATE walks SET cursor = CAST(x'ff' AS TEXT)", lambda a: list(a.walks())),
    ],
)
async def test_changed_rows_are_noticed(small: Filled, path: Path, statement: str, read: Any) -> None:
    """A row that was changed by other hands does not match its checksum."""
    await small.export(path)
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()
    with Archive.open(path) as archive, pytest.raises(ArchiveCorrupt, match="does not match its checksum"):
        read(archive)


def test_wrong_table_is_refused(path: Path) -> None:
    """A table that does not exist is a wrong argument."""
    Store(path).close()
    with Archive.open(path) as archive, pytest.raises(ValueError, match="table must be one of"):
        archive.count("files")  # type: ignore[arg-type]


def test_taken_over_archive_is_not_written(path: Path) -> None:
    """Should somebody fill the archive although we hold its lock, our next write is refused."""
    with Store(path) as store:
        db = sqlite3.connect(path)
        db.execute("UPDATE archive SET epoch = epoch + 1, owner = 'process 7 on elsewhere'")
        db.commit()
        db.close()
        with pytest.raises(ArchiveLocked, match="taken over by process 7 on elsewhere"):
            store.apply([PageWrite(walk=Walk(thread_id="thread_1", kind="runs"))])


def test_file_in_use_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that holds the file for writing makes it `ArchiveLocked`."""
    from asyncruns.archive import _file

    monkeypatch.setattr(_file, "_WAIT_SECONDS", 0.01)
    with Store(path) as store:
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(ArchiveLocked, match="in use by another program"):
            store.apply([PageWrite(walk=Walk(thread_id="thread_1", kind="runs"))])
        db.execute("ROLLBACK")
        db.close()


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that does not exist is told as an archive's error."""
    with pytest.raises(ArchiveError, match="cannot be made"):
        Store(tmp_path / "nowhere" / "runs.db")


def test_ids_are_only_values(path: Path) -> None:
    """An id that looks like SQL is just an id."""
    id = "'); DROP TABLE runs; --"
    with Store(path) as store:
        walk = Walk(thread_id=id, kind="runs", cursor=id, anchor=id, position=1)
        store.apply([PageWrite(walk=walk, items=[(id, b'{"id": "x"}')])])
        assert store.walk(id, "runs") == walk
        assert store.runs_without_steps(walk) == [(id, None)]
    with Archive.open(path) as archive:
        assert list(archive.raw("runs", thread_id=id)) == [b'{"id": "x"}']

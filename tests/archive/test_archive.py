"""An archive is read offline, as objects or as bytes, and a file that is none is refused."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from asyncruns import ArchiveCorrupt, ArchiveError, ArchiveLocked, Run, RunStep, SchemaError
from asyncruns.archive import Archive, Options, _file, _lock, _moments, write_report
from asyncruns.archive._records import PageWrite, ThreadWrite, Walk
from asyncruns.archive._store import Store

from .conftest import Filled
from .items import raw_items


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


async def test_thread_itself_is_found_by_its_id(small: Filled, path: Path) -> None:
    """Asked for what it has of one thread, an archive gives that thread, and no other."""
    await small.export(path, threads=True, steps=False)
    first, second = small.threads
    with Archive.open(path) as archive:
        both = list(archive.raw("threads"))
        assert [list(archive.raw("threads", thread_id=id)) for id in (first, second, "none")] == [
            *([b] for b in both),
            [],
        ]


def test_object_of_another_shape_does_not_end_the_rest(path: Path) -> None:
    """What is no run raises where it stands; whoever goes on asking gets the others."""
    blobs = [b'{"id": "run_%d", "thread_id": "thread_1", "status": "completed"}' % number for number in (1, 2, 3)]
    blobs[1] = b'{"id": "run_2", "thread_id": 7}'
    with Store(path) as store:
        items = [(f"run_{number}", blob) for number, blob in enumerate(blobs, 1)]
        store.apply([PageWrite(walk=Walk(thread_id="thread_1", kind="runs", position=3), items=raw_items(items))])
    with Archive.open(path) as archive:
        assert list(archive.raw("runs")) == blobs
        runs = archive.runs()
        assert next(runs).id == "run_1"
        with pytest.raises(SchemaError):
            next(runs)
        assert [run.id for run in runs] == ["run_3"]


def test_one_string_is_not_several(path: Path, tmp_path: Path) -> None:
    """Where several are wanted, the letters of one string are not taken for them; a count counts from 0 on."""
    with pytest.raises(TypeError, match="include must be several strings"):
        Options(include="step_details.tool_calls[*].file_search.results[*].content")  # type: ignore[arg-type]
    Store(path).close()
    with Archive.open(path) as archive:
        with pytest.raises(TypeError, match="ids must be several strings"):
            archive.named("runs", "run_1")
        with pytest.raises(TypeError, match="runs must be several strings"):
            write_report(archive, tmp_path / "report.html", runs="run_1")
        with pytest.raises(ValueError, match="count must be a whole number from 0 on, not -1"):
            archive.last("runs", -1)
        assert list(archive.last("runs", 0)) == list(archive.named("runs", ["run_1"])) == []


def test_names_that_are_none(path: Path) -> None:
    """A table or a column that there is not is refused, also one that SQLite would take for an expression."""
    Store(path).close()
    threads: Any = "threads"
    with Archive.open(path) as archive:
        for read in (lambda: archive.named(threads, ["thread_1"]), lambda: archive.last(threads, 1)):
            with pytest.raises(ValueError, match="table must be one of runs, steps, messages, not 'threads'"):
                read()
        with pytest.raises(TypeError, match="names must be several strings"):
            archive.columns("runs", "id")
        for name in ("run_id", "(SELECT count(*) FROM threads)"):
            with pytest.raises(ValueError, match="runs has the columns id, thread_id, status, "):
                archive.columns("runs", ["id", name])
        assert list(archive.columns("steps", ["id", "run_id", "json"])) == []


def test_steps_of_a_thread_come_run_by_run(path: Path) -> None:
    """In the server's order of both, in whichever order they were brought."""
    runs = [(f"run_{number}", b"{}") for number in (2, 1)]
    with Store(path) as store:
        store.apply([PageWrite(walk=Walk(thread_id="t", kind="runs", position=2), items=raw_items(runs))])
        for place in (1, 2):
            for run_id in ("run_1", "run_2"):
                walk = Walk(thread_id="t", kind="steps", run_id=run_id, position=place)
                blob = b'"%s step %d"' % (run_id.encode(), place)
                store.apply([PageWrite(walk=walk, items=raw_items([(f"step_{run_id}_{place}", blob)]))])
    with Archive.open(path) as archive:
        steps = [f'"{run_id} step {place}"'.encode() for run_id in ("run_2", "run_1") for place in (1, 2)]
        assert list(archive.raw("steps", thread_id="t")) == steps
        assert list(archive.raw("steps")) != steps


@pytest.mark.parametrize("name", [b"a?b#c%41.db", b"\xff.db", b"\xe4\xb8\x80 \xc3\xa9.db"])
async def test_any_name_is_one(small: Filled, tmp_path: Path, name: bytes) -> None:
    """A file may be called as the system lets it be, and be reached over two slashes."""
    for path in (tmp_path / os.fsdecode(name), Path(f"/{tmp_path}", os.fsdecode(name))):
        await small.export(path)
        with Archive.open(path) as archive:
            assert archive.count("runs") == len(small.runs)
    assert os.listdir(os.fsencode(tmp_path)) == [name]


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


def test_every_column_is_what_its_name_says(path: Path) -> None:
    """The columns of each table are the fields of the objects, and nothing where a field is missing."""
    usage = {"prompt_tokens": 11, "completion_tokens": 12, "total_tokens": 13}
    of_all = {"status": "completed", "created_at": 14}
    objects: dict[Any, dict[str, Any]] = {
        "runs": {**of_all, "model": "gpt-4o", "usage": usage},
        "steps": {**of_all, "type": "tool_calls", "usage": usage},
        "messages": {**of_all, "run_id": "run_9", "role": "user"},
        "threads": {"created_at": 15},
    }
    with Store(path) as store:
        store.stage(["thread_1", "thread_2"])
        store.settle(allow_change=False)
        for kind, told in objects.items():
            for number, fields in ((1, told), (2, {})):
                blob = json.dumps({"id": f"{kind}_{number}", **fields}).encode()
                if kind == "threads":
                    store.apply([ThreadWrite(id=f"thread_{number}", state="done", json=blob)])
                else:
                    run_id = "run_1" if kind == "steps" else ""
                    walk = Walk(thread_id="thread_1", kind=kind, run_id=run_id, position=number)
                    store.apply([PageWrite(walk=walk, items=raw_items([(f"{kind}_{number}", blob)]))])
    with Archive.open(path) as archive:
        for kind, told in objects.items():
            wanted = {**told, **told.get("usage", {})}
            wanted.pop("usage", None)
            db = sqlite3.connect(path)
            shown = {row[1] for row in db.execute(f"PRAGMA table_xinfo({kind})") if row[6]}
            db.close()
            assert shown == wanted.keys()
            full, empty = archive.columns(kind, list(wanted))
            assert [one.decode() if isinstance(one, bytes) else one for one in full] == list(wanted.values())
            assert set(empty) == {None}


def test_columns_come_when_filling_ends(path: Path) -> None:
    """While an archive is filled for the first time, its tables have no generated columns; it can be read all the same.

    They come when it is closed, are there while it is filled again, and are not lost by that.
    """

    def shown() -> list[str]:
        db = sqlite3.connect(path)
        names = [row[1] for row in db.execute("PRAGMA table_xinfo(runs)") if row[6]]
        db.close()
        return names

    def page(number: int) -> PageWrite:
        walk = Walk(thread_id="thread_1", kind="runs", position=number)
        return PageWrite(
            walk=walk, items=raw_items([(f"run_{number}", b'{"status": "queued", "created_at": %d}' % number)])
        )

    def statuses() -> list[tuple[Any, ...]]:
        with Archive.open(path) as archive:
            return list(archive.columns("runs", ["status", "created_at", "model"]))

    with Store(path) as store:
        store.apply([page(1)])
        assert (shown(), statuses()) == ([], [(b"queued", 1, None)])
    columns = ["status", "created_at", "model", "prompt_tokens", "completion_tokens", "total_tokens"]
    assert shown() == columns
    with Store(path) as store:
        store.apply([page(2)])
        assert (shown(), statuses()) == (columns, [(b"queued", 1, None), (b"queued", 2, None)])
    assert shown() == columns


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


def test_reading_takes_no_lock_away(path: Path) -> None:
    """A reader in the process that fills an archive does not let other programs take the log away under it.

    A process that closes a file loses all its locks on it: https://www.sqlite.org/howtocorrupt.html, 2.2.
    """

    def counted_elsewhere() -> str:
        script = (
            "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM runs').fetchone())"
        )
        ran = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
        return ran.stdout

    with Store(path) as store:
        for number in (1, 2, 3):
            walk = Walk(thread_id="thread_1", kind="runs", position=number)
            store.apply([PageWrite(walk=walk, items=raw_items([(f"run_{number}", b"{}")]))])
            with Archive.open(path) as archive:
                assert archive.count("runs") == number
            assert counted_elsewhere() == f"({number},)\n"


async def test_read_only_places_can_be_read(small: Filled, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finished archive needs no right to write, and no file beside it."""
    await small.export(path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["runs.db"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Archive.open(path) as archive:
        assert len(list(archive.runs())) == len(small.runs)


def fill(store: Store, first: int, count: int) -> None:
    """Add so many runs, which take some pages of the file."""
    items = [(f"run_{number:05}", b'{"x": "%s"}' % (b"x" * 9_000)) for number in range(first, first + count)]
    store.apply([PageWrite(walk=Walk(thread_id="t", kind="runs", position=first + count), items=raw_items(items))])


def test_read_only_places_are_not_read_on_once_they_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There SQLite does not see what others write, and would mix what was with what is: that is told in time."""
    with Store(path) as store:
        fill(store, 0, 100)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with Archive.open(path) as archive:
        begun = archive.raw("runs")
        assert [len(next(begun)) for _ in range(10)] == [9_009] * 10
        with Store(path) as store:
            fill(store, 100, 100)
        for read in (lambda: list(begun), lambda: archive.count("runs"), lambda: list(archive.last("runs", 1))):
            with pytest.raises(ArchiveLocked, match="was changed while it was read"):
                read()
    with Archive.open(path) as archive:
        assert archive.count("runs") == 200


@pytest.mark.parametrize("at", ["reading", "opening"])
def test_what_changes_in_a_read_only_place_is_not_called_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Half of an old and half of a new file looks damaged; it is not, once nobody changes it."""
    with Store(path) as store:
        fill(store, 0, 100)
    whole, look_through = path.read_bytes(), _file._check_pages

    def change(*arguments: Any) -> None:
        path.write_bytes(whole[:40_000].ljust(len(whole), b"x"))
        look_through(*arguments)

    monkeypatch.setattr(os, "access", lambda *_: False)
    if at == "opening":
        monkeypatch.setattr(_file, "_check_pages", change)
        with pytest.raises(ArchiveLocked, match="was changed while it was read"):
            Archive.open(path)
    else:
        with Archive.open(path) as archive:
            path.write_bytes(whole[:40_000].ljust(len(whole), b"x"))
            with pytest.raises(ArchiveLocked, match="was changed while it was read"):
                list(archive.raw("runs"))


def test_closing_ends_what_was_left_on_the_way(path: Path) -> None:
    """An iterator that nobody finished keeps no file open; it says that the archive is closed."""
    with Store(path) as store:
        fill(store, 0, 10)
    archive = Archive.open(path)
    begun = archive.raw("runs")
    next(begun)
    assert len(list(path.parent.iterdir())) > 1
    archive.close()
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]
    with pytest.raises(ArchiveError, match="closed"):
        next(begun)


def test_looking_through_ends_when_nobody_wants_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills an archive may be cancelled while it is looked through; then it is free, and whole as before."""
    items = [(f"run_{number}", b'{"x": "%s"}' % (b"x" * 32_000)) for number in range(1000)]
    with Store(path) as store:
        store.apply([PageWrite(walk=Walk(thread_id="t", kind="runs", position=1000), items=raw_items(items))])
    monkeypatch.setattr(_file, "_LOOK_UP_SECONDS", 0)
    with pytest.raises(ArchiveError, match="is not wanted any more"):
        Store(path, is_wanted=lambda: False)
    with Store(path) as store:
        assert store.path == path


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


def test_emptied_file_keeps_its_log(path: Path) -> None:
    """An archive of no bytes is refused before SQLite takes it for a new one, and removes what lies beside it."""
    log = path.with_name(path.name + "-wal")
    path.touch()
    log.write_bytes(b"something")
    with pytest.raises(ArchiveCorrupt, match="it is empty"):
        Archive.open(path)
    assert log.read_bytes() == b"something"
    with pytest.raises(ArchiveError, match="Is a directory"):
        Archive.open(path.parent)


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


def test_lock_that_its_holder_just_removed_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens a lock file that its holder removes before it is locked takes the next one, which all others see."""
    take, file = _lock.lock_file, path.with_name("runs.db.lock")

    def removed_meanwhile(handle: int) -> None:
        monkeypatch.setattr(_lock, "lock_file", take)
        file.unlink()
        take(handle)

    monkeypatch.setattr(_lock, "lock_file", removed_meanwhile)
    with Store(path):
        assert file.read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(ArchiveLocked, match=f"by process {os.getpid()} on "):
            Store(path)


def test_rows_and_cursor_become_visible_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the commit nobody sees a page's rows or its cursor, and then both: they are one transaction."""
    seen = []

    def look(moment: str) -> None:
        with Archive.open(path) as archive:
            seen.append((moment, archive.count("runs"), [walk.cursor for walk in archive.walks()]))

    with Store(path) as store:
        monkeypatch.setattr(_moments, "reached", look)
        walk = Walk(thread_id="thread_1", kind="runs", cursor="run_2", position=2)
        store.apply([PageWrite(walk=walk, items=raw_items([("run_1", b"{}"), ("run_2", b"{}")]))])
    before = [(moment, 0, []) for moment in ("after_rows", "after_cursor", "before_commit")]
    assert seen == [*before, ("after_commit", 2, ["run_2"])]


def test_refused_write_leaves_nothing_and_keeps_nobody(path: Path) -> None:
    """What cannot be written is taken back whole, and the next write goes as if it had not been tried."""
    walk = Walk(thread_id="thread_1", kind="runs", cursor="run_1", position=1)
    nobody: Any = None
    walks = (walk, attrs.evolve(walk, thread_id=nobody))
    with Store(path) as store:
        with pytest.raises(ArchiveError, match="NOT NULL"):
            store.apply([PageWrite(walk=one, items=raw_items([("run_1", b"{}")])) for one in walks])
        assert store.walk("thread_1", "runs") is None
        store.apply([PageWrite(walk=walk, items=raw_items([("run_2", b"{}")]))])
    with Archive.open(path) as archive:
        assert [row[0] for row in archive.columns("runs", ["id"])] == [b"run_2"]


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
        store.apply([PageWrite(walk=walk, items=raw_items([(id, b'{"id": "x"}')]))])
        assert store.walk(id, "runs") == walk
        assert store.runs_without_steps(walk, None, after="", limit=9) == (id, [(id, None)])
    with Archive.open(path) as archive:
        assert list(archive.raw("runs", thread_id=id)) == [b'{"id": "x"}']


@pytest.mark.parametrize("change", ["UPDATE runs SET position = 9 - position", "UPDATE steps SET position = -position"])
async def test_changed_positions_are_noticed(small: Filled, path: Path, change: str) -> None:
    """Rows that stand in another order than they were written in do not match their checksums."""
    await small.export(path)
    db = sqlite3.connect(path)
    db.execute(change)
    db.commit()
    db.close()

    def read() -> None:
        for thread_id in small.threads:
            for run in archive.runs(thread_id):
                list(archive.raw_steps(run.id))

    with Archive.open(path) as archive, pytest.raises(ArchiveCorrupt):
        read()


async def test_changed_position_does_not_lose_steps(filled: Filled, path: Path) -> None:
    """An export is not gone on with where runs have another position: the steps of some would be left out."""
    await filled.interrupted_export(path)
    db = sqlite3.connect(path)
    db.execute("UPDATE runs SET position = position + 100000 WHERE position < 50")
    db.commit()
    db.close()
    with pytest.raises(ArchiveCorrupt, match="an item of runs does not match its checksum"):
        await filled.export(path)

"""Servers, lists and files that mean no good: what they break is told, and the rest of an export is brought."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncruns import (
    ArchiveCorrupt,
    ArchiveError,
    ArchiveLocked,
    ConfigurationError,
    InvalidIdError,
    RetryPolicy,
    SchemaError,
)
from asyncruns.archive import Archive, convert, export, verify, write_report
from asyncruns.archive._file import create
from asyncruns.archive._records import PageWrite, Walk
from asyncruns.archive._store import Store

from .conftest import Filled, rows
from .items import raw_items
from .listings import Listings

HUGE = b"9" * 5000


def body(*items: bytes, more: bool = False) -> bytes:
    """Make a page of items as they are to be sent."""
    return b'{"data": [' + b", ".join(items) + b'], "has_more": ' + (b"true}" if more else b"false}")


def sent(id: str, *fields: bytes) -> bytes:
    """Make a run as it is to be sent."""
    known = f'"id": {json.dumps(id)}, "thread_id": "thread_1", "status": "completed"'.encode()
    return b"{" + b", ".join((known, *fields)) + b"}"


def deep(levels: int) -> bytes:
    """Make a field that is nested so deep."""
    return b'"metadata": ' + b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    "id", ['it\'s "one"; --', "line\nbreak", "nul\0", "<b>&amp;", "\N{RIGHT-TO-LEFT OVERRIDE}", "", "x" * 10**7]
)
async def test_ids_that_are_none_are_kept_as_sent(
    server: Any, path: Path, tmp_path: Path, open_session: Any, id: str
) -> None:
    """A run whose id no address can hold is archived as sent; its steps cannot be asked for, and the thread says so."""
    server.reply(body(sent(id)))
    progress = await export(await open_session(server), path, ["thread_1"])
    assert progress.failures["thread_1"].startswith("InvalidIdError: run_id")
    assert len(progress.failures["thread_1"]) < 1000
    assert len(server.requests) == 1
    with Archive.open(path) as archive:
        assert list(archive.raw("runs", thread_id="thread_1")) == [sent(id)]
        assert write_report(archive, tmp_path / "report.html") < 100_000
        assert convert(archive, tmp_path / "runs.jsonl") == 1
    assert (tmp_path / "runs.jsonl").read_bytes() == sent(id) + b"\n"


@pytest.mark.parametrize("number", [b"1e999", HUGE])
async def test_number_that_nothing_can_hold(
    server: Any, path: Path, open_session: Any, tmp_path: Path, number: bytes
) -> None:
    """Of an item only the id must be readable: with a time beyond all numbers, it is brought as it is."""
    item = sent("run_1", b'"created_at": ' + number)
    server.reply(body(item))
    assert (await export(await open_session(server), path, ["thread_1"], steps=False)).failures == {}
    with Archive.open(path) as archive:
        assert list(archive.raw("runs")) == [item]
        assert write_report(archive, tmp_path / "report.html") < 100_000


@pytest.mark.parametrize(
    "item",
    [
        sent("run_1", b'"instructions": "a\xffb"'),
        sent("run_1", b'"instructions": "a\x00b"'),
        sent("run_1", b'"instructions": "a\nb"'),
        sent("run_1", b'"instructions": "\\ud800"'),
        sent("run_1", b'"created_at": NaN'),
        sent("run_1", deep(100_000)),
        b'{"id": 7}',
        b'{"id": null}',
        b'{"id": "\\ud800"}',
        b"[1]",
        b"null",
    ],
)
async def test_item_that_is_none_fails_its_thread_alone(
    server: Any, path: Path, open_session: Any, item: bytes
) -> None:
    """What is no JSON object with an id, or none that can be searched, is refused with its page; the others come."""
    good = sent("run_2").replace(b"thread_1", b"thread_2")
    server.reply(body(item))
    server.reply(body(good))
    session = await open_session(server, retry=RetryPolicy(max_attempts=1))
    progress = await export(session, path, ["thread_1", "thread_2"], steps=False, concurrency=1)
    assert list(progress.failures) == ["thread_1"]
    assert progress.failures["thread_1"].startswith(("SchemaError", "DecodeError"))
    assert rows(path) == ([good], [])


async def test_deep_items_do_not_hide_the_others(path: Path, tmp_path: Path) -> None:
    """An object nested deeper than SQLite searches is kept, and a query finds nothing in it instead of failing."""
    blobs = [sent("run_1", deep(50_000)), sent("run_2"), sent("run_3", deep(50_000))]
    for number, blob in enumerate(blobs, 1):  # From the second time on there are columns.
        with Store(path) as store:
            walk = Walk(thread_id="thread_1", kind="runs", position=number)
            store.apply([PageWrite(walk=walk, items=raw_items([(f"run_{number}", blob)]))])
    db = sqlite3.connect(path)
    assert db.execute("SELECT status FROM runs ORDER BY position").fetchall() == [(None,), ("completed",), (None,)]
    db.close()
    with Archive.open(path) as archive:
        assert list(archive.raw("runs")) == blobs
        assert list(archive.columns("runs", ["status"])) == [(None,), (b"completed",), (None,)]
        assert convert(archive, tmp_path / "runs.jsonl") == 3
        assert write_report(archive, tmp_path / "report.html") > 0


def test_items_that_are_none_are_told_of_by_the_report(path: Path, tmp_path: Path) -> None:
    """What no export would have archived is an error of ours, where an archive has it all the same."""
    with Store(path) as store:
        walk = Walk(thread_id="thread_1", kind="runs", position=1)
        store.apply([PageWrite(walk=walk, items=raw_items([("run_1", b"[1]")]))])
    with Archive.open(path) as archive, pytest.raises(SchemaError, match="another shape"):
        write_report(archive, tmp_path / "report.html")


async def test_odd_items_can_be_read_and_searched(server: Any, path: Path, tmp_path: Path, open_session: Any) -> None:
    """Numbers out of all range and deep nesting are kept as sent; SQL, the report and a verification cope with them."""
    items = [
        sent("run_1", b'"usage": {"total_tokens": 1e999}'),
        sent("run_2", b'"usage": {"total_tokens": %b}' % HUGE),
        sent("run_3", deep(800)),
        sent("run_4", b'"created_at": "2024-01-01T00:00:00Z", "model": {"a": 1}, "usage": [1]'),
        sent("run_5", b'"created_at": -1.5e300'),
    ]
    step = b'{"id": "step_%d", "thread_id": "thread_1", "run_id": "run_%d", "step_details": {"x": 1e999}}'
    server.reply(body(*items))
    for number in range(1, 6):
        server.reply(body(step % (number, number)))
    session = await open_session(server)
    assert (await export(session, path, ["thread_1"], concurrency=1)).threads_done == 1
    with Archive.open(path) as archive:
        assert list(archive.raw("runs")) == items
        assert write_report(archive, tmp_path / "report.html", runs=["run_1"]) > 0
    assert ">run_1<" in (tmp_path / "report.html").read_text()
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM runs WHERE status = 'completed'").fetchone() == (5,)
    assert db.execute("SELECT sum(created_at) FROM steps").fetchone() == (None,)
    db.close()
    server.reply(body(*items[:4], sent("run_5", b'"created_at": 1')))
    for number in range(1, 6):
        server.reply(body(step % (number, number)))
    findings = await verify(session, path, concurrency=1)
    assert (findings.items, findings.missing, findings.different) == (10, [], ["run_5"])


async def test_same_id_twice_in_a_page_is_one_row(server: Any, path: Path, open_session: Any) -> None:
    """Of two items with one id on a page the first is kept, and everything is counted once."""
    first, second = sent("run_1", b'"number": 1'), sent("run_1", b'"number": 2')
    server.reply(body(first, second, sent("run_2")))
    progress = await export(await open_session(server), path, ["thread_1"], steps=False)
    assert progress.runs == 2
    with Archive.open(path) as archive:
        assert list(archive.raw("runs", thread_id="thread_1")) == [first, sent("run_2")]


@pytest.mark.parametrize(
    ("page", "error", "requests"),
    [
        (body(sent("run_1"), more=True), "PaginationLoopError", 2),
        (body(more=True), "PaginationStalledError", 1),
        (b'{"data": [], "has_more": true, "last_id": "run_9"}', "PaginationLoopError", 2),
        (b'{"data": [%b], "has_more": "false"}' % sent("run_1"), "SchemaError", 1),
        (b'{"data": null, "has_more": false}', "SchemaError", 1),
        (b'{"error": {"message": "no"}}', "ProtocolError", 1),
    ],
)
async def test_listing_that_never_ends_ends(
    server: Any, path: Path, open_session: Any, page: bytes, error: str, requests: int
) -> None:
    """More for ever and nothing new, nothing and more, no list at all: an error of the thread after few requests."""
    server.reply(page, times=9)
    progress = await export(await open_session(server), path, ["thread_1"], steps=False)
    assert progress.failures["thread_1"].startswith(error)
    assert len(server.requests) == requests


async def test_dates_as_text_leave_the_listing_to_the_oldest_end(path: Path, open_session: Any) -> None:
    """A server whose creation times are texts cannot be seen to list newest first; everything comes all the same."""
    async with Listings() as listings:
        for _ in range(30):
            listings.add_run("thread_1")["created_at"] = "2024-01-01T00:00:00Z"
        session = await open_session(listings)
        await export(session, path, ["thread_1"], both_ends=True, steps=False, concurrency=2)
        with Archive.open(path) as archive:
            assert [json.loads(run) for run in archive.raw("runs", thread_id="thread_1")] == listings.threads[
                "thread_1"
            ]


@pytest.mark.parametrize("wrong", ["thread_abc", b"thread_abc", ["thread_1", 7], [None], [b"thread_1"]])
async def test_ids_must_be_strings(server: Any, path: Path, open_session: Any, wrong: Any) -> None:
    """One string is not a list of its letters, and what is no string is no id: nothing is asked for."""
    with pytest.raises(TypeError, match=r"thread.id"):
        await export(await open_session(server), path, wrong)
    assert server.requests == []


async def test_id_that_is_no_text_is_refused(server: Any, path: Path, open_session: Any) -> None:
    """A lone surrogate, which a broken list read leniently gives, can be in no archive."""

    async def ids() -> AsyncIterator[str]:
        yield "thread_\udcff"

    with pytest.raises(InvalidIdError, match="udcff"):
        await export(await open_session(server), path, ids())
    assert server.requests == []


async def test_list_that_breaks_off_can_be_given_again(small: Filled, path: Path) -> None:
    """An error of the caller's own list comes out as it is, and the archive is not bound to half a list."""

    def ids() -> Iterator[str]:
        yield small.threads[0]
        raise RuntimeError("the list broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        await export(small.session, path, ids())
    assert (await small.export(path)).threads_done == 2


async def test_odd_names_are_only_names(small: Filled, tmp_path: Path) -> None:
    """An archive's name may hold what means something in an address."""
    path = tmp_path / "a b?mode=ro#%20&é;'.db"
    await small.export(path)
    assert rows(path) == (sorted(small.runs), sorted(small.steps))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


async def test_folders_in_the_way_are_told(small: Filled, path: Path) -> None:
    """A folder where the archive, its lock or its beginning is to be is an archive's error and stays."""
    for name in ("runs.db", "runs.db.lock", "runs.db.new"):
        folder = path.with_name(name)
        folder.mkdir()
        with pytest.raises(ArchiveError, match="cannot be"):
            await small.export(path)
        folder.rmdir()
    with pytest.raises(ArchiveError):
        Archive.open(path.parent)
    assert small.emulator.requests == []


async def test_link_is_the_archive_that_it_leads_to(small: Filled, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a symbolic link there is one archive with one lock, and what was not carried over yet is read, too."""
    link = path.parent / "links" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    await small.export(link)  # It leads nowhere yet.
    assert link.is_symlink()
    assert rows(path) == rows(link) == (sorted(small.runs), sorted(small.steps))
    with Store(path) as store:
        with pytest.raises(ArchiveLocked):
            await small.export(link)
        walk = Walk(thread_id="thread_1", kind="runs", position=1)
        store.apply([PageWrite(walk=walk, items=raw_items([("run_1", b"{}")]))])
        monkeypatch.setattr("os.access", lambda *_: False)  # As where nobody may write.
        with Archive.open(link) as archive:
            assert archive.count("runs") == len(small.runs) + 1


@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
@pytest.mark.parametrize("when", ["on the way", "at the end"])
def test_archive_that_leaves_its_place_while_it_is_filled(path: Path, how: str, when: str) -> None:
    """What is brought then would be found by nobody, so the export does not end as if all were well."""
    store = Store(path)
    page = PageWrite(walk=Walk(thread_id="thread_1", kind="runs", position=1), items=raw_items([("run_1", b"{}")]))
    store.apply([page])
    elsewhere = path.with_name("elsewhere.db")
    path.rename(elsewhere)
    if how == "removed":
        elsewhere.unlink()
    if how == "replaced":
        path.write_bytes(elsewhere.read_bytes())
    for act in (lambda: store.apply([page]), store.close)[when == "at the end" :]:
        with pytest.raises(ArchiveError, match="was moved, removed or replaced while it was filled"):
            act()


def test_process_that_changes_its_folder(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An archive that was named from where the process was is filled to its end."""
    monkeypatch.chdir(path.parent)
    with Store(Path(path.name)) as store:
        monkeypatch.chdir(tmp_path.parent)
        walk = Walk(thread_id="thread_1", kind="runs", position=1)
        store.apply([PageWrite(walk=walk, items=raw_items([("run_1", b"{}")]))])
    with Archive.open(path) as archive:
        assert archive.count("runs") == 1


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
async def test_log_of_another_archive_is_refused(small: Filled, path: Path, ending: str) -> None:
    """Where an archive was removed and its log was not, a new one does not begin: it would take in the old pages."""
    path.with_name("runs.db" + ending).write_bytes(b"left behind")
    with pytest.raises(ArchiveCorrupt, match=f"runs.db{ending} of one is beside it"):
        await small.export(path)
    assert [file.name for file in path.parent.iterdir()] == ["runs.db" + ending]


def test_remains_of_a_beginning_are_replaced(path: Path) -> None:
    """What a killed process had begun to make is made anew."""
    path.with_name("runs.db.new").write_bytes(b"half of an archive")
    create(path)
    with Archive.open(path) as archive:
        assert archive.count("runs") == 0
    assert [file.name for file in path.parent.iterdir()] == ["runs.db"]


async def test_nothing_is_written_over_the_archive_itself(small: Filled, tmp_path: Path) -> None:
    """A report or a conversion that is given the archive's own name, by whatever way, is refused."""
    path = tmp_path / "runs.jsonl"
    await small.export(path)
    (tmp_path / "link.jsonl").symlink_to(path)
    with Archive.open(path) as archive:
        for out in (path, tmp_path / "link.jsonl"):
            with pytest.raises(ConfigurationError, match="is the archive itself"):
                convert(archive, out)
            with pytest.raises(ConfigurationError, match="is the archive itself"):
                write_report(archive, out)
    assert rows(path) == (sorted(small.runs), sorted(small.steps))


async def test_read_again_and_again_while_it_is_filled(filled: Filled, path: Path) -> None:
    """Whoever opens the archive during an export sees whole rows, each once, and never fewer than before."""
    filled.emulator.delay = 0.001
    exporting = asyncio.create_task(filled.export(path, concurrency=8, both_ends=True))
    right, seen = {*filled.runs, *filled.steps}, [0]
    while not exporting.done():
        await asyncio.sleep(0.005)
        if path.exists():
            with Archive.open(path) as archive:
                found = [*archive.raw("runs"), *archive.raw("steps")]
                assert right.issuperset(found)
                assert len(set(found)) == len(found) >= seen[-1]
                assert len(list(archive.walks())) <= 2 * len(filled.threads) + archive.count("runs")
                seen.append(len(found))
    await exporting
    assert len(set(seen)) > 5
    assert rows(path) == (sorted(filled.runs), sorted(filled.steps))


@pytest.mark.parametrize("wrong", [0, -1, True, "4"])
async def test_verifying_with_nobody_verifies_nothing(small: Filled, path: Path, wrong: Any) -> None:
    """A verification with no request at a time is refused, and not told as one that found nothing."""
    await small.export(path)
    with pytest.raises(ValueError, match="concurrency"):
        await verify(small.session, path, concurrency=wrong)
    with Archive.open(path) as archive:
        assert archive.verified_at is None


@pytest.mark.parametrize("version", [1, 3])
async def test_other_versions_are_refused_and_left_alone(small: Filled, path: Path, version: int) -> None:
    """An archive of an older or a newer version is neither read nor filled, and not a byte of it changes."""
    await small.export(path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ArchiveCorrupt, match=f"of version {version}; this program reads version 2"):
        Archive.open(path)
    with pytest.raises(ArchiveCorrupt, match=f"of version {version}"):
        await small.export(path)
    assert path.read_bytes() == before

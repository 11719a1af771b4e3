"""A verification walks the other way and says what is missing or different."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from asyncruns import ArchiveCorrupt, ArchiveError, AuthenticationError, RetryPolicy, Session
from asyncruns.archive import Archive, _patience, export, verify
from asyncruns.archive._records import PageWrite, Walk
from asyncruns.archive._store import Store

from .conftest import Filled
from .items import raw_items
from .listings import Listings


async def test_whole_archive_is_found_whole(small: Filled, path: Path) -> None:
    """Every item is compared, none is missing or different, and the archive remembers when."""
    await small.export(path)
    small.emulator.requests.clear()
    findings = await verify(small.session, path)
    assert findings.ok
    assert findings.items == len(small.runs) + len(small.steps)
    assert all("order=desc" in target for _, target in small.emulator.requests)
    with Archive.open(path) as archive:
        assert archive.verified_at is not None
        assert [record.verified for record in archive.records()] == ["", ""]


async def test_differences_are_named(emulator: Any, session: Session, path: Path) -> None:
    """What the server has and the archive has not, what it shows otherwise, and what it shows no more."""
    thread_id, gone = emulator.fill(threads=2, runs_per_thread=3)
    await export(session, path, [thread_id, gone])
    runs = await session.runs.list(thread_id, order="asc").collect()
    await session.runs.modify(thread_id, runs[0].id, metadata={"new": "yes"})
    thread = emulator._store.threads.get(thread_id)
    thread.runs.remove(thread.runs.get(runs[1].id))
    new = await session.runs.create(thread_id, assistant_id="asst_1")
    await session.threads.delete(gone)
    findings = await verify(session, path, steps=False)
    assert not findings.ok
    assert findings.missing == [new.id]
    assert findings.different == [runs[0].id]
    assert findings.gone == 1
    assert findings.failures[gone].startswith("NotFoundError")
    with Archive.open(path) as archive:
        told = {record.id: record.verified for record in archive.records()}
    assert told[thread_id] == "1 missing, 1 different"
    await export(session, path, [thread_id, gone])
    with Archive.open(path) as archive:
        assert {record.id: record.verified for record in archive.records()} == told


async def test_damage_is_no_difference(small: Filled, path: Path) -> None:
    """A row that is not what was archived is `ArchiveCorrupt`: no export would mend it."""
    await small.export(path)
    for table in ("runs", "steps"):
        with sqlite3.connect(path) as db:
            (before,) = db.execute(f"SELECT json FROM {table} WHERE rowid = 1").fetchone()  # noqa: S608
            db.execute(f"UPDATE {table} SET json = replace(json, 'completed', 'Completed') WHERE rowid = 1")  # noqa: S608
        db.close()
        with pytest.raises(ArchiveCorrupt, match=f"an item of {table} does not match its checksum"):
            await verify(small.session, path)
        with sqlite3.connect(path) as db:
            db.execute(f"UPDATE {table} SET json = ? WHERE rowid = 1", (before,))  # noqa: S608
        db.close()
    assert (await verify(small.session, path)).ok


async def test_other_spelling_is_no_difference(server: Any, path: Path, open_session: Any) -> None:
    """The same value with other spaces and keys in another order is the same."""
    session = await open_session(server)
    server.reply(b'{"data": [{"id": "run_1", "status": "completed"}], "has_more": false}')
    await export(session, path, ["thread_1"], steps=False)
    server.reply(b'{"data":[{"status":"completed","id":"run_1"}],"has_more":false}')
    assert (await verify(session, path, steps=False)).ok


async def test_server_that_cannot_be_asked(small: Filled, path: Path, open_session: Any, server: Any) -> None:
    """A wrong key, or a server that is away, ends the verification with that error."""
    await small.export(path)
    wrong = await open_session(Session("sk-wrong", small.emulator.base_url))
    with pytest.raises(AuthenticationError):
        await verify(wrong, path)
    server.reply({"error": {"message": "no", "code": "insufficient_quota"}}, status=429, times=9)
    with pytest.raises(Exception, match="HTTP 429"):
        await verify(await open_session(server, retry=RetryPolicy(max_attempts=1)), path)


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_thread_that_the_server_fails_at_is_told_alone(
    path: Path, open_session: Any, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """A thread for which the server always fails could not be verified, and the others were."""
    monkeypatch.setattr(_patience, "_FIRST_PAUSE", 0.001)
    threads = ["thread_1", "thread_2", "thread_3"]
    broken = ""

    @web.middleware
    async def fail(request: web.Request, handler: Any) -> web.StreamResponse:
        return web.json_response({}, status=500) if broken and broken in request.path else await handler(request)

    async with Listings(middlewares=[fail]) as server:
        session = await open_session(server, retry=RetryPolicy(max_attempts=1))
        for thread_id in threads:
            server.add_run(thread_id)
        await export(session, path, threads)
        broken = "thread_1"
        findings = await verify(session, path, concurrency=concurrency)
    assert (findings.threads, findings.items, list(findings.failures)) == (3, 4, ["thread_1"])


async def test_there_must_be_an_archive(session: Session, path: Path) -> None:
    """Verifying what is not there says so and makes nothing."""
    with pytest.raises(ArchiveError, match="There is no archive"):
        await verify(session, path)
    assert not path.exists()


async def test_messages_are_compared_if_they_were_brought(small: Filled, path: Path) -> None:
    """An archive with messages has them verified as well; one without is not told that they are missing."""
    await small.export(path)
    assert (await verify(small.session, path)).items == len(small.runs) + len(small.steps)
    brought = (await small.export(path, messages=True)).messages
    assert (await verify(small.session, path)).items == len(small.runs) + len(small.steps) + brought
    first = (await small.session.messages.list(small.threads[0], order="asc")).data[0]
    await small.session.messages.modify(small.threads[0], first.id, metadata={"new": "yes"})
    await small.session.messages.create(small.threads[0], role="user", content="new")
    findings = await verify(small.session, path)
    assert (findings.different, len(findings.missing)) == ([first.id], 1)


async def test_threads_are_compared_if_they_were_brought(small: Filled, path: Path) -> None:
    """An archive with the threads themselves has these verified as well, and a damaged one is no difference."""
    await small.export(path, threads=True)
    assert (await verify(small.session, path)).items == 2 + len(small.runs) + len(small.steps)
    await small.session.threads.modify(small.threads[1], metadata={"new": "yes"})
    findings = await verify(small.session, path, steps=False)
    assert (findings.different, findings.missing, findings.gone) == ([small.threads[1]], [], 0)
    with Archive.open(path) as archive:
        assert [record.verified for record in archive.records()] == ["", "0 missing, 1 different"]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE threads SET json = replace(json, 'thread', 'Thread')")
    db.close()
    with pytest.raises(ArchiveCorrupt, match="what it says of a thread does not match"):
        await verify(small.session, path)


async def test_what_was_asked_for_is_looked_for(small: Filled, path: Path) -> None:
    """What an export was asked for and cut before is missing; what none was asked for is not looked for."""
    await small.export(path, steps=False)
    findings = await verify(small.session, path)
    assert (findings.ok, findings.items) == (True, len(small.runs))
    exporting: list[asyncio.Task[Any]] = []
    small.emulator.delay = 0.01
    exporting.append(asyncio.create_task(small.export(path, messages=True, steps=False)))
    while not any("/messages" in target for _, target in small.emulator.requests):
        await asyncio.sleep(0.001)
    exporting[0].cancel()
    await asyncio.wait(exporting)
    small.emulator.delay = 0
    with Archive.open(path) as archive:
        assert archive.count("messages") == 0
    assert (await verify(small.session, path)).missing


async def test_what_was_ever_asked_for_is_looked_for(small: Filled, path: Path) -> None:
    """What an earlier export was asked for counts, though the last was not."""
    await small.export(path, messages=True, threads=True)
    await small.export(path, steps=False)
    small.emulator.requests.clear()
    assert (await verify(small.session, path)).ok
    targets = [target for _, target in small.emulator.requests]
    assert any("/steps?" in target for target in targets)
    assert any("/messages?" in target for target in targets)
    assert f"/v1/threads/{small.threads[0]}" in targets


async def test_steps_are_asked_for_as_the_export_did(small: Filled, path: Path) -> None:
    """Steps brought with the text that file search found are compared with such steps."""
    include = ["step_details.tool_calls[*].file_search.results[*].content"]
    await small.export(path, include=include)
    assert (await verify(small.session, path)).ok
    await small.export(path)
    assert (await verify(small.session, path)).ok


async def test_pages_are_probed_for_as_the_export_did(session: Session, path: Path, open_session: Any) -> None:
    """On a server that always says there is no more, what is behind the first page is compared, too."""
    async with Listings(always_ends=True) as server:
        local = await open_session(Session("key", server.base_url))
        for _ in range(10):
            server.add_run("thread_1", steps=0)
        await export(local, path, ["thread_1"], probe=True)
        assert (await verify(local, path)).items == 10
        server.threads["thread_1"][1]["change"] = 1
        findings = await verify(local, path)
        assert (findings.different, findings.gone) == ([server.threads["thread_1"][1]["id"]], 0)


async def test_trouble_that_passes_is_waited_out(path: Path, open_session: Any) -> None:
    """A server that is too busy is asked again once its time is up, and what was compared by then counts once."""
    moments: list[float] = []

    def refuse_once() -> None:
        moments.append(asyncio.get_running_loop().time())
        if len(moments) == 3:
            raise web.HTTPTooManyRequests(headers={"Retry-After": "0.1"})

    async with Listings() as server:
        local = await open_session(Session("key", server.base_url, retry=RetryPolicy(max_attempts=1)))
        for _ in range(10):
            server.add_run("thread_1")
        await export(local, path, ["thread_1"], steps=False)
        server.on_request = refuse_once
        findings = await verify(local, path)
    assert findings.ok
    assert (findings.items, findings.gone) == (10, 0)
    assert moments[3] - moments[2] >= 0.1


async def test_steps_of_runs_that_are_gone_are_gone(path: Path, open_session: Any) -> None:
    """With a run that the server shows no more, its steps are counted, too."""
    async with Listings() as server:
        local = await open_session(Session("key", server.base_url))
        for _ in range(3):
            server.add_run("thread_1", steps=4)
        await export(local, path, ["thread_1"])
        del server.threads["thread_1"][0]
        assert (await verify(local, path)).gone == 5


async def test_steps_that_differ_are_named(small: Filled, path: Path) -> None:
    """A step that the archive has not, and one that is another now, are named as runs are."""
    await small.export(path)
    db = sqlite3.connect(path)
    first, kept = map(json.loads, small.steps[:2])
    assert first["thread_id"] == kept["thread_id"]
    (gone,) = db.execute("DELETE FROM steps WHERE id = ? RETURNING id", (first["id"],)).fetchone()
    db.commit()
    db.close()
    with Store(path) as store:
        walk = Walk(thread_id=kept["thread_id"], kind="steps", run_id=kept["run_id"], position=1, state="done")
        store.apply([PageWrite(walk=walk, items=raw_items([(kept["id"], b'{"id": "other"}')]))])
    findings = await verify(small.session, path)
    assert (findings.missing, findings.different) == ([gone], [kept["id"]])
    assert (await verify(small.session, path, steps=False)).ok
    with Archive.open(path) as archive:
        assert sorted(record.verified or "" for record in archive.records()) == ["", "1 missing, 1 different"]


async def test_threads_whose_steps_were_left_out_are_not_noted_as_whole(small: Filled, path: Path) -> None:
    """Only where an archive has no steps does a verification without them find all of it whole."""
    await small.export(path)
    assert (await verify(small.session, path, steps=False)).ok
    with Archive.open(path) as archive:
        assert [record.verified for record in archive.records()] == [None, None]
    path.unlink()
    await small.export(path, steps=False)
    assert (await verify(small.session, path, steps=False)).ok
    with Archive.open(path) as archive:
        assert [record.verified for record in archive.records()] == ["", ""]


async def test_threads_are_walked_at_the_same_time(small: Filled, path: Path) -> None:
    """As many threads as asked for are under way at once."""
    await small.export(path)
    small.emulator.delay = 60
    for concurrency in (2, 1):
        small.emulator.requests.clear()
        verifying = asyncio.create_task(verify(small.session, path, concurrency=concurrency))
        async with asyncio.timeout(10):
            while len(small.emulator.requests) < concurrency:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)
        assert len(small.emulator.requests) == concurrency
        verifying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await verifying

"""A verification walks the other way and says what is missing or different."""

from pathlib import Path
from typing import Any

import pytest

from asyncruns import ArchiveError, AuthenticationError, RetryPolicy, Session
from asyncruns.archive import Archive, export, verify

from .conftest import Filled


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


async def test_there_must_be_an_archive(session: Session, path: Path) -> None:
    """Verifying what is not there says so and makes nothing."""
    with pytest.raises(ArchiveError, match="There is no archive"):
        await verify(session, path)
    assert not path.exists()

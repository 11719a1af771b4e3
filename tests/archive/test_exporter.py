"""An export brings everything once, goes on where it stopped, and later brings what is new."""

import asyncio
import itertools
import json
import threading
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web

from asyncruns import (
    ArchiveError,
    ArchiveLocked,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    Session,
    StatusError,
)
from asyncruns.archive import Archive, Exporter, Options, _exporter, _patience, _turns, export, verify
from asyncruns.archive._patience import ExportStopped, first_of
from asyncruns.archive._store import Store
from asyncruns.emulator import Emulator

from .conftest import Filled, rows
from .listings import Listings


def run(number: int, thread_id: str = "thread_1", **fields: Any) -> dict[str, Any]:
    """Make a run."""
    return {"id": f"run_{number}", "thread_id": thread_id, "status": "completed", "created_at": number, **fields}


def page(*items: dict[str, Any], has_more: bool | None = False) -> dict[str, Any]:
    """Make a page."""
    body: dict[str, Any] = {"object": "list", "data": list(items)}
    return body if has_more is None else {**body, "has_more": has_more}


async def test_brings_everything_as_sent(filled: Filled, path: Path) -> None:
    """Every run and step is there once, byte for byte, and each thread's in the server's order."""
    progress = await filled.export(path)
    assert (progress.runs, progress.steps, progress.threads_done) == (len(filled.runs), len(filled.steps), 3)
    assert rows(path) == (sorted(filled.runs), sorted(filled.steps))
    with Archive.open(path) as archive:
        for number, thread_id in enumerate(filled.threads):
            expected = filled.runs[130 * number : 130 * number + 130]
            assert list(archive.raw("runs", thread_id=thread_id)) == expected
        assert [record.id for record in archive.records()] == filled.threads
        assert {record.state for record in archive.records()} == {"done"}


async def test_second_run_asks_once_a_thread(filled: Filled, path: Path) -> None:
    """A finished export run again makes one request a thread and changes nothing."""
    await filled.export(path)
    before = path.stat().st_size
    filled.emulator.requests.clear()
    progress = await filled.export(path)
    assert len(filled.emulator.requests) == len(filled.threads)
    assert (progress.runs, progress.steps, progress.threads_done) == (0, 0, 3)
    assert rows(path) == (sorted(filled.runs), sorted(filled.steps))
    assert path.stat().st_size == before


async def test_later_run_brings_what_is_new(emulator: Emulator, session: Session, path: Path) -> None:
    """A run that was not terminal is read again, with its steps, and new runs are brought."""
    thread = await session.threads.create()
    old = await session.runs.create(thread.id, assistant_id="asst_1")
    await export(session, path, [thread.id])
    with Archive.open(path) as archive:
        assert [run.status for run in archive.runs()] == ["queued"]
    emulator.clock.advance(60)
    new = await session.runs.create(thread.id, assistant_id="asst_1")
    emulator.clock.advance(60)
    await export(session, path, [thread.id])
    with Archive.open(path) as archive:
        assert [(run.id, run.status) for run in archive.runs()] == [(old.id, "completed"), (new.id, "completed")]
        assert {step.run_id for step in archive.steps()} == {old.id, new.id}
    emulator.requests.clear()
    await export(session, path, [thread.id])
    assert len(emulator.requests) == 1


async def test_later_run_asks_for_no_steps_twice(path: Path, open_session: Any) -> None:
    """Runs behind one that still moves are listed again with it, and their steps, which are there, are not."""
    async with Listings(page_items=100) as listings:
        moving = listings.add_run("thread_1", "in_progress")
        for _ in range(5):
            listings.add_run("thread_1")
        session = await open_session(listings)
        await export(session, path, ["thread_1"])
        for status in ("in_progress", "completed"):
            moving["status"] = status
            listings.requests.clear()
            await export(session, path, ["thread_1"])
            asked = [path for path, _, _ in listings.requests]
            assert asked == ["/threads/thread_1/runs", f"/threads/thread_1/runs/{moving['id']}/steps"]
        listings.requests.clear()
        await export(session, path, ["thread_1"])
        assert len(listings.requests) == 1


async def test_steps_of_a_run_under_way_are_asked_for_once(path: Path, open_session: Any) -> None:
    """A first run that came without steps before it had ended is listed again, and its steps come by that alone."""
    async with Listings(page_items=100) as listings:
        session = await open_session(listings)
        for status in ("in_progress", "completed", "completed"):
            listings.add_run("thread_1", status)
        await export(session, path, ["thread_1"], steps=False)
        listings.requests.clear()
        assert (await export(session, path, ["thread_1"])).steps == 3
        assert len(listings.requests) == 1 + 3


async def test_messages_that_were_being_written_are_brought_again(server: Any, path: Path, open_session: Any) -> None:
    """A later export begins before the first message that was in progress; one without a status never is."""

    def message(number: int, **fields: Any) -> dict[str, Any]:
        return {"id": f"msg_{number}", "thread_id": "thread_1", "created_at": number, **fields}

    session = await open_session(server)
    first = [message(1), message(2, status="in_progress"), message(3)]
    later = [message(2, status="completed"), message(3), message(4)]
    for messages in (first, later):
        server.reply(page(run(1)))
        server.reply(page(*messages))
        await export(session, path, ["thread_1"], messages=True, steps=False)
    assert "messages" in server.requests[-1].target
    assert "after=msg_1" in server.requests[-1].target
    with Archive.open(path) as archive:
        assert [json.loads(blob) for blob in archive.raw("messages")] == [first[0], *later]


async def test_messages_and_threads_are_brought_on_demand(small: Filled, path: Path) -> None:
    """With messages and threads these are in the archive too, the thread object as it was sent."""
    progress = await small.export(path, messages=True, threads=True)
    with Archive.open(path) as archive:
        assert archive.count("messages") == progress.messages > 0
        assert [thread.id for thread in archive.threads()] == small.threads
        assert next(archive.raw("threads")) == await small.session.threads.retrieve_raw(small.threads[0])
        first = next(archive.messages(small.threads[0]))
        assert first.thread_id == small.threads[0]
    small.emulator.requests.clear()
    await small.export(path, messages=True, threads=True)
    assert len(small.emulator.requests) == 2 * len(small.threads)


async def test_steps_can_be_brought_later(small: Filled, path: Path) -> None:
    """An archive begun without steps gets them from a later export with them."""
    await small.export(path, steps=False)
    assert rows(path) == (sorted(small.runs), [])
    await small.export(path)
    assert rows(path) == (sorted(small.runs), sorted(small.steps))


async def test_search_results_are_asked_for(small: Filled, path: Path) -> None:
    """`include` goes out with every listing of steps, of later exports too, which need not ask for it."""
    include = ["step_details.tool_calls[*].file_search.results[*].content"]
    for options in ({"include": include}, {}):
        await small.session.runs.create(small.threads[0], assistant_id="asst_1")
        small.emulator.clock.advance(60)
        small.emulator.requests.clear()
        await small.export(path, **options)
        steps = [target for _, target in small.emulator.requests if "/steps" in target]
        assert steps
        assert all("include%5B%5D=" in target for target in steps)


async def test_server_can_list_the_threads(small: Filled, path: Path) -> None:
    """Without a list, the server's own is taken, and it may grow between two exports."""
    assert (await export(small.session, path)).threads == 2
    small.emulator.fill(threads=1, runs_per_thread=2)
    progress = await export(small.session, path)
    assert (progress.threads, progress.runs) == (3, 2)


async def test_long_list_of_the_server_is_read_to_its_end(emulator: Emulator, session: Session, path: Path) -> None:
    """The server's list of threads has as many pages as it has."""
    threads = emulator.fill(threads=230, runs_per_thread=0)
    progress = await export(session, path, concurrency=64)
    assert (progress.threads, progress.threads_done) == (230, 230)
    with Archive.open(path) as archive:
        assert {record.id for record in archive.records()} == set(threads)


async def test_ids_may_come_from_an_async_iterable(small: Filled, path: Path) -> None:
    """An async generator of ids will do, more than a thousand too, and each counts once."""

    async def ids() -> AsyncIterator[str]:
        for id in [*small.threads, *(f"thread_{n}" for n in range(1000)), *small.threads]:
            yield id

    progress = await export(small.session, path, ids(), concurrency=64)
    assert (progress.threads, progress.threads_done, progress.threads_failed) == (1002, 2, 1000)


async def test_changed_list_is_refused_with_the_difference(small: Filled, path: Path) -> None:
    """Row 73: another list of threads is an error that names what differs, unless the change is allowed."""
    await small.export(path)
    other = [small.threads[0], "thread_new"]
    with pytest.raises(ArchiveError, match=rf"1 \({small.threads[1]}\) missing now, 1 \(thread_new\) new"):
        await export(small.session, path, other)
    progress = await export(small.session, path, other, allow_change=True)
    assert progress.threads == 2


async def test_allowed_change_forgets_what_brought_nothing(small: Filled, path: Path) -> None:
    """A wrong id that is taken off the list is gone for good; a thread with a history stays, failed or not."""
    wrong = ["thread_typo", "not an id"]
    await export(small.session, path, [*wrong, *small.threads], messages=True)
    await small.session.threads.delete(small.threads[0])
    await export(small.session, path, small.threads, allow_change=True)
    with Archive.open(path) as archive:
        assert [(record.id, record.state) for record in archive.records()] == [
            (small.threads[0], "failed"),
            (small.threads[1], "done"),
        ]
        assert {walk.thread_id for walk in archive.walks()} == {*small.threads}
    await export(small.session, path, small.threads)
    with pytest.raises(ArchiveError, match=rf"1 \({small.threads[0]}\) missing now"):
        await export(small.session, path, small.threads[1:])
    await export(small.session, path, small.threads[1:], allow_change=True)
    with Archive.open(path) as archive:
        assert {record.id for record in archive.records()} == {*small.threads}


async def test_allowed_change_keeps_messages(emulator: Emulator, session: Session, path: Path) -> None:
    """A thread of which messages came, and never a run, is not forgotten once it fails and is off the list."""
    thread = await session.threads.create()
    await session.messages.create(thread.id, role="user", content="Hello.")
    await export(session, path, [thread.id], messages=True)
    await session.threads.delete(thread.id)
    assert (await export(session, path, [thread.id])).threads_failed == 1
    await export(session, path, emulator.fill(threads=1, runs_per_thread=1), allow_change=True)
    with Archive.open(path) as archive:
        assert next(archive.records()).id == thread.id
        assert len(list(archive.raw("messages", thread_id=thread.id))) == 1


@pytest.mark.parametrize("prefix", ["v1", "elsewhere"])
async def test_server_that_lists_no_threads_asks_for_ids(prefix: str, path: Path) -> None:
    """Where threads cannot be listed, the error says that ids must be given, or that the address may be wrong."""
    async with Emulator(has_thread_listing=False) as emulator:
        base_url = emulator.base_url.replace("v1", prefix)
        async with Session(emulator.api_key, base_url) as session:
            with pytest.raises(ArchiveError, match=r"lists no threads.*thread_ids=, --threads.*base_url") as caught:
                await export(session, path)
    assert isinstance(caught.value.__cause__, StatusError)
    assert caught.value.__cause__.status in (404, 405)


async def test_one_thread_does_not_stop_the_others(small: Filled, path: Path) -> None:
    """A deleted thread is recorded with its reason, the others are brought, and it is tried again."""
    gone = ["thread_gone", "not an id"]
    progress = await export(small.session, path, [*gone, *small.threads])
    assert (progress.threads_done, progress.threads_failed) == (2, 2)
    assert progress.failures["thread_gone"].startswith("NotFoundError: HTTP 404")
    assert progress.failures["not an id"].startswith("InvalidIdError")
    with Archive.open(path) as archive:
        failed = {record.id: record.reason or "" for record in archive.records() if record.state == "failed"}
        assert failed == progress.failures
        walk = next(walk for walk in archive.walks() if walk.thread_id == "thread_gone")
        assert (walk.state, walk.reason) == ("failed", failed["thread_gone"])
    assert rows(path) == (sorted(small.runs), sorted(small.steps))


async def test_session_that_is_not_open_is_no_fault_of_the_threads(small: Filled, path: Path) -> None:
    """It ends the export, and a verification, and nothing is held against a thread."""
    shut = Session(small.emulator.api_key, small.emulator.base_url)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="not open"):
            await export(shut, path, small.threads)
        with Archive.open(path) as archive:
            assert {(record.state, record.reason) for record in archive.records()} == {("listed", None)}
    await small.export(path)
    with pytest.raises(ConfigurationError, match="not open"):
        await verify(shut, path)
    with Archive.open(path) as archive:
        assert {(record.state, record.verified) for record in archive.records()} == {("done", None)}
        assert archive.verified_at is None


async def test_exporter_is_run_once(small: Filled, path: Path) -> None:
    """A second run would find nothing to do and tell the figures of the first, so it is refused.

    One that could not begin does not count.
    """
    exporter = Exporter(small.session, path)
    with Store(path), pytest.raises(ArchiveLocked):
        await exporter.run(small.threads)
    await exporter.run(small.threads)
    sent = small.emulator.request_count
    with pytest.raises(ConfigurationError, match="is run once: make a new one"):
        await exporter.run(small.threads)
    assert small.emulator.request_count == sent


async def test_wrong_key_stops_the_export(small: Filled, path: Path, open_session: Any) -> None:
    """A refused key is not held against each thread: the export ends with the error."""
    session = await open_session(Session("sk-wrong", small.emulator.base_url))
    with pytest.raises(AuthenticationError):
        await export(session, path, small.threads)
    with Archive.open(path) as archive:
        assert {record.state for record in archive.records()} == {"listed"}


async def test_row_51_changes_during_the_walk(emulator: Emulator, session: Session, path: Path) -> None:
    """Rows inserted and deleted while the walk goes on: what was there all along comes out exactly once."""
    (thread_id,) = emulator.fill(threads=1, runs_per_thread=450)
    thread = emulator._store.threads.get(thread_id)
    assert thread is not None
    runs = thread.runs.page(limit=1000, order="asc")[0]
    doomed = [runs[99], runs[98], runs[205], runs[299]]
    served = emulator.request_count

    async def change() -> None:
        while doomed:
            if emulator.request_count > served + 3 * (4 - len(doomed)):
                thread.runs.remove(doomed.pop(0))
            await asyncio.sleep(0)

    stable = {one.id for one in runs} - {one.id for one in doomed}
    emulator.delay = 0.001
    changing = asyncio.create_task(change())
    progress = await export(session, path, [thread_id], steps=False, concurrency=1)
    changing.cancel()
    assert progress.threads_done == 1
    with Archive.open(path) as archive:
        found = [run.id for run in archive.runs()]
    assert stable <= set(found)
    assert len(found) == len(set(found))


async def test_row_50_expired_cursor_when_resuming(emulator: Emulator, session: Session, path: Path) -> None:
    """The run at the cursor was deleted between two exports: it goes on from the one before, or from the start."""
    (thread_id,) = emulator.fill(threads=1, runs_per_thread=30)
    thread = emulator._store.threads.get(thread_id)
    assert thread is not None
    runs = thread.runs.page(limit=1000, order="asc")[0]
    await export(session, path, [thread_id], steps=False)
    for gone in (runs[-1:], runs[5:-1]):
        for one in gone:
            thread.runs.remove(one)
        progress = await export(session, path, [thread_id], steps=False)
        assert (progress.threads_done, progress.threads_failed) == (1, 0)
    with Archive.open(path) as archive:
        assert archive.count("runs") == 30


async def test_row_52_broken_page_is_a_failure_and_not_an_end(server: Any, path: Path, open_session: Any) -> None:
    """Page 2 is no page: the thread fails with the reason, keeps page 1, and goes on behind it the next time."""
    server.reply(page(run(1), run(2), has_more=True))
    server.reply(b"<html>", headers={"Content-Type": "text/html"})
    session = await open_session(server)
    progress = await export(session, path, ["thread_1"], steps=False)
    assert progress.failures["thread_1"].startswith("UnexpectedContentError")
    server.reply(page(run(3)))
    progress = await export(session, path, ["thread_1"], steps=False)
    assert progress.threads_done == 1
    assert "after=run_2" in server.requests[-1].target
    with Archive.open(path) as archive:
        assert [one.id for one in archive.runs("thread_1")] == ["run_1", "run_2", "run_3"]


async def test_row_53_items_of_another_thread_are_refused(server: Any, path: Path, open_session: Any) -> None:
    """A run of another thread in the listing is an error of that thread, unless the session checks no identity."""
    server.reply(page(run(1, thread_id="thread_2")), times=2)
    progress = await export(await open_session(server), path, ["thread_1"], steps=False)
    assert progress.failures["thread_1"].startswith("IdentityMismatchError")
    careless = await open_session(server, check_identity=False)
    progress = await export(careless, path, ["thread_1"], steps=False)
    assert progress.threads_done == 1


async def test_same_id_in_two_threads_is_never_overwritten(server: Any, path: Path, open_session: Any) -> None:
    """Two threads that show a run of the same id each keep their own."""
    bodies = [{"id": "run_1", "status": "completed", "number": number} for number in (1, 2)]
    for body in bodies:
        server.reply(page(body))
    session = await open_session(server)
    await export(session, path, ["thread_1", "thread_2"], steps=False, concurrency=1)
    with Archive.open(path) as archive:
        for number, body in enumerate(bodies, 1):
            assert list(archive.raw("runs", thread_id=f"thread_{number}")) == [json.dumps(body).encode()]


async def test_items_that_are_no_objects_fail_the_thread(server: Any, path: Path, open_session: Any) -> None:
    """A listing of something else is an error with its path."""
    server.reply({"data": ["run_1"], "has_more": False})
    progress = await export(await open_session(server), path, ["thread_1"], steps=False)
    assert progress.failures["thread_1"].startswith("SchemaError")


@pytest.mark.parametrize("status", [[], {}, None, 7])
async def test_status_that_is_no_word_counts_as_unsettled(
    server: Any, path: Path, open_session: Any, status: object
) -> None:
    """A run whose status is nothing readable is archived as sent, and read again the next time."""
    server.reply(page(run(1, status=status)), times=2)
    session = await open_session(server)
    for _ in range(2):
        assert (await export(session, path, ["thread_1"], steps=False)).runs == 1


async def test_probe_asks_past_an_end_that_is_none(server: Any, path: Path, open_session: Any) -> None:
    """A server that always says there is no more is asked once past each end, until nothing comes."""
    server.reply(page(run(1)))
    server.reply(page(run(2)))
    server.reply(page())
    progress = await export(await open_session(server), path, ["thread_1"], steps=False, probe=True)
    assert (progress.runs, len(server.requests)) == (2, 3)


async def test_probe_ends_where_a_server_ignores_the_cursor(server: Any, path: Path, open_session: Any) -> None:
    """A server that answers every cursor with the first page is not asked for ever."""
    server.reply(page(run(1)), times=5)
    progress = await export(await open_session(server), path, ["thread_1"], steps=False, probe=True)
    assert (progress.threads_done, len(server.requests)) == (1, 2)
    with Archive.open(path) as archive:
        assert archive.count("runs") == 1


async def test_probe_asks_past_the_end_of_the_servers_own_list(path: Path, open_session: Any) -> None:
    """Where a server always says that there is no more, its list of threads is probed as all others, later too."""
    async with Emulator(profile="has-more-false") as emulator:
        emulator.fill(threads=150, runs_per_thread=1)
        session = await open_session(emulator)
        assert (await export(session, path, steps=False, probe=True)).threads == 150
        emulator.fill(threads=60, runs_per_thread=1)
        assert (await export(session, path, steps=False)).runs == 60


async def test_probe_of_the_servers_own_list_ends(server: Any, path: Path, open_session: Any) -> None:
    """A server that answers every cursor with the first threads is not asked for ever."""
    server.reply(page({"id": "thread_1"}), times=2)
    server.reply(page(), times=5)
    assert (await export(await open_session(server), path, steps=False, probe=True)).threads_done == 1
    assert sum("/threads?" in request.target for request in server.requests) == 2


async def test_odd_thread_does_not_hide_the_others(server: Any, path: Path, open_session: Any) -> None:
    """Of the threads that a server lists, nothing is read but their ids."""
    server.reply(page({"id": "thread_1", "created_at": "yesterday"}, {"id": "thread_2", "created_at": 1}))
    server.reply(page(), times=2)
    assert (await export(await open_session(server), path, steps=False)).threads_done == 2


async def test_trouble_while_threads_are_listed_is_waited_out(server: Any, path: Path, open_session: Any) -> None:
    """The list goes on behind the last thread that came; what stays is the export's error."""
    broken = {"error": {"message": "broken"}}
    server.reply(broken, status=503)
    server.reply(page({"id": "thread_1"}, has_more=True))
    for _ in range(2):
        server.reply(broken, status=503)
    server.reply(page({"id": "thread_2"}))
    server.reply(page(), times=2)
    session = await open_session(server, retry=RetryPolicy(max_attempts=1))
    exporter, naps = Exporter(session, path, Options(steps=False)), []

    async def nap(seconds: float) -> None:
        naps.append(round(seconds))

    exporter._patience.sleep = nap
    assert (await exporter.run()).threads_done == 2
    assert naps == [1, 1, 2]
    cursors = [request.target.partition("after=")[2] for request in server.requests if "/threads?" in request.target]
    assert cursors == ["", "", "thread_1", "thread_1", "thread_1"]
    server.reply(broken, status=503, times=5)
    exporter = Exporter(session, path, Options(steps=False))
    exporter._patience.sleep = nap
    with pytest.raises(ServerError, match="broken"):
        await exporter.run()


async def test_threads_that_the_server_lists_no_more_are_not_forgotten(path: Path, open_session: Any) -> None:
    """One that was listed and not brought to its end is tried once more, and told of, and then it is settled."""
    with Store(path) as store:
        store.stage(["thread_1", "thread_2"])
        store.settle(allow_change=False, listed=True)

    @web.middleware
    async def list_threads(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/threads":
            response: web.StreamResponse = await handler(request)
            return response
        return web.json_response({"object": "list", "data": [{"id": "thread_1"}], "has_more": False})

    async with Listings(middlewares=[list_threads]) as server:
        server.add_run("thread_1")
        session = await open_session(Session("key", server.base_url))
        progress = await export(session, path)
        assert (progress.threads, progress.threads_done) == (2, 1)
        assert progress.failures["thread_2"].startswith("NotFoundError")
        assert (await export(session, path)).threads == 1


async def test_trouble_that_passes_is_waited_out(server: Any, path: Path, open_session: Any) -> None:
    """After an overload everybody waits as long as the server asks, and then the walk goes on."""
    server.reply({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "30"})
    server.reply({"error": {"message": "broken"}}, status=500)
    server.reply(page(run(1)))
    session = await open_session(server, retry=RetryPolicy(max_attempts=1))
    exporter, naps = Exporter(session, path, Options(steps=False)), []

    async def nap(seconds: float) -> None:
        naps.append(round(seconds))

    exporter._patience.sleep = nap
    progress = await exporter.run(["thread_1"])
    assert progress.threads_done == 1
    assert naps == [30, 2]
    assert progress.pauses == 2
    assert "broken" in progress.last_trouble


async def test_everybody_waits_for_what_one_was_told(path: Path, open_session: Any) -> None:
    """While a pause lasts that the server asked one walk for, none of the others asks for anything."""
    async with Listings() as listings:
        threads = [f"thread_{number}" for number in range(6)]
        for thread_id in threads:
            for _ in range(300):
                listings.add_run(thread_id)

        def refuse_once() -> None:
            if len(listings.requests) == 10:
                listings.on_request = lambda: None
                raise web.HTTPTooManyRequests(headers={"Retry-After": "30"})

        listings.on_request = refuse_once
        session = await open_session(listings, retry=RetryPolicy(max_attempts=1))
        exporter, asked = Exporter(session, path, Options(steps=False, concurrency=6)), list[int]()

        async def nap(_: float) -> None:
            await asyncio.sleep(0.2)
            asked.append(len(listings.requests))

        exporter._patience.sleep = nap
        progress = await exporter.run(threads)
        assert (progress.threads_done, progress.runs, progress.pauses) == (6, 1800, 1)
        assert asked[0] - 10 <= 6  # What was under way when it was said.


async def test_no_page_is_asked_for_before_the_last_is_safe(
    filled: Filled, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not get on stops the requests: each walk has one page in hand, and no more."""
    getting_on, apply = threading.Event(), Store.apply

    def wait_and_apply(store: Store, writes: Any) -> None:
        assert getting_on.wait(30)
        apply(store, writes)

    monkeypatch.setattr(Store, "apply", wait_and_apply)
    exporting = asyncio.create_task(filled.export(path, concurrency=3))
    while len(filled.emulator.requests) < 3:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.2)
    stopped_at = len(filled.emulator.requests)
    getting_on.set()
    await exporting
    assert stopped_at == 3
    assert rows(path) == (sorted(filled.runs), sorted(filled.steps))


async def test_never_more_requests_at_once_than_asked_for(path: Path, open_session: Any) -> None:
    """The concurrency holds over all threads, listings and steps together, and is used."""
    under_way, most = 0, 0

    @web.middleware
    async def count(request: web.Request, handler: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        try:
            return await handler(request)
        finally:
            under_way -= 1

    async with Listings(middlewares=[count]) as listings:
        threads = [f"thread_{number}" for number in range(9)]
        for thread_id in threads:
            for _ in range(10):
                listings.add_run(thread_id)
        progress = await export(await open_session(listings), path, threads, concurrency=5, both_ends=True)
    assert (progress.threads_done, progress.runs, progress.steps) == (9, 90, 90)
    assert most == 5


async def test_memory_does_not_grow_with_the_length(path: Path, open_session: Any) -> None:
    """Ten times as many pages of a listing take no more memory: what is written is not kept."""
    peaks = []
    async with Listings(page_items=20) as listings:
        for thread_id, count in (("thread_warm", 100), ("thread_short", 300), ("thread_long", 3000)):
            for _ in range(count):
                listings.add_run(thread_id)["instructions"] = "x" * 5000
            session = await open_session(listings)
            listings.requests.clear()
            tracemalloc.start()
            await export(session, path.with_name(f"{thread_id}.db"), [thread_id], steps=False)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[2] < peaks[1] + 1_000_000  # The long listing has 15 MB.


@pytest.mark.parametrize(
    ("status", "code", "headers", "error", "requests"),
    [
        (500, None, {}, ServerError, 10),
        (429, "insufficient_quota", {}, RateLimitError, 1),
        (429, None, {"Retry-After": "86400"}, RateLimitError, 1),
    ],
)
async def test_trouble_that_does_not_pass_stops_the_export(
    server: Any,
    path: Path,
    open_session: Any,
    status: int,
    code: str | None,
    headers: dict[str, str],
    error: type,
    requests: int,
) -> None:
    """A server that fails for all ends the export after some tries, one that asks for a day or for money at once."""
    server.reply({"error": {"message": "no", "code": code}}, status=status, headers=headers, times=20)
    session = await open_session(server, retry=RetryPolicy(max_attempts=1))
    exporter, naps = Exporter(session, path, Options(steps=False, concurrency=1)), []

    async def nap(seconds: float) -> None:
        naps.append(round(seconds))

    exporter._patience.sleep = nap
    with pytest.raises(error):
        await exporter.run(["thread_1", "thread_2"])
    assert len(server.requests) == requests
    assert naps == [1, 2, 4, 8] * (requests // 5)  # For each thread; each pause is twice as long as the one before.
    server._script.clear()
    for number in (1, 2):
        server.reply(page(run(1, f"thread_{number}")))
    assert (await export(session, path, ["thread_1", "thread_2"], steps=False, concurrency=1)).threads_done == 2


async def test_trouble_of_one_thread_alone_is_its_own(server: Any, path: Path, open_session: Any) -> None:
    """A thread that always fails is recorded and does not stop the export, though nothing else is brought beside it."""
    session = await open_session(server, retry=RetryPolicy(max_attempts=1))
    exporter = Exporter(session, path, Options(steps=False, concurrency=1))

    async def nap(_: float) -> None:
        await asyncio.sleep(0)

    exporter._patience.sleep = nap
    server.reply({"error": {"message": "broken"}}, status=500, times=5)
    server.reply(page(run(1, "thread_2")))
    progress = await exporter.run(["thread_1", "thread_2"])
    assert progress.failures["thread_1"].startswith("ServerError")
    assert progress.threads_done == 1


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("broken", ["thread_1/runs/", "thread_1"])
async def test_thread_of_which_all_fails_is_waited_for_once(
    path: Path, open_session: Any, monkeypatch: pytest.MonkeyPatch, concurrency: int, broken: str
) -> None:
    """Many listings of one thread that always fail are one trouble: it is recorded, and all else is brought."""
    monkeypatch.setattr(_patience, "_FIRST_PAUSE", 0.001)

    @web.middleware
    async def fail(request: web.Request, handler: Any) -> web.StreamResponse:
        return web.json_response({}, status=500) if f"/{broken}" in request.path else await handler(request)

    async with Listings(middlewares=[fail]) as listings:
        session = await open_session(listings, retry=RetryPolicy(max_attempts=1))
        for thread_id in ("thread_1", "thread_2") * 10:
            listings.add_run(thread_id)
        options = Options(messages=broken == "thread_1", threads=broken == "thread_1", concurrency=concurrency)
        exporter = Exporter(session, path, options)
        progress = await exporter.run(["thread_1", "thread_2"])
    assert progress.failures["thread_1"].startswith("ServerError")
    assert progress.pauses <= 4 * concurrency
    with Archive.open(path) as archive:
        assert archive.count("runs") == (10 if options.messages else 20)
        assert len(list(archive.raw("steps", thread_id="thread_2"))) == 10
        assert next(record.state for record in archive.records()) == "failed"


async def test_server_that_is_not_there_is_no_trouble_of_a_thread(
    path: Path, open_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing listens, no thread is held to have failed."""
    monkeypatch.setattr(_patience, "_FIRST_PAUSE", 0.001)
    async with Listings() as listings:
        session = await open_session(listings, retry=RetryPolicy(max_attempts=1))
    with pytest.raises(ConnectError):
        await export(session, path, ["thread_1", "thread_2"], concurrency=1)
    with Archive.open(path) as archive:
        assert {record.state for record in archive.records()} == {"listed"}


async def test_getting_on_renews_the_patience(server: Any, path: Path, open_session: Any) -> None:
    """Trouble before every page does not add up: a walk that gets on is tried as often again."""
    for number in range(1, 9):
        server.reply({"error": {"message": "broken"}}, status=500)
        server.reply(page(run(number), has_more=number < 8))
    session = await open_session(server, retry=RetryPolicy(max_attempts=1))
    exporter = Exporter(session, path, Options(steps=False))

    async def nap(_: float) -> None:
        await asyncio.sleep(0)

    exporter._patience.sleep = nap
    progress = await exporter.run(["thread_1"])
    assert (progress.runs, progress.threads_done) == (8, 1)


async def test_cancelled_export_keeps_what_came(filled: Filled, path: Path) -> None:
    """Cancelling leaves a whole archive behind, and the next export goes on with it."""
    await filled.interrupted_export(path)
    assert not path.with_name("runs.db-wal").exists()
    kept = rows(path)
    assert 0 < len(kept[1]) < len(filled.steps)
    await filled.export(path)
    assert rows(path) == (sorted(filled.runs), sorted(filled.steps))


async def test_row_71_second_exporter_is_refused(small: Filled, path: Path) -> None:
    """While one export fills the archive, another gets `ArchiveLocked`, which names its holder."""
    small.emulator.delay = 0.05
    first = asyncio.create_task(small.export(path))
    while not path.exists():
        await asyncio.sleep(0.001)
    with pytest.raises(ArchiveLocked, match="is being filled by process"):
        await small.export(path)
    assert (await first).threads_done == 2
    await small.export(path)
    assert not path.with_name("runs.db.lock").exists()


async def test_backlog_is_bounded_and_shared(
    emulator: Emulator, session: Session, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of thousands of runs does not pile its steps up, and does not keep others from theirs."""
    monkeypatch.setattr(_turns, "_LONGEST_BACKLOG", 200)
    threads = emulator.fill(threads=2, runs_per_thread=1000)
    exporter = Exporter(session, path, Options(concurrency=4))
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, exporter._turns.waiting)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await exporter.run(threads)
    watching.cancel()
    assert 200 < most <= 200 + 4 * 100
    seen = [target.split("/")[3] for _, target in emulator.requests if "/steps" in target]
    switches = sum(a != b for a, b in itertools.pairwise(seen))
    assert switches > 500


@pytest.mark.parametrize("wrong", [0, -1, True, "4"])
def test_wrong_concurrency_is_refused(wrong: object) -> None:
    """The number of requests at a time is a whole number from 1 on."""
    with pytest.raises(ValueError, match="concurrency"):
        Options(concurrency=wrong)  # type: ignore[arg-type]


async def test_run_deleted_meanwhile_fails_its_thread(server: Any, path: Path, open_session: Any) -> None:
    """The steps of a run that is gone cannot be brought: the thread says so, and its other runs are complete."""
    server.reply(page(run(1), run(2)))
    server.reply({"error": {"message": "No run found"}}, status=404)
    step = {"id": "step_1", "thread_id": "thread_1", "run_id": "run_2", "type": "x", "status": "completed"}
    server.reply(page(step))
    progress = await export(await open_session(server), path, ["thread_1"], concurrency=1)
    assert progress.failures["thread_1"].startswith("NotFoundError")
    assert (progress.runs, progress.steps) == (2, 1)
    with Archive.open(path) as archive:
        states = {walk.run_id: walk.state for walk in archive.walks() if walk.kind == "steps"}
    assert states == {"run_1": "failed", "run_2": "done"}


async def test_refusal_of_the_first_page_is_not_a_lost_cursor(server: Any, path: Path, open_session: Any) -> None:
    """A thread that was deleted between two exports fails as such; what was brought of it stays."""
    server.reply(page(run(1)))
    await export(await open_session(server), path, ["thread_1"], steps=False)
    server.reply({"error": {"message": "No thread found"}}, status=404, times=2)
    progress = await export(await open_session(server), path, ["thread_1"], steps=False)
    assert progress.failures["thread_1"].startswith("NotFoundError")
    with Archive.open(path) as archive:
        assert archive.count("runs") == 1


def test_options_are_told_to_nobody_else() -> None:
    """The keywords of `export` are the fields of `Options`."""
    from asyncruns.archive._exporter import OptionWords

    assert {field.name for field in attrs.fields(Options)} == OptionWords.__annotations__.keys()


async def test_more_is_asked_of_steps_later(small: Filled, path: Path) -> None:
    """Steps that came without what file search found are brought again once it is asked for, and stay so."""
    await small.export(path)
    include = ["step_details.tool_calls[*].file_search.results[*].content"]
    for options in ({"include": include}, {}):
        await small.export(path, **options)
        small.emulator.requests.clear()
        with Archive.open(path) as archive:
            assert any(b'"text"' in blob for blob in archive.raw("steps") if b"file_search" in blob)
    await small.export(path)
    assert len(small.emulator.requests) == len(small.threads)


async def test_probing_is_begun_later(path: Path, open_session: Any) -> None:
    """On a server that always says there is no more, a later export that probes brings the rest, of old runs too."""
    async with Listings(always_ends=True) as server:
        local = await open_session(Session("key", server.base_url))
        for _ in range(5):
            server.add_run("thread_1", steps=10)
        await export(local, path, ["thread_1"])
        with Archive.open(path) as archive:
            assert (archive.count("runs"), archive.count("steps")) == (3, 9)
        await export(local, path, ["thread_1"], probe=True)
        with Archive.open(path) as archive:
            assert (archive.count("runs"), archive.count("steps")) == (5, 50)
        for _ in range(5):
            server.add_run("thread_1", steps=10)
        await export(local, path, ["thread_1"])
        with Archive.open(path) as archive:
            assert (archive.count("runs"), archive.count("steps")) == (10, 100)


@pytest.mark.parametrize(("tells_end", "behind"), [(None, 2), (True, 3)], ids=["never told", "always told"])
async def test_end_that_is_not_told_is_none(path: Path, open_session: Any, tells_end: bool | None, behind: int) -> None:
    """Where a page cannot tell that it is the last, steps that were cut behind it are gone on with."""

    @web.middleware
    async def say_nothing(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        if tells_end is None and isinstance(response, web.Response):
            return web.json_response({"data": json.loads(response.text or "")["data"]})
        return response

    async with Listings(100, [say_nothing], always_ends=bool(tells_end)) as server:
        local = await open_session(Session("key", server.base_url))
        server.add_run("thread_1", steps=150)
        options: dict[str, Any] = {"probe": bool(tells_end), "concurrency": 1}
        await server.interrupt(export(local, path, ["thread_1"], **options), behind=behind)
        with Archive.open(path) as archive:
            assert archive.count("steps") == 100
        await export(local, path, ["thread_1"], **options)
        with Archive.open(path) as archive:
            assert archive.count("steps") == 150


async def test_server_that_lists_newest_first_alone(path: Path, open_session: Any) -> None:
    """Where `order=asc` is not heeded, each export walks all, so that what is new is found."""
    async with Listings() as server:
        local = await open_session(Session("key", server.base_url))
        server.oldest_first = server.newest_first
        for count in (10, 13, 13):
            while len(server.threads.get("thread_1", ())) < count:
                server.add_run("thread_1")
            await export(local, path, ["thread_1"])
            with Archive.open(path) as archive:
                assert (archive.count("runs"), archive.count("steps")) == (count, count)


@pytest.mark.parametrize(
    ("before", "after", "page_items"),
    [
        ([1], [2, 3], 100),  # One run does not tell the order.
        ([1, 1, 1], [2], 100),
        ([1, 2, 3, 4, 5], [6], 1),
        ([None] * 5, [None], 3),
        (["2024-01-01", "2024-01-02", "2024-01-03"], ["2024-02-01"], 2),
        ([1, None, 3, 4, 5], [6], 3),
        ([1, 3, 2, 4, 5], [6], 5),
        ([None, 2, 3], [4, 5], 5),
    ],
)
@pytest.mark.parametrize("heeds_order", [True, False])
async def test_what_is_new_comes_whatever_the_order(
    path: Path, open_session: Any, before: list[Any], after: list[Any], page_items: int, *, heeds_order: bool
) -> None:
    """Where nothing shows that what is new comes behind what is there, the next export looks at all, and counts it not.

    What ended a listing is asked for again only where that is seen.
    """
    async with Listings(page_items) as server:
        local = await open_session(Session("key", server.base_url))
        if not heeds_order:
            server.oldest_first = server.newest_first
        for moments in (before, after, []):
            for moment in moments:
                server.add_run("thread_1")["created_at"] = moment
            progress = await export(local, path, ["thread_1"])
            assert (progress.runs, progress.steps) == (len(moments), len(moments))
            with Archive.open(path) as archive:
                assert Counter(archive.raw("runs")) == Counter(
                    json.dumps(run).encode() for run in server.threads["thread_1"]
                )


async def test_order_that_was_seen_is_trusted(path: Path, open_session: Any) -> None:
    """Behind a listing that rose, each later export asks for no more than what is new."""
    async with Listings(2) as server:
        local = await open_session(Session("key", server.base_url))
        for moment in (1, 1, 1, 1, 2):
            server.add_run("thread_1")["created_at"] = moment
        await export(local, path, ["thread_1"], steps=False, both_ends=False)
        for _ in range(3):
            last = server.threads["thread_1"][-1]["id"]
            server.add_run("thread_1")
            server.requests.clear()
            assert (await export(local, path, ["thread_1"], steps=False)).runs == 1
            assert [after for _, _, after in server.requests] == [last]


@pytest.mark.parametrize("left", [1, 0])
async def test_order_is_seen_across_an_interruption(path: Path, open_session: Any, left: int) -> None:
    """What was brought before an export was stopped tells in which order it came, whatever there is behind it."""
    async with Listings(3) as server:
        local = await open_session(Session("key", server.base_url))
        for moment in range(7):
            server.add_run("thread_1")["created_at"] = moment
        await server.interrupt(export(local, path, ["thread_1"], steps=False), behind=2)
        del server.threads["thread_1"][6 + left :]
        assert (await export(local, path, ["thread_1"], steps=False)).runs == left
        server.requests.clear()
        await export(local, path, ["thread_1"], steps=False)
        assert [after for _, _, after in server.requests] == [server.threads["thread_1"][-1]["id"]]


@pytest.mark.parametrize("moving", [0, 3, 6])
async def test_step_that_ends_after_its_run(path: Path, open_session: Any, moving: int) -> None:
    """Steps of a run that ended are brought again as long as one of them has not, and then no more."""
    async with Listings() as server:
        local = await open_session(Session("key", server.base_url))
        run = server.add_run("thread_1", steps=7)
        server.add_run("thread_1")
        step = server.steps[run["id"]][moving]
        step["status"] = "in_progress"
        assert (await export(local, path, ["thread_1"])).steps == 8
        assert (await export(local, path, ["thread_1"])).step_listings == 1
        step["status"] = "completed"
        await export(local, path, ["thread_1"])
        with Archive.open(path) as archive:
            assert [json.loads(step)["status"] for step in archive.raw("steps")] == ["completed"] * 8
        assert (await export(local, path, ["thread_1"])).step_listings == 0


async def test_thread_is_not_done_while_more_comes_of_it(emulator: Emulator, session: Session, path: Path) -> None:
    """A thread that was done is `listed` from the first page of what is asked for later until the last."""
    threads = emulator.fill(threads=1, runs_per_thread=150)
    await export(session, path, threads, steps=False)
    emulator.requests.clear()
    emulator.delay = 0.01
    exporting = asyncio.create_task(export(session, path, threads, messages=True, steps=False))
    while sum("/messages" in target for _, target in emulator.requests) < 2:
        await asyncio.sleep(0.001)
    exporting.cancel()
    await asyncio.wait([exporting])
    emulator.delay = 0
    with Archive.open(path) as archive:
        assert archive.count("messages") == 100
        assert [record.state for record in archive.records()] == ["listed"]
    for more, state in (("steps", "listed"), ("threads", "listed"), ("messages", "done")):
        progress = await export(session, path, threads, **{"steps": False, more: more != "steps"})
        assert progress.threads_done == 1
        with Archive.open(path) as archive:
            assert [record.state for record in archive.records()] == [state]


async def test_thread_is_not_done_before_steps_that_wait(path: Path, open_session: Any) -> None:
    """A thread that was done without steps is `listed` once they are asked for, before the first of them came."""
    async with Listings() as server:
        local = await open_session(Session("key", server.base_url))
        for _ in range(5):
            server.add_run("thread_1")
        await export(local, path, ["thread_1"], steps=False)
        await server.interrupt(export(local, path, ["thread_1"], concurrency=1), behind=1)
        assert server.requests[-1][0].endswith("/steps")
        with Archive.open(path) as archive:
            assert archive.count("steps") == 0
            assert [record.state for record in archive.records()] == ["listed"]


@pytest.mark.parametrize("more", ["steps", "messages", "threads"])
async def test_thread_of_which_more_came_is_done_again(small: Filled, path: Path, more: str) -> None:
    """A thread that was done is so again at the end of the export that brought more of it."""
    await small.export(path, steps=False)
    await small.export(path, **{"steps": False, more: True})
    with Archive.open(path) as archive:
        assert {record.state for record in archive.records()} == {"done"}


async def test_reason_of_the_last_failure_is_kept(server: Any, path: Path, open_session: Any) -> None:
    """Of a thread that fails again, for something else, the archive has the new reason."""
    session = await open_session(server)
    for reason in ("No such thread.", "Not yours."):
        server.reply({"error": {"message": reason}}, status=403)
        await export(session, path, ["thread_1"])
        with Archive.open(path) as archive:
            assert [reason in str(record.reason) for record in archive.records()] == [True]


async def test_what_failed_is_not_done_by_asking_for_less(path: Path, open_session: Any) -> None:
    """A thread whose steps could not be brought stays `failed` until they are."""
    async with Listings() as server:
        local = await open_session(Session("key", server.base_url))
        run_id = server.add_run("thread_1")["id"]
        kept = server.steps.pop(run_id)
        assert (await export(local, path, ["thread_1"])).threads_failed == 1
        for steps, state in ((False, "failed"), (True, "failed")):
            await export(local, path, ["thread_1"], steps=steps)
            with Archive.open(path) as archive:
                (record,) = archive.records()
            assert record.state == state
            assert "No such listing" in str(record.reason)
        server.steps[run_id] = kept
        await export(local, path, ["thread_1"])
        with Archive.open(path) as archive:
            assert [record.state for record in archive.records()] == ["done"]


def test_which_error_ends_an_export() -> None:
    """Of errors that come together it is one that stops everything, or one of ours, else the first."""
    stops, ours, defect = ExportStopped(AuthenticationError("no", status=401)), ArchiveError("full"), KeyError("x")
    assert first_of(ExceptionGroup("", [ours, ExceptionGroup("", [stops])])) is stops.error
    assert first_of(ExceptionGroup("", [defect, ours])) is ours
    assert first_of(ExceptionGroup("", [ExceptionGroup("", [defect]), ValueError("y")])) is defect


async def test_an_error_of_the_token_provider(emulator: Emulator, path: Path, open_session: Any) -> None:
    """It ends an export, and a verification, as it is."""

    async def token() -> str:
        raise KeyError("no token")

    await export(await open_session(Session(emulator.api_key, emulator.base_url)), path, ["thread_1"])
    session = await open_session(Session(token, emulator.base_url))
    with pytest.raises(KeyError, match="no token"):
        await export(session, path, ["thread_1"])
    with pytest.raises(KeyError, match="no token"):
        await verify(session, path)


async def test_steps_of_more_runs_than_are_looked_at_at_once(
    small: Filled, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that came without steps are looked through some at a time, so that memory stays flat."""
    monkeypatch.setattr(_exporter, "_RUNS_AT_ONCE", 2)
    await small.export(path, steps=False)
    await small.export(path)
    assert rows(path) == (sorted(small.runs), sorted(small.steps))


async def test_listing_does_not_widen_a_list(small: Filled, path: Path) -> None:
    """An archive of some threads becomes one of all that the server lists only if that is said; then it may grow."""
    await small.export(path)
    small.emulator.fill(threads=1, runs_per_thread=1)
    with pytest.raises(ArchiveError, match=r"another list of threads: none missing now, 1 \(.*\) new"):
        await export(small.session, path)
    assert (await export(small.session, path, allow_change=True)).threads == 3
    small.emulator.fill(threads=1, runs_per_thread=1)
    assert (await export(small.session, path)).threads == 4
    with pytest.raises(ArchiveError, match="another list"):
        await small.export(path)


async def test_include_that_is_refused_does_not_stay(path: Path, open_session: Any) -> None:
    """What a server does not take is asked for no more once the caller does not ask for it."""

    @web.middleware
    async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
        if "include[]" in request.query:
            return web.json_response({"error": {"message": "No such include."}}, status=400)
        response: web.StreamResponse = await handler(request)
        return response

    async with Listings(middlewares=[refuse]) as server:
        local = await open_session(Session("key", server.base_url))
        for _ in range(2):
            server.add_run("thread_1")
        await export(local, path, ["thread_1"])
        include: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
        assert (await export(local, path, ["thread_1"], include=include)).threads_failed == 1
        assert (await export(local, path, ["thread_1"])).failures == {}
        server.requests.clear()
        await export(local, path, ["thread_1"])
        assert len(server.requests) == 1


async def test_include_reaches_steps_that_were_cut(path: Path, open_session: Any) -> None:
    """A listing of steps that broke off before more was asked of steps is brought again whole."""
    asked: list[Any] = []

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.endswith("/steps"):
            asked.append((request.query.get("include[]"), request.query.get("after")))
            if len(asked) == 2:
                return web.json_response({"error": {"message": "Not now."}}, status=403)
        response: web.StreamResponse = await handler(request)
        return response

    async with Listings(middlewares=[note]) as server:
        local = await open_session(Session("key", server.base_url))
        server.add_run("thread_1", steps=7)
        assert (await export(local, path, ["thread_1"])).threads_failed == 1
        asked.clear()
        asked += [None] * 2
        include: Any = ["step_details.tool_calls[*].file_search.results[*].content"]
        await export(local, path, ["thread_1"], include=include)
        assert [after is None for _, after in asked[2:]] == [True, False, False]


async def test_one_pair_out_of_order_costs_nothing(path: Path, open_session: Any) -> None:
    """A clock that went back for a moment makes no listing one that comes newest first."""
    async with Listings() as server:
        local = await open_session(Session("key", server.base_url))
        for second in (1, 2, 3, 9, 10, 8, 11, 12, 13):
            server.add_run("thread_1")["created_at"] = second
        await export(local, path, ["thread_1"])
        server.requests.clear()
        assert (await export(local, path, ["thread_1"])).runs == 0
        assert len(server.requests) == 1

"""Threads: made, read, changed, deleted, made together with a run, and listed where a server can."""

import pytest

from asyncruns import IdentityMismatchError, NotFoundError, SchemaError, StatusError, TextContent, Thread, ThreadDeleted
from asyncruns.emulator import Emulator


async def test_create_and_retrieve(session, emulator):
    """With messages, resources and metadata, or with nothing."""
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    thread = await session.threads.create(
        messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": [TextContent(value="b")]}],
        tool_resources=resources,
        metadata={"k": "v"},
    )
    assert isinstance(thread, Thread)
    assert (thread.metadata, thread.tool_resources) == ({"k": "v"}, resources)
    assert [message.text async for message in session.messages.list(thread.id, order="asc")] == ["a", "b"]
    assert await session.threads.retrieve(thread.id) == thread
    assert (await session.threads.create()).metadata == {}


async def test_modify(session):
    """What is given is replaced, the rest stays."""
    thread = await session.threads.create(metadata={"a": "1"})
    changed = await session.threads.modify(thread.id, tool_resources={"file_search": {"vector_store_ids": ["vs_1"]}})
    assert (changed.id, changed.metadata) == (thread.id, {"a": "1"})
    assert changed.tool_resources == {"file_search": {"vector_store_ids": ["vs_1"]}}


async def test_delete(session):
    """It is gone with all that was in it."""
    thread = await session.threads.create()
    assert await session.threads.delete(thread.id) == ThreadDeleted(id=thread.id, deleted=True)
    with pytest.raises(NotFoundError):
        await session.threads.retrieve(thread.id)


async def test_list(session):
    """Azure has this listing; it is a pager as any."""
    threads = [await session.threads.create(metadata={"n": str(n)}) for n in range(5)]
    assert await session.threads.list(limit=2, order="asc").collect() == threads
    assert await session.threads.list(limit=2, max_items=3).collect() == threads[:1:-1]


async def test_list_where_the_server_has_none(open_session):
    """OpenAI does not; the refusal is told."""
    async with Emulator(has_thread_listing=False) as emulator:
        session = await open_session(emulator)
        with pytest.raises(StatusError) as caught:
            await session.threads.list()
        assert caught.value.status in (404, 405)


async def test_create_and_run(session, emulator):
    """One request makes both."""
    emulator.requests.clear()
    run = await session.threads.create_and_run(
        assistant_id="asst_1", thread={"messages": [{"role": "user", "content": "hi"}]}, metadata={"job": "7"}
    )
    assert emulator.requests == [("POST", "/v1/threads/runs")]
    assert (run.status, run.metadata) == ("queued", {"job": "7"})
    assert [message.text async for message in session.messages.list(run.thread_id)] == ["hi"]


async def test_create_and_run_with_a_request_key(session, emulator):
    """Two requests and a search, so that a run of unclear fate is found again; resources go to the thread."""
    emulator.requests.clear()
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    run = await session.threads.create_and_run(
        assistant_id="asst_1",
        thread={"messages": [{"role": "user", "content": "hi"}]},
        tool_resources=resources,
        request_key="job-7",
    )
    assert run.metadata == {"request_key": "job-7"}
    assert [method for method, _ in emulator.requests] == ["POST", "GET", "POST"]
    assert (await session.threads.retrieve(run.thread_id)).tool_resources == resources
    run = await session.threads.create_and_run(assistant_id="asst_1", request_key="job-8")
    assert run.metadata == {"request_key": "job-8"}


async def test_retrieve_raw(server, scripted_session):
    """The bytes exactly as sent, though a thread of another id is refused."""
    sent = b'{ "id":"thread_1",  "created_at": 5.0, "later": [1e3] }'
    server.reply(sent)
    assert await scripted_session.threads.retrieve_raw("thread_1") == sent
    server.reply(sent)
    with pytest.raises(IdentityMismatchError):
        await scripted_session.threads.retrieve_raw("thread_2")
    server.reply(b'{"id": "thread_1", "created_at": "x"}')
    with pytest.raises(SchemaError):
        await scripted_session.threads.retrieve_raw("thread_1")

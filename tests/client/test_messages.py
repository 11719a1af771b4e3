"""Messages: made, read, listed, changed and deleted."""

import pytest

from asyncruns import Attachment, FileSearchTool, ImageUrlContent, Message, MessageDeleted, NotFoundError, TextContent


@pytest.fixture
async def thread(session):
    """Give the test an empty thread."""
    return await session.threads.create()


async def test_create_and_retrieve(session, thread):
    """A text, or parts; attachments with their tools; what comes back is the same object when read."""
    message = await session.messages.create(thread.id, role="user", content="hello", metadata={"k": "v"})
    assert isinstance(message, Message)
    assert (message.role, message.text, message.metadata) == ("user", "hello", {"k": "v"})
    assert await session.messages.retrieve(thread.id, message.id) == message
    parts = [TextContent(value="look"), ImageUrlContent(url="https://example.org/a.png", detail="low")]
    attachments = [Attachment(file_id="file-1", tools=(FileSearchTool(),))]
    message = await session.messages.create(thread.id, role="user", content=parts, attachments=attachments)
    assert message.content == tuple(parts)
    assert message.attachments == tuple(attachments)
    with pytest.raises(NotFoundError):
        await session.messages.retrieve(thread.id, "msg_nope")


async def test_list(session, thread):
    """Newest first, or oldest first."""
    for text in "abc":
        await session.messages.create(thread.id, role="user", content=text)
    assert [message.text async for message in session.messages.list(thread.id, limit=2)] == ["c", "b", "a"]
    assert [message.text async for message in session.messages.list(thread.id, order="asc")] == ["a", "b", "c"]


async def test_list_of_a_run(session, thread, emulator):
    """Only what that run wrote."""
    await session.messages.create(thread.id, role="user", content="hello there")
    run = await session.runs.create(thread.id, assistant_id="asst_1")
    emulator.clock.advance(10)
    [reply] = await session.messages.list(thread.id, run_id=run.id).collect()
    assert (reply.role, reply.run_id) == ("assistant", run.id)
    assert len(await session.messages.list(thread.id).collect()) == 2
    assert emulator.requests[-2][1].endswith(f"/messages?limit=100&order=desc&run_id={run.id}")


async def test_modify(session, thread):
    """The metadata is replaced."""
    message = await session.messages.create(thread.id, role="user", content="x", metadata={"a": "1"})
    changed = await session.messages.modify(thread.id, message.id, metadata={"b": "2"})
    assert (changed.id, changed.metadata) == (message.id, {"b": "2"})


async def test_delete(session, thread):
    """It is gone from the thread."""
    message = await session.messages.create(thread.id, role="user", content="x")
    assert await session.messages.delete(thread.id, message.id) == MessageDeleted(id=message.id, deleted=True)
    assert await session.messages.list(thread.id).collect() == []

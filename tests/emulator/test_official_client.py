"""The official client drives the emulator through the main paths, as users would."""

import json

import pytest

openai = pytest.importorskip("openai", reason="the official client is the second judge of the emulator")

pytestmark = [
    # Every method of the official client's threads and runs is marked as deprecated.
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


@pytest.fixture
async def official(emulator):
    """Give the test an official client of its emulator, that never retries."""
    async with openai.AsyncOpenAI(api_key=emulator.api_key, base_url=emulator.base_url, max_retries=0) as client:
        yield client.beta.threads


async def test_a_run_from_start_to_end(official, emulator):
    """Create, read while it moves, then read what it wrote."""
    thread = await official.create(messages=[{"role": "user", "content": "hello there"}])
    run = await official.runs.create(thread.id, assistant_id="asst_1", metadata={"a": "1"})
    statuses = [run.status]
    while run.status not in ("completed", "failed"):
        emulator.clock.advance(0.06)
        run = await official.runs.retrieve(run.id, thread_id=thread.id)
        statuses.append(run.status)
    assert statuses == ["queued", "in_progress", "completed"]
    assert run.usage.total_tokens > 0
    assert run.metadata == {"a": "1"}
    [step] = [step async for step in official.runs.steps.list(run.id, thread_id=thread.id)]
    assert step.step_details.type == "message_creation"
    message = await official.messages.retrieve(step.step_details.message_creation.message_id, thread_id=thread.id)
    assert "hello there" in message.content[0].text.value
    assert [one.role async for one in official.messages.list(thread.id)] == ["assistant", "user"]
    assert [one.id async for one in official.messages.list(thread.id, run_id=run.id)] == [message.id]
    assert await official.runs.steps.retrieve(step.id, thread_id=thread.id, run_id=run.id) == step


async def test_polling_ends(official, emulator):
    """The official client's own poll helper comes to an end on a run at rest."""
    run = await official.runs.create((await official.create()).id, assistant_id="asst_1")
    emulator.clock.advance(10)
    polled = await official.runs.poll(run.id, thread_id=run.thread_id)
    assert polled.status == "completed"


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_of_any_size(official, emulator, order):
    """The official client's pager brings out every run once."""
    [thread_id] = emulator.fill(threads=1, runs_per_thread=25)
    listings = [
        [run.id async for run in official.runs.list(thread_id, limit=limit, order=order)] for limit in (1, 7, 100)
    ]
    assert len(set(listings[0])) == 25
    assert listings[0] == listings[1] == listings[2]


async def test_tool_outputs(official, emulator):
    """A required action is answered, and the run goes on to its end."""
    run = await official.create_and_run(
        assistant_id="asst_1",
        thread={"messages": [{"role": "user", "content": "weather?"}]},
        tools=[WEATHER, {"type": "file_search"}],
    )
    emulator.clock.advance(10)
    run = await official.runs.retrieve(run.id, thread_id=run.thread_id)
    assert run.status == "requires_action"
    [call] = run.required_action.submit_tool_outputs.tool_calls
    assert json.loads(call.function.arguments) == {"place": "example"}
    outputs = [{"tool_call_id": call.id, "output": "18 degrees"}]
    await official.runs.submit_tool_outputs(run.id, thread_id=run.thread_id, tool_outputs=outputs)
    emulator.clock.advance(10)
    run = await official.runs.retrieve(run.id, thread_id=run.thread_id)
    assert run.status == "completed"
    include = ["step_details.tool_calls[*].file_search.results[*].content"]
    listing = official.runs.steps.list(run.id, thread_id=run.thread_id, include=include, order="asc")
    search, function, _ = [step async for step in listing]
    assert search.step_details.tool_calls[0].file_search.results[0].content[0].text
    assert function.step_details.tool_calls[0].function.output == "18 degrees"


async def test_changes_and_endings(official, emulator):
    """Modify, cancel and delete do what they say, and errors have the official classes."""
    thread = await official.create()
    assert (await official.update(thread.id, metadata={"a": "1"})).metadata == {"a": "1"}
    run = await official.runs.create(thread.id, assistant_id="asst_1")
    with pytest.raises(openai.BadRequestError, match="already has an active run"):
        await official.runs.create(thread.id, assistant_id="asst_1")
    with pytest.raises(openai.BadRequestError, match="Can't add messages"):
        await official.messages.create(thread.id, role="user", content="x")
    assert (await official.runs.update(run.id, thread_id=thread.id, metadata={"b": "2"})).metadata == {"b": "2"}
    assert (await official.runs.cancel(run.id, thread_id=thread.id)).status == "cancelling"
    emulator.clock.advance(1)
    assert (await official.runs.retrieve(run.id, thread_id=thread.id)).status == "cancelled"
    message = await official.messages.create(thread.id, role="user", content="x")
    changed = await official.messages.update(message.id, thread_id=thread.id, metadata={"c": "3"})
    assert changed.metadata == {"c": "3"}
    assert (await official.messages.delete(message.id, thread_id=thread.id)).deleted
    assert (await official.delete(thread.id)).deleted
    with pytest.raises(openai.NotFoundError, match="No thread found with id"):
        await official.retrieve(thread.id)


async def test_wrong_key(emulator):
    """The official client calls a wrong key by its name."""
    async with openai.AsyncOpenAI(api_key="wrong", base_url=emulator.base_url, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.beta.threads.create()
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")

"""The official client drives the emulator through the main paths, as users would."""

import json

import pytest

from asyncruns.emulator import Script

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


class Notebook(openai.AsyncAssistantEventHandler):
    """Writes down what the official stream helper calls back with."""

    def __init__(self):
        super().__init__()
        self.texts, self.calls, self.notes = [], {}, []

    async def on_text_delta(self, delta, snapshot):
        self.texts.append(delta.value)
        assert snapshot.value == "".join(self.texts)

    async def on_tool_call_done(self, tool_call):
        # The helper calls this again with the same call whenever a later step ends.
        self.calls[tool_call.id] = tool_call

    async def on_run_step_done(self, run_step):
        self.notes.append(run_step.type)

    async def on_message_done(self, message):
        self.notes.append(message.content[0].text.value)

    async def on_end(self):
        self.notes.append("end")


async def test_streams_text(official):
    """The official stream helper reads a live run to its end, its text and its final objects."""
    thread = await official.create(messages=[{"role": "user", "content": "hello there"}])
    async with official.runs.stream(thread_id=thread.id, assistant_id="asst_1") as stream:
        text = "".join([piece async for piece in stream.text_deltas])
        run = await stream.get_final_run()
    [message] = await stream.get_final_messages()
    assert run.status == "completed"
    assert message.content[0].text.value == text
    assert "hello there" in text
    assert await official.runs.retrieve(run.id, thread_id=thread.id) == run


async def test_streams_tool_outputs(official, emulator):
    """The official helpers collect the calls, hand in the outputs as a stream, and read that to its end."""
    emulator.script(Script(rounds=[[("get_weather", {"place": "Lisbon"}), ("get_weather", {"place": "Porto"})]]))
    thread = await official.create(messages=[{"role": "user", "content": "weather?"}])
    asked, told = Notebook(), Notebook()
    async with official.runs.stream(
        thread_id=thread.id, assistant_id="asst_1", tools=[WEATHER], event_handler=asked
    ) as stream:
        await stream.until_done()
    run = await stream.get_final_run()
    assert run.status == "requires_action"
    calls = run.required_action.submit_tool_outputs.tool_calls
    assert [(call.id, call.function.arguments) for call in asked.calls.values()] == [
        (call.id, call.function.arguments) for call in calls
    ]
    outputs = [{"tool_call_id": call.id, "output": "18 degrees"} for call in calls]
    async with official.runs.submit_tool_outputs_stream(
        run_id=run.id, thread_id=thread.id, tool_outputs=outputs, event_handler=told
    ) as stream:
        await stream.until_done()
    assert (await stream.get_final_run()).status == "completed"
    assert [step.step_details.type for step in await stream.get_final_run_steps()] == ["message_creation"]
    assert told.notes == ["tool_calls", "".join(told.texts), "message_creation", "end"]


async def test_streams_server_side_tools(official):
    """The official helper adds up the pieces of code and search calls."""
    notes = Notebook()
    async with official.create_and_run_stream(
        assistant_id="asst_1",
        thread={"messages": [{"role": "user", "content": "x"}]},
        tools=[{"type": "code_interpreter"}, {"type": "file_search"}],
        event_handler=notes,
    ) as stream:
        await stream.until_done()
    code, search = notes.calls.values()
    assert (code.code_interpreter.input, code.code_interpreter.outputs[0].logs) == ("print(6 * 7)", "42\n")
    assert search.type == "file_search"


@pytest.mark.parametrize("outcome", ["failed", "incomplete", "expired"])
async def test_streams_other_endings(official, emulator, outcome):
    """The official helper ends with the run, however that ends."""
    emulator.next_outcome(outcome)
    thread = await official.create(messages=[{"role": "user", "content": "x"}])
    async with official.runs.stream(thread_id=thread.id, assistant_id="asst_1") as stream:
        run = await stream.get_final_run()
    assert run.status == outcome


async def test_streamed_bodies_have_the_official_shapes(wire, emulator):
    """Every event of runs with all kinds of tools is valid against the official client's types, strictly."""
    pydantic = pytest.importorskip("pydantic", reason="the official client's types are pydantic's")
    official_event = pydantic.TypeAdapter(openai.types.beta.AssistantStreamEvent)
    thread, seen = await wire.thread("x"), set()
    tools = [WEATHER, {"type": "file_search"}, {"type": "code_interpreter"}]
    for outcome in ("completed", "failed", "incomplete"):
        emulator.next_outcome(outcome)
        events = await wire.live(f"{thread}/runs", {"assistant_id": "asst_1", "tools": tools})
        [call] = events[-1][1]["required_action"]["submit_tool_outputs"]["tool_calls"]
        outputs = {"tool_outputs": [{"tool_call_id": call["id"], "output": "1"}]}
        events += await wire.live(f"{thread}/runs/{events[-1][1]['id']}/submit_tool_outputs", outputs)
        for name, data in events:
            assert official_event.validate_python({"event": name, "data": data}, strict=True).event == name
            seen.add(name)
    assert len(seen) == 17

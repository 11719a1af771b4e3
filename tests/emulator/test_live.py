"""Live runs: the events come in the published order, with the clock, and agree with what others read."""

import asyncio

import aiohttp
import pytest

from asyncruns.emulator import Emulator, Script, _objects
from asyncruns.emulator._answers import LiveAnswer
from asyncruns.emulator._feed import Feed

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
RUN = {"assistant_id": "asst_1"}
BEGINNING = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
STEP = ["thread.run.step.created", "thread.run.step.in_progress"]
MESSAGE = ["thread.message.created", "thread.message.in_progress"]
SEARCH_CONTENT = "include[]=step_details.tool_calls[*].file_search.results[*].content"


def names(events):
    """Return the names of events; neighbours that are equal count once."""
    found = [name for name, _ in events]
    return [name for index, name in enumerate(found) if index == 0 or found[index - 1] != name]


def bodies(events, name):
    """Return the data of all events of that name."""
    return [data for found, data in events if found == name]


def said(events):
    """Return the text that the message deltas add up to."""
    deltas = bodies(events, "thread.message.delta")
    return "".join(part["text"]["value"] for delta in deltas for part in delta["delta"]["content"])


async def test_a_live_run_in_the_published_order(wire):
    """Every event comes, in order; the deltas add up to the message that the thread then holds."""
    thread = await wire.thread("hello there")
    events = await wire.live(f"{thread}/runs")
    ending = ["thread.message.delta", "thread.message.completed", "thread.run.step.completed", "thread.run.completed"]
    assert names(events) == [*BEGINNING, *STEP, *MESSAGE, *ending]
    statuses = [data["status"] for name, data in events if name.startswith("thread.run.") and "step" not in name]
    assert statuses == ["queued", "queued", "in_progress", "completed"]
    run, message = events[-1][1], bodies(events, "thread.message.completed")[0]
    assert len(bodies(events, "thread.message.delta")) > 3
    assert said(events) == message["content"][0]["text"]["value"]
    assert await wire.get(f"{thread}/runs/{run['id']}") == run
    assert await wire.get(f"{thread}/messages/{message['id']}") == message
    assert (await wire.get(f"{thread}/runs/{run['id']}/steps"))["data"] == bodies(events, "thread.run.step.completed")


async def test_the_first_delta_alone_has_annotations(wire):
    """A message's deltas have the shape that the real service sends."""
    deltas = bodies(await wire.live(f"{await wire.thread('x')}/runs"), "thread.message.delta")
    assert all(
        delta["object"] == "thread.message.delta" and set(delta) == {"id", "object", "delta"} for delta in deltas
    )
    parts = [delta["delta"]["content"][0] for delta in deltas]
    assert [part["text"].get("annotations") for part in parts] == [[], *[None] * (len(parts) - 1)]
    assert {(part["index"], part["type"]) for part in parts} == {(0, "text")}


async def test_a_live_thread_and_run(wire):
    """With POST /threads/runs the new thread is the first event."""
    events = await wire.live("/threads/runs", {**RUN, "thread": {"metadata": {"a": "1"}}})
    name, thread = events[0]
    assert (name, thread["object"], thread["metadata"]) == ("thread.created", "thread", {"a": "1"})
    assert names(events[1:4]) == BEGINNING
    assert events[-1][1]["thread_id"] == thread["id"]


async def test_functions_end_the_stream_and_outputs_open_another(wire):
    """Calls come in pieces up to requires_action; the outputs' own stream brings the rest."""
    wire.emulator.script(Script(rounds=[[("get_weather", {"place": "Lisbon"}), ("get_time", "{broken")]], text="ok"))
    thread = await wire.thread("weather?")
    first = await wire.live(f"{thread}/runs", {**RUN, "tools": [WEATHER]})
    assert names(first) == [*BEGINNING, *STEP, "thread.run.step.delta", "thread.run.requires_action"]
    assert bodies(first, STEP[0])[0]["step_details"] == {"type": "tool_calls", "tool_calls": []}
    calls = merged_calls(bodies(first, "thread.run.step.delta"))
    assert [(call["name"], call["arguments"]) for call in calls] == [
        ("get_weather", '{"place":"Lisbon"}'),
        ("get_time", "{broken"),
    ]
    asked = first[-1][1]["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert [call["id"] for call in asked] == [call["id"] for call in calls]
    outputs = [{"tool_call_id": call["id"], "output": "18 degrees"} for call in asked]
    path = f"{thread}/runs/{first[-1][1]['id']}"
    second = await wire.live(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
    assert names(second)[:4] == ["thread.run.step.completed", *BEGINNING[1:], STEP[0]]
    told = second[0][1]["step_details"]["tool_calls"]
    assert [call["function"]["output"] for call in told] == ["18 degrees"] * 2
    assert (second[-1][0], said(second)) == ("thread.run.completed", "ok")


def merged_calls(deltas):
    """Return the function calls that step deltas add up to."""
    calls = []
    for delta in deltas:
        assert delta["object"] == "thread.run.step.delta"
        [call] = delta["delta"]["step_details"]["tool_calls"]
        if call["index"] == len(calls):
            calls.append({"id": call["id"], **call["function"]})
        else:
            calls[call["index"]]["arguments"] += call["function"]["arguments"]
    return calls


@pytest.mark.parametrize("with_content", [True, False])
async def test_server_side_tools(wire, with_content):
    """The code interpreter's input grows and its output follows; search results show content if asked for."""
    tools = [{"type": "code_interpreter"}, {"type": "file_search"}]
    query = f"?{SEARCH_CONTENT}" if with_content else ""
    events = await wire.live(f"{await wire.thread('x')}/runs{query}", {**RUN, "tools": tools})
    assert names(events)[3:11] == [*STEP, "thread.run.step.delta", "thread.run.step.completed"] * 2
    deltas = [delta["delta"]["step_details"]["tool_calls"][0] for delta in bodies(events, "thread.run.step.delta")]
    code = [delta["code_interpreter"] for delta in deltas if delta["type"] == "code_interpreter"]
    assert "".join(one.get("input", "") for one in code) == "print(6 * 7)"
    assert code[-1]["outputs"] == [{"index": 0, "type": "logs", "logs": "42\n"}]
    search = bodies(events, "thread.run.step.completed")[1]["step_details"]["tool_calls"][0]
    assert ("content" in search["file_search"]["results"][0]) is with_content


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        ("failed", ["thread.message.incomplete", "thread.run.step.failed", "thread.run.failed"]),
        ("incomplete", ["thread.message.incomplete", "thread.run.step.completed", "thread.run.incomplete"]),
        ("expired", ["thread.run.in_progress", "thread.run.expired"]),
    ],
)
async def test_other_endings(wire, outcome, ending):
    """A run that fails, is cut short or expires tells so in its last events, then the stream is done."""
    wire.emulator.next_outcome(outcome)
    events = await wire.live(f"{await wire.thread('x')}/runs")
    assert names(events)[-len(ending) :] == ending
    assert events[-1][1]["status"] == outcome


async def test_refusals_come_before_any_event(wire):
    """What cannot begin is refused as JSON, stream or not."""
    thread = await wire.thread("x")
    for path, body in ((f"{thread}/runs", {}), ("/threads/thread_x/runs", RUN)):
        reply = await wire.send("POST", path, {**body, "stream": True})
        assert reply.status in (400, 404)
        assert reply.error[0]


async def test_answers_carry_the_service_headers(wire):
    """A live run has a request id of its own as every answer has."""
    async with wire.open_live(f"{await wire.thread('x')}/runs", RUN) as live:
        assert live.response.headers["x-request-id"].startswith("req_")
        assert live.response.headers["Transfer-Encoding"] == "chunked"


async def test_everybody_reads_what_was_sent(standing):
    """After each event a plain read of run, step and message shows exactly the state that was sent."""
    thread, so_far, message = await standing.thread("x"), "", None
    standing.emulator.script(Script(text=["one", " two", " three", " four"]))
    async with standing.open_live(f"{thread}/runs", RUN) as live:
        for _ in range(7):
            standing.emulator.clock.advance(0.05 if _ == 2 else 0)
            name, body = await anext(live)
            if name.startswith("thread.message."):
                message = f"{thread}/messages/{body['id']}"
                assert await standing.get(message) == body
            elif name.startswith("thread.run.step."):
                assert await standing.get(f"{thread}/runs/{body['run_id']}/steps/{body['id']}") == body
            elif name != "thread.run.created":
                assert await standing.get(f"{thread}/runs/{body['id']}") == body
        for _ in range(3):
            standing.emulator.clock.advance(0.0105)
            name, body = await anext(live)
            assert name == "thread.message.delta"
            so_far += body["delta"]["content"][0]["text"]["value"]
            assert (await standing.get(message))["content"][0]["text"]["value"] == so_far


async def test_a_client_that_leaves_does_not_stop_the_run(standing):
    """After the reader is gone the run goes on, as a poll shows."""
    thread = await standing.thread("x")
    async with standing.open_live(f"{thread}/runs", RUN) as live:
        _, run = await anext(live)
        live.response.close()
    standing.emulator.clock.advance(1)
    assert (await standing.get(f"{thread}/runs/{run['id']}"))["status"] == "completed"


async def test_an_old_stream_leaves_a_new_one_alone(emulator):
    """A stream that ends late, after the outputs' stream has begun, does not take the run away from it."""
    store, feeds = emulator._store, [Feed(), Feed()]
    thread = store.add_thread(_objects.thread_body("thread_1", 0, {}))
    run = store.add_run(thread, _objects.run_body("run_1", thread.id, 0, RUN))
    late, live = (LiveAnswer(run, feed, no_events()) for feed in feeds)
    run.listener = feeds[1]
    late.let_go()
    assert run.listener is feeds[1]
    live.let_go()
    assert run.listener is None


async def no_events():
    """Yield nothing."""
    for event in ():
        yield event


async def test_cancelled_by_another_request(standing):
    """A cancel from elsewhere shows in the stream, which ends with it."""
    thread = await standing.thread("x")
    async with standing.open_live(f"{thread}/runs", RUN) as live:
        _, run = await anext(live)
        standing.emulator.clock.advance(0.06)
        seen = [(await anext(live))[0] for _ in range(6)]
        await standing.post(f"{thread}/runs/{run['id']}/cancel")
        standing.emulator.clock.advance(1)
        rest = [event async for event in live]
    assert seen == [*BEGINNING[1:], *STEP, *MESSAGE]
    assert names(rest[-5:]) == [
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]


async def test_a_running_clock_streams_in_real_time():
    """On a running clock events come when they are due; advancing the clock brings them at once."""
    loop = asyncio.get_running_loop()
    took = []
    async with Emulator(pace=0.05) as emulator, aiohttp.ClientSession(headers={"api-key": emulator.api_key}) as http:
        for seconds in (0.05, 500.0):
            emulator.script(Script(seconds={"in_progress": seconds}))
            began = loop.time()
            async with http.post(f"{emulator.base_url}/threads/runs", json={**RUN, "stream": True}) as response:
                await response.content.readline()
                emulator.clock.advance(seconds if seconds > 1 else 0)
                assert (await response.text()).endswith("event: done\ndata: [DONE]\n\n")
            took.append(loop.time() - began)
    assert took[0] >= 0.09
    assert took[1] < 60


async def test_stopping_ends_live_runs(standing):
    """An emulator that stops does not wait for the live runs it sends."""
    loop = asyncio.get_running_loop()
    async with standing.open_live("/threads/runs", RUN) as live:
        await anext(live)
        began = loop.time()
        await standing.emulator.stop()
        assert loop.time() - began < 0.5

"""Runs move with the clock, and end in each of the ways the protocol knows."""

import json

import pytest

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


async def look(wire, path, seconds=0.0):
    """Turn the clock, then read the run."""
    wire.emulator.clock.advance(seconds)
    return await wire.get(path)


async def steps_of(wire, path, **query):
    """Return the run's steps, oldest first."""
    return (await wire.get(f"{path}/steps", order="asc", **query))["data"]


async def test_completes_with_a_message_a_step_and_usage(wire):
    """A plain run goes queued, in_progress, completed, and leaves one message and one step."""
    path = await wire.run()
    assert (await look(wire, path))["status"] == "queued"
    assert (await look(wire, path, 0.06))["status"] == "in_progress"
    [writing] = await steps_of(wire, path)
    run = await look(wire, path, 0.06)
    assert (run["status"], run["expires_at"], run["last_error"]) == ("completed", None, None)
    assert run["started_at"] <= run["completed_at"]
    assert run["usage"]["total_tokens"] == run["usage"]["prompt_tokens"] + run["usage"]["completion_tokens"] > 0
    [step] = await steps_of(wire, path)
    assert (writing["status"], step["status"]) == ("in_progress", "completed")
    message = await wire.get(
        f"{path.split('/runs')[0]}/messages/{step['step_details']['message_creation']['message_id']}"
    )
    assert (message["role"], message["run_id"], message["status"]) == ("assistant", run["id"], "completed")
    assert "hello there" in message["content"][0]["text"]["value"]


async def test_transitions_are_dated_by_when_they_were_due(wire):
    """A run read long after its end ended when it was due, not when it was read."""
    path = await wire.run()
    run = await look(wire, path, 3600)
    assert run["status"] == "completed"
    assert run["completed_at"] - run["created_at"] <= 1


async def test_pending_runs_say_when_to_poll_again(wire):
    """Only a run that moves by itself carries openai-poll-after-ms."""
    path = await wire.run()
    pending = await wire.send("GET", path)
    assert int(pending.headers["openai-poll-after-ms"]) == 50
    wire.emulator.clock.advance(10)
    assert "openai-poll-after-ms" not in (await wire.send("GET", path)).headers


async def test_waits_for_tool_outputs_and_goes_on(wire):
    """A function tool leads to requires_action; all outputs together lead on to completed."""
    path = await wire.run(tools=[WEATHER, WEATHER])
    run = await look(wire, path, 10)
    assert run["status"] == "requires_action"
    calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"place": "example"}] * 2
    [step] = await steps_of(wire, path)
    assert (step["status"], step["type"]) == ("in_progress", "tool_calls")
    assert "openai-poll-after-ms" not in (await wire.send("GET", path)).headers
    outputs = [{"tool_call_id": call["id"], "output": f"{n} degrees"} for n, call in enumerate(calls)]
    run = await wire.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
    assert (run["status"], run["required_action"]) == ("queued", None)
    assert (await look(wire, path, 10))["status"] == "completed"
    step, _ = await steps_of(wire, path)
    told = [call["function"]["output"] for call in step["step_details"]["tool_calls"]]
    assert (step["status"], told) == ("completed", ["0 degrees", "1 degrees"])


async def test_one_call_at_a_time_without_parallel_tool_calls(wire):
    """With parallel_tool_calls false each function is its own required action."""
    path = await wire.run(tools=[WEATHER, WEATHER], parallel_tool_calls=False)
    for _ in range(2):
        run = await look(wire, path, 10)
        [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        await wire.post(f"{path}/submit_tool_outputs", {"tool_outputs": [{"tool_call_id": call["id"]}]})
    assert (await look(wire, path, 10))["status"] == "completed"
    assert len(await steps_of(wire, path)) == 3


@pytest.mark.parametrize(
    ("choice", "types"),
    [
        ("none", []),
        ("auto", ["code_interpreter", "file_search", "function"]),
        ("required", ["code_interpreter", "file_search", "function"]),
        ({"type": "file_search"}, ["file_search"]),
        ({"type": "function"}, ["function"]),
        ({"type": "function", "function": {"name": "get_weather"}}, ["function"]),
        ({"type": "function", "function": {"name": "other"}}, []),
    ],
)
async def test_tool_choice_decides_which_tools_are_called(wire, choice, types):
    """Each chosen tool gets its step; none of the others does."""
    tools = [WEATHER, {"type": "file_search"}, {"type": "code_interpreter"}]
    path = await wire.run(tools=tools, tool_choice=choice)
    await look(wire, path, 10)
    details = [step["step_details"] for step in await steps_of(wire, path)]
    calls = [call for detail in details for call in detail.get("tool_calls", [])]
    assert [call["type"] for call in calls] == types


async def test_search_results_show_content_only_when_asked(wire):
    """File search results hold their content with include[] alone, in lists and in single steps."""
    include = {"include[]": "step_details.tool_calls[*].file_search.results[*].content"}
    path = await wire.run(tools=[{"type": "file_search"}, {"type": "code_interpreter"}])
    await look(wire, path, 10)
    code, bare, _ = await steps_of(wire, path)
    _, full, _ = await steps_of(wire, path, **include)
    assert code["step_details"]["tool_calls"][0]["code_interpreter"]["outputs"][0]["logs"] == "42\n"
    for step, shown in ((bare, False), (full, True)):
        [result] = step["step_details"]["tool_calls"][0]["file_search"]["results"]
        assert ("content" in result) is shown
    assert await wire.get(f"{path}/steps/{bare['id']}") == bare
    assert await wire.get(f"{path}/steps/{bare['id']}", **include) == full


async def test_cancels_on_the_way(wire):
    """Cancelling is a state of its own; then run, step and message say that they were cut off."""
    path = await wire.run()
    await look(wire, path, 0.06)
    run = await wire.post(f"{path}/cancel")
    assert run["status"] == "cancelling"
    again = await wire.send("POST", f"{path}/cancel")
    assert (again.status, again.error[0]) == (400, "Cannot cancel run with status 'cancelling'.")
    run = await look(wire, path, 0.06)
    assert (run["status"], run["completed_at"]) == ("cancelled", None)
    assert run["cancelled_at"] is not None
    [step] = await steps_of(wire, path)
    [message, _] = (await wire.get(f"{path.split('/runs')[0]}/messages"))["data"]
    assert (step["status"], message["incomplete_details"]) == ("cancelled", {"reason": "run_cancelled"})


async def test_cancel_of_a_finished_run_is_refused(wire):
    """A run at rest stays as it is."""
    path = await wire.run()
    wire.emulator.clock.advance(10)
    reply = await wire.send("POST", f"{path}/cancel")
    assert (reply.status, reply.error) == (400, ("Cannot cancel run with status 'completed'.", None, None))


@pytest.mark.parametrize(
    ("ordered", "shown", "step_code"),
    [
        (None, "server_error", "server_error"),
        ({"code": "rate_limit_exceeded", "message": "Wait."}, "rate_limit_exceeded", "rate_limit_exceeded"),
        ({"code": "invalid_prompt", "message": "No."}, "invalid_prompt", "server_error"),
    ],
)
async def test_fails_when_told_to(wire, ordered, shown, step_code):
    """The ordered outcome holds for one run; its error is on the run and, in known codes, on its step."""
    wire.emulator.next_outcome("failed", last_error=ordered)
    path = await wire.run()
    run = await look(wire, path, 10)
    assert (run["status"], run["last_error"]["code"]) == ("failed", shown)
    assert run["failed_at"] is not None
    [step] = await steps_of(wire, path)
    assert (step["status"], step["last_error"]["code"]) == ("failed", step_code)
    assert (await look(wire, await wire.run(path.split("/runs")[0]), 10))["status"] == "completed"


async def test_is_incomplete_when_told_to(wire):
    """An incomplete run gives its reason, and half a message."""
    wire.emulator.next_outcome("incomplete")
    path = await wire.run()
    run = await look(wire, path, 10)
    assert (run["status"], run["incomplete_details"]) == ("incomplete", {"reason": "max_completion_tokens"})
    [step] = await steps_of(wire, path)
    [message, _] = (await wire.get(f"{path.split('/runs')[0]}/messages"))["data"]
    assert (step["status"], message["status"]) == ("completed", "incomplete")
    assert message["incomplete_details"] == {"reason": "max_tokens"}


@pytest.mark.parametrize(
    ("limits", "ending"),
    [
        ({}, ("completed", None)),
        ({"max_completion_tokens": 256}, ("incomplete", {"reason": "max_completion_tokens"})),
        ({"max_prompt_tokens": 256}, ("incomplete", {"reason": "max_prompt_tokens"})),
        ({"max_prompt_tokens": 4000, "max_completion_tokens": 4000}, ("completed", None)),
    ],
)
async def test_token_limits_make_a_run_incomplete(wire, limits, ending):
    """Words over a limit end the run as incomplete, with no order from the test."""
    thread = await wire.thread("word " * 300)
    run = await look(wire, await wire.run(thread, **limits), 10)
    assert (run["status"], run["incomplete_details"]) == ending
    assert run["usage"]["completion_tokens"] <= limits.get("max_completion_tokens", 1000)


async def test_truncation_leaves_the_last_messages(wire):
    """With last_messages only those count as prompt."""
    thread = await wire.thread("word " * 300, "short")
    strategy = {"type": "last_messages", "last_messages": 1}
    run = await look(wire, await wire.run(thread, truncation_strategy=strategy), 10)
    assert run["usage"]["prompt_tokens"] == 1


async def test_expires_after_ten_minutes(wire):
    """A run that waits for outputs expires, and takes none afterwards."""
    path = await wire.run(tools=[WEATHER])
    assert (await look(wire, path, 599))["status"] == "requires_action"
    run = await look(wire, path, 1)
    assert (run["status"], run["expires_at"]) == ("expired", run["created_at"] + 600)
    [step] = await steps_of(wire, path)
    assert (step["status"], step["expired_at"]) == ("expired", run["expires_at"])
    reply = await wire.send("POST", f"{path}/submit_tool_outputs", {"tool_outputs": []})
    assert (reply.status, reply.error[0]) == (400, 'Runs in status "expired" do not accept tool outputs.')


async def test_expires_while_in_progress_when_told_to(wire):
    """A run ordered to expire stays in progress until then."""
    wire.emulator.next_outcome("expired")
    path = await wire.run()
    assert (await look(wire, path, 500))["status"] == "in_progress"
    assert (await look(wire, path, 200))["status"] == "expired"


def test_unknown_outcome(emulator):
    """An outcome nobody knows is refused when it is ordered."""
    with pytest.raises(ValueError, match="an outcome is one of"):
        emulator.next_outcome("lost")


async def test_wrong_tool_outputs_are_refused(wire):
    """Missing, foreign, doubled and nameless outputs change nothing."""
    path = await wire.run(tools=[WEATHER, WEATHER])
    run = await look(wire, path, 10)
    first, second = [call["id"] for call in run["required_action"]["submit_tool_outputs"]["tool_calls"]]
    for given in ([first], [first, first], [first, "call_x"], [first, second, "call_x"]):
        outputs = [{"tool_call_id": id, "output": "1"} for id in given]
        reply = await wire.send("POST", f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
        assert (reply.status, reply.error[1]) == (400, "tool_outputs")
        assert reply.error[0] == f"Expected tool outputs for call_ids {[first, second]}, got {given}"
    nameless = await wire.send("POST", f"{path}/submit_tool_outputs", {"tool_outputs": [{"output": "1"}]})
    assert nameless.error[1] == "tool_outputs[0].tool_call_id"
    assert (await look(wire, path))["status"] == "requires_action"


async def test_a_thread_takes_one_active_run(wire):
    """Neither a second run nor a message fits beside an active run; afterwards both do."""
    path = await wire.run()
    thread, run_id = path.split("/runs/")
    id = thread.split("/")[-1]
    second = await wire.send("POST", f"{thread}/runs", {"assistant_id": "asst_1"})
    assert second.error == (f"Thread {id} already has an active run {run_id}.", None, None)
    message = await wire.send("POST", f"{thread}/messages", {"role": "user", "content": "x"})
    assert message.error == (f"Can't add messages to {id} while a run {run_id} is active.", None, None)
    assert (second.status, message.status) == (400, 400)
    wire.emulator.clock.advance(10)
    await wire.post(f"{thread}/messages", {"role": "user", "content": "x"})
    await wire.run(thread)


@pytest.mark.parametrize(
    ("response_format", "value"),
    [
        ({"type": "json_object"}, {"answer"}),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": {"properties": {"a": {}}}}}, {"a"}),
    ],
)
async def test_replies_in_the_response_format(wire, response_format, value):
    """A run that asks for JSON gets JSON."""
    path = await wire.run(response_format=response_format)
    await look(wire, path, 10)
    [message, _] = (await wire.get(f"{path.split('/runs')[0]}/messages"))["data"]
    assert set(json.loads(message["content"][0]["text"]["value"])) == value

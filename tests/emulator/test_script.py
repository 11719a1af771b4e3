"""Scripts: a run does what a test ordered, and only the run it was ordered for."""

import json

import pytest

from asyncruns.emulator import Script

TOOLS = [{"type": "code_interpreter"}, {"type": "function", "function": {"name": "unused"}}]


async def rest(wire, path):
    """Let time pass, then read the run."""
    wire.emulator.clock.advance(10)
    return await wire.get(path)


async def reply_of(wire, path):
    """Return the newest message of the run's thread."""
    return (await wire.get(f"{path.split('/runs')[0]}/messages", limit=1))["data"][0]


async def test_rounds_of_calls(wire):
    """Each round is a required action with these names and arguments; then comes the text."""
    wire.emulator.script(Script(rounds=[[("a", {"x": 1}), ("b", "{")], [("c", {})]], text="Done."))
    path = await wire.run(tools=TOOLS)
    seen = []
    while (run := await rest(wire, path))["status"] == "requires_action":
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        seen.append([(call["function"]["name"], call["function"]["arguments"]) for call in calls])
        outputs = [{"tool_call_id": call["id"], "output": "1"} for call in calls]
        await wire.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
    assert seen == [[("a", '{"x":1}'), ("b", "{")], [("c", "{}")]]
    assert run["status"] == "completed"
    assert (await reply_of(wire, path))["content"][0]["text"]["value"] == "Done."


@pytest.mark.parametrize(
    "script",
    [
        Script(outcome="failed", text="half a", last_error={"code": "rate_limit_exceeded", "message": "Wait."}),
        Script(outcome="incomplete", text="half a", incomplete_reason="max_prompt_tokens"),
    ],
)
async def test_bad_endings_after_some_words(wire, script):
    """A run that says something before it ends badly leaves it in its message."""
    wire.emulator.script(script)
    path = await wire.run()
    run = await rest(wire, path)
    assert (run["status"], run["last_error"]) == (script.outcome, script.last_error)
    shown = {"reason": "max_prompt_tokens"} if script.outcome == "incomplete" else None
    assert run["incomplete_details"] == shown
    message = await reply_of(wire, path)
    assert (message["status"], message["content"][0]["text"]["value"]) == ("incomplete", "half a")


async def test_expires_after_its_rounds(wire):
    """A script that expires makes its calls first."""
    wire.emulator.script(Script(outcome="expired", rounds=[[("a", {})]]))
    path = await wire.run()
    [call] = (await rest(wire, path))["required_action"]["submit_tool_outputs"]["tool_calls"]
    await wire.post(f"{path}/submit_tool_outputs", {"tool_outputs": [{"tool_call_id": call["id"], "output": "1"}]})
    assert (await rest(wire, path))["status"] == "in_progress"
    wire.emulator.clock.advance(600)
    assert (await wire.get(path))["status"] == "expired"


async def test_seconds_in_each_state(wire):
    """Each state lasts as long as ordered, to the clock's precision."""
    wire.emulator.script(Script(seconds={"queued": 5, "in_progress": 20, "cancelling": 3}))
    path, seen = await wire.run(), []
    for seconds in (4.5, 0.5, 19, 0):
        wire.emulator.clock.advance(seconds)
        seen.append((await wire.get(path))["status"])
    await wire.post(f"{path}/cancel")
    for seconds in (2.5, 0.5):
        wire.emulator.clock.advance(seconds)
        seen.append((await wire.get(path))["status"])
    assert seen == ["queued", "in_progress", "in_progress", "in_progress", "cancelling", "cancelled"]


async def test_text_comes_in_the_scripted_deltas(wire):
    """A text given in parts is streamed in these parts, empty ones left out; a single text in words."""
    thread = await wire.thread("x")
    texts = {
        (): [],
        ("Hel", "", "lo  wor", "ld"): ["Hel", "lo  wor", "ld"],
        "one  two \n": ["one", "  two", " \n"],
        "": [],
    }
    for text, expected in texts.items():
        wire.emulator.script(Script(text=text))
        events = await wire.live(f"{thread}/runs")
        deltas = [data["delta"]["content"][0]["text"]["value"] for name, data in events if name.endswith("delta")]
        assert deltas == expected
        assert (await reply_of(wire, thread))["content"][0]["text"]["value"] == "".join(expected)


async def test_long_texts_come_in_few_deltas(wire):
    """However long a reply is, its deltas are at most 32 and add up to it."""
    thread = await wire.thread("word " * 1000)
    events = await wire.live(f"{thread}/runs")
    deltas = [data["delta"]["content"][0]["text"]["value"] for name, data in events if name.endswith("delta")]
    assert 16 < len(deltas) <= 32
    assert "".join(deltas) == (await reply_of(wire, thread))["content"][0]["text"]["value"]


async def test_limits_of_the_run_cut_a_scripted_text(wire):
    """A script does not outdo max_completion_tokens."""
    wire.emulator.script(Script(text=["word "] * 300))
    path = await wire.run(max_completion_tokens=256)
    assert (await rest(wire, path))["incomplete_details"] == {"reason": "max_completion_tokens"}
    assert len((await reply_of(wire, path))["content"][0]["text"]["value"].split()) == 256


async def test_who_takes_which_script(wire):
    """Scripts line up; one for a thread or with a condition waits for the run that fits, and is taken once."""
    first, second = await wire.thread("x"), await wire.thread("x")
    wire.emulator.script(Script(text="second"), thread_id=second.split("/")[-1])
    wire.emulator.script(Script(text="tagged"), when=lambda run: run["metadata"].get("a") == "1")
    wire.emulator.script(Script(text="any"))
    texts = []
    for thread, metadata in ((first, {}), (first, {"a": "1"}), (second, {}), (second, {})):
        path = await wire.run(thread, metadata=metadata)
        await rest(wire, path)
        texts.append((await reply_of(wire, path))["content"][0]["text"]["value"])
    assert texts[:3] == ["any", "tagged", "second"]
    assert texts[3].endswith("You said: second")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"outcome": "lost"}, "an outcome is one of"),
        ({"seconds": {"completed": 1}}, "a state that takes time"),
        ({"seconds": {"queued": -1}}, "cannot be queued for -1 seconds"),
        ({"seconds": {"queued": float("nan")}}, "cannot be queued for nan seconds"),
    ],
)
def test_impossible_scripts(wrong, words):
    """What no run can do is refused when it is written down."""
    with pytest.raises(ValueError, match=words):
        Script(**wrong)


async def test_arguments_reach_the_wire_as_they_are(wire):
    """Arguments that are a mapping become JSON, whatever letters are in them."""
    wire.emulator.script(Script(rounds=[[("a", {"place": "Évora \u2028"})]]))
    run = await rest(wire, await wire.run())
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"place": "Évora \u2028"}

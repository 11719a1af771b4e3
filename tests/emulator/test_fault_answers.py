"""Profiles that change objects, pages and errors: each shows the deviation it is named for."""

import pytest

from asyncruns.emulator import Script

MISSING = "Missing required parameter: 'assistant_id'."
FAILURE = {"code": "server_error", "message": "No."}


async def finished(wire, profile, **request):
    """Return path and body of a completed run as the profile shows it, and its thread."""
    wire.emulator.profile = profile
    path = await wire.run(metadata={"a": "1"}, instructions="Be brief.", **request)
    wire.emulator.clock.advance(10)
    return path.split("/runs")[0], path, await wire.get(path)


async def test_has_more_false(wire):
    """A page that is not the last says that it is."""
    [thread_id] = wire.emulator.fill(threads=1, runs_per_thread=3)
    wire.emulator.profile = "has-more-false"
    page = await wire.get(f"/threads/{thread_id}/runs", limit=1)
    assert (len(page["data"]), page["has_more"]) == (1, False)


async def test_created_at_milliseconds(wire):
    """Only created_at is in milliseconds: in single answers, lists and streams."""
    thread, _, run = await finished(wire, "created-at-milliseconds")
    assert run["created_at"] == 1_750_000_000_377
    assert run["completed_at"] < 1_750_000_100
    assert (await wire.get(f"{thread}/runs"))["data"] == [run]
    events = await wire.live(f"{thread}/runs")
    assert events[0][1]["created_at"] > 1_000_000_000_000


async def test_float_timestamps(wire):
    """Times are floats in JSON, null stays null, and streams have integers."""
    thread, _, run = await finished(wire, "float-timestamps")
    assert [type(run[name]) for name in ("created_at", "completed_at", "failed_at")] == [float, float, type(None)]
    events = await wire.live(f"{thread}/runs")
    assert type(events[0][1]["created_at"]) is int


async def test_usage_missing(wire):
    """Completed runs and their steps have no usage at all."""
    _, path, run = await finished(wire, "usage-missing")
    [step] = (await wire.get(f"{path}/steps"))["data"]
    assert (run["status"], "usage" in run, "usage" in step) == ("completed", False, False)


async def test_nulls(wire):
    """Runs are null in many places; their metadata is elsewhere, and messages are as ever."""
    thread, _, run = await finished(wire, "nulls")
    assert {run[name] for name in ("model", "instructions", "tools", "metadata", "usage")} == {None}
    assert run["metadata_"] == {"a": "1"}
    assert (await wire.get(f"{thread}/messages"))["data"][0]["metadata"] == {}


async def test_usage_input_output(wire):
    """Tokens are counted under DashScope's names; a usage that is null stays so."""
    thread, _, run = await finished(wire, "usage-input-output")
    assert set(run["usage"]) == {"input_tokens", "output_tokens", "total_tokens"}
    assert (await wire.get(await wire.run(thread)))["usage"] is None


async def test_bare_lists(wire):
    """Lists are data alone, runs in them lack three fields; single runs and other objects are whole."""
    thread, path, run = await finished(wire, "bare-lists")
    page = await wire.get(f"{thread}/runs")
    hidden = ("object", "created_at", "assistant_id")
    assert page == {"data": [{name: value for name, value in run.items() if name not in hidden}]}
    [step] = (await wire.get(f"{path}/steps"))["data"]
    assert step["object"] == "thread.run.step"


async def test_azure(wire):
    """Runs have a tool and an error code outside the published ones; no error stays no error."""
    thread, path, run = await finished(wire, "azure")
    assert (run["tools"][-1]["type"], run["last_error"]) == ("bing_grounding", None)
    wire.emulator.next_outcome("failed", last_error=FAILURE)
    failed = await wire.run(thread)
    wire.emulator.clock.advance(10)
    assert (await wire.get(failed))["last_error"] == {**FAILURE, "code": "tool_user_error"}
    assert "tools" not in (await wire.get(f"{path}/steps"))["data"][0]


async def test_text_list(wire):
    """The text of a message is a list; a part that is no text is as ever."""
    wire.emulator.profile = "text-list"
    thread = await wire.thread()
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    content = [{"type": "text", "text": "look"}, image]
    message = await wire.post(f"{thread}/messages", {"role": "user", "content": content})
    assert message["content"] == [{"type": "text", "text": [{"value": "look", "annotations": []}]}, image]


async def refused(wire, profile, method, path, **options):
    """Return status, type and text of a refusal as the profile shows it, and whether the connection closes."""
    wire.emulator.profile = profile
    headers = {"api-key": wire.emulator.api_key}
    async with wire.http.request(method, wire.emulator.base_url + path, headers=headers, **options) as response:
        return response.status, response.content_type, await response.text(), response.headers.get("Connection")


async def test_plain_500(wire):
    """Unknown ids, cursors and late cancels crash; a bad request is refused as published."""
    thread, path, _ = await finished(wire, "plain-500")
    for method, place in (("GET", f"{path}x"), ("GET", f"{thread}/runs?after=run_x"), ("POST", f"{path}/cancel")):
        answer = await refused(wire, "plain-500", method, place)
        assert answer == (500, "text/plain", "Internal Server Error", "close")
    assert (await refused(wire, "plain-500", "POST", f"{thread}/runs", json={}))[:2] == (400, "application/json")


@pytest.mark.parametrize(
    ("profile", "status", "kind", "text"),
    [
        ("error-detail", 400, "application/json", f'{{"detail":"{MISSING}"}}'),
        (
            "error-detail-list",
            422,
            "application/json",
            f'{{"detail":[{{"type":"missing_required_parameter","loc":["body","assistant_id"],"msg":"{MISSING}"}}]}}',
        ),
        ("error-text", 400, "text/plain", MISSING),
    ],
)
async def test_error_bodies(wire, profile, status, kind, text):
    """Errors have the body that the profile names, also where no operation is reached."""
    thread = await wire.thread()
    assert (await refused(wire, profile, "POST", f"{thread}/runs", json={}))[:3] == (status, kind, text)
    assert (await refused(wire, profile, "GET", "/nope"))[:2] == (404, kind)


async def test_reshaping_leaves_refusals_alone(wire):
    """A profile that changes objects shows errors as published."""
    wire.emulator.profile = "created-at-milliseconds"
    assert (await wire.send("GET", "/threads/thread_x")).error[0] == "No thread found with id 'thread_x'."


async def test_a_profile_changes_nothing_that_is_stored(wire):
    """What a profile showed differently is as published when the profile is taken away."""
    thread, path, shown = await finished(wire, "nulls")
    wire.emulator.profile = None
    stored = await wire.get(path)
    assert (shown["model"], stored["model"], stored["metadata"]) == (None, "gpt-4o", {"a": "1"})
    wire.emulator.script(Script(text="ok"))
    assert (await wire.live(f"{thread}/runs"))[-1][1]["model"] == "gpt-4o"

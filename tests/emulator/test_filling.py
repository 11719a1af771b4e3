"""Filled histories: from a seed, of every terminal status, consistent in themselves."""

import gc

import pytest

from asyncruns.emulator import Emulator, ManualClock
from asyncruns.emulator._samples import arguments, function_call


async def collect(wire, ids):
    """Return all runs, steps and messages of these threads."""
    runs, steps, messages = [], [], []
    for id in ids:
        runs += (await wire.get(f"/threads/{id}/runs", limit=100))["data"]
        messages += (await wire.get(f"/threads/{id}/messages", limit=100))["data"]
    for run in runs:
        steps += (await wire.get(f"/threads/{run['thread_id']}/runs/{run['id']}/steps"))["data"]
    return runs, steps, messages


async def test_histories_are_finished_and_mixed(wire):
    """Every terminal status, both kinds of step and all kinds of tool call occur."""
    runs, steps, messages = await collect(wire, wire.emulator.fill(threads=5, runs_per_thread=30))
    assert len(runs) == 150
    assert {run["status"] for run in runs} == {"completed", "failed", "incomplete", "cancelled", "expired"}
    assert {step["type"] for step in steps} == {"message_creation", "tool_calls"}
    calls = [call for step in steps for call in step["step_details"].get("tool_calls", [])]
    assert {call["type"] for call in calls} == {"function", "code_interpreter", "file_search"}
    assert {message["role"] for message in messages} == {"user", "assistant"}


async def test_histories_hang_together(wire):
    """Ids are unique, steps and messages name their run, and the written message exists."""
    runs, steps, messages = await collect(wire, wire.emulator.fill(threads=3, runs_per_thread=20))
    for objects in (runs, steps, messages):
        assert len({one["id"] for one in objects}) == len(objects)
    by_id = {run["id"]: run for run in runs}
    written = {message["id"]: message for message in messages}
    for step in steps:
        assert by_id[step["run_id"]]["thread_id"] == step["thread_id"]
        details = step["step_details"]
        if step["type"] == "message_creation":
            assert written[details["message_creation"]["message_id"]]["run_id"] == step["run_id"]
    for run in runs:
        usage = run["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_equal_seeds_give_equal_histories(wire):
    """The same seed and calls give the same bytes; another seed gives others."""
    ids = wire.emulator.fill(threads=2, runs_per_thread=3) + wire.emulator.fill(threads=1)
    async with Emulator(clock=ManualClock()) as second, Emulator(seed=1) as third:
        assert second.fill(threads=2, runs_per_thread=3) + second.fill(threads=1) == ids
        assert not set(third.fill(threads=3)) & set(ids)
        mine = await collect(wire, ids)
        wire.emulator = second
        assert await collect(wire, ids) == mine


async def test_filled_objects_can_be_used(wire):
    """A filled thread takes changes, messages and runs like any other."""
    [id] = wire.emulator.fill(threads=1, runs_per_thread=2)
    await wire.post(f"/threads/{id}", {"metadata": {"a": "1"}})
    path = await wire.run(f"/threads/{id}")
    wire.emulator.clock.advance(10)
    assert (await wire.get(path))["status"] == "completed"
    assert len((await wire.get(f"/threads/{id}/runs"))["data"]) == 3


def test_earlier_histories_go_before_later_ones(emulator):
    """A listing of threads is by creation time, whenever they were filled in."""
    late, early = emulator.fill(threads=1, since=2000), emulator.fill(threads=1, since=1000)
    assert [thread.id for thread in emulator._store.threads.items()] == early + late


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (None, "{}"),
        ({"type": "string"}, "{}"),
        ({"type": "object"}, "{}"),
        ({"properties": {"a": {"type": ["null", "integer"]}}}, '{"a":1}'),
        ({"properties": {"a": {"enum": ["x", "y"]}, "b": {"const": 2}}}, '{"a":"x","b":2}'),
        ({"properties": {"a": {"type": "array", "items": {"type": "boolean"}}}}, '{"a":[true]}'),
        ({"properties": {"a": {"type": "array"}}}, '{"a":[]}'),
        ({"properties": {"a": {"type": "string", "format": "date"}}}, '{"a":"2026-01-31"}'),
        ({"properties": {"a": {"type": "number", "minimum": 3}, "b": 5}}, '{"a":3,"b":null}'),
        ({"properties": {"a": {"anyOf": [{"type": "string"}]}}}, '{"a":"example"}'),
        ({"type": [], "properties": []}, "{}"),
        ({"type": "object", "properties": 7}, "{}"),
    ],
)
def test_arguments_follow_the_schema(schema, text):
    """Arguments are plausible for a schema, and an object whatever the schema says."""
    assert arguments(schema) == text


def test_deep_schemas_end():
    """A schema nested without end gives arguments that end."""
    schema = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    assert function_call("call_1", {"name": "f", "parameters": schema})["function"]["arguments"].count("again") == 6


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_found(emulator, enabled):
    """Filling pauses the collector for itself alone."""
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        emulator.fill(threads=1)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()

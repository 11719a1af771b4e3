"""Profiles that spoil streams: read byte by byte, each shows the trouble it is named for."""

import asyncio
import json
import re

import aiohttp
import pytest

from asyncruns.emulator import PROFILES, Script

RUN = {"assistant_id": "asst_1"}
# What comes before the middle of a run: its second delta.
FIRST_HALF = [
    "thread.run.created",
    "thread.run.queued",
    "thread.run.in_progress",
    "thread.run.step.created",
    "thread.run.step.in_progress",
    "thread.message.created",
    "thread.message.in_progress",
    "thread.message.delta",
]
SECOND_HALF = [
    "thread.message.delta",
    "thread.message.delta",
    "thread.message.completed",
    "thread.run.step.completed",
    "thread.run.completed",
    "done",
]
WHOLE = FIRST_HALF + SECOND_HALF


async def received(wire, profile, path=None, body=RUN, *, seconds=5.0):
    """Return all bytes of a live run with three deltas, and the error that ended them or None.

    A stream that has not ended after those seconds gives a TimeoutError.
    """
    wire.emulator.profile = profile
    wire.emulator.script(Script(text=["one ", "two ", "three"]))
    headers = {"api-key": wire.emulator.api_key}
    path, data = path or f"{await wire.thread('x')}/runs", b""
    url = wire.emulator.base_url + path
    async with wire.http.post(url, json={**body, "stream": True}, headers=headers) as response:
        assert response.status == 200
        try:
            async with asyncio.timeout(seconds):
                async for chunk in response.content.iter_any():
                    data += chunk
        except (aiohttp.ClientError, OSError) as error:
            return data, error
    return data, None


def names(data, end=b"\n", space=b" "):
    """Return the names of the whole events in *data*, which must have all this form."""
    *frames, rest = data.split(end * 2)
    found = []
    for frame in frames:
        head, body = frame.split(end)
        assert head.startswith(b"event:" + space)
        assert body.startswith(b"data:" + space)
        found.append(head[len(b"event:" + space) :].decode())
    return found, rest


async def test_published(wire):
    """Without a profile the stream has all its events and ends well: what the other tests measure by."""
    data, error = await received(wire, None)
    assert (names(data), error) == ((WHOLE, b""), None)


@pytest.mark.parametrize(("profile", "is_reset"), [("stream-cut", False), ("stream-reset", True)])
async def test_broken_connections(wire, profile, is_reset):
    """The first half comes, then half an event, then the connection breaks as named; the run goes on."""
    data, error = await received(wire, profile)
    found, rest = names(data)
    assert found == FIRST_HALF
    assert rest.startswith(b"event: thread.message.delta\ndata: {")
    assert isinstance(error, aiohttp.ClientPayloadError)
    assert ("Connection reset by peer" in str(error)) is is_reset
    thread_id = re.search(rb"thread_[0-9a-f]{24}", data)[0].decode()
    wire.emulator.profile = None
    wire.emulator.clock.advance(10)
    [run] = (await wire.get(f"/threads/{thread_id}/runs"))["data"]
    assert run["status"] == "completed"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("stream-eof", [*FIRST_HALF, "thread.message.delta"]), ("stream-no-done", WHOLE[:-1])],
)
async def test_ends_too_early(wire, profile, expected):
    """The stream ends well formed, but before its time."""
    data, error = await received(wire, profile)
    assert (names(data), error) == ((expected, b""), None)


async def test_half_event(wire):
    """The stream ends well formed in the middle of the run's last event."""
    data, error = await received(wire, "stream-half-event")
    found, rest = names(data)
    assert (found, error) == (WHOLE[:-2], None)
    assert rest.startswith(b"event: thread.run.completed\ndata: {")


@pytest.mark.parametrize("profile", ["stream-idle", "stream-pings"])
async def test_falls_silent(wire, profile):
    """After the middle no event comes, at most comments, and the connection stays open till the client leaves."""
    data, error = await received(wire, profile, seconds=0.1)
    found, rest = names(data.replace(b": ping\n\n", b""))
    assert (found, rest) == ([*FIRST_HALF, "thread.message.delta"], b"")
    assert isinstance(error, TimeoutError)
    assert (b": ping" in data) is (profile == "stream-pings")
    async with asyncio.timeout(2):
        await wire.emulator.stop()


async def test_pings(wire):
    """The comments come one after the other, each a frame of its own."""
    wire.emulator.profile = "stream-pings"
    wire.emulator.script(Script(text=["one ", "two ", "three"]))
    async with wire.open_live("/threads/runs", RUN) as live:
        while (await anext(live))[0] != "thread.message.delta":
            pass
        await anext(live)
        for _ in range(3):
            assert await live.response.content.readuntil(b"\n\n") == b": ping\n\n"


@pytest.mark.parametrize("profile", ["stream-error", "stream-error-nested", "stream-error-text"])
async def test_error_events(wire, profile):
    """An error event of the profile's shape takes the place of the rest."""
    data, error = await received(wire, profile)
    found, rest = names(data)
    assert (found, rest, error) == ([*FIRST_HALF, "thread.message.delta", "error", "done"], b"", None)
    text = data.split(b"event: error\ndata: ")[1].split(b"\n")[0]
    if profile == "stream-error-text":
        assert text == b"upstream connect error"
    else:
        value = json.loads(text)
        flat = value["error"] if profile == "stream-error-nested" else value
        assert set(flat) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("profile", "end", "space"),
    [("stream-crlf", b"\r\n", b" "), ("stream-cr", b"\r", b" "), ("stream-no-space", b"\r\n", b"")],
)
async def test_line_ends_and_spaces(wire, profile, end, space):
    """All events come, in another spelling."""
    data, error = await received(wire, profile)
    assert (names(data, end, space), error) == ((WHOLE, b""), None)


async def test_single_bytes(wire):
    """The bytes are those of a plain stream, each sent in a chunk of its own."""
    wire.emulator.profile = "stream-bytes"
    wire.emulator.script(Script(text="one"))
    headers = {"api-key": wire.emulator.api_key}
    url = f"{wire.emulator.base_url}/threads/runs"
    data, sizes = b"", []
    async with wire.http.post(url, json={**RUN, "stream": True}, headers=headers) as response:
        async for chunk, is_end in response.content.iter_chunks():
            data += chunk
            sizes += [len(chunk)] * is_end
    found, rest = names(data)
    assert (found[0], found[-1], rest) == ("thread.created", "done", b"")
    assert set(sizes) == {1}


async def test_unknown_events(wire):
    """Between the known events are others, comments, and fields without events."""
    data, _ = await received(wire, "stream-unknown-events")
    found = re.findall(rb"^event: (\S+)$", data, re.MULTILINE)
    assert [name.decode() for name in found if name.decode() in WHOLE] == WHOLE
    assert {b"thread.run.mood", b"thread.note", b"thread.empty"} < set(found)
    for line in (b": a comment", b"id: 7", b"retry: 10", b"data: not JSON"):
        assert data.count(line + b"\n") == len(WHOLE)


async def test_no_created(wire):
    """Nothing is told to be created; all the rest is told."""
    data, _ = await received(wire, "stream-no-created")
    assert names(data) == ([name for name in WHOLE if not name.endswith(".created")], b"")


async def test_short_streams_are_spoilt_before_their_last_event(wire):
    """A stream with fewer than two deltas is cut just before the run's last event."""
    wire.emulator.profile = "stream-eof"
    wire.emulator.next_outcome("expired")
    headers = {"api-key": wire.emulator.api_key}
    url = f"{wire.emulator.base_url}/threads/runs"
    async with wire.http.post(url, json={**RUN, "stream": True}, headers=headers) as response:
        found, rest = names(await response.read())
    assert (found, rest) == (["thread.created", *FIRST_HALF[:3]], b"")


async def test_the_streams_of_tool_outputs_are_spoilt_too(wire):
    """Profiles hold for every live run, also for one that goes on with tool outputs."""
    wire.emulator.script(Script(rounds=[[("f", {})]], text=["one ", "two ", "three"]))
    run = (await wire.live("/threads/runs"))[-1][1]
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    outputs = [{"tool_call_id": call["id"], "output": "1"}]
    data, _ = await received(wire, "stream-eof", path, {"tool_outputs": outputs})
    found, _ = names(data)
    assert (found[0], found[-1]) == ("thread.run.step.completed", "thread.message.delta")


def test_every_profile_has_a_line():
    """The table names each profile with one line that tells what it does."""
    assert len(PROFILES) > 30
    for name, about in PROFILES.items():
        assert re.fullmatch("[a-z0-9-]+", name)
        assert about.endswith(".")
        assert "\n" not in about

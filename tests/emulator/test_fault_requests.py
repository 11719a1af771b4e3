"""Profiles that understand requests in their own way: each shows the deviation it is named for, and no other."""

import aiohttp
import pytest

TOOL = {"type": "function", "function": {"name": "f"}}


async def finished_runs(wire, thread, count):
    """Make runs that are at rest, some of them within one second, and return their ids, oldest first."""
    ids = []
    for _ in range(count):
        path = await wire.run(thread)
        wire.emulator.clock.advance(0.2)
        ids.append(path.split("/")[-1])
    return ids


async def walk(wire, path, **query):
    """Return the ids of a listing, page by page, as a trusting client walks it."""
    ids, after = [], {}
    for _ in range(100):
        page = await wire.get(path, **query, **after)
        ids += [item["id"] for item in page["data"]]
        if not page["has_more"]:
            return ids
        after = {"after": page["last_id"]}
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_newest_first_loses(wire, limit):
    """Newest first loses runs of one second or shows them twice; oldest first is right; one big page is whole."""
    thread = await wire.thread("x")
    ids = await finished_runs(wire, thread, 12)
    wire.emulator.profile = "newest-first-loses"
    walked = await walk(wire, f"{thread}/runs", limit=limit)
    assert set(walked) < set(ids)
    assert len(walked) > len(set(walked)) or limit == 1
    assert await walk(wire, f"{thread}/runs", limit=limit, order="asc") == ids
    assert sorted(await walk(wire, f"{thread}/runs", limit=100)) == sorted(ids)
    assert await walk(wire, f"{thread}/runs", after="run_x") == await walk(wire, f"{thread}/runs")
    assert await walk(wire, f"{thread}/runs", before=ids[0]) == ids[:0:-1]
    assert (await wire.get("/threads", limit=1))["has_more"] is False


async def test_unknown_after_restarts(wire):
    """An unknown cursor gives the first page again; a known one works, an unknown thread is still not found."""
    thread = await wire.thread("x")
    ids = await finished_runs(wire, thread, 3)
    wire.emulator.profile = "unknown-after-restarts"
    path = f"{thread}/runs"
    first = await wire.get(path, limit=2)
    assert await wire.get(path, limit=2, after="run_deleted") == first
    assert [run["id"] for run in (await wire.get(path, after=ids[1]))["data"]] == ids[:1]
    for query in ({}, {"after": "run_deleted"}):
        reply = await wire.send("GET", "/threads/thread_x/runs", params=query)
        assert (reply.status, reply.error[0]) == (404, "No thread found with id 'thread_x'.")


async def test_limit_unchecked(wire):
    """limit=0 resets the connection, 1000 gives all there is at once, and other limits are as ever."""
    [thread_id] = wire.emulator.fill(threads=1, runs_per_thread=130)
    wire.emulator.profile = "limit-unchecked"
    path = f"/threads/{thread_id}/runs"
    with pytest.raises(aiohttp.ClientConnectionError):
        await wire.get(path, limit=0)
    page = await wire.get(path, limit=1000)
    assert (len(page["data"]), page["has_more"]) == (130, False)
    after = page["data"][9]["id"]
    assert (await wire.get(path, limit=1000, after=after))["data"] == page["data"][10:]
    page = await wire.get(path, limit=120, order="asc")
    assert (len(page["data"]), page["has_more"], page["last_id"]) == (120, True, page["data"][-1]["id"])
    assert len((await wire.get(path))["data"]) == 20
    assert (await wire.send("GET", path, params={"limit": "x"})).status == 400


async def test_before_is_older(wire):
    """With before comes what comes with after; a listing without it is as ever."""
    thread = await wire.thread("x")
    ids = await finished_runs(wire, thread, 5)
    wire.emulator.profile = "before-is-older"
    assert [run["id"] for run in (await wire.get(f"{thread}/runs", before=ids[2]))["data"]] == ids[1::-1]
    assert await walk(wire, f"{thread}/runs", limit=2) == ids[::-1]


async def test_bare_ids(wire):
    """Ids have no prefix anywhere, in answers and events, and are understood without it, in paths and queries."""
    wire.emulator.profile = "bare-ids"
    thread = await wire.thread("x")
    events = await wire.live(f"{thread}/runs", {"assistant_id": "asst_1", "tools": [TOOL]})
    run = events[-1][1]
    assert len(run["id"]) == len(run["thread_id"]) == 24
    path = f"{thread}/runs/{run['id']}"
    assert await wire.get(path) == run
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    await wire.live(f"{path}/submit_tool_outputs", {"tool_outputs": [{"tool_call_id": call["id"], "output": "1"}]})
    steps = (await wire.get(f"{path}/steps"))["data"]
    message_id = steps[0]["step_details"]["message_creation"]["message_id"]
    assert await wire.get(f"{path}/steps/{steps[0]['id']}") == steps[0]
    assert (await wire.get(f"{thread}/messages/{message_id}"))["id"] == message_id
    assert len(await walk(wire, f"{thread}/messages", run_id=run["id"])) == 1
    assert len(await walk(wire, f"{thread}/messages", limit=1)) == 2
    prefixed = f"run_{run['id']}"
    assert (await wire.get(f"{thread}/runs/{prefixed}"))["id"] == run["id"]


async def test_stream_ignored(wire):
    """A live run is answered with the run as JSON, and the run goes on."""
    wire.emulator.profile = "stream-ignored"
    thread = await wire.thread("x")
    reply = await wire.send("POST", f"{thread}/runs", {"assistant_id": "asst_1", "stream": True})
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert (reply.value["object"], reply.value["status"]) == ("thread.run", "queued")
    wire.emulator.clock.advance(10)
    assert (await wire.get(f"{thread}/runs/{reply.value['id']}"))["status"] == "completed"


async def test_no_thread_and_run(wire):
    """POST /threads/runs is not found; all other ways to begin are there."""
    wire.emulator.profile = "no-thread-and-run"
    reply = await wire.send("POST", "/threads/runs", {"assistant_id": "asst_1"})
    assert (reply.status, reply.error[0]) == (404, "No thread found with id 'runs'.")
    await wire.run()


async def test_instructions_required(wire):
    """A run without instructions gets 500 as text and is not made; one with them is."""
    wire.emulator.profile = "instructions-required"
    thread = await wire.thread("x")
    for body in ('{"assistant_id": "asst_1"}', '{"assistant_id": "asst_1", "instructions": null}'):
        assert await plain(wire, "POST", f"{thread}/runs", data=body) == (500, "Internal Server Error")
    status, text = await plain(wire, "POST", f"{thread}/runs", data="[]")
    assert (status, "invalid_type" in text) == (400, True)
    status, text = await plain(wire, "POST", f"{thread}/runs", data="{")
    assert (status, "We could not parse the JSON body" in text) == (400, True)
    await wire.run(thread, instructions="Be brief.")
    assert len((await wire.get(f"{thread}/runs"))["data"]) == 1


async def plain(wire, method, path, **options):
    """Return status and text of an answer that need not be JSON."""
    headers = {"api-key": wire.emulator.api_key, "Content-Type": "application/json"}
    async with wire.http.request(method, wire.emulator.base_url + path, headers=headers, **options) as response:
        return response.status, await response.text()


async def test_odd_lists_of_steps(wire):
    """Lists of steps have a wrong name and no first id, empty or not; other lists are as ever."""
    wire.emulator.profile = "steps-odd"
    path = await wire.run()
    for seconds, count in ((0, 0), (10, 1)):
        wire.emulator.clock.advance(seconds)
        page = await wire.get(f"{path}/steps")
        assert (page["object"], page["first_id"], len(page["data"])) == ("thread.run.step", None, count)
    [step] = page["data"]
    assert step["expires_at"] is None
    assert not {"expired_at", "usage", "metadata"} & set(step)
    assert (await wire.get(path.rsplit("/", 1)[0]))["object"] == "list"

"""Starting, stopping and turning an emulator."""

import asyncio

import aiohttp
import pytest

from asyncruns.emulator import Emulator, ManualClock, RunningClock


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.com", "::", ""])  # noqa: S104
def test_only_loopback(host):
    """An emulator that others could reach cannot be made."""
    with pytest.raises(ValueError, match="loopback"):
        Emulator(host=host)


@pytest.mark.parametrize(("host", "shown"), [("localhost", "127.0.0.1"), ("::1", "[::1]"), ("127.0.0.2", "127.0.0.2")])
async def test_loopback_hosts(host, shown):
    """Any loopback address can be listened on."""
    try:
        async with Emulator(host=host) as emulator:
            assert emulator.base_url.startswith(f"http://{shown}:")
    except OSError as error:
        pytest.skip(f"this machine has no {host}: {error}")


async def test_starts_and_stops():
    """A stopped emulator serves nobody, and keeps its threads for the next start."""
    emulator = Emulator()
    with pytest.raises(RuntimeError, match="not started"):
        print(emulator.base_url)
    await emulator.start()
    with pytest.raises(RuntimeError, match="already"):
        await emulator.start()
    first = emulator.base_url
    [thread_id] = emulator.fill(threads=1, runs_per_thread=1)
    headers = {"api-key": emulator.api_key}
    await emulator.stop()
    await emulator.stop()
    async with aiohttp.ClientSession(headers=headers) as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(first)
        async with emulator, http.get(f"{emulator.base_url}/threads/{thread_id}") as response:
            assert response.status == 200


async def test_a_taken_port_is_an_error():
    """A second emulator on the same port fails to start, and can be stopped."""
    async with Emulator() as emulator:
        port = int(emulator.base_url.split(":")[2].split("/")[0])
        second = Emulator(port=port)
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        await second.stop()


def test_keys_are_random_and_hidden():
    """Each emulator has a key of its own, which its repr does not show."""
    first, second, third = Emulator(), Emulator(), Emulator(api_key="mine")
    assert first.api_key != second.api_key
    assert third.api_key == "mine"
    assert first.api_key not in repr(first)
    assert repr(first) == "<Emulator stopped>"


async def test_requests_are_recorded(wire):
    """Every request received is on the list, refused ones too, until the test clears it."""
    assert wire.emulator.base_url in repr(wire.emulator)
    await wire.get("/threads", limit=1)
    await wire.send("POST", "/nope", headers={})
    assert wire.emulator.requests == [("GET", "/v1/threads?limit=1"), ("POST", "/v1/nope")]
    wire.emulator.requests.clear()
    assert (wire.emulator.requests, wire.emulator.request_count) == ([], 2)


async def test_the_record_is_bounded(wire):
    """A long load drops the oldest half of the record instead of eating the memory."""
    wire.emulator.requests.extend([("GET", "/old")] * 100_000)
    await wire.get("/threads")
    assert len(wire.emulator.requests) == 50_001
    assert wire.emulator.requests[-1] == ("GET", "/v1/threads")


async def test_delay_is_added_to_each_answer(wire):
    """The latency asked for passes before an answer comes."""
    wire.emulator.delay = 0.02
    loop = asyncio.get_running_loop()
    began = loop.time()
    await wire.get("/threads")
    assert wire.emulator.delay == 0.02
    assert loop.time() - began >= 0.02


async def test_what_came_is_carried_out_though_the_client_left(wire, caplog):
    """A client that does not wait for a late answer leaves a thread behind, and nothing in the log."""
    wire.emulator.delay = 0.2
    begun = asyncio.ensure_future(wire.post("/threads", {}))
    await asyncio.sleep(0.1)
    begun.cancel()
    await asyncio.wait([begun])
    wire.emulator.delay = 0.0
    async with asyncio.timeout(5):
        while not (await wire.get("/threads"))["data"]:
            pass
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_clocks_turn_forward_only():
    """Both clocks can be advanced and not turned back; one runs, one stands."""
    manual, running = ManualClock(100.0), RunningClock()
    manual.advance(5)
    assert manual.now() == 105.0
    before = running.now()
    running.advance(1000)
    assert 1000 <= running.now() - before < 1100
    for clock in (manual, running):
        for seconds in (-1, float("nan")):
            with pytest.raises(ValueError, match="forward"):
                clock.advance(seconds)


async def test_requests_are_refused_on_demand():
    """So many requests get the error and no more, with the wait asked for; nobody without the key uses one up."""
    async with Emulator() as emulator, aiohttp.ClientSession() as http:
        emulator.refuse(times=2, retry_after=1.5)
        emulator.refuse(503)
        head = {"Authorization": f"Bearer {emulator.api_key}"}
        async with http.post(f"{emulator.base_url}/threads", json={}) as answer:
            assert answer.status == 401
        seen = []
        for _ in range(4):
            async with http.post(f"{emulator.base_url}/threads", json={}, headers=head) as answer:
                error = (await answer.json()).get("error", {})
                seen.append((answer.status, answer.headers.get("Retry-After"), error.get("code"), error.get("type")))
    busy = (429, "1.5", "rate_limit_exceeded", "requests")
    assert seen == [busy, busy, (503, None, None, "server_error"), (200, None, None, None)]


@pytest.mark.parametrize("words", [{"status": 404}, {"status": 600}, {"times": 0}])
def test_what_cannot_be_refused(words):
    """Another status, or fewer than one request, is an error."""
    with pytest.raises(ValueError, match="must be"):
        Emulator().refuse(**words)


def test_only_a_script_is_a_script():
    """Anything else is refused when it is given, and not when a run wants it."""
    with pytest.raises(TypeError, match="must be a Script, not str"):
        Emulator().script("x")

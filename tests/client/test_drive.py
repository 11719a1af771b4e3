"""Driving: a run goes through its required actions to its end, by polling and with a stream underneath."""

import asyncio
import json

import pytest

from asyncruns import (
    BadRequestError,
    ConnectionLost,
    MessageDeltaEvent,
    ProtocolError,
    ServerError,
    StreamInterrupted,
    Toolbox,
    UnexpectedContentError,
    WaitTimeout,
)
from asyncruns.emulator import Script

ROUNDS = [[("weather", {"place": "Oslo"}), ("weather", {"place": "Rome"})], [("warmest", {"places": ["Oslo", "Rome"]})]]


class Town:
    """Tools that write down how often they were called."""

    def __init__(self):
        self.asked = []
        self.box = Toolbox([self.weather, self.warmest])

    async def weather(self, place: str):
        """Tell the weather."""
        self.asked.append(place)
        await asyncio.sleep(0)
        return f"warm in {place}"

    def warmest(self, places: list[str]):
        """Tell the warmest place."""
        self.asked.append(tuple(places))
        return places[-1]


EXPECTED = ["Oslo", "Rome", ("Oslo", "Rome")]


@pytest.fixture
def town():
    """Give the test its tools."""
    return Town()


@pytest.fixture
def turning(session, emulator):
    """Let naps turn the emulator's clock, so that runs move while a drive sleeps."""

    async def nap(seconds):
        emulator.clock.advance(seconds)
        await asyncio.sleep(0)

    session._transport.sleep = nap


@pytest.fixture
async def run(session, emulator, town, turning):
    """Give the test a run that asks for tools twice."""
    emulator.script(Script(rounds=ROUNDS, text=["Ro", "me."]))
    thread = await session.threads.create()
    return await session.runs.create(thread.id, assistant_id="asst_1", tools=town.box.tools)


@pytest.fixture(params=["polling", "streaming"])
def on_event(request):
    """Drive the test with polling, and again with a stream underneath."""
    return None if request.param == "polling" else lambda event: None


async def test_drives_to_the_end(session, run, town, on_event, emulator):
    """The run completes, each call was made once and answered with its own output."""
    ended = await session.runs.drive(run.thread_id, run.id, town.box, timeout=60, on_event=on_event)
    assert ended.status == "completed"
    assert town.asked == EXPECTED
    steps = [step async for step in session.steps.list(run.thread_id, run.id, order="asc")]
    outputs = [call.output for step in steps for call in getattr(step.step_details, "tool_calls", ())]
    assert outputs == ["warm in Oslo", "warm in Rome", "Rome"]
    posts = [path for method, path in emulator.requests if method == "POST" and path.endswith("submit_tool_outputs")]
    assert len(posts) == 2


async def test_events_of_a_streamed_drive(session, run, town):
    """With `on_event` the events come as the run goes on: texts, and the run's next required action."""
    events = []
    await session.runs.drive(run.thread_id, run.id, town.box, timeout=60, on_event=events.append)
    assert "".join(event.delta.text for event in events if isinstance(event, MessageDeltaEvent)) == "Rome."
    names = [event.name for event in events]
    assert names.count("done") == 2
    assert "thread.run.requires_action" in names
    assert names[-2] == "thread.run.completed"


async def test_event_listener_that_nobody_would_await(session, run, town):
    """A coroutine function would be called and never run, so it is refused before anything is sent."""

    async def listen(event):
        raise AssertionError

    with pytest.raises(TypeError, match="on_event must be a plain function"):
        await session.runs.drive(run.thread_id, run.id, town.box, timeout=60, on_event=listen)
    assert town.asked == []


async def test_driven_again(session, run, town, on_event):
    """A run in any state can be driven: at its end nothing is done, and after a crash the rest."""
    await session.runs.wait(run.thread_id, run.id, timeout=60)
    first = Town()
    waiting = await session.runs.retrieve(run.thread_id, run.id)
    await session.runs.submit_tool_outputs(run.thread_id, run.id, tool_outputs=await first.box.outputs(waiting))
    ended = await session.runs.drive(run.thread_id, run.id, town.box, timeout=60, on_event=on_event)
    assert await session.runs.drive(run.thread_id, run.id, town.box, timeout=60) == ended
    assert (first.asked, town.asked) == (EXPECTED[:2], EXPECTED[2:])


async def test_two_drivers_of_one_run(session, run, town, on_event):
    """Two workers on the same run do not stop each other: who comes late reads what became of it."""
    drives = [session.runs.drive(run.thread_id, run.id, town.box, timeout=60, on_event=on_event) for _ in range(2)]
    ended = await asyncio.gather(*drives)
    assert [each.status for each in ended] == ["completed", "completed"]
    assert town.asked == EXPECTED


async def test_a_run_that_ends_meanwhile(session, emulator, run, town, on_event):
    """A run that expired while its tools worked is returned as what it is, and not as a refusal."""

    class Slow:
        async def outputs(self, run):
            emulator.clock.advance(700)
            return await town.box.outputs(run)

    ended = await session.runs.drive(run.thread_id, run.id, Slow(), timeout=60, on_event=on_event)
    assert ended.status == "expired"


async def test_outputs_that_are_refused(session, run, on_event):
    """When the server refuses the outputs and still waits for them, that refusal is raised."""

    class Wrong:
        async def outputs(self, run):
            return [{"tool_call_id": "call_of_nobody", "output": "x"}]

    with pytest.raises(BadRequestError):
        await session.runs.drive(run.thread_id, run.id, Wrong(), timeout=60, on_event=on_event)


async def test_tools_that_take_too_long(session, run, on_event):
    """The timeout also ends the tools; it carries the run as last seen."""

    class Stuck:
        async def outputs(self, run):
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(len(run.tool_calls))

    ended = []
    with pytest.raises(WaitTimeout) as caught:
        await session.runs.drive(run.thread_id, run.id, Stuck(), timeout=0.2, on_event=on_event)
    assert ended == [2]
    assert caught.value.run.status == "requires_action"


async def test_a_timeout_of_the_tools_own(session, run, on_event):
    """A `TimeoutError` that the tools raise is not taken for the drive's."""

    class Impatient:
        async def outputs(self, run):
            raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        await session.runs.drive(run.thread_id, run.id, Impatient(), timeout=60, on_event=on_event)


async def test_cancelled_in_a_tool(session, run, on_event, own_tasks):
    """Whoever is cancelled while a tool works leaves nothing behind; the run goes on."""

    async def weather(place: str):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(place)

    begun, ended = asyncio.Event(), []
    tasks = own_tasks()
    box = Toolbox([weather])
    drive = asyncio.ensure_future(session.runs.drive(run.thread_id, run.id, box, timeout=60, on_event=on_event))
    await begun.wait()
    drive.cancel()
    await asyncio.wait([drive])
    assert drive.cancelled()
    assert sorted(ended) == ["Oslo", "Rome"]
    assert own_tasks() == tasks
    assert (await session.runs.retrieve(run.thread_id, run.id)).status == "requires_action"


CALLS = [
    {"id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": '{"place": "x"}'}}
    for n in "ab"
]


def plain(status, calls=()):
    """Return a run in that status, which may wait for *calls*."""
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": list(calls)}}
    run = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": status}
    return run | {"required_action": action if calls else None}


WAITS, DONE = plain("requires_action", CALLS), plain("completed")


def paths(server):
    """Return what came: R for a read of the run, S for outputs."""
    return "".join("S" if request.target.endswith("submit_tool_outputs") else "R" for request in server.requests)


@pytest.fixture
def drive(server, scripted_session, town):
    """Give the test a way to drive a run of the scripted server."""

    def drive_one(**options):
        return scripted_session.runs.drive("thread_1", "run_1", town.box, **{"timeout": 5, **options})

    return drive_one


def streamed(*events):
    """Return an answer that streams *events*, pairs of name and data, and then ends."""
    body = "".join(
        f"event: {name}\ndata: {data if isinstance(data, str) else json.dumps(data)}\n\n" for name, data in events
    )
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


async def test_a_read_that_lags_behind(server, drive, town):
    """Outputs that were taken are not sent again although a read still shows the old action; it is read again."""
    for answer in (WAITS, plain("queued"), WAITS, WAITS, DONE):
        server.reply(answer)
    assert (await drive()).status == "completed"
    assert paths(server) == "RSRRR"
    assert town.asked == ["x", "x"]


async def test_a_server_that_is_away_behind_the_outputs(server, drive):
    """Once the run was seen, reads that fail for a while do not end the drive."""
    for answer in (WAITS, plain("queued")):
        server.reply(answer)
    for _ in range(6):  # Two reads, each with its three attempts.
        server.reply({"error": {"message": "restarting"}}, 503)
    server.reply(DONE)
    assert (await drive()).status == "completed"
    assert paths(server) == "RS" + 7 * "R"


@pytest.mark.parametrize("status", [400, 409])
@pytest.mark.parametrize("shown", [WAITS, plain("in_progress")], ids=["late", "at once"])
async def test_a_refusal_of_what_another_worker_has_answered(server, drive, status, shown):
    """Two workers may drive one run: who comes late is refused, and waits for the run although a read lags behind."""
    server.reply(WAITS)
    server.reply({"error": {"message": "no outputs now"}}, status)
    for answer in (shown, plain("in_progress"), DONE):
        server.reply(answer)
    assert (await drive()).status == "completed"
    assert paths(server) == "RSRRR"


async def test_an_action_that_is_gone_before_the_status(server, drive):
    """A run that still says that it requires action, and none, is on its way."""
    for answer in (WAITS, plain("queued"), plain("requires_action"), DONE):
        server.reply(answer)
    assert (await drive()).status == "completed"
    assert paths(server) == "RSRR"


async def test_an_action_that_another_worker_has_just_answered(server, drive, town):
    """So it is for who begins to drive it then."""
    for answer in (plain("requires_action"), plain("in_progress"), DONE):
        server.reply(answer)
    assert (await drive()).status == "completed"
    assert paths(server) == "RRR"
    assert town.asked == []


async def test_another_call_of_the_same_id(server, drive, town):
    """Where an answer is lost and each round's calls are numbered anew, no output goes to the next round's call."""
    other = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"place": "y"}'}}
    server.reply(WAITS)
    server.hang_up()
    for answer in (plain("requires_action", [other]), plain("requires_action", [other]), plain("queued"), DONE):
        server.reply(answer)
    assert (await drive()).status == "completed"
    assert paths(server) == "RSRRSR"
    sent = [json.loads(request.body)["tool_outputs"] for request in server.requests if request.method == "POST"]
    assert sent[1] == [{"tool_call_id": "call_a", "output": "warm in y"}]
    assert town.asked == ["x", "x", "y"]


async def test_an_error_of_a_tool_that_does_not_end_in_time(server, scripted_session):
    """Once the time is up that is what is told, from whatever came then."""

    class Stubborn:
        async def outputs(self, run):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionLost("of its own") from None

    server.reply(WAITS)
    with pytest.raises(WaitTimeout) as caught:
        await scripted_session.runs.drive("thread_1", "run_1", Stubborn(), timeout=0.1)
    assert isinstance(caught.value.__cause__, ConnectionLost)


async def test_tools_that_are_no_toolbox(session, emulator):
    """Functions without a toolbox are refused before anything is sent, also for a run that would not ask for them."""
    with pytest.raises(TypeError, match="must be a Toolbox, or have its outputs"):
        await session.runs.drive("thread_1", "run_1", [str], timeout=1)
    assert emulator.requests == []


async def test_an_old_action_on_a_run_that_ended(server, drive, town):
    """Some servers leave the required action on a run that ended: it is over all the same."""
    server.reply(plain("expired", CALLS))
    assert (await drive()).status == "expired"
    assert paths(server) == "R"
    assert town.asked == []


async def test_an_action_of_another_kind(server, drive):
    """A required action that is no function call is the caller's: the run is returned as it is."""
    server.reply(plain("requires_action", [{"id": "c", "type": "mcp_approval"}]))
    assert (await drive()).status == "requires_action"


async def test_an_answer_to_the_outputs_that_is_lost(server, drive):
    """Outputs whose answer is lost are settled by reading the run, and not sent again if they arrived."""
    server.reply(WAITS)
    server.hang_up()
    server.reply(plain("in_progress"))
    server.reply(DONE)
    assert (await drive()).status == "completed"
    assert paths(server) == "RSRR"


@pytest.mark.parametrize(
    "broken",
    [
        streamed(("thread.run.queued", plain("queued"))),
        streamed(("error", "gone wrong")),
        streamed(("thread.run.completed", "not JSON")),
        streamed(("thread.run.completed", {})),
    ],
    ids=["cut", "error event", "no JSON", "no run"],
)
async def test_a_stream_that_breaks(server, drive, broken):
    """However a stream that began breaks, reading the run tells the rest."""
    server.reply(WAITS)
    server.raw(broken)
    server.reply(plain("in_progress"))
    server.reply(DONE)
    events = []
    assert (await drive(on_event=events.append)).status == "completed"
    assert paths(server) == "RSRR"


EARLY = [streamed(("error", "gone wrong")), streamed(), streamed(("ping", {}))]


@pytest.mark.parametrize("broken", EARLY, ids=["error event", "nothing", "ping"])
async def test_a_stream_that_breaks_early_and_outputs_that_did_not_arrive(server, drive, broken, town):
    """A stream that told nothing may not have taken the outputs: then they are sent once more, without one."""
    server.reply(WAITS)
    server.raw(broken)
    for answer in (WAITS, plain("queued"), DONE):
        server.reply(answer)
    assert (await drive(on_event=lambda event: None)).status == "completed"
    assert paths(server) == "RSRSR"
    assert town.asked == ["x", "x"]


@pytest.mark.parametrize("broken", EARLY, ids=["error event", "nothing", "ping"])
async def test_a_stream_that_breaks_early_and_reads_that_lag_behind(server, drive, broken):
    """If it had taken them, and reads show that late, the refusal of the second is waited out."""
    server.reply(WAITS)
    server.raw(broken)
    server.reply(WAITS)
    server.reply({"error": {"message": "no outputs now"}}, 400)
    for answer in (WAITS, WAITS, plain("in_progress"), DONE):
        server.reply(answer)
    assert (await drive(on_event=lambda event: None)).status == "completed"
    assert paths(server) == "RSRSRRRR"


async def test_a_stream_whose_first_words_are_of_no_use(server, drive):
    """It is a yes all the same: the outputs are not sent again although reads lag behind."""
    server.reply(WAITS)
    server.raw(streamed(("thread.run.queued", "not JSON")))
    for answer in (WAITS, WAITS, DONE):
        server.reply(answer)
    assert (await drive(on_event=lambda event: None)).status == "completed"
    assert paths(server) == "RSRRR"


@pytest.mark.parametrize("streams", [False, True])
async def test_a_server_that_goes_away_with_the_outputs(server, drive, streams):
    """It may be away for a while, and then show that it took them."""
    server.reply(WAITS)
    if streams:
        server.raw(streamed())
    else:
        server.hang_up()
    for _ in range(6):  # Two reads, each with its three attempts.
        server.reply({"error": {"message": "restarting"}}, 503)
    server.reply(plain("in_progress"))
    server.reply(DONE)
    assert (await drive(on_event=(lambda event: None) if streams else None)).status == "completed"
    assert paths(server) == "RS" + 8 * "R"


def never_begin(server, lost):
    """Answer outputs that are sent with a stream so that nobody knows whether they arrived."""
    if lost == "no answer":
        server.hang_up()
    elif lost == "500":
        server.reply({"error": {"message": "broke"}}, 500)
    else:
        server.reply(plain("queued"))  # This server does not stream.


@pytest.mark.parametrize("lost", ["no answer", "500", "JSON"])
async def test_a_stream_that_never_begins(server, drive, lost):
    """Where no stream begins the run tells whether the outputs arrived: then they are not sent again."""
    server.reply(WAITS)
    never_begin(server, lost)
    server.reply(plain("in_progress"))
    server.reply(DONE)
    assert (await drive(on_event=lambda event: None)).status == "completed"
    assert paths(server) == "RSRR"


@pytest.mark.parametrize("lost", ["no answer", "500"])
async def test_a_stream_that_never_begins_and_outputs_that_did_not_arrive(server, drive, lost, town):
    """Then they are sent once more, without a stream; the tools are not asked again."""
    server.reply(WAITS)
    never_begin(server, lost)
    for answer in (WAITS, plain("queued"), DONE):
        server.reply(answer)
    assert (await drive(on_event=lambda event: None)).status == "completed"
    assert paths(server) == "RSRSR"
    assert town.asked == ["x", "x"]


async def test_a_yes_of_no_use_and_outputs_that_did_not_arrive(server, drive):
    """A server that answers with something other than a stream, and still asks for the outputs, is not asked again."""
    server.reply(WAITS)
    never_begin(server, "JSON")
    for _ in range(4):
        server.reply(WAITS)
    with pytest.raises(UnexpectedContentError):
        await drive(on_event=lambda event: None)
    assert paths(server) == "RSRRRR"


async def test_a_stream_that_is_refused(server, drive):
    """A refusal of the stream itself is what it is for outputs without one."""
    server.reply(WAITS)
    server.reply({"error": {"message": "no"}}, 400)
    for _ in range(4):
        server.reply(WAITS)
    with pytest.raises(BadRequestError, match="no"):
        await drive(on_event=lambda event: None)
    assert paths(server) == "RSRRRR"


async def test_another_error_of_the_stream(server, drive):
    """An error that settles nothing is raised."""
    server.reply(WAITS)
    server.reply({"error": {"message": "who?"}}, 401)
    with pytest.raises(Exception, match="who"):
        await drive(on_event=lambda event: None)


class RefusalError(BadRequestError):
    """A refusal that is not of the outputs."""

    def __init__(self, message):
        super().__init__(message, status=400)


@pytest.mark.parametrize("kind", [ZeroDivisionError, ConnectionLost, ProtocolError, StreamInterrupted, RefusalError])
async def test_an_error_of_the_observer(server, drive, kind):
    """What `on_event` raises is not caught, nor taken for trouble of the stream."""

    def on_event(event):
        raise kind("of another call")

    server.reply(WAITS)
    server.raw(streamed(("thread.run.completed", DONE), ("done", "[DONE]")))
    with pytest.raises(kind, match="of another call"):
        await drive(on_event=on_event)
    assert paths(server) == "RS"


async def test_a_server_that_takes_no_outputs(server, drive):
    """Outputs that the server fails over are sent three times at most, and not for ever."""
    server.reply(WAITS)
    for _ in range(3):
        server.reply({"error": {"message": "broke"}}, 500)
        server.reply(WAITS)
    with pytest.raises(ServerError):
        await drive()
    assert paths(server) == "RSRSRSR"


async def test_a_submission_that_hangs(emulator, open_session, session, run, town, on_event):
    """The drive's timeout also ends a submission under way, and reads behind one that the session's own ended."""
    await session.runs.wait(run.thread_id, run.id, timeout=60)

    class Slowing:
        async def outputs(self, run):
            emulator.delay = 5
            return await town.box.outputs(run)

    with pytest.raises(WaitTimeout):
        await session.runs.drive(run.thread_id, run.id, Slowing(), timeout=0.3, on_event=on_event)
    emulator.delay = 0
    quick = await open_session(emulator, timeout=0.2)
    with pytest.raises(WaitTimeout):
        await quick.runs.drive(run.thread_id, run.id, Slowing(), timeout=0.5, on_event=on_event)


async def test_settings_that_are_none(scripted_session, server, town):
    """Wrong arguments are refused before anything is sent."""
    for timeout in (0, -1, None, "x"):
        with pytest.raises(ValueError, match="timeout"):
            await scripted_session.runs.drive("thread_1", "run_1", town.box, timeout=timeout)
    assert server.requests == []

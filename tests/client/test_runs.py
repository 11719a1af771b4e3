"""Runs: each method does what the API says, and waiting follows the server and always ends."""

import asyncio
import json
import logging
import math
from types import SimpleNamespace

import pytest

from asyncruns import (
    ActiveRunError,
    BadRequestError,
    ConnectionLost,
    DeadlineExceeded,
    FunctionTool,
    InvalidIdError,
    NamedToolChoice,
    NotFoundError,
    PermissionDeniedError,
    ResponseFormatJsonObject,
    Run,
    RunCreationUnknown,
    RunFailed,
    ServerError,
    TextContent,
    TruncationStrategy,
    WaitTimeout,
)

WEATHER = FunctionTool(name="get_weather", parameters={"type": "object", "properties": {"place": {"type": "string"}}})
RUN = {"id": "run_1", "thread_id": "thread_1", "status": "queued"}


@pytest.fixture
async def thread(session):
    """Give the test a thread with a message."""
    return await session.threads.create(messages=[{"role": "user", "content": "hello there"}])


@pytest.fixture
async def run(session, thread):
    """Give the test a queued run."""
    return await session.runs.create(thread.id, assistant_id="asst_1")


@pytest.fixture
def turning(session, emulator, naps):
    """Let naps turn the emulator's clock, so that runs move while a wait sleeps."""

    async def nap(seconds):
        naps.append(seconds)
        emulator.clock.advance(seconds)
        await asyncio.sleep(0)

    session._transport.sleep = nap


class TestMethods:
    """Create, retrieve, list, modify, cancel, submit."""

    async def test_create(self, session, thread, emulator):
        """With every kind of keyword, objects of ours and plain mappings alike."""
        emulator.requests.clear()
        run = await session.runs.create(
            thread.id,
            assistant_id="asst_1",
            model="gpt",
            instructions="Be brief.",
            additional_instructions=None,
            additional_messages=[{"role": "user", "content": [TextContent(value="more")]}],
            tools=[WEATHER, {"type": "code_interpreter"}],
            tool_choice=NamedToolChoice(name="get_weather"),
            response_format=ResponseFormatJsonObject(),
            truncation_strategy=TruncationStrategy(type="last_messages", last_messages=4),
            temperature=0.5,
            parallel_tool_calls=False,
            metadata={"job": "7"},
            include=["step_details.tool_calls[*].file_search.results[*].content"],
        )
        assert isinstance(run, Run)
        assert (run.status, run.thread_id, run.assistant_id) == ("queued", thread.id, "asst_1")
        assert run.metadata == {"job": "7"}
        assert [tool.type for tool in run.tools] == ["function", "code_interpreter"]
        assert run.tool_choice == NamedToolChoice(name="get_weather")
        assert [message.text async for message in session.messages.list(thread.id)] == ["more", "hello there"]
        query = "include%5B%5D=step_details.tool_calls%5B%2A%5D.file_search.results%5B%2A%5D.content"
        assert emulator.requests[0] == ("POST", f"/v1/threads/{thread.id}/runs?{query}")

    async def test_what_is_left_out_is_not_sent(self, server, scripted_session):
        """None is sent as null, and `include` never stands in the body."""
        server.reply(RUN)
        await scripted_session.runs.create("thread_1", assistant_id="a", model=None, include=[])
        assert server.requests[0].json == {"assistant_id": "a", "model": None}
        assert server.requests[0].target == "/v1/threads/thread_1/runs"

    async def test_create_on_a_busy_thread(self, session, run):
        """The active run is named."""
        with pytest.raises(ActiveRunError) as caught:
            await session.runs.create(run.thread_id, assistant_id="asst_1")
        assert caught.value.run_id == run.id
        with pytest.raises(ActiveRunError) as caught:
            await session.messages.create(run.thread_id, role="user", content="x")
        assert caught.value.run_id == run.id

    async def test_retrieve(self, session, run, emulator):
        """The run as it is now."""
        assert await session.runs.retrieve(run.thread_id, run.id) == run
        emulator.clock.advance(10)
        seen = await session.runs.retrieve(run.thread_id, run.id)
        assert (seen.status, seen.is_terminal) == ("completed", True)
        assert seen.usage.total_tokens > 0
        with pytest.raises(NotFoundError):
            await session.runs.retrieve(run.thread_id, "run_nope")

    async def test_modify(self, session, run):
        """The metadata is replaced as a whole."""
        modified = await session.runs.modify(run.thread_id, run.id, metadata={"a": "1"})
        assert (modified.id, modified.metadata) == (run.id, {"a": "1"})

    async def test_cancel(self, session, run, emulator):
        """First `cancelling`, then `cancelled`; a run at rest is not cancelled."""
        assert (await session.runs.cancel(run.thread_id, run.id)).status == "cancelling"
        emulator.clock.advance(10)
        assert (await session.runs.retrieve(run.thread_id, run.id)).status == "cancelled"
        with pytest.raises(BadRequestError, match="Cannot cancel run"):
            await session.runs.cancel(run.thread_id, run.id)

    async def test_submit_tool_outputs(self, session, thread, emulator):
        """All calls answered at once; then the run goes on, and takes no more outputs."""
        run = await session.runs.create(thread.id, assistant_id="asst_1", tools=[WEATHER])
        emulator.clock.advance(1)
        run = await session.runs.retrieve(thread.id, run.id)
        assert run.status == "requires_action"
        [call] = run.tool_calls
        assert call.name == "get_weather"
        assert isinstance(json.loads(call.arguments), dict)
        outputs = [{"tool_call_id": call.id, "output": "18 degrees"}]
        assert (await session.runs.submit_tool_outputs(thread.id, run.id, tool_outputs=outputs)).status == "queued"
        emulator.clock.advance(10)
        assert (await session.runs.retrieve(thread.id, run.id)).status == "completed"
        with pytest.raises(BadRequestError, match="do not accept tool outputs"):
            await session.runs.submit_tool_outputs(thread.id, run.id, tool_outputs=outputs)

    async def test_a_failed_run_is_told_by_its_own_error(self, session, thread, emulator):
        """It comes with status 200; `raise_for_status` says what went wrong."""
        emulator.next_outcome(
            "failed", last_error={"code": "rate_limit_exceeded", "message": "Try again in 60 seconds."}
        )
        run = await session.runs.create(thread.id, assistant_id="asst_1")
        emulator.clock.advance(10)
        run = await session.runs.retrieve(thread.id, run.id)
        with pytest.raises(RunFailed) as caught:
            run.raise_for_status()
        assert (caught.value.run, caught.value.retry_after) == (run, 60.0)


class TestWait:
    """`wait`: until the run rests."""

    @pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "expired"])
    async def test_returns_at_a_terminal_status(self, session, thread, emulator, turning, outcome):
        """Whichever it is, without raising."""
        emulator.next_outcome(outcome)
        run = await session.runs.create(thread.id, assistant_id="asst_1")
        assert (await session.runs.wait(thread.id, run.id, timeout=60)).status == outcome

    async def test_returns_when_cancelled(self, session, run, turning):
        """`cancelling` still moves."""
        await session.runs.cancel(run.thread_id, run.id)
        assert (await session.runs.wait(run.thread_id, run.id, timeout=60)).status == "cancelled"

    async def test_returns_when_it_is_the_callers_turn(self, session, thread, turning):
        """`requires_action` is no end, and waiting on would be for nothing."""
        run = await session.runs.create(thread.id, assistant_id="asst_1", tools=[WEATHER])
        run = await session.runs.wait(thread.id, run.id, timeout=60)
        assert run.status == "requires_action"
        assert len(run.tool_calls) == 1

    async def test_does_not_sleep_for_a_run_at_rest(self, session, run, emulator, naps):
        """One request."""
        emulator.clock.advance(10)
        emulator.requests.clear()
        assert (await session.runs.wait(run.thread_id, run.id, timeout=60)).is_terminal
        assert len(emulator.requests) == 1
        assert naps == []

    async def test_follows_the_servers_poll_interval(self, server, scripted_session, naps):
        """As each answer asks, within reason; where none asks, it grows."""
        for header in ("1500", "200", "1", None, None, "99999999"):
            server.reply(RUN, headers={"openai-poll-after-ms": header} if header else {})
        server.reply(RUN | {"status": "completed"})
        await scripted_session.runs.wait("thread_1", "run_1", timeout=600)
        assert naps == [1.5, 0.2, 0.05, pytest.approx(0.07875), pytest.approx(0.07875 * 1.5 * 1.05), 60.0]

    async def test_grows_from_half_a_second(self, server, scripted_session, naps):
        """By half each time, with a random tenth, up to ten seconds."""
        server.reply(RUN, times=12)
        server.reply(RUN | {"status": "completed"})
        await scripted_session.runs.wait("thread_1", "run_1", timeout=600)
        assert naps[:2] == [pytest.approx(0.5 * 1.05), pytest.approx(0.5 * 1.05 * 1.5 * 1.05)]
        assert naps[-1] == pytest.approx(10.5)
        assert naps == sorted(naps)

    async def test_a_poll_interval_of_ones_own_is_kept(self, server, scripted_session, naps):
        """Whatever the server asks."""
        server.reply(RUN, headers={"openai-poll-after-ms": "9000"}, times=3)
        server.reply(RUN | {"status": "completed"})
        await scripted_session.runs.wait("thread_1", "run_1", timeout=600, poll_interval=2.0)
        assert naps == [2.0, 2.0, 2.0]

    async def test_an_unknown_status_is_still_moving(self, server, scripted_session, caplog):
        """A word of tomorrow is not the end; it is logged once each time that the run comes to it."""
        words = ["thinking", "thinking", "thinking", "queued", "thinking", "dreaming", "dreaming", "completed"]
        for word in words:
            server.reply(RUN | {"status": word})
        with caplog.at_level(logging.WARNING, "asyncruns"):
            run = await scripted_session.runs.wait("thread_1", "run_1", timeout=600)
        assert run.status == "completed"
        assert len(server.requests) == len(words)
        told = [word for record in caplog.records for word in ("thinking", "dreaming") if word in record.getMessage()]
        assert told == ["thinking", "thinking", "dreaming"]

    async def test_its_timeout_carries_the_run_last_seen(self, emulator, session, run):
        """And is a TimeoutError; the run goes on."""
        session._transport.sleep = asyncio.sleep
        with pytest.raises(
            WaitTimeout, match=r"did not come to rest in 0\.1 seconds; it was queued when last seen"
        ) as caught:
            await session.runs.wait(run.thread_id, run.id, timeout=0.1)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.run == run
        assert (await session.runs.retrieve(run.thread_id, run.id)).status == "queued"

    async def test_its_timeout_ends_a_read_that_hangs(self, emulator, session, run):
        """Also the first: then no run was seen."""
        emulator.delay = 5.0
        with pytest.raises(WaitTimeout, match=r"in 0\.1 seconds\.$") as caught:
            await session.runs.wait(run.thread_id, run.id, timeout=0.1)
        assert caught.value.run is None
        emulator.delay = 0.0

    async def test_a_single_read_has_the_sessions_timeout(self, emulator, open_session, run):
        """A read that takes longer is an error of its own, long before the wait is over."""
        session = await open_session(emulator, timeout=0.05)
        emulator.delay = 5.0
        with pytest.raises(DeadlineExceeded):
            await session.runs.wait(run.thread_id, run.id, timeout=60)
        emulator.delay = 0.0

    async def test_an_error_ends_it(self, server, scripted_session):
        """After the retries of the read."""
        server.reply({"error": {"message": "boom"}}, 500, times=3)
        with pytest.raises(ServerError):
            await scripted_session.runs.wait("thread_1", "run_1", timeout=60)

    async def test_may_cancel_the_run_at_its_end(self, session, run, emulator):
        """Only if asked to; the error carries the run as it then is."""
        session._transport.sleep = asyncio.sleep
        with pytest.raises(WaitTimeout) as caught:
            await session.runs.wait(run.thread_id, run.id, timeout=0.05, cancel_on_timeout=True)
        assert caught.value.run.status == "cancelling"
        emulator.clock.advance(10)
        assert (await session.runs.retrieve(run.thread_id, run.id)).status == "cancelled"

    async def test_cancelling_a_run_that_just_ended(self, server, scripted_session):
        """The refusal to cancel is no failure: the run is read once more, and carried."""
        scripted_session._transport.sleep = asyncio.sleep
        server.reply(RUN)
        server.reply({"error": {"message": "Cannot cancel run with status 'completed'."}}, 400)
        server.reply(RUN | {"status": "completed"})
        with pytest.raises(WaitTimeout) as caught:
            await scripted_session.runs.wait("thread_1", "run_1", timeout=0.05, cancel_on_timeout=True)
        assert caught.value.run.status == "completed"

    @pytest.mark.parametrize(
        "settings",
        [
            {"timeout": 0},
            {"timeout": math.inf},
            {"timeout": "5"},
            {"timeout": 1, "poll_interval": 0},
            {"timeout": 1, "poll_interval": -1},
        ],
    )
    async def test_settings_that_are_none(self, session, emulator, settings):
        """Every wait has an end and every interval a length."""
        with pytest.raises(ValueError, match="must be a number of seconds above 0"):
            await session.runs.wait("thread_1", "run_1", **settings)
        assert emulator.requests == []

    async def test_many_waits_share_the_session(self, session, emulator, turning):
        """Each ends with its own run."""
        threads = [await session.threads.create() for _ in range(30)]
        runs = [await session.runs.create(thread.id, assistant_id="asst_1") for thread in threads]
        ended = await asyncio.gather(*(session.runs.wait(run.thread_id, run.id, timeout=60) for run in runs))
        assert [run.id for run in ended] == [run.id for run in runs]
        assert {run.status for run in ended} == {"completed"}


async def test_ids_are_checked_before_a_wait(session, emulator):
    """Nothing is sent."""
    with pytest.raises(InvalidIdError):
        await session.runs.wait("thread_1", "..", timeout=1)
    assert emulator.requests == []


class TestRequestKey:
    """At most one run comes of any number of creates with one key."""

    async def test_is_kept_in_the_metadata(self, session, thread):
        """Beside the caller's own pairs; by it the run is found."""
        run = await session.runs.create(thread.id, assistant_id="a", metadata={"k": "v"}, request_key="job-7")
        assert run.metadata == {"k": "v", "request_key": "job-7"}
        assert await session.runs.find(thread.id, request_key="job-7") == run
        assert await session.runs.find(thread.id, request_key="job-8") is None

    @pytest.mark.parametrize(
        ("pages", "place", "looked_at"),
        [([20] * 8, 99, 5), ([20] * 8, 100, 5), ([70, 70], 30, 2), ([100, 100], 100, 1)],
    )
    async def test_a_key_is_looked_for_among_a_hundred(self, server, scripted_session, pages, place, looked_at):
        """The newest hundred, however few of them a server gives at a time, and none behind them."""
        runs = [RUN | {"id": f"run_{number}"} for number in range(sum(pages))]
        runs[place]["metadata"] = {"request_key": "job-7"}
        found = runs[place] if place < 100 else None
        for count in pages[:looked_at]:
            data, runs = runs[:count], runs[count:]
            server.reply({"data": data, "has_more": True, "last_id": data[-1]["id"]})
        run = await scripted_session.runs.find("thread_1", request_key="job-7")
        assert (run and run.id) == (found and found["id"])
        assert len(server.requests) == looked_at

    async def test_a_second_create_finds_the_first_ones_run(self, session, thread, emulator):
        """Whatever became of it meanwhile."""
        first = await session.runs.create(thread.id, assistant_id="a", request_key="job-7")
        emulator.clock.advance(10)
        second = await session.runs.create(thread.id, assistant_id="a", request_key="job-7")
        assert (second.id, second.status) == (first.id, "completed")
        assert len(await session.runs.list(thread.id).collect()) == 1

    async def test_a_lost_answer_is_looked_up(self, server, scripted_session):
        """One POST, and the run that exists."""
        server.reply({"data": [], "has_more": False})
        server.hang_up()
        server.reply({"data": [], "has_more": False}, times=2)
        server.reply({"data": [RUN | {"metadata": {"request_key": "job-7"}}], "has_more": False})
        run = await scripted_session.runs.create("thread_1", assistant_id="a", request_key="job-7")
        assert run.id == "run_1"
        assert [request.method for request in server.requests] == ["GET", "POST", "GET", "GET", "GET"]

    async def test_a_search_that_fails_leaves_it_unknown(self, server, scripted_session):
        """What broke the create is told, not what broke the search."""
        server.reply({"data": [], "has_more": False})
        server.hang_up()
        server.reply({"error": {"message": "not now"}}, 400)
        with pytest.raises(RunCreationUnknown) as caught:
            await scripted_session.runs.create("thread_1", assistant_id="a", request_key="job-7")
        assert isinstance(caught.value.__cause__, ConnectionLost)

    async def test_a_run_that_is_not_found_stays_unknown(self, server, scripted_session):
        """After three searches; later the error itself can look again."""
        server.reply({"data": [], "has_more": False})
        server.hang_up()
        server.reply({"data": [], "has_more": False}, times=3)
        with pytest.raises(RunCreationUnknown) as caught:
            await scripted_session.runs.create("thread_1", assistant_id="a", request_key="job-7")
        assert caught.value.request_key == "job-7"
        assert len(server.requests) == 5
        server.reply({"data": [RUN | {"metadata": {"request_key": "job-7"}}], "has_more": False})
        assert (await caught.value.resolve(scripted_session)).id == "run_1"
        with pytest.raises(ValueError, match="cannot be told from others"):
            RunCreationUnknown("x", thread_id="thread_1").resolve(scripted_session)

    @pytest.mark.parametrize("key", [None, "", 5, "k" * 513])
    async def test_a_key_that_no_run_can_have_is_not_searched_for(self, session, emulator, key):
        """Least of all None: the newest run without a key is not the one that was meant."""
        with pytest.raises(ValueError, match="request_key must be a string of 1 to 512 characters"):
            await session.runs.find("thread_1", request_key=key)
        assert emulator.requests == []

    @pytest.mark.parametrize("key", ["", 5, "k" * 513])
    async def test_a_key_that_is_none(self, session, emulator, key):
        """1 to 512 characters, as metadata has it."""
        with pytest.raises(ValueError, match=r"request_key must be|metadata keys"):
            await session.runs.create("thread_1", assistant_id="a", request_key=key)
        assert emulator.requests == []


class TestIfActive:
    """What a create does when the thread is busy."""

    async def test_waits_and_then_creates(self, session, run, turning):
        """The first run goes to its end."""
        second = await session.runs.create(run.thread_id, assistant_id="a", if_active="wait")
        assert (await session.runs.retrieve(run.thread_id, run.id)).status == "completed"
        assert second.id != run.id

    async def test_cancels_and_then_creates(self, session, run, turning):
        """The first run is cancelled."""
        second = await session.runs.create(run.thread_id, assistant_id="a", if_active="cancel")
        assert (await session.runs.retrieve(run.thread_id, run.id)).status == "cancelled"
        assert second.id != run.id

    @pytest.mark.parametrize("status", ["completed", "failed", "expired"])
    async def test_the_active_run_ends_by_itself(self, server, scripted_session, status):
        """One that ended before it could be cancelled is as good as cancelled."""
        server.reply({"error": {"message": "Thread thread_1 already has an active run run_9."}}, 400)
        server.reply({"error": {"message": f"Cannot cancel run with status '{status}'."}}, 400)
        server.reply(RUN | {"id": "run_9", "status": status})
        server.reply(RUN)
        made = await scripted_session.runs.create("thread_1", assistant_id="a", if_active="cancel")
        assert made.id == "run_1"
        assert [request.target.split("/")[-1] for request in server.requests] == ["runs", "cancel", "run_9", "runs"]

    async def test_gives_up_with_the_refusal(self, session, run, emulator):
        """When the time is up, the active run is named, and nothing more is sent."""
        session._transport.sleep = asyncio.sleep
        with pytest.raises(ActiveRunError) as caught:
            await session.runs.create(run.thread_id, assistant_id="a", if_active="wait", timeout=0.1)
        assert caught.value.run_id == run.id
        creates = [path for method, path in emulator.requests if method == "POST" and path.endswith("/runs")]
        assert len(creates) == 2  # The active run's own, and the one that was refused.

    async def test_does_not_race_for_ever(self, server, scripted_session):
        """Where others are always faster, three of them are outlasted, and the next is what is told."""
        busy = {"error": {"message": "Thread thread_1 already has an active run run_1."}}
        for _ in range(3):
            server.reply(busy, 400)
            server.reply(RUN | {"status": "completed"})
        server.reply(busy, 400)
        with pytest.raises(ActiveRunError):
            await scripted_session.runs.create("thread_1", assistant_id="a", if_active="wait")
        assert len(server.requests) == 7

    @pytest.mark.parametrize("if_active", ["wait", "cancel"])
    async def test_an_active_run_without_a_name(self, server, scripted_session, if_active):
        """Nobody can wait for it or end it, so the refusal is raised."""
        server.reply({"error": {"message": "Thread thread_1 already has an active run."}}, 400)
        with pytest.raises(ActiveRunError) as caught:
            await scripted_session.runs.create("thread_1", assistant_id="a", if_active=if_active)
        assert caught.value.run_id is None
        assert len(server.requests) == 1

    async def test_a_word_that_is_none(self, session, emulator):
        """Three words."""
        with pytest.raises(ValueError, match="if_active must be"):
            await session.runs.create("thread_1", assistant_id="a", if_active="ignore")
        assert emulator.requests == []


class TestLostAnswers:
    """Cancel and submit are carried out once; where the answer is lost, the run is read to see."""

    async def test_a_cancel_that_arrived(self, server, scripted_session):
        """The run says so; it is not sent again."""
        server.hang_up()
        server.reply(RUN | {"status": "cancelling"})
        assert (await scripted_session.runs.cancel("thread_1", "run_1")).status == "cancelling"
        assert [request.method for request in server.requests] == ["POST", "GET"]

    async def test_a_cancel_that_did_not_arrive(self, server, scripted_session, naps):
        """The run goes on, so it is sent again after a while; at most three times."""
        server.hang_up()
        server.reply(RUN)
        server.reply(RUN | {"status": "cancelling"})
        assert (await scripted_session.runs.cancel("thread_1", "run_1")).status == "cancelling"
        for _ in range(3):
            server.hang_up()
            server.reply(RUN)
        with pytest.raises(ConnectionLost):
            await scripted_session.runs.cancel("thread_1", "run_1")
        assert [request.method for request in server.requests] == ["POST", "GET", "POST"] + ["POST", "GET"] * 3
        assert naps == [0.5, 0.5, 1.0]

    async def test_a_second_cancel_that_is_refused(self, server, scripted_session, naps):
        """The run decides: if it neither stopped nor stops, the refusal is raised."""
        server.hang_up()
        server.reply(RUN)
        server.reply({"error": {"message": "not now"}}, 400)
        for _ in range(4):  # A read may lag behind.
            server.reply(RUN)
        with pytest.raises(BadRequestError, match="not now"):
            await scripted_session.runs.cancel("thread_1", "run_1")
        assert naps == [0.5, 0.5, 1.0, 2.0]

    @pytest.mark.parametrize(("sent", "error"), [(1, ConnectionLost), (2, BadRequestError)])
    async def test_time_is_up_behind_a_lost_cancel(self, server, scripted_session, sent, error):
        """What became of the last attempt is told then, and nothing more is sent."""

        async def nap(seconds):
            await asyncio.sleep(seconds if len(server.requests) >= 2 * sent else 0)

        scripted_session._transport.sleep = nap
        server.hang_up()
        server.reply(RUN)
        server.reply({"error": {"message": "not now"}}, 400)
        server.reply(RUN)
        with pytest.raises(error):
            await scripted_session.runs.cancel("thread_1", "run_1", timeout=0.3)
        assert [request.method for request in server.requests] == ["POST", "GET"] * sent

    async def test_a_cancel_that_cannot_be_sent_again(self, server, open_session):
        """The loss of the first is told, and not that there was no time for a second."""
        keys = iter(["first", "second"])

        async def provide():
            key = next(keys, None) or await asyncio.Event().wait()
            return SimpleNamespace(token=key, expires_on=0)

        session = await open_session(server, api_key=provide)
        server.hang_up()
        server.reply(RUN)
        with pytest.raises(ConnectionLost):
            await session.runs.cancel("thread_1", "run_1", timeout=0.3)
        assert [request.method for request in server.requests] == ["POST", "GET"]

    async def test_a_second_cancel_that_is_refused_to_the_caller(self, server, scripted_session):
        """That tells nothing of the first, and is raised at once."""
        server.hang_up()
        server.reply(RUN)
        server.reply({"error": {"message": "not you"}}, 403)
        with pytest.raises(PermissionDeniedError, match="not you"):
            await scripted_session.runs.cancel("thread_1", "run_1")
        assert [request.method for request in server.requests] == ["POST", "GET", "POST"]

    async def test_outputs_that_arrived(self, server, scripted_session):
        """The run waits for them no more."""
        server.hang_up()
        server.reply(RUN)
        outputs = [{"tool_call_id": "call_1", "output": "x"}]
        run = await scripted_session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=outputs)
        assert run.status == "queued"
        assert [request.method for request in server.requests] == ["POST", "GET"]

    async def test_outputs_that_led_to_the_next_action(self, server, scripted_session):
        """A run that by then asks for other outputs has taken these; one that asks for these has not."""

        def asking(id):
            call = {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
            return RUN | {"status": "requires_action", "required_action": action}

        outputs = [{"tool_call_id": "call_1", "output": "x"}]
        server.hang_up()
        server.reply(asking("call_1"))
        server.hang_up()
        server.reply(asking("call_2"))
        run = await scripted_session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=outputs)
        assert [call.id for call in run.tool_calls] == ["call_2"]
        assert [request.method for request in server.requests] == ["POST", "GET"] * 2


class TestWaitAll:
    """`wait_all`: many at once."""

    async def test_gives_each_as_it_ends(self, session, emulator, turning):
        """Those that cannot be read come with their error, and stop no other."""
        threads = [await session.threads.create() for _ in range(3)]
        runs = [await session.runs.create(thread.id, assistant_id="a") for thread in threads]
        waits = [*runs, (threads[0].id, "run_nope")]
        ended = {waited.run_id: waited async for waited in session.runs.wait_all(waits, timeout=60)}
        assert {ended[run.id].run.status for run in runs} == {"completed"}
        assert isinstance(ended["run_nope"].error, NotFoundError)
        assert ended["run_nope"].thread_id == threads[0].id

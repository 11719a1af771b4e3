"""Waiting for many runs at once, and what a wait leaves behind."""

import asyncio
from itertools import pairwise

import attrs
import pytest

from asyncruns import (
    AuthenticationError,
    ConnectionLost,
    InvalidIdError,
    NotFoundError,
    ProtocolError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    WaitTimeout,
)
from asyncruns._run_states import rests
from asyncruns._waiting import _STARTS_PER_TURN, Deadline, as_they_rest
from asyncruns.emulator import Script


@pytest.fixture
def turning(session, emulator):
    """Let naps turn the emulator's clock a little, so that runs move while waits sleep."""

    async def nap(seconds):
        emulator.clock.advance(0.01)
        await asyncio.sleep(0)

    session._transport.sleep = nap


async def begin(session, emulator, *seconds):
    """Return runs that stay in progress for so many seconds each."""
    runs = []
    for each in seconds:
        thread = await session.threads.create()
        emulator.script(Script(seconds={"queued": 0, "in_progress": each}))
        runs.append(await session.runs.create(thread.id, assistant_id="asst_1"))
    return runs


@pytest.fixture
def quiet(own_tasks):
    """Return a check that no task and no request is left."""

    async def check(session, tasks):
        for _ in range(200):
            if own_tasks() == tasks and not session._transport._http.connector._acquired:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(own_tasks() - tasks)

    return check


RUNNING = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": "in_progress"}
DOWN = {"error": {"message": "boom"}}


class TestTrouble:
    """`wait` while the server is in trouble."""

    async def wait(self, server, open_session, naps, *, timeout=60, poll_interval=None):
        """Wait for the run, each read being tried once."""
        session = await open_session(server, retry=RetryPolicy(max_attempts=1))

        async def nap(seconds):
            naps.append(seconds)

        session._transport.sleep = nap
        return await session.runs.wait("thread_1", "run_1", timeout=timeout, poll_interval=poll_interval)

    async def test_that_passes_is_waited_out(self, server, open_session):
        """Once the run was seen, a server that is down, away or busy for a while does not end the wait."""
        naps = []
        server.reply(RUNNING)
        server.reply(DOWN, 503)
        server.hang_up(1)
        server.reply(DOWN, 429, headers={"Retry-After": "30"})
        server.reply({**RUNNING, "status": "completed"})
        assert (await self.wait(server, open_session, naps)).status == "completed"
        assert len(server.requests) == 5
        assert naps[-1] == pytest.approx(30, abs=6)
        assert max(naps[:-1]) < 3

    async def test_that_lasts_is_asked_after_more_and_more_seldom(self, server, open_session):
        """The longer a server is down, the longer the waits between two reads, up to ten seconds and a tenth."""
        naps = []
        server.reply(RUNNING)
        server.reply(DOWN, 503, times=12)
        server.reply({**RUNNING, "status": "completed"})
        await self.wait(server, open_session, naps)
        assert naps[:8] == sorted(set(naps[:8]))
        assert naps[-1] == naps[-2] == pytest.approx(10.5)

    @pytest.mark.parametrize(
        ("status", "error"), [(503, ServerError), (404, NotFoundError), (401, AuthenticationError)]
    )
    async def test_at_the_first_read_ends_the_wait(self, server, open_session, status, error):
        """A wait for a run that cannot be read at all fails at once."""
        server.reply(DOWN, status)
        with pytest.raises(error):
            await self.wait(server, open_session, [])
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (404, DOWN, NotFoundError),
            (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, RateLimitError),
            (200, {"id": "run_2"}, ProtocolError),
        ],
    )
    async def test_that_does_not_pass_ends_the_wait(self, server, open_session, status, body, error):
        """A run that was deleted, a quota that is used up, and an answer of another kind end the wait at once."""
        server.reply(RUNNING)
        server.reply(body, status)
        with pytest.raises(error):
            await self.wait(server, open_session, [])
        assert len(server.requests) == 2

    async def test_that_does_not_pass_is_told_at_the_end_too(self, server, scripted_session):
        """A refusal that comes as the time is up is raised, and not that the run did not come to rest."""

        async def ask(*asked):
            try:
                return await waiter.reader.ask(*asked)
            finally:
                deadline.when = asyncio.get_running_loop().time()

        waiter, deadline = scripted_session.runs._waiter("thread_1", "run_1"), Deadline(60)
        server.reply(DOWN, 404)
        with pytest.raises(NotFoundError):
            await attrs.evolve(waiter, reader=attrs.evolve(waiter.reader, ask=ask)).rest(deadline, rests)

    async def test_makes_no_wait_longer_than_its_timeout(self, server, open_session):
        """Whatever the caller's poll interval is, and whatever the server asks for."""
        naps = []
        server.reply(RUNNING)
        server.reply(DOWN, 429, headers={"Retry-After": "900"})
        server.reply({**RUNNING, "status": "completed"})
        await self.wait(server, open_session, naps, timeout=5, poll_interval=60)
        assert len(naps) == 2
        assert max(naps) <= 5

    async def test_until_the_end_is_the_reason(self, server, open_session):
        """A wait whose time is up while the server is down carries the run as last seen, and comes from the failure."""
        server.reply(RUNNING)
        server.reply(DOWN, 503, times=9999)
        session = await open_session(server, retry=RetryPolicy(max_attempts=1))

        async def nap(_):
            await asyncio.sleep(0.01)

        session._transport.sleep = nap
        with pytest.raises(WaitTimeout) as caught:
            await session.runs.wait("thread_1", "run_1", timeout=0.2)
        assert caught.value.run.status == "in_progress"
        assert isinstance(caught.value.__cause__, ServerError)


class TestWaitAll:
    """`wait_all`."""

    async def test_gives_them_in_the_order_in_which_they_end(self, session, emulator, turning):
        """The first to end comes first, however they were given: as runs or as pairs of ids."""
        slow, quick, middle = await begin(session, emulator, 9.0, 0.5, 3.0)
        waits = [slow, (quick.thread_id, quick.id), middle]
        ended = [waited async for waited in session.runs.wait_all(waits, timeout=60)]
        assert [waited.run_id for waited in ended] == [quick.id, middle.id, slow.id]
        assert [waited.thread_id for waited in ended] == [quick.thread_id, middle.thread_id, slow.thread_id]
        assert [(waited.run.status, waited.error) for waited in ended] == [("completed", None)] * 3

    @pytest.mark.parametrize("given", ["run_1", ("thread_1",), None])
    async def test_of_something_else(self, session, emulator, given):
        """What is neither a run nor a pair of ids is refused before anything is sent."""
        with pytest.raises(TypeError, match="must be a Run or a pair of thread id and run id"):
            _ = [waited async for waited in session.runs.wait_all([("thread_1", "run_1"), given], timeout=1)]
        assert emulator.requests == []

    async def test_of_nothing(self, session, emulator):
        """No runs give nothing, at once."""
        assert [waited async for waited in session.runs.wait_all([], timeout=1)] == []
        assert emulator.requests == []

    async def test_errors_are_given(self, server, scripted_session):
        """Each error belongs to its run and ends no other wait: a status, a lost connection, an id that is none."""
        server.reply({"error": {"message": "who?"}}, 404)
        waits = [("thread_1", "run_1"), ("thread_1", "../run")]
        ended = {waited.run_id: waited async for waited in scripted_session.runs.wait_all(waits, timeout=5)}
        assert isinstance(ended["run_1"].error, NotFoundError)
        assert isinstance(ended["../run"].error, InvalidIdError)
        assert [waited.run for waited in ended.values()] == [None, None]
        server.hang_up(times=3)
        (waited,) = [waited async for waited in scripted_session.runs.wait_all(waits[:1], timeout=5)]
        assert isinstance(waited.error, ConnectionLost)

    async def test_late_runs_are_given_too(self, session, emulator):
        """At the timeout each run that does not rest is given with its `WaitTimeout`, those that do with themselves."""
        late, quick = await begin(session, emulator, 9.0, 0.0)
        emulator.clock.advance(0.1)
        waits = session.runs.wait_all([late, quick], timeout=0.1)
        ended = [waited async for waited in waits]
        assert [waited.run_id for waited in ended] == [quick.id, late.id]
        assert isinstance(ended[1].error, WaitTimeout)
        assert ended[1].error.run.status == "in_progress"

    async def test_late_runs_may_be_cancelled(self, session, emulator):
        """With `cancel_on_timeout` they are asked to stop."""
        runs = await begin(session, emulator, 9.0, 9.0)
        ended = [each async for each in session.runs.wait_all(runs, timeout=0.05, cancel_on_timeout=True)]
        assert [waited.error.run.status for waited in ended] == ["cancelling"] * 2

    async def test_leaving_early_ends_the_waits(self, session, emulator, turning, own_tasks, quiet):
        """Who leaves ends the other waits, and the runs go on."""
        runs = await begin(session, emulator, 0.1, *[500.0] * 20)
        tasks = own_tasks()
        waits = session.runs.wait_all(runs, timeout=60, poll_interval=0.01)
        async for waited in waits:
            assert waited.run_id == runs[0].id
            break
        await waits.aclose()
        await quiet(session, tasks)
        assert {(await session.runs.retrieve(run.thread_id, run.id)).status for run in runs[1:]} <= {"in_progress"}

    async def test_being_cancelled_ends_the_waits(self, session, emulator, own_tasks, quiet):
        """Who is cancelled while waiting leaves nothing behind."""

        async def wait_for_all():
            return [each async for each in session.runs.wait_all(runs, timeout=60)]

        runs = await begin(session, emulator, *[500.0] * 20)
        tasks = own_tasks()
        task = asyncio.ensure_future(wait_for_all())
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await quiet(session, tasks)

    @pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"timeout": 1, "poll_interval": 0}])
    async def test_settings_that_are_none(self, session, emulator, options):
        """Wrong arguments are raised and not given, and nothing is sent."""
        with pytest.raises(ValueError, match=r"timeout|poll_interval"):
            await anext(session.runs.wait_all([("thread_1", "run_1")], **options))
        assert emulator.requests == []

    async def test_more_waits_than_connections(self, emulator, open_session, session):
        """Many waits share few connections, each gets its turn, and all end."""
        runs = await begin(session, emulator, *[0.01] * 60)
        small = await open_session(emulator, max_connections=2)

        async def nap(seconds):
            emulator.clock.advance(0.001)
            await asyncio.sleep(0)

        small._transport.sleep = nap
        ended = [each.run.status async for each in small.runs.wait_all(runs, timeout=30)]
        assert ended == ["completed"] * 60

    async def test_other_calls_take_their_turn(self, emulator, open_session, session, own_tasks, quiet):
        """However many wait and read, a call of another kind gets the next free connection in its turn."""
        runs = await begin(session, emulator, *[500.0] * 60)
        small = await open_session(emulator, max_connections=2)
        small._transport.sleep = lambda seconds: asyncio.sleep(0)
        tasks = own_tasks()

        async def wait_for_all():
            return [each async for each in small.runs.wait_all(runs, timeout=60, poll_interval=0.001)]

        waiting = asyncio.ensure_future(wait_for_all())
        await asyncio.sleep(0.05)
        before = emulator.request_count
        assert (await small.threads.create()).id
        assert emulator.request_count - before <= 60 + 2 + 1
        waiting.cancel()
        await asyncio.wait([waiting])
        await quiet(small, tasks)


class TestCancelOnTimeout:
    """What a wait does at its end."""

    @pytest.mark.parametrize("status", [401, 500])
    async def test_a_cancel_that_fails(self, server, scripted_session, status):
        """If the run cannot be cancelled either, the wait still ends as what it is, with the run as last seen."""
        scripted_session._transport.sleep = asyncio.sleep
        server.reply({"id": "run_1", "thread_id": "thread_1", "status": "in_progress"})
        server.reply({"error": {"message": "broke"}}, status, times=20)
        waits = scripted_session.runs.wait("thread_1", "run_1", timeout=0.05, poll_interval=9, cancel_on_timeout=True)
        with pytest.raises(WaitTimeout) as caught:
            await waits
        assert caught.value.run.status == "in_progress"
        assert [request.method for request in server.requests[:2]] == ["GET", "POST"]

    async def test_a_cancel_without_a_token(self, server, open_session):
        """Also where the caller's own token provider fails."""
        tokens = iter(["first"])

        async def provide():
            try:
                return next(tokens)
            except StopIteration:
                raise OSError("the identity service is down") from None

        session = await open_session(server, api_key=provide)
        session._transport.sleep = asyncio.sleep
        server.reply({"id": "run_1", "thread_id": "thread_1", "status": "in_progress"})
        server.reply({"error": {"message": "expired"}}, 401)
        with pytest.raises(WaitTimeout):
            await session.runs.wait("thread_1", "run_1", timeout=0.05, poll_interval=9, cancel_on_timeout=True)
        assert [request.method for request in server.requests] == ["GET", "POST"]

    async def test_being_cancelled_is_no_timeout(self, session, emulator):
        """A wait that is cancelled asks the server for nothing more."""
        (run,) = await begin(session, emulator, 9.0)
        waits = session.runs.wait(run.thread_id, run.id, timeout=60, cancel_on_timeout=True)
        task = asyncio.ensure_future(waits)
        await asyncio.sleep(0.03)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not [path for _, path in emulator.requests if path.endswith("/cancel")]


async def test_an_error_of_one_wait_ends_all():
    """What is not an answer about one run (a bug, say) is raised, and the other waits are cancelled."""

    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def stay():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stay")

    ended = []
    with pytest.raises(ZeroDivisionError):
        _ = [each async for each in as_they_rest([stay(), fail(), stay()])]
    assert ended == ["stay", "stay"]


async def test_others_have_the_loop_while_thousands_begin():
    """Between two turns of another task no more than a hundred waits begin, and none is left out or begun twice."""

    async def begin(number):
        begun.append(number)
        await asyncio.sleep(0.01)
        return number

    async def look():
        while True:
            seen.append(len(begun))
            await asyncio.sleep(0)

    begun, seen = [], []
    looking = asyncio.create_task(look())
    ended = [each async for each in as_they_rest(begin(number) for number in range(1030))]
    looking.cancel()
    assert sorted(ended) == list(range(1030)) == begun
    assert max(later - sooner for sooner, later in pairwise(seen)) <= _STARTS_PER_TURN


async def test_leaving_while_they_begin():
    """Whoever is cancelled then leaves no wait behind, neither running nor never awaited."""
    waits = (asyncio.sleep(60) for _ in range(1000))
    others = len(asyncio.all_tasks())
    task = asyncio.ensure_future(anext(as_they_rest(waits)))
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) > others + 50
    task.cancel()
    await asyncio.wait([task])
    assert len(asyncio.all_tasks()) == others

"""Requests take turns, and everybody waits when the server says so."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asyncruns import (
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    RateLimit,
    RateLimitError,
    RetryPolicy,
    RunCreationUnknown,
    RunStream,
    Session,
    Toolbox,
    WaitTimeout,
)
from asyncruns._rate_limit import parse_reset, spread

RUN = {"id": "run_1", "thread_id": "thread_1", "status": "completed", "created_at": 1}


class Clock:
    """The event loop's time, moved by sleeping alone."""

    def __init__(self, limit: RateLimit, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.naps: list[float] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        limit.sleep = self.sleep

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[RateLimit], Clock]:
    """Give the test a way to put a limit on a clock of its own."""
    return lambda limit: Clock(limit, monkeypatch)


async def test_turns_are_evenly_spread(clocked: Callable[[RateLimit], Clock]) -> None:
    """With 60 requests a minute, each turn comes a second after the one before."""
    limit = RateLimit(60)
    clock = clocked(limit)
    for _ in range(4):
        await limit.turn()
    assert clock.naps == [1.0, 1.0, 1.0]


async def test_no_limit_gives_every_turn_at_once(clocked: Callable[[RateLimit], Clock]) -> None:
    """Without a number and without trouble nobody waits."""
    limit = RateLimit()
    clock = clocked(limit)
    for _ in range(100):
        await limit.turn()
        limit.note(200, {"x-ratelimit-remaining-requests": "7"}, 0.0)
    assert clock.naps == []


async def test_refusal_makes_everybody_wait(clocked: Callable[[RateLimit], Clock]) -> None:
    """A 429 holds back the next request of anybody as long as the server asks, and spreads those after it."""
    limit = RateLimit()
    clock = clocked(limit)
    limit.note(429, {"retry-after": "7"}, 0.0)
    await limit.turn()
    assert clock.naps == [7.0]
    await limit.turn()
    assert clock.naps[1] == pytest.approx(0.05)
    assert limit.refusals == 1
    assert limit.closed_until == 1007.0


async def test_intervals_widen_and_narrow(clocked: Callable[[RateLimit], Clock]) -> None:
    """Each refusal doubles the interval, and success brings it back to nothing in the end."""
    limit = RateLimit()
    clock = clocked(limit)
    for _ in range(4):
        limit.note(429, {}, 0.0)
        await limit.turn()
    await limit.turn()
    assert clock.naps == [1.0, 1.0, 1.0, 1.0, pytest.approx(0.4)]
    limit.note(200, {}, 0.0)
    await limit.turn()
    await limit.turn()
    assert clock.naps[-1] == pytest.approx(0.98 * 0.4)  # A little at a time.
    for _ in range(200):
        limit.note(200, {}, 0.0)
    await limit.turn()
    clock.naps.clear()
    await limit.turn()
    assert clock.naps == []


async def test_intervals_widen_to_five_seconds(clocked: Callable[[RateLimit], Clock]) -> None:
    """However often the server refuses, a request is sent every five seconds, if it does not ask for more."""
    limit = RateLimit()
    clock = clocked(limit)
    for _ in range(30):
        limit.note(429, {}, 0.0)
        await limit.turn()
    await limit.turn()
    assert clock.naps[-1] == pytest.approx(5.0)


@pytest.mark.parametrize("wait", ["0", "3"])
async def test_refusal_hurries_nobody(clocked: Callable[[RateLimit], Clock], wait: str) -> None:
    """A server that lets everybody wait for less than the pace does not make turns come sooner."""
    limit = RateLimit(6)
    clock = clocked(limit)
    await limit.turn()
    limit.note(429, {"retry-after": wait}, 0.0)
    await limit.turn()
    none_left = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": wait}
    limit.note(200, none_left, 0.0)
    await limit.turn()
    assert sum(clock.naps) >= 20.0


async def test_refusals_of_one_moment_count_once(clocked: Callable[[RateLimit], Clock]) -> None:
    """Of forty requests under way that are all refused, one widens the interval: they were sent before it was known."""
    limit = RateLimit()
    clock = clocked(limit)
    for _ in range(40):
        limit.note(429, {"retry-after": "2"}, 0.0)
    await limit.turn()
    await limit.turn()
    assert clock.naps == [2.0, pytest.approx(0.05)]
    assert limit.refusals == 40


async def test_nothing_left_waits_for_the_reset(clocked: Callable[[RateLimit], Clock]) -> None:
    """A server that says none is left and when it begins anew is believed."""
    limit = RateLimit()
    clock = clocked(limit)
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}
    limit.note(200, headers, 0.0)
    await limit.turn()
    assert clock.naps == [90.0]
    limit.note(200, {**headers, "x-ratelimit-reset-requests": "later"}, 0.0)
    await limit.turn()
    assert clock.naps == [90.0]


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "gap"),
    [
        (60, 59, 1.0, 0.0),  # Hardly anything is used.
        (60, 31, 29.0, 0.0),
        (60, 30, 30.0, 1.0),  # Half of it: one a second is what comes back.
        (60, 10, 50.0, 5.0),
        (10_000, 2_000, 69_120.0, 34.56),  # The limit of a day.
        (None, 20, 10.0, 0.5),
        (60, 0, 60.0, 0.0),  # Everybody waits for the reset anyway.
    ],
)
def test_remaining_requests_are_spread(limit: int | None, remaining: int, reset: float, gap: float) -> None:
    """Once half of the limit is used, what remains is spread over the time until the reset."""
    assert spread(limit, remaining, reset) == pytest.approx(gap)


class Bucket:
    """A server that refuses: a minute's window, or requests that come back one by one."""

    def __init__(self, limit: int, *, window: bool) -> None:
        self.limit = limit
        self.remaining = float(limit)
        self.window = window
        self.at = 1000.0
        self.refused = 0

    def answer(self, now: float) -> tuple[int, dict[str, str]]:
        """Take a request in at *now* and answer with status and headers."""
        if self.window:
            self.remaining = self.limit if now // 60 > self.at // 60 else self.remaining
        else:
            self.remaining = min(self.limit, self.remaining + (now - self.at) * self.limit / 60)
        self.at = now
        if self.remaining < 1:
            self.refused += 1
            return 429, {"retry-after": "1"}
        self.remaining -= 1
        reset = 60 - now % 60 if self.window else (self.limit - self.remaining) * 60 / self.limit
        told = {"limit": str(self.limit), "remaining": str(int(self.remaining)), "reset": f"{reset:.3f}s"}
        return 200, {f"x-ratelimit-{name}-requests": value for name, value in told.items()}


@pytest.mark.parametrize("window", [True, False], ids=["window", "bucket"])
@pytest.mark.parametrize("limit", [10, 60, 600])
async def test_slows_down_before_it_is_refused(clocked: Callable[[RateLimit], Clock], limit: int, window: bool) -> None:
    """Against a server that counts either way, ten minutes of requests use most of its limit and none is refused."""
    ours, server = RateLimit(), Bucket(limit, window=window)
    clock, sent = clocked(ours), 0
    while clock.now < 1600:
        await ours.turn()
        clock.now += 0.005
        status, headers = server.answer(clock.now)
        ours.note(status, headers, 0.0)
        sent += status == 200
    assert server.refused == 0
    assert sent > 0.85 * 10 * limit


async def test_pace_is_told(clocked: Callable[[RateLimit], Clock]) -> None:
    """The present pace is that of the number given, or slower where the server's headers ask for it."""
    limit = RateLimit(120)
    clocked(limit)
    assert (limit.pace, RateLimit().pace) == (120.0, None)
    told = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "20"}
    limit.note(200, {**told, "x-ratelimit-reset-requests": "40s"}, 0.0)
    assert limit.pace == 30.0
    limit.note(200, {**told, "x-ratelimit-remaining-requests": "-1"}, 0.0)
    assert limit.pace == 30.0
    limit.note(200, {**told, "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1"}, 0.0)
    assert limit.pace == 120.0


async def test_told_pace_is_kept(clocked: Callable[[RateLimit], Clock]) -> None:
    """Turns come at the interval that spreads what the server says remains."""
    limit = RateLimit()
    clock = clocked(limit)
    told = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "10"}
    limit.note(200, {**told, "x-ratelimit-reset-requests": "20s"}, 0.0)
    for _ in range(3):
        await limit.turn()
    assert clock.naps == [2.0, 2.0]


@pytest.mark.parametrize("remaining", ["0", "1"])
async def test_waits_for_a_reset_are_bounded(clocked: Callable[[RateLimit], Clock], remaining: str) -> None:
    """A server that begins anew in hours makes nobody wait for more than a quarter of an hour at a time."""
    limit = RateLimit()
    clock = clocked(limit)
    told = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": remaining}
    limit.note(200, {**told, "x-ratelimit-reset-requests": "6h0m0s"}, 0.0)
    for _ in range(2):
        await limit.turn()
    assert clock.naps == [900.0]


async def test_refusal_reaches_those_who_already_wait(clocked: Callable[[RateLimit], Clock]) -> None:
    """Who was waiting for a turn when the refusal came waits for its end as well."""
    limit = RateLimit(60)
    clock = clocked(limit)
    await limit.turn()

    async def nap_and_be_refused(seconds: float) -> None:
        limit.sleep = clock.sleep
        await clock.sleep(seconds)
        limit.note(429, {"retry-after": "10"}, 0.0)

    limit.sleep = nap_and_be_refused
    await limit.turn()
    assert clock.naps == [1.0, 10.0]


async def test_cancelled_callers_take_no_turn_along(clocked: Callable[[RateLimit], Clock]) -> None:
    """Whoever stops waiting leaves the turn to the next in the line, who came first of those that are left."""
    limit = RateLimit(60)
    clock = clocked(limit)
    await limit.turn()
    asleep, wake, took = asyncio.Event(), asyncio.Event(), list[int]()

    async def nap(seconds: float) -> None:
        asleep.set()
        await wake.wait()
        await clock.sleep(seconds)

    async def take(number: int) -> None:
        await limit.turn()
        took.append(number)

    limit.sleep = nap
    callers = [asyncio.ensure_future(take(number)) for number in range(100)]
    await asleep.wait()
    for caller in callers[:97]:  # Also the first of the line, who sleeps.
        caller.cancel()
    await asyncio.wait(callers[:97])
    wake.set()
    await asyncio.gather(*callers[97:])
    assert took == [97, 98, 99]
    assert clock.naps == [1.0, 1.0, 1.0]


def test_limit_outlives_an_event_loop() -> None:
    """A limit serves one event loop after another, also where callers of both stood in line."""
    limit = RateLimit(60_000)

    async def three() -> None:
        await asyncio.gather(*(limit.turn() for _ in range(3)))

    asyncio.run(three())
    asyncio.run(three())


@pytest.mark.parametrize("wrong", [0, -1, float("inf"), 10**400, True, "60"])
def test_wrong_numbers_are_refused(wrong: object) -> None:
    """A limit that is no number above 0 is a wrong setting."""
    with pytest.raises(ConfigurationError, match="requests_per_minute"):
        RateLimit(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("76ms", 0.076),
        ("1s", 1.0),
        ("1h2m3s", 3723.0),
        ("", None),
        ("soon", None),
        ("1.5s", 1.5),
        ("12", 12.0),
    ],
)
def test_reset_is_a_go_duration(text: str, seconds: float | None) -> None:
    """The reset is read as servers write it, and anything else counts as not said."""
    assert parse_reset(text) == seconds


@pytest.mark.parametrize("what", ["wait", "drive"])
async def test_waits_end_in_time_without_a_turn(server, open_session, what) -> None:  # type: ignore[no-untyped-def]
    """A wait whose run cannot be read because everybody waits ends at its own timeout, and takes no turn along."""
    server.reply({**RUN, "status": "queued"})
    limit = RateLimit()
    session = await open_session(server, rate_limit=limit)
    loop = asyncio.get_running_loop()

    async def nap(seconds: float) -> None:
        limit.note(429, {"retry-after": "900"}, 0.0)  # Another call's.

    session._transport.sleep = nap
    began = loop.time()
    with pytest.raises(WaitTimeout, match="queued when last seen"):
        await getattr(session.runs, what)("thread_1", "run_1", *([Toolbox([])] * (what == "drive")), timeout=0.1)
    assert 0.1 <= loop.time() - began < 5
    assert len(server.requests) == 1


OUTPUTS: Any = [{"tool_call_id": "call_1", "output": "x"}]
PAGE = {"object": "list", "data": [], "has_more": False}


async def enter(stream: RunStream) -> None:
    """Do what `async with` does at first."""
    async with stream:
        pass


WRITES: dict[str, Callable[[Session], Awaitable[object]]] = {
    "create": lambda session: session.runs.create("thread_1", assistant_id="a", timeout=0.3),
    "key": lambda session: session.runs.create("thread_1", assistant_id="a", request_key="job", timeout=0.3),
    "submit": lambda session: session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=OUTPUTS, timeout=0.3),
    "cancel": lambda session: session.runs.cancel("thread_1", "run_1", timeout=0.3),
    "and_run": lambda session: session.threads.create_and_run(assistant_id="a", timeout=0.3),
    "and_run_key": lambda session: session.threads.create_and_run(assistant_id="a", request_key="job", timeout=0.3),
    "stream": lambda session: enter(session.runs.stream("thread_1", assistant_id="a", timeout=0.3)),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_nothing_is_sent_after_the_deadline(server, open_session, write) -> None:  # type: ignore[no-untyped-def]
    """Whoever gets no turn within the timeout sends nothing, and is told so."""
    limit = RateLimit()
    session = await open_session(server, rate_limit=limit)
    limit.note(429, {"retry-after": "900"}, 0.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(DeadlineExceeded, match="nothing was sent") as caught:
        await write(session)
    assert 0.3 <= loop.time() - began < 5
    assert caught.value.attempts == 0
    assert server.requests == []


async def test_a_turn_after_the_deadline_is_none(  # type: ignore[no-untyped-def]
    server, open_session, clocked
) -> None:
    """A turn that comes so late because the loop stood still is not used any more."""
    limit = RateLimit()
    session = await open_session(server, rate_limit=limit)
    clocked(limit)
    limit.note(429, {"retry-after": "9"}, 0.0)
    with pytest.raises(DeadlineExceeded, match="nothing was sent"):
        await WRITES["create"](session)
    assert server.requests == []


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_refused_and_no_further_turn(server, open_session, write) -> None:  # type: ignore[no-untyped-def]
    """Where the time is up before a refused request could be sent again, it is known that it was not carried out."""
    if write is WRITES["key"]:
        server.reply(PAGE)
    server.reply({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"})
    limit = RateLimit()
    session = await open_session(server, rate_limit=limit)

    async def nap(_: float) -> None:
        limit.note(429, {"retry-after": "900"}, 0.0)  # Another call's.

    session._transport.sleep = nap
    with pytest.raises(DeadlineExceeded) as caught:
        await write(session)
    assert isinstance(caught.value.__cause__, RateLimitError)
    assert caught.value.attempts == 1


async def test_lost_create_and_no_turn_to_look(server, open_session) -> None:  # type: ignore[no-untyped-def]
    """Where no turn comes to look for the run of a create whose answer was lost, its outcome is unknown."""
    server.reply(PAGE)
    used_up = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "15m"}
    server.reply({"error": {"message": "down"}}, status=500, headers=used_up)
    session = await open_session(server, rate_limit=RateLimit())
    with pytest.raises(RunCreationUnknown):
        await WRITES["key"](session)
    assert len(server.requests) == 2


async def test_lost_cancel_and_no_turn_to_send_it_again(server, open_session) -> None:  # type: ignore[no-untyped-def]
    """Where no turn comes to send again what was lost, the loss is told, and not that nothing was sent."""
    server.hang_up()
    server.reply({**RUN, "status": "in_progress"})
    limit = RateLimit()
    session = await open_session(server, rate_limit=limit)

    async def nap(_: float) -> None:
        limit.note(429, {"retry-after": "900"}, 0.0)  # Another call's.

    session._transport.sleep = nap
    with pytest.raises(ConnectionLost):
        await WRITES["cancel"](session)
    assert [request.method for request in server.requests] == ["POST", "GET"]


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ACTION = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}}
ASKING = {**RUN, "status": "requires_action", "required_action": ACTION}


@pytest.mark.parametrize("listen", [None, lambda _: None], ids=["submits", "streams"])
async def test_drive_ends_in_time_without_a_turn(server, open_session, listen) -> None:  # type: ignore[no-untyped-def]
    """A drive that gets no turn to submit what its tools gave ends at its own timeout, as one that waits does."""
    server.reply(ASKING)
    limit = RateLimit()
    session = await open_session(server, rate_limit=limit)

    async def f() -> str:
        limit.note(429, {"retry-after": "900"}, 0.0)  # Another call's.
        return ""

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(WaitTimeout, match="requires_action when last seen"):
        await session.runs.drive("thread_1", "run_1", Toolbox([f]), timeout=0.3, on_event=listen)
    assert 0.3 <= loop.time() - began < 5
    assert len(server.requests) == 1


@pytest.mark.parametrize("streams", [False, True])
async def test_drive_waits_for_a_turn(server, open_session, streams) -> None:  # type: ignore[no-untyped-def]
    """What a drive submits may wait for its turn as long as the drive, also beyond the session's timeout."""
    server.reply(ASKING)
    server.reply(
        b"data: [DONE]\n\n" if streams else RUN, headers={"Content-Type": "text/event-stream"} if streams else {}
    )
    server.reply(RUN)
    limit = RateLimit()
    limit.sleep = lambda _: asyncio.sleep(0.15)
    session = await open_session(server, rate_limit=limit, timeout=0.1)

    async def f() -> str:
        limit.note(429, {"retry-after": "7"}, 0.0)  # Another call's.
        return ""

    listen = {"on_event": lambda _: None} if streams else {}
    run = await session.runs.drive("thread_1", "run_1", Toolbox([f]), timeout=20, **listen)
    assert run.status == "completed"
    assert [request.method for request in server.requests] == ["GET", "POST", "GET"]


async def test_session_takes_turns_and_listens(server, open_session) -> None:  # type: ignore[no-untyped-def]
    """A session's calls take turns, retries too, and its answers are listened to."""
    server.reply({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "3"})
    server.reply(RUN, times=2)
    limit = RateLimit(600)
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        limit._next = limit.closed_until = 0.0

    limit.sleep = nap
    session = await open_session(server, rate_limit=limit, retry=RetryPolicy(max_attempts=2))
    await session.runs.retrieve("thread_1", "run_1")
    assert limit.refusals == 1
    assert 2.9 < naps[0] <= 3.0
    await session.runs.retrieve("thread_1", "run_1")
    assert len(server.requests) == 3


async def test_renewed_token_takes_a_turn(server, open_session) -> None:  # type: ignore[no-untyped-def]
    """A request that goes out again with a new token is one more of the minute's."""
    server.reply({"error": {"message": "who are you"}}, status=401)
    server.reply(RUN)
    limit = RateLimit(600)
    naps: list[float] = []

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    async def provide() -> str:
        return "token"

    limit.sleep = nap
    session = await open_session(server, api_key=provide, rate_limit=limit)
    await session.runs.retrieve("thread_1", "run_1")
    assert len(server.requests) == 2
    assert naps == [pytest.approx(0.1, abs=0.05)]


@pytest.mark.parametrize("wait", [1.5, 10.0])
async def test_cancelled_caller_takes_no_wait_of_everybody_back(
    clocked: Callable[[RateLimit], Clock], wait: float
) -> None:
    """Who leaves the head of the line after a 429 came gives his turn back, and not the time that all are to wait."""
    limit = RateLimit(60)
    clock = clocked(limit)
    await limit.turn()

    async def nap(_: float) -> None:
        limit.note(429, {"retry-after": str(wait)}, 0.0)
        raise asyncio.CancelledError

    limit.sleep = nap
    with pytest.raises(asyncio.CancelledError):
        await limit.turn()
    limit.sleep = clock.sleep
    await limit.turn()
    assert clock.naps == [wait]


async def test_late_turns_are_made_up_for(clocked: Callable[[RateLimit], Clock]) -> None:
    """A loop that wakes late keeps the pace all the same; one that slept for long does not catch up."""
    limit = RateLimit(60)
    clock = clocked(limit)
    await limit.turn()
    for late in (0.08, 30.0):
        clock.now += 1.0 + late
        await limit.turn()
        await limit.turn()
    assert clock.naps == [pytest.approx(0.92), 1.0]


def test_loops_share_a_limit() -> None:
    """Threads with loops of their own keep the pace together."""
    limit, naps = RateLimit(60), list[float]()

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await asyncio.sleep(0.01)

    async def several() -> None:
        await asyncio.gather(*(limit.turn() for _ in range(3)))

    limit.sleep = nap
    others = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert len(naps) == 5
    assert max(naps) > 3

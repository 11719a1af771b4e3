"""Rows 1 to 15, 31, 32 and 69 of the fault matrix: connections that do not come about, break, or end too early."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import Awaitable
from typing import Any

import aiohttp
import pytest

from asyncruns import (
    ActiveRunError,
    ConflictError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolError,
    RateLimitError,
    RetryPolicy,
    RunCreationUnknown,
    ServerError,
    Session,
    StatusError,
    TruncatedBodyError,
)
from asyncruns.emulator import Emulator

from .bodies import RUN, THREAD, error, run
from .byte_proxy import ByteProxy
from .conftest import Bench, until
from .script_server import (
    Action,
    Exchange,
    ScriptServer,
    answer,
    chunked,
    close,
    dribble,
    hang,
    head,
    reply,
    reset,
    say,
)

RUN_BYTES = json.dumps(run()).encode()


FAR = "https://127.0.0.1:9/v1"


def asked(session: Session, method: str, **options: Any) -> Awaitable[object]:
    """Read a run, or create one."""
    if method == "create":
        return session.runs.create(THREAD, assistant_id="asst_1", **options)
    return session.runs.retrieve(THREAD, RUN, **options)


def closed_port() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("method", ["retrieve", "create"])
async def test_row_01_connect_refused(bench: Bench, method: str) -> None:
    """A refused connection is tried three times, a create too, for nothing was sent."""
    async with bench.session(f"http://127.0.0.1:{closed_port()}/v1") as session:
        failed = await bench.fails(ConnectError, asked(session, method))
    assert failed.attempts == 3
    assert bench.waits == [0.25, 0.5]


async def test_row_01_connect_that_takes_too_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that does not come about in time carried nothing, so a create is tried again."""
    monkeypatch.setattr("asyncruns._transport._TIMEOUT", aiohttp.ClientTimeout(total=None, sock_connect=0.1))
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with bench.session(f"http://127.0.0.1:{full.getsockname()[1]}/v1") as session:
            failed = await bench.fails(ConnectError, session.runs.create(THREAD, assistant_id="asst_1"))
    assert failed.attempts == 3


@pytest.mark.parametrize("then", [close(), reset(), say(b"garbage\r\n\r\n")], ids=["closed", "reset", "garbage"])
@pytest.mark.parametrize("method", ["retrieve", "create"])
async def test_row_01_broken_off_by_a_proxy(bench: Bench, method: str, then: Action) -> None:
    """A connection that breaks off before it stands has carried nothing; a create is tried again, too."""
    async with bench.serve(then) as (proxy, _), bench.session(FAR, proxy=proxy.url) as session:
        failed = await bench.fails(ConnectError, asked(session, method))
        assert failed.attempts == 3 == proxy.count


@pytest.mark.parametrize("through", ["tls", "proxy"])
@pytest.mark.parametrize("method", ["retrieve", "create"])
async def test_row_01_deadline_before_the_connection(bench: Bench, method: str, through: str) -> None:
    """Where the time is up before the connection stands, it is known that nothing was sent."""
    async with bench.serve(hang()) as (server, _):
        url, proxy = (f"https://127.0.0.1:{server.port}/v1", None) if through == "tls" else (FAR, server.url)
        async with bench.session(url, proxy=proxy) as session:
            failed = await bench.fails(DeadlineExceeded, asked(session, method, timeout=0.2))
    assert "was not sent" in str(failed)
    assert isinstance(failed.__cause__, ConnectError)
    assert server.connections == 1


async def test_row_02_accepted_and_never_answered(bench: Bench) -> None:
    """A server that never answers costs exactly the timeout, whatever the retry plan."""
    loop = asyncio.get_running_loop()
    async with bench.serve(hang(), real_sleep=True) as (server, session):
        started = loop.time()
        failed = await bench.fails(DeadlineExceeded, session.runs.retrieve(THREAD, RUN, timeout=0.4))
        assert 0.4 <= loop.time() - started <= 0.5
        assert server.count == 1
    assert isinstance(failed, TimeoutError)
    assert (failed.attempts, failed.request_id) == (1, None)


async def test_row_02_deadline_during_a_backoff(bench: Bench) -> None:
    """The deadline also counts the attempts before: the attempt under way when it passes is the last."""
    loop = asyncio.get_running_loop()
    async with bench.serve(answer(error("later"), 503), hang(), real_sleep=True) as (server, session):
        started = loop.time()
        failed = await bench.fails(DeadlineExceeded, session.runs.retrieve(THREAD, RUN, timeout=0.5))
        assert 0.5 <= loop.time() - started <= 0.6
        assert server.count == 2
    assert failed.attempts == 2


async def test_row_03_fin_before_response(bench: Bench) -> None:
    """A GET whose connection closes unanswered is sent three times in all, those of aiohttp's own counted in."""
    async with bench.serve(close()) as (server, session):
        failed = await bench.fails(ConnectionLost, session.runs.retrieve(THREAD, RUN))
        assert server.count == 3
    assert failed.attempts == 3


async def test_row_04_reset_once(bench: Bench) -> None:
    """A GET that is reset once succeeds with the second request."""
    async with bench.serve(reset(), answer(run())) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        assert server.count == 2


def closes_kept_connections(body: object) -> Action:
    """Answer the first request of each connection and close at the second."""

    async def act(exchange: Exchange) -> None:
        is_second = exchange.request.connection in seen
        seen.add(exchange.request.connection)
        await (close() if is_second else answer(body))(exchange)

    seen: set[int] = set()
    return act


async def test_row_05_keep_alive_race_of_a_get(bench: Bench) -> None:
    """A GET that meets a kept connection being closed is sent once more without a wait."""
    async with bench.serve(closes_kept_connections(run())) as (server, session):
        await session.runs.retrieve(THREAD, RUN)
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        assert server.count == 3
        assert [request.connection for request in server.requests] == [1, 1, 2]
    assert sum(bench.waits) == 0


async def test_rows_01_03_and_05_in_a_session_of_the_callers(bench: Bench) -> None:
    """What aiohttp repeats by itself is counted in, too, where it cannot be switched off."""
    async with aiohttp.ClientSession() as http:
        async with ScriptServer(close()) as server, bench.session(server.url, http=http) as session:
            failed = await bench.fails(ConnectionLost, session.runs.retrieve(THREAD, RUN))
            assert (failed.attempts, server.count) == (3, 3)
        async with bench.session(f"http://127.0.0.1:{closed_port()}/v1", http=http) as session:
            refused = await bench.fails(ConnectError, session.runs.retrieve(THREAD, RUN))
            assert refused.attempts == 3
        bench.waits.clear()
        kept = closes_kept_connections(run())
        async with ScriptServer(kept) as server, bench.session(server.url, http=http) as session:
            for _ in range(2):
                assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
            assert server.count == 3
    assert sum(bench.waits) == 0


async def test_rows_22_and_29_in_a_session_of_the_callers_that_raises(bench: Bench) -> None:
    """A caller's session that raises for refusals by itself does not keep ours from judging them."""
    script = answer(error("slow down"), 429, retry_after=0), answer(run()), answer(error("busy", "conflict"), 409)
    async with (
        aiohttp.ClientSession(raise_for_status=True) as http,
        ScriptServer(*script) as server,
        bench.session(server.url, http=http) as session,
    ):
        assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == RUN
        failed = await bench.fails(ConflictError, session.runs.create(THREAD, assistant_id="asst_1"))
        assert (failed.code, server.count) == ("conflict", 3)


UNSENDABLE: list[dict[str, Any]] = [
    {"headers": {"X-Team": "a\nb"}},
    {"headers": {"Content-Length": "abc"}},
    {"proxy": "http://my..proxy:3128"},
    {"proxy": "abc"},
]


@pytest.mark.parametrize("options", UNSENDABLE)
async def test_a_session_of_the_callers_that_cannot_send(bench: Bench, options: dict[str, Any]) -> None:
    """What aiohttp cannot send leaves nothing open about a create, and is tried once."""
    async with (
        aiohttp.ClientSession(**options) as http,
        ScriptServer(answer(run())) as server,
        bench.session(server.url, http=http) as session,
    ):
        failed = await bench.fails(ConnectError, asked(session, "create"))
        assert "nothing was sent" in str(failed)
        assert (failed.attempts, server.count) == (1, 0)


async def test_a_session_of_the_callers_that_fails_over_the_answer(bench: Bench) -> None:
    """What the caller's own code raises after the request leaves open whether a run was created."""

    async def strict(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        await handler(request)
        raise ValueError("not as agreed")

    async with (
        aiohttp.ClientSession(middlewares=(strict,)) as http,
        ScriptServer(answer(run())) as server,
        bench.session(server.url, http=http) as session,
    ):
        failed = await bench.fails(RunCreationUnknown, asked(session, "create"))
        assert isinstance(failed.__cause__, ProtocolError)
        assert server.count == 1


class Ledger:
    """A server's book of created runs, with ways to lose the answer about one."""

    def __init__(self) -> None:
        self.created = 0

    def lose(self, then: Action) -> Action:
        """Create a run for each POST and then do as told; a GET of a run is answered."""

        async def act(exchange: Exchange) -> None:
            if exchange.request.method == "POST":
                self.created += 1
                await then(exchange)
            else:
                await answer(run())(exchange)

        return act


async def test_row_06_keep_alive_race_of_a_create(bench: Bench) -> None:
    """A create that meets a kept connection being closed is not sent again."""
    async with bench.serve(closes_kept_connections(run())) as (server, session):
        await session.runs.retrieve(THREAD, RUN)
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert [request.method for request in server.requests] == ["GET", "POST"]
    assert failed.thread_id == THREAD
    assert isinstance(failed.__cause__, ConnectionLost)


async def test_row_07_reset_after_the_create_was_processed(bench: Bench) -> None:
    """A create whose answer is reset is sent once, and its outcome is said to be unknown."""
    ledger = Ledger()
    async with bench.serve(ledger.lose(reset())) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert (server.count, ledger.created) == (1, 1)
    assert isinstance(failed.__cause__, ConnectionLost)


async def test_row_08_answer_to_a_create_lost_by_timeout(bench: Bench) -> None:
    """A create whose answer stays away past the deadline is sent once."""
    ledger = Ledger()
    loop = asyncio.get_running_loop()
    async with bench.serve(ledger.lose(hang())) as (server, session):
        started = loop.time()
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1", timeout=0.5))
        assert 0.5 <= loop.time() - started <= 0.6
        assert (server.count, ledger.created) == (1, 1)
    assert isinstance(failed.__cause__, DeadlineExceeded)


async def test_row_08_nothing_was_sent(bench: Bench) -> None:
    """A create whose time runs out before its first attempt, for want of a token, made no run, and says so."""

    async def token() -> str:
        await asyncio.Event().wait()
        return "never"

    async with bench.serve(answer(run()), api_key=token) as (server, session):
        failed = await bench.fails(DeadlineExceeded, session.runs.create(THREAD, assistant_id="asst_1", timeout=0.1))
        assert server.count == 0
    assert failed.attempts == 0


@pytest.mark.parametrize("then", ["hang", "close"])
async def test_row_08_a_broken_off_answer_leaves_its_request_id(bench: Bench, then: str) -> None:
    """Where the headers of the lost answer arrived, the error names the request by the server's own id."""
    begun = head(content_length=500, x_request_id="req_8") + b'{"id": '
    async with bench.serve(say(begun, then)) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1", timeout=0.5))
        assert server.count == 1
    assert failed.request_id == "req_8"


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_row_09_create_processed_and_answered_5xx(bench: Bench, status: int) -> None:
    """A create answered with a 5xx may have been carried out: one POST, and the outcome is unknown."""
    ledger = Ledger()
    lost = answer(error("it broke"), status, x_request_id="req_9")
    async with bench.serve(ledger.lose(lost)) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert (server.count, ledger.created) == (1, 1)
    assert isinstance(failed.__cause__, ServerError)
    assert failed.request_id == "req_9"


async def test_row_10_create_answered_503(bench: Bench) -> None:
    """A 503 is ambiguous even with Retry-After: one POST."""
    async with bench.serve(answer(error("busy"), 503, retry_after=1), answer(run())) as (server, session):
        await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 1
    assert bench.waits == []


async def test_row_10_create_answered_408(bench: Bench) -> None:
    """A 408 says that the server waited in vain, for what it does not say: one POST, and the outcome is unknown."""
    async with bench.serve(answer(error("too slow"), 408), answer(run())) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 1
    assert isinstance(failed.__cause__, StatusError)
    assert failed.__cause__.status == 408


async def test_row_10_create_answered_429(bench: Bench) -> None:
    """A 429 says that nothing was begun, so the create is sent again."""
    async with bench.serve(answer(error("slow down"), 429), answer(run())) as (server, session):
        assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == RUN
        assert [request.method for request in server.requests] == ["POST", "POST"]


async def test_row_10_create_answered_429_for_ever(bench: Bench) -> None:
    """After three refusals the refusal itself is raised: that no run exists is known."""
    async with bench.serve(answer(error("slow down"), 429)) as (server, session):
        await bench.fails(RateLimitError, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 3


async def test_row_10_repetition_that_was_asked_for(bench: Bench) -> None:
    """With `repeat_ambiguous` a create answered with 503 is sent again."""
    script = answer(error("busy"), 503), answer(run())
    async with bench.serve(*script, retry=RetryPolicy(repeat_ambiguous=True)) as (server, session):
        assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == RUN
        assert server.count == 2


@pytest.mark.parametrize("is_reset", [True, False])
async def test_rows_07_and_11_on_the_emulator(bench: Bench, emulator: Emulator, is_reset: bool) -> None:
    """After a create whose answer was lost there is one run, and another create is told which."""
    emulator._gate.api_key = bench.key
    (thread_id,) = emulator.fill(threads=1, runs_per_thread=0)
    thread = emulator._store.threads.get(thread_id)
    assert thread is not None
    async with (
        ByteProxy(emulator._bound_port, cut_after=0, is_reset=is_reset, cuts=1) as proxy,
        bench.session(proxy.url) as session,
    ):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(thread_id, assistant_id="asst_1"))
        assert (emulator.request_count, len(thread.runs)) == (1, 1)
        (run_of_the_lost_call,) = thread.runs.items()
        refused = await bench.fails(ActiveRunError, session.runs.create(thread_id, assistant_id="asst_1"))
        assert (emulator.request_count, len(thread.runs)) == (2, 1)
    assert (failed.thread_id, failed.request_key) == (thread_id, None)
    assert refused.run_id == run_of_the_lost_call.id


PACKED = gzip.compress(RUN_BYTES)
CUT_BODIES = {
    "row_12_content_length_too_long": head(content_length=len(RUN_BYTES) + 100) + RUN_BYTES,
    "row_12_half_of_the_json": head(content_length=len(RUN_BYTES)) + RUN_BYTES[:50],
    "row_13_chunked_without_last_chunk": head(transfer_encoding="chunked") + chunked(RUN_BYTES, last=False),
    "row_13_cut_inside_a_chunk": head(transfer_encoding="chunked") + chunked(RUN_BYTES)[:60],
    "row_14_half_json_until_close": head(connection="close") + RUN_BYTES[:50],
    "row_15_gzip_without_trailer": head(content_encoding="gzip", connection="close") + PACKED[:-12],
    "row_15_gzip_without_trailer_chunked": head(content_encoding="gzip", transfer_encoding="chunked")
    + chunked(PACKED[:-12]),
    "row_15_gzip_without_trailer_of_right_length": head(content_encoding="gzip", content_length=len(PACKED) - 12)
    + PACKED[:-12],
}


@pytest.mark.parametrize("name", CUT_BODIES)
async def test_rows_12_to_15_cut_body_of_a_get(bench: Bench, name: str) -> None:
    """A body that ends too early is never read as an answer, though the JSON in it be whole; a GET is tried thrice."""
    async with bench.serve(say(CUT_BODIES[name])) as (server, session):
        failed = await bench.fails(TruncatedBodyError, session.runs.retrieve(THREAD, RUN))
        assert server.count == 3
    assert failed.attempts == 3


@pytest.mark.parametrize("name", CUT_BODIES)
async def test_rows_12_to_15_cut_body_of_a_create(bench: Bench, name: str) -> None:
    """A create whose answer is cut short is sent once."""
    async with bench.serve(say(CUT_BODIES[name])) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 1
    assert isinstance(failed.__cause__, TruncatedBodyError)


async def test_row_14_whole_json_until_close(bench: Bench) -> None:
    """A whole JSON text that ends with its connection is an answer."""
    async with bench.serve(say(head(connection="close") + RUN_BYTES)) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        assert server.count == 1


async def test_row_31_slow_body(bench: Bench) -> None:
    """A body that drips in is given up at the deadline, not when it is whole."""
    loop = asyncio.get_running_loop()
    script = dribble(head(content_length=len(RUN_BYTES)) + RUN_BYTES, 0.05, size=110)
    async with bench.serve(script) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        server.script = [dribble(head(content_length=len(RUN_BYTES)) + RUN_BYTES, 0.1, size=60)]
        started = loop.time()
        await bench.fails(DeadlineExceeded, session.runs.retrieve(THREAD, RUN, timeout=0.3))
        assert 0.3 <= loop.time() - started <= 0.4
        assert server.count == 2


async def test_row_32_slow_headers(bench: Bench) -> None:
    """Headers that drip in are given up at the deadline."""
    loop = asyncio.get_running_loop()
    async with bench.serve(dribble(head(content_length=2) + b"{}", 0.1)) as (server, session):
        started = loop.time()
        await bench.fails(DeadlineExceeded, session.runs.retrieve(THREAD, RUN, timeout=0.3))
        assert 0.3 <= loop.time() - started <= 0.4
        assert server.count == 1


async def test_row_69_late_answer_after_cancel(bench: Bench) -> None:
    """The answer to a call that was cancelled never reaches another call."""

    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await answer(run("run_late"))(exchange)

    async with bench.serve(late, reply(lambda request: run(request.path.rpartition("/")[2]))) as (server, session):
        task = asyncio.create_task(session.runs.retrieve(THREAD, "run_late"))
        await until(lambda: server.count == 1, "no request came")
        task.cancel()
        await bench.fails(asyncio.CancelledError, task)
        answers = [await session.runs.retrieve(THREAD, f"run_{n}") for n in range(20)]
        await asyncio.sleep(0.06)
        answers += [await session.runs.retrieve(THREAD, f"run_{n}") for n in range(20)]
        assert [answered.id for answered in answers] == [f"run_{n}" for n in range(20)] * 2
        assert {request.connection for request in server.requests[1:]} == {2}


async def test_row_69_answers_out_of_order(bench: Bench) -> None:
    """Answers that come in another order than the questions reach those who asked."""

    async def later_for_earlier(exchange: Exchange) -> None:
        id = exchange.request.path.rpartition("/")[2]
        await asyncio.sleep(0.05 - int(id[4:]) * 0.001)
        await answer(run(id))(exchange)

    async with bench.serve(later_for_earlier) as (_, session):
        answers = await asyncio.gather(*(session.runs.retrieve(THREAD, f"run_{n}") for n in range(40)))
        assert [answered.id for answered in answers] == [f"run_{n}" for n in range(40)]

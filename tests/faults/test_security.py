"""Beyond the fault matrix: whatever a server says or the environment holds, no key goes astray.

That no fault shows the key is checked by the bench, at the end of every test in this folder.
"""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import asyncruns
from asyncruns import (
    AsyncRunsError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ProtocolError,
    Run,
    ServerError,
)

from .bodies import RUN, THREAD, error, page, run, runs
from .conftest import KEY, Bench, secrets_in, until
from .script_server import Action, Exchange, Received, answer, close, dribble, hang, head, reply

FAR = "https://127.0.0.1:9/v1"
PROXY_PASSWORD = "CANARY-of-the-proxy"
HOSTILE = "\x1b]0;owned\x07\x1b]8;;http://evil\x07\x1b]52;c;aGk=\x07\r\nfake line\u202egnp.exe\u2066\x9b31m"


def test_the_canary_check_can_fail() -> None:
    """The key is found in whichever form it is shown."""
    for form in (KEY, "sk-CANARY-4e%2F1%2Bb%3D7~%25C3", "c2stQ0FOQVJZLTRlLzErYj03fiVDMw"):
        assert secrets_in(["harmless", f"<<{form}>>"]) == [f"<<{form}>>"]


async def test_hostile_text_is_escaped_and_capped(bench: Bench) -> None:
    """Terminal commands, line ends and bidi controls of a server reach no terminal and no log as they are."""
    message = HOSTILE + "x" * 5000
    async with bench.serve(answer(error(message, HOSTILE), 500, x_request_id="a" * 3000)) as (server, session):
        failed = await bench.fails(ServerError, session.runs.retrieve(THREAD, RUN))
        server.script = [answer(run(status=HOSTILE))]
        waiting = session.runs.wait(THREAD, RUN, timeout=0.05, poll_interval=0.01)
        timed_out = await bench.fails(asyncruns.WaitTimeout, waiting)
        server.script = [answer({"error": {"message": message}})]
        refused = await bench.fails(ProtocolError, session.runs.retrieve(THREAD, RUN))
    for each in (failed, timed_out, refused):
        assert len(str(each)) <= 500
        assert str(each).isprintable()
    told = [text for text in bench.shown if text.startswith(("Run run_1", "GET /threads"))]
    assert len(told) >= 3
    assert all(text.isprintable() for text in told)


async def test_metadata_stays_in_the_body(bench: Bench) -> None:
    """Metadata that looks like headers arrives as JSON, and nowhere else."""
    evil = {"a\r\nX-Evil: 1": "b\r\nX-Evil: 2\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"}
    async with bench.serve(answer(run())) as (server, session):
        await session.runs.create(THREAD, assistant_id="asst_1\r\nX-Evil: 3", metadata=evil)
        assert server.count == 1
        assert json.loads(server.requests[0].body) == {"assistant_id": "asst_1\r\nX-Evil: 3", "metadata": evil}
        assert not [name for name in server.requests[0].headers if "evil" in name]


async def test_netrc_and_proxies_of_the_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A netrc file and proxies that others put into the environment are not used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login evil password evil\nmachine 127.0.0.1 login evil password evil\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with bench.serve(answer(run("run_of_the_proxy"))) as (proxy, _):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with bench.serve(answer(run())) as (server, session):
            assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
            assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert (proxy.count, proxy.connections) == (0, 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_password_of_a_proxy(bench: Bench, scheme: str) -> None:
    """The password of a proxy is shown no more than the key, whether the proxy refuses or is not there."""

    def through(port: int) -> AbstractAsyncContextManager[asyncruns.Session]:
        return bench.session(f"{scheme}://127.0.0.1:9/v1", proxy=f"http://user:{PROXY_PASSWORD}@127.0.0.1:{port}")

    async with bench.serve(answer(b"who are you", 407)) as (proxy, _):
        port = proxy.port
        async with through(port) as session:
            with pytest.raises(AsyncRunsError) as caught:
                await session.runs.retrieve(THREAD, RUN)
            bench.look_at(caught.value)
        assert proxy.count == 1
    async with through(port) as session:
        bench.look_at(await bench.fails(ConnectError, session.runs.retrieve(THREAD, RUN)))
    assert not [text for text in bench.shown if PROXY_PASSWORD in text]


@pytest.mark.parametrize(("status", "asked"), [(503, 3), (429, 3), (407, 1), (403, 1)])
async def test_row_01_proxy_makes_no_connection(bench: Bench, status: int, asked: int) -> None:
    """A proxy that makes no connection to the server has sent it nothing, a create neither; it may do so later."""
    async with bench.serve(answer(b"no", status)) as (proxy, _), bench.session(FAR, proxy=proxy.url) as session:
        for call in (session.runs.retrieve(THREAD, RUN), session.runs.create(THREAD, assistant_id="asst_1")):
            before = proxy.count
            failed = await bench.fails(ConnectError, call)
            assert str(status) in str(failed)
            assert failed.attempts == asked == proxy.count - before
        assert {request.method for request in proxy.requests} == {"CONNECT"}


async def test_token_that_was_replaced_meanwhile(bench: Bench) -> None:
    """A token that another caller has given up by now is still taken out of a late answer that echoes it."""
    tokens = iter([KEY, "second", "third"])

    async def provide() -> str:
        return next(tokens)

    late = asyncio.Event()

    async def refuse(exchange: Exchange) -> None:
        token = exchange.request.headers["authorization"].removeprefix("Bearer ")
        if exchange.request.path.endswith("run_late") and token == KEY:
            await late.wait()
            await answer(error(f"out of order with {token}"), 500)(exchange)
        elif token == KEY:
            await answer(error(f"no such token {token}"), 401)(exchange)
        else:
            await answer(run())(exchange)

    async with bench.serve(refuse, api_key=provide, retry=asyncruns.RetryPolicy(max_attempts=1)) as (server, session):
        task = asyncio.create_task(session.runs.retrieve(THREAD, "run_late"))
        await until(lambda: server.count == 1, "no request came")
        await session.runs.retrieve(THREAD, RUN)
        late.set()
        failed = await bench.fails(ServerError, task)
    assert failed.message == "out of order with [redacted]"


async def test_refused_token(bench: Bench) -> None:
    """A provider is asked once more after a 401, and no token it gave is shown."""

    async def provide() -> str:
        return KEY

    def echo(request: Received) -> object:
        return error(f"no: {request.headers['authorization']}")

    async def refuse(exchange: Exchange) -> None:
        await answer(echo(exchange.request), 401)(exchange)

    async with bench.serve(refuse, api_key=provide) as (server, session):
        failed = await bench.fails(AuthenticationError, session.runs.retrieve(THREAD, RUN))
        assert server.count == 2
    assert failed.message == "no: Bearer [redacted]"


LONG_KEY = f"sk-CANARY-{Random(7).randbytes(1000).hex()}"


def in_many_places(key: str) -> dict[str, Action]:
    """Return answers that show *key* where little of them, or a header of theirs, gets into an error."""
    return {
        "across the end of a preview": answer("<" * 150 + key, content_type="text/html"),
        "across the end of a text": answer("x" * 3950 + key, 500),
        "content type": answer("<html>", content_type=f"text/html; key={key}"),
        "packing": answer(b"x", content_encoding=key),
        "redirect": answer(b"", 302, location=f"https://{key}.example/v1"),
    }


@pytest.mark.parametrize("call", ["retrieve", "stream"])
@pytest.mark.parametrize("name", in_many_places(""))
async def test_long_key_echoed_where_texts_are_cut(bench: Bench, name: str, call: str) -> None:
    """No part of a long key is shown where a text is cut, and none of it in a header that an error tells."""
    retry = asyncruns.RetryPolicy(max_attempts=1)
    async with bench.serve(in_many_places(LONG_KEY)[name], api_key=LONG_KEY, retry=retry) as (_, session):
        stream = session.runs.stream(THREAD, assistant_id="asst_1")
        with pytest.raises(AsyncRunsError) as caught:
            await (session.runs.retrieve(THREAD, RUN) if call == "retrieve" else stream.__aenter__())
        bench.look_at(caught.value)
    assert not [text for text in bench.shown if LONG_KEY[:20].lower() in text.lower()]


async def test_session_in_another_event_loop(bench: Bench) -> None:
    """A session that a second loop uses is a wrong setting, sends nothing, and goes on in its own."""
    async with bench.serve(answer(run())) as (server, session):
        await session.runs.retrieve(THREAD, RUN)

        async def elsewhere() -> list[Run | BaseException]:
            calls = (session.runs.retrieve(THREAD, RUN) for _ in range(3))
            return await asyncio.gather(*calls, return_exceptions=True)

        for failed in await asyncio.to_thread(lambda: asyncio.run(elsewhere())):
            assert isinstance(failed, ConfigurationError)
            assert "another event loop" in str(failed)
            bench.look_at(failed)
        assert server.count == 1
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN


class Token(NamedTuple):
    """A token that shows itself, as azure-identity's does."""

    token: str
    expires_on: Any


@pytest.mark.parametrize(
    "token", [f"{KEY}\n", Token(f"{KEY}\n", 1e12), Token(KEY, "soon"), Token(KEY, None), Token(KEY, 10**400)]
)
async def test_token_that_is_none(bench: Bench, token: str | Token) -> None:
    """A token that cannot be used is a wrong setting, is sent nowhere, and is held by no frame of the error."""

    async def provide() -> str | Token:
        return f"{token}" if isinstance(token, str) else Token(*token)

    async with bench.serve(answer(run()), api_key=provide) as (server, session):
        failed = await bench.fails(ConfigurationError, session.runs.retrieve(THREAD, RUN))
        assert server.count == 0
    assert "the token provider's" in str(failed)


async def test_key_echoed_in_a_listing(bench: Bench) -> None:
    """The key is taken out of what is said about a page that cannot be read."""
    broken = answer({"error": {"message": f"bad key {KEY}"}})
    async with bench.serve(answer(page(runs(1, 2), has_more=True)), broken) as (_, session):
        with pytest.raises(ProtocolError) as caught:
            await session.runs.list(THREAD, limit=2).collect()
    assert caught.value.message.endswith("bad key [redacted]")
    bench.shown += [str(caught.value), repr(caught.value), repr(vars(caught.value))]


@pytest.mark.parametrize("then", ["hang", "close"])
async def test_session_closed_under_a_call(bench: Bench, then: str) -> None:
    """A call under way when its session closes ends in an error of ours, and leaves nothing open."""
    async with bench.serve(hang() if then == "hang" else close()) as (server, session):
        calls = [asyncio.create_task(session.runs.retrieve(THREAD, f"run_{n}")) for n in range(5)]
        await until(lambda: server.count >= 5, "no requests came")
        await session.__aexit__(None, None, None)
        for call in calls:
            with pytest.raises(AsyncRunsError) as caught:
                await call
            bench.look_at(caught.value)


@pytest.mark.parametrize("moment", ["connecting", "waiting", "reading", "backing off"])
async def test_cancelling_at_any_moment(bench: Bench, moment: str) -> None:
    """A cancelled call is cancelled at once wherever it is, and what carries the cancellation holds no key."""
    script = {
        "connecting": hang(),
        "waiting": hang(),
        "reading": dribble(head(content_length=1000) + b" " * 1000, 0.01),
        "backing off": answer(error("later"), 429, retry_after=5),
    }[moment]
    async with bench.serve(script, real_sleep=True, max_connections=1) as (server, session):
        task = asyncio.create_task(session.runs.retrieve(THREAD, RUN))
        if moment == "connecting":
            await asyncio.sleep(0)
        else:
            await until(lambda: server.count == 1, "no request came")
            await asyncio.sleep(0.05)
        task.cancel()
        await bench.fails(asyncio.CancelledError, task)
        server.script = [answer(run())]
        assert (await session.runs.retrieve(THREAD, RUN, timeout=1.0)).id == RUN


async def test_many_random_cancellations(bench: Bench) -> None:
    """After 200 calls cancelled at random moments a pool of two connections still serves."""
    random = Random(7)

    async def sometimes_late(exchange: Exchange) -> None:
        await asyncio.sleep(random.random() * 0.004)
        await answer(run(exchange.request.path.rpartition("/")[2], instructions="x" * 50_000))(exchange)

    async def one(session: asyncruns.Session, number: int) -> bool:
        call = asyncio.create_task(session.runs.retrieve(THREAD, f"run_{number}"))
        # Some are let through, however busy the machine is.
        await asyncio.wait([call], timeout=random.random() * 0.03 if number % 11 else None)
        call.cancel()
        done = (await asyncio.gather(call, return_exceptions=True))[0]
        assert isinstance(done, asyncio.CancelledError) or done.id == f"run_{number}"
        return not isinstance(done, asyncio.CancelledError)

    async with bench.serve(sometimes_late, max_connections=2) as (server, session):
        ends = [await one(session, number) for number in range(110)]
        ends += await asyncio.gather(*(one(session, number) for number in range(110)))
        assert {True, False} == set(ends)
        server.script = [reply(lambda request: run(request.path.rpartition("/")[2]))]
        for number in range(10):
            assert (await session.runs.retrieve(THREAD, f"run_{number}", timeout=1.0)).id == f"run_{number}"

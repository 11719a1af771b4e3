"""Rows 64 to 68 of the fault matrix: redirects, broken HTTP, smuggled answers, TLS, ids that climb."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import trustme

from asyncruns import (
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    IdentityMismatchError,
    InvalidIdError,
    ProtocolError,
    RunCreationUnknown,
    Session,
    TLSError,
    Toolbox,
    TruncatedBodyError,
    UnexpectedRedirectError,
)

from .bodies import RUN, THREAD, page, run
from .byte_proxy import ByteProxy
from .conftest import Bench, busy_time, memory_peak
from .script_server import Exchange, ScriptServer, answer, chunked, flood, head, reply, say

RUN_BYTES = json.dumps(run()).encode()


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
@pytest.mark.parametrize("method", ["retrieve", "create"])
async def test_row_64_redirect(bench: Bench, status: int, method: str) -> None:
    """A redirect is not followed: one request here, none to the other host, and only the host's name is told."""
    async with ScriptServer(answer(run())) as other:
        location = f"http://localhost:{other.port}/v1/steal?token=1"
        async with bench.serve(answer(b"", status, location=location)) as (server, session):
            call = (
                session.runs.retrieve(THREAD, RUN)
                if method == "retrieve"
                else session.runs.create(THREAD, assistant_id="asst_1")
            )
            failed = await bench.fails(UnexpectedRedirectError, call)
            assert server.count == 1
        assert (other.count, other.connections) == (0, 0)
    assert (failed.status, failed.location_host) == (status, "localhost")
    assert "steal" not in str(failed)


@pytest.mark.parametrize("location", ["/v1/threads/thread_1/runs/run_1", "", None, "http://[bad", "\x80\xff", "//"])
async def test_row_64_redirect_to_itself_or_nowhere(bench: Bench, location: str | None) -> None:
    """A loop, or a location that cannot be read, is the same error after one request."""
    async with bench.serve(answer(b"", 307, location=location)) as (server, session):
        failed = await bench.fails(UnexpectedRedirectError, session.runs.retrieve(THREAD, RUN))
        assert server.count == 1
    assert failed.location_host is None


def with_length(*lines: bytes) -> bytes:
    """Return a response in which *lines* stand among the headers."""
    extra = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + extra + b"\r\n" + RUN_BYTES


LENGTH = b"Content-Length: %d" % len(RUN_BYTES)
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
BROKEN_HTTP = {
    "length and chunked": head(content_length=len(RUN_BYTES), transfer_encoding="chunked") + chunked(RUN_BYTES),
    "two lengths": with_length(LENGTH, b"Content-Length: 5"),
    "two equal lengths": with_length(LENGTH, LENGTH),
    "negative length": with_length(b"Content-Length: -1"),
    "length with a sign": with_length(b"Content-Length: +%d" % len(RUN_BYTES)),
    "length in hex": with_length(b"Content-Length: 0x10"),
    "bare line feeds": with_length(LENGTH).replace(b"\r\n", b"\n"),
    "bare line feed in the middle": with_length(LENGTH).replace(b"json\r\n", b"json\n"),
    "bare line feed at the end": with_length(LENGTH).replace(b"\r\n\r\n", b"\r\n\n"),
    "bare line feeds and no body": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare line feeds after a 100": INTERIM + with_length(LENGTH).replace(b"\r\n", b"\n"),
    "bare line feed after two 103s": INTERIM.replace(b"100", b"103") * 2 + with_length(LENGTH).replace(b"n\r", b"n"),
    "bare line feed in a 103": INTERIM.replace(b"e\r", b"e\nX-Odd: a\r") + with_length(LENGTH),
    "bare line feeds after an empty line": b"\r\n\r\n" + with_length(LENGTH).replace(b"\r\n", b"\n"),
    "NUL in a header": with_length(LENGTH, b"X-Odd: a\x00b"),
    "carriage return in a header": with_length(LENGTH, b"X-Odd: a\rb"),
    "space before the colon": with_length(LENGTH, b"X-Odd : a"),
    "no colon": with_length(LENGTH, b"X-Odd"),
    "header of 64 KiB": with_length(LENGTH, b"X-Odd: " + b"a" * 65_536),
    "129 headers": with_length(LENGTH, *(b"X-%d: a" % n for n in range(129))),
    "too many headers": with_length(LENGTH, *(b"X-%d: a" % n for n in range(20_000))),
    "no status line": b"\x16\x03\x01 hello\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n" + LENGTH + b"\r\n\r\n" + RUN_BYTES,
    "bad chunk size": head(transfer_encoding="chunked") + b"zz\r\n" + RUN_BYTES + b"\r\n0\r\n\r\n",
    "chunk without its end": head(transfer_encoding="chunked") + b"5\r\n" + RUN_BYTES + b"\r\n0\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN_HTTP)
async def test_row_65_broken_http(bench: Bench, name: str) -> None:
    """What is no HTTP is a protocol error after one request; its connection is closed and the next call works."""
    async with bench.serve(say(BROKEN_HTTP[name], "hang"), answer(run())) as (server, session):
        await bench.fails(ProtocolError, session.runs.retrieve(THREAD, RUN, timeout=2.0))
        assert (server.count, server.connections) == (1, 1)
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        assert [request.connection for request in server.requests] == [1, 2]


async def test_row_65_broken_http_after_a_create(bench: Bench) -> None:
    """A create whose answer is no HTTP is sent once."""
    async with bench.serve(say(BROKEN_HTTP["two lengths"], "hang")) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 1
    assert isinstance(failed.__cause__, ProtocolError)


async def test_row_65_what_is_understood(bench: Bench) -> None:
    """A folded header, which older servers send, is read as RFC 9112 allows (5.2); the body ends where it says.

    So is an answer behind a 100, even where nobody asked for that.
    """
    folded = with_length(LENGTH, b"X-Odd: a", b" b")
    by_path = reply(lambda request: run(request.path.rpartition("/")[2]))
    script = [say(folded, "keep"), say(INTERIM + with_length(LENGTH), "keep"), by_path]
    async with bench.serve(*script) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN, timeout=2.0)).id == RUN
        assert (await session.runs.retrieve(THREAD, RUN, timeout=2.0)).id == RUN
        for n in range(3):
            assert (await session.runs.retrieve(THREAD, f"run_{n}")).id == f"run_{n}"
        assert {request.connection for request in server.requests} == {1}


def test_row_65_and_66_with_the_parser_in_python() -> None:
    """The parser in Python, which aiohttp uses where its extensions are not built, keeps the same promises."""
    if os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        pytest.skip("this is the run with the parser in Python")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "row_65 or row_66", __file__]
    done = subprocess.run(  # noqa: S603
        command,
        env=os.environ | {"AIOHTTP_NO_EXTENSIONS": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


LINE = b"X-Odd: " + b"a" * 1000 + b"\r\n"
FLOODS = {
    "headers": (b"HTTP/1.1 200 OK\r\n", LINE),
    "status line": (b"HTTP/1.1 200 ", b"a" * 1000),
    "answers before the answer": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 20),
    "trailers": (head(transfer_encoding="chunked") + chunked(RUN_BYTES)[:-2], LINE),
    "extension of a chunk": (head(transfer_encoding="chunked") + b"5;", b"a" * 1000),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_row_65_what_never_ends(bench: Bench, name: str) -> None:
    """A part of an answer without an end is given up at the deadline at the latest, in little memory."""
    loop = asyncio.get_running_loop()
    refused = pytest.raises((ProtocolError, TruncatedBodyError, DeadlineExceeded))
    async with bench.serve(flood(*FLOODS[name])) as (server, session):
        started = loop.time()
        with memory_peak() as peak, busy_time() as busy, refused as caught:
            await session.runs.retrieve(THREAD, RUN, timeout=0.4)
        assert loop.time() - started <= 2.0
        assert busy.seconds <= 2.0  # Six thousand early hints may come in one piece, which is read as one.
        bench.look_at(caught.value)
        server.script = [answer(run())]
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
    assert peak.growth < 16 * 2**20


SMUGGLED = head(content_length=len(json.dumps(run("run_evil")))) + json.dumps(run("run_evil")).encode()


@pytest.mark.parametrize("seconds", [0.0, 0.02], ids=["at once", "later"])
async def test_row_66_answer_that_nobody_asked_for(bench: Bench, seconds: float) -> None:
    """A second answer behind the first, at once or while the connection rests, never answers the next call."""

    async def twice(exchange: Exchange) -> None:
        good = head(content_length=len(RUN_BYTES)) + RUN_BYTES
        if not seconds:
            await exchange.send(good + SMUGGLED)
            return
        await exchange.send(good)
        await asyncio.sleep(seconds)
        await exchange.send(SMUGGLED)

    by_path = reply(lambda request: run(request.path.rpartition("/")[2]))
    async with bench.serve(twice, by_path) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        await asyncio.sleep(2 * seconds)
        for n in range(5):
            assert (await session.runs.retrieve(THREAD, f"run_{n}")).id == f"run_{n}"
        assert {request.connection for request in server.requests[1:]} == {2}


@pytest.mark.parametrize("method", ["retrieve", "list", "create"])
async def test_row_66_in_a_pool_of_the_callers_own(bench: Bench, method: str) -> None:
    """On the caller's own connections only the check of identity stands between a stray answer and the next call.

    A create has nothing that it could be held against but its thread.
    """
    stray = json.dumps(page([run("run_evil", thread_id="thread_evil")]) if method == "list" else run("run_evil"))
    asked = asyncio.Event()

    async def twice(exchange: Exchange) -> None:
        await exchange.send(head(content_length=len(RUN_BYTES)) + RUN_BYTES)
        await asked.wait()
        await exchange.send(head(content_length=len(stray)) + stray.encode())

    async with ScriptServer(twice, answer(run())) as server, aiohttp.ClientSession() as http:
        async with bench.session(server.url, http=http) as session:
            await session.runs.retrieve(THREAD, RUN)
            asked.set()
            await asyncio.sleep(0.03)
            if method == "retrieve":
                await bench.fails(IdentityMismatchError, session.runs.retrieve(THREAD, RUN))
            elif method == "list":
                await bench.fails(IdentityMismatchError, session.runs.list(THREAD).collect())
            else:
                assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == "run_evil"
        assert server.connections == 1
        assert not http.closed


@pytest.mark.parametrize("extra", [b"\r\n", b"garbage", b"x" * 100_000])
async def test_row_66_bytes_behind_the_body(bench: Bench, extra: bytes) -> None:
    """Bytes behind the announced length are no part of any answer."""
    by_path = reply(lambda request: run(request.path.rpartition("/")[2]))
    first = say(head(content_length=len(RUN_BYTES)) + RUN_BYTES + extra, "keep")
    async with bench.serve(first, by_path) as (_, session):
        try:
            assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        except ProtocolError as error:  # Where they come together with the body, that counts as broken HTTP.
            bench.look_at(error)
        for n in range(5):
            assert (await session.runs.retrieve(THREAD, f"run_{n}")).id == f"run_{n}"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Make a certificate authority that nobody knows."""
    return trustme.CA()


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return what a server with a certificate for *names* listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a client that knows the authority connects with."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_row_67_trusted_tls(bench: Bench, authority: trustme.CA) -> None:
    """With a context that knows the authority the call works."""
    tls = server_tls(authority, "127.0.0.1")
    async with (
        ScriptServer(answer(run()), tls=tls) as server,
        bench.session(server.url, ssl_context=trusting(authority)) as session,
    ):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN


def expired(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a server whose certificate ended in 2001 listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    start, end = (datetime(year, 1, 1, tzinfo=UTC) for year in (2000, 2001))
    authority.issue_cert("127.0.0.1", not_before=start, not_after=end).configure_cert(context)
    return context


def outdated(authority: trustme.CA) -> ssl.SSLContext:
    """Return what a server that speaks TLS 1.1 at most listens with."""
    context = server_tls(authority, "127.0.0.1")
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


REFUSED_TLS: dict[str, tuple[Callable[[trustme.CA], ssl.SSLContext | None], bool]] = {
    "unknown authority": (lambda authority: server_tls(authority, "127.0.0.1"), False),
    "wrong host": (lambda authority: server_tls(authority, "api.example.org"), True),
    "expired": (expired, True),
}


@pytest.mark.parametrize("name", REFUSED_TLS)
@pytest.mark.parametrize("method", ["retrieve", "create"])
async def test_row_67_certificate_refused(bench: Bench, authority: trustme.CA, name: str, method: str) -> None:
    """A server that cannot be trusted ends the call at the first connection, before any HTTP is sent."""
    make_tls, knows = REFUSED_TLS[name]
    options: dict[str, Any] = {"ssl_context": trusting(authority)} if knows else {}
    async with ScriptServer(answer(run()), tls=make_tls(authority)) as server, ByteProxy(server.port) as line:
        async with bench.session(line.url.replace("http:", "https:"), **options) as session:
            call = (
                session.runs.retrieve(THREAD, RUN)
                if method == "retrieve"
                else session.runs.create(THREAD, assistant_id="asst_1")
            )
            await bench.fails(TLSError, call)
        assert (line.connections, server.count) == (1, 0)
    assert bench.waits == []


async def test_row_67_certificate_replaced_during_a_wait(bench: Bench, authority: trustme.CA) -> None:
    """A wait ends when the server cannot be trusted any more, and does not ask on until its timeout."""
    tls = server_tls(authority, "127.0.0.1")

    async def act(exchange: Exchange) -> None:
        authority.issue_cert("api.example.org").configure_cert(tls)
        await answer(run(status="queued"), connection="close")(exchange)
        exchange.close()

    async with ScriptServer(act, tls=tls) as server:
        async with bench.session(server.url, ssl_context=trusting(authority)) as session:
            await bench.fails(TLSError, session.runs.wait(THREAD, RUN, timeout=5))
        assert server.count == 1
    assert len(bench.waits) == 1


async def test_row_67_outdated_tls(bench: Bench, authority: trustme.CA) -> None:
    """A server that speaks TLS 1.1 at most gets no request; it ends the handshake, which may pass."""
    async with ScriptServer(answer(run()), tls=outdated(authority)) as server:
        async with bench.session(server.url, ssl_context=trusting(authority)) as session:
            await bench.fails(ConnectError, session.runs.retrieve(THREAD, RUN))
        assert server.count == 0


async def test_row_67_no_tls_at_all(bench: Bench) -> None:
    """A server without TLS on an https address is not talked to."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    plain = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with plain, bench.session(f"https://127.0.0.1:{plain.sockets[0].getsockname()[1]}/v1") as session:
        await bench.fails(TLSError, session.runs.create(THREAD, assistant_id="asst_1"))


@pytest.mark.parametrize("is_reset", [True, False])
async def test_row_67_tls_cut_within_a_record(bench: Bench, authority: trustme.CA, is_reset: bool) -> None:
    """TLS that is cut before a whole record of the answer came is a lost connection, tried thrice as any."""
    script = answer(run(instructions="x" * 12_000))
    async with (
        ScriptServer(script, tls=server_tls(authority, "127.0.0.1")) as server,
        ByteProxy(server.port, cut_after=8_000, is_reset=is_reset) as line,
    ):
        url = line.url.replace("http:", "https:")
        async with bench.session(url, ssl_context=trusting(authority)) as session:
            await bench.fails(ConnectionLost, session.runs.retrieve(THREAD, RUN))
        assert (line.connections, server.count) == (3, 3)


async def test_row_67_tls_cut_within_the_body(bench: Bench, authority: trustme.CA) -> None:
    """TLS that is cut in the middle of a body is a truncated body; a create is then sent once."""
    script = answer(run(instructions="x" * 100_000))
    async with (
        ScriptServer(script, tls=server_tls(authority, "127.0.0.1")) as server,
        ByteProxy(server.port, cut_after=60_000) as line,
    ):
        url = line.url.replace("http:", "https:")
        async with bench.session(url, ssl_context=trusting(authority)) as session:
            await bench.fails(TruncatedBodyError, session.runs.retrieve(THREAD, RUN))
            assert server.count == 3
            await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
            assert server.count == 4


async def test_row_67_tls_cut_within_the_handshake(bench: Bench, authority: trustme.CA) -> None:
    """TLS that is cut within its handshake never carried a request, so a create is tried again."""
    async with (
        ScriptServer(answer(run()), tls=server_tls(authority, "127.0.0.1")) as server,
        ByteProxy(server.port, cut_after=600, cuts=1) as line,
    ):
        url = line.url.replace("http:", "https:")
        async with bench.session(url, ssl_context=trusting(authority)) as session:
            assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == RUN
        assert (line.connections, server.count) == (2, 1)


BAD_IDS: list[Any] = [
    "../assistants",
    "..",
    ".",
    "",
    "a/b",
    "x?y=z",
    "x#frag",
    "%2e%2e",
    "a%2Fb",
    "run_1%00",
    "a\r\nX-Evil: 1",
    "a\x00b",
    "a b",
    "a\u202eb",
    "x" * 20_000,
    "\ud800",
    None,
    123,
    b"run_1",
    "run_1\n",
    "\uff52un_1",
    "-run",
    "a\\b",
    "a;b",
    "a@b",
    "a:b",
]
CALLS: dict[str, Callable[[Session, Any], Any]] = {
    "runs.create": lambda session, bad: session.runs.create(bad, assistant_id="asst_1"),
    "runs.retrieve": lambda session, bad: session.runs.retrieve(bad, RUN),
    "runs.retrieve of a run": lambda session, bad: session.runs.retrieve(THREAD, bad),
    "runs.modify": lambda session, bad: session.runs.modify(THREAD, bad, metadata={}),
    "runs.cancel": lambda session, bad: session.runs.cancel(THREAD, bad),
    "runs.submit_tool_outputs": lambda session, bad: session.runs.submit_tool_outputs(THREAD, bad, tool_outputs=[]),
    "runs.wait": lambda session, bad: session.runs.wait(THREAD, bad, timeout=1),
    "runs.drive": lambda session, bad: session.runs.drive(THREAD, bad, Toolbox([]), timeout=1),
    "runs.find": lambda session, bad: session.runs.find(bad, request_key="job-7"),
    "runs.create with a key": lambda session, bad: session.runs.create(bad, request_key="job-7", assistant_id="asst_1"),
    "steps.retrieve": lambda session, bad: session.steps.retrieve(THREAD, RUN, bad),
    "threads.retrieve": lambda session, bad: session.threads.retrieve(bad),
    "threads.retrieve_raw": lambda session, bad: session.threads.retrieve_raw(bad),
    "threads.modify": lambda session, bad: session.threads.modify(bad, metadata={}),
    "threads.delete": lambda session, bad: session.threads.delete(bad),
    "messages.create": lambda session, bad: session.messages.create(bad, role="user", content="hi"),
    "messages.retrieve": lambda session, bad: session.messages.retrieve(THREAD, bad),
    "messages.modify": lambda session, bad: session.messages.modify(THREAD, bad, metadata={}),
    "messages.delete": lambda session, bad: session.messages.delete(THREAD, bad),
}


@pytest.mark.parametrize("call", CALLS)
async def test_row_68_ids_that_climb(bench: Bench, call: str) -> None:
    """An id that could reach another path is refused before anything is sent."""
    async with bench.serve(answer(run())) as (server, session):
        for id in BAD_IDS:
            failed = await bench.fails(InvalidIdError, CALLS[call](session, id))
            assert isinstance(failed, ValueError)
            assert len(str(failed)) < 300
        assert (server.count, server.connections) == (0, 0)


async def test_row_68_ids_of_listings(bench: Bench) -> None:
    """A listing checks its ids and its cursors when it is made."""
    async with bench.serve(answer(run())) as (server, session):
        for id in BAD_IDS:
            for make in (session.runs.list, session.messages.list, lambda bad: session.steps.list(THREAD, bad)):
                with pytest.raises(InvalidIdError):
                    make(id)
        for cursor in ("", "a\r\nb", "x" * 600, 5):
            with pytest.raises(InvalidIdError):
                session.runs.list(THREAD, after=cursor)  # type: ignore[arg-type]
        assert (server.count, server.connections) == (0, 0)

"""One call: its attempts, the waits between them, its one deadline, and what each failure becomes."""

import asyncio
import gzip
import json
import logging
import socket
import zlib

import pytest

from asyncruns import (
    ActiveRunError,
    AsyncRunsError,
    BadRequestError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    DecodeError,
    ProtocolError,
    RateLimitError,
    ResponseTooLargeError,
    RetryPolicy,
    RunCreationUnknown,
    SchemaError,
    ServerError,
    Session,
    TLSError,
    TruncatedBodyError,
    UnexpectedContentError,
    UnexpectedRedirectError,
)
from asyncruns._pacing import RetryQuota

THREAD = {"id": "thread_1", "object": "thread", "created_at": 1}
RUN = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": "queued"}
BUSY = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
DOWN = {"error": {"message": "boom"}}


@pytest.fixture
def retrieve(scripted_session):
    """Give the test one call that is safe to repeat."""
    return lambda **options: scripted_session.threads.retrieve("thread_1", **options)


@pytest.fixture
def create(scripted_session):
    """Give the test one call that is not."""
    return lambda **options: scripted_session.runs.create("thread_1", assistant_id="asst_1", **options)


class TestRetries:
    """What is tried again, and after how long; the dice always give one half."""

    @pytest.mark.parametrize(
        ("headers", "nap"),
        [
            ({"Retry-After": "1"}, 1.1),
            ({"Retry-After": "0"}, 0.1),
            ({"retry-after-ms": "300"}, 0.4),
            ({"Retry-After": "Fri, 15 Jan 2027 09:00:02 GMT", "Date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 2.1),
            ({}, 0.25),
            ({"Retry-After": "soon"}, 0.25),
        ],
    )
    async def test_a_429_waits_as_long_as_the_server_asks(self, server, retrieve, create, naps, headers, nap):
        """Also for a create: it was not begun."""
        for call in (retrieve, create):
            server.reply(BUSY, 429, headers)
            server.reply(THREAD if call is retrieve else RUN)
            await call()
        assert naps == [pytest.approx(nap)] * 2
        assert len(server.requests) == 4
        assert server.requests[2].body == server.requests[3].body

    @pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
    async def test_a_server_error_is_tried_again(self, server, retrieve, naps, status):
        """With growing waits, and then it is good."""
        server.reply(DOWN, status, times=2)
        server.reply(THREAD)
        assert (await retrieve()).id == "thread_1"
        assert naps == [0.25, 0.5]

    async def test_gives_up_after_three_attempts(self, server, retrieve, naps):
        """And raises what the last one brought."""
        server.reply(DOWN, 500, times=3)
        with pytest.raises(ServerError, match="boom") as caught:
            await retrieve()
        assert (caught.value.status, caught.value.retry_quota_exhausted) == (500, False)
        assert len(server.requests) == 3
        assert len(naps) == 2

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
    async def test_a_refusal_is_not_tried_again(self, server, retrieve, naps, status):
        """One request, one error."""
        server.reply(DOWN, status)
        with pytest.raises(AsyncRunsError, match="boom"):
            await retrieve()
        assert len(server.requests) == 1
        assert naps == []

    @pytest.mark.parametrize(("status", "wish", "count"), [(500, "false", 1), (409, "true", 2)])
    async def test_the_server_may_say_whether_to_try_again(self, server, retrieve, status, wish, count):
        """`x-should-retry` overrides the status."""
        server.reply(DOWN, status, {"x-should-retry": wish})
        server.reply(THREAD)
        if count == 1:
            with pytest.raises(ServerError):
                await retrieve()
        else:
            await retrieve()
        assert len(server.requests) == count

    async def test_settings_are_followed(self, server, open_session, naps):
        """More attempts, other waits."""
        policy = RetryPolicy(max_attempts=5, initial_backoff=2.0, max_backoff=3.0)
        session = await open_session(server, retry=policy)
        server.reply(DOWN, 500, times=4)
        server.reply(THREAD)
        await session.threads.retrieve("thread_1")
        assert naps == [1.0, 1.5, 1.5, 1.5]

    async def test_a_closed_connection_is_tried_again_at_once(self, server, retrieve, naps):
        """The first time: a kept-alive connection may have been closed under the request."""
        server.hang_up(2)
        server.reply(THREAD)
        await retrieve()
        assert naps == [0.0, 0.5]
        assert len(server.requests) == 3

    async def test_attempts_are_counted_in_one_place(self, server, retrieve):
        """Nothing is repeated behind our back: three attempts are three requests."""
        server.hang_up(9)
        with pytest.raises(ConnectionLost, match="ended before the answer came") as caught:
            await retrieve()
        assert caught.value.attempts == 3
        assert len(server.requests) == 3

    async def test_no_connection_is_tried_again(self, open_session, naps, unused_port):
        """For a create too: nothing was sent. The error shows neither key nor aiohttp's own error."""
        session = await open_session(Session("sk-CANARY", f"http://127.0.0.1:{unused_port}/v1"))
        refused = (
            rf"no connection to 127\.0\.0\.1:{unused_port}: connection refused \(ClientConnectorError, errno \d+\)"
        )
        for call in (session.threads.retrieve("thread_1"), session.runs.create("thread_1", assistant_id="a")):
            with pytest.raises(ConnectError, match=refused) as caught:
                await call
            assert caught.value.attempts == 3
            assert caught.value.__cause__ is None
            assert "CANARY" not in str(caught.value)
        assert naps == [0.25, 0.5] * 2

    @pytest.mark.parametrize("errno", [socket.EAI_NONAME, None])
    async def test_unknown_host(self, open_session, naps, monkeypatch, errno):
        """A name that is not known is told with the name."""

        async def unknown(*_, **__):
            raise socket.gaierror(errno, "unknown")

        monkeypatch.setattr("aiohttp.resolver.DefaultResolver.resolve", unknown)
        session = await open_session(Session("sk-CANARY", "https://no-such-host.invalid/v1"))
        with pytest.raises(ConnectError, match=r"no connection to no-such-host\.invalid:443: the name is not known"):
            await session.threads.retrieve("thread_1")

    async def test_https_to_a_server_without_tls(self, open_session):
        """The error says that the other side speaks no TLS, and is not tried again."""
        connections = []

        async def refuse(reader, writer):
            connections.append(await reader.read(1))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as plain:
            port = plain.sockets[0].getsockname()[1]
            session = await open_session(Session("sk-CANARY", f"https://127.0.0.1:{port}/v1"))
            with pytest.raises(TLSError, match=rf"to 127\.0\.0\.1:{port}: the other side speaks no TLS") as caught:
                await session.threads.retrieve("thread_1")
        assert caught.value.attempts == len(connections) == 1

    async def test_an_attempt_is_logged(self, server, retrieve, caplog):
        """At level INFO, without the key."""
        caplog.set_level(logging.INFO, "asyncruns")
        server.reply(DOWN, 500)
        server.reply(THREAD)
        await retrieve()
        assert caplog.messages == ["GET /threads/thread_1: attempt 1 failed, next in 0.25 s"]


@pytest.fixture
async def unused_port():
    """Give the test a port on which nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


class TestCreate:
    """A create is sent once, unless it provably did not begin."""

    @pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
    async def test_is_not_repeated_after_a_server_error(self, server, create, naps, status):
        """The server may have made the run: that is what the caller is told."""
        server.reply(DOWN, status, {"x-request-id": "req_1", "Retry-After": "1"})
        if status == 408:
            with pytest.raises(AsyncRunsError):
                await create()
        else:
            with pytest.raises(RunCreationUnknown, match=r"unknown: HTTP 5.*boom.*is not sent again") as caught:
                await create()
            assert (caught.value.thread_id, caught.value.request_id) == ("thread_1", "req_1")
            assert isinstance(caught.value.__cause__, ServerError)
        assert len(server.requests) == 1
        assert naps == []

    async def test_is_not_repeated_when_the_connection_closes(self, server, create, naps):
        """Not even on a kept-alive connection."""
        server.hang_up()
        with pytest.raises(RunCreationUnknown) as caught:
            await create()
        assert isinstance(caught.value.__cause__, ConnectionLost)
        assert len(server.requests) == 1
        assert naps == []

    async def test_is_not_repeated_when_the_answer_is_cut(self, server, create):
        """Half an answer says that there is a run, and not which."""
        server.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n" + b'{"id": "run')
        server.hang_up()
        task = asyncio.create_task(create(timeout=0.2))
        with pytest.raises(RunCreationUnknown) as caught:
            await task
        assert isinstance(caught.value.__cause__, DeadlineExceeded | TruncatedBodyError)
        assert len(server.requests) == 1

    async def test_with_a_thread_is_told_so_too(self, server, scripted_session):
        """`create_and_run` makes both or neither; no thread can be named."""
        server.hang_up()
        with pytest.raises(RunCreationUnknown, match="on a new thread is unknown") as caught:
            await scripted_session.threads.create_and_run(assistant_id="asst_1")
        assert caught.value.thread_id is None
        server.reply(DOWN, 404)
        with pytest.raises(AsyncRunsError, match="boom"):
            await scripted_session.threads.create_and_run(assistant_id="asst_1")

    async def test_is_repeated_on_the_callers_own_word(self, server, open_session):
        """`repeat_ambiguous`: then the server may hold two."""
        session = await open_session(server, retry=RetryPolicy(repeat_ambiguous=True))
        server.reply(DOWN, 500)
        server.reply(RUN)
        assert (await session.runs.create("thread_1", assistant_id="a")).id == "run_1"
        assert len(server.requests) == 2

    async def test_a_refusal_stays_what_it_is(self, server, create):
        """A create that was refused is known not to exist."""
        server.reply(DOWN, 400)
        with pytest.raises(BadRequestError, match="boom"):
            await create()

    @pytest.mark.parametrize(
        ("text", "run_id"),
        [
            ("Thread thread_1 already has an active run run_9.", "run_9"),
            ("Can't add messages to thread_1 while a run run_9 is active.", "run_9"),
        ],
    )
    async def test_an_active_run_is_named(self, server, create, text, run_id):
        """From both published texts."""
        server.reply({"error": {"message": text, "code": None, "type": "invalid_request_error", "param": None}}, 400)
        with pytest.raises(ActiveRunError) as caught:
            await create()
        assert (caught.value.run_id, caught.value.type) == (run_id, "invalid_request_error")


class TestRepeatable:
    """Which calls may be carried out twice."""

    @pytest.mark.parametrize(
        ("method", "args", "answer", "count"),
        [
            ("threads.retrieve", ("thread_1",), THREAD, 2),
            ("threads.modify", ("thread_1",), THREAD, 2),
            ("threads.create", (), THREAD, 1),
            ("threads.delete", ("thread_1",), {"id": "thread_1", "deleted": True}, 1),
            ("runs.retrieve", ("thread_1", "run_1"), RUN, 2),
            ("runs.modify", ("thread_1", "run_1"), RUN, 2),
        ],
    )
    async def test_after_a_server_error(self, server, scripted_session, method, args, answer, count):
        """Reads and replacements are, whatever makes or ends something is not."""
        resource, name = method.split(".")
        server.reply(DOWN, 500)
        server.reply(answer)
        call = getattr(getattr(scripted_session, resource), name)(*args)
        if count == 2:
            assert (await call).id == answer["id"]
        else:
            with pytest.raises(ServerError):
                await call
        assert len(server.requests) == count


class TestDeadline:
    """One deadline for a call with all that belongs to it."""

    async def test_a_wait_that_does_not_fit_is_not_begun(self, server, retrieve, naps):
        """The refusal is raised at once, with the wait that was asked for."""
        server.reply(BUSY, 429, {"Retry-After": "86400"})
        with pytest.raises(RateLimitError) as caught:
            await retrieve()
        assert caught.value.retry_after == 86400.0
        assert len(server.requests) == 1
        assert naps == []

    async def test_a_calls_own_timeout_counts(self, server, retrieve, naps):
        """Retry-After beyond it raises at once."""
        server.reply(BUSY, 429, {"Retry-After": "6"})
        with pytest.raises(RateLimitError):
            await retrieve(timeout=5)
        assert naps == []

    async def test_an_answer_that_does_not_come(self, emulator, session):
        """The error is a TimeoutError too, and the connection is not used again."""
        emulator.delay = 5.0
        with pytest.raises(
            DeadlineExceeded, match=r"GET /threads/thread_1 had no complete answer in 0\.05 seconds"
        ) as caught:
            await session.threads.retrieve("thread_1", timeout=0.05)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.attempts == 1

    async def test_what_was_left_of_a_time_is_told_in_round_numbers(self, emulator, session):
        """A call that was given the rest of a deadline names no 0.0499993 seconds."""
        emulator.delay = 5.0
        with pytest.raises(DeadlineExceeded, match=r" in 0\.05 seconds"):
            await session.threads.retrieve("thread_1", timeout=0.0499993)
        emulator.delay = 0.0
        assert (await session.threads.create()).id

    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 10**400, "5", True])
    async def test_a_timeout_that_is_none(self, emulator, session, timeout):
        """Refused before anything is sent."""
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
            await session.threads.retrieve("thread_1", timeout=timeout)
        assert emulator.requests == []

    async def test_a_time_without_a_connection_sends_nothing(self, emulator, open_session):
        """Whoever waited for a free connection, or for a token, until the time was up is told that nothing was sent."""
        emulator.delay = 5.0
        session = await open_session(emulator, max_connections=1)
        first = asyncio.create_task(session.threads.create())
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded, match=r"was not sent in 0\.05 seconds") as caught:
            await session.threads.create(timeout=0.05)
        assert caught.value.attempts == 0
        first.cancel()
        await asyncio.wait([first])
        assert emulator.request_count <= 1

    async def test_cancelling_a_call_is_no_failure(self, emulator, session):
        """It goes through, and the session is good for the next call."""
        emulator.delay = 5.0
        task = asyncio.create_task(session.threads.create())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        emulator.delay = 0.0
        assert (await session.threads.create()).id

    async def test_a_timeout_of_the_providers_own_is_not_ours(self, server, open_session):
        """A TimeoutError from the caller's code reaches the caller as it is."""

        async def provide():
            raise TimeoutError("the provider's")

        session = await open_session(server, api_key=provide)
        with pytest.raises(TimeoutError, match="the provider's") as caught:
            await session.threads.retrieve("thread_1")
        assert not isinstance(caught.value, AsyncRunsError)


class TestQuota:
    """An outage is not amplified."""

    async def test_is_spent_and_told(self, server, scripted_session):
        """After ten retries the eleventh call raises at once, and says why."""
        server.reply(DOWN, 503, times=100)
        for _ in range(5):
            with pytest.raises(ServerError) as caught:
                await scripted_session.threads.retrieve("thread_1")
            assert not caught.value.retry_quota_exhausted
        assert len(server.requests) == 15
        with pytest.raises(ServerError) as caught:
            await scripted_session.threads.retrieve("thread_1")
        assert caught.value.retry_quota_exhausted
        assert len(server.requests) == 16

    async def test_is_told_for_lost_connections_too(self, server, scripted_session):
        """On the transport's own errors."""
        scripted_session._transport._quota._tokens = 0
        server.hang_up()
        with pytest.raises(ConnectionLost) as caught:
            await scripted_session.threads.retrieve("thread_1")
        assert caught.value.retry_quota_exhausted

    async def test_errors_that_cannot_tell_are_raised_as_they_are(self, server, scripted_session):
        """A body that cannot be unpacked is tried again once, if the quota allows."""
        scripted_session._transport._quota._tokens = 0
        server.reply(b"garbage", headers={"Content-Encoding": "gzip"})
        with pytest.raises(DecodeError):
            await scripted_session.threads.retrieve("thread_1")

    async def test_comes_back_with_success(self, server, scripted_session):
        """A call that succeeds refunds what its retries took, and one more."""
        quota = scripted_session._transport._quota
        quota._tokens = 20
        server.reply(DOWN, 503)
        server.reply(THREAD, times=2)
        await scripted_session.threads.retrieve("thread_1")
        assert quota.tokens == 21
        await scripted_session.threads.retrieve("thread_1")
        assert quota.tokens == 22
        assert quota.tokens < RetryQuota.CAPACITY


class TestAnswers:
    """What a body may be."""

    @pytest.mark.parametrize(
        ("encoding", "pack"),
        [
            ("gzip", gzip.compress),
            ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
            ("deflate", zlib.compress),
            ("deflate", lambda body: zlib.compress(body)[2:-4]),
            ("identity", bytes),
            ("", bytes),
            ("GZIP", gzip.compress),
        ],
    )
    async def test_packed(self, server, retrieve, encoding, pack):
        """In one of the ways that were offered."""
        server.reply(pack(json.dumps(THREAD).encode()), headers={"Content-Encoding": encoding})
        assert (await retrieve()).id == "thread_1"

    @pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x-CANARY"])
    async def test_packed_in_a_way_that_was_not_offered(self, server, retrieve, encoding):
        """Told as such, not as broken JSON."""
        server.reply(b"\x00", headers={"Content-Encoding": encoding})
        with pytest.raises(UnexpectedContentError, match="not asked for") as caught:
            await retrieve()
        assert len(server.requests) == 1
        assert caught.value.status == 200

    async def test_that_cannot_be_unpacked(self, server, retrieve, create):
        """A read is tried once more, a create is not."""
        server.reply(b"garbage", headers={"Content-Encoding": "gzip"}, times=3)
        with pytest.raises(DecodeError):
            await retrieve()
        assert len(server.requests) == 2
        with pytest.raises(RunCreationUnknown) as caught:
            await create()
        assert len(server.requests) == 3
        assert isinstance(caught.value.__cause__, DecodeError)

    async def test_packed_and_cut(self, server, retrieve):
        """Its end is missing: tried again, and then told."""
        server.reply(gzip.compress(json.dumps(THREAD).encode())[:-8], headers={"Content-Encoding": "gzip"}, times=3)
        with pytest.raises(TruncatedBodyError, match="packed answer ends in the middle"):
            await retrieve()
        assert len(server.requests) == 3

    async def test_that_tells_its_id_twice(self, server, retrieve):
        """Readers of JSON differ about which counts, so neither does; an inner object may have an id too."""
        server.reply(b'{"id": "thread_1", "metadata": {"id": "x"}}')
        assert (await retrieve()).metadata == {"id": "x"}
        server.reply(b'{"id": "thread_2", "id": "thread_1"}')
        with pytest.raises(DecodeError, match="tells its id twice"):
            await retrieve()

    async def test_in_chunks(self, server, retrieve):
        """However it is cut."""
        body = json.dumps(THREAD).encode()
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        server.raw(head + chunks)
        assert (await retrieve()).id == "thread_1"

    async def test_that_ends_with_the_connection(self, server, retrieve):
        """Complete: it counts. Cut: it is tried again, and then told."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        body = json.dumps(THREAD).encode()
        server.raw(head + body)
        assert (await retrieve()).id == "thread_1"
        server.raw(head + body[:-5], times=3)
        with pytest.raises(TruncatedBodyError, match="ends in the middle"):
            await retrieve()
        assert len(server.requests) == 4

    async def test_that_is_shorter_than_announced(self, server, retrieve):
        """Valid JSON or not, it is not accepted."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\nConnection: close\r\n\r\n"
        server.raw(head + json.dumps(THREAD).encode(), times=3)
        with pytest.raises(TruncatedBodyError):
            await retrieve()
        assert len(server.requests) == 3

    async def test_larger_than_allowed(self, server, open_session):
        """Reading stops; of a refusal's body what fits is enough."""
        session = await open_session(server, max_response_bytes=1000)
        server.reply(THREAD | {"x": "y" * 2000})
        with pytest.raises(ResponseTooLargeError, match="max_response_bytes=1000"):
            await session.threads.retrieve("thread_1")
        server.reply(b"no" * 2**20, 400, {"Content-Type": "text/plain"})
        with pytest.raises(BadRequestError) as caught:
            await session.threads.retrieve("thread_1")
        assert caught.value.status == 400
        server.reply(THREAD)
        assert (await session.threads.retrieve("thread_1")).id == "thread_1"

    async def test_of_nothing(self, server, retrieve):
        """An empty 200 is no thread."""
        server.reply(b"")
        with pytest.raises(SchemaError, match="without a body"):
            await retrieve()

    async def test_under_another_content_type(self, server, retrieve, caplog):
        """Read all the same, and logged once."""
        server.reply(THREAD, headers={"Content-Type": "text/plain"}, times=3)
        for _ in range(3):
            assert (await retrieve()).id == "thread_1"
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    async def test_that_leads_elsewhere(self, server, retrieve):
        """Not followed: one request, the host told."""
        server.reply(b"", 307, {"Location": "https://evil.example/v1/threads/thread_1"})
        with pytest.raises(UnexpectedRedirectError) as caught:
            await retrieve()
        assert (caught.value.status, caught.value.location_host) == (307, "evil.example")
        assert len(server.requests) == 1

    async def test_that_is_no_http(self, server, retrieve):
        """Told as such; no error of aiohttp's comes out or hangs on."""
        server.raw(b"SSH-2.0-OpenSSH_9.6\r\nConnection: close\r\n\r\n")
        with pytest.raises(ProtocolError, match="not valid HTTP") as caught:
            await retrieve()
        assert caught.value.__cause__ is None
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("body", "content_type", "message", "code"),
        [
            ({"error": {"message": "no", "code": "c", "type": "t", "param": "p"}}, "application/json", "no", "c"),
            ({"detail": "no"}, "application/json", "no", None),
            ({"detail": [{"msg": "no"}]}, "application/json", "[{'msg': 'no'}]", None),
            (b"no", "text/plain", "no", None),
            (b"<html>no</html>", "text/html", "<html>no</html>", None),
            (b"", "text/plain", "HTTP status 404", None),
        ],
    )
    async def test_of_every_shape_of_error(self, server, retrieve, body, content_type, message, code):
        """What the servers seen send, over a socket, with the request's id."""
        server.reply(body, 404, {"Content-Type": content_type, "x-request-id": "req_7"})
        with pytest.raises(AsyncRunsError) as caught:
            await retrieve()
        assert (caught.value.message, caught.value.code, caught.value.request_id) == (message, code, "req_7")

    async def test_about_another_object(self, server, retrieve, open_session):
        """An error, unless the caller's gateway rewrites ids."""
        server.reply(THREAD | {"id": "thread_2"}, times=2)
        with pytest.raises(ProtocolError, match=r"Expected thread_1, got thread_2"):
            await retrieve()
        session = await open_session(server, check_identity=False)
        assert (await session.threads.retrieve("thread_1")).id == "thread_2"


async def test_the_key_is_taken_out_of_what_the_server_says(server, open_session):
    """A server that echoes it finds no way into an error."""
    session = await open_session(server, api_key="sk-CANARY-1")
    server.reply({"error": {"message": "Incorrect API key provided: sk-CANARY-1", "code": "sk-CANARY-1"}}, 401)
    with pytest.raises(AsyncRunsError, match=r"provided: \[redacted\]") as caught:
        await session.threads.retrieve("thread_1")
    assert "CANARY" not in f"{caught.value!r} {vars(caught.value)}"


async def test_text_that_no_url_can_hold_never_gets_that_far(emulator, session):
    """The last guard behind the checks of arguments: what aiohttp refuses becomes an error of ours."""
    from asyncruns._protocol import Request

    with pytest.raises(ProtocolError):
        await session._transport.send(Request(method="G ET", target="/threads"))
    assert emulator.requests == []

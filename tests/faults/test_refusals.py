"""Rows 18 and 22 to 30 of the fault matrix: servers that refuse, and when they are asked again."""

import asyncio
from email.utils import formatdate

import pytest

from asyncruns import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RunCreationUnknown,
    ServerError,
    StatusError,
)

from .bodies import RUN, THREAD, error, run
from .conftest import KEY, Bench
from .script_server import answer, head, say

NOON = 1_767_268_800


async def test_row_18_html_from_a_proxy(bench: Bench) -> None:
    """A 502 with a page of HTML is a server error that keeps the text; no error about JSON gets out."""
    html = b"<html><body>Bad \x1b[31mGateway</body></html>"
    async with bench.serve(answer(html, 502, content_type="text/html")) as (server, session):
        failed = await bench.fails(ServerError, session.runs.retrieve(THREAD, RUN))
        assert server.count == 3
    assert failed.status == 502
    assert failed.message == html.decode()
    assert "Gateway" in str(failed)
    assert "\x1b" not in str(failed)


async def test_row_22_retry_after_seconds(bench: Bench) -> None:
    """`Retry-After: 1` lies between the two requests, in real time, with a little jitter on top."""
    script = answer(error("slow down"), 429, retry_after=1), answer(run())
    async with bench.serve(*script, real_sleep=True) as (server, session):
        await session.runs.retrieve(THREAD, RUN)
        assert server.count == 2
        assert 1.0 <= server.gaps()[0] <= 1.3


@pytest.mark.parametrize("is_told", [True, False])
async def test_row_23_retry_after_date(bench: Bench, is_told: bool) -> None:
    """A date is measured against the answer's own `Date`, so a server whose clock is an hour off is understood."""
    server_now = NOON + 3600 if is_told else NOON
    headers = {"retry_after": formatdate(server_now + 2, usegmt=True)}
    headers |= {"date": formatdate(server_now, usegmt=True)} if is_told else {}
    async with bench.serve(answer(error("slow down"), 429, **headers), answer(run())) as (server, session):
        session._transport.now = lambda: NOON
        await session.runs.retrieve(THREAD, RUN)
        assert server.count == 2
    assert 2.0 <= bench.waits[0] <= 3.0


async def test_row_24_retry_after_milliseconds(bench: Bench) -> None:
    """`retry-after-ms: 300` lies between the two requests, in real time."""
    script = answer(error("slow down"), 429, retry_after_ms=300), answer(run())
    async with bench.serve(*script, real_sleep=True) as (server, session):
        await session.runs.retrieve(THREAD, RUN)
        assert server.count == 2
        assert 0.3 <= server.gaps()[0] <= 0.6


@pytest.mark.parametrize(("asked", "timeout"), [(86_400, 60.0), (2, 1.0)])
async def test_row_25_retry_after_beyond_the_deadline(bench: Bench, asked: int, timeout: float) -> None:
    """A wait that does not fit into the deadline is not begun: the refusal is raised at once and says how long."""
    loop = asyncio.get_running_loop()
    async with bench.serve(answer(run()), answer(error("slow down"), 429, retry_after=asked)) as (server, session):
        await session.runs.retrieve(THREAD, RUN)
        started = loop.time()
        failed = await bench.fails(RateLimitError, session.runs.retrieve(THREAD, RUN, timeout=timeout))
        assert loop.time() - started < 0.05
        assert server.count == 2
    assert failed.retry_after == asked
    assert bench.waits == []


GARBAGE = ["-5", "nan", "inf", "soon", "1e400", "", "Sun, 06 Nov 100000 08:49:37 GMT", "1,5", "9" * 400, "0x10", "٣"]


@pytest.mark.parametrize("value", GARBAGE)
@pytest.mark.parametrize("header", ["retry_after", "retry_after_ms"])
async def test_row_26_unreadable_retry_after(bench: Bench, header: str, value: str) -> None:
    """An unreadable wait counts as none: the normal backoff follows, and no error of parsing gets out."""
    raw = value.encode().decode("latin-1")
    async with bench.serve(answer(error("slow down"), 429, **{header: raw}), answer(run())) as (server, session):
        await session.runs.retrieve(THREAD, RUN)
        assert server.count == 2
    assert bench.waits == [0.25]


async def test_row_27_500_then_ok(bench: Bench) -> None:
    """One 500 costs one more request."""
    async with bench.serve(answer(error("oops"), 500), answer(run())) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        assert server.count == 2


async def test_row_28_outage_under_a_hundred_callers(bench: Bench) -> None:
    """An outage is not amplified: the quota allows ten retries in all; the server comes back, and so do we."""
    async with bench.serve(answer(error("down"), 503)) as (server, session):
        calls = (session.runs.retrieve(THREAD, RUN) for _ in range(100))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ends} == {ServerError}
        assert all(end.retry_quota_exhausted for end in ends if isinstance(end, ServerError))
        assert server.count <= 110
        assert server.count == 110
        server.script = [answer(run())]
        recovered = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(session.runs.retrieve(THREAD, RUN) for _ in range(100)))
        assert len(answers) == 100
        assert server.count == 210
        server.script = [answer(error("down"), 503), answer(run())]
        server.requests.clear()
        await session.runs.retrieve(THREAD, RUN)
        assert server.count == 2
        assert asyncio.get_running_loop().time() - recovered <= 5.0
    bench.look_at(ends[0])


async def test_row_28_quota_with_lost_connections(bench: Bench) -> None:
    """The quota also bounds the retries of connections that break, and the error says so."""
    async with bench.serve(say(b"", "close")) as (server, session):
        calls = (session.runs.retrieve(THREAD, RUN) for _ in range(60))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert server.count == 70
    assert all(getattr(end, "retry_quota_exhausted", False) for end in ends)


async def test_row_29_conflict(bench: Bench) -> None:
    """A conflict on create is raised after one request."""
    async with bench.serve(answer(error("busy with it", "conflict"), 409)) as (server, session):
        failed = await bench.fails(ConflictError, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 1
    assert (failed.status, failed.code) == (409, "conflict")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 425])
async def test_row_29_refusal_that_wishes_a_retry(bench: Bench, status: int) -> None:
    """A create that was refused is not sent again, whatever the server wishes; a read is, so is a create after 429."""
    refused = answer(error("busy with it"), status, x_should_retry="true")
    async with bench.serve(refused) as (server, session):
        with pytest.raises(StatusError) as caught:
            await session.runs.create(THREAD, assistant_id="asst_1")
        bench.look_at(caught.value)
        assert (server.count, caught.value.status) == (1, status)
    async with bench.serve(refused, answer(run())) as (server, session):
        assert (await session.runs.retrieve(THREAD, RUN)).id == RUN
        assert server.count == 2
    limited = answer(error("slow down"), 429, x_should_retry="true")
    async with bench.serve(limited, answer(run())) as (server, session):
        assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == RUN
        assert server.count == 2


REFUSALS = {401: AuthenticationError, 403: PermissionDeniedError, 404: NotFoundError, 422: BadRequestError}


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("method", ["retrieve", "create"])
async def test_row_30_refusal_that_echoes_the_key(bench: Bench, status: int, method: str) -> None:
    """A refusal costs one request and has its own class; the key is taken out wherever the server echoes it."""
    body = {"error": {"message": f"bad key {KEY}!", "code": KEY, "type": KEY, "param": KEY}}
    async with bench.serve(answer(body, status, x_request_id=f"req_{KEY}")) as (server, session):
        call = (
            session.runs.retrieve(THREAD, RUN)
            if method == "retrieve"
            else session.runs.create(THREAD, assistant_id="asst_1")
        )
        failed = await bench.fails(REFUSALS[status], call)
        assert server.count == 1
    assert failed.status == status
    assert failed.message == "bad key [redacted]!"
    assert failed.request_id == "req_[redacted]"


BROKEN_REFUSALS = {
    "cut": head(429, content_length=500) + b'{"error": {"message": "slow',
    "bad gzip": head(429, content_encoding="gzip", connection="close") + b"no gzip at all",
    "unknown encoding": head(429, content_encoding="zstd", connection="close") + b"\x28\xb5\x2f\xfd",
    "endless": head(429, transfer_encoding="chunked") + b"1000000\r\n" + b"x" * 2**21,
}


@pytest.mark.parametrize("name", BROKEN_REFUSALS)
async def test_row_30_refusal_with_a_broken_body(bench: Bench, name: str) -> None:
    """The status of a refusal counts though its body is broken: a 429 says that nothing was begun."""
    async with bench.serve(say(BROKEN_REFUSALS[name]), answer(run())) as (server, session):
        assert (await session.runs.create(THREAD, assistant_id="asst_1")).id == RUN
        assert server.count == 2


async def test_row_30_server_error_with_a_broken_body(bench: Bench) -> None:
    """A create answered with a broken 500 is of unknown outcome, as with a whole one."""
    async with bench.serve(say(head(500, content_length=500) + b"oh")) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.runs.create(THREAD, assistant_id="asst_1"))
        assert server.count == 1
    assert isinstance(failed.__cause__, ServerError)

"""Rows 54 to 63 of the fault matrix: live runs whose stream breaks, stalls, lies or is left."""

import asyncio
import gc
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from asyncruns import (
    DecodeError,
    IdentityMismatchError,
    ProtocolError,
    ResponseTooLargeError,
    RunCreationUnknown,
    RunStream,
    Session,
    StreamEvent,
    StreamInterrupted,
    StreamServerError,
    UnexpectedContentError,
    UnknownEvent,
)

from .bodies import RUN, THREAD, run
from .byte_proxy import ByteProxy
from .conftest import Bench, memory_peak, until
from .script_server import Action, Exchange, ScriptServer, answer, chunked, dribble, flood, hang, head, say

STREAM = head(content_type="text/event-stream")
CHUNKED = head(content_type="text/event-stream", transfer_encoding="chunked")


def event(name: str, data: Any) -> bytes:
    """Return an event in the wire's form."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data if isinstance(data, bytes) else json.dumps(data).encode())


def delta(text: str) -> bytes:
    """Return the event of more text."""
    parts = [{"index": 0, "type": "text", "text": {"value": text}}]
    return event("thread.message.delta", {"id": "msg_1", "delta": {"content": parts}})


CREATED = event("thread.run.created", run(status="queued"))
COMPLETED = event("thread.run.completed", run())
DONE = event("done", b"[DONE]")
BEGUN = CREATED + delta("Hel")
WHOLE = BEGUN + delta("lo") + COMPLETED + DONE
NAMES = ["thread.run.created", "thread.message.delta"]


def opened(session: Session, **options: Any) -> RunStream:
    """Return a stream on the thread."""
    return session.runs.stream(THREAD, assistant_id="asst_1", **options)


async def read_into(events: list[StreamEvent], stream: RunStream) -> None:
    """Enter *stream* and put each event it gives down."""
    async with stream:
        async for each in stream:
            events.append(each)


CUTS: dict[str, Action] = {
    "row_54_chunked_cut": say(CHUNKED + chunked(BEGUN, last=False)),
    "row_54_chunk_cut": say(CHUNKED + chunked(BEGUN)[:-5] + b"40\r\nevent: thread.run.comp"),
    "row_54_length_cut": say(head(content_type="text/event-stream", content_length=9999) + BEGUN),
    "row_54_reset": say(STREAM + BEGUN, "reset"),
    "row_54_reset_in_a_chunk": say(CHUNKED + chunked(BEGUN, last=False) + b"40\r\nevent", "reset"),
    "row_55_eof": say(STREAM + BEGUN),
    "row_55_last_chunk": say(CHUNKED + chunked(BEGUN)),
    "row_55_half_event": say(STREAM + BEGUN + COMPLETED[:-1]),
    "row_55_half_json": say(STREAM + BEGUN + COMPLETED[:60]),
    "row_55_half_name": say(STREAM + BEGUN + b"event: thread.run.com"),
    "row_55_event_without_data": say(STREAM + BEGUN + b"event: thread.run.completed\n\n"),
}


@pytest.mark.parametrize("name", CUTS)
async def test_rows_54_and_55_cut(bench: Bench, name: str) -> None:
    """A stream that is cut gives the events so far, no half one, and then says so, with the run to go on with."""
    events: list[StreamEvent] = []
    async with bench.serve(CUTS[name]) as (server, session):
        stream = opened(session)
        failed = await bench.fails(StreamInterrupted, read_into(events, stream))
        assert server.count == 1
    assert [each.name for each in events] == NAMES
    assert (failed.run_id, failed.last_event) == (RUN, NAMES[-1])
    assert failed.reason == ("lost" if name.startswith("row_54") else "eof")
    assert stream.messages[0].text == "Hel"


@pytest.mark.parametrize("broken", [b"zz\r\nevent: x\r\n", b"-1\r\n", b"3\r\nabcdef\r\n", b"\0"])
async def test_row_54_broken_chunk(bench: Bench, broken: bytes) -> None:
    """A stream whose chunks are not valid HTTP is interrupted too, at its idle timeout at the latest.

    (aiohttp's parser in C closes the connection then, and tells nobody who reads from it.)
    """

    async def act(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunked(BEGUN, last=False))
        await asyncio.sleep(0.02)
        await exchange.send(broken)
        await asyncio.sleep(0.02)
        exchange.close()

    events: list[StreamEvent] = []
    async with bench.serve(act) as (_, session):
        failed = await bench.fails(StreamInterrupted, read_into(events, opened(session, idle_timeout=0.15)))
    assert failed.reason in ("lost", "idle")
    assert [each.name for each in events] == NAMES


@pytest.mark.parametrize("broken", [b"zz\r\nevent: x\r\n", b"-1\r\n"])
async def test_row_54_broken_chunk_while_nobody_reads(bench: Bench, broken: bytes) -> None:
    """A stream that breaks while its reader is busy is lost when the reader comes back."""
    read = asyncio.Event()

    async def act(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunked(BEGUN, last=False))
        await read.wait()
        await exchange.send(broken)

    async with bench.serve(act) as (_, session), opened(session) as stream:
        for name in NAMES:
            assert (await anext(stream)).name == name
        read.set()
        await asyncio.sleep(0.05)
        failed = await bench.fails(StreamInterrupted, stream.final_run())
    assert failed.reason == "lost"


async def test_row_63_session_closed_under_a_stream(bench: Bench) -> None:
    """A stream whose session is closed is lost to its reader, and leaves nothing behind."""
    async with bench.serve(say(CHUNKED + chunked(BEGUN, last=False), "hang")) as (_, session):
        stream = await opened(session).__aenter__()
        for _ in NAMES:
            await anext(stream)
        reader = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
    failed = await bench.fails(StreamInterrupted, reader)
    assert failed.reason == "lost"
    await stream.__aexit__()


async def test_two_readers_of_one_stream(bench: Bench) -> None:
    """Two tasks that wait for the same stream at once are told that this is wrong; the connection is not at fault."""
    async with bench.serve(say(STREAM + BEGUN, "hang")) as (_, session), opened(session) as stream:
        for _ in NAMES:
            await anext(stream)
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await anext(stream)
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("data", [b"", b"\n\n", b": ping\n\n", b"event: thread.run.completed"])
async def test_row_55_no_event(bench: Bench, data: bytes) -> None:
    """A stream that ends without any event is no success: its run is not even known."""
    async with bench.serve(say(STREAM + data)) as (_, session):
        failed = await bench.fails(StreamInterrupted, read_into([], opened(session)))
    assert (failed.run_id, failed.last_event, failed.reason) == (None, None, "eof")


async def test_row_55_final_run(bench: Bench) -> None:
    """`final_run` does not take a broken stream for an end either, unless it may read the run."""
    reads = [run(status="in_progress"), run()]
    script = [say(STREAM + BEGUN), say(STREAM + BEGUN), *map(answer, reads)]
    async with bench.serve(*script) as (server, session):
        async with opened(session) as stream:
            await bench.fails(StreamInterrupted, stream.final_run())
        async with opened(session, on_interrupt="poll") as stream:
            assert (await stream.final_run()).status == "completed"
        assert [request.method for request in server.requests] == ["POST", "POST", "GET", "GET"]


@pytest.mark.parametrize(
    "act",
    [
        CUTS["row_54_chunked_cut"],
        CUTS["row_54_reset"],
        CUTS["row_55_eof"],
        say(STREAM + BEGUN, "hang"),
        say(CHUNKED + chunked(CREATED + DONE, last=False), "hang"),
    ],
    ids=["cut", "reset", "eof", "idle", "done too early"],
)
async def test_rows_54_to_57_on_the_only_connection(bench: Bench, act: Action) -> None:
    """A stream that ended leaves its place to the reads of its run, also where there is no other."""
    async with bench.serve(act, answer(run()), max_connections=1, timeout=1) as (server, session):
        async with opened(session, on_interrupt="poll", idle_timeout=0.1) as stream:
            assert (await stream.final_run()).status == "completed"
            assert [each async for each in stream] == []
        assert [request.method for request in server.requests] == ["POST", "GET"]


async def test_rows_55_and_63_cancelled_while_the_run_is_read(bench: Bench) -> None:
    """Whoever is cancelled while the run of a broken stream is read may go on: the stream has not ended yet."""
    script = say(STREAM + BEGUN), hang(), answer(run(status="in_progress")), answer(run())
    events: list[StreamEvent] = []
    async with bench.serve(*script) as (server, session), opened(session, on_interrupt="poll") as stream:
        task = asyncio.ensure_future(stream.final_run())
        await until(lambda: server.count == 2, "the run was not read")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        events += [each async for each in stream]
        assert stream.run is not None
        assert (events, stream.run.status, server.count) == ([], "completed", 4)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"code": "server_error", "message": "Broken {key}", "param": None, "type": "x"}, "server_error"),
        ({"error": {"code": "server_error", "message": "Broken {key}"}}, "server_error"),
        (b"Broken {key}", None),
    ],
    ids=["flat", "nested", "text"],
)
async def test_row_56_error_event(bench: Bench, data: Any, code: str | None) -> None:
    """An error event, whatever its shape, is raised with its code and text, and without the key."""
    sent = event("error", data).replace(b"{key}", bench.key.encode())
    events: list[StreamEvent] = []
    async with bench.serve(say(STREAM + BEGUN + sent + COMPLETED + DONE)) as (_, session):
        failed = await bench.fails(StreamServerError, read_into(events, opened(session)))
    assert [each.name for each in events] == NAMES
    assert (failed.code, failed.run_id) == (code, RUN)
    assert "Broken" in str(failed)


STALLS: dict[str, Action] = {
    "row_57_idle": say(STREAM + BEGUN, "hang"),
    "row_57_idle_in_an_event": say(STREAM + BEGUN + COMPLETED[:-1], "hang"),
}


def pings(piece: bytes) -> Action:
    """Begin a stream, then send *piece* for ever, a hundred times a second."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(STREAM + BEGUN)
        await dribble(piece * 10_000, 0.01, len(piece))(exchange)

    return act


STALLS |= {
    "row_58_pings": pings(b": ping\n\n"),
    "row_58_names_only": pings(b"event: x\n\n"),
    "row_58_bytes": pings(b"d"),
}


@pytest.mark.parametrize("name", STALLS)
async def test_rows_57_and_58_no_event(bench: Bench, name: str) -> None:
    """Without an event the stream ends at its idle timeout; pings are no events."""
    loop = asyncio.get_running_loop()
    events: list[StreamEvent] = []
    async with bench.serve(STALLS[name]) as (_, session):
        started = loop.time()
        failed = await bench.fails(StreamInterrupted, read_into(events, opened(session, idle_timeout=0.15)))
        assert 0.14 <= loop.time() - started <= 0.45
    assert [each.name for each in events] == NAMES
    assert (failed.reason, failed.run_id) == ("idle", RUN)


async def test_row_57_events_keep_it_alive(bench: Bench) -> None:
    """The idle timeout is for each event, not for the stream; nor does a slow consumer use it up."""
    words = b"".join(map(delta, "abcdefgh"))
    act = dribble(STREAM + CREATED + words + COMPLETED + DONE, 0.03, len(delta("a")))
    async with bench.serve(act) as (_, session), opened(session, idle_timeout=0.15) as stream:
        await anext(stream)
        await asyncio.sleep(0.2)
        assert "".join([text async for text in stream.text_deltas()]) == "abcdefgh"


@pytest.mark.parametrize(
    ("piece", "seconds"), [(event("ping", b"{}"), 0.02), (b":\n" * 30_000 + event("ping", b"{}"), 0.0)]
)
async def test_row_58_events_after_the_end(bench: Bench, piece: bytes, seconds: float) -> None:
    """Events that never end do not keep a stream open whose run is at rest."""

    async def act(exchange: Exchange) -> None:
        await exchange.send(STREAM + BEGUN + COMPLETED)
        while True:
            await asyncio.sleep(seconds)
            await exchange.send(piece)

    async with bench.serve(act) as (_, session), opened(session, idle_timeout=0.1) as stream:
        async with asyncio.timeout(10):
            assert (await stream.final_run()).status == "completed"


async def test_row_57_slow_consumer_of_the_end(bench: Bench) -> None:
    """A slow consumer still gets what follows the run's rest."""
    parts = [BEGUN + COMPLETED, event("late", b"{}"), event("later", b"{}"), DONE]

    async def act(exchange: Exchange) -> None:
        await exchange.send(STREAM)
        for part in parts:
            await asyncio.sleep(0.01)
            await exchange.send(part)

    names: list[str] = []
    async with bench.serve(act) as (_, session), opened(session, idle_timeout=0.6) as stream:
        async for each in stream:
            names.append(each.name)
            await asyncio.sleep(0.25)
    assert names[2:] == ["thread.run.completed", "late", "later", "done"]


@pytest.mark.parametrize("data", [b'{"id": "run_1"', b'{"id": "\xff"}', b"\xed\xa0\x80", b"NaN", b"[" * 100_000])
async def test_row_59_bad_data(bench: Bench, data: bytes) -> None:
    """An event that is no JSON or no UTF-8 is a `DecodeError`, after the events before it."""
    events: list[StreamEvent] = []
    async with bench.serve(say(STREAM + BEGUN + event("thread.run.completed", data) + DONE)) as (_, session):
        await bench.fails(DecodeError, read_into(events, opened(session)))
    assert [each.name for each in events] == NAMES


@pytest.mark.parametrize(
    "start", [b"data: ", b": ", b"", b"data: x\n" * 1000], ids=["data", "comment", "name", "later"]
)
async def test_row_59_endless_line(bench: Bench, start: bytes) -> None:
    """A line without an end is refused at 8 MiB; less than 32 MB of memory is taken meanwhile."""
    async with bench.serve(flood(STREAM + BEGUN + start, b"x" * 65_536)) as (_, session):
        with memory_peak() as peak:
            failed = await bench.fails(ResponseTooLargeError, read_into([], opened(session)))
    assert failed.limit == 8 * 2**20
    assert peak.growth < 32 * 2**20


@pytest.mark.parametrize("line", [b"data: xx\n", b"data\n"])
async def test_row_59_endless_event(bench: Bench, line: bytes) -> None:
    """An event of lines without an end is refused too, also when the lines are empty."""
    long = b"data: " + b"x" * 65_535 + b"\n", 120  # Millions of lines alone would take half a minute.
    async with bench.serve(flood(STREAM + BEGUN, line * 8192, before=long)) as (_, session):
        with memory_peak() as peak:
            await bench.fails(ResponseTooLargeError, read_into([], opened(session, idle_timeout=300)))
    assert peak.growth < 32 * 2**20


async def test_row_59_packed_bomb(bench: Bench) -> None:
    """256 MiB in one line, packed into 260 kB, are refused as well."""
    body = gzip.compress(b"data: " + b"x" * (256 * 2**20), 1)
    act = say(head(content_type="text/event-stream", content_encoding="gzip", content_length=len(body)) + body)
    async with bench.serve(act) as (_, session):
        with memory_peak() as peak:
            await bench.fails(ResponseTooLargeError, read_into([], opened(session)))
    assert peak.growth < 32 * 2**20


async def test_row_57_run_that_rests_twice(bench: Bench) -> None:
    """What a run's first rest took of a stream's patience is given back once it goes on."""
    waiting, going = (
        event(f"thread.run.{status}", run(status=status)) for status in ("requires_action", "in_progress")
    )
    parts = [(BEGUN + waiting, 0.6), (going, 0.05), (COMPLETED, 0.4), (DONE, 0.0)]

    async def act(exchange: Exchange) -> None:
        await exchange.send(STREAM)
        for part, seconds in parts:
            await exchange.send(part)
            await asyncio.sleep(seconds)

    async with bench.serve(act) as (_, session), opened(session, idle_timeout=0.8) as stream:
        names = [each.name async for each in stream]
    assert names[-2:] == ["thread.run.completed", "done"]


def packed(data: bytes) -> bytes:
    """Return a whole answer that streams *data* in gzip."""
    body = gzip.compress(data, 1)
    return head(content_type="text/event-stream", content_encoding="gzip", content_length=len(body)) + body


async def test_row_58_packed_pings(bench: Bench) -> None:
    """Pings of many times their packed size leave the loop to others, and the idle timeout its say."""
    loop = asyncio.get_running_loop()
    async with bench.serve(say(packed(BEGUN + b": ping\n\n" * 2**22))) as (_, session):
        started = loop.time()
        failed = await bench.fails(StreamInterrupted, read_into([], opened(session, idle_timeout=0.15)))
        assert loop.time() - started < 2
    assert (failed.reason, failed.last_event) == ("idle", NAMES[-1])


async def test_row_63_cancelled_between_packed_pieces(bench: Bench) -> None:
    """Whoever is cancelled while a packed stream is unpacked loses none of it."""
    words = b"".join([delta("x" * 2**16) for _ in range(24)])
    cancelled = 0
    async with bench.serve(say(packed(CREATED + words + COMPLETED + DONE))) as (_, session), opened(session) as stream:
        while not stream.run or not stream.run.is_terminal:
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if task.cancelled():
                cancelled += 1
                await anext(stream)
    assert cancelled >= 4
    assert len(stream.messages[0].text) == 24 * 2**16


def step(run_id: str = RUN, thread_id: str = THREAD) -> bytes:
    """Return the event of a step."""
    about = {"run_id": run_id, "thread_id": thread_id, "type": "tool_calls", "status": "in_progress"}
    return event("thread.run.step.created", {"id": "step_1", **about, "step_details": {}})


def message(run_id: str | None = RUN, thread_id: str = THREAD) -> bytes:
    """Return the event of a message."""
    about = {"run_id": run_id, "thread_id": thread_id, "role": "assistant", "content": []}
    return event("thread.message.created", {"id": "msg_1", **about})


OTHERS: dict[str, tuple[bytes, str, str]] = {
    "run": (event("thread.run.completed", run("run_other")), RUN, "run_other"),
    "run of another thread": (event("thread.run.completed", run(thread_id="t_other")), THREAD, "t_other"),
    "step of another run": (step("run_other"), RUN, "run_other"),
    "step of another thread": (step(thread_id="t_other"), THREAD, "t_other"),
    "message of another run": (message("run_other"), RUN, "run_other"),
    "message of another thread": (message(thread_id="t_other"), THREAD, "t_other"),
    "thread": (event("thread.created", {"id": "t_other", "object": "thread"}), THREAD, "t_other"),
}


@pytest.mark.parametrize("name", OTHERS)
async def test_rows_44_and_53_event_of_another(bench: Bench, name: str) -> None:
    """An event about another run or thread is an error that names both, and leaves the snapshots as they were.

    The events before it are given, and a gateway's session may switch the check off.
    """
    other, expected, got = OTHERS[name]
    events: list[StreamEvent] = []
    act = say(STREAM + BEGUN + other + COMPLETED + DONE)
    async with bench.serve(act) as (server, session):
        stream = opened(session)
        failed = await bench.fails(IdentityMismatchError, read_into(events, stream))
        assert (failed.expected, failed.got) == (expected, got)
        assert [each.name for each in events] == NAMES
        assert stream.run is not None
        assert (stream.run.id, stream.run.thread_id, stream.run.status) == (RUN, THREAD, "queued")
        assert (len(stream.messages), stream.steps, stream.thread) == (1, (), None)
        async with bench.session(server.url, check_identity=False) as trusting:
            await read_into(events, opened(trusting))
    assert [each.name for each in events[-2:]] == ["thread.run.completed", "done"]


@pytest.mark.parametrize("first", [step(), message(), CREATED], ids=["step", "message", "run"])
async def test_rows_44_and_53_first_told(bench: Bench, first: bytes) -> None:
    """The run of a stream is the first that any event tells, and so is the thread where the stream creates it."""
    events: list[StreamEvent] = []
    for other in (run("run_other"), run(thread_id="t_other")):
        act = say(STREAM + first + event("thread.run.completed", other) + DONE)
        async with bench.serve(act) as (_, session):
            await bench.fails(IdentityMismatchError, read_into(events, opened(session)))
            whole = session.threads.stream_and_run(assistant_id="asst_1")
            await bench.fails(IdentityMismatchError, read_into(events, whole))
    assert len(events) == 4


async def test_rows_44_and_53_asked_for(bench: Bench) -> None:
    """A stream is about the thread that was asked for, and where it answers a run, about that, from its first event."""
    async with bench.serve(say(STREAM + WHOLE)) as (_, session):
        for thread_id, run_id in ((THREAD, "run_2"), ("thread_2", RUN)):
            stream = session.runs.stream_tool_outputs(thread_id, run_id, tool_outputs=[])
            failed = await bench.fails(IdentityMismatchError, read_into([], stream))
            assert failed.expected == (run_id if thread_id == THREAD else thread_id)
            assert stream.run is None
        failed = await bench.fails(
            IdentityMismatchError, read_into([], session.runs.stream("thread_2", assistant_id="asst_1"))
        )
        assert (failed.expected, failed.got) == ("thread_2", THREAD)
        await read_into([], session.runs.stream_tool_outputs(THREAD, RUN, tool_outputs=[]))
        await read_into([], session.threads.stream_and_run(assistant_id="asst_1"))


async def test_rows_44_and_53_not_said(bench: Bench) -> None:
    """A message that names no run is none of another; deltas name neither, and are those of the stream's run."""
    events: list[StreamEvent] = []
    odd = step() + message(None) + delta("!").replace(b"msg_1", b"msg_2")
    async with bench.serve(say(STREAM + CREATED + odd + COMPLETED + DONE)) as (_, session):
        stream = opened(session)
        await read_into(events, stream)
    assert len(events) == 6
    assert [each.text for each in stream.messages] == ["", "!"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<html>\x1b[31m login</html>", "text/html"),
        (json.dumps(run()).encode(), "application/json"),
        (json.dumps({"error": {"message": "no"}}).encode(), "application/json"),
        (WHOLE, "text/plain"),
        (WHOLE, "application/octet-stream"),
        (json.dumps(run()).encode(), None),
    ],
)
async def test_row_60_not_a_stream(bench: Bench, body: bytes, content_type: str | None) -> None:
    """What is no stream is not read as one, a run's own JSON neither; it is asked for once."""
    async with bench.serve(answer(body, content_type=content_type)) as (server, session):
        failed = await bench.fails(UnexpectedContentError, read_into([], opened(session)))
        assert server.count == 1
    assert (failed.status, failed.content_type) == (200, content_type)
    assert "\x1b" not in str(failed)


@pytest.mark.parametrize(
    "act",
    [answer(b""), answer(b"", 204), say(b"HTTP/1.1 20 OK\r\n\r\n", "hang")],
    ids=["empty", "204", "no HTTP"],
)
async def test_row_60_nothing(bench: Bench, act: Action) -> None:
    """Where not even something else came, whether the run exists is unknown as for any create; to outputs it is not."""
    async with bench.serve(act) as (server, session):
        failed = await bench.fails(RunCreationUnknown, read_into([], opened(session)))
        assert server.count == 1
        assert isinstance(failed.__cause__, ProtocolError)
        with pytest.raises(ProtocolError):
            await read_into([], session.runs.stream_tool_outputs(THREAD, RUN, tool_outputs=[]))


async def test_row_10_stream_answered_408(bench: Bench) -> None:
    """A 408 to a stream's creation leaves the outcome unknown, as it does to a create."""
    async with bench.serve(answer(b"", 408)) as (server, session):
        failed = await bench.fails(RunCreationUnknown, read_into([], opened(session)))
        assert (server.count, failed.thread_id) == (1, THREAD)


async def test_row_61_no_terminator(bench: Bench) -> None:
    """What only begins like the end marker, and events nobody knows, end nothing and are kept."""
    odd = [event("done", b"[DONE] x"), event("done", b"[DONE"), event("thread.run.dreaming", {"id": RUN})]
    events: list[StreamEvent] = []
    async with bench.serve(say(STREAM + BEGUN + b"".join(odd) + COMPLETED + DONE)) as (_, session):
        await read_into(events, opened(session))
        assert events[2:5] == [
            UnknownEvent(name="done", data="[DONE] x"),
            UnknownEvent(name="done", data="[DONE"),
            UnknownEvent(name="thread.run.dreaming", data={"id": RUN}),
        ]
        assert [each.name for each in events[5:]] == ["thread.run.completed", "done"]


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "LF": lambda data: data,
    "CR": lambda data: data.replace(b"\n", b"\r"),
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "no space": lambda data: data.replace(b": ", b":", 2),
    "pings": lambda data: data.replace(b"\n\n", b"\n\n: ping\n\n"),
}


@pytest.mark.parametrize("form", FORMS)
async def test_row_62_split_at_every_byte(bench: Bench, form: str) -> None:
    """Cut into single bytes, and with any line end, a stream gives the same events as whole."""
    data = FORMS[form](BEGUN + delta("ö🎈") + COMPLETED + DONE)
    whole: list[StreamEvent] = []
    split: list[StreamEvent] = []
    plain: list[StreamEvent] = []
    async with (
        ScriptServer(say(STREAM + data)) as server,
        ByteProxy(server.port, piece=1) as proxy,
        bench.session(server.url) as direct,
        bench.session(proxy.url) as slow,
    ):
        await read_into(whole, opened(direct))
        await read_into(split, opened(slow))
    async with bench.serve(say(STREAM + BEGUN + delta("ö🎈") + COMPLETED + DONE)) as (_, session):
        await read_into(plain, opened(session))
    assert len(whole) == 5
    assert whole == split == plain


@pytest.mark.parametrize("begun", [b"", STREAM[:40], STREAM, CHUNKED])
async def test_row_63_cancelled_while_it_opens(bench: Bench, begun: bytes) -> None:
    """Whoever is cancelled on entering, before or after the answer began, leaves no connection and no place taken."""
    async with bench.serve(say(begun, "hang"), max_connections=2) as (server, session):
        for number in range(1, 11):
            task = asyncio.ensure_future(read_into([], opened(session)))
            await until(lambda number=number: server.count == number, "no request came")  # type: ignore[misc]
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await until(lambda: server.open_connections == 0, "the connection was not closed")
        server.script = [say(STREAM + WHOLE)]
        async with opened(session) as stream:
            assert (await stream.final_run()).status == "completed"
            assert await stream.final_run() is stream.run
        assert server.count == 11


@pytest.mark.parametrize("how", ["break", "cancel", "drop"])
async def test_row_63_left(bench: Bench, how: str) -> None:
    """Whoever leaves a stream, is cancelled in it, or drops it, has its connection closed within a second."""
    async with bench.serve(say(STREAM + BEGUN, "hang"), max_connections=2) as (server, session):
        for _ in range(10):
            stream: RunStream | None = opened(session)
            assert stream is not None
            if how == "cancel":
                task = asyncio.ensure_future(read_into([], stream))
                await until(lambda stream=stream: bool(stream.messages), "no event came")
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
            elif how == "break":
                async with stream:
                    await anext(stream)
            else:
                await stream.__aenter__()
                await anext(stream)
            stream = None
            gc.collect(0)
            await until(lambda: server.open_connections == 0, "the connection was not closed")
        assert server.count == 10

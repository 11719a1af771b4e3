"""Live runs over a socket: typed events, snapshots, and each way a stream may end."""

import asyncio
import gzip
import json
import re
import zlib
from contextlib import suppress
from pathlib import Path

import pytest

from asyncruns import (
    ConfigurationError,
    DecodeError,
    DoneEvent,
    RunCreationUnknown,
    RunEvent,
    RunRequiresActionEvent,
    SchemaError,
    ServerError,
    StreamInterrupted,
    StreamServerError,
    TextContent,
    ThreadCreatedEvent,
    UnexpectedContentError,
    UnknownEvent,
    WaitTimeout,
)
from asyncruns._sse import SSEDecoder
from asyncruns.emulator import Script

RUN = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": "queued"}
DONE = b"event: done\ndata: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


def event(name, data):
    """Return an event in the wire's form."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def run_event(status, **fields):
    """Return the event of a run in that status."""
    return event(f"thread.run.{'created' if status == 'queued' else status}", {**RUN, "status": status, **fields})


def delta_event(text, message="msg_1"):
    """Return the event of more text."""
    part = {"index": 0, "type": "text", "text": {"value": text}}
    return event(
        "thread.message.delta", {"id": message, "object": "thread.message.delta", "delta": {"content": [part]}}
    )


CLOSE = b"Connection: close"


def live(body, *headers, chunked=True, last=True):
    """Return an answer that streams *body*; without its *last* chunk it is cut if it says `CLOSE`, else it hangs."""
    lines = b"".join(header + b"\r\n" for header in headers)
    if not chunked:
        return HEAD + CLOSE + b"\r\n" + lines + b"\r\n" + body
    framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return HEAD + b"Transfer-Encoding: chunked\r\n" + lines + b"\r\n" + framed + (b"0\r\n\r\n" if last else b"")


def recorded():
    """Return the recorded streams that are JSON throughout; the description's own examples are not."""
    folder = Path(__file__).parents[3] / "shared" / "payloads"
    return sorted(path for path in folder.glob("*.sse") if not path.name.startswith("spec__"))


def raw_events(data):
    """Return what the decoder gives: the events, and after how many bytes each is complete."""
    decoder = SSEDecoder()
    return [(found, place + 1) for place in range(len(data)) for found in decoder.feed(data[place : place + 1])]


def thread_of(data):
    """Return the thread of a recorded stream."""
    return re.search(rb'"thread_id":\s*"([^"]+)"', data)[1].decode()


def run_of(data):
    """Return the run of a recorded stream."""
    told = [json.loads(raw.data) for raw, _ in raw_events(data) if raw.name.startswith("thread.run.")]
    return next(one["id"] for one in told if one["object"] == "thread.run")


def is_end(raw):
    """Whether an event tells that the run rests, or is the end marker."""
    kind, _, state = raw.name.rpartition(".")
    return raw.name == "done" or (kind == "thread.run" and state in ("requires_action", "completed", "failed"))


async def read(stream):
    """Return the events that a stream gives, and how it was interrupted, if it was."""
    events = []
    try:
        async with stream:
            async for each in stream:
                events.append(each)
    except StreamInterrupted as error:
        return events, error
    return events, None


@pytest.fixture
def open_stream(server, scripted_session):
    """Give the test a way to open a stream that is answered with these bytes."""

    def open_one(answer, thread_id="thread_1", **options):
        server.raw(answer)
        return scripted_session.runs.stream(thread_id, assistant_id="asst_1", **options)

    return open_one


class TestRecorded:
    """Streams of real servers, replayed."""

    @pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
    async def test_replays(self, open_stream, path):
        """Every event comes under its own name, none is unknown, and the stream ends at its end."""
        data = path.read_bytes()
        async with open_stream(live(data), thread_of(data)) as stream:
            events = [event async for event in stream]
            run = await stream.final_run()
        assert [event.name for event in events] == [raw.name for raw, _ in raw_events(data)]
        assert not any(isinstance(event, UnknownEvent) for event in events)
        assert stream.run is run
        assert run.is_terminal or run.tool_calls
        if path.name.startswith("openai"):
            assert all(message.status == "completed" for message in stream.messages)
            assert all(step.status != "in_progress" or run.tool_calls for step in stream.steps)

    @pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
    async def test_cut_at_every_event(self, open_stream, path):
        """Cut behind any event it gives all events so far, and then fails, or has rightfully ended."""
        data = path.read_bytes()
        whole = raw_events(data)
        for count in range(0, len(whole) + 1, max(1, len(whole) // 24)):
            told = [raw for raw, _ in whole[:count]]
            cut = data[: whole[count - 1][1] if count else 0]
            for answer, reason in (
                (live(cut), "eof"),
                (live(cut, chunked=False), "eof"),
                (live(cut, CLOSE, last=False), "lost"),
            ):
                stream = open_stream(answer, thread_of(data))
                events, error = await read(stream)
                assert [event.name for event in events] == [raw.name for raw in told]
                if any(map(is_end, told)):
                    assert error is None
                else:
                    assert error.last_event == (told[-1].name if told else None)
                    assert error.run_id == (run_of(data) if any("thread.run." in raw.name for raw in told) else None)
                    assert error.reason == reason

    @pytest.mark.parametrize(
        "name", ["spec__createRun_1_streaming", "spec__createThreadAndRun_2_streaming-with-functions"]
    )
    async def test_an_example_that_is_no_json(self, payloads, open_stream, name):
        """Where a server sent what the description shows, that is a `DecodeError`."""
        data = (payloads / f"{name}.sse").read_bytes()
        async with open_stream(live(data), thread_of(data)) as stream:
            with pytest.raises(DecodeError):
                await stream.final_run()


WHOLE = run_event("queued") + delta_event("Hel") + delta_event("lo") + run_event("completed") + DONE


class TestEvents:
    """What a stream gives."""

    async def test_asks_for_a_stream(self, server, open_stream):
        """The request says that it wants events, in its header and in its body."""
        async with open_stream(live(WHOLE)) as stream:
            await stream.final_run()
        (request,) = server.requests
        assert (request.method, request.target) == ("POST", "/v1/threads/thread_1/runs")
        assert request.headers["accept"] == "text/event-stream"
        assert request.json == {"assistant_id": "asst_1", "stream": True}

    async def test_text_deltas(self, open_stream):
        """The text comes piece by piece, and the run at its end afterwards."""
        async with open_stream(live(WHOLE)) as stream:
            assert stream.run is None
            assert [text async for text in stream.text_deltas()] == ["Hel", "lo"]
            assert (await stream.final_run()).status == "completed"
            assert [text async for text in stream.text_deltas()] == []

    async def test_text_deltas_of_several_messages(self, open_stream):
        """The text of all the run's messages comes in one line of pieces; the snapshots keep them apart."""
        texts = delta_event("One", "msg_1") + delta_event("Two", "msg_2") + delta_event(" more", "msg_1")
        async with open_stream(live(run_event("queued") + texts + run_event("completed") + DONE)) as stream:
            assert [text async for text in stream.text_deltas()] == ["One", "Two", " more"]
        assert [(message.id, message.text) for message in stream.messages] == [("msg_1", "One more"), ("msg_2", "Two")]

    async def test_snapshots(self, open_stream):
        """Run and message are as far as the events that were given, also where the `created` was missed."""
        async with open_stream(live(WHOLE)) as stream:
            seen = []
            async for _ in stream:
                seen.append((stream.run.status, "".join(message.text for message in stream.messages)))
        assert seen == [
            ("queued", ""),
            ("queued", "Hel"),
            ("queued", "Hello"),
            ("completed", "Hello"),
            ("completed", "Hello"),
        ]
        (message,) = stream.messages
        assert (message.id, message.thread_id, message.role) == ("msg_1", "thread_1", "assistant")
        assert message.content == (TextContent(value="Hello"),)

    async def test_deltas_before_any_run(self, open_stream):
        """Deltas of a message and a step whose run was never told make snapshots all the same."""
        call = {"index": 0, "type": "function", "function": {"arguments": "{}"}}
        details = {"type": "tool_calls", "tool_calls": [call]}
        step = event("thread.run.step.delta", {"id": "step_1", "delta": {"step_details": details}})
        async with open_stream(live(delta_event("Hi") + step + step + run_event("completed") + DONE)) as stream:
            await stream.final_run()
        assert stream.messages[0].text == "Hi"
        (found,) = stream.steps
        assert (found.id, found.type, found.status) == ("step_1", "", "in_progress")
        assert found.step_details.tool_calls[0].arguments == "{}{}"

    async def test_a_step_whose_beginning_was_missed(self, open_stream):
        """Its snapshot knows of which run and thread it is; those the stream knows."""
        delta = event("thread.run.step.delta", {"id": "step_1", "delta": {"step_details": {"type": "tool_calls"}}})
        async with open_stream(live(run_event("queued") + delta + run_event("completed") + DONE)) as stream:
            run = await stream.final_run()
        (found,) = stream.steps
        assert (found.run_id, found.thread_id) == (run.id, run.thread_id)

    async def test_raw(self, open_stream):
        """Each event may be had with its data exactly as sent, from wherever the stream stands to its end."""
        odd = b'event: odd\ndata: { "a" : 1.50 ,\ndata: "b":2}\n\n'
        async with open_stream(live(run_event("queued") + odd + run_event("completed") + DONE)) as stream:
            await anext(stream)
            pairs = [(event.name, data) async for event, data in stream.raw()]
            assert [pair async for pair in stream.raw()] == []
        completed = json.dumps({**RUN, "status": "completed"}).encode()
        assert pairs == [("odd", b'{ "a" : 1.50 ,\n"b":2}'), ("thread.run.completed", completed), ("done", b"[DONE]")]
        assert stream.run.status == "completed"

    async def test_raw_of_a_broken_stream(self, open_stream):
        """How a stream ended is told there too."""
        async with open_stream(live(run_event("queued") + run_event("nothing")[:-1])) as stream:
            with pytest.raises(StreamInterrupted):
                [pair async for pair in stream.raw()]

    async def test_interrupted_iteration_goes_on(self, open_stream):
        """A second loop goes on where the first was left."""
        async with open_stream(live(WHOLE)) as stream:
            async for each in stream:
                first = each
                break
            rest = [event async for event in stream]
        assert isinstance(first, RunEvent)
        assert [event.name for event in rest[-2:]] == ["thread.run.completed", "done"]
        assert len(rest) == 4

    async def test_a_burst_lets_others_in(self, open_stream):
        """Hundreds of events that came in one piece are not read in one go: others get the loop between them."""
        turns = 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        burst = b"".join(delta_event(str(number)) for number in range(400))
        async with open_stream(live(run_event("queued") + burst + run_event("completed") + DONE)) as stream:
            await anext(stream)
            other, before = asyncio.create_task(others()), turns
            given = [event async for event in stream]
            other.cancel()
        assert len(given) == 402
        assert turns - before >= 400 // 8
        assert stream.messages[0].text == "".join(map(str, range(400)))

    async def test_a_cancelled_wait_for_an_event_loses_nothing(self, session, emulator):
        """A stream may be asked for its next event with a timeout, again and again."""
        emulator.clock._follows_streams = False  # It waits for the test to turn the clock.
        thread = await session.threads.create()
        names = []
        async with session.runs.stream(thread.id, assistant_id="asst_1") as stream:
            while not stream.run or not stream.run.is_terminal:
                try:
                    names.append((await asyncio.wait_for(anext(stream), 0.02)).name)
                except TimeoutError:
                    emulator.clock.advance(0.05)
            assert [event async for event in stream] == [DoneEvent()]
        assert names[:2] == ["thread.run.created", "thread.run.queued"]
        assert names[-1] == "thread.run.completed"

    async def test_thread_and_run(self, session, emulator):
        """A stream that also creates the thread tells it, and reads the run with it."""
        emulator.script(Script(text=["a", "b", "c"]))
        params = {"thread": {"messages": [{"role": "user", "content": "x"}]}}
        async with session.threads.stream_and_run(assistant_id="asst_1", **params) as stream:
            assert stream.thread is None
            first = await anext(stream)
            assert isinstance(first, ThreadCreatedEvent)
            run = await stream.final_run()
        assert stream.thread == first.thread
        assert run.thread_id == first.thread.id
        assert stream.messages[0].text == "abc"
        assert stream.steps[0].status == "completed"
        assert [message.text async for message in session.messages.list(run.thread_id, run_id=run.id)] == ["abc"]

    async def test_tool_outputs(self, session, emulator):
        """A stream ends where the run requires action, and the one that submits the outputs goes on from there."""
        emulator.script(Script(rounds=[[("get_weather", {"place": "Oslo"})]], text="Warm."))
        thread = await session.threads.create()
        async with session.runs.stream(thread.id, assistant_id="asst_1") as stream:
            events = [event async for event in stream]
        assert isinstance(events[-2], RunRequiresActionEvent)
        run = await stream.final_run()
        outputs = [{"tool_call_id": call.id, "output": "warm"} for call in run.tool_calls]
        async with session.runs.stream_tool_outputs(run.thread_id, run.id, tool_outputs=outputs) as stream:
            assert "".join([text async for text in stream.text_deltas()]) == "Warm."
            assert (await stream.final_run()).status == "completed"

    async def test_unknown_events_pass(self, open_stream):
        """An event nobody knows is given and ends nothing; neither does an almost-end-marker."""
        odd = event("thread.run.paused", {"id": "run_1"}) + b"event: done\ndata: [DONE] x\n\n"
        async with open_stream(live(run_event("queued") + odd + run_event("completed") + DONE)) as stream:
            events = [event async for event in stream]
        assert events[1:3] == [
            UnknownEvent(name="thread.run.paused", data={"id": "run_1"}),
            UnknownEvent(name="done", data="[DONE] x"),
        ]
        assert len(events) == 5

    async def test_later_runs_without_their_thread(self, open_stream):
        """A run that no longer tells its thread, as DashScope's, has that of the run before."""
        last = event("thread.run.completed", {"id": "run_1", "status": "completed"})
        async with open_stream(live(run_event("queued") + last + DONE)) as stream:
            assert (await stream.final_run()).thread_id == "thread_1"

    @pytest.mark.parametrize("how", ["gzip", "deflate", "raw deflate"])
    async def test_packed(self, server, open_stream, how):
        """A packed stream is unpacked as it comes, each event at its own flush."""
        packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "raw deflate": -15}[how])
        pieces = [packer.compress(part + b"\n\n") + packer.flush(zlib.Z_SYNC_FLUSH) for part in WHOLE.split(b"\n\n")]
        body = b"".join(pieces) + packer.flush()
        async with open_stream(live(body, b"Content-Encoding: " + how.split()[-1].encode())) as stream:
            assert len([event async for event in stream]) == 5

    async def test_badly_packed(self, open_stream):
        """A stream that is not packed as it says is a `DecodeError`."""
        async with open_stream(live(WHOLE, b"Content-Encoding: gzip")) as stream:
            with pytest.raises(DecodeError):
                await stream.final_run()

    async def test_packed_otherwise(self, open_stream):
        """A packing that was not asked for is refused on entering."""
        with pytest.raises(UnexpectedContentError, match="packed"):
            await open_stream(live(gzip.compress(WHOLE), b"Content-Encoding: br")).__aenter__()


class TestEnd:
    """How a stream may end."""

    async def test_a_failure_stays(self, open_stream):
        """A stream that failed fails again in the same way, from `final_run` too."""
        async with open_stream(live(run_event("queued"))) as stream:
            with pytest.raises(
                StreamInterrupted, match=r"ended without an end \(eof\) after thread.run.created"
            ) as first:
                await stream.final_run()
            for again in (stream.final_run, stream.__anext__):
                with pytest.raises(StreamInterrupted) as second:
                    await again()
                assert second.value is first.value
        assert (first.value.run_id, first.value.last_event, first.value.reason) == (
            "run_1",
            "thread.run.created",
            "eof",
        )
        assert stream.run.status == "queued"

    async def test_nothing_at_all(self, open_stream):
        """An empty stream names no run and no event."""
        async with open_stream(live(b"")) as stream:
            with pytest.raises(StreamInterrupted, match=r"after no event\. It never named its run") as caught:
                await stream.final_run()
        assert (caught.value.run_id, caught.value.last_event) == (None, None)

    async def test_done_without_a_run(self, open_stream):
        """`done` alone ends the events; but there is no final run to give."""
        async with open_stream(live(DONE)) as stream:
            assert [event async for event in stream] == [DoneEvent()]
            with pytest.raises(StreamInterrupted):
                await stream.final_run()

    async def test_done_before_the_run_ended(self, server, open_stream):
        """A `done` that comes without the run's end has the run read until it rests."""
        async with open_stream(live(run_event("in_progress") + DONE)) as stream:
            server.reply({**RUN, "status": "in_progress"})
            server.reply({**RUN, "status": "failed"})
            assert (await stream.final_run()).status == "failed"
            assert (await stream.final_run()).status == "failed"
        assert len(server.requests) == 3

    @pytest.mark.parametrize("status", ["completed", "failed", "requires_action", "expired", "cancelled", "incomplete"])
    @pytest.mark.parametrize("end", ["eof", "cut", "idle"])
    async def test_a_run_at_rest_needs_no_done(self, open_stream, status, end):
        """When the run rests, whatever ends the stream ends it rightfully, and soon."""
        body = run_event("queued") + run_event(status) + b": ping\n\n"
        answer = live(body, *([CLOSE] if end == "cut" else []), last=end == "eof")
        async with open_stream(answer, idle_timeout=0.05) as stream:
            async with asyncio.timeout(0.9):
                assert [event.name for event in [event async for event in stream]][1:] == [f"thread.run.{status}"]
                assert (await stream.final_run()).status == status

    async def test_polls_when_asked(self, server, open_stream, naps):
        """With `on_interrupt="poll"` the events of a broken stream simply end, and the run is read until it rests."""
        async with open_stream(live(run_event("queued") + delta_event("Hi")), on_interrupt="poll") as stream:
            for status in ("in_progress", "in_progress", "completed"):
                server.reply({**RUN, "status": status})
            assert [event.name async for event in stream] == ["thread.run.created", "thread.message.delta"]
            assert (await stream.final_run()).status == "completed"
        assert stream.messages[0].text == "Hi"
        assert len(server.requests) == 4
        assert len(naps) == 2

    async def test_polls_for_no_unknown_run(self, open_stream):
        """A stream that never named its run cannot be settled by reading."""
        async with open_stream(live(b""), on_interrupt="poll") as stream:
            with pytest.raises(StreamInterrupted):
                await stream.final_run()

    async def test_polls_a_run_that_only_a_step_named(self, server, open_stream):
        """A run is known as soon as any event names it, not only by an event of its own."""
        step = {"id": "step_1", "run_id": "run_1", "thread_id": "thread_1", "type": "tool_calls", "status": "queued"}
        body = event("thread.run.step.created", {**step, "step_details": {}})
        async with open_stream(live(body)) as stream:
            with pytest.raises(StreamInterrupted, match="Run run_1 may go on") as caught:
                await stream.final_run()
        assert caught.value.run_id == "run_1"
        async with open_stream(live(body), on_interrupt="poll") as stream:
            server.reply({**RUN, "status": "completed"})
            assert (await stream.final_run()).status == "completed"
        async with open_stream(live(body + DONE)) as stream:
            server.reply({**RUN, "status": "completed"})
            assert (await stream.final_run()).status == "completed"

    @pytest.mark.parametrize("body", [b"", delta_event("Hi"), run_event("in_progress")], ids=["none", "delta", "run"])
    async def test_polls_a_run_that_was_answered(self, server, scripted_session, naps, body):
        """A stream of tool outputs knows its run from the start; a read that lags behind the outputs is no rest."""
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        waits = {"status": "requires_action", "required_action": {"submit_tool_outputs": {"tool_calls": [call]}}}
        outputs = [{"tool_call_id": "call_1", "output": "x"}]
        params = {"tool_outputs": outputs, "on_interrupt": "poll"}
        for reads in (["completed"], ["in_progress", "failed"]):
            server.raw(live(body))
            server.reply({**RUN, **waits})
            for status in reads:
                server.reply({**RUN, "status": status})
            async with scripted_session.runs.stream_tool_outputs("thread_1", "run_1", **params) as stream:
                assert (await stream.final_run()).status == reads[-1]
        server.raw(live(body))
        call["id"] = "call_2"
        server.reply({**RUN, **waits})
        async with scripted_session.runs.stream_tool_outputs("thread_1", "run_1", **params) as stream:
            assert (await stream.final_run()).tool_calls[0].id == "call_2"

    async def test_an_answered_run_is_named(self, server, scripted_session):
        """Also where its stream told nothing, its end names the run; so does an error of the server's."""
        outputs = [{"tool_call_id": "call_1", "output": "x"}]
        for body, kind in ((b"", StreamInterrupted), (event("error", {"message": "x"}), StreamServerError)):
            server.raw(live(body))
            async with scripted_session.runs.stream_tool_outputs("thread_1", "run_1", tool_outputs=outputs) as stream:
                with pytest.raises(kind) as caught:
                    await anext(stream)
            assert caught.value.run_id == "run_1"

    async def test_a_gateway_that_rewrites_ids(self, server, open_session):
        """There the run is read by the ids that were asked for."""
        session = await open_session(server, check_identity=False)
        for params, target in (({}, "/v1/threads/thread_ours/runs/run_1"), ({"run_id": "run_ours"}, "run_ours")):
            server.raw(live(run_event("queued")))
            server.reply({**RUN, "status": "completed"})
            if params:
                stream = session.runs.stream_tool_outputs(
                    "thread_ours", params["run_id"], tool_outputs=[], on_interrupt="poll"
                )
            else:
                stream = session.runs.stream("thread_ours", assistant_id="a", on_interrupt="poll")
            async with stream:
                assert (await stream.final_run()).status == "completed"
            assert server.requests[-1].target.endswith(target)

    async def test_polling_may_fail_and_be_asked_again(self, server, open_stream):
        """When reading the run fails too, that error is told; asked again, the run is read again."""
        async with open_stream(live(run_event("queued")), on_interrupt="poll") as stream:
            server.reply({"error": {"message": "no"}}, 500, times=3)
            with pytest.raises(ServerError):
                await stream.final_run()
            server.reply({**RUN, "status": "completed"})
            assert (await stream.final_run()).status == "completed"

    async def test_polling_ends(self, open_stream, server, scripted_session, monkeypatch):
        """A run that never rests ends the reading in a `WaitTimeout`, after eleven minutes."""
        monkeypatch.setattr("asyncruns._resource._SETTLE_SECONDS", 0.05)
        async with open_stream(live(run_event("queued")), on_interrupt="poll") as stream:
            server.reply({**RUN, "status": "queued"}, times=10_000)
            with pytest.raises(WaitTimeout):
                await stream.final_run()

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            ({"message": "Gone wrong", "code": "server_error", "type": None, "param": None}, "server_error"),
            ({"error": {"message": "Gone wrong", "type": "t"}}, "t"),
            ("Gone wrong", None),
        ],
    )
    @pytest.mark.parametrize("on_interrupt", ["raise", "poll"])
    async def test_error_event(self, open_stream, data, code, on_interrupt):
        """An error event, of whatever shape, is a `StreamServerError` after the events before it."""
        answer = live(run_event("queued") + event("error", data) + WHOLE)
        async with open_stream(answer, on_interrupt=on_interrupt) as stream:
            assert isinstance(await anext(stream), RunEvent)
            for again in (stream.__anext__, stream.final_run):
                with pytest.raises(StreamServerError, match="Gone wrong") as caught:
                    await again()
        assert (caught.value.code, caught.value.run_id, caught.value.message) == (code, "run_1", "Gone wrong")

    async def test_error_event_before_any_run(self, open_stream):
        """An error that comes first names no run."""
        async with open_stream(live(event("error", {"message": "x"}))) as stream:
            with pytest.raises(StreamServerError) as caught:
                await anext(stream)
        assert caught.value.run_id is None

    async def test_the_key_is_not_shown(self, server, open_session):
        """A server that echoes the key does not get it into our errors, whichever they are."""
        session = await open_session(server, api_key="sk-very-secret")
        bodies = [
            event("error", {"message": "bad key sk-very-secret", "code": "sk-very-secret"}),
            event("thread.run.created", {"error": {"message": "bad key sk-very-secret"}}),
        ]
        for body in bodies:
            server.raw(live(body))
            async with session.runs.stream("thread_1", assistant_id="asst_1") as stream:
                with pytest.raises((StreamServerError, Exception)) as caught:
                    await anext(stream)
            assert "secret" not in repr(caught.value) + repr(vars(caught.value))
            assert "bad key" in str(caught.value)

    @pytest.mark.parametrize("data", [b"{", b'{"id": "\xff"}', b"[DONE]"])
    async def test_bad_data(self, open_stream, data):
        """An event that cannot be read is a `DecodeError`, once the events before it are given."""
        answer = live(run_event("queued") + b"event: thread.run.completed\ndata: " + data + b"\n\n")
        async with open_stream(answer) as stream:
            assert (await anext(stream)).name == "thread.run.created"
            with pytest.raises(DecodeError):
                await anext(stream)

    async def test_bad_shape(self, open_stream):
        """An event of another shape is a `SchemaError` that says where."""
        async with open_stream(live(event("thread.run.created", {"id": "run_1", "thread_id": "t"}))) as stream:
            with pytest.raises(SchemaError) as caught:
                await anext(stream)
        assert caught.value.path == "$.status"


class TestEntering:
    """What is found out before the first event."""

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            (b"text/html", b"<html>Sign in</html>"),
            (b"application/json", json.dumps(RUN).encode()),
            (b"application/json", b'{"error": {"message": "no"}}'),
            (b"text/plain", WHOLE),
            (b"text/plain", json.dumps(RUN).encode()),
        ],
    )
    async def test_not_a_stream(self, server, scripted_session, content_type, body):
        """Something other than a stream is refused before a byte of it is taken for events; it is asked for once."""
        server.reply(body, headers={"Content-Type": content_type.decode()})
        stream = scripted_session.runs.stream("thread_1", assistant_id="asst_1")
        with pytest.raises(UnexpectedContentError) as caught:
            await stream.__aenter__()
        assert len(server.requests) == 1
        assert (caught.value.status, caught.value.content_type) == (200, content_type.decode())

    async def test_a_lost_create(self, server, scripted_session):
        """A create whose answer does not begin is `RunCreationUnknown`, and is not sent again."""
        server.hang_up()
        with pytest.raises(RunCreationUnknown) as caught:
            await scripted_session.runs.stream("thread_1", assistant_id="asst_1").__aenter__()
        assert caught.value.thread_id == "thread_1"
        server.reply({"error": {"message": "no"}}, 500)
        with pytest.raises(RunCreationUnknown) as caught:
            await scripted_session.threads.stream_and_run(assistant_id="asst_1").__aenter__()
        assert caught.value.thread_id is None
        server.hang_up()
        outputs = [{"tool_call_id": "call_1", "output": "x"}]
        with pytest.raises(Exception, match="the connection ended") as lost:
            await scripted_session.runs.stream_tool_outputs("thread_1", "run_1", tool_outputs=outputs).__aenter__()
        assert not isinstance(lost.value, RunCreationUnknown)
        assert len(server.requests) == 3

    async def test_refused(self, server, scripted_session):
        """A refusal is the error that it is for `create` too."""
        server.reply({"error": {"message": "Thread thread_1 already has an active run run_9."}}, 400)
        with pytest.raises(Exception, match="active run") as caught:
            await scripted_session.runs.stream("thread_1", assistant_id="asst_1").__aenter__()
        assert caught.value.run_id == "run_9"

    async def test_retries_what_never_began(self, server, open_stream, naps):
        """A create that was answered 429 is sent again, as every create is."""
        server.reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "1"})
        async with open_stream(live(WHOLE)) as stream:
            assert (await stream.final_run()).status == "completed"
        assert len(server.requests) == 2
        assert naps == [1.1]

    async def test_settings_that_are_none(self, scripted_session, server):
        """Wrong arguments are refused before anything is sent."""
        open_one = scripted_session.runs.stream
        for options in (
            {"idle_timeout": 0},
            {"idle_timeout": None},
            {"on_interrupt": "ignore"},
            {"on_interrupt": None},
        ):
            with pytest.raises(ValueError, match=r"idle_timeout|on_interrupt"):
                open_one("thread_1", assistant_id="asst_1", **options)
        with pytest.raises(TypeError, match="assistant_id"):
            open_one("thread_1")
        with pytest.raises(ValueError, match="timeout"):
            await open_one("thread_1", assistant_id="asst_1", timeout=0).__aenter__()
        assert server.requests == []

    async def test_is_used_inside_its_block(self, open_stream, server):
        """A stream that is not open says so, and one is entered once only."""
        stream = open_stream(live(WHOLE))
        with pytest.raises(ConfigurationError, match="not open"):
            await anext(stream)
        assert server.requests == []
        async with stream:
            with pytest.raises(ConfigurationError, match="once"):
                await stream.__aenter__()
            assert isinstance(await anext(stream), RunEvent)
        rest = [event.name for event in stream._waiting]
        assert len(rest) == 4  # What had come is still given ...
        assert [event.name async for event in stream] == rest
        assert isinstance(stream.run, object)
        with pytest.raises(ConfigurationError, match="once"):
            await stream.__aenter__()
        await stream.__aexit__()

    async def test_leaving_a_stream_that_was_not_entered(self, open_stream):
        """Leaving it does nothing then."""
        stream = open_stream(live(WHOLE))
        await stream.__aexit__(None, None, None)
        async with stream:
            assert isinstance(await anext(stream), RunEvent)


async def leave_by_break(stream):
    """Leave the loop, and with it the block."""
    async with stream:
        async for _ in stream:
            break


async def leave_by_error(stream):
    """Let an error of the caller's own end the block."""
    with suppress(KeyError):
        async with stream:
            async for _ in stream:
                raise KeyError


async def leave_by_cancel(stream):
    """Be cancelled while waiting for the next event."""

    async def read_all():
        async with stream:
            await anext(stream)
            begun.set()
            return [event async for event in stream]

    begun = asyncio.Event()
    task = asyncio.ensure_future(read_all())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def leave_by_timeout(stream):
    """Give up waiting for text, in a generator that is left to itself."""
    with suppress(TimeoutError):
        async with stream, asyncio.timeout(0.001):
            async for _ in stream.text_deltas():
                raise AssertionError


async def leave_by_dropping(stream):
    """Forget a stream in the middle of it, without leaving its block."""
    await stream.__aenter__()
    await anext(stream)


async def leave_unread(stream):
    """Forget a stream that was entered and not read."""
    await stream.__aenter__()


WAYS = [leave_by_break, leave_by_error, leave_by_cancel, leave_by_timeout, leave_by_dropping, leave_unread]


@pytest.mark.parametrize("leave", WAYS)
async def test_a_pool_of_two_survives_a_thousand(emulator, open_session, leave, own_tasks):
    """A thousand streams left in any way leave a session of two connections usable, and nothing behind."""
    emulator.clock._follows_streams = False  # Nothing more comes: each stream is left in the middle.
    session = await open_session(emulator, max_connections=2, timeout=10)
    thread_ids = [(await session.threads.create()).id for _ in range(50)]
    tasks = own_tasks()
    for number in range(1000):
        await leave(session.runs.stream(thread_ids[number % 50], assistant_id="asst_1"))
        if number % 50 == 49:
            emulator.clock.advance(700)  # The runs go on without us, to their end.
    thread = await session.threads.create()
    assert (await session.runs.create(thread.id, assistant_id="asst_1")).status == "queued"
    for _ in range(400):
        is_quiet = own_tasks() == tasks and not session._transport._http.connector._acquired
        if is_quiet:
            break
        await asyncio.sleep(0.005)
    assert is_quiet
    statuses = [run.status async for id in as_async(thread_ids) async for run in session.runs.list(id)]
    assert len(statuses) == 1000
    assert set(statuses) == {"completed"}


async def as_async(values):
    """Yield values one by one."""
    for value in values:
        yield value

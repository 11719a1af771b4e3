"""A live run on a terminal and on a pipe, and what Ctrl-C does to it."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import Callable
from typing import get_args

import pytest

from asyncruns import Run, Session
from asyncruns.cli import _emulate
from asyncruns.emulator import PROFILES, Emulator, RunningClock, Script

EVIL = "\x1b]0;owned\x07\x9b31m\u202e"
LONG = Script(text=["So ", "it ", "begins.\n", *(["more "] * 50)], seconds={"in_progress": 60.0})


@pytest.fixture
async def thread(session: Session) -> str:
    """Give the test a thread."""
    return (await session.threads.create()).id


async def last_run(session: Session, thread: str) -> Run:
    """Return the newest run of the thread."""
    return (await session.runs.list(thread, limit=1)).data[0]


async def test_shows_a_run_live(cli, emulator: Emulator, session: Session, thread: str) -> None:
    """A terminal gets the run's statuses, its steps with what they called, and its text, each once and in order."""
    emulator.script(Script(text=["One. ", "Two.\n", "Three."]))
    ended = await cli("runs", "watch", thread, "asst_1", "--message", "How?", on=emulator, terminal=True)
    run = await last_run(session, thread)
    [step] = await session.steps.list(thread, run.id).collect()
    assert (ended.code, ended.err) == (0, "")
    words = [line.split() for line in ended.lines]
    assert words[:2] == [[run.id, "queued"], [run.id, "in_progress"]]
    assert words[2] == [step.id, "in_progress", "message_creation"]
    assert ended.lines[3:5] == ["One. Two.", "Three."]
    assert words[-1][:2] == [run.id, "completed"]
    assert [step.id, "completed", "message_creation"] in words
    assert [m.text for m in await session.messages.list(thread).collect() if m.role == "user"] == ["How?"]


async def test_shows_what_is_to_answer(cli, emulator: Emulator, session: Session, thread: str) -> None:
    """A run that requires action is shown with the calls that it waits for, and is no failure."""
    emulator.script(Script(rounds=[[("get_weather", {"city": "Lisbon"})]]))
    ended = await cli("runs", "watch", thread, "asst_1", on=emulator, terminal=True)
    [call] = (await last_run(session, thread)).tool_calls
    assert ended.code == 0
    assert f"to answer  get_weather({call.arguments})  {call.id}" in ended.lines


async def test_prints_events_as_json(cli, emulator: Emulator, session: Session, thread: str) -> None:
    """On a pipe, and with --json on a terminal too, each event is one line: its name and its data as on the wire."""
    for words, terminal in (((), False), (("--json",), True)):
        emulator.script(Script(text=["One. ", "Two."]))
        ended = await cli("runs", "watch", thread, "asst_1", *words, on=emulator, terminal=terminal)
        events = [json.loads(line) for line in ended.lines]
        names = [event["event"] for event in events]
        run = await last_run(session, thread)
        assert (ended.code, ended.err) == (0, "")
        assert (names[0], names[-2:]) == ("thread.run.created", ["thread.run.completed", "done"])
        assert (events[-2]["data"]["id"], events[-2]["data"]["status"]) == (run.id, "completed")
        deltas = [event["data"]["delta"]["content"] for event in events if event["event"] == "thread.message.delta"]
        assert [content[0]["text"]["value"] for content in deltas] == ["One. ", "Two."]


SENT = (
    ("thread.run.created", '{"id": "run_1", "thread_id": "thread_1", "status": "queued", "temperature": 1.50}'),
    (
        "thread.run.step.delta",
        '{"id": "step_1", "delta": {"step_details": {"tool_calls": [{"index": 0, "output": null}]}}, "new": [1.0]}',
    ),
    (
        "thread.message.delta",
        '{"id": "msg_1", "delta": {"content": [{"index": 0, "type": "text", "text": {"value": ""}}]}}',
    ),
    ("thread.run.dreaming", '{"depth": 1e3}'),
    ("thread.run.completed", '\ufeff{"id": "run_1", "thread_id": "thread_1",\n"status": "completed", "tools": []}'),
)


async def test_events_are_printed_as_sent(cli, server) -> None:
    """Nothing is added to what an event holds or left out of it; what is no JSON is a string, and the end is null."""
    told = "".join(f"event: {name}\ndata: {data}\n\n".replace(",\n", ",\ndata: ") for name, data in SENT)
    told += "event: odd\ndata: so to speak\n\ndata: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    server.raw(head + told.encode())
    ended = await cli("runs", "watch", "thread_1", "asst_1", on=server)
    assert (ended.code, ended.err) == (0, "")
    plain = [data.lstrip("\ufeff").replace(", ", ",").replace(": ", ":").replace("\n", "") for _, data in SENT]
    assert ended.lines == [
        *(f'{{"event":"{name}","data":{data}}}' for (name, _), data in zip(SENT, plain, strict=True)),
        '{"event":"odd","data":"so to speak"}',
        '{"event":"done","data":null}',
    ]


async def test_run_that_fails(cli, emulator: Emulator, thread: str) -> None:
    """A run that fails is shown to its end, and told on stderr with exit code 1."""
    emulator.next_outcome("failed")
    ended = await cli("runs", "watch", thread, "asst_1", on=emulator, terminal=True)
    assert ended.code == 1
    assert ended.lines[-1].split()[1] == "failed"
    assert "ended as failed: server_error" in ended.err


async def test_stream_that_breaks(cli, emulator: Emulator, session: Session, thread: str) -> None:
    """A stream that breaks keeps what was shown, ends its line, and names the run that may go on."""
    emulator.profile = "stream-eof"
    emulator.script(Script(text=["One. ", "Two. ", "Three. ", "Four."]))
    ended = await cli("runs", "watch", thread, "asst_1", on=emulator, terminal=True)
    emulator.profile = None
    assert ended.code == 1
    assert ended.out.endswith("\n")
    assert f"Run {(await last_run(session, thread)).id} may go on" in ended.err
    assert ended.err.count("\n") == 1


async def test_text_is_escaped(cli, emulator: Emulator, thread: str) -> None:
    """No control character of a live text, of a tool call or of an error reaches the terminal; line breaks do."""
    emulator.script(Script(text=[f"a{EVIL}\n", f"b{EVIL}"]))
    text = await cli("runs", "watch", thread, "asst_1", on=emulator, terminal=True)
    emulator.script(Script(rounds=[[("f", EVIL)]]))
    call = await cli("runs", "watch", thread, "asst_1", on=emulator, terminal=True)
    assert all(line.isprintable() for ended in (text, call) for line in ended.lines)
    assert "a\\x1b]0;owned\\x07\\x9b31m\\u202e" in text.lines
    assert any(line.startswith("to answer  f(\\x1b") for line in call.lines)


@pytest.fixture
async def slow() -> Emulator:
    """Give the test an emulator in real time, whose next run is a long one."""
    async with Emulator(clock=RunningClock(), pace=0.05) as emulator:
        emulator.script(LONG)
        yield emulator


async def watched(process, emulator: Emulator, **options: object) -> tuple[asyncio.subprocess.Process, str]:
    """Start to watch a long run in a process of its own, and return that and the thread."""
    async with Session(emulator.api_key, emulator.base_url) as session:
        thread = (await session.threads.create()).id
    return await process("runs", "watch", thread, "asst_1", on=emulator, **options), thread


async def status(emulator: Emulator, thread: str) -> str:
    """Return the status of the thread's newest run."""
    async with Session(emulator.api_key, emulator.base_url) as session:
        return (await last_run(session, thread)).status


async def test_interrupted_on_a_pipe(process, slow: Emulator) -> None:
    """Without a terminal Ctrl-C leaves the run going, says so and how to cancel it, and exits with 130."""
    started, thread = await watched(process, slow, stdin=asyncio.subprocess.DEVNULL)
    while b"message.delta" not in await asyncio.wait_for(started.stdout.readline(), 30):
        pass
    started.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(started.communicate(), 30)
    [told, interrupted] = err.decode().splitlines()
    assert started.returncode == 130
    assert f"goes on; to cancel it: asyncruns runs cancel {thread} run_" in told
    assert interrupted == "asyncruns: interrupted"
    assert await status(slow, thread) == "in_progress"


@pytest.mark.parametrize(
    ("answer", "after", "told"),
    [("y\n", "cancel", " is cancelling."), ("\n", "in_progress", " goes on"), ("\x03", "in_progress", "interrupted")],
)
async def test_interrupted_on_a_terminal(process, slow: Emulator, answer: str, after: str, told: str) -> None:
    """On a terminal Ctrl-C asks whether to cancel the run: only a yes does, and a second Ctrl-C just leaves."""
    ours, theirs = pty.openpty()
    started, thread = await watched(
        process, slow, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=_own_the_terminal
    )
    os.close(theirs)
    seen = ""

    async def until(is_there: Callable[[], bool]) -> None:
        nonlocal seen
        async with asyncio.timeout(30):
            while not is_there():
                try:
                    seen += (await asyncio.to_thread(os.read, ours, 65536)).decode()
                except OSError:  # The other end is closed.
                    return

    await until(lambda: "begins." in seen)
    os.write(ours, b"\x03")
    await until(lambda: "[y/N] " in seen)
    os.write(ours, answer.encode())
    await until(lambda: False)
    assert await asyncio.wait_for(started.wait(), 30) == 130
    os.close(ours)
    assert told in seen.partition("[y/N] ")[2]
    assert "Traceback" not in seen
    assert (await status(slow, thread)).startswith(after)


def _own_the_terminal() -> None:
    """Make stdin the terminal of a session of the process's own, so that its Ctrl-C is a signal."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


async def test_interrupted_before_the_run_is_known(process) -> None:
    """Ctrl-C before the server has answered says that a run may exist, and where to look."""
    async with Emulator() as emulator:
        emulator.delay = 0.0
        async with Session(emulator.api_key, emulator.base_url) as session:
            thread = (await session.threads.create()).id
        emulator.delay = 30.0
        started = await process("runs", "watch", thread, "asst_1", on=emulator)
        async with asyncio.timeout(30):
            while not any(path.endswith("/runs") for _, path in emulator.requests):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        started.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(started.communicate(), 30)
    assert started.returncode == 130
    assert err.decode().startswith(f"Whether a run was created is unknown; see: asyncruns runs list {thread}\n")


def test_profiles_are_those_of_the_emulator() -> None:
    """`emulate --profile` knows every profile of the emulator and no other."""
    assert get_args(_emulate.Profile) == tuple(PROFILES)


async def test_emulates_a_profile(process, cli) -> None:
    """`emulate --profile` behaves like that profile; its help lists them, and another name is wrong usage."""
    started = await process("emulate", "--json", "--profile", "usage-missing")
    printed = json.loads(await asyncio.wait_for(started.stdout.readline(), 30))
    async with Session(printed["api_key"], printed["base_url"]) as session:
        thread = await session.threads.create()
        run = await session.runs.create(thread.id, assistant_id="asst_1")
        run = await session.runs.wait(thread.id, run.id, timeout=30)
    started.send_signal(signal.SIGINT)
    await asyncio.wait_for(started.communicate(), 30)
    unknown = await cli("emulate", "--profile", "no-such-profile")
    shown = await cli("emulate", "--help")
    assert (run.status, run.usage) == ("completed", None)
    assert (unknown.code, unknown.out) == (2, "")
    assert [name for name in PROFILES if name not in shown.out.replace("\n", " ")] == []

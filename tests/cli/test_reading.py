"""Runs and steps: tables on a terminal, JSON Lines on a pipe, and the exit codes of each command."""

import asyncio
import json
import os
import pty
import signal
from typing import Any

import pytest

from asyncruns import Session
from asyncruns.emulator import Emulator

EVIL = "\x1b]0;owned\x07\x9b31m\u202e"
RUN: dict[str, Any] = {
    "id": "run_1",
    "object": "thread.run",
    "thread_id": "thread_1",
    "status": f"odd{EVIL}",
    "created_at": 1795241450.0,
    "model": f"model{EVIL}",
    "assistant_id": EVIL,
    "last_error": {"code": EVIL, "message": EVIL},
    "incomplete_details": {"reason": EVIL},
    "metadata": {EVIL: EVIL},
    "tools": [{"type": EVIL}, {"type": "function", "function": {"name": EVIL}}],
    "required_action": {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {
            "tool_calls": [{"id": EVIL, "type": "function", "function": {"name": EVIL, "arguments": EVIL}}]
        },
    },
    "usage": {"completion_tokens": 1234},
}
STEP = {
    "id": "step_1",
    "object": "thread.run.step",
    "thread_id": "thread_1",
    "run_id": "run_1",
    "status": EVIL,
    "type": "tool_calls",
    "step_details": {
        "type": "tool_calls",
        "tool_calls": [{"id": "call_1", "type": EVIL}, {"id": "call_2", "type": "code_interpreter"}],
    },
}


def page(*items: dict[str, Any], has_more: bool = False) -> bytes:
    """A page as one real server sends it: pretty-printed, with text as it is."""
    body = {"object": "list", "data": items, "has_more": has_more}
    text = json.dumps(body, ensure_ascii=False, indent=2)
    return text.replace("\x1b", "\\u001b").replace("\x07", "\\u0007").encode()


def is_clean(text: str) -> bool:
    """Whether every line of *text* is made of printable characters alone."""
    return all(line.isprintable() for line in text.split("\n"))


async def start_run(session: Session) -> tuple[str, str]:
    """Create a run that stays queued, and return the ids of its thread and of itself."""
    thread = await session.threads.create(messages=[{"role": "user", "content": "hello"}])
    run = await session.runs.create(thread.id, assistant_id="asst_1")
    return thread.id, run.id


async def test_lists_runs_as_a_table(cli, emulator: Emulator) -> None:
    """On a terminal of 80 columns the runs are one aligned table, newest first, with ids whole and the sum below."""
    [thread] = emulator.fill(threads=1, runs_per_thread=130)
    ended = await cli("runs", "list", thread, on=emulator, terminal=True)
    heading, *rows, total = ended.lines
    assert (ended.code, ended.err, total) == (0, "", "130 runs")
    assert heading.split() == ["run", "status", "created", "(UTC)", "took", "tokens"]
    assert len(rows) == len({row.split()[0] for row in rows}) == 130
    assert all(row.startswith("run_") and len(row.split()[0]) == 28 and len(row) <= 80 for row in rows)
    created = [" ".join(row.split()[2:4]) for row in rows]
    assert created == sorted(created, reverse=True)


async def test_lists_runs_as_sent(cli, emulator: Emulator, session: Session) -> None:
    """On a pipe, and with --json on a terminal too, each run is one line of JSON with the bytes that were sent."""
    [thread] = emulator.fill(threads=1, runs_per_thread=30)
    sent = [blob.decode() async for blob in session.runs.list(thread).raw()]
    piped = await cli("runs", "list", thread, on=emulator)
    forced = await cli("runs", "list", thread, "--json", on=emulator, terminal=True)
    assert (piped.code, piped.err) == (forced.code, forced.err) == (0, "")
    assert piped.lines == forced.lines == sent


async def test_wide_terminal_shows_models(cli, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with room for it shows the model of each run as well."""
    [thread] = emulator.fill(threads=1, runs_per_thread=1)
    monkeypatch.setenv("TERM", "xterm")  # rich gives a dumb terminal 80 columns, whatever its size.
    shown = {}
    for columns in ("120", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        shown[columns] = await cli("runs", "list", thread, on=emulator, terminal=True)
    heading, row, total = shown["120"].lines
    assert "model" in heading
    assert "gpt-4o" in row
    assert "1 run" in total
    assert "model" not in shown["80"].out


async def test_listing_options_reach_the_server(cli, emulator: Emulator) -> None:
    """--limit, --order and --max-items are the listing's own."""
    [thread] = emulator.fill(threads=1, runs_per_thread=20)
    emulator.requests.clear()
    words = ("--limit", "3", "--order", "asc", "--max-items", "5")
    ended = await cli("runs", "list", thread, *words, on=emulator)
    created = [json.loads(line)["created_at"] for line in ended.lines]
    assert len(created) == 5
    assert created == sorted(created)
    assert [path.partition("?")[2][:17] for _, path in emulator.requests] == ["limit=3&order=asc", "limit=2&order=asc"]


@pytest.mark.parametrize("terminal", [False, True])
async def test_status_selects(cli, emulator: Emulator, session: Session, terminal: bool) -> None:
    """--status prints only such runs, of all that there are; --max-items counts those that are printed."""
    [thread] = emulator.fill(threads=1, runs_per_thread=120)
    wanted = [run.id async for run in session.runs.list(thread) if run.status in ("failed", "expired")]
    words = ("runs", "list", thread, "--status", "failed", "--status", "expired")
    every = await cli(*words, on=emulator, terminal=terminal)
    three = await cli(*words, "--max-items", "3", on=emulator, terminal=terminal)
    none = await cli("runs", "list", thread, "--status", "unheard_of", on=emulator, terminal=terminal)

    def ids(lines: list[str]) -> list[str]:
        return [row.split()[0] for row in lines[1:-1]] if terminal else [json.loads(line)["id"] for line in lines]

    assert len(wanted) > 3
    assert ids(every.lines) == wanted
    assert ids(three.lines) == wanted[:3]
    assert none.lines == (["0 runs"] if terminal else [])


async def test_status_selects_among_odd_runs(cli, server) -> None:
    """Neither a number that Python turns into none nor a status that is no word keeps a run from being chosen."""
    odd = '{"id":"run_2","thread_id":"thread_1","status":{"now":["failed"]}}'
    sent = '{"id":"run_1","thread_id":"thread_1","status":"failed","metadata":{"count":%s}}' % ("9" * 5000)
    server.reply(f'{{"data":[{odd},{sent}],"has_more":false}}'.encode(), times=2)
    chosen = await cli("runs", "list", "thread_1", "--status", "failed", on=server)
    assert (chosen.code, chosen.lines, chosen.err) == (0, [sent], "")
    assert (await cli("runs", "list", "thread_1", "--status", "queued", on=server)).lines == []


@pytest.mark.parametrize("terminal", [False, True])
async def test_lists_steps(cli, emulator: Emulator, session: Session, terminal: bool) -> None:
    """The steps of a run are listed as its runs are; a table tells what each did."""
    [thread] = emulator.fill(threads=1, runs_per_thread=60)
    run = next(run for run in await session.runs.list(thread).collect() if len(run.tools) == 2)
    sent = [blob.decode() async for blob in session.steps.list(thread, run.id, order="asc").raw()]
    ended = await cli("steps", "list", thread, run.id, "--order", "asc", on=emulator, terminal=terminal)
    assert (ended.code, ended.err) == (0, "")
    if terminal:
        assert [line.split()[-1] for line in ended.lines[1:-1]] == ["file_search", "get_weather", "message_creation"]
        assert ended.lines[-1] == "3 steps"
    else:
        assert ended.lines == sent


async def test_shows_a_run(cli, emulator: Emulator, session: Session) -> None:
    """`runs show` tells a person what matters of a run, and a pipe all of it in the wire's shape."""
    [thread] = emulator.fill(threads=1, runs_per_thread=40)
    run = next(run for run in await session.runs.list(thread).collect() if run.status == "failed")
    shown = await cli("runs", "show", thread, run.id, on=emulator, terminal=True)
    piped = await cli("runs", "show", thread, run.id, on=emulator)
    facts = dict(line.split(maxsplit=1) for line in shown.lines)
    assert (shown.code, piped.code) == (0, 0)
    assert (facts["run"].strip(), facts["thread"].strip(), facts["status"].strip()) == (run.id, thread, "failed")
    assert facts["error"].strip() == "rate_limit_exceeded: Rate limit is exceeded. Try again in 60 seconds."
    [sent] = [json.loads(blob) async for blob in session.runs.list(thread).raw() if run.id.encode() in blob]
    [line] = piped.lines
    told = json.loads(line)
    assert told.keys() >= sent.keys()
    assert told == {**told, **sent, "truncation_strategy": {"type": "auto"}}


async def test_wait_for_a_completed_run(cli, emulator: Emulator, session: Session) -> None:
    """`runs wait` prints a completed run and exits with 0."""
    thread, run = await start_run(session)
    emulator.clock.advance(60)
    ended = await cli("runs", "wait", thread, run, on=emulator)
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["status"] == "completed"


async def test_wait_for_a_failed_run(cli, emulator: Emulator, session: Session) -> None:
    """`runs wait` prints a run that failed, says why on stderr, and exits with 1."""
    emulator.next_outcome("failed")
    thread, run = await start_run(session)
    emulator.clock.advance(60)
    ended = await cli("runs", "wait", thread, run, on=emulator)
    assert (ended.code, json.loads(ended.out)["status"]) == (1, "failed")
    assert ended.err.startswith(f"asyncruns: Run {run} of thread {thread} ended as failed: server_error: ")


@pytest.mark.parametrize(("words", "status"), [((), "queued"), (("--cancel-on-timeout",), "cancelling")])
async def test_wait_that_times_out(
    cli, emulator: Emulator, session: Session, words: tuple[str, ...], status: str
) -> None:
    """A wait whose time is up exits with 1, prints no run, and cancels the run only when asked to."""
    thread, run = await start_run(session)
    ended = await cli("runs", "wait", thread, run, "--timeout", "0.2", *words, on=emulator)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"asyncruns: Run {run} did not come to rest in 0.2 seconds")
    assert ended.err.count("\n") == 1
    assert (await session.runs.retrieve(thread, run)).status == status


async def test_cancel(cli, emulator: Emulator, session: Session) -> None:
    """`runs cancel` prints the run that is being cancelled; a second time the server refuses, which is 1."""
    thread, run = await start_run(session)
    first = await cli("runs", "cancel", thread, run, on=emulator)
    second = await cli("runs", "cancel", thread, run, on=emulator)
    assert (first.code, first.err, json.loads(first.out)["status"]) == (0, "", "cancelling")
    assert (second.code, second.out) == (1, "")
    assert second.err.startswith("asyncruns: HTTP 400")


@pytest.mark.parametrize("words", [("runs", "list"), ("runs", "show"), ("steps", "list")])
@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_text_of_a_server_is_escaped(cli, server, words: tuple[str, ...], form: tuple[str, ...]) -> None:
    """No control character and no bidi control that a server sent reaches the terminal, in a table or as JSON."""
    item = STEP if words[0] == "steps" else RUN
    server.reply(page(item) if words[1] == "list" else item)
    ids = ("thread_1",) if words == ("runs", "list") else ("thread_1", "run_1")
    ended = await cli(*words, *ids, *form, on=server, terminal=True)
    assert (ended.code, ended.err) == (0, "")
    assert is_clean(ended.out)
    assert "x1b]0;owned" in ended.out or json.loads(ended.out)["status"] == item["status"]


async def test_json_keeps_numbers_as_sent(cli, server) -> None:
    """A listing's JSON Lines keep what models would change: the spelling of numbers, the order of fields."""
    server.reply(page(RUN))
    ended = await cli("runs", "list", "thread_1", on=server)
    [line] = ended.lines
    assert list(json.loads(line)) == list(RUN)
    assert json.loads(line) == RUN
    assert '"created_at":1795241450.0,' in line


async def test_error_text_is_one_escaped_line(cli, server) -> None:
    """What a server says of an error is one clean line on stderr, without a traceback."""
    server.reply({"error": {"message": f"no\nsuch{EVIL}", "code": EVIL}}, status=404)
    ended = await cli("runs", "show", "thread_1", "run_1", on=server)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("asyncruns: HTTP 404")
    assert ended.err.count("\n") == 1
    assert is_clean(ended.err)


@pytest.mark.parametrize("terminal", [False, True])
async def test_broken_listing_shows_what_came(cli, server, terminal: bool) -> None:
    """A listing that is refused half way prints the runs that came, then the error, and exits with 1."""
    server.reply(page(RUN, {**RUN, "id": "run_2"}, has_more=True))
    server.reply({"error": {"message": "enough"}}, status=403)
    ended = await cli("runs", "list", "thread_1", on=server, terminal=terminal)
    assert ended.code == 1
    assert "run_1" in ended.out
    assert "run_2" in ended.out
    assert "enough" in ended.err


async def test_real_terminal_gets_a_table(process, emulator: Emulator) -> None:
    """A real terminal gets the table, in colours of our own."""
    [thread] = emulator.fill(threads=1, runs_per_thread=3)
    ours, theirs = pty.openpty()
    started = await process("runs", "list", thread, on=emulator, stdout=theirs)
    os.close(theirs)
    _, err = await asyncio.wait_for(started.communicate(), 30)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert (started.returncode, err) == (0, b"")
    assert "created (UTC)" in shown
    assert "3 runs" in shown
    assert "\x1b[32mcompleted\x1b[0m" in shown


async def test_interrupted_wait(process, emulator: Emulator, session: Session) -> None:
    """Ctrl-C during a wait exits with 130, with one line and no traceback."""
    thread, run = await start_run(session)
    emulator.requests.clear()
    started = await process("runs", "wait", thread, run, on=emulator)
    while not emulator.requests:  # noqa: ASYNC110  # The emulator has no event for it.
        await asyncio.sleep(0.01)
    started.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(started.communicate(), 30)
    assert (started.returncode, out, err) == (130, b"", b"asyncruns: interrupted\n")


async def test_reader_that_leaves(process, emulator: Emulator) -> None:
    """A pipe whose reader has left ends the command with 1 and without a word."""
    [thread] = emulator.fill(threads=1, runs_per_thread=200)
    read, write = os.pipe()
    os.close(read)
    started = await process("runs", "list", thread, on=emulator, stdout=write)
    os.close(write)
    _, err = await asyncio.wait_for(started.communicate(), 30)
    assert (started.returncode, err) == (1, b"")

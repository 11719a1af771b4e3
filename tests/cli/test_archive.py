"""`export`, `convert`, `report` and `verify`: what they print, their exit codes, and how they stop."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from asyncruns.emulator import Emulator

from .conftest import RunCommand, StartCommand


@pytest.fixture
async def ids(emulator: Emulator, tmp_path: Path) -> Path:
    """Give the test a file with the ids of two filled threads."""
    file = tmp_path / "ids.txt"
    file.write_text("# the threads\n\n" + "\n".join(emulator.fill(threads=2, runs_per_thread=5)) + "\n")
    return file


async def test_from_the_server_to_a_page(cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """Export, export again, verify, convert and report, each with its one or two lines and exit code 0."""
    archive = str(tmp_path / "runs.db")
    outcome = await cli("export", archive, "--threads", str(ids), "--messages", "--with-threads", on=emulator)
    assert (outcome.code, outcome.err) == (0, "")
    assert "2 of 2 threads complete: 10 runs" in outcome.out
    outcome = await cli("export", archive, "--threads", str(ids), "--json", on=emulator)
    done = json.loads(outcome.lines[-1])
    assert (done["event"], done["threads_done"], done["runs"]) == ("exported", 2, 0)
    outcome = await cli("verify", archive, on=emulator)
    assert (outcome.code, outcome.lines[0][:22]) == (0, "2 threads walked again")
    assert json.loads((await cli("verify", archive, "--json", on=emulator)).out)["missing"] == []
    outcome = await cli("convert", archive, str(tmp_path / "runs.jsonl"))
    assert (outcome.code, outcome.out[:15]) == (0, "10 rows written")
    outcome = await cli("report", archive, str(tmp_path / "runs.html"), "--json")
    assert json.loads(outcome.out)["bytes"] == (tmp_path / "runs.html").stat().st_size


async def test_threads_may_be_ids_or_the_servers_own(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """Ids stand behind --threads, which may be said again; without it the server lists its threads."""
    threads = emulator.fill(threads=3, runs_per_thread=1)
    both = ("--threads", threads[0], "--threads", threads[1])
    outcome = await cli("export", str(tmp_path / "a.db"), *both, on=emulator)
    assert "2 of 2 threads complete" in outcome.out
    outcome = await cli("export", str(tmp_path / "b.db"), "--no-steps", "--search-results", on=emulator)
    assert "3 of 3 threads complete: 3 runs, 0 steps" in outcome.out


async def test_failed_thread_is_exit_code_1(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """What could not be brought is told with its reason, after what could."""
    outcome = await cli("export", str(tmp_path / "a.db"), "--threads", "thread_gone", on=emulator)
    assert outcome.code == 1
    assert "1 of 1 threads could not be brought; the first is thread_gone: NotFoundError" in outcome.err


async def test_differences_are_exit_code_1(cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """A verification that finds something missing says so."""
    archive = str(tmp_path / "a.db")
    await cli("export", archive, "--threads", str(ids), on=emulator)
    thread = emulator._store.threads.get(ids.read_text().split()[-1])
    assert thread is not None
    runs = thread.runs.page(limit=100, order="asc")[0]
    runs[0].change(metadata={"new": "yes"})
    thread.runs.remove(runs[1])
    outcome = await cli("verify", archive, "--no-steps", on=emulator)
    assert outcome.code == 1
    assert "1 items are in the archive and not on the server any more" in outcome.out
    assert f"0 items are missing, 1 are different, and 0 threads could not be verified: {runs[0].id}" in outcome.err


async def test_wrong_wishes_are_exit_code_2(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """An unknown format, a limit of nothing, no requests at a time."""
    archive = str(tmp_path / "a.db")
    assert (await cli("export", archive, "--concurrency", "0", on=emulator)).code == 2
    assert (await cli("export", archive, "--requests-per-minute", "0", on=emulator)).code == 2
    await cli("export", archive, on=emulator)
    assert (await cli("convert", archive, str(tmp_path / "a.csv"))).code == 2
    assert (await cli("report", str(tmp_path / "none.db"), str(tmp_path / "a.html"))).code == 1


async def test_ids_from_stdin(process: StartCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """`-` reads the ids from stdin."""
    words = ("export", str(tmp_path / "a.db"), "--threads", "-")
    child = await process(*words, on=emulator, stdin=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(child.communicate(ids.read_bytes()), 30)
    assert (child.returncode, err) == (0, b"")
    assert b"2 of 2 threads complete" in out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_row_74_signals(
    process: StartCommand, emulator: Emulator, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A signal ends an export in less than five seconds with its exit code; the next one completes the archive."""
    emulator.fill(threads=3, runs_per_thread=100)
    emulator.delay = 0.02
    child = await process("export", str(tmp_path / "a.db"), "--json", on=emulator)
    while emulator.request_count < 30:
        await asyncio.sleep(0.01)
    child.send_signal(number)
    _, err = await asyncio.wait_for(child.communicate(), 5)
    assert (child.returncode, err.count(b"\n")) == (code, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db"]
    emulator.delay = 0
    child = await process("export", str(tmp_path / "a.db"), "--json", on=emulator)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 0
    assert json.loads(out.splitlines()[-1])["threads_done"] == 3


async def test_progress_lines_for_machines(process: StartCommand, emulator: Emulator, tmp_path: Path) -> None:
    """With --json, a line a second tells how far it is."""
    emulator.fill(threads=4, runs_per_thread=60)
    emulator.delay = 0.1
    words = ("export", str(tmp_path / "a.db"), "--json", "--concurrency", "16")
    child = await process(*words, on=emulator)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events[:1] + events[-1:]] == ["progress", "exported"]
    assert {"threads", "runs", "steps", "left", "refusals"} <= events[0].keys()

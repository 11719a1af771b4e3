"""The demo: what it reads, what it prints, and that the Python it shows does the same."""

import asyncio
import json
import os
import pty
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from asyncruns import NotFoundError, Run, Session
from asyncruns.archive import Archive
from asyncruns.cli import _demo
from asyncruns.emulator import Emulator


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the demo put its files where the test's are, with a short name as on a user's machine."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo make four threads and not forty."""
    monkeypatch.setattr(_demo, "THREADS", 4)


async def test_reads_everything(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo reads every run and step, prints a table by status and how to go on, and shows no progress on a pipe."""
    monkeypatch.setattr("shutil.which", lambda _: "/bin/asyncruns")
    ended = await cli("demo")
    table = ended.out.split("\n\n")[1].split("\n")
    rows = [line.replace(" m ", "m").replace(" s ", "s ").split() for line in table[1:]]
    assert (ended.code, ended.err) == (0, "")
    assert table[0].split()[:4] == ["status", "runs", "median", "p95"]
    assert {row[0] for row in rows} == {"completed", "incomplete", "failed", "expired", "cancelled"}
    assert sum(int(row[1].replace(",", "")) for row in rows) == 2000
    assert _demo.EXAMPLE in ended.out
    assert "asyncruns emulate" in ended.out
    assert all(len(line) <= 80 for line in ended.lines if "asyncruns-demo-" not in line)


async def test_ends_with_an_archive_and_its_page(cli, few: None, temporary: Path) -> None:
    """The demo leaves an archive of all it read, verified, and a page, in a folder of its own that it names."""
    ended = await cli("demo")
    [folder] = temporary.iterdir()
    assert folder.name.startswith("asyncruns-demo-")
    assert folder.stat().st_mode & 0o077 == 0
    assert f"archive     {folder / 'runs.db'}\n" in ended.out
    assert f"to look at  {folder / 'report.html'}\n" in ended.out
    with Archive.open(folder / "runs.db") as archive:
        runs, steps, messages, threads = map(archive.count, ("runs", "steps", "messages", "threads"))
        assert archive.verified_at is not None
    assert (runs, threads) == (200, 4)
    held = 200 + steps + messages + threads
    told = " ".join(ended.out.split())
    assert f"checked against the server: {held:,} objects, 0 of them missing or different." in told
    assert "<h1>200 runs of 4 threads</h1>" in (folder / "report.html").read_text()


async def test_folder_of_choice(cli, few: None, temporary: Path) -> None:
    """`--out` names the folder, which is made; an archive that is there is never written over."""
    out = temporary / "of" / "mine"
    figures = json.loads((await cli("demo", "--json", "--out", str(out))).out)
    assert (figures["archive"], figures["report"]) == (str(out / "runs.db"), str(out / "report.html"))
    assert figures["verified"] > figures["runs"] + figures["steps"]
    assert figures["deviating"] == 0
    before = (out / "runs.db").stat().st_mtime_ns
    again = await cli("demo", "--out", str(out))
    assert (again.code, "is there already; choose another folder" in again.err) == (2, True)
    assert (out / "runs.db").stat().st_mtime_ns == before
    barred = await cli("demo", "--out", str(out / "runs.db" / "below"))
    assert (barred.code, "cannot be made" in barred.err) == (1, True)


async def test_shown_python_does_the_same(cli) -> None:
    """The printed lines run as they are and meet as many runs and steps as the demo did."""
    figures = json.loads((await cli("demo", "--json")).out)
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        _demo.EXAMPLE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(started.communicate(), 60)
    lines = [line.split() for line in out.decode().splitlines()]
    assert (started.returncode, err) == (0, b"")
    assert len(lines) == figures["steps"]
    assert {len(words) for words in lines} == {4}
    assert {words[1] for words in lines} <= figures["by_status"].keys()


async def test_figures(cli, few: None) -> None:
    """`demo --json` gives the figures as one object that adds up."""
    ended = await cli("demo", "--json", terminal=True)
    [line] = ended.lines
    figures = json.loads(line)
    assert figures["threads"] == 4
    assert figures["runs"] == sum(part["count"] for part in figures["by_status"].values()) == 200
    assert figures["requests"] == 4 + 200
    assert figures["steps"] > figures["runs"]
    assert 0 < figures["seconds"] < 60
    assert 0 < figures["by_status"]["completed"]["median_seconds"] <= figures["by_status"]["completed"]["p95_seconds"]


async def test_progress_beside_figures(cli, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress goes to a terminal on stderr, so that the figures on stdout stay one line of JSON."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ended = await cli("demo", "--json")
    assert json.loads(ended.out)["runs"] == 200
    assert "0 of 200 runs" in ended.err


def test_percentile() -> None:
    """Median and 95th percentile (nearest rank) are those of the runs whose duration is known; tokens are summed."""
    tally = _demo.Tally()
    for seconds in range(20, 0, -1):
        run = Run(id="run_1", thread_id="thread_1", status="completed", started_at=100, completed_at=100 + seconds)
        tally.add(run)
    tally.add(Run(id="run_2", thread_id="thread_1", status="queued"))
    assert tally.run_count == 21
    assert tally.runs["completed"].figures() == {
        "count": 20,
        "median_seconds": 10.5,
        "p95_seconds": 19.0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
    }
    assert tally.runs["queued"].figures()["median_seconds"] is None


async def test_first_error_of_the_readers(emulator: Emulator, session: Session) -> None:
    """When a reader meets an error, that error comes out and not a group, and nothing goes on in the background."""
    tally = _demo.Tally()
    with pytest.raises(NotFoundError, match="thread_nope"):
        await _demo.read_all(session, [*emulator.fill(threads=2, runs_per_thread=200), "thread_nope"], tally, int)
    assert tally.run_count < 400
    assert not [task for task in asyncio.all_tasks() if "read_threads" in repr(task)]


async def test_progress_and_interrupt(process, temporary: Path) -> None:
    """A terminal sees the progress; Ctrl-C in its midst exits with 130, one line, no traceback, nothing left behind."""
    ours, theirs = pty.openpty()
    started = await process("demo", stderr=theirs)
    os.close(theirs)
    shown, is_told = b"", False
    with suppress(OSError):  # So ends what a terminal shows once nobody writes to it any more.
        while data := await asyncio.wait_for(asyncio.to_thread(os.read, ours, 4096), 30):
            shown += data
            if not is_told and b" of 2,000 runs" in shown:
                started.send_signal(signal.SIGINT)
                is_told = True
    os.close(ours)
    out, _ = await asyncio.wait_for(started.communicate(), 30)
    assert (started.returncode, out) == (130, b"")
    assert b"asyncruns: interrupted" in shown
    assert b"Traceback" not in shown
    assert list(temporary.iterdir()) == []

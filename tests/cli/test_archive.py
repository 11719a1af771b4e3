"""`export`, `convert`, `report` and `verify`: what they print, their exit codes, and how they stop."""

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from asyncruns import RateLimit, Session
from asyncruns.archive import Options
from asyncruns.archive._store import Store
from asyncruns.cli import _archive, _export_view
from asyncruns.cli._archive import Terminated
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
    assert outcome.lines[0].endswith("compared; nothing is missing or different.")
    assert json.loads((await cli("verify", archive, "--json", on=emulator)).out)["missing"] == []
    outcome = await cli("convert", archive, str(tmp_path / "runs.jsonl"))
    assert (outcome.code, outcome.out[:15]) == (0, "10 rows written")
    outcome = await cli("report", archive, str(tmp_path / "runs.html"), "--json")
    assert json.loads(outcome.out)["bytes"] == (tmp_path / "runs.html").stat().st_size


async def test_names_may_be_of_any_bytes(cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """What is done with files whose names are no text is told all the same, to machines too."""
    runs, lines, page = (os.fsdecode(bytes(tmp_path) + name) for name in (b"/\xff.db", b"/\xfe.jsonl", b"/\xfd.html"))
    exported = await cli("export", runs, "--threads", str(ids), "--json", on=emulator)
    converted = await cli("convert", runs, lines, "--json")
    reported = await cli("report", runs, page, "--json")
    assert [outcome.code for outcome in (exported, converted, reported)] == [0, 0, 0]
    assert json.loads(converted.lines[0])["out"] == f"{tmp_path}/\\xfe.jsonl"
    assert json.loads(reported.lines[0])["out"] == f"{tmp_path}/\\xfd.html"


async def test_next_command_can_be_pasted(
    cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that an export ends with is one for a shell, whatever the archive is called."""
    monkeypatch.setattr("shutil.which", lambda _: "/bin/asyncruns")
    archive = tmp_path / "my runs #1 & 'more'.db"
    outcome = await cli("export", str(archive), "--threads", str(ids), on=emulator)
    words = shlex.split(outcome.lines[-1].partition(": ")[2], comments=True)
    assert words == ["asyncruns", "report", str(archive), "report.html"]


async def test_conversion_of_a_part_says_so(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """What is written of an archive that is not whole is told as a part."""
    archive, out = str(tmp_path / "runs.db"), str(tmp_path / "runs.jsonl")
    threads = ("--threads", emulator.fill(threads=1, runs_per_thread=5)[0], "--threads", "thread_gone")
    assert (await cli("export", archive, *threads, on=emulator)).code != 0
    outcome = await cli("convert", archive, out)
    assert (outcome.code, outcome.out.startswith("5 rows written")) == (0, True)
    assert "The archive is not whole: 1 thread did not come to the end." in outcome.out
    assert json.loads((await cli("convert", archive, out, "--json")).out)["threads_unfinished"] == 1


@pytest.mark.parametrize(("table", "option"), [("messages", "--messages"), ("threads", "--with-threads")])
async def test_empty_conversion_says_what_was_not_asked_for(
    cli: RunCommand, emulator: Emulator, tmp_path: Path, table: str, option: str
) -> None:
    """Who converts what no export was asked for learns with which option it comes."""
    archive, out = str(tmp_path / "runs.db"), str(tmp_path / "out.jsonl")
    (thread,) = emulator.fill(threads=1, runs_per_thread=1)
    outcome = await cli("export", archive, "--threads", thread, on=emulator)
    assert "1 of 1 threads complete: 1 run, " in outcome.out
    outcome = await cli("convert", archive, out, "--table", table)
    assert f"An export brings {table} only with {option}." in outcome.out
    await cli("export", archive, "--threads", thread, option, on=emulator)
    outcome = await cli("convert", archive, out, "--table", table)
    assert "only with" not in outcome.out


async def test_threads_may_be_ids_or_the_servers_own(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """Ids stand behind --threads, which may be said again; without it the server lists its threads."""
    threads = emulator.fill(threads=3, runs_per_thread=1)
    both = ("--threads", threads[0], "--threads", threads[1])
    outcome = await cli("export", str(tmp_path / "a.db"), *both, on=emulator)
    assert "2 of 2 threads complete" in outcome.out
    outcome = await cli("export", str(tmp_path / "b.db"), "--no-steps", "--search-results", on=emulator)
    assert "3 of 3 threads complete: 3 runs, 0 steps" in outcome.out


async def test_how_listings_are_walked_can_be_said(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """--both-ends asks newest first, too; --probe asks once more past the end."""
    (thread,) = emulator.fill(threads=1, runs_per_thread=250)
    for number, (option, orders) in enumerate([("--both-ends", {"asc", "desc"}), ("--probe", {"asc"})]):
        emulator.requests.clear()
        outcome = await cli(
            "export", str(tmp_path / f"{number}.db"), "--threads", thread, "--no-steps", option, on=emulator
        )
        assert "1 of 1 threads complete: 250 runs" in outcome.out
        assert {re.findall(r"order=(\w+)", target)[0] for _, target in emulator.requests} == orders
        assert option == "--both-ends" or len(emulator.requests) == 4


async def test_failed_thread_is_exit_code_1(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """What could not be brought is told with its reason, after what could."""
    outcome = await cli("export", str(tmp_path / "a.db"), "--threads", "thread_gone", on=emulator)
    assert outcome.code == 1
    assert "1 of 1 threads could not be brought; the first is thread_gone: NotFoundError" in outcome.err


async def test_what_came_is_told_where_an_export_is_stopped(cli: RunCommand, server: Any, tmp_path: Path) -> None:
    """A key that expires on the way ends an export with what is kept and the error; a wrong one with the error."""
    words = ("export", str(tmp_path / "a.db"), "--threads", "thread_1", "--no-steps")
    server.reply({"error": {"message": "expired"}}, status=401)
    outcome = await cli(*words, on=server)
    assert (outcome.code, outcome.err) == (1, "asyncruns: HTTP 401: expired\n")
    run = {"id": "run_1", "thread_id": "thread_1", "status": "completed", "created_at": 1}
    server.reply({"data": [run], "has_more": True})
    server.reply({"error": {"message": "expired"}}, status=401)
    outcome = await cli(*words, on=server)
    kept, error = outcome.err.splitlines()
    assert (outcome.code, error) == (1, "asyncruns: HTTP 401: expired")
    assert kept == "1 run and 0 steps came and are kept; the same command goes on."


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
    assert "In the archive and not on the server any more: 1 item." in outcome.out
    assert f"0 items missing, 1 different, and 0 threads could not be verified: {runs[0].id}. An export" in outcome.err


async def test_thread_that_cannot_be_verified_is_told_with_its_reason(
    cli: RunCommand, emulator: Emulator, tmp_path: Path
) -> None:
    """What the server said stands behind the counts."""
    archive = str(tmp_path / "a.db")
    (thread,) = emulator.fill(threads=1, runs_per_thread=1)
    await cli("export", archive, "--threads", thread, "--no-steps", on=emulator)
    outcome = await cli("verify", archive, "--no-steps", on=emulator)
    assert outcome.out == "1 thread walked again, 1 item compared; nothing is missing or different.\n"
    kept = emulator._store.threads.get(thread)
    assert kept is not None
    emulator._store.threads.remove(kept)
    outcome = await cli("verify", archive, "--no-steps", on=emulator)
    assert outcome.code == 1
    assert f"1 thread could not be verified: {thread}. " in outcome.err
    assert f"The first that could not be verified is {thread}: NotFoundError: " in outcome.err


async def test_wrong_wishes_are_exit_code_2(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """An unknown format, a limit of nothing, no requests at a time."""
    archive = str(tmp_path / "a.db")
    assert (await cli("export", archive, "--concurrency", "0", on=emulator)).code == 2
    assert (await cli("export", archive, "--requests-per-minute", "0", on=emulator)).code == 2
    await cli("export", archive, on=emulator)
    assert (await cli("convert", archive, str(tmp_path / "a.csv"))).code == 2
    assert (await cli("report", str(tmp_path / "none.db"), str(tmp_path / "a.html"))).code == 1


async def test_list_as_editors_leave_it(
    cli: RunCommand, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark at the beginning, line ends of other systems, empty lines and ids said twice make no difference."""
    threads = emulator.fill(threads=3, runs_per_thread=1)
    lines = ["", threads[0], "   ", f"\t{threads[1]} ", "# said again:", threads[0], "", threads[2], ""]
    for name, end in (("dos.txt", "\r\n"), ("mac.txt", "\r"), ("unix.txt", "\n")):
        ids = tmp_path / name
        ids.write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
        archive = str(tmp_path / "a.db")
        outcome = await cli("export", archive, "--threads", str(ids), on=emulator)
        assert (outcome.code, outcome.out[:25]) == (0, "3 of 3 threads complete: ")
        with ids.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            assert (await cli("export", archive, "--threads", "-", on=emulator)).code == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("thread_1\n".encode("utf-16"), "not text in UTF-8"),
        (b"thread_\xe9\n", "not text in UTF-8"),
        (None, "There is no file"),
    ],
)
async def test_list_that_is_none_is_wrong_usage(
    cli: RunCommand, emulator: Emulator, tmp_path: Path, data: bytes | None, words: str
) -> None:
    """A list in another encoding, and a misspelt name, are told by name; the archive is not bound to such a list."""
    ids, threads = tmp_path / "ids.txt", emulator.fill(threads=1, runs_per_thread=1)
    if data is not None:
        ids.write_bytes(data)
    outcome = await cli("export", str(tmp_path / "a.db"), "--threads", str(ids), on=emulator)
    assert outcome.code == 2
    assert words in outcome.err
    assert str(ids) in outcome.err
    assert (await cli("export", str(tmp_path / "a.db"), "--threads", threads[0], on=emulator)).code == 0


async def test_list_may_be_a_pipe(process: StartCommand, emulator: Emulator, tmp_path: Path) -> None:
    """What a shell makes of `<(command)` is a FIFO, and is read as a file."""
    [thread] = emulator.fill(threads=1, runs_per_thread=1)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = await process("export", str(tmp_path / "a.db"), "--threads", str(fifo), on=emulator)
    await asyncio.to_thread(fifo.write_text, f"{thread}\n")
    out, err = await asyncio.wait_for(child.communicate(), 30)
    assert (child.returncode, err, out[:27]) == (0, b"", b"1 of 1 threads complete: 1 ")


async def test_what_is_no_list_makes_no_archive(
    cli: RunCommand, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, a name without a file and a list without ids are wrong usage, and leave nothing behind."""
    empty, archive = tmp_path / "empty.txt", tmp_path / "a.db"
    empty.write_text("# none\n\n")
    for word, told in (
        (str(tmp_path), "is a folder"),
        (str(tmp_path / "none"), "There is no file"),
        (str(empty), "gives no thread id"),
        ("-", "gives no thread id"),
    ):
        with empty.open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            outcome = await cli("export", str(archive), "--threads", word, on=emulator)
        assert (outcome.code, told in outcome.err) == (2, True)
    assert os.listdir(tmp_path) == ["empty.txt"]


async def test_archive_is_no_list(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """The archive, under whatever name, is not read as a list of threads: that would take its locks away."""
    emulator.fill(threads=1, runs_per_thread=1)
    archive = tmp_path / "a.db"
    await cli("export", str(archive), on=emulator)
    (tmp_path / "link").symlink_to(archive)
    os.link(archive, tmp_path / "same.db")
    for name in ("a.db", "link", "same.db"):
        outcome = await cli("export", str(archive), "--threads", str(tmp_path / name), on=emulator)
        assert (outcome.code, "is the archive itself" in outcome.err) == (2, True)


async def test_archive_that_is_made_meanwhile_is_no_list(
    cli: RunCommand, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was no file when the command began is an id, also when the archive has that name by now."""
    [thread] = emulator.fill(threads=1, runs_per_thread=1)
    (tmp_path / "ids").write_text(f"{thread}\n" * 20_000)
    monkeypatch.chdir(tmp_path)
    outcome = await cli("export", "runs", "--threads", "ids", "--threads", "runs", on=emulator)
    assert (outcome.code, "1 of 2 threads could not be brought; the first is runs" in outcome.err) == (1, True)


async def test_misspelt_list_beside_us_is_no_id(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """A name with a dot is no id, though its letters would be allowed in one; nothing and what is no text are none."""
    for word, told in (("idz.txt", "idz.txt"), ("ids.lst", "ids.lst"), ("", "''")):
        outcome = await cli("export", str(tmp_path / "a.db"), "--threads", word, on=emulator)
        assert (outcome.code, outcome.err.partition(",")[0]) == (2, f"asyncruns: There is no file {told}")
    outcome = await cli("export", str(tmp_path / "a.db"), "--threads", "thread_\udcff", on=emulator)
    assert outcome.code == 2
    assert emulator.request_count == 0


async def test_wishes_reach_the_server(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """Each option of an export is followed."""
    threads = emulator.fill(threads=2, runs_per_thread=3)

    async def asked(name: str, *words: str) -> list[str]:
        emulator.requests.clear()
        outcome = await cli("export", str(tmp_path / name), *words, "--threads", threads[0], on=emulator)
        assert outcome.code == 0
        return [target for _, target in emulator.requests]

    plain = await asked("plain.db")
    assert not any(word in target for target in plain for word in ("include", "/messages", "after="))
    steps = [target for target in await asked("search.db", "--search-results") if "/steps" in target]
    assert steps
    assert all("file_search" in target for target in steps)
    assert sum("/messages" in target for target in await asked("messages.db", "--messages")) == 1
    assert f"/v1/threads/{threads[0]}" in await asked("threads.db", "--with-threads")
    assert sum("after=" in target for target in await asked("probe.db", "--probe")) > 1
    assert (await cli("verify", str(tmp_path / "search.db"), on=emulator)).code == 0


async def test_requests_per_minute_are_held(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """All walks together keep the pace that was asked for."""
    emulator.fill(threads=14, runs_per_thread=0)
    began = time.monotonic()
    outcome = await cli("export", str(tmp_path / "a.db"), "--requests-per-minute", "600", on=emulator)
    assert outcome.code == 0
    assert emulator.request_count == 15
    assert time.monotonic() - began >= 14 * 0.1


async def test_archive_in_use_is_exit_code_1(cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """While another process fills the archive, an export and a verification say who, and ask the server nothing."""
    with Store(tmp_path / "a.db"):
        before = emulator.request_count
        for words in (("export", str(tmp_path / "a.db"), "--threads", str(ids)), ("verify", str(tmp_path / "a.db"))):
            outcome = await cli(*words, on=emulator)
            assert outcome.code == 1
            assert f"is being filled by process {os.getpid()} on " in outcome.err
        assert emulator.request_count == before


async def test_archive_is_not_written_over(cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """A report that is given the archive's own name, and a verification by nobody, are wrong usage."""
    archive = str(tmp_path / "a.db")
    await cli("export", archive, "--threads", str(ids), on=emulator)
    outcome = await cli("report", archive, archive)
    assert (outcome.code, "is the archive itself" in outcome.err) == (2, True)
    assert (await cli("verify", archive, "--concurrency", "0", on=emulator)).code == 2
    assert (await cli("verify", archive, on=emulator)).code == 0


async def test_ids_from_stdin(process: StartCommand, emulator: Emulator, ids: Path, tmp_path: Path) -> None:
    """`-` reads the ids from stdin."""
    words = ("export", str(tmp_path / "a.db"), "--threads", "-")
    child = await process(*words, on=emulator, stdin=asyncio.subprocess.PIPE)
    out, err = await asyncio.wait_for(child.communicate(ids.read_bytes()), 30)
    assert (child.returncode, err) == (0, b"")
    assert b"2 of 2 threads complete" in out


async def begun_export(process: StartCommand, emulator: Emulator, folder: Path) -> asyncio.subprocess.Process:
    """Start a slow export, and return it after its thirtieth request."""
    emulator.fill(threads=3, runs_per_thread=100)
    emulator.delay = 0.02
    child = await process("export", str(folder / "a.db"), "--json", on=emulator)
    while emulator.request_count < 30:
        await asyncio.sleep(0.01)
    return child


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_row_74_signals(
    process: StartCommand, emulator: Emulator, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """A signal ends an export in less than five seconds with its exit code; the next one completes the archive."""
    child = await begun_export(process, emulator, tmp_path)
    child.send_signal(number)
    _, err = await asyncio.wait_for(child.communicate(), 5)
    assert (child.returncode, err.count(b"\n")) == (code, 1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.db"]
    emulator.delay = 0
    child = await process("export", str(tmp_path / "a.db"), "--json", on=emulator)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 0
    assert json.loads(out.splitlines()[-1])["threads_done"] == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("begun", [b"", b"thread_1\n"])
async def test_row_74_silent_stdin(
    process: StartCommand, emulator: Emulator, tmp_path: Path, number: signal.Signals, code: int, begun: bytes
) -> None:
    """A signal ends an export that waits for its list, too."""
    words = ("export", str(tmp_path / "a.db"), "--threads", "-", "--json")
    child = await process(*words, on=emulator, stdin=asyncio.subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(begun)
    await asyncio.wait_for(child.stdout.readline(), 30)  # It says how far it is, though nothing has come.
    child.send_signal(number)
    assert await asyncio.wait_for(child.wait(), 5) == code  # With its stdin still open.
    _, err = await child.communicate()
    assert err.count(b"\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_row_74_second_signal(
    process: StartCommand, emulator: Emulator, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The first signal waits for what is being written, here for another program's lock; the second ends at once."""
    child = await begun_export(process, emulator, tmp_path)
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    requests = -1
    while emulator.request_count > requests:  # All pages wait to be written when no new request comes any more.
        requests = emulator.request_count
        await asyncio.sleep(0.2)
    child.send_signal(number)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(child.wait(), 0.5)
    child.send_signal(number)
    assert await asyncio.wait_for(child.wait(), 1) == code
    other.close()
    emulator.delay = 0
    child = await process("export", str(tmp_path / "a.db"), "--json", on=emulator)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert json.loads(out.splitlines()[-1])["threads_done"] == 3


async def test_row_74_slow_server(process: StartCommand, emulator: Emulator, tmp_path: Path) -> None:
    """Ctrl-C does not wait for answers that take long, and says that what came is kept."""
    emulator.fill(threads=2, runs_per_thread=3)
    child = await process("export", str(tmp_path / "a.db"), on=emulator)
    emulator.delay = 60
    while emulator.request_count < 1:
        await asyncio.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(child.communicate(), 5)
    assert (child.returncode, out) == (130, b"")
    assert err.endswith(b" came and are kept; the same command goes on.\nasyncruns: interrupted\n")


async def test_row_73_another_list(cli: RunCommand, emulator: Emulator, tmp_path: Path) -> None:
    """Another list of threads is refused with what differs, until --allow-change says that it is meant."""
    archive, ids = str(tmp_path / "a.db"), emulator.fill(threads=3, runs_per_thread=1)
    await cli("export", archive, "--threads", ids[0], "--threads", ids[1], on=emulator)
    outcome = await cli("export", archive, "--threads", ids[1], "--threads", ids[2], on=emulator)
    assert outcome.code == 1
    assert f"1 ({ids[0]}) missing now, 1 ({ids[2]}) new" in outcome.err
    assert "--allow-change" in outcome.err
    changed = await cli("export", archive, "--threads", ids[1], "--threads", ids[2], "--allow-change", on=emulator)
    assert (changed.code, changed.out[:26]) == (0, "2 of 2 threads complete: 1")
    assert "3 threads walked again" in (await cli("verify", archive, on=emulator)).out


async def test_progress_on_a_terminal(process: StartCommand, emulator: Emulator, tmp_path: Path) -> None:
    """A terminal sees the share that is done, the threads, what came and how fast, and at the end nothing of it."""
    emulator.fill(threads=4, runs_per_thread=60)
    emulator.delay = 0.1
    ours, theirs = pty.openpty()
    child = await process("export", str(tmp_path / "a.db"), "--concurrency", "24", on=emulator, stderr=theirs)
    os.close(theirs)
    shown = b""
    loop = asyncio.get_running_loop()
    with suppress(OSError):  # The other end is closed.
        while data := await asyncio.wait_for(loop.run_in_executor(None, os.read, ours, 4096), 30):
            shown += data
    os.close(ours)
    assert await asyncio.wait_for(child.wait(), 30) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"\d+ %  \d of 4 threads", text)
    assert re.search(r"\d+ runs  \d+ steps  [\d,]+/s", text)
    assert shown.rstrip().endswith(b"\x1b[2K")


async def test_quiet_where_nobody_looks(process: StartCommand, emulator: Emulator, tmp_path: Path) -> None:
    """On a pipe an export prints how it went, and nothing before."""
    emulator.fill(threads=2, runs_per_thread=30)
    emulator.delay = 0.05
    child = await process("export", str(tmp_path / "a.db"), on=emulator)
    out, err = await asyncio.wait_for(child.communicate(), 30)
    assert (err, out.count(b"\n")) == (b"", 2)


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
async def test_signals_here(
    emulator: Emulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    error: type[BaseException],
) -> None:
    """The first signal ends the export, which says what it keeps; what signals did before is as it was."""
    emulator.fill(threads=2, runs_per_thread=30)
    emulator.delay = 0.05
    before = signal.getsignal(number)
    begun = emulator.request_count

    async def signal_soon() -> None:
        while emulator.request_count < begun + 5:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), number)

    session = Session(emulator.api_key, emulator.base_url)
    sending = asyncio.create_task(signal_soon())
    with pytest.raises(error):
        await _archive.export(session, RateLimit(), str(tmp_path / "a.db"), None, Options(), as_json=False)
    await sending
    assert signal.getsignal(number) is before
    assert " came and are kept; the same command goes on.\n" in capsys.readouterr().err


async def test_second_signal_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second signal ends the process, with the code that the signal has, whatever is still at work."""
    codes: list[int] = []
    resting = asyncio.Event()
    monkeypatch.setattr("os._exit", lambda code: (codes.append(code), resting.set()))

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await resting.wait()

    with pytest.raises(KeyboardInterrupt):
        await _archive._until_told(work())
    assert codes == [130]


async def test_cancelling_is_no_signal() -> None:
    """An export that is cancelled by its caller ends as cancelled."""
    task = asyncio.create_task(_archive._until_told(asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_interruptions_have_exit_codes(cli: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """130 and 143, with a line of a word; on a terminal it stands below the `^C`."""
    for error, code, word in ((KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "terminated")):

        def convert(*_: object, error: type[BaseException] = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(_archive, "convert", convert)
        outcome = await cli("convert", "a.db", "a.jsonl")
        assert (outcome.code, outcome.err) == (code, f"asyncruns: {word}\n")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(_archive, "convert", lambda *_, **__: signal.default_int_handler(2, None))
    assert (await cli("convert", "a.db", "a.jsonl")).err == "\nasyncruns: interrupted\n"


async def test_ids_from_stdin_here(
    cli: RunCommand, emulator: Emulator, ids: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` and further ids add up; empty lines and comments are left out."""
    [more] = emulator.fill(threads=1, runs_per_thread=1)
    with ids.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        outcome = await cli("export", str(tmp_path / "a.db"), "--threads", "-", "--threads", more, on=emulator)
    assert outcome.out.startswith("3 of 3 threads complete: 11 runs")


async def test_live_view_here(
    cli: RunCommand, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a terminal and what a machine see while an export is under way."""
    emulator.fill(threads=3, runs_per_thread=20)
    emulator.delay = 0.03
    monkeypatch.setattr(_export_view, "_JSON_EVERY", 0.02)
    outcome = await cli("export", str(tmp_path / "a.db"), "--json", on=emulator)
    progress = [event for line in outcome.lines if (event := json.loads(line))["event"] == "progress"]
    assert [event["share"] for event in progress] == sorted(event["share"] for event in progress)
    assert progress[-1]["threads"] == 3
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    outcome = await cli("export", str(tmp_path / "b.db"), "--messages", on=emulator)
    assert "of 3 threads" in outcome.err
    assert re.search(r"3 of 3 threads complete: 60 runs, \d+ steps, \d+ messages brought", outcome.out)


async def test_progress_lines_for_machines(process: StartCommand, emulator: Emulator, tmp_path: Path) -> None:
    """With --json, a line a second tells how far it is."""
    emulator.fill(threads=4, runs_per_thread=60)
    emulator.delay = 0.1
    words = ("export", str(tmp_path / "a.db"), "--json", "--concurrency", "16")
    child = await process(*words, on=emulator)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events[:1] + events[-1:]] == ["progress", "exported"]
    assert {"threads", "runs", "steps", "left", "refusals", "retries", "share", "waiting"} <= events[0].keys()

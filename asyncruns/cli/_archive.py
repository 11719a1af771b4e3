"""`export`, `convert`, `report` and `verify`: an archive filled with progress, and what is made of it."""

import asyncio
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import attrs

import asyncruns
from asyncruns.cli import _output
from asyncruns.cli._export_view import ExportView, plain
from asyncruns.cli._output import span

if TYPE_CHECKING:
    from asyncruns import archive

T = TypeVar("T")

_MARK = "\ufeff"  # Some editors begin a file in UTF-8 with it, and so does what they hand on.
_AT_ONCE, _MOST_WAITING = 1000, 10
_ASKED_FOR = {"messages": "--messages", "threads": "--with-threads"}


class Terminated(Exception):  # noqa: N818  # as SystemExit and KeyboardInterrupt
    """The process was asked to end; everything is at rest."""


def thread_ids(words: Sequence[str], path: str) -> AsyncIterator[str] | None:
    """Yield the ids that *words* give: ids, files with one a line, `-` for stdin; None for no words.

    Raises:
        ConfigurationError: A word is a folder, the archive at *path*, or a file that is not there; that shows at once.
            Later: A file is no list, or there are no ids at all.
    """
    # Now: once the archive is made, its name may be that of a file.
    told = [(word, _is_list(word, path)) for word in words]
    return _read_aside(_ids(told)) if words else None


def _is_list(word: str, path: str) -> bool:
    """Whether *word* names a list of ids, and is none itself."""
    if os.path.isdir(word):
        raise asyncruns.ConfigurationError(f"{word} is a folder, and no list of thread ids.")
    # Without opening it: that would take SQLite's locks on it away when it is closed.
    if os.path.exists(word) and os.path.exists(path) and os.path.samefile(word, path):
        raise asyncruns.ConfigurationError(f"{word} is the archive itself, and no list of thread ids.")
    if word == "-" or os.path.exists(word):
        return True
    if not word or os.sep in word or "." in word:
        raise asyncruns.ConfigurationError(
            f"There is no file {word or repr(word)}, and a word with a dot or a slash is taken for one: put one thread "
            "id a line into it."
        )
    return False


def _ids(words: Sequence[tuple[str, bool]]) -> Iterator[str]:
    for word, is_list in words:
        if is_list:
            if word == "-" and sys.stdin is None:
                raise asyncruns.ConfigurationError("There is no stdin to read a list of thread ids from.")
            # By its number: the interpreter would wait for its own stdin when it ends.
            file = sys.stdin.fileno() if word == "-" else word
            with open(file, encoding="utf-8", closefd=word != "-") as lines:
                yield from _lines(lines, word)
        else:
            yield word


async def _read_aside(ids: Iterator[str]) -> AsyncIterator[str]:
    """Yield *ids*, read in a thread that nobody waits for: a pipe may be silent for ever.

    Raises:
        ConfigurationError: There are none.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[list[str] | Exception] = asyncio.Queue()
    room = threading.Semaphore(_MOST_WAITING)

    def read() -> None:
        last: list[str] | Exception = []
        with suppress(RuntimeError):  # The loop is closed: nobody asks any more.
            try:
                while batch := list(islice(ids, _AT_ONCE)):
                    room.acquire()
                    loop.call_soon_threadsafe(queue.put_nowait, batch)
            except Exception as error:  # Raised where the ids are asked for.
                last = error
            loop.call_soon_threadsafe(queue.put_nowait, last)

    threading.Thread(target=read, daemon=True).start()
    count = 0
    while batch := await queue.get():
        if isinstance(batch, Exception):
            raise batch
        for id in batch:
            yield id
        count += len(batch)
        room.release()
    if not count:
        raise asyncruns.ConfigurationError("--threads gives no thread id at all.")


async def _begun(ids: AsyncIterator[str] | None) -> AsyncIterator[str] | None:
    """Read the first of *ids*, so that what is wrong with them shows before there is an archive."""
    if ids is None:
        return None
    first = await anext(ids)

    async def all_of_them() -> AsyncIterator[str]:
        yield first
        async for id in ids:
            yield id

    return all_of_them()


def _lines(file: Iterable[str], name: str) -> Iterator[str]:
    try:
        for line in file:
            id = line.lstrip(_MARK).strip()
            if id and not id.startswith("#"):
                yield id
    except UnicodeDecodeError:
        told = "The list on stdin" if name == "-" else name
        raise asyncruns.ConfigurationError(f"{told} is no list of thread ids: it is not text in UTF-8.") from None


async def export(
    session: "asyncruns.Session",
    limit: "asyncruns.RateLimit",
    path: str,
    ids: AsyncIterator[str] | None,
    options: "archive.Options",
    *,
    as_json: bool,
) -> None:
    """Fill or resume an archive, show how far it is, and say how it went.

    Raises:
        ConfigurationError: There are no ids, or a list of them is none.
        ArchiveError: Some threads could not be brought; all others were.
        KeyboardInterrupt: SIGINT came.
        Terminated: SIGTERM came.
    """
    from asyncruns import archive

    async def fill() -> archive.Progress:
        return await exporter.run(await _begun(ids))

    async with session:
        exporter = archive.Exporter(session, path, options)
        began = time.perf_counter()
        view = ExportView(exporter.progress, limit, as_json=as_json)
        try:
            progress = await _until_told(view.while_running(fill()))
        except (KeyboardInterrupt, Terminated, asyncruns.AsyncRunsError) as stopped:
            is_told = exporter.progress.items or not isinstance(stopped, asyncruns.AsyncRunsError)
            if is_told and not as_json:
                _say_stopped(exporter.progress)
            raise
        _say_export(progress, time.perf_counter() - began, path, as_json=as_json)
    if progress.threads_failed:
        thread_id, reason = next(iter(progress.failures.items()))
        raise asyncruns.ArchiveError(
            f"{progress.threads_failed:,} of {progress.threads:,} threads could not be brought; "
            f"the first is {thread_id}: {reason}"
        )


async def verify(
    session: "asyncruns.Session",
    path: str,
    concurrency: int,
    *,
    steps: bool,
    as_json: bool,
) -> None:
    """Hold an archive against its server and say what is missing or different.

    Raises:
        ArchiveError: Something is.
    """
    from asyncruns import archive

    async with session:
        verifying = archive.verify(session, path, concurrency=concurrency, steps=steps)
        findings = await _until_told(verifying)
    if as_json:
        _output.write_json({"event": "verified", **attrs.asdict(findings)})
    else:
        told = f"{_counted(findings.threads, 'thread')} walked again, {_counted(findings.items, 'item')} compared"
        print(f"{told}; nothing is missing or different." if findings.ok else f"{told}.")
        if findings.gone:
            print(f"In the archive and not on the server any more: {_counted(findings.gone, 'item')}.")
    if not findings.ok:
        raise asyncruns.ArchiveError(_deviations(findings))


def _deviations(findings: "archive.Findings") -> str:
    ids = ", ".join([*findings.missing, *findings.different, *findings.failures][:3])
    told = (
        f"{_counted(len(findings.missing), 'item')} missing, {len(findings.different):,} different, and "
        f"{_counted(len(findings.failures), 'thread')} could not be verified: {ids}."
    )
    if findings.missing or findings.different:
        told += (
            " An export with the options of before, such as --messages, brings what is new and what was not at its end;"
            " for what was changed after that, or shows only now among older items, begin an archive anew."
        )
    if findings.failures:
        thread_id, reason = next(iter(findings.failures.items()))
        told += f" The first that could not be verified is {thread_id}: {reason}"
    return told


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def convert(path: str, out: str, table: str, *, as_json: bool) -> None:
    """Write a table of an archive to another file."""
    from asyncruns import archive

    with archive.Archive.open(path) as opened:
        count = archive.convert(opened, out, table=table)  # type: ignore[arg-type]  # checked there
        unfinished = sum(record.state != "done" for record in opened.records())
    told = f"{_counted(count, 'row')} written to {out}."
    if not count and table in _ASKED_FOR:
        told += f" An export brings {table} only with {_ASKED_FOR[table]}."
    if unfinished:
        told += f" The archive is not whole: {_counted(unfinished, 'thread')} did not come to the end."
    event = {"event": "converted", "rows": count, "out": _output.name_of_file(out), "threads_unfinished": unfinished}
    _say(event, told, as_json=as_json)


def report(path: str, out: str, runs: Sequence[str], *, as_json: bool) -> None:
    """Write the page that shows an archive."""
    from asyncruns import archive

    with archive.Archive.open(path) as opened:
        size = archive.write_report(opened, out, runs=runs)
    event = {"event": "reported", "bytes": size, "out": _output.name_of_file(out)}
    _say(event, f"Open {out} in a browser.", as_json=as_json)


async def _until_told(work: Coroutine[object, object, T]) -> T:
    """Await *work*; SIGINT or SIGTERM cancels it, lets it come to rest, and then counts. A second one ends at once."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    told: list[int] = []

    def end(number: int, _: object) -> None:
        if told:
            _output.console(stderr=True).show_cursor()
            os._exit(128 + number)  # waits for nothing and nobody; what is committed stays
        told.append(number)
        loop.call_soon_threadsafe(task.cancel)

    before = {}
    with suppress(ValueError):  # Not the main thread: signals are not ours.
        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            raise (KeyboardInterrupt if told[0] == signal.SIGINT else Terminated) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_stopped(progress: "archive.Progress") -> None:
    came = f"{_counted(progress.runs, 'run')} and {_counted(progress.steps, 'step')}"
    print(f"{came} came and are kept; the same command goes on.", file=sys.stderr)


def _say_export(progress: "archive.Progress", seconds: float, path: str, *, as_json: bool) -> None:
    parts = [_counted(progress.runs, "run"), _counted(progress.steps, "step")]
    if progress.messages:
        parts.append(_counted(progress.messages, "message"))
    told = (
        f"{progress.threads_done:,} of {progress.threads:,} threads complete: {', '.join(parts)} brought in "
        f"{span(timedelta(seconds=seconds))}.\n"
        f"Look at it: {_output.program()} report {shlex.quote(path)} report.html"
    )
    _say({"event": "exported", "seconds": round(seconds, 3), **plain(progress)}, told, as_json=as_json)


def _say(event: dict[str, object], words: str, *, as_json: bool) -> None:
    if as_json:
        _output.write_json(event)
    else:
        print(asyncruns.escape_server_text(words, 2000).replace("\\x0a", "\n"))

"""`export`, `convert`, `report` and `verify`: an archive filled with progress, and what is made of it."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

import asyncruns
from asyncruns.cli import _output
from asyncruns.cli._output import span

if TYPE_CHECKING:
    from asyncruns import archive

T = TypeVar("T")

_EVERY = 0.1
_JSON_EVERY = 1.0


class Terminated(Exception):  # noqa: N818  # as SystemExit and KeyboardInterrupt
    """The process was asked to end; everything is at rest."""


def thread_ids(words: Sequence[str]) -> Iterator[str] | None:
    """Yield the ids that *words* give: ids, files with one a line, `-` for stdin; None for no words."""
    return _ids(words) if words else None


def _ids(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            yield from _lines(sys.stdin)
        elif Path(word).is_file():
            with Path(word).open(encoding="utf-8") as file:
                yield from _lines(file)
        else:
            yield word


def _lines(file: Iterable[str]) -> Iterator[str]:
    for line in file:
        id = line.strip()
        if id and not id.startswith("#"):
            yield id


async def export(
    session: "asyncruns.Session",
    limit: "asyncruns.RateLimit",
    path: str,
    ids: Iterator[str] | None,
    options: "archive.Options",
    *,
    as_json: bool,
) -> None:
    """Fill or resume an archive, show how far it is, and say how it went.

    Raises:
        ArchiveError: Some threads could not be brought; all others were.
        Terminated: SIGTERM came.
    """
    from asyncruns import archive

    async with session:
        exporter = archive.Exporter(session, path, options)
        began = time.perf_counter()
        view = _View(exporter.progress, limit, as_json=as_json)
        progress = await _until_terminated(view.while_running(exporter.run(ids)))
        _say_export(progress, time.perf_counter() - began, path, as_json=as_json)
    if progress.threads_failed:
        thread_id, reason = next(iter(progress.failures.items()))
        raise asyncruns.ArchiveError(
            f"{progress.threads_failed:,} of {progress.threads:,} threads could not be brought; "
            f"the first is {thread_id}: {reason}"
        )


async def verify(session: "asyncruns.Session", path: str, concurrency: int, *, steps: bool, as_json: bool) -> None:
    """Hold an archive against its server and say what is missing or different.

    Raises:
        ArchiveError: Something is.
    """
    from asyncruns import archive

    async with session:
        findings = await _until_terminated(archive.verify(session, path, concurrency=concurrency, steps=steps))
    if as_json:
        _output.write_json({"event": "verified", **attrs.asdict(findings)})
    else:
        print(f"{findings.threads:,} threads walked again, {findings.items:,} items compared.")
        if findings.gone:
            print(f"{findings.gone:,} items are in the archive and not on the server any more.")
    if not findings.ok:
        ids = ", ".join([*findings.missing, *findings.different, *findings.failures][:3])
        raise asyncruns.ArchiveError(
            f"{len(findings.missing):,} items are missing, {len(findings.different):,} are different, and "
            f"{len(findings.failures):,} threads could not be verified: {ids}. Export again to bring what is new."
        )


def convert(path: str, out: str, table: str, *, as_json: bool) -> None:
    """Write a table of an archive to another file."""
    from asyncruns import archive

    with archive.Archive.open(path) as opened:
        count = archive.convert(opened, out, table=table)  # type: ignore[arg-type]  # checked there
    _say({"event": "converted", "rows": count, "out": out}, f"{count:,} rows written to {out}.", as_json=as_json)


def report(path: str, out: str, runs: Sequence[str], *, as_json: bool) -> None:
    """Write the page that shows an archive."""
    from asyncruns import archive

    with archive.Archive.open(path) as opened:
        size = archive.write_report(opened, out, runs=runs)
    _say({"event": "reported", "bytes": size, "out": out}, f"Open {out} in a browser.", as_json=as_json)


class _View:
    """Shows an export under way: a live line on a terminal, JSON Lines if asked for, else nothing."""

    def __init__(self, progress: "archive.Progress", limit: "asyncruns.RateLimit", *, as_json: bool) -> None:
        self._progress = progress
        self._limit = limit
        self._as_json = as_json
        self._began = time.perf_counter()

    async def while_running(self, work: Coroutine[object, object, T]) -> T:
        console = _output.console(stderr=True)
        if self._as_json:
            return await _with_ticks(work, _JSON_EVERY, self._write_line)
        if not console.is_terminal:
            return await work
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("threads  {task.fields[told]}"),
        )
        with Progress(*columns, console=console, transient=True, expand=True) as shown:
            task = shown.add_task("", total=None, told="opening the archive")
            return await _with_ticks(
                work,
                _EVERY,
                lambda: shown.update(task, total=self._progress.threads or None, completed=self._done, told=self._told),
            )

    @property
    def _done(self) -> int:
        return self._progress.threads_done + self._progress.threads_failed

    @property
    def _told(self) -> str:
        progress = self._progress
        seconds = max(0.001, time.perf_counter() - self._began)
        words = [f"{progress.runs:,} runs", f"{progress.steps:,} steps", f"{progress.items / seconds:,.0f}/s"]
        left = self._seconds_left(seconds)
        if left is not None:
            words.append(f"{span(timedelta(seconds=left))} left")
        if progress.threads_failed:
            words.append(f"{progress.threads_failed:,} failed")
        waits = max(progress.paused_until, self._limit.closed_until) - asyncio.get_running_loop().time()
        if waits > 0:
            words.append(f"waiting {waits:.0f} s: {asyncruns.escape_server_text(progress.last_trouble, 60) or 'limit'}")
        elif troubles := progress.pauses + self._limit.refusals:
            words.append(f"{troubles:,} waits so far")
        return "  ".join(words)

    def _seconds_left(self, seconds: float) -> float | None:
        if not self._done or seconds < 1:
            return None
        return seconds / self._done * (self._progress.threads - self._done)

    def _write_line(self) -> None:
        seconds = time.perf_counter() - self._began
        figures = {"refusals": self._limit.refusals, "seconds": round(seconds, 3), "left": self._seconds_left(seconds)}
        _output.write_json({"event": "progress", **_plain(self._progress), **figures})
        sys.stdout.flush()


async def _with_ticks(work: Coroutine[object, object, T], every: float, tick: Callable[[], None]) -> T:
    async def go_on() -> None:
        while True:
            await asyncio.sleep(every)
            tick()

    ticking = asyncio.create_task(go_on())
    try:
        return await work
    finally:
        ticking.cancel()


async def _until_terminated(work: Coroutine[object, object, T]) -> T:
    """Await *work*; SIGTERM cancels it, lets it come to rest, and then counts. A second one ends the process."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    told = False

    def end() -> None:
        nonlocal told
        told = True
        loop.remove_signal_handler(signal.SIGTERM)
        task.cancel()

    with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread.
        loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await task
    except asyncio.CancelledError:
        if told:
            raise Terminated from None
        raise
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGTERM)


def _say_export(progress: "archive.Progress", seconds: float, path: str, *, as_json: bool) -> None:
    parts = [f"{progress.runs:,} runs", f"{progress.steps:,} steps"]
    if progress.messages:
        parts.append(f"{progress.messages:,} messages")
    told = (
        f"{progress.threads_done:,} of {progress.threads:,} threads complete: {', '.join(parts)} brought in "
        f"{span(timedelta(seconds=seconds))}.\nLook at it: asyncruns report {path} report.html"
    )
    _say({"event": "exported", "seconds": round(seconds, 3), **_plain(progress)}, told, as_json=as_json)


def _plain(progress: "archive.Progress") -> dict[str, object]:
    return attrs.asdict(progress, filter=lambda field, _: field.name != "paused_until")


def _say(event: dict[str, object], words: str, *, as_json: bool) -> None:
    if as_json:
        _output.write_json(event)
    else:
        print(asyncruns.escape_server_text(words, 2000).replace("\\x0a", "\n"))

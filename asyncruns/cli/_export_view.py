"""What an export shows while it goes on: two live lines on a terminal, JSON Lines if asked for, else nothing."""

import asyncio
import logging
import math
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import attrs
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

import asyncruns
from asyncruns.cli import _output
from asyncruns.cli._output import span

if TYPE_CHECKING:
    from asyncruns import archive

T = TypeVar("T")

_EVERY = 0.1
_JSON_EVERY = 1.0
_RATE_OVER = 10.0
_RETRY = "attempt %d failed, next in"
"""Stands in what the library logs of an attempt that is made again, and in nothing else."""


class ExportView:
    """Shows how far an export is.

    Args:
        progress: The export's figures.
        limit: Its rate limit.
        as_json: Whether to print a line of JSON a second.
    """

    def __init__(self, progress: "archive.Progress", limit: "asyncruns.RateLimit", *, as_json: bool) -> None:
        self._progress = progress
        self._limit = limit
        self._as_json = as_json
        self._asked_pace = limit.pace
        self._began = time.perf_counter()
        self._seen: deque[tuple[float, int]] = deque([(self._began, 0)])
        self._retries = _Retries()

    async def while_running(self, work: Coroutine[object, object, T]) -> T:
        """Await *work* and show meanwhile how far it is."""
        console = _output.console(stderr=True)
        with self._retries.counted():
            if self._as_json:
                return await _with_ticks(work, _JSON_EVERY, self._write_line)
            if not console.is_terminal:
                return await work
            spinner = Spinner("dots")
            with Live(console=console, transient=True, auto_refresh=False) as live:
                return await _with_ticks(work, _EVERY, lambda: live.update(self._lines(spinner), refresh=True))

    def _lines(self, spinner: Spinner) -> RenderableType:
        progress = self._progress
        if not progress.threads:
            return _line(spinner, Text("  ".join(["reading the list of threads", *self._troubles])))
        bar = ProgressBar(total=1.0, completed=progress.share, width=24)
        return Group(
            _line(spinner, bar, Text(self._how_far)), Text(f"  {self._how_fast}", no_wrap=True, overflow="ellipsis")
        )

    @property
    def _how_far(self) -> str:
        progress = self._progress
        words = [f"{100 * progress.share:.0f} %", f"{self._done:,} of {progress.threads:,} threads"]
        if progress.threads_failed:
            words.append(f"{progress.threads_failed:,} failed")
        left = self._seconds_left()
        if left is not None:
            words.append(f"{span(timedelta(seconds=round(left)))} left")
        return "  ".join(words)

    @property
    def _how_fast(self) -> str:
        """Tell what came and how fast; a wait, which explains why nothing comes, stands first."""
        progress = self._progress
        parts = [(progress.runs, "runs"), (progress.steps, "steps"), (progress.messages, "messages")]
        words = [f"{count:,} {noun}" for count, noun in parts if count or noun == "runs"]
        words.append(f"{self._rate():,.0f}/s")
        troubles = self._troubles
        return "  ".join(troubles + words if self._waiting else words + troubles)

    @property
    def _troubles(self) -> list[str]:
        told = []
        if self._waiting:
            told.append(f"waiting {math.ceil(self._waiting)} s {self._why}")
        elif self._limit.pace != self._asked_pace and self._limit.pace is not None:
            told.append(f"slowed to {self._limit.pace:,.0f} requests/min")
        counts = ((self._retries.count, "retried"), (self._limit.refusals, "refused"))
        return told + [f"{count:,} {word}" for count, word in counts if count]

    @property
    def _done(self) -> int:
        return self._progress.threads_done + self._progress.threads_failed

    @property
    def _waiting(self) -> float:
        until = max(self._progress.paused_until, self._limit.closed_until)
        return max(0.0, until - asyncio.get_running_loop().time())

    @property
    def _why(self) -> str:
        trouble = self._progress.last_trouble
        if self._limit.closed_until >= self._progress.paused_until or trouble.startswith("HTTP 429"):
            return "as the server asks"
        trouble = re.sub(r" \(request [^)]*\)", "", trouble)
        return f"({asyncruns.escape_server_text(trouble, 50)})"

    def _rate(self) -> float:
        """Return the items a second of the last ten seconds."""
        now = time.perf_counter()
        self._seen.append((now, self._progress.items))
        while now - self._seen[1][0] > _RATE_OVER:
            self._seen.popleft()
        at, items = self._seen[0]
        return (self._progress.items - items) / max(0.001, now - at)

    def _seconds_left(self) -> float | None:
        seconds, share = time.perf_counter() - self._began, self._progress.share
        return seconds / share * (1 - share) if share > 0.005 and seconds > 1 else None

    def _write_line(self) -> None:
        figures = {
            "share": round(self._progress.share, 4),
            "per_second": round(self._rate(), 1),
            "retries": self._retries.count,
            "refusals": self._limit.refusals,
            "waiting": round(self._waiting, 1),
            "requests_per_minute": self._limit.pace,
            "seconds": round(time.perf_counter() - self._began, 3),
            "left": self._seconds_left(),
        }
        _output.write_json({"event": "progress", **plain(self._progress), **figures})
        sys.stdout.flush()


class _Retries(logging.Filter):
    """Counts what the library logs of attempts that are made again.

    It is a filter and no handler, and lets pass what would have been logged without it: warnings are told as ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._level = logging.WARNING

    def filter(self, record: logging.LogRecord) -> bool:
        self.count += _RETRY in str(record.msg)
        return record.levelno >= self._level

    @contextmanager
    def counted(self) -> Iterator[None]:
        logger = logging.getLogger("asyncruns")
        level, self._level = logger.level, logger.getEffectiveLevel()
        logger.addFilter(self)
        logger.setLevel(min(self._level, logging.INFO))
        try:
            yield
        finally:
            logger.removeFilter(self)
            logger.setLevel(level)


def plain(progress: "archive.Progress") -> dict[str, object]:
    """Return the figures for JSON: without the moment on a clock that nobody else has."""
    return attrs.asdict(progress, filter=lambda field, _: field.name != "paused_until")


def _line(*parts: RenderableType) -> Table:
    line = Table.grid(padding=(0, 1))
    line.add_row(*parts)
    return line


async def _with_ticks(work: Coroutine[object, object, T], every: float, tick: Callable[[], None]) -> T:
    async def go_on() -> None:
        try:
            while True:
                await asyncio.sleep(every)
                tick()
        except Exception as error:  # Told, and no reason to end the work.
            told = asyncruns.escape_server_text(f"{type(error).__name__}: {error}")
            print(f"asyncruns: how far it is can be shown no longer: {told}", file=sys.stderr)

    ticking = asyncio.create_task(go_on())
    try:
        return await work
    finally:
        ticking.cancel()

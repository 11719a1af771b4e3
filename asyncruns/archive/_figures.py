"""The figures of an archive, gathered in one pass over its rows; nothing of a server's shape is taken for granted."""

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from asyncruns.archive._archive import Archive, ThreadRecord
from asyncruns.archive._facts import reader_of
from asyncruns.models._time import FIRST_MILLISECONDS
from asyncruns.models.runs import ENDED_AT

MOST_SHOWN = 10
"""Runs in the lists of the slowest and the costliest."""

_EARLIEST, _LATEST = 1_262_304_000, 4_102_444_800  # 2010 to 2100, in Unix seconds


class RunRow(msgspec.Struct, gc=False):
    """The parts of a run that the report looks at."""

    id: str
    thread_id: Any = None
    status: Any = None
    created_at: Any = None
    started_at: Any = None
    completed_at: Any = None
    failed_at: Any = None
    cancelled_at: Any = None
    expires_at: Any = None
    model: Any = None
    usage: Any = None
    last_error: Any = None
    incomplete_details: Any = None

    @property
    def place(self) -> tuple[str, str]:
        """Its thread and its id: a server may have runs of the same id in several threads."""
        return word(self.thread_id), self.id

    @property
    def seconds(self) -> float | None:
        """How long it ran; None when that is not known."""
        start = moment(self.started_at) or moment(self.created_at)
        status = word(self.status)
        end = moment(getattr(self, ENDED_AT[status])) if status in ENDED_AT else None
        return None if start is None or end is None else max(0.0, end - start)

    @property
    def tokens(self) -> int:
        """Tokens read and written; 0 when that is not known."""
        total = count_of(self.usage, "total_tokens")
        return total or count_of(self.usage, "prompt_tokens") + count_of(self.usage, "completion_tokens")

    @property
    def error(self) -> str:
        """Why it did not complete, in the server's code; empty when it says nothing."""
        for holder, name in ((self.last_error, "code"), (self.incomplete_details, "reason")):
            if isinstance(holder, dict) and isinstance(holder.get(name), str):
                return str(holder[name])
        return ""


class _StepRow(msgspec.Struct, gc=False):
    step_details: Any = None


@attrs.define
class Figures:
    """What the report shows.

    Attributes:
        threads: What is known of each thread's export, by state.
        failed: The threads that could not be brought, the first of them.
        verified: Threads that were verified.
        deviating: Threads of which a verification found something missing or different.
        deviations: Those threads, the first of them.
        verified_at: When, in Unix seconds.
        steps: Number of steps.
        messages: Number of messages.
        statuses: Runs by status.
        by_hour: Runs by the hour in which they were made (Unix hours) and status.
        tokens_by_hour: Tokens by hour and model.
        durations: Seconds that each terminal run took, sorted.
        errors: Runs by error code.
        error_texts: An example of what the server said for a code.
        tools: Tool calls by tool.
        slowest: The slowest runs, slowest first.
        costliest: The runs with most tokens, most first.
        undated: Runs whose creation time is none.
        tokens: All tokens.
    """

    threads: Counter[str] = attrs.field(factory=Counter)
    failed: list[ThreadRecord] = attrs.field(factory=list)
    verified: int = 0
    deviating: int = 0
    deviations: list[ThreadRecord] = attrs.field(factory=list)
    verified_at: int | None = None
    steps: int = 0
    messages: int = 0
    statuses: Counter[str] = attrs.field(factory=Counter)
    by_hour: Counter[tuple[int, str]] = attrs.field(factory=Counter)
    tokens_by_hour: Counter[tuple[int, str]] = attrs.field(factory=Counter)
    durations: Sequence[float] = attrs.field(factory=lambda: array("d"))
    errors: Counter[str] = attrs.field(factory=Counter)
    error_texts: dict[str, str] = attrs.field(factory=dict)
    tools: Counter[str] = attrs.field(factory=Counter)
    slowest: list[RunRow] = attrs.field(factory=list)
    costliest: list[RunRow] = attrs.field(factory=list)
    undated: int = 0
    tokens: int = 0

    @property
    def runs(self) -> int:
        """Number of runs."""
        return self.statuses.total()

    def percentile(self, share: float) -> float | None:
        """Return a percentile of the durations by the nearest rank; None without durations."""
        if not self.durations:
            return None
        return self.durations[max(0, math.ceil(share * len(self.durations)) - 1)]


_MOST_LISTED = 50
read_run = reader_of(RunRow)
_read_step = msgspec.json.Decoder(_StepRow).decode


def gather(archive: Archive) -> Figures:
    """Read the whole archive and return its figures.

    Raises:
        ArchiveCorrupt: It is damaged.
    """
    figures = Figures(verified_at=archive.verified_at, messages=archive.count("messages"))
    _add_threads(figures, archive.records())
    _add_runs(figures, archive.raw("runs"))
    for blob in archive.raw("steps"):
        figures.steps += 1
        with suppress(msgspec.DecodeError, RecursionError):  # It holds a number that nothing can hold.
            _add_tools(figures, _read_step(blob))
    return figures


def moment(value: object) -> float | None:
    """Return Unix seconds from what servers send as a time, which may be milliseconds; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST * 1000:
        return None  # Out of bounds first: an integer may be too long to be divided.
    seconds = value / 1000 if value >= FIRST_MILLISECONDS else float(value)
    return seconds if _EARLIEST <= seconds < _LATEST else None


def word(value: object) -> str:
    """Return a server's word, or `unknown` for what is none."""
    return value if isinstance(value, str) and value else "unknown"


def count_of(holder: object, name: str) -> int:
    """Return a count from a server's object; 0 for what is none."""
    value = holder.get(name) if isinstance(holder, dict) else None
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def day_of(seconds: float) -> str:
    """Return the date of a moment, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def tool_calls(details: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the type of each tool call in a step's details, and what it holds under that name."""
    calls = details.get("tool_calls") if isinstance(details, dict) else None
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            kind = word(call.get("type"))
            inner = call.get(kind)
            yield kind, inner if isinstance(inner, dict) else {}


def _add_threads(figures: Figures, records: Iterable[ThreadRecord]) -> None:
    for record in records:
        figures.threads[record.state] += 1
        figures.verified += record.verified is not None
        figures.deviating += bool(record.verified)
        if record.state == "failed" and len(figures.failed) < _MOST_LISTED:
            figures.failed.append(record)
        if record.verified and len(figures.deviations) < _MOST_LISTED:
            figures.deviations.append(record)


def _add_runs(figures: Figures, blobs: Iterable[bytes]) -> None:
    durations = array("d")
    slowest: list[tuple[float, int, RunRow]] = []
    costliest: list[tuple[float, int, RunRow]] = []
    for number, blob in enumerate(blobs):
        run = read_run(blob)
        _add_run(figures, run)
        seconds = run.seconds
        if seconds is not None:
            durations.append(seconds)
            _keep(slowest, (seconds, -number, run))
        if tokens := run.tokens:
            figures.tokens += tokens
            _keep(costliest, (float(tokens), -number, run))
    figures.durations = sorted(durations)
    figures.slowest = [run for _, _, run in sorted(slowest, key=lambda kept: kept[:2], reverse=True)]
    figures.costliest = [run for _, _, run in sorted(costliest, key=lambda kept: kept[:2], reverse=True)]


def _add_run(figures: Figures, run: RunRow) -> None:
    status, made = word(run.status), moment(run.created_at)
    figures.statuses[status] += 1
    if made is None:
        figures.undated += 1
    else:
        hour = int(made // 3600)
        figures.by_hour[hour, status] += 1
        figures.tokens_by_hour[hour, word(run.model)] += run.tokens
    if error := run.error:
        figures.errors[error] += 1
        if error not in figures.error_texts and isinstance(run.last_error, dict):
            figures.error_texts[error] = word(run.last_error.get("message"))


def _keep(heap: list[tuple[float, int, RunRow]], entry: tuple[float, int, RunRow]) -> None:
    if len(heap) < MOST_SHOWN:
        heapq.heappush(heap, entry)
    elif entry[:2] > heap[0][:2]:
        heapq.heapreplace(heap, entry)


def _add_tools(figures: Figures, step: _StepRow) -> None:
    for kind, inner in tool_calls(step.step_details):
        name = inner.get("name")
        figures.tools[f"{kind}: {name}" if isinstance(name, str) else kind] += 1

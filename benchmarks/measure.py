"""Rounds, medians and the table: how figures are taken and shown."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs

from benchmarks.server import ROOT

PACKAGES = ("asyncruns", "aiohttp", "msgspec", "attrs", "cattrs", "openai", "httpx2", "pydantic", "azure-ai-agents")


class Worker:
    """A child process that does jobs with one client (see `benchmarks.worker`)."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._answer()

    def do(self, job: str, **arguments: object) -> dict[str, Any]:
        """Have a job done and return its figures."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the worker ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def working(peer: str, base_url: str) -> Iterator[Worker]:
    """Run a worker for *peer* and end it afterwards."""
    command = [sys.executable, "-m", "benchmarks.worker", peer, base_url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        try:
            yield Worker(process)
        finally:
            process.terminate()


@attrs.frozen(kw_only=True)
class Demand:
    """What one client's figure must be, as a ratio to another's; without bounds the ratio is only shown.

    Attributes:
        ours: The entry that is judged.
        theirs: The entry it is held against; None when the figure itself is judged.
        at_least: The lowest ratio allowed, or None.
        at_most: The highest ratio allowed, or None.
    """

    ours: str
    theirs: str | None
    at_least: float | None = None
    at_most: float | None = None

    def met(self, ratio: float) -> bool:
        """Whether *ratio* is within the bounds."""
        return not (
            (self.at_least is not None and ratio < self.at_least) or (self.at_most is not None and ratio > self.at_most)
        )

    def verdict(self, ratio: float) -> str:
        """Say what is asked for, and whether *ratio* is that."""
        if self.at_least is None and self.at_most is None:
            return ""
        asked = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"asked {asked:<8} {'met' if self.met(ratio) else 'MISSED'}"


@attrs.frozen(kw_only=True)
class Row:
    """One subject of the table.

    Attributes:
        name: What `--rows` takes.
        title: What the table says.
        unit: Of the figures.
        entries: Per label, what takes one figure.
        demands: The ratios that are looked at.
        rounds: How often, when not as often as the others.
    """

    name: str
    title: str
    unit: str
    entries: Mapping[str, Callable[[], float]]
    demands: Sequence[Demand] = ()
    rounds: int | None = None


@attrs.frozen(kw_only=True)
class Outcome:
    """The figures of a row, one per round and label."""

    row: Row
    figures: Mapping[str, Sequence[float]]

    def ratio(self, demand: Demand) -> float:
        """Return the median of the ratios within each round; a slow moment then hits both sides."""
        ours = self.figures[demand.ours]
        theirs = [1.0] * len(ours) if demand.theirs is None else self.figures[demand.theirs]
        return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def measured(row: Row, rounds: int) -> Outcome:
    """Take every entry's figure once a round, beginning with another entry in each."""
    labels = list(row.entries)
    figures: dict[str, list[float]] = {label: [] for label in labels}
    for number in range(row.rounds or rounds):
        first = number % len(labels)
        for label in labels[first:] + labels[:first]:
            figures[label].append(row.entries[label]())
    return Outcome(row=row, figures=figures)


def table(outcome: Outcome) -> str:
    """Return the row as lines: the median and the spread of each label, and the ratios that are looked at."""
    row = outcome.row
    lines = [f"{row.title} [{row.unit}], rounds: {len(next(iter(outcome.figures.values())))}"]
    for label, figures in outcome.figures.items():
        spread = f"{_short(min(figures))} .. {_short(max(figures))}"
        lines.append(f"  {label:<40} {_short(statistics.median(figures)):>10}   ({spread})")
    for demand in row.demands:
        ratio = outcome.ratio(demand)
        subject = demand.ours if demand.theirs is None else f"{demand.ours} / {demand.theirs}"
        lines.append(f"    {subject:<50} {ratio:>8.2f}   {demand.verdict(ratio)}".rstrip())
    return "\n".join(lines)


def machine() -> str:
    """Return what the figures were taken on and with."""
    versions = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, load {load}; "
        f"Python {platform.python_version()}\n{versions}"
    )


def _version(name: str) -> str | None:
    if name == "asyncruns":
        from asyncruns import __version__

        return __version__
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

"""`asyncruns demo`: the main job, from a filled emulator to figures, an archive, and a page to look at."""

import asyncio
import math
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median

import attrs
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

import asyncruns
from asyncruns.cli import _output
from asyncruns.cli._output import cell, count, span, status_cell

THREADS, RUNS_PER_THREAD = 40, 50
_ARCHIVE = "runs.db"
_READERS = 8

EXAMPLE = f"""\
import asyncio
from asyncruns import Session
from asyncruns.emulator import Emulator

async def main():
    async with Emulator() as emulator:
        async with Session(emulator.api_key, emulator.base_url) as session:
            for thread_id in emulator.fill(threads={THREADS}, runs_per_thread={RUNS_PER_THREAD}):
                async for run in session.runs.list(thread_id, order="asc"):
                    async for step in session.steps.list(thread_id, run.id):
                        print(run.id, run.status, step.type, step.status)

asyncio.run(main())
"""

_NEXT = """\
{program} convert {archive} runs.jsonl
    the same runs for other tools, one a line
{program} export runs.db --threads ids.txt
    an archive of your own server's threads, with one id a line in ids.txt
{program} emulate --fill 40
    the same server, for your own code and tests
{program} --help
    all commands; each has a --help of its own
"""


@attrs.define
class Tally:
    """What was read, by status of the runs.

    Attributes:
        steps: Steps read.
        runs: Status -> its runs, summed up.
    """

    steps: int = 0
    runs: dict[str, "StatusTally"] = attrs.field(factory=dict)

    @property
    def run_count(self) -> int:
        """Runs read."""
        return sum(part.count for part in self.runs.values())

    def add(self, run: "asyncruns.Run") -> None:
        """Count *run* in."""
        self.runs.setdefault(run.status, StatusTally()).add(run)


@attrs.define
class StatusTally:
    """The runs of one status, summed up.

    Attributes:
        count: How many.
        seconds: How long each took, as far as known.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
    """

    count: int = 0
    seconds: list[float] = attrs.field(factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, run: "asyncruns.Run") -> None:
        """Count *run* in."""
        self.count += 1
        if run.duration is not None:
            self.seconds.append(run.duration.total_seconds())
        if run.usage is not None:
            self.prompt_tokens += run.usage.prompt_tokens or 0
            self.completion_tokens += run.usage.completion_tokens or 0

    def figures(self) -> dict[str, float | None]:
        """Return the sums, the median and the 95th percentile (nearest rank) by name."""
        ranked = sorted(self.seconds)
        return {
            "count": self.count,
            "median_seconds": median(ranked) if ranked else None,
            "p95_seconds": ranked[math.ceil(0.95 * len(ranked)) - 1] if ranked else None,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }


@attrs.frozen(kw_only=True)
class Kept:
    """What the demo leaves behind.

    Attributes:
        archive: The archive file.
        report: The page made of it.
        seconds: How long the export took.
        verified: Items that were held against the server once more.
        deviating: Those of them that were missing or different.
    """

    archive: Path
    report: Path
    seconds: float
    verified: int
    deviating: int


async def demo(out: str | None, *, as_json: bool) -> None:
    """Fill an emulator, read all of its runs and steps, archive them, and print what came of it.

    Raises:
        ConfigurationError: There is an archive in the folder *out* already.
        ArchiveError: The folder cannot be written.
    """
    from asyncruns.emulator import Emulator

    if out is not None:
        _check_out(out)
    async with Emulator() as emulator:
        thread_ids = emulator.fill(threads=THREADS, runs_per_thread=RUNS_PER_THREAD)
        # Empty, so that the settings of the user's own account are not sent.
        async with asyncruns.Session(emulator.api_key, emulator.base_url, organization="", project="") as session:
            began = time.perf_counter()
            tally = await _read_with_progress(session, thread_ids)
            seconds, requests = time.perf_counter() - began, emulator.request_count
            kept = await _archived(session, thread_ids, _made_folder(out))
    if as_json:
        _output.write_json(_summary(tally, seconds, requests, kept))
    else:
        _print_report(tally, seconds, requests, kept)


def _check_out(out: str) -> None:
    if (Path(out) / _ARCHIVE).exists():
        raise asyncruns.ConfigurationError(f"{Path(out) / _ARCHIVE} is there already; choose another folder.")


def _made_folder(out: str | None) -> Path:
    """Return the folder for the archive: a new one that nobody else can write to, unless one is given."""
    if out is None:
        return Path(tempfile.mkdtemp(prefix="asyncruns-demo-"))
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise asyncruns.ArchiveError(f"{out} cannot be made: {error.strerror}.") from None
    return Path(out)


async def _archived(session: "asyncruns.Session", thread_ids: Sequence[str], folder: Path) -> Kept:
    """Export everything, verify it against the server, and make the page."""
    from asyncruns import archive

    path, page = folder / _ARCHIVE, folder / "report.html"
    began = time.perf_counter()
    with _output.console(stderr=True).status("Exporting to an archive") as status:
        await archive.export(session, path, thread_ids, messages=True, threads=True)
        seconds = time.perf_counter() - began
        status.update("Verifying the archive")
        findings = await archive.verify(session, path)
        with archive.Archive.open(path) as opened:
            archive.write_report(opened, page)
    deviating = len(findings.missing) + len(findings.different)
    return Kept(archive=path, report=page, seconds=seconds, verified=findings.items, deviating=deviating)


async def _read_with_progress(session: "asyncruns.Session", thread_ids: Sequence[str]) -> Tally:
    console, tally = _output.console(stderr=True), Tally()
    if not console.is_terminal:
        await read_all(session, thread_ids, tally, lambda: None)
        return tally
    read = "{task.completed:,} of {task.total:,} runs  {task.fields[steps]:,} steps  {task.fields[rate]:,.0f}/s"
    columns = (TextColumn("Reading"), BarColumn(bar_width=None), TextColumn(read))
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("", total=len(thread_ids) * RUNS_PER_THREAD, steps=0, rate=0.0)
        began = time.perf_counter()

        def show() -> None:
            runs = tally.run_count
            rate = (runs + tally.steps) / (time.perf_counter() - began)
            progress.update(task, completed=runs, steps=tally.steps, rate=rate)

        await read_all(session, thread_ids, tally, show)
    return tally


async def read_all(
    session: "asyncruns.Session", thread_ids: Iterable[str], tally: Tally, show: Callable[[], None]
) -> None:
    """Read every run and step of the threads into *tally*, a few threads at once; *show* is called after each run.

    Raises:
        AsyncRunsError: The first that any of the readers met; the others were stopped.
    """
    remaining = iter(thread_ids)

    async def read_threads() -> None:
        for thread_id in remaining:
            async for run in session.runs.list(thread_id, order="asc"):
                tally.add(run)
                async for _ in session.steps.list(thread_id, run.id):
                    tally.steps += 1
                show()

    try:
        async with asyncio.TaskGroup() as readers:
            for _ in range(_READERS):
                readers.create_task(read_threads())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def _summary(tally: Tally, seconds: float, requests: int, kept: Kept) -> Mapping[str, object]:
    return {
        "threads": THREADS,
        "runs": tally.run_count,
        "steps": tally.steps,
        "requests": requests,
        "seconds": round(seconds, 3),
        "by_status": {status: part.figures() for status, part in tally.runs.items()},
        "archive": _output.name_of_file(kept.archive),
        "report": _output.name_of_file(kept.report),
        "export_seconds": round(kept.seconds, 3),
        "verified": kept.verified,
        "deviating": kept.deviating,
    }


def _print_report(tally: Tally, seconds: float, requests: int, kept: Kept) -> None:
    console = _output.console()
    runs, steps = tally.run_count, tally.steps
    parts = sorted(tally.runs.items(), key=lambda item: -item[1].count)
    rows = [[status_cell(status), *_figure_cells(part)] for status, part in parts]
    console.print(
        f"A local server in this process, filled with {THREADS} threads of {RUNS_PER_THREAD} runs, "
        "was read to the last step:\n"
    )
    columns = ["status", "runs>", "median>", "p95>", "prompt tokens>", "completion tokens>"]
    console.print(_output.table(columns, rows))
    console.print(
        f"\n{runs:,} runs and {steps:,} steps in {seconds:.1f} s and {requests:,} requests: "
        f"{runs / seconds:,.0f} runs and {steps / seconds:,.0f} steps per second, "
        f"{_READERS} of the threads side by side.\n"
    )
    _print_kept(console, kept)
    console.print("The same in Python, one thread after the other:\n", style="bold")
    console.print(EXAMPLE, soft_wrap=True)
    console.print("To go on:\n", style="bold")
    archive = shlex.quote(str(kept.archive))
    console.print(_NEXT.format(archive=archive, program=_output.program()), soft_wrap=True, end="")


def _print_kept(console: Console, kept: Kept) -> None:
    console.print(
        f"All of it is now in an archive, exactly as it was sent, with the messages: exported in {kept.seconds:.1f} s, "
        f"and checked against the server: {kept.verified:,} objects, {kept.deviating} of them missing or different.\n"
    )
    console.print(f"  archive     {kept.archive}\n  to look at  {kept.report}\n", soft_wrap=True)


def _figure_cells(part: StatusTally) -> list[Text]:
    figures = part.figures()
    spans = [figures["median_seconds"], figures["p95_seconds"]]
    return [
        cell(count(part.count)),
        *(cell(None if value is None else span(timedelta(seconds=value))) for value in spans),
        cell(count(part.prompt_tokens)),
        cell(count(part.completion_tokens)),
    ]

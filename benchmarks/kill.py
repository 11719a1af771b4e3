"""Kill exports with SIGKILL, resume them, and hold every row against the server: `python -m benchmarks.kill`.

Half of the kills come at a random moment, half at a named step of a write; most exports walk long listings from both
ends. The exports run in forks of this program's
helper process, so that one kill costs a fraction of a second. The last line is a JSON object with the figures.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from asyncruns import ArchiveError, Session
from asyncruns.archive import Archive, Exporter, Options, _checkpoints, _moments
from asyncruns.emulator import Emulator

MOMENTS = (
    "before_rename",
    "after_rename",
    "after_lock",
    "after_rows",
    "after_cursor",
    "before_commit",
    "after_commit",
    "after_checkpoint",
)
CONCURRENCY = 8
KILLS_PER_TRIAL = 5
RUNS_PER_THREAD = (60, 340)
LATENCY = 0.008
LATEST_KILL = 0.4


@attrs.define
class Figures:
    """What a series of trials came to."""

    kills: int = 0
    survived: int = 0
    trials: int = 0
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    shrunk: int = 0
    refetched: int = 0
    refetched_beyond_bound: int = 0
    at_moment: Counter[str] = attrs.field(factory=Counter)


class Forker:
    """Runs exports in processes of their own, forked from a helper that has everything loaded."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    async def run(self, **order: object) -> int:
        """Run an export, killed after *seconds* where the order names them, and return its wait status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(await asyncio.to_thread(self._process.stdout.readline))


@contextmanager
def forking() -> Iterator[Forker]:
    """Run the helper."""
    command = [sys.executable, "-m", "benchmarks.kill", "--forks"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[1]) as process:
        try:
            yield Forker(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def serve_forks() -> None:
    """Be the helper: for each order on stdin, fork an export, kill it when it is time, and print how it ended."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_export(order))
        if order["seconds"] is not None:
            time.sleep(order["seconds"])
            os.kill(pid, signal.SIGKILL)  # One that has ended keeps its id until it is waited for.
        print(os.waitpid(pid, 0)[1], flush=True)


def _export(order: Mapping[str, Any]) -> int:
    countdown = [order["after"]]

    def reached(name: str) -> None:
        if name == order["moment"]:
            countdown[0] -= 1
            if countdown[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> int:
        async with Session(order["key"], order["base_url"]) as session:
            options = Options(concurrency=CONCURRENCY, both_ends=order["both_ends"])
            progress = await Exporter(session, order["path"], options).run(order["threads"])
        return 0 if progress.threads_done == len(order["threads"]) else 3

    _moments.reached = reached
    _checkpoints.BYTES_BETWEEN = 1  # one beside every commit
    return asyncio.run(run())


class Trial:
    """One archive, killed several times and then brought to its end."""

    def __init__(self, emulator: Emulator, forker: Forker, path: Path, figures: Figures, chance: random.Random) -> None:
        self._emulator, self._forker, self._path = emulator, forker, path
        self._figures, self._chance = figures, chance
        self._last: set[str] = set()
        self._begin_again()

    async def run(self, threads: list[str], expected: Mapping[str, list[Any]], kills: int) -> None:
        """Kill, look at what is there, and go on; at last resume to the end and compare everything."""
        landed = 0
        self._last = set(expected["last"])
        while landed < kills:
            moment = self._chance.choice(MOMENTS) if self._chance.random() < 0.5 else ""
            if await self._killed(threads, moment):
                landed += 1
                self._kills += 1
                self._figures.kills += 1
                self._figures.at_moment[moment or "random"] += 1
                self._look(expected)
            else:
                self._figures.survived += 1
                self._path.unlink()  # It is complete: begin again, so that the next kill meets work.
                self._begin_again()
                continue
            self._count_refetched()
        if await self._forker.run(**self._order(threads)) != 0:
            raise RuntimeError("the resumed export failed")
        self._count_refetched()
        self._figures.refetched += self._again
        self._figures.refetched_beyond_bound += max(0, self._again - self._kills * CONCURRENCY)
        self._compare(expected)
        self._figures.trials += 1

    async def _killed(self, threads: list[str], moment: str) -> bool:
        after = self._chance.randrange(40) if moment.startswith(("after_rows", "after_c", "before_c")) else 0
        seconds = None if moment else self._chance.uniform(0.01, LATEST_KILL)
        status = await self._forker.run(**self._order(threads, moment, after, seconds))
        await asyncio.sleep(2 * LATENCY)  # The server still reads what the dead one sent.
        if status not in (0, signal.SIGKILL):
            raise RuntimeError("an export failed before it was killed")
        return status == signal.SIGKILL

    def _begin_again(self) -> None:
        self._rows = self._kills = self._again = 0
        self._asked: set[str] = set()
        self._emulator.requests.clear()

    def _order(
        self, threads: list[str], moment: str = "", after: int = 0, seconds: float | None = None
    ) -> dict[str, object]:
        server = {"key": self._emulator.api_key, "base_url": self._emulator.base_url}
        work = {"path": str(self._path), "threads": threads, "both_ends": self._chance.random() < 0.7}
        return {**server, **work, "moment": moment, "after": after, "seconds": seconds}

    def _count_refetched(self) -> None:
        """Count the pages that were asked for before; each walk in flight at a kill may ask for one again.

        What follows the last run of a thread does not count: that it is asked for is how new runs are found.
        """
        asked = {target for _, target in self._emulator.requests if target.rpartition("after=")[2] not in self._last}
        again = len(asked & self._asked) + len(self._emulator.requests) - len(set(self._emulator.requests))
        self._again += again
        self._asked |= asked
        self._emulator.requests.clear()

    def _look(self, expected: Mapping[str, list[Any]]) -> None:
        """Hold what is there after a kill against the server: rows are whole, and none went away again."""
        if not self._path.exists():
            return
        with Archive.open(self._path) as archive:
            rows = 0
            for table in ("runs", "steps"):
                right = set(expected[table])
                for blob in archive.raw(table):
                    rows += 1
                    self._figures.torn += blob not in right
        self._figures.shrunk += rows < self._rows
        self._rows = rows

    def _compare(self, expected: Mapping[str, list[Any]]) -> None:
        with Archive.open(self._path) as archive:
            for table in ("runs", "steps"):
                found = Counter(archive.raw(table))
                wanted = Counter(expected[table])
                self._figures.lost += (wanted - found).total()
                self._figures.doubled += (found - wanted).total()


async def kill_exports(kills: int, seed: int) -> Figures:
    """Land *kills* kills, in trials of a few each, and return the figures."""
    figures, chance = Figures(), random.Random(seed)
    with forking() as forker, tempfile.TemporaryDirectory() as folder:
        async with Emulator(seed=seed) as emulator:
            threads = [id for count in RUNS_PER_THREAD for id in emulator.fill(threads=1, runs_per_thread=count)]
            expected = await _everything(emulator, threads)
            emulator.delay = LATENCY
            while figures.kills < kills:
                path = Path(folder, f"{figures.trials}.db")
                trial = Trial(emulator, forker, path, figures, chance)
                await trial.run(threads, expected, min(KILLS_PER_TRIAL, kills - figures.kills))
    return figures


async def _everything(emulator: Emulator, threads: list[str]) -> dict[str, list[Any]]:
    """Return the bytes of all runs and steps, walked plainly."""
    expected: dict[str, list[Any]] = {"runs": [], "steps": [], "last": []}
    async with Session(emulator.api_key, emulator.base_url) as session:
        for thread_id in threads:
            async for blob in session.runs.list(thread_id, order="asc").raw():
                expected["runs"].append(blob)
                run_id = json.loads(blob)["id"]
                expected["steps"] += [step async for step in session.steps.list(thread_id, run_id).raw()]
            expected["last"].append(run_id)
    return expected


def main() -> int:
    """Run the command; the exit code is 1 when anything was lost, doubled, torn or fetched needlessly."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--forks", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.forks:
        serve_forks()
        return 0
    print(f"seed {words.seed}", file=sys.stderr)
    figures = asyncio.run(kill_exports(words.kills, words.seed))
    print(json.dumps({"seed": words.seed, **attrs.asdict(figures)}))
    defects = figures.lost + figures.doubled + figures.torn + figures.shrunk + figures.refetched_beyond_bound
    return 1 if defects else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ArchiveError as error:
        sys.exit(f"an archive could not be gone on with: {error}")

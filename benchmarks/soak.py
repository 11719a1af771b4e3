"""Mixed calls for a while against a server that fails now and then; ends with status 1 when anything leaks.

See README.md.
"""

import argparse
import asyncio
import gc
import random
import secrets
import statistics
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs

import asyncruns
from benchmarks.faulty import THREAD_ID
from benchmarks.measure import machine
from benchmarks.server import started
from benchmarks.worker import resident

_RUN_ID = "run_1"
_MAX_GROWTH = 3.0
_MAX_OBJECTS = 2000


@attrs.frozen(kw_only=True)
class Holdings:
    """What this process holds.

    Attributes:
        files: Open file descriptors.
        tasks: Tasks of the loop.
        objects: Objects the collector knows, after a collection.
        megabytes: Resident memory.
    """

    files: int
    tasks: int
    objects: int
    megabytes: float

    @classmethod
    def now(cls) -> "Holdings":
        """Count."""
        gc.collect()
        return cls(
            files=len(list(Path("/proc/self/fd").iterdir())),
            tasks=len(asyncio.all_tasks()),
            objects=len(gc.get_objects()),
            megabytes=resident() / 2**20,
        )


class Soak:
    """Callers that pick calls at random, and what came of them.

    Attributes:
        outcomes: How often each call ended how: `ok`, or the name of an error.
        memory: Resident megabytes, one a second.
    """

    def __init__(self, session: asyncruns.Session, chance: random.Random) -> None:
        self._session = session
        self._chance = chance
        self._calls = (
            self._list,
            self._leave_early,
            self._steps,
            self._retrieve,
            self._create,
            self._wait,
            self._cancel,
        )
        self.outcomes: Counter[str] = Counter()
        self.memory: list[float] = []

    async def run(self, seconds: float, callers: int) -> None:
        """Call for so long, with so many callers."""
        end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(end))
            for _ in range(callers):
                group.create_task(self._caller(end))

    async def _caller(self, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            await self._one(self._chance.choice(self._calls))

    async def _one(self, call: Callable[[], Awaitable[None]]) -> None:
        try:
            await call()
        except asyncruns.AsyncRunsError as error:
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["ok"] += 1

    async def _watch(self, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            self.memory.append(resident() / 2**20)
            await asyncio.sleep(1)

    async def _list(self) -> None:
        count = len(await self._session.runs.list(THREAD_ID).collect())
        if count != 300:
            raise AssertionError(f"a listing of 300 runs gave {count}")

    async def _leave_early(self) -> None:
        async for _ in self._session.runs.list(THREAD_ID, max_items=self._chance.randrange(1, 250)):
            if self._chance.random() < 0.01:
                break

    async def _steps(self) -> None:
        async for _ in self._session.steps.list(THREAD_ID, _RUN_ID):
            pass

    async def _retrieve(self) -> None:
        await self._session.runs.retrieve(THREAD_ID, _RUN_ID)

    async def _create(self) -> None:
        await self._session.runs.create(THREAD_ID, assistant_id="asst_1", instructions="Be brief.")

    async def _wait(self) -> None:
        await self._session.runs.wait(THREAD_ID, f"run_{self._chance.getrandbits(64):x}", timeout=10)

    async def _cancel(self) -> None:
        await self._session.runs.cancel(THREAD_ID, _RUN_ID)


def growth(memory: list[float]) -> float:
    """Return how much the memory grew over the second half, in megabytes, by a line through its points."""
    half = memory[len(memory) // 2 :]
    if len(half) < 2:
        return 0.0
    slope = statistics.linear_regression(range(len(half)), half).slope
    return slope * (len(half) - 1)


def leaks(before: Holdings, after: Holdings, grown: float) -> list[str]:
    """Say what has not come back to where it began."""
    found = []
    if after.files > before.files:
        found.append(f"{after.files - before.files} file descriptors stayed open")
    if after.tasks > before.tasks:
        found.append(f"{after.tasks - before.tasks} tasks are left")
    if after.objects > before.objects + _MAX_OBJECTS:
        found.append(f"{after.objects - before.objects} objects stayed alive")
    if grown > _MAX_GROWTH:
        found.append(f"the memory grew by {grown:.1f} MB over the second half")
    return found


async def soak(port: int, seed: int, seconds: float, callers: int) -> list[str]:
    """Warm up with a session of its own, soak with another, print the figures and return the leaks."""
    url = f"http://127.0.0.1:{port}/v1"

    async def round(seconds: float) -> Soak:
        async with asyncruns.Session("soak-key", url, timeout=2.0) as session:
            made = Soak(session, random.Random(seed))
            await made.run(seconds, callers)
        await asyncio.sleep(0.1)  # closed transports leave the loop one turn later
        return made

    await round(min(5.0, seconds / 5))
    before = Holdings.now()
    made = await round(seconds)
    memory, outcomes = made.memory, made.outcomes
    del made
    after = Holdings.now()
    grown = growth(memory)
    print(f"calls: {outcomes.total():,}, of which ok {outcomes['ok']:,}")
    print("errors: " + ", ".join(f"{name} {n:,}" for name, n in outcomes.most_common() if name != "ok"))
    for field in attrs.fields(Holdings):
        print(f"{field.name}: {getattr(before, field.name):,.0f} -> {getattr(after, field.name):,.0f}")
    print(f"memory over the second half: {grown:+.2f} MB ({len(memory) // 2} s)")
    return leaks(before, after, grown)


def main() -> int:
    """Read the options, soak, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--callers", type=int, default=20, help="callers at once (20)")
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests that go wrong (0.05)")
    parser.add_argument("--seed", type=int, default=None, help="to repeat a run's choices (random)")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"{machine()}\nseed {seed}, {options.seconds:g} s, {options.callers} callers, faults {options.faults:.0%}")
    with started("benchmarks.faulty", str(seed), str(options.faults)) as port:
        found = asyncio.run(soak(port, seed, options.seconds, options.callers))
    print("\n".join(f"LEAK: {leak}" for leak in found) or "no leak")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Many runs driven at once, each with two tool calls, against the emulator in another process. See README.md."""

import argparse
import asyncio
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable

import asyncruns
from benchmarks.measure import machine
from benchmarks.server import started

KEY = "sk-benchmark"
LONGEST_STALL = 0.1
_BEAT = 0.01


class Pulse:
    """A task that wants to wake every ten milliseconds.

    Attributes:
        wall: Seconds that it woke too late, at worst; other processes on the machine count too.
        cpu: CPU seconds that the loop's thread worked between two beats, at most.
    """

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            due, cpu = time.perf_counter() + _BEAT, time.thread_time()
            await asyncio.sleep(_BEAT)
            self.wall = max(self.wall, time.perf_counter() - due)
            self.cpu = max(self.cpu, time.thread_time() - cpu)


async def weather(city: str) -> str:
    """Tell the weather of a city."""
    await asyncio.sleep(0.01)
    return f"warm in {city}"


async def time_of(city: str) -> str:
    """Tell the time in a city."""
    await asyncio.sleep(0.01)
    return f"noon in {city}"


async def serve() -> None:
    """Run the emulator, in which a run calls each of its tools once; print the port."""
    from asyncruns.emulator import Emulator

    async with Emulator(api_key=KEY, pace=0.05) as emulator:
        print(emulator.base_url.rsplit(":", 1)[1].split("/")[0], flush=True)
        await asyncio.Event().wait()


async def drive_all(port: int, runs: int, on_event: Callable[[object], None] | None) -> dict[str, float]:
    """Create and drive so many runs at once, and return the figures."""
    reports: list[asyncruns.ToolReport] = []
    toolbox = asyncruns.Toolbox([weather, time_of], max_concurrency=1000, observe=reports.append)
    pulse = Pulse()
    async with asyncruns.Session(api_key=KEY, base_url=f"http://127.0.0.1:{port}/v1", timeout=120) as session:

        async def one() -> float:
            begun = time.perf_counter()
            thread = await session.threads.create()
            run = await session.runs.create(thread.id, assistant_id="asst_1", tools=toolbox.tools)
            ended = await session.runs.drive(run.thread_id, run.id, toolbox, timeout=300, on_event=on_event)
            assert ended.status == "completed", ended.status
            return time.perf_counter() - begun

        await one()
        reports.clear()
        gc.collect()
        gc.freeze()  # As servers do once they have started: a full collection walks what lives for ever otherwise.
        beating = asyncio.create_task(pulse.beat())
        memory, start, cpu = _highest(), time.perf_counter(), time.process_time()
        taken = sorted(await asyncio.gather(*(one() for _ in range(runs))))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        beating.cancel()
    assert len(reports) == 2 * runs, f"{len(reports)} tool calls"
    assert all(report.error is None for report in reports)
    return {
        "seconds": seconds,
        "work": cpu,
        "p50": statistics.median(taken),
        "p99": taken[len(taken) * 99 // 100],
        "wall": pulse.wall,
        "cpu": pulse.cpu,
        "megabytes": (_highest() - memory) / 1024,
    }


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> int:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drive", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="runs at once (1000)")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what the stall is judged by (wall)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
    print(machine())
    stalls = []
    for name, on_event in (("polling", None), ("streaming", lambda event: None)):
        with started("benchmarks.drive", "--serve") as port:
            figures = asyncio.run(drive_all(port, options.runs, on_event))
        stalls.append(figures[options.clock])
        print(f"{options.runs:,} runs driven by {name}: {figures['seconds']:.1f} s, {figures['work']:.1f} s of CPU")
        print(f"  one run: median {figures['p50']:.2f} s, p99 {figures['p99']:.2f} s; {figures['megabytes']:.0f} MB")
        wall, cpu = figures["wall"] * 1000, figures["cpu"] * 1000
        print(f"  longest stall: {wall:.0f} ms by the wall, {cpu:.0f} ms of CPU between two beats", flush=True)
    met = max(stalls) <= LONGEST_STALL
    print(f"asked: no stall above {LONGEST_STALL * 1000:.0f} ms ({options.clock}): {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

"""Thousands of waits for runs at once, beside the same waits by hand and with openai-python. See README.md.

Every run is `in_progress` for some reads, each with `openai-poll-after-ms`, and then `completed`. Each client does its
waits in a new process.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time

from benchmarks.measure import machine
from benchmarks.peers import Asyncruns, make
from benchmarks.server import ROOT, started
from benchmarks.worker import highest

TOGETHER = "asyncruns-wait_all"
_BEAT = 0.01


class Heartbeat:
    """A task that wants to wake every ten milliseconds.

    Attributes:
        longest_stall: Seconds that it woke too late, at worst.
    """

    def __init__(self) -> None:
        self.longest_stall = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _BEAT
            await asyncio.sleep(_BEAT)
            self.longest_stall = max(self.longest_stall, loop.time() - due)


async def wait_for_all(name: str, base_url: str, thread_id: str, waits: int) -> dict[str, float]:
    """Wait for so many runs at once and return the figures."""
    async with make("asyncruns" if name == TOGETHER else name, base_url) as peer:
        await peer.wait("thread_wait_0_50", "run_0")
        gc.collect()
        gc.freeze()  # As servers do once they have started: a full collection walks what lives for ever otherwise.
        heart, memory = Heartbeat(), highest()
        beating = asyncio.create_task(heart.beat())

        run_ids = [f"run_{name}{number}" for number in range(waits)]
        start, cpu = time.perf_counter(), time.process_time()

        async def one(run_id: str) -> float:
            begun = time.perf_counter()
            await peer.wait(thread_id, run_id)
            return time.perf_counter() - begun

        if isinstance(peer, Asyncruns) and name == TOGETHER:
            seconds = [time.perf_counter() - start async for _ in peer.wait_all(thread_id, run_ids)]
        else:
            seconds = sorted(await asyncio.gather(*map(one, run_ids)))
        total, cpu = time.perf_counter() - start, time.process_time() - cpu
        beating.cancel()
        return {
            "seconds": total,
            "cpu": cpu,
            "p50": seconds[len(seconds) // 2],
            "p99": seconds[len(seconds) * 99 // 100],
            "stall": heart.longest_stall,
            "megabytes": (highest() - memory) / 2**20,
        }


def measured(name: str, port: int, thread_id: str, waits: int) -> dict[str, float]:
    """Run `wait_for_all` in a new process."""
    command = [sys.executable, "-m", "benchmarks.load", "--child", name, str(port), thread_id, str(waits)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--waits", type=int, nargs="+", default=[1000, 10_000], help="waits at once (1000 10000)")
    parser.add_argument("--polls", type=int, default=10, help="reads that find a run in progress (10)")
    parser.add_argument("--interval", type=int, default=500, metavar="MS", help="what the server asks to wait (500)")
    parser.add_argument("--peers", nargs="+", default=["asyncruns", TOGETHER, "reference", "openai"])
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, port, thread_id, waits = options.child
        print(json.dumps(asyncio.run(wait_for_all(name, f"http://127.0.0.1:{port}/0", thread_id, int(waits)))))
        return
    print(machine())
    thread_id, ideal = f"thread_wait_{options.polls}_{options.interval}", options.polls * options.interval / 1000
    print(f"each run is completed at its read number {options.polls + 1}; the shortest wait possible is {ideal:g} s")
    head = "client", "waits", "polls/s", "ms CPU/poll", "wait p50 s", "wait p99 s", "stall ms", "RSS MB"
    print("{:<20}{:>8}{:>10}{:>13}{:>12}{:>12}{:>10}{:>9}".format(*head))
    with started("benchmarks.server") as port:
        for waits in options.waits:
            for name in options.peers:
                figures = measured(name, port, thread_id, waits)
                polls = waits * (options.polls + 1)
                print(
                    f"{name:<20}{waits:>8}{polls / figures['seconds']:>10,.0f}{figures['cpu'] * 1000 / polls:>13.3f}"
                    f"{figures['p50']:>12.2f}{figures['p99']:>12.2f}{figures['stall'] * 1000:>10.1f}"
                    f"{figures['megabytes']:>9.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

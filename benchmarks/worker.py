"""One client in a process of its own, which does the jobs it is told on standard input, one JSON line each.

So no client pays for what another has imported or keeps alive, and each job begins with the same state: connections
open, garbage collected, collector on.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer, make

_RUN_ID = f"run_{1:024d}"


async def stream(peer: Peer, what: str, thread_id: str, listings: int = 1) -> dict[str, Any]:
    """Walk listings of runs, steps or raw runs, all at once."""

    def walk() -> Any:
        if what == "steps":
            return peer.stream_steps(thread_id, _RUN_ID)
        return peer.stream_raw(thread_id) if what == "raw" else peer.stream_runs(thread_id)

    return {"count": sum(await asyncio.gather(*(walk() for _ in range(listings))))}


async def walk(peer: Peer, thread_id: str, sleep: float = 0.0, spin: float = 0.0) -> dict[str, Any]:
    """Walk a listing with a consumer that sleeps or computes for so many seconds after each page."""

    async def work() -> None:
        end = time.perf_counter() + spin
        while time.perf_counter() < end:
            pass
        if sleep:
            await asyncio.sleep(sleep)

    return {"count": await peer.walk_pages(thread_id, work)}


async def retrieve(peer: Peer, thread_id: str, count: int, concurrency: int) -> dict[str, Any]:
    """Read one run again and again, with so many requests under way at a time."""
    seconds: list[float] = []

    async def reader() -> None:
        for _ in range(count // concurrency):
            start = time.perf_counter()
            await peer.retrieve(thread_id, _RUN_ID)
            seconds.append(time.perf_counter() - start)

    await asyncio.gather(*(reader() for _ in range(concurrency)))
    return {"count": len(seconds), "p50": sorted(seconds)[len(seconds) // 2]}


async def keep(peer: Peer, thread_id: str) -> dict[str, Any]:
    """Keep every run of a thread; give the growth of the resident memory in MB."""
    before = resident()
    kept = await peer.keep_runs(thread_id)
    gc.collect()
    return {"count": len(kept), "megabytes": (resident() - before) / 2**20}


async def grow(peer: Peer, few: str, many: str) -> dict[str, Any]:
    """Stream a short and then a long listing; give in MB what the long one added to the highest resident memory."""
    await peer.stream_runs(few)
    before = highest()
    count = await peer.stream_runs(many)
    return {"count": count, "megabytes": (highest() - before) / 2**20}


Job = Callable[..., Awaitable[dict[str, Any]]]
JOBS: dict[str, Job] = {"stream": stream, "walk": walk, "retrieve": retrieve, "keep": keep, "grow": grow}


async def timed(peer: Peer, job: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Do a job after one page and one read that are not timed; add its seconds and CPU seconds."""
    await peer.stream_runs("thread_plain_1")
    await peer.retrieve("thread_plain_1", _RUN_ID)
    gc.collect()
    cpu, start = time.process_time(), time.perf_counter()
    result = await JOBS[job](peer, **arguments)
    return {**result, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


async def opened(name: str, base_url: str) -> Peer:
    """Make and enter the client."""
    return await make(name, base_url).__aenter__()


def main(name: str, base_url: str) -> None:
    """Serve jobs until standard input ends."""
    with asyncio.Runner() as runner:
        peer = runner.run(opened(name, base_url))
        print(json.dumps({}), flush=True)
        for line in sys.stdin:
            arguments = json.loads(line)
            print(json.dumps(runner.run(timed(peer, arguments.pop("job"), arguments))), flush=True)
        runner.run(_closed(peer))


async def _closed(peer: Peer) -> None:
    await peer.__aexit__(None, None, None)


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def highest() -> int:
    """Return the highest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])

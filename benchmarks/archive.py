"""Compare exports into an archive with what one would write otherwise: `python -m benchmarks.archive`. See README.md.

Every entry walks the same threads of the benchmark server in a process of its own, in turn, and its rate is runs a
second. The raw loop appends the slices of each page to one file a thread; dlt and openai-python write JSON Lines; the
reference loop reads typed runs and keeps none.
`--dlt-python` names an interpreter that has dlt; without one, that row is left out.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks.server import ROOT, started

_KEY = "key"


def threads_of(count: int, pages: int) -> list[str]:
    """Return ids of threads, each of so many pages of 100 runs; the number makes them and their runs differ."""
    return [f"thread_plain{number}_{pages}" for number in range(count)]


async def export_archive(base_url: str, threads: list[str], folder: Path, concurrency: int) -> None:
    """Fill an archive with the runs."""
    from asyncruns import Session
    from asyncruns.archive import export

    async with Session(_KEY, base_url, max_connections=concurrency) as session:
        progress = await export(session, folder / "runs.db", threads, steps=False, concurrency=concurrency)
    assert progress.threads_done == len(threads), progress


async def append_raw(base_url: str, threads: list[str], folder: Path, concurrency: int) -> None:
    """Append each page's slices to a file of the thread; nothing is checked, and nothing can be resumed."""
    import aiohttp
    import msgspec

    from benchmarks.reference import RawPage

    decoder, remaining = msgspec.json.Decoder(RawPage), iter(threads)
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:

        async def work() -> None:
            for thread_id in remaining:
                after, more = "", True
                with (folder / thread_id).open("ab") as file:
                    while more:
                        url = f"{base_url}/threads/{thread_id}/runs?limit=100&order=asc{after}"
                        async with http.get(url) as response:
                            page = decoder.decode(await response.read())
                        file.write(b"\n".join(map(bytes, page.data)) + b"\n")
                        after, more = f"&after={page.last_id}", page.has_more

        await asyncio.gather(*(work() for _ in range(concurrency)))


async def read_typed(base_url: str, threads: list[str], folder: Path, concurrency: int) -> None:
    """Read every run as an object, by hand, and keep none."""
    from benchmarks.reference import Reference

    remaining = iter(threads)
    async with Reference(base_url, max_connections=concurrency) as reference:

        async def work() -> None:
            for thread_id in remaining:
                await reference.stream_runs(thread_id)

        await asyncio.gather(*(work() for _ in range(concurrency)))


async def dump_openai(base_url: str, threads: list[str], folder: Path, concurrency: int) -> None:
    """Walk with openai-python and dump each run as a line."""
    import warnings

    from openai import AsyncOpenAI

    warnings.simplefilter("ignore", DeprecationWarning)
    remaining = iter(threads)
    async with AsyncOpenAI(api_key=_KEY, base_url=base_url) as client:
        with (folder / "runs.jsonl").open("a") as file:

            async def work() -> None:
                for thread_id in remaining:
                    async for run in client.beta.threads.runs.list(thread_id, limit=100, order="asc"):
                        file.write(run.model_dump_json() + "\n")

            await asyncio.gather(*(work() for _ in range(concurrency)))


_DLT = """
import sys, time
import dlt
from dlt.sources.rest_api import rest_api_resources
base_url, folder, threads = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
def resource(thread):
    return {"name": thread, "table_name": "runs", "max_table_nesting": 0, "endpoint": {
        "path": f"threads/{thread}/runs", "params": {"limit": 100, "order": "asc"}, "data_selector": "data",
        "paginator": {"type": "cursor", "cursor_path": "last_id", "cursor_param": "after",
                      "has_more_path": "has_more"}}}
began = time.perf_counter()
config = {"client": {"base_url": base_url}, "resources": [resource(thread) for thread in threads]}
pipeline = dlt.pipeline("bench", destination=dlt.destinations.filesystem(f"file://{folder}/out"), pipelines_dir=folder)
pipeline.run(rest_api_resources(config), loader_file_format="jsonl")
print(time.perf_counter() - began)
"""

ENTRIES = {"archive": export_archive, "raw": append_raw, "reference": read_typed, "openai": dump_openai}


def one(entry: str, base_url: str, count: int, pages: int, concurrency: int) -> None:
    """Be the child: do one entry and print seconds and megabytes."""
    for module in ("asyncruns.archive", "benchmarks.reference", "openai", "asyncruns.session"):
        import_module(module)  # Loading is no part of the figure.
    with tempfile.TemporaryDirectory() as folder:
        began, cpu = time.perf_counter(), time.process_time()
        asyncio.run(ENTRIES[entry](base_url, threads_of(count, pages), Path(folder), concurrency))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "megabytes": megabytes}))


class Bench:
    """Takes the figures, each in a child."""

    def __init__(self, port: int, dlt_python: str | None) -> None:
        self._port = port
        self._dlt_python = dlt_python

    def take(self, entry: str, count: int, pages: int, concurrency: int, latency: int = 0) -> dict[str, float]:
        """Return runs a second and the memory of one entry."""
        base_url = f"http://127.0.0.1:{self._port}/{latency}"
        words = [entry, base_url, str(count), str(pages), str(concurrency)]
        if entry == "dlt":
            figures = {"seconds": self._dlt(base_url, threads_of(count, pages)), "megabytes": 0.0}
        else:
            command = [sys.executable, "-m", "benchmarks.archive", "--one", *words]
            ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            figures = json.loads(ran.stdout)
        return {**figures, "rate": count * pages * 100 / figures["seconds"]}

    def _dlt(self, base_url: str, threads: list[str]) -> float:
        assert self._dlt_python is not None
        environ = {**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
        environ |= {"DATA_WRITER__DISABLE_COMPRESSION": "true", "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true"}
        with tempfile.TemporaryDirectory() as folder:
            command = [self._dlt_python, "-c", _DLT, base_url, folder, ",".join(threads)]
            ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environ, cwd=folder)
        return float(ran.stdout.splitlines()[-1])

    def compare(self, title: str, peers: list[str], threads: int, rounds: int, latency: int, concurrency: int) -> None:
        """Print a table of rates, and how the archive compares, by the median of the ratios of each round."""
        taken: dict[str, list[float]] = {peer: [] for peer in peers}
        for _ in range(rounds):
            for peer in peers:
                taken[peer].append(self.take(peer, threads, 5, concurrency, latency)["rate"])
        print(f"{title} [runs/s], rounds: {rounds}")
        for peer, rates in taken.items():
            ratio = statistics.median(ours / theirs for ours, theirs in zip(taken["archive"], rates, strict=True))
            spread = f"({min(rates):,.0f} .. {max(rates):,.0f})"
            print(f"  {peer:<10} {statistics.median(rates):>10,.0f}  {spread:<22} archive / {peer}: {ratio:.2f}")
        print(flush=True)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="0: only the growth")
    parser.add_argument("--dlt-python", default=None)
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000], help="runs, for the growth"
    )
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        entry, base_url, *numbers = words.one
        one(entry, base_url, *map(int, numbers))
        return
    with started("benchmarks.server") as port:
        bench = Bench(port, words.dlt_python)
        if words.rounds:
            peers = ["archive", "raw", "reference", "openai", *(["dlt"] if words.dlt_python else [])]
            bench.compare("40 threads of 500 runs, no latency, 16 at a time", peers, 40, words.rounds, 0, 16)
            peers = ["archive", "raw", "reference"]
            bench.compare("128 threads of 500 runs, 20 ms latency, 64 at a time", peers, 128, words.rounds, 20, 64)
        print("growth: runs, seconds, megabytes")
        for size in words.sizes:
            figures = bench.take("archive", max(1, size // 200), 2 if size >= 200 else 1, 16)
            print(f"  {size:>9,} {figures['seconds']:>8.2f} s {figures['megabytes']:>6.0f} MB", flush=True)


if __name__ == "__main__":
    main()

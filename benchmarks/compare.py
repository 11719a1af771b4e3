"""Compare asyncruns with its peers: one command prints one table. See README.md."""

import argparse
import http.client
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any

from benchmarks.measure import Demand, Row, Worker, machine, measured, table, working
from benchmarks.server import ROOT, started

_SLOW = frozenset({"openai", "openai-aiohttp", "azure"})
"""They read a tenth of the pages, so that a sample of each takes about as long; figures are rates."""
_NEW_PROCESSES = 15
"""Rounds of reading one run. One process is quicker at it than the next of the same client by up to a fifth."""
_IMPORT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


class Bench:
    """The server, the workers, and how a figure is taken from a job.

    Attributes:
        clock: By which rates are taken: `seconds`, or `cpu` for those that the client computes.
        busiest: Per row, the largest share of the server's core that a sample used.
    """

    def __init__(self, port: int, stack: ExitStack, scale: float, clock: str) -> None:
        self._port = port
        self.clock = clock
        self._stack = stack
        self._scale = scale
        self._workers: dict[tuple[str, int], Worker] = {}
        self.busiest: dict[str, float] = {}

    def rate(self, row: str, peer: str, job: str, *, latency: int = 0, **arguments: Any) -> float:
        """Return how many items a second *peer* handles in *job*."""
        result = self._do(row, self._worker(peer, latency), job, arguments)
        return float(result["count"] / result["seconds" if latency else self.clock])

    def retrieves(self, row: str, peer: str, count: int, concurrency: int) -> dict[str, Any]:
        """Return the figures of *peer*, in a new process, for reading one run so often, so many at a time."""
        arguments = {"thread_id": "thread_plain_1", "concurrency": concurrency}
        with working(peer, self._base_url(0)) as worker:
            worker.do("retrieve", **arguments, count=max(count // 4, concurrency))  # Its connections are open then.
            return self._do(row, worker, "retrieve", {**arguments, "count": count})

    def megabytes(self, peer: str, job: str, **arguments: Any) -> float:
        """Return what *job* adds to the memory of a new process."""
        with working(peer, self._base_url(0)) as worker:
            return float(worker.do(job, **arguments)["megabytes"])

    def ceiling(self, row: str, path: str, count: int) -> float:
        """Return how many answers a second a client takes that reads the bytes and looks at nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.connect()
        start, cpu = time.perf_counter(), self._server_cpu()
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        for _ in range(count):
            _read_one(connection, request)
        seconds = time.perf_counter() - start
        self._note(row, (self._server_cpu() - cpu) / seconds, "ceiling")
        connection.close()
        return count / seconds

    def pages(self, peer: str, count: int) -> int:
        """Return how many pages *peer* walks where a fast one walks *count*."""
        return max(2, round(count * self._scale / (10 if peer in _SLOW else 1)))

    def _do(self, row: str, worker: Worker, job: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        cpu = self._server_cpu()
        result = worker.do(job, **arguments)
        self._note(row, (self._server_cpu() - cpu) / result["seconds"], "")
        return result

    def _note(self, row: str, share: float, suffix: str) -> None:
        key = f"{row} {suffix}".strip()
        self.busiest[key] = max(share, self.busiest.get(key, 0.0))

    def _worker(self, peer: str, latency: int) -> Worker:
        if (peer, latency) not in self._workers:
            self._workers[peer, latency] = self._stack.enter_context(working(peer, self._base_url(latency)))
        return self._workers[peer, latency]

    def _base_url(self, latency: int) -> str:
        return f"http://127.0.0.1:{self._port}/{latency}"

    def _server_cpu(self) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request("GET", "/cpu")
        seconds = float(connection.getresponse().read())
        connection.close()
        return seconds


def _read_one(connection: http.client.HTTPConnection, request: bytes) -> None:
    sock = connection.sock
    sock.sendall(request)
    data = sock.recv(2**18)
    head, _, body = data.partition(b"\r\n\r\n")
    missing = int(head.rpartition(b"Content-Length: ")[2].split(b"\r\n")[0]) - len(body)
    while missing > 0:
        missing -= len(sock.recv(2**18))


def rows(bench: Bench) -> Iterator[Row]:
    """Yield every row of the table."""
    openai = ["openai", *(["openai-aiohttp"] if find_spec("aiohttp") else [])]
    azure = ["azure"] if _is_there("azure.ai.agents") else []
    fast = ["asyncruns", "reference"]
    yield _stream(bench, "runs", "typed runs, 100 a page", "runs", "plain", [*fast, *openai, *azure], 12, 0.9)
    yield _stream(
        bench, "unknown", "the same with two unknown fields a run", "runs", "unknown", [*fast, *openai], 12, 0.9
    )
    yield _stream(bench, "distinct", "the same, no two runs alike", "runs", "distinct", [*fast, "openai"], None, None)
    yield _stream(bench, "steps", "typed steps, 100 a page", "steps", "plain", [*fast, *openai, *azure], 12, None)
    yield _stream(
        bench, "raw", "runs as raw JSON (openai has typed ones only)", "raw", "plain", [*fast, "openai"], 30, None
    )
    yield from _retrieves(bench, [*fast, *openai, *azure])
    yield _many(bench)
    yield _prefetch(bench, "prefetch-await", "20 ms latency, consumer awaits 10 ms a page", 1.4, sleep=0.010)
    yield _prefetch(bench, "prefetch-compute", "20 ms latency, consumer computes 5 ms a page", 1.2, spin=0.005)
    yield from _memory(bench)
    yield _imports()


def _stream(
    bench: Bench,
    name: str,
    title: str,
    what: str,
    variant: str,
    peers: list[str],
    faster_than_openai: float | None,
    of_reference: float | None,
) -> Row:
    entries: dict[str, Callable[[], float]] = {
        peer: partial(
            bench.rate, name, peer, "stream", what=what, thread_id=f"thread_{variant}_{bench.pages(peer, 400)}"
        )
        for peer in peers
    }
    path = "/0/threads/thread_plain_2/runs" + ("/run_1/steps" if what == "steps" else "")
    entries["(server's ceiling)"] = lambda: 100 * bench.ceiling(name, path, bench.pages("asyncruns", 400))
    demands = []
    if faster_than_openai is not None:
        demands = [
            Demand(ours="asyncruns", theirs=peer, at_least=faster_than_openai)
            for peer in peers
            if peer.startswith("openai")
        ]
    if of_reference is not None:
        demands.append(Demand(ours="asyncruns", theirs="reference", at_least=of_reference))
    return Row(name=name, title=f"Stream {title}", unit="items/s", entries=entries, demands=demands)


def _retrieves(bench: Bench, peers: list[str]) -> Iterator[Row]:
    def rate(peer: str) -> float:
        result = bench.retrieves("retrieve", peer, bench.pages(peer, 100) * 32, 32)
        return float(result["count"] / result[bench.clock])

    def p50(peer: str) -> float:
        return float(bench.retrieves("latency", peer, bench.pages(peer, 1000), 1)["p50"] * 1000)

    ceiling = "/0/threads/thread_plain_1/runs/run_1"
    yield Row(
        name="retrieve",
        title="Retrieve one run, 32 at a time",
        unit="runs/s",
        entries={
            **{peer: partial(rate, peer) for peer in peers},
            "(server's ceiling, one connection)": lambda: bench.ceiling("retrieve", ceiling, 3000),
        },
        demands=[
            Demand(ours="asyncruns", theirs="openai", at_least=6),
            Demand(ours="asyncruns", theirs="reference", at_least=0.85),
            # Shown alone: bare aiohttp itself is about six times as fast as this one, and 0.85 of it is asked for.
            *(
                Demand(ours=ours, theirs="openai-aiohttp")
                for ours in ("asyncruns", "reference")
                if "openai-aiohttp" in peers
            ),
        ],
        rounds=_NEW_PROCESSES,
    )
    yield Row(
        name="latency",
        title="Retrieve one run, one at a time: median latency",
        unit="ms",
        entries={peer: partial(p50, peer) for peer in peers},
        demands=[Demand(ours="asyncruns", theirs="reference", at_most=1.15)],
        rounds=_NEW_PROCESSES,
    )


def _many(bench: Bench) -> Row:
    pages = bench.pages("asyncruns", 1024)

    def entry(peer: str, listings: int) -> Callable[[], float]:
        thread_id = f"thread_plain_{max(2, pages // listings)}"
        return partial(bench.rate, "many", peer, "stream", what="runs", thread_id=thread_id, listings=listings)

    return Row(
        name="many",
        title="Stream typed runs, 256 listings at once and 4 at once",
        unit="runs/s",
        entries={f"{peer} {n}": entry(peer, n) for peer in ("asyncruns", "reference") for n in (4, 256)},
        demands=[Demand(ours="asyncruns 256", theirs="asyncruns 4", at_least=0.85)],
    )


def _prefetch(bench: Bench, name: str, title: str, at_least: float, **work: float) -> Row:
    thread_id = f"thread_plain_{bench.pages('asyncruns', 60)}"
    return Row(
        name=name,
        title=f"Prefetch: {title}",
        unit="runs/s",
        entries={
            peer: partial(bench.rate, name, peer, "walk", latency=20, thread_id=thread_id, **work)
            for peer in ("asyncruns", "reference")
        },
        demands=[Demand(ours="asyncruns", theirs="reference", at_least=at_least)],
    )


def _memory(bench: Bench) -> Iterator[Row]:
    pages = max(10, bench.pages("asyncruns", 1000))
    yield Row(
        name="memory",
        title=f"Memory of {pages * 100:,} kept runs (a new process each)",
        unit="MB",
        entries={
            f"{peer}{note}": partial(bench.megabytes, peer, "keep", thread_id=f"thread_{variant}_{pages}")
            for variant, note in (("plain", ""), ("distinct", ", no two runs alike"))
            for peer in ("asyncruns", "reference", "openai")
        },
        demands=[Demand(ours="asyncruns", theirs="openai", at_most=0.5)],
        rounds=1,
    )
    many = max(100, bench.pages("asyncruns", 10_000))
    growth = partial(bench.megabytes, "asyncruns", "grow", few="thread_plain_10", many=f"thread_plain_{many}")
    yield Row(
        name="growth",
        title=f"Growth of the highest memory, streaming {many * 100:,} runs after 1,000",
        unit="MB",
        entries={"asyncruns": growth},
        demands=[Demand(ours="asyncruns", theirs=None, at_most=4)],
        rounds=1,
    )


def _imports() -> Row:
    statements = {
        "import asyncruns": "import asyncruns",
        "import asyncruns; asyncruns.Session": "import asyncruns; asyncruns.Session",
        "import openai": "import openai",
        "import openai; openai.AsyncOpenAI": "import openai; openai.AsyncOpenAI",
    }
    return Row(
        name="import",
        title="Import in a new process",
        unit="ms",
        entries={label: partial(_import_time, statement) for label, statement in statements.items()},
        demands=[Demand(ours="import asyncruns", theirs="import openai", at_most=1 / 6)],
    )


def _import_time(statement: str) -> float:
    command = [sys.executable, "-c", _IMPORT.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout) * 1000


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds; each takes every client's figure once (7)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of each sample; 0.1 for a quick look (1)")
    parser.add_argument(
        "--clock",
        choices=["seconds", "cpu"],
        default="seconds",
        help="rates by the wall clock, or by the client's CPU seconds on a machine that others use too (seconds)",
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows")
    options = parser.parse_args()
    with ExitStack() as stack:
        bench = Bench(stack.enter_context(started("benchmarks.server")), stack, options.scale, options.clock)
        known = {row.name: row for row in rows(bench)}
        if unknown := set(options.rows or ()) - known.keys():
            parser.error(f"no row {min(unknown)!r}; there are {', '.join(known)}")
        print(f"{machine()}\nclock: {options.clock}, scale: {options.scale:g}")
        for name, row in known.items():
            if options.rows is None or name in options.rows:
                print(f"\n{table(measured(row, options.rounds))}", flush=True)
                if name in bench.busiest:
                    print(f"    server: at most {bench.busiest[name]:.0%} of one core in any sample")


if __name__ == "__main__":
    main()

"""Creates through a network that harms them at random; the history of the calls is held against the server's runs."""

import asyncio
import os
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from asyncruns import AsyncRunsError, RetryPolicy, Run, RunCreationUnknown, Session, StreamInterrupted
from asyncruns.emulator import Emulator

from .byte_proxy import first_done
from .conftest import Bench
from .loopback import LoopbackServer
from .script_server import RESET_ON_CLOSE, ScriptServer

COUNT = int(os.environ.get("ASYNCRUNS_CHAOS", "200"))
SEED = int(os.environ.get("ASYNCRUNS_SEED", "4"))
TOXICS = (
    "latency",
    "bandwidth",
    "slicer",
    "limit_data",
    "reset_peer",
    "slow_close",
    "timeout",
    "lost_request",
    "bad_gateway",
)
AT_ONCE = 16
KEY = "request_key"


class ToxicProxy(LoopbackServer):
    """Stands before `port` of 127.0.0.1, and harms each request or its answer with a chance of *toxicity*.

    Attributes:
        used: How often each toxic was at work.
    """

    def __init__(self, port: int, chance: random.Random, toxicity: float) -> None:
        super().__init__()
        self.used: Counter[str] = Counter()
        self._upstream, self._chance, self._toxicity = port, chance, toxicity

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry the requests of one connection, and harm some."""
        toxics: set[str] = set()
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._upstream)
            await first_done(self._requests(reader, upstream, toxics), self._answers(answers, writer, toxics))
            if "slow_close" in toxics:
                await asyncio.sleep(self._chance.random() * 0.05)
        finally:
            if upstream is not None:
                upstream.transport.abort()
            if "reset_peer" in toxics:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()
            writer.close()

    async def _requests(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, toxics: set[str]) -> None:
        """Carry requests over, and choose for each what harms it or its answer."""
        while data := await source.read(65_536):
            toxics.clear()
            if self._chance.random() < self._toxicity:
                toxics.update(self._chance.sample(TOXICS, self._chance.choice((1, 2))))
                self.used.update(toxics)
            if "lost_request" in toxics:
                return
            sink.write(data)
            await sink.drain()

    async def _answers(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, toxics: set[str]) -> None:
        """Carry answers back, harmed as chosen."""
        while data := await source.read(65_536):
            if "latency" in toxics:
                await asyncio.sleep(self._chance.random() * 0.02)
            if "bad_gateway" in toxics:
                sink.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            if toxics & {"limit_data", "reset_peer", "timeout"}:
                data = data[: self._chance.randrange(len(data))]
            size = self._chance.randint(20, 80) if "slicer" in toxics else len(data) + 1
            for start in range(0, len(data), size):
                sink.write(data[start : start + size])
                await asyncio.sleep(size / 100_000 if "bandwidth" in toxics else 0)
            if "timeout" in toxics:
                await asyncio.Event().wait()
            if toxics & {"limit_data", "reset_peer"}:
                await asyncio.sleep(0.005)  # The client reads what came before the end.
                return


@dataclass
class Call:
    """One create of the history: how it was begun, and how it ended.

    Attributes:
        thread_id: The thread.
        key: The request key in the run's metadata. None: there is none.
        made: Id of the run that the call told of. None: it told of none.
        unknown: The error that left the outcome open. None: it did not.
    """

    thread_id: str
    key: str | None
    made: str | None = None
    unknown: AsyncRunsError | None = None


@dataclass
class History:
    """All calls, and who makes them."""

    session: Session
    calls: list[Call] = field(default_factory=list)

    async def create(self, call: Call) -> None:
        """Create a run with a key, or without one."""
        key = {} if call.key is None else {KEY: call.key}
        run = await self.session.runs.create(call.thread_id, assistant_id="a", timeout=0.6, **key)  # type: ignore[arg-type]
        call.made = run.id

    async def stream(self, call: Call) -> None:
        """Create a run whose events are read, to their end or not; its key is only metadata."""
        assert call.key is not None
        opened = self.session.runs.stream(
            call.thread_id, assistant_id="a", metadata={KEY: call.key}, idle_timeout=0.3, timeout=0.6
        )
        try:
            async with opened as stream:
                await stream.final_run()
        except StreamInterrupted as error:
            call.unknown = None if error.run_id else error
        call.made = opened.run.id if opened.run else None

    async def note(self, way: Callable[[Call], Awaitable[None]], call: Call) -> None:
        """Make a call and put down how it ended; an error that leaves nothing open is a failure."""
        self.calls.append(call)
        try:
            await way(call)
        except RunCreationUnknown as error:
            call.unknown = error
        except AsyncRunsError:
            pass


Truth = dict[str, list[Run]]


async def check(history: list[Call], truth: Truth, session: Session) -> None:
    """Hold *history* against the server's runs: thread id -> runs; *session* reaches the server unharmed."""
    for thread_id, runs in truth.items():
        calls = [call for call in history if call.thread_id == thread_id]
        told = {call.made for call in calls if call.made}
        ids = [run.id for run in runs]
        assert told <= {*ids}, "a run that a call told of is not there"
        assert len(ids) <= len({call.key for call in calls}), "a run was made twice"
        for run in runs:
            assert run.id in told or any(call.unknown for call in calls), "a run exists that no call told of"
        for call in calls:
            if isinstance(call.unknown, RunCreationUnknown) and call.unknown.request_key:
                found = await call.unknown.resolve(session)
                assert (found.id if found else None) == (ids[0] if ids else None), "an open outcome is resolved wrongly"


async def test_creates_through_toxics(bench: Bench, emulator: Emulator) -> None:
    """Whatever happens to connections, each create that succeeds is there once, and what is open can be resolved."""
    asyncio.get_running_loop().set_debug(False)
    chance = random.Random(SEED)
    emulator._gate.api_key = bench.key
    async with (
        ToxicProxy(emulator._bound_port, random.Random(SEED + 1), toxicity=0.5) as proxy,
        bench.session(emulator.base_url) as direct,
        bench.session(proxy.url, real_sleep=True, retry=RetryPolicy(initial_backoff=0.01)) as session,
    ):
        session._transport.sleep = lambda seconds: asyncio.sleep(seconds / 50)
        history = History(session)
        thread_ids = [(await direct.threads.create()).id for _ in range(COUNT)]

        async def job(number: int) -> None:
            way = history.stream if number % 5 == 3 else history.create
            key = None if number % 5 == 4 else f"job-{number}"
            await history.note(way, Call(thread_ids[number], key))
            if way == history.create and key is not None and chance.random() < 0.5:  # It is delivered again.
                await history.note(way, Call(thread_ids[number], key))

        async def work(first: int) -> None:
            for number in range(first, COUNT, AT_ONCE):
                await job(number)

        ticking = asyncio.ensure_future(tick(emulator))
        await asyncio.gather(*map(work, range(AT_ONCE)))
        ticking.cancel()
        truth = {id: await direct.runs.list(id).collect() for id in thread_ids}
        assert {id: [run.id for run in runs] for id, runs in truth.items()} == on_the_server(emulator, thread_ids)
        await check(history.calls, truth, direct)
        assert set(proxy.used) == {*TOXICS}, "the seed leaves a toxic out"
        assert sum(call.unknown is not None for call in history.calls) > COUNT / 50
        assert sum(call.made is not None for call in history.calls) > COUNT / 3


async def tick(emulator: Emulator) -> None:
    """Let runs end within milliseconds: the rule of one active run on a thread then hides no second one."""
    while True:
        emulator.clock.advance(30)
        await asyncio.sleep(0.005)


def on_the_server(emulator: Emulator, thread_ids: list[str]) -> dict[str, list[str]]:
    """Return thread id -> ids of its runs, newest first, out of the server's own store."""
    threads = {id: emulator._store.threads.get(id) for id in thread_ids}
    return {id: [run.id for run in thread.runs.items()][::-1] for id, thread in threads.items() if thread}


async def test_listings_through_toxics(bench: Bench, emulator: Emulator) -> None:
    """A walk through such a network gives all runs or raises, and never ends short."""
    asyncio.get_running_loop().set_debug(False)
    emulator._gate.api_key = bench.key
    (thread_id,) = emulator.fill(threads=1, runs_per_thread=60)
    (truth,) = on_the_server(emulator, [thread_id]).values()
    async with (
        ToxicProxy(emulator._bound_port, random.Random(SEED + 2), toxicity=0.6) as proxy,
        bench.session(proxy.url, real_sleep=True, retry=RetryPolicy(initial_backoff=0.01)) as session,
    ):
        whole = 0
        for _ in range(8):
            try:
                runs = await session.runs.list(thread_id, limit=7, timeout=0.6).collect()
            except AsyncRunsError:
                continue
            assert [run.id for run in runs] == truth
            whole += 1
        assert whole > 0
        assert sum(proxy.used.values()) > 10


def a_run(id: str) -> Run:
    """Return a run of the thread."""
    return Run(id=id, thread_id="t", status="queued", metadata={KEY: "k"})


LIES: dict[str, tuple[Call, list[str]]] = {
    "lost": (Call("t", "k", made="run_1"), []),
    "twice": (Call("t", "k", made="run_1"), ["run_1", "run_2"]),
    "of nobody": (Call("t", "k"), ["run_1"]),
    "not found": (Call("t", "k", unknown=RunCreationUnknown("x", thread_id="t", request_key="k")), ["run_1"]),
}


@pytest.mark.parametrize("name", LIES)
async def test_the_check_would_tell(name: str) -> None:
    """A run that is lost, made twice, made by nobody, or not found again fails the check above."""
    call, ids = LIES[name]

    async def empty(exchange: Any) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 28\r\n\r\n")
        await exchange.send(b'{"data":[],"has_more":false}')

    async with ScriptServer(empty) as server, Session(api_key="k", base_url=server.url) as session:
        with pytest.raises(AssertionError):
            await check([call], {"t": [a_run(id) for id in ids]}, session)

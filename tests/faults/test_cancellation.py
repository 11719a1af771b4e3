"""Being cancelled at any moment of any call leaks nothing, and loses no run."""

import asyncio
import json
import os
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable

from asyncruns import AsyncRunsError, RetryPolicy, Session, Toolbox

from .bodies import page, run
from .conftest import Bench, until
from .script_server import Exchange, ScriptServer, answer, chunked, head

COUNT = int(os.environ.get("ASYNCRUNS_CANCELLATIONS", "1000"))
SEED = int(os.environ.get("ASYNCRUNS_SEED", "4"))
AT_ONCE = 12
CONNECTIONS = 8
CALL = {"id": "call_1", "type": "function", "function": {"name": "slow", "arguments": "{}"}}
ACTION = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}}


class BusyServer:
    """Is slow in every part of an answer, fails often, and keeps a book of the runs it made: thread -> keys."""

    def __init__(self, chance: random.Random) -> None:
        self.book: dict[str, list[str]] = defaultdict(list)
        self._chance = chance

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        parts = exchange.request.path.split("/")[3:]
        thread_id = parts[0]
        await self._pause()
        if len(parts) == 3:
            await self._tell(
                exchange, run(parts[2], thread_id=thread_id, status="requires_action", required_action=ACTION)
            )
        elif len(parts) == 4:
            await self._tell(exchange, run(parts[2], thread_id=thread_id))
        elif exchange.request.method == "GET":
            runs = [self._run(thread_id, key) for key in self.book[thread_id]]
            await answer(page(runs))(exchange)
        else:
            await self._create(exchange, thread_id)

    async def _create(self, exchange: Exchange, thread_id: str) -> None:
        body = json.loads(exchange.request.body)
        if self._chance.random() < 0.1:
            await answer("not begun", 503)(exchange)
            return
        key = body["metadata"]["request_key"]
        self.book[thread_id].append(key)
        await self._pause()
        if self._chance.random() < 0.1:
            exchange.reset()
        elif body.get("stream"):
            await self._stream(exchange, self._run(thread_id, key))
        else:
            await self._tell(exchange, self._run(thread_id, key))

    async def _stream(self, exchange: Exchange, made: object) -> None:
        await exchange.send(head(content_type="text/event-stream", transfer_encoding="chunked"))
        for name in ("created", "queued", "in_progress", "completed"):
            await self._pause()
            await exchange.send(chunked(f"event: thread.run.{name}\ndata: {json.dumps(made)}\n\n".encode(), last=False))
        await exchange.send(chunked(b"event: done\ndata: [DONE]\n\n"))

    async def _tell(self, exchange: Exchange, body: object) -> None:
        """Answer piece by piece, or with a 503 that makes the client back off."""
        if self._chance.random() < 0.2:
            await answer("busy", 503)(exchange)
            return
        data = json.dumps(body).encode()
        await exchange.send(head(content_length=len(data)))
        for place in range(0, len(data), 100):
            await self._pause()
            await exchange.send(data[place : place + 100])

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.random() * 0.001)

    def _run(self, thread_id: str, key: str) -> dict[str, object]:
        return run(f"run_of_{thread_id}", thread_id=thread_id, metadata={"request_key": key})


class Ledger:
    """What the client knows of its creates: which it tried, and which it saw succeed."""

    def __init__(self, session: Session, toolbox: Toolbox) -> None:
        self.session, self.toolbox = session, toolbox
        self.tried: dict[str, str] = {}
        self.confirmed: set[str] = set()

    async def create(self, thread_id: str, key: str) -> None:
        """Create a run."""
        self.tried[key] = thread_id
        await self.session.runs.create(thread_id, assistant_id="a", request_key=key)
        self.confirmed.add(key)

    async def stream(self, thread_id: str, key: str) -> None:
        """Create a run and read it live."""
        self.tried[key] = thread_id
        async with self.session.runs.stream(thread_id, assistant_id="a", metadata={"request_key": key}) as stream:
            await anext(stream)
            self.confirmed.add(key)
            await stream.final_run()

    async def read(self, thread_id: str, key: str) -> None:
        """Read a run, over and over."""
        for _ in range(5):
            await self.session.runs.retrieve(thread_id, key)

    async def drive(self, thread_id: str, key: str) -> None:
        """Drive a run, with polling or streaming."""
        on_event = None if len(key) % 2 else lambda event: None
        await self.session.runs.drive(thread_id, key, self.toolbox, timeout=5, poll_interval=0.002, on_event=on_event)

    async def wait(self, thread_id: str, key: str) -> None:
        """Wait for many runs."""
        runs = [(thread_id, f"{key}_{number}") for number in range(3)]
        async for _ in self.session.runs.wait_all(runs, timeout=5):
            pass


async def slow() -> str:
    """Take a while."""
    await asyncio.sleep(0.004)
    return "ok"


async def cancelled(work: Awaitable[None], seconds: float) -> bool:
    """Do *work* and cancel it after so long; whether it was cancelled before it ended."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        return True
    if (error := task.exception()) is not None and not isinstance(error, AsyncRunsError):
        raise error
    return False


async def test_random_cancellations(bench: Bench) -> None:
    """Calls cancelled after 0 to 20 ms leave no socket, no task and no slot, and the server's runs are the ledger's.

    They are cancelled while they wait for a connection, in a backoff, a body, a stream, a poll and a tool call.
    """
    asyncio.get_running_loop().set_debug(False)  # It would take most of the 20 ms.
    chance = random.Random(SEED)
    server = BusyServer(random.Random(SEED + 1))
    async with bench.serve(
        server,
        real_sleep=True,
        max_connections=CONNECTIONS,
        retry=RetryPolicy(initial_backoff=0.01),
    ) as (listening, session):
        session._transport.sleep = lambda seconds: asyncio.sleep(min(seconds, 0.02))
        ledger = Ledger(session, Toolbox([slow]))
        ways = [ledger.create, ledger.stream, ledger.read, ledger.drive, ledger.wait]
        stopped: list[bool] = []

        async def work(numbers: range) -> None:
            for number in numbers:
                # One in 25 creates, and is let be, so that some succeed on a slow machine too.
                way: Callable[[str, str], Awaitable[None]] = chance.choice(ways if number % 25 else ways[:2])
                seconds = chance.random() * 0.02 if number % 25 else 5.0
                stopped.append(await cancelled(way(f"thread_{number}", f"key_{number}"), seconds))

        tasks = len(asyncio.all_tasks())
        await asyncio.gather(*(work(range(first, COUNT, AT_ONCE)) for first in range(AT_ONCE)))
        assert sum(stopped) > COUNT / 4
        assert len(ledger.confirmed) > COUNT / 100
        await until(lambda: not session._transport._http.connector._acquired, "connections are held")  # type: ignore[union-attr]
        assert session._transport._slots._value == CONNECTIONS
        await until(lambda: len(asyncio.all_tasks()) <= tasks + listening.open_connections, "tasks are left")
        await asyncio.sleep(0.02)  # The server may still carry out what it has read.
        await check_book(server, ledger)


async def check_book(server: BusyServer, ledger: Ledger) -> None:
    """Hold the server's runs against the ledger's: nothing twice, nothing lost, and what is unknown can be found."""
    made = {thread_id: keys for thread_id, keys in server.book.items() if keys}
    assert all(len(keys) == 1 for keys in made.values())
    keys = {keys[0]: thread_id for thread_id, keys in made.items()}
    assert ledger.confirmed <= keys.keys() <= ledger.tried.keys()
    for key in sorted(ledger.tried.keys() - ledger.confirmed)[:200]:
        found = await ledger.session.runs.find(ledger.tried[key], request_key=key)
        assert (found is not None) == (key in keys)


async def test_the_book_would_tell() -> None:
    """The check above is no empty one: a run made twice, or by nobody, fails it."""
    for keys in (["key_1", "key_1"], ["key_of_nobody"]):
        server = BusyServer(random.Random(0))
        async with ScriptServer(server) as listening, Session(api_key="k", base_url=listening.url) as session:
            ledger = Ledger(session, Toolbox([]))
            ledger.tried["key_1"] = "thread_1"
            server.book["thread_1"] = keys
            try:
                await check_book(server, ledger)
            except AssertionError:
                continue
            raise RuntimeError

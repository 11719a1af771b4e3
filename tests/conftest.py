"""What the tests of all floors share: an emulator, sessions whose naps are recorded, a server that follows a script."""

import asyncio
import json
import logging
import selectors
import signal
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asyncruns import Session
from asyncruns.emulator import Emulator
from asyncruns.emulator.fixtures import emulator

__all__ = ["emulator"]

MOST_AT_ONCE = 0.02

# A shell's script begins what is to run in the background with Ctrl-C ignored, and so would be what the tests begin.
signal.signal(signal.SIGINT, signal.default_int_handler)


class SteadySelector(selectors.DefaultSelector):
    """Waits for sockets, and keeps a clock that leaves out what nobody waited for.

    The clock goes on by 20 ms at most between one wait and the next, and by 20 ms at most beyond what a wait was for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._clock, self._at = 0.0, time.monotonic()

    def time(self) -> float:
        """Return the seconds on the clock."""
        return self._clock + min(time.monotonic() - self._at, MOST_AT_ONCE)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what is ready."""
        self._clock, self._at = self.time(), time.monotonic()
        ready = super().select(timeout)
        now = time.monotonic()
        waited = now - self._at
        self._clock += waited if timeout is None else min(waited, max(timeout, 0) + MOST_AT_ONCE)
        self._at = now
        return ready


class SteadyLoop(asyncio.SelectorEventLoop):
    """An event loop in whose time no garbage is collected and no machine pauses; both take a second and more.

    By its clock a test may say how soon something ends, and no timeout passes before its time. The clock does not see
    that a callback takes long: who asks for that measures processor time.
    """

    def __init__(self) -> None:
        super().__init__(SteadySelector())

    def time(self) -> float:
        """Return the seconds on the clock of the selector."""
        return self._selector.time()


def pytest_asyncio_loop_factories() -> dict[str, type[SteadyLoop]]:
    """Give every test a steady loop."""
    return {"steady": SteadyLoop}


SHARED = Path(__file__).parents[2] / "shared"
REASONS = {200: "OK", 204: "No Content"}


@dataclass(frozen=True)
class Received:
    """A request as it came over the socket; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The JSON value in the body."""
        return json.loads(self.body)


class ScriptedServer:
    """Answers each request with the next line of a script, over a raw socket, and writes down what came.

    A request beyond the script is answered with status 418.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.port = 0
        self._script: deque[bytes | None] = deque()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def base_url(self) -> str:
        """Where the protocol would be."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Listen on a free port of the loopback interface."""
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()

    def reply(
        self, body: object, status: int = 200, headers: Mapping[str, str] | None = None, *, times: int = 1
    ) -> None:
        """Answer the next *times* requests so; anything but bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.raw(f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\n{head}\r\n".encode() + data, times=times)

    def raw(self, answer: bytes, *, times: int = 1) -> None:
        """Answer the next *times* requests with exactly these bytes."""
        self._script.extend([answer] * times)

    def hang_up(self, times: int = 1) -> None:
        """Close the connection under the next *times* requests, without an answer; also after a `raw` answer."""
        self._script.extend([None] * times)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while (answer := await self._next_answer(reader)) is not None:
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer[:500].lower():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The client has gone.
        finally:
            self._open.discard(writer)
            writer.close()

    async def _next_answer(self, reader: asyncio.StreamReader) -> bytes | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Received(method, target, headers, body))
        if not self._script:
            return b"HTTP/1.1 418 Script over\r\nContent-Length: 0\r\n\r\n"
        return self._script.popleft()


@pytest.fixture(autouse=True)
def loop_has_nothing_to_report() -> Iterator[None]:
    """Fail a test in which asyncio had to tell a log of an exception, or of a task, that nobody waited for."""
    told: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not record.msg.startswith("Error on transport creation for incoming connection"):  # The test's server's.
                told.append(record.getMessage())

    listener, logger = Listener(logging.ERROR), logging.getLogger("asyncio")
    logger.addHandler(listener)
    yield
    logger.removeHandler(listener)
    assert not told


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """Give the test a server of its own that follows a script."""
    scripted = ScriptedServer()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
def naps() -> list[float]:
    """Give the test the list of all waits between attempts and polls, in seconds; none of them is slept."""
    return []


OpenSession = Callable[..., Awaitable[Session]]


@pytest.fixture
async def open_session(naps: list[float], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenSession]:
    """Give the test a way to open sessions; they record their naps, roll no dice, and are closed after it."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await asyncio.sleep(0)

    async with AsyncExitStack() as stack:

        async def open_one(target: Emulator | ScriptedServer | Session, **options: Any) -> Session:
            if not isinstance(target, Session):
                key = getattr(target, "api_key", "sk-test-of-the-client")
                target = Session(**{"api_key": key, "base_url": target.base_url, **options})
            target._transport.sleep = nap
            target._transport.random = lambda: 0.5
            return await stack.enter_async_context(target)

        yield open_one


@pytest.fixture
def own_tasks() -> Callable[[], set[asyncio.Task[Any]]]:
    """Return what gives the tasks of this loop that are not the emulator's, which has one for each open connection."""

    def tasks() -> set[asyncio.Task[Any]]:
        return {task for task in asyncio.all_tasks() if not _named(task).startswith("RequestHandler")}

    return tasks


def _named(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "")


@pytest.fixture
async def session(emulator: Emulator, open_session: OpenSession) -> Session:
    """Give the test an open session on its emulator."""
    return await open_session(emulator)


@pytest.fixture
async def scripted_session(server: ScriptedServer, open_session: OpenSession) -> Session:
    """Give the test an open session on its scripted server."""
    return await open_session(server)


@pytest.fixture(scope="session")
def payloads() -> Path:
    """Give the test the folder of recorded answers of real servers."""
    folder = SHARED / "payloads"
    if not folder.is_dir():
        pytest.skip("the recorded answers of real servers are not beside this checkout")
    return folder

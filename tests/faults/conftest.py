"""What every fault test checks besides its own row: no secret shown, no socket or task left behind."""

import asyncio
import base64
import copy
import gc
import logging
import os
import pickle
import time
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from math import nan
from typing import Any, TypeVar
from urllib.parse import quote

import pytest

import asyncruns

from .script_server import Action, ScriptServer

KEY = "sk-CANARY-4e/1+b=7~%C3"
KEY_FORMS = frozenset(
    {
        KEY,
        quote(KEY, safe=""),
        quote(KEY),
        base64.b64encode(KEY.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    }
)
ErrorT = TypeVar("ErrorT", bound=BaseException)


class Bench:
    """Opens servers and sessions for a test, and gathers all that they show.

    Attributes:
        key: The canary.
        waits: Seconds that sessions wanted to sleep between attempts; they did not, unless asked to.
        shown: Every text that came out: log records, errors in each of their forms, warnings.
    """

    def __init__(self) -> None:
        self.key = KEY
        self.waits: list[float] = []
        self.shown: list[str] = []

    @asynccontextmanager
    async def session(self, url: str, *, real_sleep: bool = False, **options: Any) -> AsyncIterator[asyncruns.Session]:
        """Open a session with the canary key; its waits are recorded, not slept, and its jitter is one half."""
        session = asyncruns.Session(**{"api_key": KEY, "base_url": url, **options})
        session._transport.random = lambda: 0.5
        if not real_sleep:
            session._transport.sleep = self._sleep
        async with session:
            self.shown += [repr(session), str(session)]
            yield session

    @asynccontextmanager
    async def serve(
        self, *script: Action, real_sleep: bool = False, **options: Any
    ) -> AsyncIterator[tuple[ScriptServer, asyncruns.Session]]:
        """Open a scripted server and a session on it; closing the session must close its connections."""
        async with ScriptServer(*script) as server:
            async with self.session(server.url, real_sleep=real_sleep, **options) as session:
                yield server, session
            await until(lambda: server.open_connections == 0, "the session left connections open")

    async def fails(self, kind: type[ErrorT], call: Awaitable[object]) -> ErrorT:
        """Return the error of exactly *kind* that *call* ends with, after looking at all its forms."""
        with pytest.raises(kind) as caught:
            await call
        assert caught.type is kind
        self.look_at(caught.value)
        return caught.value

    def look_at(self, error: BaseException) -> None:
        """Gather what *error* shows; one of ours must survive pickle and copy with all it says."""
        self.shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
        for each in _chain(error):
            self.shown += [repr(each), str(each), *map(repr, vars(each).values())]
            for frame, _ in traceback.walk_tb(each.__traceback__):
                self.shown += map(_told, frame.f_locals.values())
            if isinstance(each, asyncruns.AsyncRunsError):
                self._survives(each)

    def _survives(self, error: asyncruns.AsyncRunsError) -> None:
        data = pickle.dumps(error)
        self.shown.append(data.decode("latin-1"))
        for twin in (pickle.loads(data), copy.copy(error), copy.deepcopy(error)):  # noqa: S301  # our own bytes
            assert type(twin) is type(error)
            assert str(twin) == str(error)
            assert vars(twin) == vars(error)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)


class _Gather(logging.Handler):
    def __init__(self, shown: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        self._shown += [self.format(record), repr(record.__dict__)]


def secrets_in(shown: list[str]) -> list[str]:
    """Return the texts that hold the key in one of its forms."""
    return [text for text in shown if any(form in text for form in KEY_FORMS)]


async def until(is_true: Callable[[], bool], otherwise: str, seconds: float = 1.0) -> None:
    """Wait until *is_true*, a second at most."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not is_true():
        assert asyncio.get_running_loop().time() < deadline, otherwise
        await asyncio.sleep(0.005)


def open_sockets() -> int:
    """Return how many sockets this process holds open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return count


@dataclass
class Growth:
    """How many bytes of memory were held at the peak, beyond those held before."""

    growth: int = 0


@contextmanager
def memory_peak() -> Iterator[Growth]:
    """Measure how much memory this process takes at most inside the block."""
    before, measured = _resident("VmRSS"), Growth()
    with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
        reset.write("5")  # Puts VmHWM back to what is resident now (proc(5)).
    yield measured
    measured.growth = _resident("VmHWM") - before


@dataclass
class Busy:
    """How long this process computed, all its threads together; nan until it is known."""

    seconds: float = nan


@contextmanager
def busy_time() -> Iterator[Busy]:
    """Measure the processor time that the block takes, collections of other tests' garbage not counted in."""
    gc.disable()
    began, measured = time.process_time(), Busy()
    try:
        yield measured
    finally:
        measured.seconds = time.process_time() - began
        gc.enable()


def _resident(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith(name))
    return int(line.split()[1]) * 1024


@pytest.fixture
def shown() -> Iterator[list[str]]:
    """Gather all that libraries log, down to DEBUG."""
    texts: list[str] = []
    root, handler = logging.getLogger(), _Gather(texts)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield texts
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
async def bench(shown: list[str], capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Bench]:
    """Give the test a bench; afterwards no key was shown anywhere and no socket or task is left.

    asyncio runs in its debug mode, in which it tells more of what it holds.
    """
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    tasks, sockets = len(asyncio.all_tasks()), open_sockets()
    bench = Bench()
    bench.shown = shown
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        yield bench
        await until(lambda: len(asyncio.all_tasks()) <= tasks, f"tasks are left: {asyncio.all_tasks()}")
        await until(lambda: open_sockets() <= sockets, "sockets are left open")
        gc.collect(1)
    bench.shown += [str(each.message) for each in told]
    bench.shown += capfd.readouterr()
    assert not [str(each.message) for each in told], "nothing warns"
    assert not secrets_in(bench.shown)


def _told(value: object) -> str:
    """Return what *value* says of itself, as reporters of errors ask it; a half-made object says nothing."""
    try:
        return repr(value)
    except AttributeError:
        return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and all that hangs on it, also what `from None` hides."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        each = todo.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [each.__cause__, each.__context__]

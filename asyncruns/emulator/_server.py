"""`Emulator`: the local server with everything that tests and benchmarks turn on it."""

import secrets
from collections import deque
from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web

from asyncruns.emulator import _filling
from asyncruns.emulator._api import Api
from asyncruns.emulator._app import make_app
from asyncruns.emulator._clock import Clock, RunningClock
from asyncruns.emulator._gate import Gate, is_loopback
from asyncruns.emulator._lifecycle import OUTCOMES, Lifecycle, Outcome
from asyncruns.emulator._store import Body, Store


class Emulator:
    """A real local server for the threads/runs protocol, for tests, demos and benchmarks.

    It listens on the loopback interface alone and keeps everything in memory. Runs move along its clock:
    each transition takes `pace` seconds, and a run that is not at rest after ten minutes expires. What it
    generates depends on the seed and the requests, never on chance.

    Args:
        host: `localhost` or a loopback address.
        port: 0 takes any free port.
        api_key: The key that requests must show. None: a random one.
        seed: Chooses ids, texts and filled histories.
        clock: What the runs live by. None: real time that can also be advanced.
        pace: Seconds from one transition of a run to the next.
        prefix: Path below which the protocol is mounted, such as `/v1` or `/openai`.
        has_thread_listing: Whether `GET /threads` exists, as at Azure, or not, as at OpenAI.

    Raises:
        ValueError: The host is not a loopback address.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        seed: int = 0,
        clock: Clock | None = None,
        pace: float = 0.05,
        prefix: str = "/v1",
        has_thread_listing: bool = True,
    ) -> None:
        if not is_loopback(host):
            raise ValueError(f"the emulator listens on loopback addresses only, not on {host!r}")
        self.api_key = api_key or f"sk-emulator-{secrets.token_urlsafe(24)}"
        self.clock = clock or RunningClock()
        self._host = "127.0.0.1" if host == "localhost" else host.strip("[]")
        self._port = port
        self._prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
        self._has_thread_listing = has_thread_listing
        self._store = Store(Random(seed))
        self._filling_random = Random(f"filling {seed}")
        self._outcomes: deque[Outcome] = deque()
        self._lifecycle = Lifecycle(self._store, self.clock, pace, seed, self._outcomes)
        self._gate = Gate(self.api_key)
        self._runner: web.AppRunner | None = None
        self._bound_port = 0

    def __repr__(self) -> str:
        where = "stopped" if self._runner is None else self.base_url
        return f"<{type(self).__name__} {where}>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def base_url(self) -> str:
        """Where the protocol is mounted, such as `http://127.0.0.1:40123/v1`.

        Raises:
            RuntimeError: The emulator is not started.
        """
        if self._runner is None:
            raise RuntimeError("the emulator is not started")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._bound_port}{self._prefix}"

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path with query of each request, oldest first; clear it as you like.

        Of 100,000 the older half is dropped; `request_count` goes on counting.
        """
        return self._gate.requests

    @property
    def request_count(self) -> int:
        """Number of requests received since the emulator was made."""
        return self._gate.request_count

    @property
    def delay(self) -> float:
        """Seconds of latency added to each answer."""
        return self._gate.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._gate.delay = seconds

    async def start(self) -> None:
        """Listen; threads and runs from before a stop are still there.

        Raises:
            RuntimeError: It is started already.
            OSError: The port is taken.
        """
        if self._runner is not None:
            raise RuntimeError("the emulator is started already")
        app = make_app(
            Api(self._store, self._lifecycle),
            self._gate,
            prefix=self._prefix,
            has_thread_listing=self._has_thread_listing,
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._bound_port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Close all connections and the port; stopping twice does no harm."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def next_outcome(self, status: str, *, last_error: Body | None = None) -> None:
        """Decide how the next run to be created will end; several calls line up.

        Args:
            status: `completed`, `failed`, `incomplete` or `expired` (it stays in progress until then).
            last_error: What a failed run says, `{"code": ..., "message": ...}`. None: a server error.

        Raises:
            ValueError: There is no such outcome.
        """
        if status not in OUTCOMES:
            raise ValueError(f"an outcome is one of {', '.join(OUTCOMES)}, not {status!r}")
        self._outcomes.append(Outcome(status, last_error))

    def fill(self, *, threads: int = 100, runs_per_thread: int = 20, since: int = _filling.SINCE) -> list[str]:
        """Add finished histories: runs of all terminal statuses with their steps and messages.

        Args:
            threads: How many threads to add.
            runs_per_thread: How many runs each of them has.
            since: Unix seconds when the first of them was created.

        Returns:
            The ids of the new threads, oldest first; the same for the same seed and the same calls.
        """
        return _filling.fill(self._store, self._filling_random, threads, runs_per_thread, since)

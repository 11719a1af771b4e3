"""`Emulator`: the local server with everything that tests and benchmarks turn on it."""

import secrets
from collections.abc import Callable
from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web

from asyncruns.emulator import _filling
from asyncruns.emulator._api import Api
from asyncruns.emulator._app import make_app
from asyncruns.emulator._clock import Clock, RunningClock
from asyncruns.emulator._errors import trouble
from asyncruns.emulator._faults import profile_named
from asyncruns.emulator._gate import Gate, is_loopback
from asyncruns.emulator._lifecycle import Lifecycle
from asyncruns.emulator._script import Script, Scripts
from asyncruns.emulator._store import Body, Store


class Emulator:
    """A real local server for the threads/runs protocol, for tests, demos and benchmarks.

    It listens on the loopback interface alone and keeps everything in memory. Runs move along its clock:
    each transition takes `pace` seconds, and a run that is not at rest after ten minutes expires. Live runs
    (`stream: true`) are sent as the clock goes: on a running clock in real time, the deltas spread evenly over
    their step; how a `ManualClock` goes is told there. What everybody else reads meanwhile agrees with what was
    sent, and a client that leaves does not stop its run. What the emulator
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
        profile: Which of `PROFILES` to show. None: the published behaviour.

    Raises:
        ValueError: The host is not a loopback address, or there is no such profile.
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
        profile: str | None = None,
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
        self._scripts = Scripts()
        self._lifecycle = Lifecycle(self._store, self.clock, pace, seed, self._scripts)
        self._gate = Gate(self.api_key)
        self.profile = profile
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

    @property
    def profile(self) -> str | None:
        """Which of `PROFILES` the emulator shows from the next request on; None is the published behaviour.

        Raises:
            ValueError: It is set to a profile that does not exist.
        """
        return self._profile

    @profile.setter
    def profile(self, name: str | None) -> None:
        self._gate.profile = profile_named(name)
        self._profile = name

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
        self._gate.is_open = True
        self._bound_port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Close all connections and the port, live runs included; stopping twice does no harm."""
        runner, self._runner = self._runner, None
        self._gate.is_open = False
        if runner is not None:
            await runner.cleanup()

    def script(
        self, script: Script, *, thread_id: str | None = None, when: Callable[[Body], bool] | None = None
    ) -> None:
        """Decide what the next run to be created will do; several scripts line up.

        Args:
            script: What it does; one run takes it.
            thread_id: Only a run on this thread takes it.
            when: Only a run takes it for whose new body, as plain JSON values, this is true.

        Raises:
            TypeError: It is no script.
        """
        if not isinstance(script, Script):
            raise TypeError(f"script must be a Script, not {type(script).__name__}")
        self._scripts.add(script, thread_id, when)

    def refuse(self, status: int = 429, *, times: int = 1, retry_after: float | None = None) -> None:
        """Answer the next requests with an error in place of carrying them out, whatever they ask for.

        Args:
            status: 429 for a server that is too busy, or 500 to 599 for one that is broken.
            times: How many requests.
            retry_after: Seconds that the answers ask to wait, in `Retry-After`. None: they do not say.

        Raises:
            ValueError: It is another status, or fewer than one request.
        """
        if status != 429 and not 500 <= status <= 599:
            raise ValueError(f"status must be 429 or 500 to 599, not {status!r}")
        if times < 1:
            raise ValueError(f"times must be 1 or more, not {times!r}")
        self._gate.refusals.extend(trouble(status, retry_after) for _ in range(times))

    def next_outcome(self, status: str, *, last_error: Body | None = None) -> None:
        """Decide how the next run to be created will end, short for a script of that outcome.

        Args:
            status: `completed`, `failed`, `incomplete` or `expired` (it calls no tools and stays in progress).
            last_error: What a failed run says, `{"code": ..., "message": ...}`. None: a server error.

        Raises:
            ValueError: There is no such outcome.
        """
        self.script(Script(outcome=status, last_error=last_error))

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

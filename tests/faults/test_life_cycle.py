"""A run's whole life with an answer or a request lost at every step: the server's runs stay those of the ledger."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from asyncruns import (
    ActiveRunError,
    BadRequestError,
    ConnectionLost,
    Run,
    RunCreationUnknown,
    Session,
    ToolOutput,
)
from asyncruns.emulator import Emulator, ManualClock, Script

from .script_server import Action, Exchange, ScriptServer

T = TypeVar("T")
LOSSES = st.sampled_from(["answer", "request", "none"])
KEYS = st.sampled_from(["job-1", "job-2"])


class Lossy:
    """Stands before a server; loses one POST as told, before the server sees it or after it was carried out.

    Attributes:
        loses: What the next POST loses: `none`, its `request` or its `answer`.
        sent: How many POSTs the server saw.
    """

    def __init__(self, port: int) -> None:
        self.loses = "none"
        self.sent = 0
        self._port = port

    async def __call__(self, exchange: Exchange) -> None:
        """Carry one request over and its answer back."""
        request = exchange.request
        loses, self.loses = (self.loses, "none") if request.method == "POST" else ("none", self.loses)
        if loses != "request":
            self.sent += request.method == "POST"
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            headers = {**request.headers, "connection": "close"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"{request.method} {request.target} HTTP/1.1\r\n{lines}\r\n".encode() + request.body)
            answered = await reader.read()
            writer.close()
            if loses == "none":
                await exchange.send(answered)
        exchange.close() if loses == "none" else exchange.reset()


class LifeCycle(RuleBasedStateMachine):
    """Creates, cancels, answers and outlives runs of one thread, through a network that loses things."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.ledger: dict[str, str] = {}
        self.answered: dict[str, int] = {}
        self.do(self.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do *work* on the machine's own loop."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    async def start(self) -> None:
        """Open the server, the network and the client."""
        self.emulator = await Emulator(clock=ManualClock()).__aenter__()
        self.network = Lossy(int(self.emulator.base_url.rsplit(":", 1)[1].split("/")[0]))
        action: Action = self.network
        self.proxy = await ScriptServer(action).__aenter__()
        self.session = await Session(api_key=self.emulator.api_key, base_url=self.proxy.url, timeout=5).__aenter__()
        self.session._transport.sleep = self.nap
        self.thread_id = (await self.session.threads.create()).id

    async def nap(self, seconds: float) -> None:
        """Do not sleep; the runs do not move meanwhile."""

    def teardown(self) -> None:
        """Close all."""
        self.do(self.stop())
        self.loop.close()

    async def stop(self) -> None:
        """Close client, network and server, from the top down."""
        await self.session.__aexit__()
        await self.proxy.__aexit__()
        await self.emulator.stop()

    async def runs(self) -> dict[str, Run]:
        """Return the thread's runs by their key; none has the key of another."""
        runs = await self.session.runs.list(self.thread_id).collect()
        assert len({run.metadata["request_key"] for run in runs}) == len(runs)
        return {run.metadata["request_key"]: run for run in runs}

    @rule(key=KEYS, loses=LOSSES)
    def create(self, key: str, loses: str) -> None:
        """Create a run, or find it: one of a key, whatever is lost."""
        self.do(self.created(key, loses))

    async def created(self, key: str, loses: str) -> None:
        self.emulator.script(Script(rounds=[[("f", {"n": 1})]]), when=lambda run: run["metadata"]["request_key"] == key)
        self.network.loses = loses
        refused, unknown = None, None
        try:
            run = await self.session.runs.create(self.thread_id, assistant_id="a", request_key=key)
            assert self.ledger.setdefault(key, run.id) == run.id
        except ActiveRunError as error:
            refused = error
        except RunCreationUnknown as error:
            unknown = error
        self.network.loses = "none"
        if refused is not None:
            assert key not in self.ledger
            assert refused.run_id in self.ledger.values()
        if unknown is not None:
            assert loses == "request" or (loses == "answer" and self.ledger), (
                "only the answer of a refusal is not found"
            )
            assert await unknown.resolve(self.session) is None

    @rule(key=KEYS, loses=LOSSES)
    def cancel(self, key: str, loses: str) -> None:
        """Cancel a run: it stops, or had ended before."""
        if key in self.ledger:
            self.do(self.cancelled(self.ledger[key], loses))

    async def cancelled(self, run_id: str, loses: str) -> None:
        before = await self.session.runs.retrieve(self.thread_id, run_id)
        self.network.loses = loses
        try:
            run = await self.session.runs.cancel(self.thread_id, run_id)
        except BadRequestError:
            assert before.is_terminal or before.status == "cancelling"
        else:
            assert run.status == "cancelling" or before.is_terminal
        self.network.loses = "none"

    @rule(key=KEYS, loses=LOSSES)
    def submit(self, key: str, loses: str) -> None:
        """Answer a run: its outputs are taken once, and only where it waits for them."""
        if key in self.ledger:
            self.do(self.submitted(key, loses))

    async def submitted(self, key: str, loses: str) -> None:
        self.emulator.clock.advance(0.2)  # By then a run that is new requires action.
        before = await self.session.runs.retrieve(self.thread_id, self.ledger[key])
        calls = [call.id for call in before.tool_calls] or ["call_of_nobody"]
        outputs: list[ToolOutput] = [{"tool_call_id": id, "output": "x"} for id in calls]
        self.network.loses = loses
        try:
            run = await self.session.runs.submit_tool_outputs(self.thread_id, before.id, tool_outputs=outputs)
        except (BadRequestError, ConnectionLost):
            assert before.status != "requires_action"
        else:
            assert run.status != "requires_action"
            if before.status == "requires_action":
                self.answered[key] = self.answered.get(key, 0) + 1
        self.network.loses = "none"

    @rule(seconds=st.sampled_from([0.05, 0.3, 5.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        """Runs move on, end, or expire."""
        self.emulator.clock.advance(seconds)

    @invariant()
    def the_server_has_what_the_ledger_has(self) -> None:
        """Every run on the server is in the ledger, once, under its key; each was answered once at most."""
        runs = self.do(self.runs())
        assert {key: run.id for key, run in runs.items()} == self.ledger
        assert all(count == 1 for count in self.answered.values())


LifeCycle.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLifeCycle = LifeCycle.TestCase

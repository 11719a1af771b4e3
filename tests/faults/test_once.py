"""Never twice: what `request_key` promises beyond one create, outputs and cancels whose answer is lost, redelivery."""

import asyncio
import copy
import json
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asyncruns import (
    ActiveRunError,
    AsyncRunsError,
    BadRequestError,
    ConnectionLost,
    DeadlineExceeded,
    ProtocolError,
    RetryPolicy,
    Run,
    RunCreationUnknown,
    ServerError,
    Session,
    StatusError,
    Toolbox,
    ToolOutput,
    UnexpectedContentError,
)
from asyncruns.emulator import Emulator, Script

from .bodies import THREAD, error, page, run
from .conftest import Bench
from .script_server import Action, Exchange, ScriptServer, answer, close, dribble, hang, head, reset


def methods(server: ScriptServer) -> str:
    """Return what came: P for a create, L for a lookup, T for a thread."""
    kinds = {"GET": "L", "POST": "P"}
    return "".join("T" if each.path.endswith("/threads") else kinds[each.method] for each in server.requests)


def fails_lookups_after(posts: int, *then: Action) -> Action:
    """Answer lookups with an empty list until so many creates came, then as told; creates are reset."""
    seen = 0

    async def act(exchange: Exchange) -> None:
        nonlocal seen
        if exchange.request.method == "POST":
            seen += 1
            await reset()(exchange)
        else:
            await (then[0] if seen >= posts else answer(page([])))(exchange)

    return act


@pytest.mark.parametrize("then", [answer(error("down"), 500), close(), answer(page([]))], ids=["500", "lost", "empty"])
async def test_rows_07_to_09_at_most_three_lookups(bench: Bench, then: Action) -> None:
    """After a lost create come three lookups at most, a wait between them, whether they fail or find nothing."""
    async with bench.serve(fails_lookups_after(1, then)) as (server, session):
        create = session.runs.create(THREAD, assistant_id="asst_1", request_key="job-7")
        failed = await bench.fails(RunCreationUnknown, create)
        assert methods(server) == "LPLLL"
        assert len(bench.waits) == 2
    assert (failed.thread_id, failed.request_key) == (THREAD, "job-7")


async def test_resolve_in_another_process(bench: Bench) -> None:
    """The error of an unknown outcome survives a queue, and resolves itself with any session later."""
    script = [answer(page([])), reset(), *[answer(page([]))] * 3]
    found = run("run_9", metadata={"request_key": "job-7"})
    async with bench.serve(*script, answer(page([found])), answer(page([]))) as (server, session):
        create = session.runs.create(THREAD, assistant_id="asst_1", request_key="job-7")
        failed = await bench.fails(RunCreationUnknown, create)
        for twin in (pickle.loads(pickle.dumps(failed)), copy.copy(failed)):  # noqa: S301
            assert vars(twin) == vars(failed)
        resolved = await pickle.loads(pickle.dumps(failed)).resolve(session)  # noqa: S301
        assert isinstance(resolved, Run)
        assert resolved.id == "run_9"
        assert await failed.resolve(session) is None
        assert methods(server).count("P") == 1
    for known in ({"thread_id": THREAD}, {"request_key": "job-7"}, {}):
        with pytest.raises(ValueError, match="cannot be told"):
            RunCreationUnknown("x", **known).resolve(session)


FULL = {str(number): "x" for number in range(16)}
KEYS: list[tuple[Any, dict[str, str] | None]] = [("", None), ("x" * 513, None), (7, None), ("job", FULL)]


@pytest.mark.parametrize(("key", "metadata"), KEYS)
async def test_a_key_that_does_not_fit(bench: Bench, key: Any, metadata: dict[str, str] | None) -> None:
    """A key that is none, is too long, or finds no room is refused before anything is sent, a thread neither."""
    async with bench.serve(answer(run())) as (server, session):
        params: dict[str, Any] = {"assistant_id": "asst_1", "request_key": key, "metadata": metadata}
        with pytest.raises(ValueError, match=r"request_key|metadata"):
            await session.runs.create(THREAD, **params)
        with pytest.raises(ValueError, match=r"request_key|metadata"):
            await session.threads.create_and_run(**params)
        assert server.count == 0


async def test_a_key_that_just_fits(bench: Bench, emulator: Emulator) -> None:
    """512 characters and fifteen other pairs fit, and every run is found by exactly its own key."""
    async with bench.session(emulator.base_url, api_key=emulator.api_key) as session:
        metadata = dict(list(FULL.items())[:15])
        thread = await session.threads.create()
        made = await session.runs.create(thread.id, assistant_id="a", request_key="k" * 512, metadata=metadata)
        assert made.metadata == {**metadata, "request_key": "k" * 512}
        assert await session.runs.find(thread.id, request_key="k" * 512) == made
        assert await session.runs.find(thread.id, request_key="k" * 511) is None


class Threads:
    """A server of threads and runs that loses the answer to creates as told."""

    def __init__(self, lose: Action) -> None:
        self.runs: list[dict[str, Any]] = []
        self.threads: list[dict[str, Any]] = []
        self._lose = lose

    async def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "GET":
            await answer(page(self.runs))(exchange)
        elif request.path.endswith("/threads"):
            self.threads.append(json.loads(request.body))
            await answer({"id": THREAD, "object": "thread"})(exchange)
        else:
            self.runs.append(run("run_9", **json.loads(request.body)))
            await self._lose(exchange)


@pytest.mark.parametrize("lose", [close, reset, lambda: answer(error("x"), 502)], ids=["closed", "reset", "502"])
async def test_rows_06_to_09_create_and_run_with_a_key(bench: Bench, lose: Callable[[], Action]) -> None:
    """With a key the thread is made first, and the run in it is found again: one thread, one run."""
    book = Threads(lose())
    thread = {"messages": [{"role": "user", "content": "hi"}], "tool_resources": {"file_search": {}}}
    tools: dict[str, Any] = {"tool_resources": {"code_interpreter": {"file_ids": ["f"]}}}
    async with bench.serve(book) as (server, session):
        params: dict[str, Any] = {"assistant_id": "asst_1", "thread": thread, **tools}
        made = await session.threads.create_and_run(request_key="job-7", **params)
        assert methods(server) == "TLPL"
    assert made.id == "run_9"
    assert book.threads == [{**thread, "tool_resources": {"file_search": {}, "code_interpreter": {"file_ids": ["f"]}}}]
    (asked,) = book.runs
    assert asked["metadata"] == {"request_key": "job-7"}
    assert "thread" not in asked
    assert "tool_resources" not in asked


async def test_create_and_run_with_a_key_has_one_deadline(bench: Bench) -> None:
    """What making the thread took is no more there for the run."""
    loop = asyncio.get_running_loop()
    made = json.dumps({"id": THREAD, "object": "thread", "created_at": 1}).encode()
    async with bench.serve(dribble(head(content_length=len(made)) + made, 0.3, size=999), hang()) as (server, session):
        started = loop.time()
        create = session.threads.create_and_run(assistant_id="asst_1", request_key="job-7", timeout=0.4)
        await bench.fails(DeadlineExceeded, create)
        assert 0.4 <= loop.time() - started < 0.7  # It would be 0.3 and 0.4.
        assert methods(server) == "TL"


async def test_create_and_run_with_a_key_and_no_thread(bench: Bench) -> None:
    """Left out or null, the thread is an empty one; a thread that cannot be made makes no run."""
    book = Threads(answer(run("run_9")))
    async with bench.serve(book) as (server, session):
        params: dict[str, Any] = {"assistant_id": "asst_1", "thread": None}
        await session.threads.create_and_run(request_key="job-7", **params)
        await session.threads.create_and_run(request_key="job-8", assistant_id="asst_1")
        assert methods(server) == "TLP" * 2
    assert book.threads == [{}, {}]
    async with bench.serve(answer(error("down"), 503)) as (server, session):
        await bench.fails(ServerError, session.threads.create_and_run(request_key="job-7", assistant_id="asst_1"))
        assert methods(server) == "T"


UNUSABLE: dict[str, Callable[[], Action]] = {
    "408": lambda: answer(error("x"), 408),
    "html": lambda: answer(b"<html>", content_type="text/html"),
    "null": lambda: answer(b"null"),
    "error": lambda: answer(error("x")),
    "other": lambda: answer(run("run_other", thread_id="thread_other")),
}
LOST: dict[str, Callable[[], Action]] = {
    "closed": close,
    "reset": reset,
    "hangs": hang,
    "500": lambda: answer(error("x"), 500),
    **UNUSABLE,
}


@pytest.mark.parametrize("name", ["408", "html", "null", "error"])
async def test_rows_17_to_21_create_and_run_without_a_key(bench: Bench, name: str) -> None:
    """A thread and run whose answer is of no use may exist; they are asked for once."""
    async with bench.serve(UNUSABLE[name]()) as (server, session):
        failed = await bench.fails(RunCreationUnknown, session.threads.create_and_run(assistant_id="asst_1"))
        assert server.count == 1
    assert (failed.thread_id, failed.request_key) == (None, None)
    assert isinstance(failed.__cause__, ProtocolError if name != "408" else StatusError)


@pytest.mark.parametrize("lose", LOST.values(), ids=LOST)
@pytest.mark.parametrize("what", ["submit", "cancel"])
async def test_lost_answers_of_submit_and_cancel(bench: Bench, lose: Callable[[], Action], what: str) -> None:
    """Outputs and cancels whose answer is lost or of no use are settled in time by reading the run, and sent once."""
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    state = run(status="requires_action", required_action=action)
    done = 0

    async def act(exchange: Exchange) -> None:
        nonlocal done
        if exchange.request.method == "POST":
            done += 1
            state.update(status="queued" if what == "submit" else "cancelling", required_action=None)
            await lose()(exchange)
        else:
            await answer(state)(exchange)

    outputs: list[ToolOutput] = [{"tool_call_id": "call_1", "output": "x"}]
    async with bench.serve(act, timeout=1.5 if lose is hang else 60.0) as (server, session):
        if what == "submit":
            settled = await session.runs.submit_tool_outputs(THREAD, "run_1", tool_outputs=outputs)
        else:
            settled = await session.runs.cancel(THREAD, "run_1")
        assert [request.method for request in server.requests] == ["POST", "GET"]
    assert settled.status == state["status"]
    assert done == 1


@pytest.mark.parametrize("then", [answer(error("who are you"), 401), close()], ids=["refused", "lost"])
@pytest.mark.parametrize("what", ["submit", "cancel"])
async def test_lost_answers_that_reading_does_not_settle(bench: Bench, then: Action, what: str) -> None:
    """Where the run cannot be read after a loss, the loss is told, which may have done something, with the reason."""

    async def act(exchange: Exchange) -> None:
        await (reset() if exchange.request.method == "POST" else then)(exchange)

    async with bench.serve(act) as (server, session):
        call = (
            session.runs.cancel(THREAD, "run_1")
            if what == "cancel"
            else session.runs.submit_tool_outputs(THREAD, "run_1", tool_outputs=[{"tool_call_id": "c", "output": "x"}])
        )
        failed = await bench.fails(ConnectionLost, call)
        assert [request.method for request in server.requests].count("POST") == 1
    assert str(failed).startswith("POST ")
    assert isinstance(failed.__cause__, AsyncRunsError)
    assert not str(failed.__cause__).startswith("POST ")


REFUSED: dict[str, Callable[[], Action]] = {
    "429": lambda: answer(error("slow down"), 429, retry_after="900"),
    "422": lambda: answer(error("bad"), 422),
    "hangs": hang,
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("key", [None, "job-7"])
async def test_row_10_repeated_and_then_refused(bench: Bench, key: str | None, name: str) -> None:
    """A create that was sent again on demand, and refused then, may still have been carried out before."""
    posts = iter([answer(error("down"), 503), REFUSED[name]()])

    async def act(exchange: Exchange) -> None:
        await (answer(page([])) if exchange.request.method == "GET" else next(posts))(exchange)

    async with bench.serve(act, retry=RetryPolicy(repeat_ambiguous=True)) as (server, session):
        create = session.runs.create(THREAD, assistant_id="asst_1", request_key=key, timeout=0.9)
        failed = await bench.fails(RunCreationUnknown, create)
        assert methods(server) == ("LPPLLL" if key else "PP")
    cause = failed.__cause__
    assert isinstance(cause.__cause__ if isinstance(cause, DeadlineExceeded) else cause, ServerError)


async def test_outputs_that_are_refused_after_a_loss(bench: Bench) -> None:
    """Outputs that were lost, and refused when they were sent again, may have been taken; so the loss is told."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    waits = answer(run(status="requires_action", required_action=action))
    async with bench.serve(reset(), waits, answer(error("no outputs now"), 400), answer(error("gone"), 404)) as (
        server,
        session,
    ):
        outputs: list[ToolOutput] = [{"tool_call_id": "c", "output": "x"}]
        submit = session.runs.submit_tool_outputs(THREAD, "run_1", tool_outputs=outputs)
        failed = await bench.fails(ConnectionLost, submit)
        assert methods(server) == "PLPL"
    assert isinstance(failed.__cause__, StatusError)


@pytest.mark.parametrize("lose", [reset, UNUSABLE["html"]], ids=["reset", "html"])
@pytest.mark.parametrize("is_shown", [True, False])
async def test_reads_that_lag_behind_a_loss(bench: Bench, lose: Callable[[], Action], is_shown: bool) -> None:
    """Where something says that lost outputs were taken, the run is read a few times more before the answer is no."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [call]}}
    waits = answer(run(status="requires_action", required_action=action))
    is_sent_again = lose is reset
    script = [waits, answer(error("no outputs now"), 400)] if is_sent_again else []
    script += [waits, waits, waits, answer(run()) if is_shown else waits]
    async with bench.serve(lose(), *script) as (server, session):
        outputs: list[ToolOutput] = [{"tool_call_id": "c", "output": "x"}]
        submit = session.runs.submit_tool_outputs(THREAD, "run_1", tool_outputs=outputs)
        if is_shown:
            assert (await submit).status == "completed"
        else:
            await bench.fails(BadRequestError if is_sent_again else UnexpectedContentError, submit)
        assert methods(server) == ("PLPLLLL" if is_sent_again else "PLLLL")


async def test_row_08_time_is_up_before_the_create_was_sent(bench: Bench) -> None:
    """A create for which no token came in time was not sent, and its error does not say that it may have been."""

    async def provide() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with bench.serve(answer(run()), api_key=provide) as (server, session):
        create = session.runs.create(THREAD, assistant_id="asst_1", timeout=0.1)
        failed = await bench.fails(DeadlineExceeded, create)
        assert server.count == 0
    assert failed.attempts == 0


def one_token() -> Callable[[], Awaitable[str]]:
    """Return a token provider that fails from the second call on."""
    tokens = iter(["first"])

    async def provide() -> str:
        try:
            return next(tokens)
        except StopIteration:
            raise RuntimeError("the identity service is down") from None

    return provide


async def test_rows_06_to_09_no_token_for_the_lookup(bench: Bench) -> None:
    """A token provider that fails when the lost create is looked for does not hide that its outcome is unknown."""
    script = [answer(page([])), reset(), answer(error("who are you"), 401)]
    async with bench.serve(*script, api_key=one_token()) as (server, session):
        create = session.runs.create(THREAD, assistant_id="asst_1", request_key="job-7")
        failed = await bench.fails(RunCreationUnknown, create)
        assert methods(server) == "LPL"
    assert failed.request_key == "job-7"


@pytest.mark.parametrize("what", ["submit", "cancel"])
async def test_no_token_to_read_what_was_lost(bench: Bench, what: str) -> None:
    """Nor does one that fails when the run is read after a lost submit or cancel hide the loss."""
    async with bench.serve(reset(), answer(error("who are you"), 401), api_key=one_token()) as (server, session):
        call = (
            session.runs.cancel(THREAD, "run_1")
            if what == "cancel"
            else session.runs.submit_tool_outputs(THREAD, "run_1", tool_outputs=[{"tool_call_id": "c", "output": "x"}])
        )
        failed = await bench.fails(ConnectionLost, call)
        assert methods(server) == "PL"
    assert isinstance(failed.__cause__, RuntimeError)


@pytest.mark.parametrize("name", UNUSABLE)
async def test_answers_of_no_use_to_what_was_not_done(bench: Bench, name: str) -> None:
    """Where reading the run shows that nothing was done, the error stands; only what may pass is sent again."""
    sent = 0

    async def act(exchange: Exchange) -> None:
        nonlocal sent
        sent += exchange.request.method == "POST"
        await (UNUSABLE[name]() if exchange.request.method == "POST" else answer(run(status="in_progress")))(exchange)

    async with bench.serve(act) as (_, session):
        with pytest.raises(ProtocolError if name != "408" else StatusError) as caught:
            await session.runs.cancel(THREAD, "run_1")
    bench.look_at(caught.value)
    assert sent == (3 if name == "408" else 1)


class Desk:
    """A tool that counts how often it acts in the world."""

    def __init__(self) -> None:
        self.booked = 0

    async def book(self, seat: int) -> str:
        """Book a seat."""
        self.booked += 1
        return f"seat {seat}"


async def job(session: Session, thread_id: str, key: str, toolbox: Toolbox) -> Run:
    """Do what a worker does with a job: begin its run, or find it, and drive it to its end."""
    made = await session.runs.create(thread_id, assistant_id="asst_1", request_key=key, tools=toolbox.tools)
    return await session.runs.drive(made.thread_id, made.id, toolbox, timeout=30)


@pytest.mark.parametrize("lost_after", range(12))
async def test_row_75_redelivered(bench: Bench, emulator: Emulator, lost_after: int) -> None:
    """A worker may die at any moment; the job that is delivered again finds the one run, and gives its one result."""
    emulator.script(Script(rounds=[[("book", {"seat": 7})]], text="Done."))
    async with bench.session(emulator.base_url, api_key=emulator.api_key) as session:
        thread = await session.threads.create()
        session._transport.sleep = turning(emulator)
        desk = Desk()
        sent = emulator.request_count
        first = asyncio.ensure_future(job(session, thread.id, "job-7", Toolbox([desk.book])))
        for _ in range(10_000):
            if emulator.request_count - sent >= lost_after or first.done():
                break
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        results = [await job(session, thread.id, "job-7", Toolbox([desk.book])) for _ in range(2)]
        assert results[0] == results[1]
        assert results[0].status == "completed"
        assert [each.id async for each in session.runs.list(thread.id)] == [results[0].id]
        assert len([each async for each in session.messages.list(thread.id)]) == 1
    assert 1 <= desk.booked <= 2  # A tool that acted just before the death of its process acts again in the next.


async def test_row_75_lease_lost(bench: Bench, emulator: Emulator) -> None:
    """Two workers with the same job at once share one run; each gives its result, and the tool acts once for each."""
    emulator.script(Script(rounds=[[("book", {"seat": 7})]], text="Done."))
    desk = Desk()
    toolbox = Toolbox([desk.book])
    async with bench.session(emulator.base_url, api_key=emulator.api_key) as session:
        session._transport.sleep = turning(emulator)
        thread = await session.threads.create()
        results = await asyncio.gather(*(job(session, thread.id, "job-7", toolbox) for _ in range(2)))
        assert results[0] == results[1]
        assert [each.id async for each in session.runs.list(thread.id)] == [results[0].id]
    assert desk.booked == 1


def turning(emulator: Emulator) -> Callable[[float], Any]:
    """Return a sleep that turns the emulator's clock."""

    async def nap(seconds: float) -> None:
        emulator.clock.advance(seconds)
        await asyncio.sleep(0)

    return nap


@pytest.mark.parametrize("if_active", ["wait", "cancel"])
async def test_row_11_active_run_of_another(bench: Bench, emulator: Emulator, if_active: Any) -> None:
    """Told to, a create waits for the active run, or ends it, and then makes its own; else it names that run."""
    async with bench.session(emulator.base_url, api_key=emulator.api_key) as session:
        session._transport.sleep = turning(emulator)
        thread = await session.threads.create()
        other = await session.runs.create(thread.id, assistant_id="asst_1", request_key="job-6")
        create = session.runs.create(thread.id, assistant_id="asst_1", request_key="job-7")
        failed = await bench.fails(ActiveRunError, create)
        assert failed.run_id == other.id
        ours = await session.runs.create(thread.id, assistant_id="asst_1", request_key="job-7", if_active=if_active)
        assert ours.id != other.id
        status = (await session.runs.retrieve(thread.id, other.id)).status
        assert status == ("cancelled" if if_active == "cancel" else "completed")
        again = session.runs.create(thread.id, assistant_id="asst_1", request_key="job-7", if_active="raise")
        assert (await again).id == ours.id


async def test_row_11_active_run_that_cannot_be_cancelled(bench: Bench) -> None:
    """Where the time is up while the active run is asked to stop, the refusal is raised, and names that run."""
    refusal = answer(error(f"Thread {THREAD} already has an active run run_9."), 400)
    async with bench.serve(refusal, hang()) as (server, session):
        create = session.runs.create(THREAD, assistant_id="asst_1", if_active="cancel", timeout=1.5)
        failed = await bench.fails(ActiveRunError, create)
        assert methods(server) == "PPL"
    assert failed.run_id == "run_9"

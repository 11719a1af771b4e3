"""Rows 6 to 11 of the fault matrix with a `request_key`: a create whose answer is lost finds its run."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from asyncruns import ActiveRunError, Run, RunCreationUnknown, Session

from .bodies import THREAD, error, page, run
from .conftest import Bench
from .script_server import Action, Exchange, ScriptServer, answer, close, hang, head, reset, say


class Book:
    """A server's runs; a listing shows them newest first, and each POST creates one or not, and answers as told."""

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []

    def serve(self, *then: Action, creates: bool = True, shows: bool = True) -> Action:
        """Answer POST number n with `then[n]`, all later ones with the last; a listing may not show runs yet."""
        posts = iter(range(1_000))

        async def act(exchange: Exchange) -> None:
            if exchange.request.method == "GET":
                await answer(page(self.runs[::-1] if shows else []))(exchange)
                return
            number = next(posts)
            if creates:
                self._create(json.loads(exchange.request.body))
            await then[min(number, len(then) - 1)](exchange)

        return act

    def _create(self, request: dict[str, Any]) -> None:
        number = len(self.runs) + 1
        self.runs.append(run(f"run_{number}", status="queued", metadata=request["metadata"]))


def create(session: Session, key: str = "job-7") -> Any:
    """Return a call that creates a run under *key*."""
    return session.runs.create(THREAD, request_key=key, assistant_id="asst_1", timeout=0.9)


def posts(server: ScriptServer) -> int:
    """Return how many creates came."""
    return sum(request.method == "POST" for request in server.requests)


LOSSES: dict[str, Callable[[], Action]] = {
    "row_06_closed_under_the_create": close,
    "row_07_reset": reset,
    "row_08_no_answer": hang,
    "row_08_answer_cut": lambda: say(head(content_length=500) + b'{"id": "run_1"'),
    "row_09_500": lambda: answer(error("it broke"), 500),
    "row_09_502": lambda: answer(b"<html>", 502, content_type="text/html"),
    "row_09_504": lambda: answer(error("too slow"), 504),
    "row_10_503": lambda: answer(error("busy"), 503, retry_after=1),
    "row_10_408": lambda: answer(error("too slow"), 408),
    "row_16_bad_gzip": lambda: answer(b"no gzip at all", content_encoding="gzip"),
    "row_17_html": lambda: answer(b"<html>", content_type="text/html"),
    "row_20_nothing": lambda: answer(b""),
    "row_20_204": lambda: say(head(204), "keep"),
    "row_20_null": lambda: answer(b"null"),
    "row_21_error_object": lambda: answer(error("the worker is away")),
    "row_35_too_large": lambda: answer(b"[" + b" " * 4096 + b"]"),
    "row_37_no_utf8": lambda: answer(b'{"id": "\xff"}'),
    "row_41_no_status": lambda: answer({"id": "run_1", "thread_id": THREAD}),
    "row_43_wrong_type": lambda: answer(run(tools="none")),
    "row_44_another_thread": lambda: answer(run(thread_id="thread_other")),
    "101": lambda: say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "hang"),
    "row_65_no_http": lambda: say(b"HTTP/1.1 20 OK\r\n\r\n", "hang"),
}


@pytest.mark.parametrize("name", LOSSES)
async def test_rows_06_to_10_answer_lost(bench: Bench, name: str) -> None:
    """A create that was carried out, its answer lost or of no use, returns the one run there is, after one POST."""
    book = Book()
    async with bench.serve(book.serve(LOSSES[name]()), max_response_bytes=4096) as (server, session):
        found = await create(session)
        assert isinstance(found, Run)
        assert (found.id, found.metadata) == ("run_1", {"request_key": "job-7"})
        assert (posts(server), len(book.runs)) == (1, 1)
        assert server.count <= 5


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "row_08_no_answer"])
async def test_rows_06_to_10_not_carried_out(bench: Bench, name: str) -> None:
    """Where no run is found after the loss the outcome stays unknown: one POST, three searches after it."""
    book = Book()
    async with bench.serve(book.serve(LOSSES[name](), creates=False), max_response_bytes=4096) as (server, session):
        failed = await bench.fails(RunCreationUnknown, create(session))
        assert [request.method for request in server.requests] == ["GET", "POST", "GET", "GET", "GET"]
    assert (failed.thread_id, failed.request_key) == (THREAD, "job-7")


async def test_row_08_nothing_found_until_the_deadline(bench: Bench) -> None:
    """A create that is never answered and cannot be found ends as unknown by its deadline, after one POST."""
    book = Book()
    async with bench.serve(book.serve(hang(), shows=False), real_sleep=True) as (server, session):
        started = asyncio.get_running_loop().time()
        await bench.fails(RunCreationUnknown, create(session))
        assert asyncio.get_running_loop().time() - started <= 1.0
        assert (posts(server), len(book.runs)) == (1, 1)


async def test_rows_06_to_10_found_only_by_its_own_key(bench: Bench) -> None:
    """The run of another request on the same thread is not taken for ours."""
    book = Book()
    async with bench.serve(book.serve(reset(), close())) as (server, session):
        assert (await create(session, "job-1")).id == "run_1"
        assert (await create(session, "job-2")).id == "run_2"
        assert (posts(server), len(book.runs)) == (2, 2)


async def test_job_delivered_twice(bench: Bench) -> None:
    """A second call with the key finds the run of the first, and sends no POST."""
    book = Book()
    async with bench.serve(book.serve(reset())) as (server, session):
        first, second = await create(session), await create(session)
        assert first.id == second.id == "run_1"
        assert (posts(server), len(book.runs)) == (1, 1)


async def test_row_11_active_run_is_our_own(bench: Bench) -> None:
    """A 400 that says the thread has an active run, after a loss that hid ours, is answered with our run."""
    book = Book()
    refusal = answer(error(f"Thread {THREAD} already has an active run run_1."), 400)
    async with bench.serve(book.serve(refusal)) as (server, session):
        assert (await create(session)).id == "run_1"
        assert (posts(server), len(book.runs)) == (1, 1)


async def test_row_11_active_run_of_another(bench: Bench) -> None:
    """Where the active run is of another request the refusal is raised, and names it."""
    book = Book()
    refusal = answer(error(f"Thread {THREAD} already has an active run run_9."), 400)
    async with bench.serve(book.serve(refusal, creates=False)) as (server, session):
        failed = await bench.fails(ActiveRunError, create(session))
        assert (posts(server), len(book.runs)) == (1, 0)
    assert failed.run_id == "run_9"


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_server_that_keeps_no_metadata(bench: Bench, caplog: pytest.LogCaptureFixture, keeps: bool) -> None:
    """There a key finds nothing, and a job that comes twice has two runs: that is logged, and only there."""
    caplog.set_level(logging.WARNING, "asyncruns")
    made = run("run_7\nforged", metadata={"request_key": "job-7"} if keeps else {})
    async with bench.serve(answer(page([])), answer(made)) as (_, session):
        assert (await create(session)).id == "run_7\nforged"
    assert [record.getMessage().split(";")[0] for record in caplog.records] == (
        [] if keeps else ["Run run_7\\x0aforged does not show its request_key"]
    )

"""What a call comes to in front of a server in trouble, with openai-python and asyncruns. See README.md.

Each call is made in a process of its own, against a server in the same process that counts what it was asked and which
runs it made.
"""

import argparse
import asyncio
import gzip
import io
import json
import socket
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from benchmarks import bodies
from benchmarks.faulty import read_request, response
from benchmarks.server import ROOT
from benchmarks.worker import highest

_KEY = "key"
_THREAD_ID, _RUN_ID = "thread_1", "run_0"
_ENOUGH = 30
"""Requests of one call after which it counts as endless."""
_PATIENCE = 5.0
_BOMB_BYTES = 512 * 2**20


@dataclass
class Calls:
    """What a client is asked for."""

    create: Callable[[], Awaitable[object]]
    list: Callable[[], AsyncIterable[object]]
    retrieve: Callable[[float], Awaitable[object]]
    wait: Callable[[], Awaitable[object]]


class Server:
    """Answers as `answer` says, which is called with it and the number of the request, from 1.

    Where runs are created, it answers for those alone, and lists what was made by itself.
    """

    def __init__(self, answer: "Answer", *, lists_created: bool) -> None:
        self._answer = answer
        self._lists_created = lists_created
        self.requests = 0
        self.created: list[dict[str, Any]] = []
        self.writer: asyncio.StreamWriter

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests on a connection, until it is gone."""
        try:
            while True:
                method, _, body = await read_request(reader)
                self.requests += 1
                self.writer = writer
                if method == "POST":
                    made = bodies.run(f"run_{len(self.created)}", _THREAD_ID, status="queued")
                    self.created.append(made | {"metadata": body.get("metadata") or {}})
                elif self._lists_created:
                    self.send(_page(self.created, has_more=False))
                    continue
                await self._answer(self, self.requests)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def send(self, answer: object, status: str = "200 OK") -> None:
        """Send an answer in JSON."""
        self.writer.write(response(bodies.dump(answer), status))

    def reset(self) -> None:
        """Break the connection, as a machine that is switched off does."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Answer = Callable[[Server, int], Awaitable[None]]
Call = Callable[[Calls, Server], Awaitable[str]]


async def lost_once(server: Server, number: int) -> None:
    if len(server.created) == 1:
        server.reset()
    else:
        server.send(server.created[-1])


async def never_answered(server: Server, number: int) -> None:
    pass


async def late_500(server: Server, number: int) -> None:
    server.send({"error": {"message": "Trouble behind us.", "type": "server_error"}}, "500 Trouble")


async def same_page(server: Server, number: int) -> None:
    server.send(_page(_runs(0), has_more=True))


async def empty_page(server: Server, number: int) -> None:
    page = _page(_runs(0 if number == 1 else 2), has_more=number < 3)
    server.send(page if number != 2 else page | {"data": [], "last_id": "run_1x"})


async def error_as_page(server: Server, number: int) -> None:
    server.send(_page(_runs(0), has_more=True) if number == 1 else {"error": {"message": "Trouble."}})


async def unknown_status(server: Server, number: int) -> None:
    server.send(bodies.run(_RUN_ID, _THREAD_ID, status="pondering"))


async def trickle(server: Server, number: int) -> None:
    told = {"id": _RUN_ID, "object": "thread.run", "created_at": 1, "thread_id": _THREAD_ID, "status": "completed"}
    body = json.dumps(told).encode().ljust(200)
    server.writer.write(response(body).removesuffix(body))
    for at in range(200):
        server.writer.write(body[at : at + 1])
        await server.writer.drain()
        await asyncio.sleep(0.1)


async def bomb(server: Server, number: int) -> None:
    server.writer.write(response(_bomb(), headers="Content-Encoding: gzip, gzip\r\n"))


async def created(calls: Calls, server: Server) -> str:
    await calls.create()
    return "a run"


async def listed(calls: Calls, server: Server) -> str:
    count = 0
    async for _ in calls.list():
        count += 1
        if server.requests >= _ENOUGH:
            return f"still asking after {_ENOUGH} requests"
    return f"the end, after {count} runs"


async def retrieved(calls: Calls, server: Server, timeout: float = 60) -> str:
    await calls.retrieve(timeout)
    return "a run"


async def waited(calls: Calls, server: Server) -> str:
    try:
        async with asyncio.timeout(_PATIENCE):
            await calls.wait()
    except TimeoutError as error:
        if type(error) is not TimeoutError:
            raise
        return f"still asking after {_PATIENCE:g} s"
    return "a run"


CASES: dict[str, tuple[Answer, Call, str]] = {
    "lost-once": (lost_once, created, "create; the first answer is lost to a reset"),
    "never-answered": (never_answered, created, "create, timeout 1 s; it is carried out and never answered"),
    "late-500": (late_500, created, "create; it is carried out and answered with status 500"),
    "same-page": (same_page, listed, "list; every page is the same"),
    "empty-page": (empty_page, listed, "list of 4 runs; an empty page is in the middle"),
    "error-as-page": (error_as_page, listed, "list of 4 runs; the second page is an error with status 200"),
    "unknown-status": (unknown_status, waited, "wait, 2 s where that can be said; the status is one nobody knows"),
    "trickle": (
        trickle,
        partial(retrieved, timeout=1.5),
        "retrieve, timeout 1.5 s; a byte comes each tenth of a second",
    ),
    "bomb": (bomb, retrieved, "retrieve; 512 MiB are packed twice, into 2 kB"),
}


@asynccontextmanager
async def openai_calls(base_url: str) -> AsyncIterator[Calls]:
    """Give the calls of openai-python, with its defaults."""
    from openai import AsyncOpenAI

    warnings.simplefilter("ignore", DeprecationWarning)
    async with AsyncOpenAI(api_key=_KEY, base_url=base_url) as client:
        runs = client.beta.threads.runs
        yield Calls(
            create=lambda: runs.create(_THREAD_ID, assistant_id="asst_1", timeout=1.0),
            list=lambda: runs.list(_THREAD_ID, limit=2),
            retrieve=lambda timeout: runs.retrieve(_RUN_ID, thread_id=_THREAD_ID, timeout=timeout),
            wait=lambda: runs.poll(_RUN_ID, thread_id=_THREAD_ID, poll_interval_ms=100),
        )


@asynccontextmanager
async def asyncruns_calls(base_url: str) -> AsyncIterator[Calls]:
    """Give the calls of this package, with its defaults and a request key."""
    from asyncruns import Session

    async with Session(_KEY, base_url) as session:
        runs = session.runs
        yield Calls(
            create=lambda: runs.create(_THREAD_ID, assistant_id="asst_1", request_key="job-1", timeout=1.0),
            list=lambda: runs.list(_THREAD_ID, limit=2),
            retrieve=lambda timeout: runs.retrieve(_THREAD_ID, _RUN_ID, timeout=timeout),
            wait=lambda: runs.wait(_THREAD_ID, _RUN_ID, timeout=2.0, poll_interval=0.1),
        )


CLIENTS = {"openai": openai_calls, "asyncruns": asyncruns_calls}


async def try_out(case: str, name: str) -> dict[str, Any]:
    """Make the call and return what came of it."""
    answer, call, _ = CASES[case]
    server = Server(answer, lists_created=call is created)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    if answer is bomb:
        _bomb()  # Before the clock runs.
    async with CLIENTS[name](base_url) as calls:
        began, before = time.perf_counter(), highest()
        try:
            outcome = await call(calls, server)
        except Exception as error:  # What it is, is the answer.
            outcome = type(error).__name__
        seconds, grown = time.perf_counter() - began, (highest() - before) / 2**20
    listening.close()
    runs = len(server.created)
    return {"outcome": outcome, "requests": server.requests, "runs": runs, "seconds": seconds, "megabytes": grown}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", nargs="+", choices=[*CLIENTS], default=[*CLIENTS])
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.one:
        print(json.dumps(asyncio.run(try_out(*words.one))))
        return
    for case in words.cases:
        print(f"{case}: {CASES[case][2]}")
        for name in words.clients:
            command = [sys.executable, "-m", "benchmarks.trouble", "--one", case, name]
            ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
            told = json.loads(ran.stdout)
            figures = f"{told['requests']} requests, {told['seconds']:.1f} s, +{told['megabytes']:,.0f} MB"
            made = f", {told['runs']} on the server" if CASES[case][1] is created else ""
            print(f"  {name:<10} {told['outcome']}{made} ({figures})", flush=True)


def _page(runs: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    first, last = (runs[0]["id"], runs[-1]["id"]) if runs else (None, None)
    return {"object": "list", "data": runs, "first_id": first, "last_id": last, "has_more": has_more}


def _runs(first: int) -> list[dict[str, Any]]:
    return [bodies.run(f"run_{number}", _THREAD_ID) for number in range(first, first + 2)]


@cache
def _bomb() -> bytes:
    inner = io.BytesIO()
    with gzip.GzipFile(fileobj=inner, mode="wb") as packing:  # Bit by bit: what memory it takes is what is measured.
        packing.write(json.dumps(bodies.run(_RUN_ID, _THREAD_ID)).encode())
        for _ in range(_BOMB_BYTES >> 20):
            packing.write(b" " * 2**20)
    return gzip.compress(inner.getvalue())


if __name__ == "__main__":
    main()

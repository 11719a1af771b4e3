"""Live runs: the decoder alone, and one long message merged from deltas, beside openai-python. See README.md."""

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
import warnings
from collections.abc import Awaitable, Callable

import openai

import asyncruns
from asyncruns._sse import SSEDecoder
from benchmarks.measure import machine
from benchmarks.server import started

RUN = {
    "id": "run_1",
    "object": "thread.run",
    "thread_id": "thread_1",
    "assistant_id": "asst_1",
    "created_at": 1,
    "model": "m",
    "instructions": "",
    "tools": [],
    "metadata": {},
}
MESSAGE = {
    "id": "msg_1",
    "object": "thread.message",
    "thread_id": "thread_1",
    "run_id": "run_1",
    "assistant_id": "asst_1",
    "created_at": 1,
    "role": "assistant",
    "content": [],
    "metadata": {},
}
WORD = " word"
PIECE = 65_536
EVENTS_A_SECOND, LONGEST = 300_000, 1.0


def event(name: str, data: object) -> bytes:
    """Return one event in the wire's form."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(data, separators=(",", ":")).encode())


def delta(value: str) -> bytes:
    """Return the event of more text, as the real service sends it."""
    part = {"index": 0, "type": "text", "text": {"value": value}}
    data = {"id": "msg_1", "object": "thread.message.delta", "delta": {"content": [part]}}
    return event("thread.message.delta", data)


def stream(deltas: int) -> bytes:
    """Return a whole stream in which one message comes in so many deltas, and is not told whole at its end."""
    begin = event("thread.run.created", RUN | {"status": "queued"}) + event("thread.message.created", MESSAGE)
    end = event("thread.run.completed", RUN | {"status": "completed"}) + b"event: done\ndata: [DONE]\n\n"
    return begin + delta(WORD) * deltas + end


async def serve(deltas: int) -> None:
    """Answer every request with the stream; print the port."""
    body = stream(deltas)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = request.partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                writer.write(head + body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def decoded(events: int) -> float:
    """Return how many small events a second the decoder alone gives."""
    data = delta(WORD) * events
    pieces = [data[place : place + PIECE] for place in range(0, len(data), PIECE)]
    decoder = SSEDecoder()
    start = time.perf_counter()
    count = sum(1 for piece in pieces for _ in decoder.feed(piece))
    seconds = time.perf_counter() - start
    assert count == events
    return events / seconds


async def ours(base_url: str) -> int:
    """Read the stream, and the message at its end; return the message's length."""
    async with asyncruns.Session(api_key="sk-benchmark", base_url=base_url) as session:
        async with session.runs.stream("thread_1", assistant_id="asst_1") as live:
            await live.final_run()
        return len(live.messages[0].text)


async def theirs(base_url: str) -> int:
    """Read the stream with openai-python's own handler, which keeps a snapshot of the message."""
    async with openai.AsyncOpenAI(api_key="sk-benchmark", base_url=base_url, max_retries=0) as client:
        handler: openai.AsyncAssistantEventHandler = openai.AsyncAssistantEventHandler()
        runs = client.beta.threads.runs
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            manager = runs.stream(thread_id="thread_1", assistant_id="asst_1", event_handler=handler)
        async with manager as live:
            await live.until_done()
        snapshot = handler.current_message_snapshot
        assert snapshot is not None
        part = snapshot.content[0]
        assert part.type == "text"
        return len(part.text.value)


async def timed(read: Callable[[str], Awaitable[int]], base_url: str, deltas: int) -> float:
    """Return the seconds that *read* takes, once it has read all."""
    gc.collect()
    start = time.perf_counter()
    length = await read(base_url)
    seconds = time.perf_counter() - start
    assert length == deltas * len(WORD), f"{length} characters came"
    return seconds


async def measure(deltas: int, rounds: int) -> bool:
    """Take turns, print the medians, and return whether what is asked for is met."""
    speeds = [decoded(200_000) for _ in range(rounds)]
    speed = statistics.median(speeds)
    print(f"decoder alone: {speed:,.0f} small events/s ({min(speeds):,.0f} .. {max(speeds):,.0f})")
    seconds: dict[str, list[float]] = {"asyncruns": [], "openai": []}
    with started("benchmarks.streams", "--serve", str(deltas)) as port:
        base_url = f"http://127.0.0.1:{port}/v1"
        await ours(base_url)
        for _ in range(rounds):
            seconds["asyncruns"].append(await timed(ours, base_url, deltas))
            seconds["openai"].append(await timed(theirs, base_url, deltas))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(f"{deltas:,} deltas of one message, merged, over a socket:")
    for name, taken in seconds.items():
        print(f"  {name:<10} {medians[name]:8.3f} s ({min(taken):.3f} .. {max(taken):.3f})")
    print(f"  openai / asyncruns: {medians['openai'] / medians['asyncruns']:.1f}")
    met = speed >= EVENTS_A_SECOND and medians["asyncruns"] < LONGEST * deltas / 20_000
    print(f"asked: {EVENTS_A_SECOND:,} events/s, 20,000 deltas in {LONGEST:g} s: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--deltas", type=int, default=20_000, help="deltas of the message (20000)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each (5)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
    print(machine())
    return 0 if asyncio.run(measure(options.deltas, options.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())

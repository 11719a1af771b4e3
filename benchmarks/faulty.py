"""A small server in which a share of all requests goes wrong; for the soak. Prints its port."""

import asyncio
import json
import random
import sys
from itertools import count
from typing import Any

from benchmarks import bodies

THREAD_ID = "thread_plain_3"

_ERROR = bodies.dump({"error": {"message": "Trouble on purpose.", "type": "server_error", "param": None, "code": None}})
_FAULTS = ("500", "503", "429", "reset", "cut", "html", "slow")
_SLOW_SECONDS = 3.0
_READS_TO_REST = 3


class Service:
    """Runs that come to rest after a few reads, listings of three pages, and faults."""

    def __init__(self, seed: int, share: float) -> None:
        self._random = random.Random(seed)
        self._share = share
        self._numbers = count()
        self._reads: dict[str, int] = {}
        self._templates = {
            (kind, has_more): bodies.page(kind, THREAD_ID, "run_1", "plain", has_more=has_more)
            for kind in ("runs", "steps")
            for has_more in (False, True)
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until either side ends it."""
        try:
            while True:
                method, target, _ = await read_request(reader)
                fault = self._random.choice(_FAULTS) if self._random.random() < self._share else None
                if not await self._answer(method, target, fault, writer):
                    break
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, method: str, target: str, fault: str | None, writer: asyncio.StreamWriter) -> bool:
        """Write an answer, sound or not; False when the connection is to end."""
        match fault:
            case "500" | "503":
                writer.write(response(_ERROR, f"{fault} Trouble"))
            case "429":
                writer.write(response(_ERROR, "429 Too Many Requests", "retry-after-ms: 20\r\n"))
            case "reset":
                writer.transport.abort()
                return False
            case "cut":
                body = self._body(method, target)
                writer.write(response(body)[: -len(body) // 2])
                return False
            case "html":
                writer.write(response(b"<html><body>Bad gateway</body></html>", kind="text/html"))
            case _:
                await asyncio.sleep(_SLOW_SECONDS if fault else 0)
                writer.write(response(self._body(method, target), headers="openai-poll-after-ms: 50\r\n"))
        return True

    def _body(self, method: str, target: str) -> bytes:
        path, _, query = target.partition("?")
        *_, name, last = path.split("/")
        if method == "GET" and last in ("runs", "steps"):
            return self._page(last, query)
        if method == "POST" and last == "runs":
            return bodies.dump(bodies.run(f"run_{next(self._numbers):024d}", THREAD_ID, status="queued"))
        if last == "cancel":
            return bodies.dump(bodies.run(name, THREAD_ID, status="cancelling"))
        reads = self._reads.pop(last, 0) + 1
        if reads < _READS_TO_REST:
            self._reads[last] = reads
        return bodies.dump(
            bodies.run(last, THREAD_ID, status="completed" if reads == _READS_TO_REST else "in_progress")
        )

    def _page(self, kind: str, query: str) -> bytes:
        after = next((pair[6:] for pair in query.split("&") if pair.startswith("after=")), "")
        number = int(after.split("_")[1][:8]) + 1 if after else 0
        return self._templates[kind, number < 2].replace(bodies.PAGE_MARK, b"%08d" % number)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, Any]:
    """Return the method, the target and the JSON of the next request on a connection; None for no body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _ = head.split(" ", 2)
    length = next((line[15:] for line in head.lower().split("\r\n") if line.startswith("content-length:")), "0")
    return method, target, json.loads(await reader.readexactly(int(length)) or b"null")


def response(body: bytes, status: str = "200 OK", headers: str = "", kind: str = "application/json") -> bytes:
    """Return the bytes of an answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def main(seed: int, share: float) -> None:
    """Serve on a free loopback port and print it."""
    service = Service(seed, share)
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))

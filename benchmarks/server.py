"""A server that costs next to nothing: a dict of answers behind a bare protocol, in a process of its own.

What it answers stands in the path, so that one server serves every row of a table:
`/{latency in ms}/threads/thread_{variant}_{pages}/runs` is a listing of so many pages, `.../runs/{run_id}/steps`
another, `.../runs/{run_id}` a run. In a thread `thread_wait_{polls}_{interval in ms}` a run is `in_progress` for so
many reads. `/cpu` gives the server's own CPU seconds.
"""

import asyncio
import socket
import string
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import bodies

ROOT = Path(__file__).resolve().parent.parent

_KEPT_PAGES = 64
_KEPT_TEMPLATES = 512
_THREAD_MARK = "THREAD-ID"
_PAGES_PER_THREAD = 10_000
# azure-ai-agents reads on until a page names no last item, whatever has_more says.
_EMPTY_PAGE = bodies.dump({"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False})


class Answers:
    """Finds the answer to a request target; pages are templates in which the page's number is filled in."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[float, bytes]] = {}
        self._made: dict[tuple[str, bool], bytes] = {}
        self._templates: dict[tuple[str, bool], bytes] = {}
        self._reads: Counter[bytes] = Counter()

    def find(self, target: bytes) -> tuple[float, bytes]:
        """Return the seconds to wait and the whole response."""
        try:
            return self._kept[target]
        except KeyError:
            pass
        if target == b"/cpu":
            return 0.0, _response(b"%f" % time.process_time())
        latency, body, headers = self._make(target)
        made = latency, _response(body, headers)
        if b"/thread_wait_" not in target and len(self._kept) < _KEPT_PAGES:
            self._kept[target] = made
        return made

    def _make(self, target: bytes) -> tuple[float, bytes, bytes]:
        path, _, query = target.decode().partition("?")
        _, latency, _, thread_id, _, *rest = path.split("/")
        if not rest or rest[-1] == "steps":
            after = next((pair[6:] for pair in query.split("&") if pair.startswith("after=")), "")
            return int(latency) / 1000, self._page(thread_id, rest, after), b""
        body, headers = self._run(target, thread_id, rest[0])
        return int(latency) / 1000, body, headers

    def _page(self, thread_id: str, rest: list[str], after: str) -> bytes:
        _, variant, pages = thread_id.split("_")
        number = int(after.split("_")[1][:8]) % _PAGES_PER_THREAD + 1 if after else 0
        if number >= int(pages):
            return _EMPTY_PAGE
        name = variant.rstrip(string.digits)
        template = self._template(thread_id, name, rest[0] if rest else "", has_more=number + 1 < int(pages))
        # The thread's number, too, so that no two threads have a run of the same id.
        return template.replace(
            bodies.PAGE_MARK, b"%08d" % (int(variant[len(name) :] or 0) * _PAGES_PER_THREAD + number)
        )

    def _template(self, thread_id: str, variant: str, run_id: str, *, has_more: bool) -> bytes:
        key = f"{thread_id}/{run_id}", has_more
        if key not in self._templates:
            kind, made = "steps" if run_id else "runs", (f"{variant}/{run_id}", has_more)
            if made not in self._made:
                self._made[made] = bodies.page(kind, _THREAD_MARK, run_id, variant, has_more=has_more)
            if len(self._templates) == _KEPT_TEMPLATES:
                self._templates.clear()
            self._templates[key] = self._made[made].replace(_THREAD_MARK.encode(), thread_id.encode())
        return self._templates[key]

    def _run(self, target: bytes, thread_id: str, run_id: str) -> tuple[bytes, bytes]:
        _, variant, count, *interval = thread_id.split("_")
        if variant != "wait":
            return bodies.dump(bodies.run(run_id, thread_id, variant=variant)), b""
        self._reads[target] += 1
        if self._reads[target] > int(count):
            del self._reads[target]
            return self._waiting(run_id, thread_id, "completed"), b""
        return self._waiting(run_id, thread_id, "in_progress"), f"openai-poll-after-ms: {interval[0]}\r\n".encode()

    def _waiting(self, run_id: str, thread_id: str, status: str) -> bytes:
        key = f"{thread_id}/{status}", False
        if key not in self._templates:
            self._templates[key] = bodies.dump(bodies.run("RUN-ID", thread_id, status=status))
        return self._templates[key].replace(b"RUN-ID", run_id.encode())


class _Connection(asyncio.Protocol):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)  # a page leaves in one call
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            wait, response = self._answers.find(head[4 : head.index(b" ", 4)])
            if wait:
                asyncio.get_running_loop().call_later(wait, self._transport.write, response)
            else:
                self._transport.write(response)


def _response(body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    return b"%b%b\r\n%b" % (head, headers, body)


@contextmanager
def started(module: str, *arguments: str) -> Iterator[int]:
    """Run a server module as a child process that prints its port, and give the port."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


async def main() -> None:
    """Serve on a free loopback port and print it."""
    answers = Answers()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(answers), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

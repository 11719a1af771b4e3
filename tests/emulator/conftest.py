"""An emulator for each test, and a plain HTTP client that shares nothing with ours."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from asyncruns.emulator import Emulator, ManualClock
from asyncruns.emulator.fixtures import emulator

__all__ = ["emulator"]


@dataclass
class Reply:
    """What came back: status, headers and the JSON value."""

    status: int
    headers: Any
    value: Any

    @property
    def error(self) -> tuple[Any, Any, Any]:
        """Message, param and code of an error body, which must be of the published shape."""
        assert set(self.value) == {"error"}
        assert set(self.value["error"]) == {"message", "type", "param", "code"}
        assert self.value["error"]["type"] == "invalid_request_error"
        return tuple(self.value["error"][name] for name in ("message", "param", "code"))


@dataclass
class Wire:
    """Sends requests to an emulator as any HTTP client would."""

    emulator: Emulator
    http: aiohttp.ClientSession

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        """Send one request and return what came back."""
        options.setdefault("headers", {"Authorization": f"Bearer {self.emulator.api_key}"})
        if body is not None:
            options["json"] = body
        async with self.http.request(method, self.emulator.base_url + path, **options) as response:
            return Reply(response.status, response.headers, await response.json())

    async def get(self, path: str, **query: Any) -> Any:
        """Return the value at *path*, which must be there."""
        reply = await self.send("GET", path, params=query)
        assert reply.status == 200, reply.value
        return reply.value

    async def post(self, path: str, body: Any = None) -> Any:
        """Return the answer to a request that must succeed."""
        reply = await self.send("POST", path, {} if body is None else body)
        assert reply.status == 200, reply.value
        return reply.value

    async def thread(self, *texts: str) -> str:
        """Create a thread with these messages and return its path."""
        messages = [{"role": "user", "content": text} for text in texts]
        return f"/threads/{(await self.post('/threads', {'messages': messages}))['id']}"

    async def run(self, thread: str | None = None, **request: Any) -> str:
        """Create a run and return its path."""
        thread = thread or await self.thread("hello there")
        run = await self.post(f"{thread}/runs", {"assistant_id": "asst_1", **request})
        return f"{thread}/runs/{run['id']}"

    @asynccontextmanager
    async def open_live(self, path: str, body: Any) -> AsyncIterator["Live"]:
        """Ask for a live run; inside, its events can be read one by one."""
        headers = {"Authorization": f"Bearer {self.emulator.api_key}"}
        url = self.emulator.base_url + path
        async with self.http.post(url, json={**body, "stream": True}, headers=headers) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            yield Live(response)

    async def live(self, path: str, body: Any = None) -> list[tuple[str, Any]]:
        """Return all events of a live run, which must end well."""
        async with self.open_live(path, {"assistant_id": "asst_1"} if body is None else body) as live:
            events = [event async for event in live]
        assert events[-1] == ("done", "[DONE]")
        return events[:-1]


class Live:
    """The events of a live run as they come, read by the letter of what is published."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    def __aiter__(self) -> "Live":
        return self

    async def __anext__(self) -> tuple[str, Any]:
        lines = [await self.response.content.readline() for _ in range(3)]
        if lines == [b"", b"", b""]:
            raise StopAsyncIteration
        assert lines[0].startswith(b"event: ")
        assert lines[1].startswith(b"data: ")
        assert lines[2] == b"\n"
        name, data = lines[0][7:-1].decode(), lines[1][6:-1].decode()
        return name, data if name == "done" else json.loads(data)


@pytest.fixture
async def wire(emulator: Emulator) -> AsyncIterator[Wire]:
    """Give the test a client of its emulator."""
    async with aiohttp.ClientSession() as http:
        yield Wire(emulator, http)


@pytest.fixture
async def standing() -> AsyncIterator[Wire]:
    """Give the test a client of an emulator whose live runs wait for the test to turn the clock."""
    clock = ManualClock(follows_streams=False)
    async with Emulator(clock=clock) as emulator, aiohttp.ClientSession() as http:
        yield Wire(emulator, http)

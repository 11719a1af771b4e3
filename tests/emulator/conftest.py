"""An emulator for each test, and a plain HTTP client that shares nothing with ours."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from asyncruns.emulator import Emulator
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


@pytest.fixture
async def wire(emulator: Emulator) -> AsyncIterator[Wire]:
    """Give the test a client of its emulator."""
    async with aiohttp.ClientSession() as http:
        yield Wire(emulator, http)

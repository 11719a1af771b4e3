"""The reference loop: what one would write by hand, with bare aiohttp and one msgspec decoder, and nothing more."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp
import attrs
import msgspec


@attrs.frozen(kw_only=True)
class Usage:
    """The counts of a run or step."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None


@attrs.frozen(kw_only=True)
class Run:
    """A run, with the fields that asyncruns knows."""

    id: str
    thread_id: str
    status: str
    created_at: int | None = None
    assistant_id: str | None = None
    started_at: int | None = None
    expires_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    cancelled_at: int | None = None
    required_action: dict[str, Any] | None = None
    last_error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    model: str | None = None
    instructions: str | None = None
    tools: list[dict[str, Any]] = attrs.field(factory=list)
    tool_resources: dict[str, Any] | None = None
    metadata: dict[str, str] = attrs.field(factory=dict)
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: dict[str, Any] | None = None
    usage: Usage | None = None
    response_format: Any = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


@attrs.frozen(kw_only=True)
class Step:
    """A step, with the fields that asyncruns knows."""

    id: str
    run_id: str
    thread_id: str
    type: str
    status: str
    step_details: dict[str, Any]
    created_at: int | None = None
    assistant_id: str | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    cancelled_at: int | None = None
    expires_at: int | None = None
    last_error: dict[str, Any] | None = None
    metadata: dict[str, str] = attrs.field(factory=dict)
    usage: Usage | None = None


@attrs.frozen
class RunPage:
    """A page of runs."""

    data: list[Run]
    last_id: str | None = None
    has_more: bool = False


@attrs.frozen
class StepPage:
    """A page of steps."""

    data: list[Step]
    last_id: str | None = None
    has_more: bool = False


@attrs.frozen
class RawPage:
    """A page whose items are left as they are."""

    data: list[msgspec.Raw]
    last_id: str | None = None
    has_more: bool = False


async def no_work() -> None:
    """Do nothing with a page."""


class Reference:
    """The reference loop over one aiohttp session."""

    def __init__(self, base_url: str, *, max_connections: int = 100) -> None:
        self._base_url = base_url
        self._max_connections = max_connections
        self._runs = msgspec.json.Decoder(RunPage)
        self._steps = msgspec.json.Decoder(StepPage)
        self._raw = msgspec.json.Decoder(RawPage)
        self._run = msgspec.json.Decoder(Run)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Authorization": "Bearer key", "OpenAI-Beta": "assistants=v2"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def stream_runs(self, thread_id: str) -> int:
        """Read every run of a thread; return how many there were."""
        return await self._walk(f"/threads/{thread_id}/runs", self._runs, no_work)

    async def stream_steps(self, thread_id: str, run_id: str) -> int:
        """Read every step of a run; return how many there were."""
        return await self._walk(f"/threads/{thread_id}/runs/{run_id}/steps", self._steps, no_work)

    async def walk_pages(self, thread_id: str, work: Callable[[], Awaitable[object]]) -> int:
        """Read every run of a thread and do *work* after each page; return the number of runs."""
        return await self._walk(f"/threads/{thread_id}/runs", self._runs, work)

    async def stream_raw(self, thread_id: str) -> int:
        """Cut every page into the bytes of its runs; return how many there were."""
        count, after = 0, ""
        while True:
            page = self._raw.decode(await self._get(f"/threads/{thread_id}/runs", after))
            after = page.last_id or ""
            for raw in page.data:
                count += bool(bytes(raw))
            if not page.has_more:
                return count
            del page

    async def keep_runs(self, thread_id: str) -> list[Run]:
        """Return every run of a thread."""
        kept: list[Run] = []
        after = ""
        while True:
            page = self._runs.decode(await self._get(f"/threads/{thread_id}/runs", after))
            kept += page.data
            if not page.has_more:
                return kept
            after = page.last_id or ""

    async def retrieve(self, thread_id: str, run_id: str) -> Run:
        """Read one run."""
        async with self._http.get(f"{self._base_url}/threads/{thread_id}/runs/{run_id}") as response:
            return self._run.decode(await response.read())

    async def wait(self, thread_id: str, run_id: str) -> Run:
        """Read a run until it is completed, as often as the server says."""
        while True:
            async with self._http.get(f"{self._base_url}/threads/{thread_id}/runs/{run_id}") as response:
                interval = int(response.headers.get("openai-poll-after-ms", "500")) / 1000
                run = self._run.decode(await response.read())
            if run.status == "completed":
                return run
            await asyncio.sleep(interval)

    async def _walk(self, path: str, decoder: Any, work: Callable[[], Awaitable[object]]) -> int:
        count, after = 0, ""
        while True:
            page = decoder.decode(await self._get(path, after))
            after, has_more = page.last_id, page.has_more
            for item in page.data:
                count += bool(item.status)
            del page, item
            await work()
            if not has_more:
                return count

    async def _get(self, path: str, after: str) -> bytes:
        cursor = f"&after={after}" if after else ""
        async with self._http.get(f"{self._base_url}{path}?limit=100&order=desc{cursor}") as response:
            return await response.read()

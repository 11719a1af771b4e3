"""The clients that are compared, each behind the same few calls; each is imported only when it is asked for."""

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, Self

import asyncruns
from benchmarks.reference import Reference

KEY = "benchmark-key"


class Peer(Protocol):
    """What a client must be able to do to take part; counts are returned so that nothing is left out unseen."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc_info: object) -> object: ...
    async def stream_runs(self, thread_id: str) -> int:
        """Read every run of a thread; return how many there were."""

    async def stream_steps(self, thread_id: str, run_id: str) -> int:
        """Read every step of a run; return how many there were."""

    async def stream_raw(self, thread_id: str) -> int:
        """Read the bytes of every run, or the runs where bytes are not to be had; return how many there were."""

    async def walk_pages(self, thread_id: str, work: Callable[[], Awaitable[object]]) -> int:
        """Read every run of a thread and do *work* after each page; return the number of runs."""

    async def keep_runs(self, thread_id: str) -> Any:
        """Return every run of a thread."""

    async def retrieve(self, thread_id: str, run_id: str) -> Any:
        """Read one run."""

    async def wait(self, thread_id: str, run_id: str) -> Any:
        """Read a run until it rests, as often as the server asks."""


class Asyncruns:
    """asyncruns with its defaults."""

    def __init__(self, base_url: str) -> None:
        self._session = asyncruns.Session(KEY, base_url)

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.__aexit__(*exc_info)

    async def stream_runs(self, thread_id: str) -> int:
        """Read every run of a thread; return how many there were."""
        count = 0
        async for run in self._session.runs.list(thread_id):
            count += bool(run.status)
        return count

    async def stream_steps(self, thread_id: str, run_id: str) -> int:
        """Read every step of a run; return how many there were."""
        count = 0
        async for step in self._session.steps.list(thread_id, run_id):
            count += bool(step.status)
        return count

    async def stream_raw(self, thread_id: str) -> int:
        """Read the bytes of every run of a thread; return how many there were."""
        count = 0
        async for blob in self._session.runs.list(thread_id).raw():
            count += bool(blob)
        return count

    async def walk_pages(self, thread_id: str, work: Callable[[], Awaitable[object]]) -> int:
        """Read every run of a thread and do *work* after each page; return the number of runs."""
        count = 0
        async for page in self._session.runs.list(thread_id).pages():
            for run in page.data:
                count += bool(run.status)
            await work()
        return count

    async def keep_runs(self, thread_id: str) -> list[asyncruns.Run]:
        """Return every run of a thread."""
        return await self._session.runs.list(thread_id).collect()

    async def retrieve(self, thread_id: str, run_id: str) -> asyncruns.Run:
        """Read one run."""
        return await self._session.runs.retrieve(thread_id, run_id)

    async def wait(self, thread_id: str, run_id: str) -> asyncruns.Run:
        """Read a run until it rests."""
        return await self._session.runs.wait(thread_id, run_id, timeout=3600)

    async def wait_all(self, thread_id: str, run_ids: Sequence[str]) -> AsyncIterator[asyncruns.Run]:
        """Read many runs until they rest, and give each as it does; no peer has this."""
        runs = [(thread_id, run_id) for run_id in run_ids]
        async for waited in self._session.runs.wait_all(runs, timeout=3600):
            assert waited.run is not None, waited.error
            yield waited.run


class OpenAI:
    """openai-python with its defaults, over httpx or over aiohttp."""

    def __init__(self, base_url: str, *, over_aiohttp: bool = False) -> None:
        openai: Any = importlib.import_module("openai")
        http = openai.DefaultAioHttpClient() if over_aiohttp else None
        self._client = openai.AsyncOpenAI(api_key=KEY, base_url=base_url, http_client=http)
        self._runs = self._client.beta.threads.runs

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream_runs(self, thread_id: str) -> int:
        """Read every run of a thread; return how many there were."""
        count = 0
        async for run in self._runs.list(thread_id, limit=100):
            count += bool(run.status)
        return count

    async def stream_steps(self, thread_id: str, run_id: str) -> int:
        """Read every step of a run; return how many there were."""
        count = 0
        async for step in self._runs.steps.list(run_id, thread_id=thread_id, limit=100):
            count += bool(step.status)
        return count

    async def stream_raw(self, thread_id: str) -> int:
        """Read every run: openai-python has no way to its bytes that also walks the pages."""
        return await self.stream_runs(thread_id)

    async def walk_pages(self, thread_id: str, work: Callable[[], Awaitable[object]]) -> int:
        """Read every run of a thread and do *work* after each page; return the number of runs."""
        count = 0
        page = await self._runs.list(thread_id, limit=100)
        while True:
            count += len(page.data)
            await work()
            if not page.has_next_page():
                return count
            page = await page.get_next_page()

    async def keep_runs(self, thread_id: str) -> list[Any]:
        """Return every run of a thread."""
        return [run async for run in self._runs.list(thread_id, limit=100)]

    async def retrieve(self, thread_id: str, run_id: str) -> Any:
        """Read one run."""
        return await self._runs.retrieve(run_id, thread_id=thread_id)

    async def wait(self, thread_id: str, run_id: str) -> Any:
        """Read a run until it rests."""
        return await self._runs.poll(run_id, thread_id=thread_id)


class AzureAgents:
    """azure-ai-agents with its defaults, but for a key header: it sends bearer tokens over https only."""

    def __init__(self, base_url: str) -> None:
        agents: Any = importlib.import_module("azure.ai.agents.aio")
        credentials: Any = importlib.import_module("azure.core.credentials")
        policies: Any = importlib.import_module("azure.core.pipeline.policies")
        key = credentials.AzureKeyCredential(KEY)
        policy = policies.AzureKeyCredentialPolicy(key, "api-key")
        self._client = agents.AgentsClient(base_url, key, authentication_policy=policy)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def stream_runs(self, thread_id: str) -> int:
        """Read every run of a thread; return how many there were; fields are converted only when looked at."""
        count = 0
        async for run in self._client.runs.list(thread_id, limit=100):
            count += bool(run.status)
        return count

    async def stream_steps(self, thread_id: str, run_id: str) -> int:
        """Read every step of a run; return how many there were."""
        count = 0
        async for step in self._client.run_steps.list(thread_id, run_id, limit=100):
            count += bool(step.status)
        return count

    async def stream_raw(self, thread_id: str) -> int:
        """Read every run: it has no way to the bytes."""
        return await self.stream_runs(thread_id)

    async def walk_pages(self, thread_id: str, work: Callable[[], Awaitable[object]]) -> int:
        """Read every run of a thread and do *work* after each page; return the number of runs."""
        count = 0
        async for page in self._client.runs.list(thread_id, limit=100).by_page():
            count += len([run async for run in page])
            await work()
        return count

    async def keep_runs(self, thread_id: str) -> list[Any]:
        """Return every run of a thread."""
        return [run async for run in self._client.runs.list(thread_id, limit=100)]

    async def retrieve(self, thread_id: str, run_id: str) -> Any:
        """Read one run."""
        return await self._client.runs.get(thread_id, run_id)

    async def wait(self, thread_id: str, run_id: str) -> Any:
        """Not offered: it polls only runs that it makes itself."""
        raise NotImplementedError


def make(name: str, base_url: str) -> Peer:
    """Make the client called *name*: `asyncruns`, `reference`, `openai`, `openai-aiohttp` or `azure`."""
    match name:
        case "asyncruns":
            return Asyncruns(base_url)
        case "reference":
            return Reference(base_url)
        case "openai":
            return OpenAI(base_url)
        case "openai-aiohttp":
            return OpenAI(base_url, over_aiohttp=True)
        case "azure":
            return AzureAgents(base_url)
    raise ValueError(f"no client is called {name!r}")

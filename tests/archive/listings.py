"""A server of small listings that change under the walk, in short pages, and in as many orders as servers have."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Self

from aiohttp import web

Item = dict[str, Any]


class Listings:
    """Serves the runs of threads, and the steps of runs, three at a time.

    Attributes:
        threads: Thread id -> its runs, oldest first.
        steps: Run id -> its steps, oldest first.
        requests: Path, order and cursor of each request.
        oldest_first: Gives the listing that `order=asc` shows.
        newest_first: Gives the listing that `order=desc` shows.
        on_request: Called before each answer.
        on_cursor: Called with the cursor before each answer to a request that goes on behind one.
    """

    def __init__(self, page_items: int = 3, middlewares: Sequence[Any] = (), *, always_ends: bool = False) -> None:
        self.threads: dict[str, list[Item]] = {}
        self.steps: dict[str, list[Item]] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.oldest_first: Callable[[list[Item]], list[Item]] = list
        self.newest_first: Callable[[list[Item]], list[Item]] = lambda items: items[::-1]
        self.on_request: Callable[[], None] = lambda: None
        self.on_cursor: Callable[[str], None] = lambda _: None
        self.base_url = ""
        self._page_items = page_items
        self._always_ends = always_ends
        self._middlewares = middlewares
        self._made = 0

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=self._middlewares)
        app.router.add_get("/threads/{thread}/runs", self._runs)
        app.router.add_get("/threads/{thread}/runs/{run}/steps", self._steps)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def add_run(self, thread: str, status: str = "completed", steps: int = 1) -> Item:
        """Add a run at the newest end of *thread*."""
        self._made += 1
        # Ids in no order; two runs to a second, as services have it.
        id = f"run_{self._made * 7919 % 99991:05d}"
        run = {"id": id, "thread_id": thread, "status": status, "created_at": self._made // 2, "change": 0}
        self.threads.setdefault(thread, []).append(run)
        self.steps[id] = [
            {"id": f"step_{id}_{n}", "run_id": id, "thread_id": thread, "status": "completed"} for n in range(steps)
        ]
        return run

    async def interrupt(self, exporting: Coroutine[Any, Any, object], *, behind: int) -> None:
        """Carry out *exporting*, and cancel it at its next request once *behind* were made."""
        task = asyncio.create_task(exporting)
        before = len(self.requests)

        def stop() -> None:
            if len(self.requests) == before + behind:
                task.cancel()

        self.on_request = stop
        await asyncio.wait([task])
        assert task.cancelled()
        self.on_request = lambda: None

    async def _runs(self, request: web.Request) -> web.Response:
        self.on_request()
        return self._page(request, self.threads.get(request.match_info["thread"]))

    async def _steps(self, request: web.Request) -> web.Response:
        self.on_request()
        return self._page(request, self.steps.get(request.match_info["run"]))

    def _page(self, request: web.Request, items: list[Item] | None) -> web.Response:
        order, after = request.query["order"], request.query.get("after")
        self.requests.append((request.path, order, after))
        if items is None:
            return _refusal("No such listing.")
        if after is not None:
            self.on_cursor(after)
        shown = self.oldest_first(items) if order == "asc" else self.newest_first(items)
        places = {item["id"]: place for place, item in enumerate(shown)}
        if after is not None and after not in places:
            return _refusal("No such cursor.")
        first = 0 if after is None else places[after] + 1
        count = min(self._page_items, int(request.query["limit"]))
        data = shown[first : first + count]
        has_more = first + count < len(shown) and not self._always_ends
        return web.json_response({"object": "list", "data": data, "has_more": has_more})


def _refusal(message: str) -> web.Response:
    return web.json_response({"error": {"message": message}}, status=404)

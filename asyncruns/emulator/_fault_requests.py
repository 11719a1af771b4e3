"""Operations as some servers understand them: other cursors, other limits, other ids."""

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias, cast

from aiohttp import web

from asyncruns.emulator._answers import Cut, LiveAnswer, answer
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._fault_answers import crashed
from asyncruns.emulator._json import decode, encode
from asyncruns.emulator._store import Body

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PREFIXES = {"thread_id": "thread", "run_id": "run", "step_id": "step", "message_id": "msg"}
_LISTINGS = {"threads": "thread", "runs": "run", "steps": "step", "messages": "msg"}
_DEFAULT_LIMIT = "20"


async def plainly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Do what was asked."""
    return await handler(request)


async def newest_first_loses(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Cut newest-first pages by id, but sort them by the second of creation, oldest first within one."""
    if _listed(request) is None or request.query.get("order", "desc") != "desc" or "before" in request.query:
        return await handler(request)
    items = await _everything(request, handler, "asc", None)
    after = request.query.get("after")
    places = [place for place, item in enumerate(items) if item["id"] == after]
    kept = items[: places[0]] if places else items
    limit = int(request.query.get("limit", _DEFAULT_LIMIT))
    kept.sort(key=lambda item: item["created_at"], reverse=True)
    return _page(kept[:limit], has_more=len(kept) > limit)


async def unknown_after_restarts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Start a listing again whose cursor is unknown."""
    try:
        return await handler(request)
    except Refusal as refusal:
        after = request.query.get("after")
        if _listed(request) is None or after is None or f"'{after}'" not in refusal.message:
            raise
        return await handler(request.clone(rel_url=request.rel_url.without_query_params("after")))


async def limit_unchecked(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give pages of any size, and fall over one of size 0."""
    limit = request.query.get("limit", "")
    if _listed(request) is None or not re.fullmatch("0|[0-9]{3,6}", limit):
        return await handler(request)
    if limit == "0":
        raise Cut(reset=True)
    items = await _everything(request, handler, request.query.get("order", "desc"), request.query.get("after"))
    return _page(items[: int(limit)], has_more=len(items) > int(limit))


async def before_is_after(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take `before` for `after`."""
    before = request.query.get("before")
    if before is None:
        return await handler(request)
    url = request.rel_url.without_query_params("before").update_query(after=before)
    return await handler(request.clone(rel_url=url))


async def bare_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Understand ids without their prefixes."""
    for name, id in request.match_info.items():
        request.match_info[name] = _prefixed(_PREFIXES[name], id)
    kinds = {"run_id": "run"}
    listed = _listed(request)
    if listed is not None:
        kinds |= {"after": listed, "before": listed}
    query = {name: _prefixed(kinds[name], request.query[name]) for name in kinds if name in request.query}
    if query:
        request = request.clone(rel_url=request.rel_url.update_query(query))
    return await handler(request)


async def odd_steps_list(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show a page of steps under a wrong name and without its first id."""
    if _listed(request) != "step":
        return await handler(request)
    return answer(encode({**await _value(request, handler), "object": "thread.run.step", "first_id": None}))


async def stream_ignored(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the run where its events were asked for."""
    response = await handler(request)
    if not isinstance(response, LiveAnswer):
        return response
    response.let_go()
    return answer(response.run.json())


async def no_thread_and_run(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Look for a thread called runs."""
    if request.method == "POST" and request.path.endswith("/threads/runs"):
        raise Refusal("No thread found with id 'runs'.", status=404)
    return await handler(request)


async def instructions_required(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Fall over a new run that has no instructions."""
    if request.method == "POST" and request.path.endswith("/runs"):
        with suppress(ValueError):
            body = decode(await request.read())
            if isinstance(body, dict) and not body.get("instructions"):
                return crashed()
    return await handler(request)


def _listed(request: web.Request) -> str | None:
    """Return the id prefix of what a request lists; None if it lists nothing."""
    return _LISTINGS.get(request.path.rsplit("/", 1)[-1]) if request.method == "GET" else None


async def _everything(request: web.Request, handler: Handler, order: str, after: str | None) -> list[Body]:
    """Return all items of the listing behind *after*, by asking for each page in turn."""
    items: list[Body] = []
    url = request.rel_url.without_query_params("after").update_query(limit="100", order=order)
    while True:
        here = url if after is None else url.update_query(after=after)
        page = await _value(request.clone(rel_url=here), handler)
        items += page["data"]
        if not page["has_more"]:
            return items
        after = page["last_id"]


async def _value(request: web.Request, handler: Handler) -> Body:
    """Return the JSON object that the operation answers with."""
    response = await handler(request)
    return cast("Body", decode(cast("bytes", cast("web.Response", response).body)))


def _prefixed(kind: str, id: str) -> str:
    return f"{kind}_{id}" if re.fullmatch("[0-9a-f]{24}", id) else id


def _page(items: list[Body], *, has_more: bool) -> web.Response:
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return answer(encode({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": has_more}))

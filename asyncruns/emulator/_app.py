"""The web application: routes, the reading of requests, and the writing of answers."""

import functools
import math
from typing import Any

from aiohttp import web

from asyncruns.emulator._answers import LiveAnswer, answer, live_events
from asyncruns.emulator._api import Api, list_resources, modify
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._feed import Feed
from asyncruns.emulator._gate import Gate
from asyncruns.emulator._json import decode, encode
from asyncruns.emulator._samples import shown_step
from asyncruns.emulator._store import Body, Listing, Resource, Run
from asyncruns.emulator._validation import check_include, check_page, check_request

MAX_BODY = 1024 * 1024
_PENDING = frozenset({"queued", "in_progress", "cancelling"})
_LONGEST_POLL = 5.0


def make_app(api: Api, gate: Gate, *, prefix: str, has_thread_listing: bool) -> web.Application:
    """Return the application that serves *api* under *prefix*."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[gate.middleware()])
    routes = _Routes(api, gate)
    threads = f"{prefix}/threads"
    thread = f"{threads}/{{thread_id}}"
    run = f"{thread}/runs/{{run_id}}"
    message = f"{thread}/messages/{{message_id}}"
    app.add_routes(
        [
            web.post(f"{threads}/runs", routes.create_thread_and_run),
            web.post(threads, routes.create_thread),
            web.get(thread, routes.retrieve_thread, allow_head=False),
            web.post(thread, routes.modify_thread),
            web.delete(thread, routes.delete_thread),
            web.get(f"{thread}/runs", routes.list_runs, allow_head=False),
            web.post(f"{thread}/runs", routes.create_run),
            web.get(run, routes.retrieve_run, allow_head=False),
            web.post(run, routes.modify_run),
            web.post(f"{run}/cancel", routes.cancel_run),
            web.post(f"{run}/submit_tool_outputs", routes.submit_tool_outputs),
            web.get(f"{run}/steps", routes.list_steps, allow_head=False),
            web.get(f"{run}/steps/{{step_id}}", routes.retrieve_step, allow_head=False),
            web.get(f"{thread}/messages", routes.list_messages, allow_head=False),
            web.post(f"{thread}/messages", routes.create_message),
            web.get(message, routes.retrieve_message, allow_head=False),
            web.post(message, routes.modify_message),
            web.delete(message, routes.delete_message),
        ]
    )
    if has_thread_listing:
        app.router.add_get(threads, routes.list_threads, allow_head=False)
    return app


class _Routes:
    """One method for each operation: read the request, ask the api, write the answer."""

    def __init__(self, api: Api, gate: Gate) -> None:
        self._api = api
        self._gate = gate

    async def create_thread(self, request: web.Request) -> web.Response:
        body = await _body(request, "create_thread", may_be_empty=True)
        return _show(self._api.create_thread(body))

    async def list_threads(self, request: web.Request) -> web.Response:
        return self._page(request, self._api.store.threads, "thread")

    async def retrieve_thread(self, request: web.Request) -> web.Response:
        return _show(self._api.thread(**request.match_info))

    async def modify_thread(self, request: web.Request) -> web.Response:
        thread = self._api.thread(**request.match_info)
        return _show(modify(thread, await _body(request, "modify_thread")))

    async def delete_thread(self, request: web.Request) -> web.Response:
        return answer(encode(self._api.delete_thread(**request.match_info)))

    async def create_thread_and_run(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, "create_thread_and_run")
        feed = _feed(body)
        return self._begun(request, self._api.create_thread_and_run(body, feed), feed)

    async def create_run(self, request: web.Request) -> web.StreamResponse:
        with_content = check_include(request.query)
        body = await _body(request, "create_run")
        feed = _feed(body, with_content=with_content)
        run = self._api.create_run(**request.match_info, request=body, listener=feed)
        return self._begun(request, run, feed)

    async def list_runs(self, request: web.Request) -> web.Response:
        return self._page(request, self._api.thread(**request.match_info).runs, "run")

    async def retrieve_run(self, request: web.Request) -> web.Response:
        return self._show_run(self._api.run(**request.match_info))

    async def modify_run(self, request: web.Request) -> web.Response:
        run = self._api.run(**request.match_info)
        return self._show_run(modify(run, await _body(request, "modify")))

    async def cancel_run(self, request: web.Request) -> web.Response:
        return self._show_run(self._api.cancel_run(**request.match_info))

    async def submit_tool_outputs(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, "submit_tool_outputs")
        feed = _feed(body)
        run = self._api.submit_tool_outputs(**request.match_info, request=body, listener=feed)
        return self._begun(request, run, feed)

    async def list_steps(self, request: web.Request) -> web.Response:
        with_content = check_include(request.query)
        query = check_page(request.query)
        steps, has_more = list_resources(self._api.run(**request.match_info).steps, "run step", query)
        return _show_page([shown_step(step, with_content=with_content) for step in steps], has_more=has_more)

    async def retrieve_step(self, request: web.Request) -> web.Response:
        with_content = check_include(request.query)
        return _show(shown_step(self._api.step(**request.match_info), with_content=with_content))

    async def list_messages(self, request: web.Request) -> web.Response:
        run_id = request.query.get("run_id")
        messages = self._api.thread(**request.match_info).messages
        return self._page(request, messages, "message", run_id=run_id)

    async def create_message(self, request: web.Request) -> web.Response:
        body = await _body(request, "create_message")
        return _show(self._api.create_message(**request.match_info, request=body))

    async def retrieve_message(self, request: web.Request) -> web.Response:
        return _show(self._api.message(**request.match_info))

    async def modify_message(self, request: web.Request) -> web.Response:
        message = self._api.message(**request.match_info)
        return _show(modify(message, await _body(request, "modify")))

    async def delete_message(self, request: web.Request) -> web.Response:
        return answer(encode(self._api.delete_message(**request.match_info)))

    def _page(
        self, request: web.Request, listing: Listing[Any], kind: str, *, run_id: str | None = None
    ) -> web.Response:
        data, has_more = list_resources(listing, kind, check_page(request.query), run_id=run_id)
        return _show_page(data, has_more=has_more)

    def _begun(self, request: web.Request, run: Run, feed: Feed | None) -> web.StreamResponse:
        """Answer with a run, or with its events if there is a feed for them."""
        if feed is None:
            return self._show_run(run)
        is_wanted = functools.partial(self._gate.is_wanted, request)
        return LiveAnswer(run, feed, live_events(self._api.lifecycle, run, feed, is_wanted))

    def _show_run(self, run: Run) -> web.Response:
        """Answer with a run; one that moves by itself says when to look again."""
        seconds = self._api.lifecycle.next_transition(run)
        if seconds is None or run.body["status"] not in _PENDING:
            return _show(run)
        milliseconds = max(1, math.ceil(min(seconds, _LONGEST_POLL) * 1000))
        return answer(run.json(), headers={"openai-poll-after-ms": str(milliseconds)})


async def _body(request: web.Request, rules: str, *, may_be_empty: bool = False) -> Body:
    """Return the request's JSON object, checked.

    Raises:
        Refusal: It is no JSON, or breaks the rules.
        HTTPRequestEntityTooLarge: It is longer than MAX_BODY.
    """
    text = await request.read()
    if not text and may_be_empty:
        return {}
    if text and request.content_type not in ("application/json", "application/octet-stream"):
        raise Refusal(
            f"Unsupported content type: '{request.content_type}'. This API method only accepts "
            "'application/json' requests.",
            code="unsupported_content_type",
        )
    try:
        value = decode(text)
    except ValueError as error:
        raise Refusal(f"We could not parse the JSON body of your request: {error}.") from None
    return check_request(rules, value)


def _feed(request: Body, *, with_content: bool = False) -> Feed | None:
    """Return a new feed if a request asks for a live run."""
    return Feed(with_content=with_content) if request.get("stream") else None


def _show(resource: Resource) -> web.Response:
    return answer(resource.json())


def _show_page(data: list[Any], *, has_more: bool) -> web.Response:
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    tail = b'],"first_id":%b,"last_id":%b,"has_more":%b}' % (encode(first), encode(last), encode(has_more))
    return answer(b'{"object":"list","data":[' + b",".join([item.json() for item in data]) + tail)

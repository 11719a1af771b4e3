"""A chat in the browser, with aiohttp.web: one session for the app's life, and no run goes on for a browser that left.

It reads OPENAI_API_KEY, OPENAI_BASE_URL, ASSISTANT_ID and PORT from the environment.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from pathlib import Path
from uuid import uuid4

from aiohttp import web

import asyncruns

PAGE = Path(__file__).with_name("chat.html")
ASSISTANT_ID = os.environ["ASSISTANT_ID"]
SESSION = web.AppKey("session", asyncruns.Session)
GOODBYES = web.AppKey("goodbyes", asyncio.TaskGroup)
CHATS = web.AppKey("chats", dict[str, str])
"""The name that a browser has for its chat -> the thread; your app would keep them with its users."""

logger = logging.getLogger("chat")


async def connections(app: web.Application) -> AsyncIterator[None]:
    """Hold the one session, and before it closes, let the runs be cancelled whose browsers have left."""
    async with asyncruns.Session() as app[SESSION], asyncio.TaskGroup() as app[GOODBYES]:
        yield


async def page(request: web.Request) -> web.FileResponse:
    """Give the page."""
    return web.FileResponse(PAGE)


async def begin(request: web.Request) -> web.Response:
    """Begin a chat, with a thread of its own."""
    thread = await request.app[SESSION].threads.create()
    name = uuid4().hex
    request.app[CHATS][name] = thread.id
    return web.json_response({"chat": name}, status=201)


async def ask(request: web.Request) -> web.StreamResponse:
    """Take a question, and stream the answer as server-sent events."""
    thread_id = request.app[CHATS].get(request.match_info["chat"])
    if thread_id is None:
        raise web.HTTPNotFound
    question = (await request.json())["question"]
    response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    with suppress(ConnectionResetError):  # The browser left.
        async with aclosing(answer(request.app, thread_id, question)) as events:
            async for event in events:
                await response.write(event)
    return response


async def answer(app: web.Application, thread_id: str, question: str) -> AsyncGenerator[bytes, None]:
    """Yield the events of one answer; a run that is still going when this is closed is cancelled."""
    session, key = app[SESSION], uuid4().hex
    was_ended = asyncio.get_running_loop().create_future()
    app[GOODBYES].create_task(see_off(session, thread_id, key, was_ended))
    is_over = False
    try:
        await post(session, thread_id, question)
        live = session.runs.stream(thread_id, assistant_id=ASSISTANT_ID, metadata={"request_key": key})
        async with live as stream:
            async for text in stream.text_deltas():
                yield to_event("text", text)
            run = await stream.final_run()
        is_over = run.is_terminal
        yield to_event("end", run.status)
    except asyncruns.AsyncRunsError as error:
        logger.warning("No answer on %s: %s", thread_id, error)
        yield to_event("end", "unavailable")
    finally:
        was_ended.set_result(is_over)


async def post(session: asyncruns.Session, thread_id: str, question: str) -> None:
    """Add the question to the thread, after the run of the question before it, should it still be ending."""
    try:
        await session.messages.create(thread_id, role="user", content=question)
    except asyncruns.ActiveRunError as error:
        if error.run_id is None:
            raise
        await session.runs.wait(thread_id, error.run_id, timeout=30)
        await session.messages.create(thread_id, role="user", content=question)


async def see_off(session: asyncruns.Session, thread_id: str, key: str, was_ended: asyncio.Future[bool]) -> None:
    """Wait until an answer is left, and cancel its run if that has not ended.

    This is a task of its own from the beginning, because the one that writes the answer is itself cancelled when the
    browser leaves, and the app waits for this one before it closes its session. The browser may leave before the run's
    id is known, so the run is found by its key.
    """
    if await was_ended:
        return
    try:
        run = await session.runs.find(thread_id, request_key=key)
        if run is not None and not run.is_terminal:
            await session.runs.cancel(thread_id, run.id)
    except asyncruns.AsyncRunsError as error:
        logger.warning("A run on %s may go on: %s", thread_id, error)


def to_event(name: str, data: str) -> bytes:
    """Write one server-sent event; as JSON its data is always one line."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def make_app() -> web.Application:
    """Put the app together."""
    app = web.Application()
    app[CHATS] = {}
    app.cleanup_ctx.append(connections)
    app.add_routes([web.get("/", page), web.post("/chats", begin), web.post("/chats/{chat}/questions", ask)])
    return app


if __name__ == "__main__":
    logging.basicConfig()
    port = int(os.environ.get("PORT", "8080"))
    # With handler_cancellation a browser's leaving is noticed at once, and not only at the next word for it.
    web.run_app(make_app(), host="127.0.0.1", port=port, shutdown_timeout=2, handler_cancellation=True)

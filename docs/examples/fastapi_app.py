"""A chat in the browser, with FastAPI: one session for the app's life, and no run goes on for a browser that left.

It reads OPENAI_API_KEY, OPENAI_BASE_URL, ASSISTANT_ID and PORT from the environment.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import uvicorn
from fastapi import Body, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, StreamingResponse

import asyncruns

PAGE = Path(__file__).with_name("chat.html")
ASSISTANT_ID = os.environ["ASSISTANT_ID"]

logger = logging.getLogger("chat")


class State(TypedDict):
    """What the app holds for its whole life."""

    session: asyncruns.Session
    goodbyes: asyncio.TaskGroup
    chats: dict[str, str]  # The name that a browser has for its chat -> the thread; yours would be with its users.


class EventStream(StreamingResponse):
    """Server-sent events from a generator, which is closed whichever way the response ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.events = events

    async def __call__(self, *args: Any) -> None:
        """Send the events until they end or the browser leaves."""
        async with aclosing(self.events):
            await super().__call__(*args)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """Hold the one session, and before it closes, let the runs be cancelled whose browsers have left."""
    async with asyncruns.Session() as session, asyncio.TaskGroup() as goodbyes:
        yield {"session": session, "goodbyes": goodbyes, "chats": {}}


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def page() -> FileResponse:
    """Give the page."""
    return FileResponse(PAGE)


@app.post("/chats", status_code=201)
async def begin(request: Request) -> dict[str, str]:
    """Begin a chat, with a thread of its own."""
    thread = await request.state.session.threads.create()
    name = uuid4().hex
    request.state.chats[name] = thread.id
    return {"chat": name}


@app.post("/chats/{chat}/questions")
async def ask(request: Request, chat: str, question: Annotated[str, Body(embed=True)]) -> EventStream:
    """Take a question, and stream the answer as server-sent events."""
    thread_id = request.state.chats.get(chat)
    if thread_id is None:
        raise HTTPException(404)
    return EventStream(answer(request.state.session, request.state.goodbyes, thread_id, question))


async def answer(
    session: asyncruns.Session, goodbyes: asyncio.TaskGroup, thread_id: str, question: str
) -> AsyncGenerator[bytes, None]:
    """Yield the events of one answer; a run that is still going when this is closed is cancelled."""
    key = uuid4().hex
    was_ended = asyncio.get_running_loop().create_future()
    goodbyes.create_task(see_off(session, thread_id, key, was_ended))
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


if __name__ == "__main__":
    logging.basicConfig()
    port = int(os.environ.get("PORT", "8080"))
    uvicorn.run(app, host="127.0.0.1", port=port, timeout_graceful_shutdown=2)

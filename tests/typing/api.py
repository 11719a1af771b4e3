"""Public calls with their types: checked by type checkers, never run."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime, timedelta
from typing import assert_type

import aiohttp

import asyncruns
from asyncruns import (
    AccessToken,
    AsyncCursorPager,
    Message,
    MessageDeleted,
    Page,
    RawItem,
    Run,
    RunStep,
    Session,
    Thread,
)


async def provide_text() -> str:
    """Give a token."""
    return "token"


async def provide_token() -> AccessToken:
    """Give a token that knows its end."""
    raise NotImplementedError


async def sessions(http: aiohttp.ClientSession) -> None:
    """Make sessions in every way there is."""
    async with Session() as session:
        assert_type(session, Session)
    Session("key", "https://api.example/v1", organization="o", project="p", default_query={"a": "b"})
    Session(provide_text, timeout=5.0, retry=asyncruns.RetryPolicy(max_attempts=1), http=http)
    Session(provide_token, proxy=None, trace_configs=[aiohttp.TraceConfig()], check_identity=False)
    assert_type(Session.azure_openai("https://x", api_version="v", api_key="key"), Session)
    assert_type(Session.azure_openai("https://x", api_version="v", token_provider=provide_token, timeout=1.0), Session)
    assert_type(Session.foundry("https://x", provide_text, max_connections=5), Session)
    Session(5)  # type: ignore[arg-type]
    Session(timout=5.0)  # type: ignore[call-arg]
    Session.foundry("https://x", provide_text, timout=5.0)  # type: ignore[call-arg]


async def runs(session: Session) -> None:
    """Use every method of the runs."""
    created = await session.runs.create(
        "thread_1",
        assistant_id="asst_1",
        model=None,
        tools=[asyncruns.FunctionTool(name="f"), {"type": "code_interpreter"}],
        tool_choice="auto",
        response_format=asyncruns.ResponseFormatJsonObject(),
        truncation_strategy=asyncruns.TruncationStrategy(),
        additional_messages=[{"role": "user", "content": "hi"}],
        reasoning_effort="low",
        metadata={"a": "b"},
        timeout=5.0,
    )
    assert_type(created, Run)
    assert_type(await session.runs.retrieve("thread_1", "run_1"), Run)
    assert_type(await session.runs.modify("thread_1", "run_1", metadata=None), Run)
    assert_type(await session.runs.cancel("thread_1", "run_1", timeout=1), Run)
    outputs: list[asyncruns.ToolOutput] = [{"tool_call_id": "c", "output": "x"}]
    assert_type(await session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=outputs), Run)
    assert_type(await session.runs.wait("thread_1", "run_1", timeout=60, cancel_on_timeout=True), Run)
    await session.runs.create("thread_1")  # type: ignore[call-arg]
    await session.runs.create("thread_1", assistant_id=5)  # type: ignore[arg-type]
    await session.runs.create("thread_1", assistant_id="a", temprature=1.0)  # type: ignore[call-arg]
    await session.runs.create("thread_1", "asst_1")  # type: ignore[call-arg]
    await session.runs.wait("thread_1", "run_1")  # type: ignore[call-arg]


async def listings(session: Session) -> None:
    """Use a pager in every way there is."""
    pager = session.runs.list("thread_1", limit=50, order="asc", after=None, max_items=5)
    assert_type(pager, AsyncCursorPager[Run])
    assert_type(pager.cursor, str | None)
    assert_type(pager.pages(), AsyncGenerator[Page[Run], None])
    assert_type(pager.raw(), AsyncGenerator[bytes, None])
    assert_type(pager.raw_pages(ahead=False), AsyncGenerator[Page[RawItem], None])
    assert_type(await pager, Page[Run])
    assert_type(await pager.collect(max_items=3), list[Run])
    async for run in pager:
        assert_type(run, Run)
    async for page in pager.pages():
        assert_type(page.data, tuple[Run, ...])
    async for blob in pager.raw():
        assert_type(blob, bytes)
    include: list[asyncruns.Include] = ["step_details.tool_calls[*].file_search.results[*].content"]
    assert_type(session.steps.list("thread_1", "run_1", include=include), AsyncCursorPager[RunStep])
    assert_type(session.threads.list(), AsyncCursorPager[Thread])
    assert_type(session.messages.list("thread_1", run_id="run_1"), AsyncCursorPager[Message])
    session.runs.list("thread_1", order="up")  # type: ignore[arg-type]
    session.runs.list("thread_1", page_size=5)  # type: ignore[call-arg]
    session.runs.list("thread_1", include=include)  # type: ignore[call-arg]


async def others(session: Session) -> None:
    """Use steps, threads and messages."""
    assert_type(await session.steps.retrieve("thread_1", "run_1", "step_1"), RunStep)
    assert_type(await session.threads.create(messages=[{"role": "user", "content": "hi"}]), Thread)
    assert_type(await session.threads.retrieve("thread_1"), Thread)
    assert_type(await session.threads.modify("thread_1", tool_resources=None), Thread)
    assert_type(await session.threads.delete("thread_1"), asyncruns.ThreadDeleted)
    assert_type(await session.threads.create_and_run(assistant_id="a", thread={"metadata": {}}), Run)
    parts = [asyncruns.TextContent(value="hi")]
    assert_type(await session.messages.create("thread_1", role="user", content=parts), Message)
    assert_type(await session.messages.retrieve("thread_1", "msg_1"), Message)
    assert_type(await session.messages.modify("thread_1", "msg_1", metadata={}), Message)
    assert_type(await session.messages.delete("thread_1", "msg_1"), MessageDeleted)
    await session.messages.create("thread_1", content="hi")  # type: ignore[call-arg]


def models(run: Run, step: RunStep, message: Message) -> None:
    """Read the models."""
    assert_type(run.status, str)
    assert_type(run.is_terminal, bool)
    assert_type(run.duration, timedelta | None)
    assert_type(run.raise_for_status(), Run)
    assert_type(run.tool_calls, tuple[asyncruns.RequiredToolCall, ...])
    assert_type(run.extra, Mapping[str, object])
    assert_type(asyncruns.timestamp(run.created_at), datetime | None)
    if run.created_at is not None:
        assert_type(asyncruns.timestamp(run.created_at), datetime)
    assert_type(message.text, str)
    match step.step_details:
        case asyncruns.ToolCallsStepDetails(tool_calls=calls):
            assert_type(calls, tuple[asyncruns.ToolCall, ...])
        case asyncruns.MessageCreationStepDetails(message_id=message_id):
            assert_type(message_id, str)
        case asyncruns.UnknownStepDetails(data=data):
            assert_type(data, Mapping[str, object])
    run.status = "completed"  # type: ignore[misc]


def errors(error: asyncruns.AsyncRunsError) -> None:
    """Read the errors."""
    match error:
        case asyncruns.ActiveRunError():
            assert_type(error.run_id, str | None)
        case asyncruns.StatusError():
            assert_type(error.status, int)
            assert_type(error.retry_after, float | None)
        case asyncruns.WaitTimeout():
            assert_type(error.run, Run | None)
        case asyncruns.RunNotCompleted():
            assert_type(error.run, Run)
        case asyncruns.RunCreationUnknown():
            assert_type(error.thread_id, str | None)
        case _:
            assert_type(error.message, str)

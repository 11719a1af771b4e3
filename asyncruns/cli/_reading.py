"""Runs and steps as tables for people or JSON Lines for pipes."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import TypeVar

from rich.text import Text

from asyncruns import AsyncCursorPager, Run, RunStep, ToolCallsStepDetails, Usage
from asyncruns._slices import read_item
from asyncruns.cli import _output
from asyncruns.cli._output import NOTHING, cell, count, moment, span, status_cell

T = TypeVar("T")

_WIDE = 100


async def print_runs(
    pager: AsyncCursorPager[Run], statuses: Collection[str], max_items: int | None, *, as_json: bool
) -> None:
    """Print the runs of a listing that have one of *statuses* (all, if there are none), *max_items* at most."""
    if not _output.for_people(as_json):
        await _print_raw(_chosen(pager.raw(), _raw_status, statuses, max_items))
        return
    wide = _output.console().width >= _WIDE
    columns = ["run", "status", "created (UTC)", "took>", "tokens>", *(["model"] if wide else [])]
    chosen = _chosen(aiter(pager), lambda run: run.status, statuses, max_items)
    await _print_table("run", columns, chosen, lambda run: _run_row(run) + ([cell(run.model)] if wide else []))


async def print_steps(pager: AsyncCursorPager[RunStep], *, as_json: bool) -> None:
    """Print the steps of a listing."""
    if not _output.for_people(as_json):
        await _print_raw(pager.raw())
        return
    await _print_table("step", ["step", "status", "tokens>", "did"], aiter(pager), _step_row)


def print_run(run: Run, *, as_json: bool) -> None:
    """Print one run with all that a person may want to know of it."""
    if not _output.for_people(as_json):
        _output.write_json(run)
        return
    facts = _output.table(["", ""], [(cell(name, style="bold"), text) for name, text in _facts(run)])
    facts.show_header = False
    _output.console().print(facts)


async def while_waiting(waiting: Awaitable[T], run_id: str) -> T:
    """Await *waiting*; a terminal shows meanwhile that something is under way."""
    with _output.console(stderr=True).status(cell(f"Waiting for {run_id}")):
        return await waiting


async def _chosen(
    items: AsyncGenerator[T, None], status_of: Callable[[T], object], statuses: Collection[str], max_items: int | None
) -> AsyncGenerator[T, None]:
    given = 0
    async with aclosing(items):
        while given != max_items and (item := await anext(items, None)) is not None:
            if not statuses or status_of(item) in statuses:
                given += 1
                yield item


def _raw_status(blob: bytes) -> str:
    status = read_item(blob).status
    return status if isinstance(status, str) else ""


async def _print_raw(blobs: AsyncGenerator[bytes, None]) -> None:
    async with aclosing(blobs):
        async for blob in blobs:
            _output.write_json_bytes(blob)


async def _print_table(
    noun: str, columns: Sequence[str], items: AsyncGenerator[T, None], row: Callable[[T], Sequence[Text]]
) -> None:
    """Print a table once all its rows are known; when the listing breaks off, of those that came."""
    console, rows = _output.console(), []
    try:
        async with aclosing(items):
            async for item in items:
                rows.append(row(item))
    finally:
        if rows:
            console.print(_output.table(columns, rows))
    console.print(f"{len(rows):,} {noun}{'' if len(rows) == 1 else 's'}", style="dim")


def _run_row(run: Run) -> list[Text]:
    return [
        cell(run.id),
        status_cell(run.status),
        cell(moment(run.created_at)),
        cell(span(run.duration)),
        cell(count(run.usage.total_tokens) if run.usage else None),
    ]


def _step_row(step: RunStep) -> list[Text]:
    tokens = count(step.usage.total_tokens) if step.usage else None
    return [cell(step.id), status_cell(step.status), cell(tokens), cell(_did(step))]


def _did(step: RunStep) -> str:
    match step.step_details:
        case ToolCallsStepDetails(tool_calls=calls) if calls:
            return ", ".join(getattr(call, "name", "") or call.type for call in calls)
        case _:
            return step.type


def _facts(run: Run) -> list[tuple[str, Text]]:
    usage, error = run.usage, run.last_error
    facts: list[tuple[str, object]] = [
        ("assistant", run.assistant_id),
        ("model", run.model),
        ("created", f"{moment(run.created_at)} UTC" if run.created_at else None),
        ("took", span(run.duration)),
        ("tokens", usage and _tokens(usage)),
        ("tools", ", ".join(getattr(tool, "name", "") or tool.type for tool in run.tools)),
        ("error", error and ": ".join(filter(None, (error.code, error.message)))),
        ("incomplete", run.incomplete_details and run.incomplete_details.reason),
        *(("to answer", f"{call.name}({call.arguments})  {call.id}") for call in run.tool_calls),
        *(("metadata", f"{name} = {value}") for name, value in run.metadata.items()),
    ]
    head = [("run", cell(run.id)), ("thread", cell(run.thread_id)), ("status", status_cell(run.status))]
    return head + [(name, _folded(text)) for name, text in facts if text]


def _tokens(usage: Usage) -> str:
    prompt, completion = count(usage.prompt_tokens), count(usage.completion_tokens)
    return f"{prompt or NOTHING} prompt, {completion or NOTHING} completion"


def _folded(text: object) -> Text:
    shown = cell(text, limit=500)
    shown.no_wrap, shown.overflow = False, "fold"
    return shown

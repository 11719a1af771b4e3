"""Runs and steps of an archive as OpenTelemetry spans, for tools that draw traces."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from asyncruns import ConfigurationError, MessageCreationStepDetails, Run, RunStatus, RunStep, ToolCallsStepDetails
from asyncruns import __version__ as version
from asyncruns._codec import decode
from asyncruns.archive._archive import Archive, check_archive
from asyncruns.archive._figures import moment

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
_TOOL_TYPES = {"function": "function", "code_interpreter": "extension", "file_search": "datastore"}
_FAILURES = (RunStatus.FAILED, RunStatus.EXPIRED, RunStatus.INCOMPLETE)
_SPANS_PER_FLUSH = 500
"""The SDK's batch processor holds 2,048 spans unless told otherwise, and drops what does not fit."""


@attrs.frozen
class _Plan:
    """A span before it is made; times in Unix nanoseconds."""

    name: str
    start: int
    end: int
    error: str | None
    facts: dict[str, object]
    is_remote: bool = False


def emit_spans(
    archive: Archive, tracer_provider: "TracerProvider", *, thread_id: str | None = None, provider_name: str = "openai"
) -> int:
    """Make spans of the runs and steps of an archive, and return their number, sampled or not.

    Names and attributes follow the semantic conventions 1.41 for generative AI. A run is a trace of its own, with new
    ids in each call: its root is `invoke_agent`. Under it, a step that writes a message is `chat`, each tool call of a
    step is `execute_tool` with the times of the step, and any other step bears its type as its name. Where
    `gen_ai.tool.type` is `function`, the run waited for its caller. Attributes beyond the conventions are
    `asyncruns.run.id`, `asyncruns.run.status`, `asyncruns.step.id` and `asyncruns.step.status`.

    What failed, expired or is incomplete is an error; `error.type` is the server's code or reason, or else the status.
    No span holds instructions, messages, arguments or outputs of tools, or the text of an error.

    A run is left out while it has neither a terminal status nor an end, and when its beginning is not known; so is a
    step without a beginning. A terminal run without an end ends with its last step, and a step without one with its
    run. Nothing ends before it begins. Moments before 2010 or after 2099 count as not known.

    Args:
        archive: An open archive.
        tracer_provider: Makes the spans. If it has a `force_flush`, that is called every few hundred spans and at the
            end, so that no queue runs over.
        thread_id: Only the runs of this thread. None: all.
        provider_name: The value of `gen_ai.provider.name`, such as `azure.ai.openai`; an archive does not know it.

    Raises:
        ConfigurationError: The package opentelemetry-api is not installed.
        ArchiveCorrupt: The archive is damaged; spans were made of what comes before.
        ProtocolError: Something archived is no run or step; spans were made of what comes before.
        TypeError: *archive* is none.
    """
    check_archive(archive)
    make = _maker(tracer_provider)
    flush = getattr(tracer_provider, "force_flush", lambda: True)
    count = flushed = 0
    for owner, run in _runs(archive, thread_id):
        plans = _plans(run, list(archive.steps(run.id, thread_id=owner)), provider_name)
        make(plans)
        count += len(plans)
        if count - flushed >= _SPANS_PER_FLUSH:
            flush()
            flushed = count
    flush()
    return count


def _runs(archive: Archive, thread_id: str | None) -> Iterator[tuple[str, Run]]:
    """Yield the runs, each behind the thread whose listing it came in, whatever the run itself says."""
    if thread_id is not None:
        yield from ((thread_id, run) for run in archive.runs(thread_id))
        return
    for owner, json in archive.columns("runs", ["thread_id", "json"]):
        yield owner.decode(), decode(json, Run)


def _maker(tracer_provider: "TracerProvider") -> Callable[[Sequence[_Plan]], None]:
    """Return what makes spans of plans: the first is the root of a trace, the others are its children."""
    try:
        from opentelemetry.context import Context
        from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
    except ModuleNotFoundError:
        raise ConfigurationError("Making spans needs one more package: pip install 'asyncruns[otel]'") from None
    tracer = tracer_provider.get_tracer("asyncruns", version, schema_url=_SCHEMA_URL)

    def begin(plan: _Plan, context: Context) -> Span:
        kind = SpanKind.CLIENT if plan.is_remote else SpanKind.INTERNAL
        facts = _known({**plan.facts, "error.type": plan.error})
        span = tracer.start_span(plan.name, context, kind, facts, start_time=plan.start)
        if plan.error is not None:
            span.set_status(Status(StatusCode.ERROR, plan.error))
        return span

    def make(plans: Sequence[_Plan]) -> None:
        if plans:
            root = begin(plans[0], Context())
            for plan in plans[1:]:
                begin(plan, set_span_in_context(root, Context())).end(plan.end)
            root.end(plans[0].end)

    return make


def _plans(run: Run, steps: Sequence[RunStep], provider: str) -> list[_Plan]:
    """Return the span of a run and those of its steps; none for a run that is not over or has no beginning."""
    start = _first(run.created_at, run.started_at)
    expired_at = run.expires_at if run.status == RunStatus.EXPIRED else None
    end = _first(run.completed_at, run.failed_at, run.cancelled_at, expired_at)
    if start is None or (end is None and not run.is_terminal):
        return []
    end = max(start, end or max((_end(step) or start for step in steps), default=start))
    reason = run.incomplete_details.reason if run.incomplete_details else None
    facts = _model_facts("invoke_agent", run, run, provider)
    facts |= {"gen_ai.agent.id": run.assistant_id, "asyncruns.run.id": run.id, "asyncruns.run.status": run.status}
    root = _Plan("invoke_agent", start, end, _error(run, reason), facts, is_remote=True)
    return [root, *(plan for step in steps for plan in _step_plans(step, run, end, provider))]


def _step_plans(step: RunStep, run: Run, end: int, provider: str) -> Iterator[_Plan]:
    start, error = _first(step.created_at), _error(step)
    if start is None:
        return
    end = max(start, _end(step) or end)
    own: dict[str, object] = {"asyncruns.step.id": step.id, "asyncruns.step.status": step.status}
    match step.step_details:
        case MessageCreationStepDetails():
            name = f"chat {run.model}" if run.model else "chat"
            yield _Plan(name, start, end, error, own | _model_facts("chat", run, step, provider), is_remote=True)
        case ToolCallsStepDetails(tool_calls=calls) if calls:
            for call in calls:
                tool = getattr(call, "name", None) or call.type or "unknown"
                facts = own | {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": tool}
                facts |= {"gen_ai.tool.call.id": call.id, "gen_ai.tool.type": _TOOL_TYPES.get(call.type)}
                yield _Plan(f"execute_tool {tool}", start, end, error, facts)
        case _:
            yield _Plan(step.type or "step", start, end, error, own)


def _model_facts(operation: str, run: Run, user: Run | RunStep, provider: str) -> dict[str, object]:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.conversation.id": run.thread_id,
        "gen_ai.request.model": run.model,
        "gen_ai.usage.input_tokens": user.usage and user.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": user.usage and user.usage.completion_tokens,
    }


def _known(facts: dict[str, object]) -> dict[str, str | int]:
    """Return the facts that are known and fit: an integer of more than 64 bits makes an exporter fail."""
    return {
        name: value
        for name, value in facts.items()
        if (isinstance(value, str) and value) or (isinstance(value, int) and abs(value) < 2**63)
    }


def _error(user: Run | RunStep, reason: str | None = None) -> str | None:
    """Return in a word why something went wrong; None for what did not, or was cancelled."""
    code = user.last_error.code if user.last_error else None
    return code or reason or user.status if user.status in _FAILURES else None


def _end(step: RunStep) -> int | None:
    return _first(step.completed_at, step.failed_at, step.cancelled_at, step.expired_at)


def _first(*values: object) -> int | None:
    """Return the first of *values* that is a moment, in Unix nanoseconds."""
    known = (at for at in map(moment, values) if at is not None)
    return next((round(at * 1000) * 1_000_000 for at in known), None)

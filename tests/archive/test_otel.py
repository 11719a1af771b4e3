"""The runs and steps of an archive become spans: in their place, at their time, and without what was said."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import asyncruns
from asyncruns import ConfigurationError, ProtocolError
from asyncruns.archive import Archive, emit_spans
from asyncruns.archive._records import PageWrite, Walk
from asyncruns.archive._store import Store

from .conftest import Filled
from .items import raw_items

AT = 1_760_000_000
SECOND = 10**9


class Collector:
    """A provider of tracers, and the spans that were made with it."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> Sequence[Any]:
        """The spans that have ended, in the order in which they did."""
        return self.exporter.get_finished_spans()


@pytest.fixture
def collector() -> Collector:
    """Give the test a provider that keeps what is made with it."""
    pytest.importorskip("opentelemetry.sdk.trace", reason="opentelemetry-sdk is not installed")
    return Collector()


Emit = Callable[..., list[Any]]


@pytest.fixture
def emit(collector: Collector, path: Path) -> Emit:
    """Give the test a way to archive one run with its steps, and to get their spans, the root first."""

    def emit_one(run: dict[str, Any], *steps: dict[str, Any]) -> list[Any]:
        run = {"id": "run_1", "thread_id": "thread_1", "status": "completed", **run}
        given = {"run_id": "run_1", "thread_id": "thread_1", "type": "message_creation", "status": "completed"}
        made = [
            {"id": f"step_{number}", **given, "step_details": {"type": "odd"}, **step}
            for number, step in enumerate(steps)
        ]
        archive_of(path, [run], made).close()
        with Archive.open(path) as archive:
            assert emit_spans(archive, collector.provider) == len(collector.spans)
        return sorted(collector.spans, key=lambda span: span.parent is not None)

    return emit_one


def archive_of(path: Path, runs: list[dict[str, Any]], steps: list[dict[str, Any]]) -> Archive:
    """Make an archive of runs of one thread, and steps of its first run."""
    with Store(path) as store:
        for kind, run_id, items in (("runs", "", runs), ("steps", "run_1", steps)):
            walk = Walk(thread_id="thread_1", kind=kind, run_id=run_id, position=len(items))  # type: ignore[arg-type]
            store.apply(
                [PageWrite(walk=walk, items=raw_items([(item["id"], json.dumps(item).encode()) for item in items]))]
            )
    return Archive.open(path)


def facts_of(owner: dict[str, Any], run: dict[str, Any], operation: str) -> dict[str, Any]:
    """Return the attributes of a span about a model, from the JSON of a run or a step."""
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": run["thread_id"],
        "gen_ai.request.model": run["model"],
        "gen_ai.usage.input_tokens": owner["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": owner["usage"]["completion_tokens"],
    }


@pytest.mark.parametrize("thread_id", [None, "thread_2"])
def test_runs_of_one_id_have_their_own_steps(collector: Collector, path: Path, thread_id: str | None) -> None:
    """Where two threads have a run of the same id, each trace has the steps of its thread, and so has the archive."""
    with Store(path) as store:
        for number in (1, 2):
            step = {"id": f"step_{number}", "run_id": "run_1", "created_at": AT, "type": f"of_{number}"}
            step["step_details"] = {"type": "odd"}
            run = {"id": "run_1", "thread_id": "thread_1", "status": "completed", "created_at": AT}
            for kind, run_id, item in (("runs", "", run), ("steps", "run_1", step)):
                item |= {"thread_id": f"thread_{number}", "status": "completed"}
                walk = Walk(thread_id=f"thread_{number}", kind=kind, run_id=run_id, position=1)  # type: ignore[arg-type]
                store.apply([PageWrite(walk=walk, items=raw_items([(item["id"], json.dumps(item).encode())]))])
    with Archive.open(path) as archive:
        emit_spans(archive, collector.provider, thread_id=thread_id)
        assert [step.id for step in archive.steps("run_1")] == ["step_1", "step_2"]
        assert [step.id for step in archive.steps("run_1", thread_id="thread_2")] == ["step_2"]
        assert [step.id for step in archive.steps(thread_id="thread_1")] == ["step_1"]
    expected = ["of_1", "invoke_agent", "of_2", "invoke_agent"]
    assert [span.name for span in collector.spans] == (expected[2:] if thread_id else expected)


def test_time_beyond_all_numbers_is_none(emit: Emit) -> None:
    """A run whose end is an integer that no fraction can hold ends with its last step."""
    [root, _] = emit({"created_at": AT, "completed_at": 10**400}, {"created_at": AT, "completed_at": AT + 3})
    assert root.end_time == (AT + 3) * SECOND


def expected_run(run: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of the span of an emulated run."""
    facts = facts_of(run, run, "invoke_agent") | {
        "gen_ai.agent.id": run["assistant_id"],
        "asyncruns.run.id": run["id"],
        "asyncruns.run.status": run["status"],
    }
    errors = {"failed": "rate_limit_exceeded", "incomplete": "max_completion_tokens", "expired": "expired"}
    return facts | ({"error.type": errors[run["status"]]} if run["status"] in errors else {})


def expected_step(step: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of the span of an emulated step, which has one tool call at most."""
    facts = {"asyncruns.step.id": step["id"], "asyncruns.step.status": step["status"]}
    errors = {"failed": "rate_limit_exceeded", "expired": "expired"}
    facts |= {"error.type": errors[step["status"]]} if step["status"] in errors else {}
    if step["type"] == "message_creation":
        return facts | facts_of(step, run, "chat")
    (call,) = step["step_details"]["tool_calls"]
    types = {"function": "function", "code_interpreter": "extension", "file_search": "datastore"}
    return facts | {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "get_weather" if call["type"] == "function" else call["type"],
        "gen_ai.tool.call.id": call["id"],
        "gen_ai.tool.type": types[call["type"]],
    }


async def test_every_run_and_step_is_a_span(filled: Filled, path: Path, collector: Collector) -> None:
    """Each run is the root of a trace, each of its steps a child, with all their facts and none besides."""
    await filled.export(path)
    runs = {run["id"]: run for run in map(json.loads, filled.runs)}
    steps = {step["id"]: step for step in map(json.loads, filled.steps)}
    with Archive.open(path) as archive:
        assert emit_spans(archive, collector.provider) == len(runs) + len(steps) == len(collector.spans)
    roots = {span.attributes["asyncruns.run.id"]: span for span in collector.spans if span.parent is None}
    children = {span.attributes["asyncruns.step.id"]: span for span in collector.spans if span.parent is not None}
    assert (roots.keys(), children.keys()) == (runs.keys(), steps.keys())
    assert len({root.context.trace_id for root in roots.values()}) == len(runs)
    for id, root in roots.items():
        assert dict(root.attributes) == expected_run(runs[id])
        assert (root.name, root.kind.name) == ("invoke_agent", "CLIENT")
    for id, child in children.items():
        step = steps[id]
        assert dict(child.attributes) == expected_step(step, runs[step["run_id"]])
        assert child.parent.span_id == roots[step["run_id"]].context.span_id
        assert child.context.trace_id == roots[step["run_id"]].context.trace_id
        if step["type"] == "message_creation":
            assert (child.name, child.kind.name) == (f"chat {runs[step['run_id']]['model']}", "CLIENT")
        else:
            assert (child.name, child.kind.name) == (f"execute_tool {child.attributes['gen_ai.tool.name']}", "INTERNAL")
    assert {run["status"] for run in runs.values()} == {"completed", "failed", "incomplete", "cancelled", "expired"}


async def test_times_and_errors_are_the_servers(filled: Filled, path: Path, collector: Collector) -> None:
    """Spans begin and end when their runs and steps did, in nanoseconds, and bear the code of what went wrong."""
    await filled.export(path)
    owners = {owner["id"]: owner for owner in map(json.loads, filled.runs + filled.steps)}
    with Archive.open(path) as archive:
        emit_spans(archive, collector.provider)
    ends = {"failed": "failed_at", "cancelled": "cancelled_at", "completed": "completed_at"}
    for span in collector.spans:
        facts = span.attributes
        owner = owners[facts.get("asyncruns.step.id") or facts["asyncruns.run.id"]]
        assert span.start_time == owner["created_at"] * SECOND
        if owner["status"] == "expired":
            assert span.end_time == (owner.get("expires_at") or owner["expired_at"]) * SECOND
        elif owner["status"] != "incomplete":
            assert span.end_time == owner[ends[owner["status"]]] * SECOND
        went_wrong = owner["status"] in ("failed", "expired", "incomplete")
        assert span.status.status_code.name == ("ERROR" if went_wrong else "UNSET")
        assert span.status.description == (facts["error.type"] if went_wrong else None)


async def test_one_thread_alone(small: Filled, path: Path, collector: Collector) -> None:
    """With a thread's id, only its runs are made into spans."""
    await small.export(path)
    with Archive.open(path) as archive:
        count = emit_spans(archive, collector.provider, thread_id=small.threads[1])
    mine = [json.loads(blob) for blob in small.runs + small.steps]
    assert count == len([item for item in mine if item["thread_id"] == small.threads[1]])
    roots = [span for span in collector.spans if span.parent is None]
    assert {span.attributes["gen_ai.conversation.id"] for span in roots} == {small.threads[1]}


async def test_provider_can_be_named(small: Filled, path: Path, collector: Collector) -> None:
    """Spans about a model name the provider that the caller names, and the scope names its conventions."""
    await small.export(path)
    with Archive.open(path) as archive:
        emit_spans(archive, collector.provider, provider_name="azure.ai.openai")
    told = {span.attributes.get("gen_ai.provider.name") for span in collector.spans if span.kind.name == "CLIENT"}
    assert told == {"azure.ai.openai"}
    (scope,) = {span.instrumentation_scope for span in collector.spans}
    assert (scope.name, scope.version) == ("asyncruns", asyncruns.__version__)
    assert scope.schema_url == "https://opentelemetry.io/schemas/1.41.0"


def test_each_call_of_a_step_is_a_span(emit: Emit) -> None:
    """A step with several calls gives a span for each, and calls of unknown types are named by them."""
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
        {"id": "call_2", "type": "bing_grounding", "bing_grounding": {"requesturl": "SECRET"}},
        {"type": ""},
        {"id": "call_4", "type": "function", "function": {"name": "", "arguments": "{}"}},
    ]
    details = {"type": "tool_calls", "tool_calls": calls}
    step = {"type": "tool_calls", "created_at": AT, "completed_at": AT + 2, "step_details": details}
    _, *children = emit({"created_at": AT, "completed_at": AT + 3}, step)
    own = {"asyncruns.step.id": "step_0", "asyncruns.step.status": "completed", "gen_ai.operation.name": "execute_tool"}
    function = {"gen_ai.tool.type": "function"}
    assert [(child.name, dict(child.attributes)) for child in children] == [
        (
            "execute_tool get_weather",
            {**own, **function, "gen_ai.tool.name": "get_weather", "gen_ai.tool.call.id": "call_1"},
        ),
        ("execute_tool bing_grounding", {**own, "gen_ai.tool.name": "bing_grounding", "gen_ai.tool.call.id": "call_2"}),
        ("execute_tool unknown", {**own, "gen_ai.tool.name": "unknown"}),
        ("execute_tool function", {**own, **function, "gen_ai.tool.name": "function", "gen_ai.tool.call.id": "call_4"}),
    ]
    assert {(child.start_time, child.end_time) for child in children} == {(AT * SECOND, (AT + 2) * SECOND)}


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ({"type": "thinking", "step_details": {"type": "thinking"}}, "thinking"),
        ({"type": "", "step_details": {"type": "thinking"}}, "step"),
        ({"type": "tool_calls", "step_details": {"type": "tool_calls", "tool_calls": []}}, "tool_calls"),
    ],
)
def test_other_steps_are_named_by_their_type(emit: Emit, step: dict[str, Any], name: str) -> None:
    """A step that neither writes nor calls has a span with its type as its name, and no operation."""
    _, child = emit({"created_at": AT, "completed_at": AT + 3}, {**step, "created_at": AT})
    assert (child.name, child.kind.name) == (name, "INTERNAL")
    assert dict(child.attributes) == {"asyncruns.step.id": "step_0", "asyncruns.step.status": "completed"}


def test_what_is_not_known_is_not_told(emit: Emit) -> None:
    """Without an assistant, a model or counts, or with counts that no exporter can carry, there is no attribute."""
    step = {
        "created_at": AT,
        "step_details": {"type": "message_creation", "message_creation": {"message_id": "msg_1"}},
        "usage": {"prompt_tokens": 0, "completion_tokens": 2**63, "total_tokens": 0},
    }
    root, child = emit({"created_at": AT, "completed_at": AT + 3, "model": "", "assistant_id": None}, step)
    told = {"gen_ai.provider.name": "openai", "gen_ai.conversation.id": "thread_1"}
    own = {"asyncruns.run.id": "run_1", "asyncruns.run.status": "completed"}
    assert dict(root.attributes) == {"gen_ai.operation.name": "invoke_agent", **told, **own}
    own = {"asyncruns.step.id": "step_0", "asyncruns.step.status": "completed"}
    assert child.name == "chat"
    assert dict(child.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 0,
        **told,
        **own,
    }


@pytest.mark.parametrize(
    ("run", "start", "end"),
    [
        ({"created_at": AT, "started_at": AT + 1, "completed_at": AT + 3}, 0, 3000),
        ({"created_at": AT * 1000 + 1, "completed_at": AT * 1000 + 2345}, 1, 2345),
        ({"created_at": AT, "completed_at": AT * 1000 + 2345}, 0, 2345),
        ({"created_at": None, "started_at": AT + 1, "completed_at": AT + 3}, 1000, 3000),
        ({"created_at": 0, "started_at": AT + 1, "completed_at": AT + 3}, 1000, 3000),
        ({"created_at": AT, "completed_at": AT - 5}, 0, 0),
        ({"created_at": AT, "status": "incomplete"}, 0, 0),
        ({"created_at": AT, "status": "completed", "completed_at": 2**62}, 0, 0),
        ({"created_at": AT, "status": "completed", "expires_at": AT + 600}, 0, 0),
        ({"created_at": AT, "status": "expired", "expires_at": AT + 600}, 0, 600_000),
        ({"created_at": AT, "status": "failed", "failed_at": AT + 4}, 0, 4000),
        ({"created_at": AT, "status": "cancelled", "cancelled_at": AT + 4}, 0, 4000),
        ({"created_at": AT, "status": "succeeded", "completed_at": AT + 4}, 0, 4000),
    ],
)
def test_times_of_runs(emit: Emit, run: dict[str, Any], start: int, end: int) -> None:
    """Seconds and milliseconds are both read, what is no moment is passed over, and nothing ends before it begins."""
    (root,) = emit(run)
    millisecond = 10**6
    assert root.start_time == AT * SECOND + start * millisecond
    assert root.end_time == AT * SECOND + end * millisecond


@pytest.mark.parametrize(
    "run",
    [
        {"completed_at": AT},
        {"created_at": 0, "completed_at": AT},
        {"created_at": -AT, "completed_at": AT},
        {"created_at": 2**62, "completed_at": AT},
        {"created_at": AT, "status": "in_progress"},
        {"created_at": AT, "status": "requires_action", "expires_at": AT + 600},
        {"created_at": AT, "status": "pondering"},
    ],
)
def test_runs_without_a_place_in_time_are_left_out(emit: Emit, run: dict[str, Any]) -> None:
    """A run that has no beginning or is not over gives no span, and neither do its steps."""
    assert emit(run, {"created_at": AT, "completed_at": AT + 1}) == []


@pytest.mark.parametrize(
    ("step", "end"),
    [
        ({"created_at": AT + 1, "completed_at": AT + 2}, 2),
        ({"created_at": AT + 1, "status": "failed", "failed_at": AT + 3}, 3),
        ({"created_at": AT + 1, "status": "cancelled", "cancelled_at": AT + 3}, 3),
        ({"created_at": AT + 1, "status": "expired", "expired_at": AT + 3}, 3),
        ({"created_at": AT + 1, "status": "expired", "expires_at": AT + 3}, 3),
        ({"created_at": AT + 1, "status": "in_progress"}, 9),
        ({"created_at": AT + 1, "completed_at": AT}, 1),
    ],
)
def test_times_of_steps(emit: Emit, step: dict[str, Any], end: int) -> None:
    """A step ends when its server says, or else with its run, and never before it begins."""
    _, child = emit({"created_at": AT, "completed_at": AT + 9}, step)
    assert (child.start_time, child.end_time) == ((AT + 1) * SECOND, (AT + end) * SECOND)


def test_a_step_without_a_beginning_is_left_out(emit: Emit) -> None:
    """Its run and the other steps are there all the same."""
    spans = emit({"created_at": AT, "completed_at": AT + 9}, {"completed_at": AT + 1}, {"created_at": AT})
    assert [span.attributes.get("asyncruns.step.id") for span in spans] == [None, "step_1"]


def test_a_terminal_run_without_an_end_ends_with_its_last_step(emit: Emit) -> None:
    """The latest moment at which a step ended is taken, whichever step that was."""
    steps = [{"created_at": AT, "completed_at": AT + end} for end in (2, 7, 5)]
    root, *_ = emit({"created_at": AT, "status": "incomplete"}, *steps, {"created_at": AT})
    assert root.end_time == (AT + 7) * SECOND


@pytest.mark.parametrize(
    ("run", "error"),
    [
        ({"status": "failed", "last_error": {"code": "server_error", "message": "SECRET"}}, "server_error"),
        ({"status": "failed", "last_error": {"code": None, "message": "SECRET"}}, "failed"),
        ({"status": "failed"}, "failed"),
        ({"status": "expired"}, "expired"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_prompt_tokens"}}, "max_prompt_tokens"),
        ({"status": "incomplete"}, "incomplete"),
        ({"status": "cancelled"}, None),
        ({"status": "completed", "last_error": {"code": "server_error", "message": "handled"}}, None),
        ({"status": "broken", "completed_at": AT + 1}, None),
    ],
)
def test_errors_of_runs(emit: Emit, run: dict[str, Any], error: str | None) -> None:
    """What failed, expired or is incomplete is an error with the best word there is; nothing else is one."""
    (root,) = emit({"created_at": AT, **run})
    assert root.attributes.get("error.type") == root.status.description == error
    assert root.status.status_code.name == ("UNSET" if error is None else "ERROR")


def test_nothing_that_was_said_is_told(emit: Emit) -> None:
    """Instructions, metadata, arguments, outputs, texts of errors and unknown fields stay out of all spans."""
    function = {"name": "lookup", "arguments": '{"of": "SECRET"}', "output": "SECRET"}
    code = {"input": "SECRET", "outputs": [{"type": "logs", "logs": "SECRET"}]}
    result = {"file_id": "f", "file_name": "SECRET", "score": 1, "content": [{"type": "text", "text": "SECRET"}]}
    calls = [
        {"id": "call_1", "type": "function", "function": function},
        {"id": "call_2", "type": "code_interpreter", "code_interpreter": code},
        {"id": "call_3", "type": "file_search", "file_search": {"results": [result]}},
        {"id": "call_4", "type": "browser", "browser": {"page": "SECRET"}},
    ]
    error = {"code": "server_error", "message": "SECRET"}
    kept = {"metadata": {"SECRET": "SECRET"}, "last_error": error, "unheard_of": "SECRET"}
    step = {"status": "failed", "created_at": AT, "step_details": {"type": "tool_calls", "tool_calls": calls}, **kept}
    run = {"status": "failed", "created_at": AT, "failed_at": AT + 1, "instructions": "SECRET", **kept}
    spans = emit(run, step, {"created_at": AT, "step_details": {"type": "browse", "SECRET": "SECRET"}})
    assert [span.name for span in spans][1:] == [
        "execute_tool lookup",
        "execute_tool code_interpreter",
        "execute_tool file_search",
        "execute_tool browser",
        "message_creation",
    ]
    assert "SECRET" not in "".join(span.to_json() for span in spans)


async def test_a_span_around_the_call_is_nobodys_parent(small: Filled, path: Path, collector: Collector) -> None:
    """Runs are roots, also where the program that reads the archive is traced itself."""
    await small.export(path)
    with Archive.open(path) as archive, collector.provider.get_tracer("program").start_as_current_span("nightly"):
        emit_spans(archive, collector.provider)
    assert len([span for span in collector.spans if span.parent is None]) == len(small.runs) + 1


async def test_no_queue_runs_over(filled: Filled, path: Path, collector: Collector) -> None:
    """A processor that drops what its queue cannot hold loses nothing, and has exported all at the end."""
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    class Queue(SpanProcessor):
        """Holds 600 spans until it is flushed, as a batch processor does whose exporter is slow."""

        held = exported = 0

        def on_end(self, span: ReadableSpan) -> None:
            self.held = min(600, self.held + 1)

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            self.held, self.exported = 0, self.exported + self.held
            return True

    await filled.export(path)
    queue = Queue()
    collector.provider.add_span_processor(queue)
    with Archive.open(path) as archive:
        count = emit_spans(archive, collector.provider)
    assert queue.exported == count > 600


async def test_a_provider_that_cannot_flush(small: Filled, path: Path) -> None:
    """The provider of opentelemetry-api, which does nothing, is as good as another; spans are counted all the same."""
    trace = pytest.importorskip("opentelemetry.trace", reason="the otel extra is not installed")
    await small.export(path)
    with Archive.open(path) as archive:
        assert emit_spans(archive, trace.NoOpTracerProvider()) == len(small.runs) + len(small.steps)


def test_what_is_no_run_is_an_error(collector: Collector, path: Path) -> None:
    """Something archived that cannot be read as a run is named, and what comes before it is there."""
    runs = [
        {"id": "run_1", "thread_id": "thread_1", "status": "completed", "created_at": AT},
        {"id": "run_2", "thread_id": "thread_1", "status": {}},
    ]
    with archive_of(path, runs, []) as archive, pytest.raises(ProtocolError, match="status"):
        emit_spans(archive, collector.provider)
    assert [span.attributes["asyncruns.run.id"] for span in collector.spans] == ["run_1"]


def test_the_missing_package_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the error says what to install."""
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with archive_of(path, [], []) as archive, pytest.raises(ConfigurationError, match=r"pip install 'asyncruns\[otel"):
        emit_spans(archive, object())  # type: ignore[arg-type]


def test_the_package_is_asked_for_late() -> None:
    """Importing the archive does not import OpenTelemetry."""
    code = "import sys, asyncruns.archive; print([name for name in sys.modules if 'opentelemetry' in name])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout == "[]\n"

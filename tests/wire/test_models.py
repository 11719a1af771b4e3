"""The models: values that compare, copy, travel, and answer the few questions a run is asked."""

import copy
import importlib
import inspect
import pickle
import pkgutil
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from asyncruns import errors, models
from asyncruns.models import (
    TERMINAL_STATUSES,
    CodeInterpreterLogs,
    CodeInterpreterToolCall,
    FunctionTool,
    FunctionToolCall,
    ImageFileContent,
    IncompleteDetails,
    LastError,
    Message,
    Page,
    RequiredAction,
    RequiredToolCall,
    Run,
    RunStatus,
    RunStep,
    SubmitToolOutputs,
    TextContent,
    ToolCallsStepDetails,
    UnknownTool,
    UnknownToolCall,
    Usage,
    timestamp,
)

CLASSES = [value for name in models.__all__ if attrs.has(value := getattr(models, name)) and isinstance(value, type)]
SAMPLES = {
    bool: True,
    int: 7,
    str: "x",
    models.StepDetails: models.UnknownStepDetails(type="new", data={"type": "new"}),
    models.Thread: models.Thread(id="thread_1"),
    models.Run: Run(id="run_1", thread_id="thread_1", status="queued"),
    models.RunStep: models.RunStep(
        id="step_1",
        run_id="run_1",
        thread_id="thread_1",
        type="new",
        status="in_progress",
        step_details=models.UnknownStepDetails(type="new"),
    ),
    models.RunStepDelta: models.RunStepDelta(id="step_1"),
    models.Message: models.Message(id="msg_1", thread_id="thread_1", role="user"),
    models.MessageDelta: models.MessageDelta(id="msg_1"),
}


def sample(cls: type) -> object:
    """Make an object with every required field filled, and its mappings too where it has any."""
    values = {field.name: SAMPLES[field.type] for field in attrs.fields(cls) if field.default is attrs.NOTHING}
    if "extra" in attrs.fields_dict(cls):
        values["extra"] = {"later": [1, {"a": None}]}
    return cls(**values)


def a_run(status: str, **fields: object) -> Run:
    """Make a run in *status*."""
    return Run(id="run_1", thread_id="thread_1", status=status, **fields)


def a_waiting_run(*calls: RequiredToolCall) -> Run:
    """Make a run that waits for the outputs of *calls*."""
    action = RequiredAction(submit_tool_outputs=SubmitToolOutputs(tool_calls=calls))
    return a_run("requires_action", required_action=action)


def defined_classes() -> Iterator[type]:
    """Yield every class that a module of the package defines."""
    for module in pkgutil.iter_modules(models.__path__, f"{models.__name__}."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name:
                yield value


def test_package_gives_every_public_class():
    """No class is left behind in its module, and no name is listed twice."""
    assert {cls.__name__ for cls in defined_classes()} <= set(models.__all__)
    assert len(models.__all__) == len(set(models.__all__))


@pytest.mark.parametrize("cls", CLASSES)
class TestEveryClass:
    """What holds for all models alike."""

    def test_is_frozen_and_has_slots(self, cls):
        """An object cannot be changed and takes no attribute it was not made for."""
        made = sample(cls)
        name = attrs.fields(cls)[0].name
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, name, None)
        assert not hasattr(made, "__dict__")

    def test_takes_keywords_only(self, cls):
        """No field can be given by position, so fields may be added anywhere."""
        assert all(field.kw_only for field in attrs.fields(cls))

    def test_carries_no_metadata_alias_converter_or_validator(self, cls):
        """The codec fills objects straight, past these, so a model must not rely on them."""
        for field in attrs.fields(cls):
            assert not field.metadata
            assert field.alias == field.name
            assert field.converter is None
            assert field.validator is None

    def test_survives_pickle_and_copy(self, cls):
        """Objects go through job queues and come back equal."""
        made = sample(cls)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(made, protocol)) == made  # noqa: S301
        assert copy.copy(made) == made
        assert copy.deepcopy(made) == made

    def test_documents_every_field(self, cls):
        """Each field has its line under `Attributes:`, and nothing else has one."""
        docs = [inspect.cleandoc(base.__doc__) for base in cls.__mro__ if attrs.has(base)]
        told = next((doc for doc in docs if "Attributes:\n" in doc), "").partition("Attributes:\n")[2]
        assert re.findall(r"^    (\w+):", told, re.MULTILINE) == list(attrs.fields_dict(cls))

    def test_shares_no_default_between_objects(self, cls):
        """A mapping that was not given is a fresh one for each object."""
        required = {field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING}
        values = {field.name: SAMPLES[field.type] for field in attrs.fields(cls) if field.name in required}
        one, other = cls(**values), cls(**values)
        for field in attrs.fields(cls):
            if isinstance(getattr(one, field.name), dict):
                assert getattr(one, field.name) is not getattr(other, field.name)


def test_required_fields_are_those_every_server_sends():
    """A run needs its id, thread and status; a step also its run, type and details; the rest has defaults."""

    def required(cls: type) -> set[str]:
        return {field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING}

    assert required(Run) == {"id", "thread_id", "status"}
    assert required(RunStep) == {"id", "run_id", "thread_id", "type", "status", "step_details"}
    assert required(Message) == {"id", "thread_id", "role"}


def test_objects_with_mappings_are_not_hashable():
    """Compared by value, held by id: a set of runs is refused rather than wrong."""
    assert a_run("queued") == a_run("queued")
    with pytest.raises(TypeError, match="unhashable"):
        hash(a_run("queued"))
    assert hash(Page(data=(1, 2))) == hash(Page(data=(1, 2)))


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1711448377, datetime(2024, 3, 26, 10, 19, 37, tzinfo=UTC)),
        (1711448377.5, datetime(2024, 3, 26, 10, 19, 37, 500_000, tzinfo=UTC)),
        (1711448377850, datetime(2024, 3, 26, 10, 19, 37, 850_000, tzinfo=UTC)),
        (99_999_999_999, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)),
        (100_000_000_000, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_timestamp_reads_seconds_and_milliseconds(value, moment):
    """Seconds as the API says, milliseconds as DashScope sends; the result always knows its zone."""
    assert timestamp(value) == moment
    assert timestamp(value).tzinfo is UTC


def test_timestamp_of_nothing_is_nothing():
    """A moment that has not come has no datetime."""
    assert timestamp(None) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30, 10**400, -(10**18), "x", "1711448377", [], {}])
def test_timestamp_refuses_what_is_no_date(value):
    """Numbers outside the calendar, and what is no number, are a ValueError and nothing else."""
    with pytest.raises(ValueError, match=r"convert|hold"):
        timestamp(value)


def test_statuses_are_the_documented_nine():
    """Five of nine end a run; members are strings."""
    assert len(RunStatus) == 9
    assert {"cancelled", "failed", "completed", "incomplete", "expired"} == TERMINAL_STATUSES
    assert RunStatus.IN_PROGRESS == "in_progress"


@pytest.mark.parametrize("status", [*RunStatus, "paused_by_moderator"])
def test_is_terminal(status):
    """Only the five terminal statuses are; one that nobody knows is not."""
    assert a_run(str(status)).is_terminal is (status in TERMINAL_STATUSES)


def test_tool_calls_gives_the_function_calls_in_order():
    """Calls of other types stay in the required action."""
    first = RequiredToolCall(id="call_1", name="weather", arguments='{"city": "Oslo"}')
    other = RequiredToolCall(id="call_2", type="mcp")
    last = RequiredToolCall(id="call_3", name="time", arguments="{}")
    assert a_waiting_run(first, other, last).tool_calls == (first, last)


def test_tool_calls_is_empty_when_none_are_asked():
    """No action, or an action of another kind, asks for no function."""
    assert a_run("queued").tool_calls == ()
    assert a_run("requires_action", required_action=RequiredAction(type="approve")).tool_calls == ()


@pytest.mark.parametrize("status", ["in_progress", "expired", "paused_by_moderator"])
def test_old_tool_calls_are_none_that_the_run_waits_for(status):
    """Some servers leave the required action on a run that has moved on; it is still there to see."""
    waiting = a_waiting_run(RequiredToolCall(id="call_1", name="weather"))
    moved = attrs.evolve(waiting, status=status)
    assert moved.tool_calls == ()
    assert moved.required_action == waiting.required_action


@pytest.mark.parametrize(
    ("status", "fields", "seconds"),
    [
        ("completed", {"started_at": 10, "completed_at": 12}, 2.0),
        ("completed", {"created_at": 1, "started_at": 10, "completed_at": 12}, 2.0),
        ("completed", {"created_at": 9, "completed_at": 12}, 3.0),
        ("failed", {"started_at": 10, "failed_at": 13, "completed_at": 99}, 3.0),
        ("cancelled", {"started_at": 10, "cancelled_at": 14}, 4.0),
        ("expired", {"started_at": 10, "expires_at": 610}, 600.0),
        ("incomplete", {"started_at": 10, "completed_at": 15}, 5.0),
        ("completed", {"created_at": 1711448377850, "completed_at": 1711448380}, 2.15),
        ("completed", {"created_at": 1711448377850, "completed_at": 1711448377}, 0.0),
        ("completed", {"started_at": 10}, None),
        ("completed", {"completed_at": 10}, None),
        ("completed", {"started_at": 10, "completed_at": 10**30}, None),
        ("in_progress", {"started_at": 10, "completed_at": 12, "expires_at": 610}, None),
        ("paused", {"started_at": 10, "completed_at": 12}, None),
    ],
)
def test_duration(status, fields, seconds):
    """From the start to the moment that belongs to the terminal status; None when either is unknown."""
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert a_run(status, **fields).duration == expected


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling", "completed", "new"])
def test_raise_for_status_returns_the_run(status):
    """A run that completed, or has not ended, is handed back, so that the call chains."""
    run = a_run(status)
    assert run.raise_for_status() is run


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("failed", errors.RunFailed),
        ("expired", errors.RunExpired),
        ("cancelled", errors.RunCancelled),
        ("incomplete", errors.RunIncomplete),
    ],
)
def test_raise_for_status_raises(status, error):
    """Each bad end has its own error, which carries the run and has one parent in common."""
    run = a_run(status, last_error=LastError(code="server_error", message="Sorry."))
    with pytest.raises(errors.RunNotCompleted, match=r"run_1.*thread_1.*server_error: Sorry") as caught:
        run.raise_for_status()
    assert type(caught.value) is error
    assert caught.value.run is run
    assert caught.value.last_error is run.last_error


def test_every_terminal_status_but_completed_has_an_error():
    """A terminal status added later cannot pass silently."""
    raising = {status for status in TERMINAL_STATUSES if errors.run_error(a_run(status)) is not None}
    assert raising == TERMINAL_STATUSES - {"completed"}


def test_raise_for_status_tells_why_a_run_is_incomplete():
    """The reason stands in the message."""
    run = a_run("incomplete", incomplete_details=IncompleteDetails(reason="max_completion_tokens"))
    with pytest.raises(errors.RunIncomplete, match="incomplete: max_completion_tokens"):
        run.raise_for_status()


def test_message_text_joins_the_text_parts():
    """Images between two texts leave no trace; no text at all is the empty string."""
    content = (TextContent(value="One, "), ImageFileContent(file_id="file_1"), TextContent(value="two."))
    assert Message(id="m", thread_id="t", role="assistant", content=content).text == "One, two."
    assert Message(id="m", thread_id="t", role="assistant").text == ""


def test_step_details_match():
    """Details and tool calls are taken apart by `match`, also those that nobody knows."""
    details = ToolCallsStepDetails(
        tool_calls=(
            FunctionToolCall(id="call_1", name="weather", arguments="{}", output="sunny"),
            CodeInterpreterToolCall(id="call_2", input="1+1", outputs=(CodeInterpreterLogs(logs="2"),)),
            UnknownToolCall(type="bing_grounding", id="call_3", data={"type": "bing_grounding", "q": "x"}),
        )
    )
    seen = []
    match details:
        case ToolCallsStepDetails(tool_calls=calls):
            for call in calls:
                match call:
                    case FunctionToolCall(name=name, output=output):
                        seen.append((name, output))
                    case CodeInterpreterToolCall(outputs=(CodeInterpreterLogs(logs=logs),)):
                        seen.append(logs)
                    case UnknownToolCall(type=kind, data={"q": query}):
                        seen.append((kind, query))
    assert seen == [("weather", "sunny"), "2", ("bing_grounding", "x")]


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if "type" in attrs.fields_dict(cls)])
def test_types_have_the_wire_value_as_default(cls):
    """A class that stands for one type of the wire says so itself; only the unknown ones must be told."""
    default = attrs.fields_dict(cls)["type"].default
    assert (default is attrs.NOTHING) == (cls.__name__.startswith("Unknown") or cls is RunStep)


def test_tools_of_a_run_may_be_unknown():
    """A run keeps what it was given, known tools and others, in order."""
    tools = (
        FunctionTool(name="weather"),
        UnknownTool(type="bing_grounding", data={"type": "bing_grounding"}),
    )
    assert a_run("queued", tools=tools).tools == tools


def test_usage_not_stated_is_none():
    """No count is invented."""
    assert Usage() == Usage(prompt_tokens=None, completion_tokens=None, total_tokens=None)


def test_page_says_when_the_server_did_not_tell():
    """A missing `has_more` is told apart from False; a page can be named with its item's type."""
    assert Page[Run]().has_more is None
    assert Page[Run](data=(a_run("queued"),), has_more=False).has_more is False

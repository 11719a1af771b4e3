"""Server-sent events to typed events, and deltas merged into snapshots."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncruns as ar
from asyncruns import _events
from asyncruns._events import Snapshot, decode_event, merge, plain_delta, settle
from asyncruns._sse import ServerSentEvent, SSEDecoder

RUN = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": "queued", "created_at": 1}
STEP = {
    "id": "step_1",
    "object": "thread.run.step",
    "run_id": "run_1",
    "thread_id": "thread_1",
    "type": "message_creation",
    "status": "in_progress",
    "step_details": {"type": "message_creation", "message_creation": {"message_id": "msg_1"}},
}
MESSAGE = {"id": "msg_1", "object": "thread.message", "thread_id": "thread_1", "role": "assistant", "content": []}
MESSAGE_DELTA = {
    "id": "msg_1",
    "object": "thread.message.delta",
    "delta": {"role": "assistant", "content": [{"index": 0, "type": "text", "text": {"value": "Hi"}}]},
}
STEP_DELTA = {"id": "step_1", "object": "thread.run.step.delta", "delta": {}}

PUBLISHED: Mapping[str, tuple[type, Any]] = {
    "thread.created": (ar.ThreadCreatedEvent, {"id": "thread_1", "object": "thread", "created_at": 1}),
    "thread.run.created": (ar.RunCreatedEvent, RUN),
    "thread.run.queued": (ar.RunQueuedEvent, RUN),
    "thread.run.in_progress": (ar.RunInProgressEvent, RUN),
    "thread.run.requires_action": (ar.RunRequiresActionEvent, RUN),
    "thread.run.completed": (ar.RunCompletedEvent, RUN),
    "thread.run.incomplete": (ar.RunIncompleteEvent, RUN),
    "thread.run.failed": (ar.RunFailedEvent, RUN),
    "thread.run.cancelling": (ar.RunCancellingEvent, RUN),
    "thread.run.cancelled": (ar.RunCancelledEvent, RUN),
    "thread.run.expired": (ar.RunExpiredEvent, RUN),
    "thread.run.step.created": (ar.RunStepCreatedEvent, STEP),
    "thread.run.step.in_progress": (ar.RunStepInProgressEvent, STEP),
    "thread.run.step.delta": (ar.RunStepDeltaEvent, STEP_DELTA),
    "thread.run.step.completed": (ar.RunStepCompletedEvent, STEP),
    "thread.run.step.failed": (ar.RunStepFailedEvent, STEP),
    "thread.run.step.cancelled": (ar.RunStepCancelledEvent, STEP),
    "thread.run.step.expired": (ar.RunStepExpiredEvent, STEP),
    "thread.message.created": (ar.MessageCreatedEvent, MESSAGE),
    "thread.message.in_progress": (ar.MessageInProgressEvent, MESSAGE),
    "thread.message.delta": (ar.MessageDeltaEvent, MESSAGE_DELTA),
    "thread.message.completed": (ar.MessageCompletedEvent, MESSAGE),
    "thread.message.incomplete": (ar.MessageIncompleteEvent, MESSAGE),
    "error": (ar.ErrorEvent, {"message": "Broken.", "code": "server_error", "type": "server_error", "param": None}),
    "done": (ar.DoneEvent, None),
}


def read(name: str, data: Any) -> ar.StreamEvent:
    """Decode an event of that name; data that is not bytes is written as JSON."""
    return decode_event(ServerSentEvent(name, data if isinstance(data, bytes) else json.dumps(data).encode()))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_event(name: str) -> None:
    """Each of the 25 published events becomes its own class, which carries its name on the wire."""
    kind, data = PUBLISHED[name]
    event = read(name, b"[DONE]" if data is None else data)
    assert type(event) is kind
    assert event.name == name


def test_all_published_events_are_here() -> None:
    """The description has 25 events, and each has a class of its own."""
    assert len(PUBLISHED) == len({kind for kind, _ in PUBLISHED.values()}) == 25


def kind_of(event: ar.StreamEvent) -> tuple[str, object]:  # noqa: C901  # one case for each kind
    """Match *event* as a program would, by kind."""
    match event:
        case ar.RunCompletedEvent(run=run):
            return "completed", run.id
        case ar.RunEvent(run=run):
            return "run", run.id
        case ar.RunStepEvent(step=step):
            return "step", step.id
        case ar.MessageEvent(message=message):
            return "message", message.id
        case ar.MessageDeltaEvent(delta=delta):
            return "delta", delta.text
        case ar.RunStepDeltaEvent(delta=delta):
            return "step delta", delta.step_details
        case ar.ThreadCreatedEvent(thread=thread):
            return "thread", thread.id
        case ar.ErrorEvent(message=message, code=code):
            return "error", (message, code)
        case ar.DoneEvent():
            return "done", None
        case ar.UnknownEvent(name=name, data=data):
            return name, data


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("thread.run.completed", "completed", "run_1"),
        ("thread.run.queued", "run", "run_1"),
        ("thread.run.step.failed", "step", "step_1"),
        ("thread.message.created", "message", "msg_1"),
        ("thread.message.delta", "delta", "Hi"),
        ("thread.run.step.delta", "step delta", None),
        ("thread.created", "thread", "thread_1"),
        ("error", "error", ("Broken.", "server_error")),
        ("done", "done", None),
    ],
)
def test_events_can_be_matched(name: str, kind: str, value: object) -> None:
    """Events are matched by one class or by a whole kind, and never by two kinds."""
    data = PUBLISHED[name][1]
    assert kind_of(read(name, b"[DONE]" if data is None else data)) == (kind, value)


@pytest.mark.parametrize(
    ("name", "data", "kept"),
    [
        ("thread.run.paused", b'{"id": "run_1", "n": [1]}', {"id": "run_1", "n": [1]}),
        ("thread.run.paused", b"not JSON", "not JSON"),
        ("message", b"\xff", "\ufffd"),
        ("done", b"[DONE] x", "[DONE] x"),
        ("done", b"{}", {}),
        ("message", b"[done]", "[done]"),
    ],
)
def test_unknown_events_are_kept(name: str, data: bytes, kept: object) -> None:
    """What nobody knows is kept with its name: JSON as plain values, anything else as text; it ends nothing."""
    assert read(name, data) == ar.UnknownEvent(name=name, data=kept)


@pytest.mark.parametrize("name", ["done", "message", "end"])
@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE] "])
def test_done_under_any_name(name: str, data: bytes) -> None:
    """The end marker ends a stream whatever its event is called; some servers leave it nameless."""
    assert read(name, data) == ar.DoneEvent()


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b'{"code": "c", "message": "Text", "param": null, "type": "t"}', "Text", "c"),
        (b'{"message": "Text", "type": "t"}', "Text", "t"),
        (b'{"error": {"message": "Text", "code": 7}}', "Text", "7"),
        (b'{"error": {"code": null}}', "{'code': None}", None),
        (b'{"error": "Text"}', "Text", None),
        (b'{"detail": "Text"}', "{'detail': 'Text'}", None),
        (b"Text <b>", "Text <b>", None),
        (b'"Text"', "Text", None),
        (b"null", "None", None),
        (b"\xff", "\ufffd", None),
    ],
)
def test_error_event(data: bytes, message: str, code: str | None) -> None:
    """An error is read flat as published, nested as proxies send it, or as whatever text it is."""
    assert read("error", data) == ar.ErrorEvent(message=message, code=code)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in ("error", "done")])
def test_bad_data(name: str) -> None:
    """A known event whose data is no JSON, no UTF-8 or another shape is an error that says which."""
    for data in (b"{", b"", b'{"id": "\xff"}'):
        with pytest.raises(ar.DecodeError):
            read(name, data)
    for data in (b"{}", b"[]", b'{"id": 1}'):
        with pytest.raises(ar.SchemaError):
            read(name, data)


def test_message_delta_parts() -> None:
    """A message's delta tells its parts by class, and keeps those that nobody knows."""
    parts = [
        {"index": 0, "type": "text", "text": {"value": "a", "annotations": [{"type": "file_path", "text": "x"}]}},
        {"index": 1, "type": "refusal", "refusal": "No."},
        {"index": 2, "type": "image_file", "image_file": {"file_id": "file_1", "detail": "low"}},
        {"index": 3, "type": "image_url", "image_url": {"url": "u"}},
        {"index": 4, "type": "hologram", "depth": 3},
        {"type": "text", "text": {"value": "b"}, "size": 1},
    ]
    event = read("thread.message.delta", {"id": "m", "delta": {"content": parts, "file_ids": []}, "request_id": "r"})
    assert isinstance(event, ar.MessageDeltaEvent)
    assert event.delta == ar.MessageDelta(
        id="m",
        content=(
            ar.TextDelta(index=0, value="a", annotations=(ar.FilePath(text="x"),)),
            ar.RefusalDelta(index=1, refusal="No."),
            ar.ImageFileDelta(index=2, file_id="file_1", detail="low"),
            ar.ImageUrlDelta(index=3, url="u"),
            ar.UnknownContentDelta(type="hologram", data=parts[4]),
            ar.TextDelta(index=0, value="b", extra={"size": 1}),
        ),
        extra={"delta": {"file_ids": []}, "request_id": "r"},
    )
    assert event.delta.text == "ab"


def test_step_delta_parts() -> None:
    """A step's delta tells its tool calls by class, and keeps those that nobody knows."""
    calls = [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{", "output": None}},
        {"index": 1, "type": "code_interpreter", "code_interpreter": {"input": "1", "outputs": []}},
        {"index": 2, "id": "s", "type": "file_search", "file_search": {}},
    ]
    event = read(
        "thread.run.step.delta", {"id": "s", "delta": {"step_details": {"type": "tool_calls", "tool_calls": calls}}}
    )
    assert isinstance(event, ar.RunStepDeltaEvent)
    assert event.delta.step_details == ar.ToolCallsDelta(
        tool_calls=(
            ar.FunctionToolCallDelta(index=0, id="c", name="f", arguments="{"),
            ar.CodeInterpreterToolCallDelta(index=1, input="1"),
            ar.UnknownToolCallDelta(type="file_search", id="s", data=calls[2]),
        )
    )
    details = {"type": "message_creation", "message_creation": {"message_id": "m"}}
    event = read("thread.run.step.delta", {"id": "s", "delta": {"step_details": details}})
    assert kind_of(event) == ("step delta", ar.MessageCreationDelta(message_id="m"))
    event = read("thread.run.step.delta", {"id": "s", "delta": {"step_details": {"type": "dream", "n": 1}}})
    assert kind_of(event) == ("step delta", ar.UnknownStepDetailsDelta(type="dream", data={"type": "dream", "n": 1}))


@pytest.mark.parametrize("name", ["thread.message.delta", "thread.run.step.delta"])
def test_delta_without_delta(name: str) -> None:
    """A delta event that holds no delta is a `SchemaError`, on its own and when merged."""
    for data in (b'{"id": "x"}', b'{"id": "x", "delta": null}', b'{"id": "x", "delta": []}', b"[]"):
        with pytest.raises(ar.SchemaError) as caught:
            plain_delta(data)
        assert caught.value.path == "$.delta"


def test_run_without_its_thread() -> None:
    """DashScope's later runs do not tell their thread; where it is known from the stream, that is no error."""
    data = json.dumps({name: value for name, value in RUN.items() if name != "thread_id"}).encode()
    event = decode_event(ServerSentEvent("thread.run.completed", data), "thread_9")
    assert isinstance(event, ar.RunCompletedEvent)
    assert (event.run.thread_id, event.run.created_at) == ("thread_9", 1)
    for other in (data.replace(b'"run_1"', b"1"), b'{"thread_id": 1}', b"[]"):
        with pytest.raises(ar.SchemaError):
            decode_event(ServerSentEvent("thread.run.completed", other), "thread_9")


MERGES: Mapping[str, tuple[Any, Any, Any]] = {
    "missing is taken": ({}, {"a": 1}, {"a": 1}),
    "null is taken over": ({"a": None}, {"a": "x"}, {"a": "x"}),
    "null adds nothing": (
        {"a": "x", "b": 1, "c": [1]},
        {"a": None, "b": None, "c": None},
        {"a": "x", "b": 1, "c": [1]},
    ),
    "null for nothing": ({}, {"a": None}, {"a": None}),
    "strings continue": ({"a": "x", "ideas": "x"}, {"a": "y", "ideas": "y"}, {"a": "xy", "ideas": "xy"}),
    "roles, names and ids are replaced": (
        {"id": "x", "role": "assistant", "name": "f", "message_id": "x"},
        {"id": "x", "role": "assistant", "name": "g", "message_id": ""},
        {"id": "x", "role": "assistant", "name": "g", "message_id": "x"},
    ),
    "type and index are replaced": ({"type": "x", "index": 1}, {"type": "y", "index": 2}, {"type": "y", "index": 2}),
    "numbers add": ({"a": 1, "b": 0.5}, {"a": 2, "b": 1}, {"a": 3, "b": 1.5}),
    "true is no number": ({"a": True, "b": 1}, {"a": False, "b": True}, {"a": False, "b": True}),
    "objects merge": ({"a": {"value": "x"}}, {"a": {"value": "y", "c": 1}}, {"a": {"value": "xy", "c": 1}}),
    "values extend": ({"a": [1]}, {"a": [2, 2]}, {"a": [1, 2, 2]}),
    "another kind replaces": ({"a": "x", "b": {"c": 1}}, {"a": {"c": 1}, "b": [1]}, {"a": {"c": 1}, "b": [1]}),
    "items merge by index": (
        {"a": [{"index": 0, "value": "x"}, {"index": 1, "value": "y"}]},
        {"a": [{"index": 1, "value": "z"}, {"index": 0, "value": "w"}]},
        {"a": [{"value": "xw"}, {"value": "yz"}]},
    ),
    "items are kept in order": (
        {"a": [{"index": 4, "value": "e"}]},
        {
            "a": [
                {"index": 1, "value": "b"},
                {"index": 7, "value": "h"},
                {"index": 2, "value": "c"},
                {"index": 4, "value": "E"},
            ]
        },
        {"a": [{"value": "b"}, {"value": "c"}, {"value": "eE"}, {"value": "h"}]},
    ),
    "items that came whole are known by place": (
        {"a": [{"value": "x"}, 7, {"value": "y"}]},
        {"a": [{"index": 2, "value": "z"}, {"index": 3, "value": "new"}]},
        {"a": [{"value": "x"}, 7, {"value": "yz"}, {"value": "new"}]},
    ),
    "items without index are added": ({"a": [{"v": "x"}]}, {"a": [{"v": "y"}]}, {"a": [{"v": "x"}, {"v": "y"}]}),
    "content without index goes by place": (
        {"content": []},
        {"content": [{"type": "text", "text": {"value": "x"}}]},
        {"content": [{"type": "text", "text": {"value": "x"}}]},
    ),
    "an index that is none": ({"a": [{"index": "0"}]}, {"a": [{"index": "0", "v": 1}]}, {"a": [{}, {"v": 1}]}),
    "a part begins with what it must have": (
        {},
        {"content": [{"index": 0, "type": "text", "text": {"annotations": []}}, {"index": 1, "type": ["odd"]}]},
        {"content": [{"type": "text", "text": {"value": "", "annotations": []}}, {"type": ["odd"]}]},
    ),
}


@pytest.mark.parametrize("name", MERGES)
def test_merge(name: str) -> None:
    """Each rule of merging holds, and the delta itself stays as it was."""
    base, delta, merged = json.loads(json.dumps(MERGES[name]))
    before = json.dumps(delta)
    merge(base, delta)
    assert settle(base) == merged
    assert json.dumps(delta) == before
    merge(base, {"a": "more", "content": []})
    assert json.dumps(delta) == before


@pytest.mark.parametrize(("known", "more"), [(1.5, 10**400), (10**400, 1.5)], ids=["more", "known"])
def test_a_number_too_large_to_add(known: float, more: float) -> None:
    """Two numbers that cannot be added are a `DecodeError`."""
    snapshot = Snapshot(ar.Message, MESSAGE)
    snapshot.add({"odd": known})
    with pytest.raises(ar.DecodeError, match="too large"):
        snapshot.add({"odd": more})


def test_content_without_index_continues() -> None:
    """Content that never tells its index, as DashScope's, is one text and not many."""
    message: dict[str, Any] = {}
    for word in ("Well", ", ", "hi."):
        merge(message, {"content": [{"type": "text", "text": {"value": word}}]})
    assert settle(message) == {"content": [{"type": "text", "text": {"value": "Well, hi."}}]}


def test_deltas_that_repeat_what_they_are(payloads: Path) -> None:
    """A stream that tells role, ids and names with each delta, as DashScope's does the role, does not double them."""
    events = SSEDecoder().feed((payloads / "dashscope__stream_dialect.sse").read_bytes())
    snapshot = Snapshot(ar.Message, MESSAGE)
    [delta] = [plain_delta(event.data) for event in events if event.name == "thread.message.delta"]
    for _ in range(2):
        snapshot.add(delta)
    assert (snapshot.value.role, snapshot.value.text) == ("assistant", "99")
    step = Snapshot(ar.RunStep, STEP | {"type": "tool_calls", "step_details": {"type": "tool_calls", "tool_calls": []}})
    for piece in ("{", "}"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": piece}}
        step.add({"step_details": {"type": "tool_calls", "tool_calls": [call]}})
    assert step.value.step_details == ar.ToolCallsStepDetails(
        tool_calls=(ar.FunctionToolCall(id="call_1", name="f", arguments="{}"),)
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "type", "a", "text", "content"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "content", "tool_calls"]), JSON, max_size=2), max_size=4))
def test_merge_takes_anything(deltas: list[dict[str, Any]]) -> None:
    """No delta whatsoever makes merging fail, and what comes out is JSON."""
    into: dict[str, Any] = {}
    for delta in deltas:
        merge(into, delta)
        json.dumps(settle(into))


@given(st.lists(st.text(max_size=5)), st.integers(0, 3))
def test_pieces_make_the_text(words: list[str], parts: int) -> None:
    """Text cut into any deltas, dealt out over any parts, is the text again, whenever it is read in between."""
    snapshot = Snapshot(ar.Message, MESSAGE)
    for number, word in enumerate(words):
        index = number % (parts + 1)
        snapshot.add({"content": [{"index": index, "type": "text", "text": {"value": word}}]})
        if number % 3 == 0:
            assert snapshot.value.content
    texts = [part.value for part in snapshot.value.content if isinstance(part, ar.TextContent)]
    assert texts == ["".join(words[part :: parts + 1]) for part in range(min(parts + 1, len(words)))]


def test_merging_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each delta costs the same, however long the message is already; only reading costs the whole, once."""
    snapshot = Snapshot(ar.Message, MESSAGE)
    merges, settled = [0], [0]
    plain_merge, plain_settle = _events.merge, _events.settle

    def counted_merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
        merges[0] += 1
        plain_merge(into, delta)

    def counted_settle(value: Any) -> Any:
        settled[0] += 1
        return plain_settle(value)

    monkeypatch.setattr(_events, "merge", counted_merge)
    monkeypatch.setattr(_events, "settle", counted_settle)
    per_delta = []
    for _ in range(2000):
        before = merges[0]
        snapshot.add({"content": [{"index": 0, "type": "text", "text": {"value": "x"}}]})
        per_delta.append(merges[0] - before)
    assert set(per_delta[1:]) == {3}  # The message, the part, its text.
    assert settled[0] == 0
    assert len(snapshot.value.text) == 2000
    once = settled[0]
    assert snapshot.value is snapshot.value
    assert settled[0] == once


def test_a_snapshot_that_is_no_object() -> None:
    """Deltas that do not add up to the object are a `SchemaError` with the path, when the snapshot is read."""
    snapshot = Snapshot(ar.Message, MESSAGE)
    snapshot.add({"role": {"is": "odd"}})
    with pytest.raises(ar.SchemaError) as caught:
        _ = snapshot.value
    assert caught.value.path == "$.role"


@pytest.mark.parametrize("room", range(0, 900, 50))
def test_nested_too_deeply(room: int) -> None:
    """A delta that is nested as deeply as JSON is still read, or deeper, is a `DecodeError` and no `RecursionError`."""
    data = b'{"delta": {"deep": %b}}' % (b"[" * (900 - room) + b"]" * (900 - room))
    snapshot = Snapshot(ar.Message, MESSAGE)
    with suppress(ar.DecodeError):
        snapshot.add(plain_delta(data))
        assert snapshot.value.id == "msg_1"


def test_nested_far_too_deeply() -> None:
    """Reading a snapshot is as safe as merging into it."""
    deep: dict[str, Any] = {}
    snapshot = Snapshot(ar.Message, MESSAGE)
    snapshot.add({"deep": {}})
    inner = snapshot._plain["deep"]
    for _ in range(2000):
        inner["deep"] = deep = {}
        inner = deep
    with pytest.raises(ar.DecodeError):
        _ = snapshot.value
    with pytest.raises(ar.DecodeError):
        snapshot.add({"deeper": snapshot._plain["deep"]})


def test_replace_and_go_on() -> None:
    """A whole object takes the place of what was merged, and further deltas continue it."""
    snapshot = Snapshot(ar.Message, MESSAGE)
    snapshot.add({"content": [{"index": 0, "type": "text", "text": {"value": "lost"}}]})
    whole = {**MESSAGE, "content": [{"type": "text", "text": {"value": "Hi", "annotations": []}}]}
    event = read("thread.message.in_progress", whole)
    assert isinstance(event, ar.MessageInProgressEvent)
    snapshot.replace(json.dumps(whole).encode(), event.message)
    assert snapshot.value is event.message
    snapshot.add({"content": [{"index": 0, "type": "text", "text": {"value": " there"}}]})
    assert snapshot.value.text == "Hi there"
    assert event.message.text == "Hi"


def recorded() -> list[Path]:
    """Return the recorded streams."""
    folder = Path(__file__).parents[3] / "shared" / "payloads"
    return sorted(folder.glob("*.sse"))


def merged_and_told(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield for each message and step of a stream what its deltas made of it, and what it was told to be at its end."""
    snapshots: dict[str, Snapshot[Any]] = {}
    had_delta: set[str] = set()
    for event in SSEDecoder().feed(path.read_bytes()):
        try:
            typed = decode_event(event, "thread_1")
        except ar.DecodeError:
            assert path.name.startswith("spec__"), "only the description's own examples hold lines that are not JSON"
            continue
        match typed:
            case ar.MessageCreatedEvent(message=whole) | ar.RunStepCreatedEvent(step=whole):
                snapshots[whole.id] = Snapshot(type(whole), {})
                snapshots[whole.id].replace(event.data, whole)
            case ar.MessageDeltaEvent(delta=delta) | ar.RunStepDeltaEvent(delta=delta) if delta.id in snapshots:
                snapshots[delta.id].add(plain_delta(event.data))
                had_delta.add(delta.id)
            case ar.MessageCompletedEvent(message=whole) if whole.id in had_delta:
                yield snapshots[whole.id].value.content, whole.content
            case ar.RunStepCompletedEvent(step=whole) if whole.id in had_delta:
                yield snapshots[whole.id].value.step_details, whole.step_details


def comparable(told: Any) -> Any:
    """Return *told* without what only deltas tell (empty quotes) or only the whole (results of a file search)."""
    if isinstance(told, ar.ToolCallsStepDetails):
        return [getattr(call, "arguments", call.type) for call in told.tool_calls]
    if isinstance(told, ar.MessageCreationStepDetails):
        return told
    return [(part.value, [attrs.evolve(note, quote=note.quote or None) for note in part.annotations]) for part in told]


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_recorded_deltas_make_what_the_server_tells(path: Path) -> None:
    """What the deltas of each recorded stream add up to is what the server tells in the end.

    The examples of the description leave deltas out ("..."), so there the end is only as long or longer.
    """
    for merged, told in merged_and_told(path):
        if path.name.startswith("spec__") and isinstance(told, tuple):
            assert told[0].value.startswith(merged[0].value[:5])
        else:
            assert comparable(merged) == comparable(told)


def test_recordings_are_looked_at(payloads: Path) -> None:
    """The recorded streams hold at least ten messages and steps whose deltas can be held against their end."""
    assert sum(1 for path in payloads.glob("*.sse") for _ in merged_and_told(path)) >= 10

"""Server-sent events -> typed events, and deltas merged into snapshots. Pure: no loop, no socket."""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import attrs

from asyncruns import models as m
from asyncruns._codec import decode, decode_plain, structure_plain
from asyncruns._sse import ServerSentEvent
from asyncruns.errors import DecodeError, SchemaError

T = TypeVar("T")
EventT = TypeVar("EventT")

_DONE = b"[DONE]"


def _by_name(*kinds: type[EventT]) -> Mapping[str, Callable[..., EventT]]:
    return {attrs.fields(cast("Any", kind)).name.default: kind for kind in kinds}


_RUN_EVENTS = _by_name(
    m.RunCreatedEvent,
    m.RunQueuedEvent,
    m.RunInProgressEvent,
    m.RunRequiresActionEvent,
    m.RunCompletedEvent,
    m.RunIncompleteEvent,
    m.RunFailedEvent,
    m.RunCancellingEvent,
    m.RunCancelledEvent,
    m.RunExpiredEvent,
)
_STEP_EVENTS = _by_name(
    m.RunStepCreatedEvent,
    m.RunStepInProgressEvent,
    m.RunStepCompletedEvent,
    m.RunStepFailedEvent,
    m.RunStepCancelledEvent,
    m.RunStepExpiredEvent,
)
_MESSAGE_EVENTS = _by_name(
    m.MessageCreatedEvent,
    m.MessageInProgressEvent,
    m.MessageCompletedEvent,
    m.MessageIncompleteEvent,
)

_BLANK: Mapping[str, Mapping[str, Any]] = {
    "text": {"text": {"value": ""}},
    "image_file": {"image_file": {"file_id": ""}},
    "image_url": {"image_url": {"url": ""}},
    "refusal": {"refusal": ""},
    "function": {"id": "", "function": {"name": "", "arguments": ""}},
    "code_interpreter": {"id": "", "code_interpreter": {"input": ""}},
    "file_search": {"id": ""},
}
"""What an item of that type has at least; a delta may say less."""

_TOLD_WHOLE = re.compile("role|name|object|status|(.*_)?id")
"""Names of the strings that say which thing it is, and do not come in pieces."""


def decode_event(event: ServerSentEvent, thread_id: str | None = None) -> m.StreamEvent:
    """Read one event of a run's stream.

    Args:
        event: As it came.
        thread_id: The thread, where it is known: DashScope's runs tell it only at first.

    Raises:
        DecodeError: The data of a known event is not JSON.
        SchemaError: It is JSON of another shape.
    """
    name, data = event.name, event.data
    if name == "thread.message.delta":
        return m.MessageDeltaEvent(delta=decode(data, m.MessageDelta))
    if name == "thread.run.step.delta":
        return m.RunStepDeltaEvent(delta=decode(data, m.RunStepDelta))
    if name in _RUN_EVENTS:
        return _RUN_EVENTS[name](run=_run(data, thread_id))
    if name in _STEP_EVENTS:
        return _STEP_EVENTS[name](step=decode(data, m.RunStep))
    if name in _MESSAGE_EVENTS:
        return _MESSAGE_EVENTS[name](message=decode(data, m.Message))
    if name == "thread.created":
        return m.ThreadCreatedEvent(thread=decode(data, m.Thread))
    if name == "error":
        return _error_event(data)
    # Some servers name the last event `done`, some leave it nameless; the data alone tells it from other events.
    if data.strip() == _DONE:
        return m.DoneEvent()
    return m.UnknownEvent(name=name, data=_plain_or_text(data))


def _run(data: bytes, thread_id: str | None) -> m.Run:
    try:
        return decode(data, m.Run)
    except SchemaError as error:
        if thread_id is None or error.path != "$.thread_id":
            raise
    return structure_plain({"thread_id": thread_id} | decode_plain(data), m.Run)


class Snapshot(Generic[T]):
    """An object of a stream as far as it has come: the last whole one, with the deltas since.

    Adding a delta costs time in proportion to the delta, however much there is already; reading `value` costs time in
    proportion to the whole, once for the deltas in between.
    """

    def __init__(self, model: type[T], base: Mapping[str, Any]) -> None:
        self._model = model
        self._plain: dict[str, Any] = _grown(base)
        self._whole: bytes | None = None
        self._value: T | None = None

    def replace(self, data: bytes, value: T) -> None:
        """Take a whole object, as the bytes and as the model."""
        self._whole, self._value = data, value

    def add(self, delta: Mapping[str, Any]) -> None:
        """Merge the plain `delta` object of a delta event.

        Raises:
            DecodeError: It is nested too deeply, or a number in it is too large to be added.
        """
        if self._whole is not None:
            self._plain, self._whole = decode_plain(self._whole), None
        with _checked():
            merge(self._plain, delta)
        self._value = None

    @property
    def value(self) -> T:
        """The object as it is now.

        Raises:
            SchemaError: The deltas do not add up to one.
            DecodeError: They are nested too deeply.
        """
        if self._value is None:
            with _checked():
                self._value = structure_plain(settle(self._plain), self._model)
        return self._value


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise DecodeError("The event is nested too deeply.") from None
    except OverflowError:
        raise DecodeError("The event has a number that is too large to be added to a fraction.") from None


class _Text:
    """A string that grows by pieces, joined when it is read."""

    __slots__ = ("pieces",)

    def __init__(self, *pieces: str) -> None:
        self.pieces = list(pieces)

    def __str__(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0]


def merge(into: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Merge *delta* into the object *into*, in place.

    What is missing or null is taken, `index` and `type` are replaced, and so are roles, names and ids (though not by
    an empty one); other strings are continued, numbers added, objects merged, lists of values extended, and lists of
    objects merged item by item, by their `index`. (These are the rules of openai-python's own stream helper, but for
    roles, names and ids: it continues them too, and so doubles the role that DashScope tells with each delta.)
    """
    for key, value in delta.items():
        known = into.get(key)
        if known is None and isinstance(value, list):
            into[key] = known = []
        if known is None or key in ("index", "type"):
            into[key] = _grown(value)
        elif isinstance(value, str) and isinstance(known, str | _Text):
            into[key] = value or known if _TOLD_WHOLE.fullmatch(key) else _continued(known, value)
        elif isinstance(value, Mapping) and isinstance(known, dict):
            merge(known, value)
        elif isinstance(value, list) and isinstance(known, list):
            _merge_list(known, value, by_place=key in ("content", "tool_calls"))
        elif _is_number(value) and _is_number(known):
            into[key] = known + value
        elif value is not None:
            into[key] = _grown(value)


def settle(value: Any) -> Any:
    """Return *value* as plain JSON: grown strings joined, and the `index` of merged items left out."""
    if isinstance(value, _Text):
        return str(value)
    if isinstance(value, dict):
        return {key: settle(item) for key, item in value.items()}
    if isinstance(value, list):
        return [settle(_without_index(item)) for item in value]
    return value


def _grown(value: Any) -> Any:
    """Return a copy of *value* that can be merged into."""
    if isinstance(value, Mapping):
        return {key: _grown(item) for key, item in value.items()}
    return [_grown(item) for item in value] if isinstance(value, list) else value


def _continued(known: str | _Text, more: str) -> _Text:
    if isinstance(known, str):
        return _Text(known, more)
    known.pieces.append(more)
    return known


def _merge_list(known: list[Any], delta: list[Any], *, by_place: bool) -> None:
    """Merge item by item; *known* is kept in the order of `index`, so that finding one takes no walk.

    DashScope leaves the `index` of content out; there (*by_place*) the place in the delta is meant.
    """
    if known and isinstance(known[0], dict) and _index(known[0]) is None:
        _number(known)
    for at, item in enumerate(delta):
        index = _index(item)
        if index is None and by_place and isinstance(item, Mapping):
            index = at
        place = len(known) if index is None else bisect_left(known, index, key=_index_or_0)
        if place < len(known) and _index(known[place]) == index:
            merge(known[place], item)
        else:
            known.insert(place, begun := _begun(item))
            if index is not None and isinstance(begun, dict):
                begun["index"] = index


def _number(items: list[Any]) -> None:
    """Give each object its place as its `index`: they came whole, without."""
    for place, item in enumerate(items):
        if isinstance(item, dict):
            item["index"] = place


def _begun(item: Any) -> Any:
    """Return a new item of a list, with what its type must have and its first delta may lack."""
    kind = item.get("type") if isinstance(item, Mapping) else None
    if not isinstance(kind, str) or kind not in _BLANK:
        return _grown(item)
    begun: dict[str, Any] = _grown(_BLANK[kind])
    merge(begun, item)
    return begun


def _index(item: object) -> int | None:
    index = item.get("index") if isinstance(item, Mapping) else None
    return index if isinstance(index, int) else None


def _index_or_0(item: object) -> int:
    return _index(item) or 0


def _without_index(item: Any) -> Any:
    if isinstance(item, dict) and "index" in item:
        return {key: value for key, value in item.items() if key != "index"}
    return item


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _error_event(data: bytes) -> m.ErrorEvent:
    """Read an error in any shape seen: flat as published, nested in `error` as some proxies send it, or text."""
    plain = _plain_or_text(data)
    if isinstance(plain, dict) and isinstance(plain.get("error"), dict | str):
        plain = plain["error"]
    if not isinstance(plain, dict):
        return m.ErrorEvent(message=str(plain))
    message, code = plain.get("message"), plain.get("code") or plain.get("type")
    return m.ErrorEvent(message=str(message or plain), code=None if code is None else str(code))


def _plain_or_text(data: bytes) -> Any:
    try:
        return decode_plain(data)
    except DecodeError:
        return data.decode("utf-8", "replace")


def plain_delta(data: bytes) -> Mapping[str, Any]:
    """Return the inner `delta` object of a delta event."""
    plain = decode_plain(data)
    delta = plain.get("delta") if isinstance(plain, dict) else None
    if not isinstance(delta, dict):
        raise SchemaError("The event holds no delta.", path="$.delta")
    return delta

"""The events of live runs: what each change tells those who listen, before it goes over the wire."""

import re
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from asyncruns.emulator._json import encode
from asyncruns.emulator._samples import shown_step
from asyncruns.emulator._store import Body, Resource, Run, Step

# A stream ends with the run, or where the run waits for its caller.
LAST_EVENTS = frozenset(
    f"thread.run.{status}"
    for status in ("cancelled", "failed", "completed", "incomplete", "expired", "requires_action")
)
_MOST_WORDS = 32
_MOST_ARGUMENTS = 5


class Event(NamedTuple):
    """A server-sent event: its name and its data, which holds no line break."""

    name: str
    data: bytes


DONE = Event("done", b"[DONE]")


class Feed:
    """The events of one live run that were not sent yet.

    Args:
        with_content: Whether file search results show their content.
    """

    def __init__(self, *, with_content: bool = False) -> None:
        self.events: deque[Event] = deque()
        self.has_ended = False
        self._with_content = with_content

    def __call__(self, name: str, source: Resource | Body) -> None:
        """Write down an event about *source* as it is now."""
        if isinstance(source, Step):
            source = shown_step(source, with_content=self._with_content)
        data = source.json() if isinstance(source, Resource) else encode(source)
        self.events.append(Event(name, data))
        if name in LAST_EVENTS:
            self.has_ended = True
            self.events.append(DONE)


def tell(run: Run, name: str, source: Resource | Body | None = None) -> None:
    """Tell who listens to *run* of an event; it is about the run itself unless *source* says otherwise."""
    if run.listener is not None:
        run.listener(name, run if source is None else source)
        if name in LAST_EVENTS:
            run.listener = None


def message_delta(message_id: str, text: str, *, is_first: bool) -> Body:
    """Return the data of an event that adds *text* to a message."""
    added = {"value": text, "annotations": []} if is_first else {"value": text}
    content = [{"index": 0, "type": "text", "text": added}]
    return {"id": message_id, "object": "thread.message.delta", "delta": {"content": content}}


def step_delta(step_id: str, call: Body) -> Body:
    """Return the data of an event that adds a part of a tool call to a step."""
    details = {"type": "tool_calls", "tool_calls": [call]}
    return {"id": step_id, "object": "thread.run.step.delta", "delta": {"step_details": details}}


def text_pieces(text: str) -> list[str]:
    """Return *text* in at most 32 pieces of whole words, which joined are the text."""
    words = re.findall(r"\s*\S+|\s+", text)
    size = -(-len(words) // _MOST_WORDS) or 1
    return ["".join(words[start : start + size]) for start in range(0, len(words), size)]


def call_pieces(index: int, call: Body) -> Iterator[tuple[Body, Body]]:
    """Yield a tool call in pieces: what each adds, and the call as it then stands."""
    kind, inner = call["type"], call[call["type"]]
    growing = {"function": "arguments", "code_interpreter": "input"}.get(kind)
    if growing is None:
        yield {"index": index, **call}, call
        return
    now = {**inner, growing: ""}
    yield {"index": index, **call, kind: now}, {**call, kind: now}
    text: str = inner[growing]
    size = -(-len(text) // _MOST_ARGUMENTS) or 1
    for start in range(0, len(text), size):
        part = text[start : start + size]
        now = {**now, growing: now[growing] + part}
        yield {"index": index, "type": kind, kind: {growing: part}}, {**call, kind: now}

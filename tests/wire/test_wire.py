"""The fast road: equal parts are read once and shared, and the road gives what the slow one gives."""

import json

import pytest

from asyncruns._codec import _Reader, decode_page
from asyncruns._shapes import structure
from asyncruns._wire import _SHARED_BYTES, SHARED, _Shared
from asyncruns.models import FunctionTool, Message, Run, Tool

RUN = {
    "id": "run_1",
    "thread_id": "thread_1",
    "status": "queued",
    "instructions": "Be brief.",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1}}}],
    "tool_resources": {"code_interpreter": {"file_ids": ["f"]}},
    "truncation_strategy": {"type": "auto", "last_messages": None},
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_object"},
}


def test_equal_parts_of_runs_are_one_object():
    """Runs of a thread repeat their tools and instructions; each is kept once."""
    items = [RUN | {"id": f"run_{n}"} for n in range(3)]
    first, *others = decode_page(json.dumps({"data": items}).encode(), Run).data
    for run in others:
        assert all(getattr(run, name) is getattr(first, name) for name in SHARED)
        assert run.id != first.id


def test_parts_that_differ_are_not_mixed_up():
    """Each run has its own, in whatever order they come."""
    items = [RUN | {"instructions": text} for text in ("a", "b", "a", None, "b", None)]
    runs = decode_page(json.dumps({"data": items}).encode(), Run).data
    assert [run.instructions for run in runs] == ["a", "b", "a", None, "b", None]


@pytest.mark.parametrize("name", sorted(SHARED))
@pytest.mark.parametrize("between", [[], [RUN], [RUN, RUN | {"instructions": "x"}]])
def test_a_part_may_be_missing_or_null_at_any_time(name, between):
    """The first run ever read, or one after others: the default stands in, as on the slow road."""
    reader = _Reader(Run)
    for value in between:
        reader.one(json.dumps(value).encode())
    for value in ({key: item for key, item in RUN.items() if key != name}, RUN | {name: None}):
        assert reader.one(json.dumps(value).encode()) == structure(value, Run)


def test_a_list_may_be_missing_in_the_first_object_ever_read():
    """So for the lists of a message."""
    value = {"id": "msg_1", "thread_id": "thread_1", "role": "user"}
    assert _Reader(Message).one(json.dumps(value).encode()) == structure(value, Message)


def test_what_is_kept_is_bounded():
    """Beyond its limit of bytes everything is forgotten and learnt anew, and what is read stays right."""
    shared = _Shared(tuple[Tool, ...])
    size = _SHARED_BYTES // 3
    texts = [json.dumps([{"type": "function", "function": {"name": letter * size}}]).encode() for letter in "abcd"]
    for text, letter in zip(texts * 2, "abcd" * 2, strict=True):
        assert shared[text] == (FunctionTool(name=letter * size),)
        assert sum(map(len, shared)) <= _SHARED_BYTES
    assert shared[texts[3]] is shared[texts[3]]

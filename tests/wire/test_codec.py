"""Bytes become objects by three paths that agree, and nothing but the package's own errors comes out of them."""

import copy
import json
import math
import pickle
import time
from contextlib import suppress

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncruns import AsyncRunsError, DecodeError, ProtocolError, SchemaError, models
from asyncruns._codec import (
    check_told_once,
    decode,
    decode_page,
    decode_plain,
    encode,
    is_cut_short,
    peek_cursor,
)
from asyncruns._events import decode_event
from asyncruns._protocol import Answer, judge
from asyncruns._shapes import unstructure
from asyncruns._slices import cut_page, read_item, split_page
from asyncruns._sse import ServerSentEvent
from asyncruns._wire import MAX_DEPTH
from asyncruns.models import Message, MessageDeleted, Run, RunStep, TextContent, Thread, ThreadDeleted

LAST_ERROR = {"code": "tool_user_error", "message": "no"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
TOOLS = [
    {"type": "code_interpreter"},
    {"type": "file_search", "file_search": {"max_num_results": 5, "ranking_options": {"score_threshold": 0.5}}},
    {"type": "file_search"},
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"a": [1]}, "strict": True}},
]
RUN = {
    "id": "run_1",
    "object": "thread.run",
    "created_at": 1_750_000_000,
    "thread_id": "thread_1",
    "assistant_id": "asst_1",
    "status": "requires_action",
    "started_at": 1_750_000_001,
    "expires_at": 1_750_000_600,
    "cancelled_at": None,
    "failed_at": 1_750_000_003,
    "completed_at": 1_750_000_004,
    "required_action": {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        },
    },
    "last_error": LAST_ERROR,
    "model": "gpt",
    "instructions": "Be brief. é",
    "tools": TOOLS,
    "tool_resources": {"code_interpreter": {"file_ids": ["f"]}},
    "metadata": {"k": "v"},
    "incomplete_details": {"reason": "max_prompt_tokens"},
    "usage": USAGE,
    "temperature": 1.0,
    "top_p": 0.5,
    "reasoning_effort": "low",
    "max_prompt_tokens": 256,
    "max_completion_tokens": 257,
    "truncation_strategy": {"type": "last_messages", "last_messages": 3},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}, "strict": None}},
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": True,
}
STEP = {
    "id": "step_1",
    "object": "thread.run.step",
    "created_at": 1_750_000_000,
    "assistant_id": "asst_1",
    "thread_id": "thread_1",
    "run_id": "run_1",
    "type": "tool_calls",
    "status": "completed",
    "step_details": {
        "type": "tool_calls",
        "tool_calls": [
            {
                "id": "call_1",
                "type": "code_interpreter",
                "code_interpreter": {
                    "input": "1",
                    "outputs": [{"type": "logs", "logs": "x"}, {"type": "image", "image": {"file_id": "file_1"}}],
                },
            },
            {
                "id": "call_2",
                "type": "file_search",
                "file_search": {
                    "ranking_options": {"ranker": "auto", "score_threshold": 0.1},
                    "results": [
                        {
                            "file_id": "file_1",
                            "file_name": "a.txt",
                            "score": 0.9,
                            "content": [{"type": "text", "text": "hello"}],
                        }
                    ],
                },
            },
            {"id": "call_3", "type": "function", "function": {"name": "f", "arguments": "{}", "output": None}},
        ],
    },
    "last_error": LAST_ERROR,
    "expired_at": 1_750_000_009,
    "cancelled_at": 1_750_000_001,
    "failed_at": 1_750_000_002,
    "completed_at": 1_750_000_003,
    "metadata": {"k": "v"},
    "usage": USAGE,
}
MESSAGE = {
    "id": "msg_1",
    "object": "thread.message",
    "created_at": 1_750_000_000,
    "thread_id": "thread_1",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_tokens"},
    "completed_at": 1_750_000_001,
    "incomplete_at": 1_750_000_002,
    "role": "assistant",
    "content": [
        {
            "type": "text",
            "text": {
                "value": "hello",
                "annotations": [
                    {
                        "type": "file_citation",
                        "text": "[1]",
                        "file_citation": {"file_id": "file_1", "quote": "q"},
                        "start_index": 0,
                        "end_index": 3,
                    },
                    {"type": "file_path", "text": "p", "file_path": {"file_id": "f"}, "start_index": 0, "end_index": 1},
                    {"type": "url_citation", "text": "u", "url_citation": {"url": "https://x", "title": "t"}},
                ],
            },
        },
        {"type": "image_file", "image_file": {"file_id": "file_1", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x", "detail": "auto"}},
        {"type": "refusal", "refusal": "no"},
    ],
    "assistant_id": "asst_1",
    "run_id": "run_1",
    "attachments": [{"file_id": "file_1", "tools": TOOLS[:2]}],
    "metadata": {"k": "v"},
}
THREAD = {
    "id": "thread_1",
    "object": "thread",
    "created_at": 1_750_000_000,
    "metadata": {"k": "v"},
    "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}},
}
FULL = [
    (Run, RUN),
    (RunStep, STEP),
    (Message, MESSAGE),
    (Thread, THREAD),
    (ThreadDeleted, {"id": "thread_1", "object": "thread.deleted", "deleted": True}),
    (MessageDeleted, {"id": "msg_1", "object": "thread.message.deleted", "deleted": False}),
]
LEAST = [
    (Run, {"id": "run_1", "thread_id": "thread_1", "status": "queued"}),
    (
        RunStep,
        {
            "id": "step_1",
            "run_id": "run_1",
            "thread_id": "thread_1",
            "type": "message_creation",
            "status": "completed",
            "step_details": {"type": "message_creation", "message_creation": {"message_id": "msg_1"}},
        },
    ),
    (Message, {"id": "msg_1", "thread_id": "thread_1", "role": "user"}),
    (Thread, {"id": "thread_1"}),
]
ALL = [pytest.param(model, value, id=f"{model.__name__} {n}") for n, (model, value) in enumerate(FULL + LEAST)]


def data(value):
    """Write JSON as servers do."""
    return json.dumps(value).encode()


def page_of(*items, **frame):
    """Write a page."""
    return data({"object": "list", "data": items, "first_id": None, "last_id": None, "has_more": False, **frame})


def along_every_path(model, value):
    """Read *value* as it is, with an unknown field, and with a field in a shape that only cattrs takes."""
    plain = decode(data(value), model)
    with_more = decode(data(value | {"later": 1}), model)
    assert with_more.extra["later"] == 1
    extra = {name: item for name, item in with_more.extra.items() if name != "later"}
    # An inner list of one instead of an object, or a float instead of an integer, is for cattrs alone.
    odd = value | {"created_at": float(value.get("created_at") or 7)}
    lenient = decode(data(odd), model)
    if "created_at" in attrs.fields_dict(model):
        lenient = attrs.evolve(lenient, created_at=plain.created_at)
    return plain, attrs.evolve(with_more, extra=extra), lenient


class TestThreePaths:
    """What the same content gives, whichever way it is read."""

    @pytest.mark.parametrize(("model", "value"), [p for p in ALL if "Deleted" not in p.id])
    def test_objects_are_equal(self, model, value):
        """Conformant, with an unknown field, and with a float for an integer: one object."""
        plain, with_more, lenient = along_every_path(model, value)
        assert plain == with_more
        assert plain == lenient
        assert plain.extra == {}

    @pytest.mark.parametrize(("model", "value"), ALL)
    def test_null_for_an_optional_field_is_as_if_it_were_left_out(self, model, value):
        """Servers differ in which of the two they do; lists and mappings are then empty, never None."""
        needed = {f.name for f in attrs.fields(model) if f.default is attrs.NOTHING}
        for field in attrs.fields(model):
            if field.name in needed | {"extra"}:
                continue
            left_out = {name: item for name, item in value.items() if name != field.name}
            for read in (decode(data(left_out), model), *along_every_path(model, left_out | {field.name: None})):
                if field.name == "created_at":
                    read = attrs.evolve(read, created_at=None)
                assert read == decode(data(left_out), model), field.name
                default = field.default
                assert getattr(read, field.name) == (
                    default.factory() if isinstance(default, attrs.Factory) else default
                )

    @pytest.mark.parametrize(("model", "value"), ALL)
    def test_a_page_of_any_mixture_is_equal(self, model, value):
        """An odd item beside a conformant one changes only itself."""
        plain = decode(data(value), model)
        for odd in (value, value | {"later": 1}, value | {"metadata": None, "later": [2]}):
            page = decode_page(page_of(value, odd, value, has_more=True, last_id="x"), model)
            assert page.data == (plain, decode(data(odd), model), plain)
            assert (page.has_more, page.last_id, page.first_id) == (True, "x", None)

    def test_a_float_beside_an_unknown_field(self):
        """One item for each path in one page."""
        items = [RUN, RUN | {"later": 1}, RUN | {"created_at": 1_750_000_000.0}]
        plain, more, lenient = decode_page(page_of(*items), Run).data
        assert plain == lenient == attrs.evolve(more, extra={})

    @pytest.mark.parametrize("later", [None, 1, "x", [1, {"a": None}], {"b": 1.5}])
    @pytest.mark.parametrize(("model", "value"), ALL)
    def test_unknown_fields_are_kept(self, model, value, later):
        """Top-level fields of tomorrow stand in `extra`, as sent, also on the lenient path."""
        assert decode(data(value | {"later": later}), model).extra == {"later": later}
        assert decode(data(value | {"later": later, "metadata": None}), model).extra["later"] == later

    @pytest.mark.parametrize("name", ["object", "created_at"])
    def test_another_object_word_is_no_unknown_field(self, name):
        """Some servers name the kind otherwise; it says nothing that the class does not say."""
        value = RUN | {"object": "run", name: 5.0 if name == "created_at" else "run"}
        assert decode(data(value), Run).extra == {}

    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1_750_000_000.0}])
    @pytest.mark.parametrize(
        ("sent", "expired_at", "extra"),
        [
            ({"expires_at": 5}, 5, {}),
            ({"expired_at": 6}, 6, {}),
            ({"expires_at": 5, "expired_at": None}, 5, {}),
            ({"expired_at": None, "expires_at": 5}, 5, {}),
            ({"expires_at": 5, "expired_at": 6}, 6, {"expires_at": 5}),
            ({"expired_at": 6, "expires_at": 5}, 6, {"expires_at": 5}),
            ({"expires_at": None, "expired_at": 6}, 6, {}),
            ({"expired_at": 6, "expires_at": None}, 6, {}),
            ({"expires_at": None}, None, {}),
        ],
    )
    def test_a_steps_expiry_under_either_name(self, sent, expired_at, extra, odd):
        """The documented name wins where both are sent, in whatever order, and nothing is lost."""
        value = {name: item for name, item in STEP.items() if name != "expired_at"} | sent | odd
        step = decode(data(value), RunStep)
        assert step.expired_at == expired_at
        assert {name: item for name, item in step.extra.items() if name != "later"} == extra

    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1_750_000_000.0}])
    def test_token_counts_under_other_names(self, odd):
        """DashScope's words for the counts."""
        usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
        run = decode(data(RUN | {"usage": usage} | odd), Run)
        assert run.usage == models.Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)


class TestOpenWords:
    """What nobody knows today is kept."""

    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1_750_000_000.0}])
    def test_in_a_run(self, odd):
        """A status, a tool, a tool choice and a format of tomorrow."""
        tool = {"type": "bing_grounding", "bing_grounding": {"connections": []}}
        value = RUN | {"status": "paused", "tools": [tool], "tool_choice": "maybe", "response_format": {"type": "xml"}}
        run = decode(data(value | odd), Run)
        assert (run.status, run.is_terminal, run.tool_choice) == ("paused", False, "maybe")
        assert run.tools == (models.UnknownTool(type="bing_grounding", data=tool),)
        assert run.response_format == models.UnknownResponseFormat(type="xml", data={"type": "xml"})
        assert unstructure(run)["tools"] == [tool]

    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1_750_000_000.0}])
    def test_in_a_step(self, odd):
        """Details and tool calls of types, or of none, that nobody knows; both ids and data stay."""
        details = {"type": "thinking", "thinking": {"text": "hm"}}
        step = decode(data(STEP | {"type": "thinking", "step_details": details} | odd), RunStep)
        assert step.step_details == models.UnknownStepDetails(type="thinking", data=details)
        calls = [{"id": "call_1", "type": "openapi", "openapi": {}}, {"id": "call_2"}, {"type": 5}]
        step = decode(data(STEP | {"step_details": {"type": "tool_calls", "tool_calls": calls}} | odd), RunStep)
        assert step.step_details.tool_calls == (
            models.UnknownToolCall(type="openapi", id="call_1", data=calls[0]),
            models.UnknownToolCall(type="", id="call_2", data=calls[1]),
            models.UnknownToolCall(type="", data=calls[2]),
        )
        outputs = [{"type": "video", "video": 1}]
        call = {"id": "c", "type": "code_interpreter", "code_interpreter": {"input": "", "outputs": outputs}}
        step = decode(data(STEP | {"step_details": {"type": "tool_calls", "tool_calls": [call]}} | odd), RunStep)
        [read] = step.step_details.tool_calls
        assert read.outputs == (models.UnknownCodeInterpreterOutput(type="video", data=outputs[0]),)

    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1_750_000_000.0}])
    def test_in_a_message(self, odd):
        """Content and annotations."""
        note = {"type": "footnote", "n": 1}
        content = [{"type": "audio", "audio": 1}, {"type": "text", "text": {"value": "x", "annotations": [note]}}]
        message = decode(data(MESSAGE | {"content": content} | odd), Message)
        assert message.content == (
            models.UnknownContent(type="audio", data=content[0]),
            TextContent(value="x", annotations=(models.UnknownAnnotation(type="footnote", data=note),)),
        )
        assert unstructure(message)["content"] == content

    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1_750_000_000.0}])
    def test_unknown_fields_inside(self, odd):
        """Fields of tomorrow in nested objects stand in the nested object's `extra`, in the wire's shape."""
        usage = USAGE | {"later_details": {"cached_tokens": 0}}
        tool = {"type": "function", "function": {"name": "f", "flavour": "mint"}, "beta": True}
        run = decode(data(RUN | {"usage": usage, "tools": [tool]} | odd), Run)
        assert run.usage.extra == {"later_details": {"cached_tokens": 0}}
        assert run.tools[0].extra == {"beta": True, "function": {"flavour": "mint"}}
        assert unstructure(run)["tools"] == [tool]
        assert unstructure(run)["usage"] == usage

    def test_the_text_of_a_message_in_a_list(self):
        """One self-hosted server wraps it so."""
        content = [{"type": "text", "text": [{"value": "x", "annotations": []}]}]
        assert decode(data(MESSAGE | {"content": content}), Message).text == "x"

    @pytest.mark.parametrize("created_at", [1_750_000_000_123, 1_750_000_000_123.0, -5])
    def test_moments_stay_as_sent(self, created_at):
        """Milliseconds are kept; `timestamp` reads them."""
        assert decode(data(RUN | {"created_at": created_at}), Run).created_at == created_at


class TestRefusals:
    """What cannot be read is told with its place."""

    @pytest.mark.parametrize("name", ["id", "thread_id", "status"])
    @pytest.mark.parametrize("odd", [{}, {"later": 1}, {"created_at": 1.0}])
    def test_a_missing_field_is_named(self, name, odd):
        """Alone, and in a page with the item's number."""
        value = {key: item for key, item in (RUN | odd).items() if key != name}
        with pytest.raises(SchemaError) as alone:
            decode(data(value), Run)
        assert alone.value.path.startswith("$")
        assert name in str(alone.value)
        with pytest.raises(SchemaError) as paged:
            decode_page(page_of(RUN, value), Run)
        assert paged.value.path.startswith("$.data[1]")
        assert name in str(paged.value)

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"id": 5}, "$.id"),
            ({"status": None}, "$.status"),
            ({"created_at": "yesterday"}, "$.created_at"),
            ({"created_at": 1.5}, "$.created_at"),
            ({"created_at": True}, "$.created_at"),
            ({"temperature": "hot"}, "$.temperature"),
            ({"parallel_tool_calls": 1}, "$.parallel_tool_calls"),
            ({"tools": {}}, "$.tools"),
            ({"tools": [5]}, "$.tools"),
            ({"metadata": []}, "$.metadata"),
            ({"metadata": {"a": 1}}, "$.metadata"),
            ({"usage": "much"}, "$.usage"),
            ({"usage": {"prompt_tokens": "x"}}, "$.usage.prompt_tokens"),
            ({"last_error": []}, "$.last_error"),
            ({"tool_choice": 5}, "$.tool_choice"),
            ({"required_action": {"submit_tool_outputs": {"tool_calls": [{"function": "f"}]}}}, "$.required_action"),
        ],
    )
    def test_a_wrong_type_is_named_by_its_path(self, changes, path):
        """The message says what was expected and what came."""
        with pytest.raises(SchemaError, match=r"expected|required|missing") as caught:
            decode(data(RUN | changes), Run)
        assert caught.value.path.startswith(path)

    @pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"5", b"true"])
    def test_what_is_no_object_is_refused(self, body):
        """As an object and as a page, by every reader."""
        for read in (
            lambda: decode(body, Run),
            lambda: decode_page(body, Run),
            lambda: split_page(body),
            lambda: cut_page(body),
        ):
            with pytest.raises(SchemaError) as caught:
                read()
            assert caught.value.path == "$"

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"error": {"message": "boom", "code": "x"}}', "boom"),
            (b'{"error": {"code": "x"}}', "{'code': 'x'}"),
            (b'{"error": "boom"}', "boom"),
        ],
    )
    def test_an_error_object_is_told_as_one(self, body, message):
        """The server said yes and meant no; its words are shown."""
        for read in (
            lambda: decode(body, Run),
            lambda: decode_page(body, Run),
            lambda: split_page(body),
            lambda: cut_page(body),
        ):
            with pytest.raises(ProtocolError) as caught:
                read()
            assert type(caught.value) is ProtocolError
            assert str(caught.value).endswith(message)

    def test_an_error_field_beside_an_id_is_only_a_field(self):
        """A run with a field `error` is a run, on the slow road too."""
        for odd in ({}, {"created_at": 1.0}):
            assert decode(data(RUN | {"error": "none"} | odd), Run).extra == {"error": "none"}

    @pytest.mark.parametrize(
        "frame", [{"has_more": "false"}, {"has_more": 0}, {"first_id": 5}, {"data": {}}, {"data": None}]
    )
    def test_a_page_with_a_wrong_frame_is_refused(self, frame):
        """`has_more` is true, false or not said; nothing is guessed from other values."""
        [name] = frame
        for read in (lambda body: decode_page(body, Run), split_page, cut_page):
            with pytest.raises(SchemaError) as caught:
                read(page_of(RUN, **frame))
            assert caught.value.path == f"$.{name}"

    def test_a_page_without_data_is_refused(self):
        """An object that is no page is not an empty page."""
        for read in (
            lambda: decode_page(b'{"object": "list"}', Run),
            lambda: split_page(b"{}"),
            lambda: cut_page(b"{}"),
        ):
            with pytest.raises(SchemaError) as caught:
                read()
            assert caught.value.path == "$.data"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b'{"id": "x"',
            b"{} {}",
            b'{"id": NaN}',
            b'{"temperature": 1e999}',
            b'{"later": Infinity}',
            b'{"later": 1, nonsense',
            b'{"later": 1, "id": "\xff"}',
            b'{"id": "\xff"}',
            b'{"id": "\\ud800"}',
            b'{"later": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b"[" * 100_000,
            b'{"data": [{"later": 1}, nonsense',
            b'{"data": ' + b"[" * 100_000,
            b"\xef\xbb\xbf\xef\xbb\xbf{}",
            b"<html>",
        ],
    )
    def test_what_is_no_json_is_refused(self, body):
        """Cut, doubled, NaN, not UTF-8, endlessly nested: one error."""
        readers = (
            lambda: decode(body, Run),
            lambda: decode_page(body, Run),
            lambda: split_page(body),
            lambda: cut_page(body),
        )
        for read in (*readers, lambda: decode_plain(body)):
            with pytest.raises(DecodeError, match="not readable JSON"):
                read()

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_any_bytes_give_an_object_or_an_error_of_ours(self, body):
        """No reader lets anything else out."""
        self.read_all(body)

    @settings(deadline=None)  # The first of its kind makes decoders.
    @given(position=st.integers(0, 5000), put=st.binary(max_size=3), cut=st.integers(0, 4))
    def test_damaged_answers_give_an_object_or_an_error_of_ours(self, position, put, cut):
        """So for answers of which a few bytes are other than they were."""
        for whole in (data(RUN), data(STEP), data({"later": 1} | RUN), page_of(RUN | {"tools": None}, RUN)):
            at = position % len(whole)
            self.read_all(whole[:at] + put + whole[at + cut :])

    @settings(deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda x: st.lists(x) | st.dictionaries(st.sampled_from([*RUN, *STEP, *MESSAGE, "later"]), x),
        )
    )
    def test_any_json_gives_an_object_or_an_error_of_ours(self, value):
        """So for JSON of any shape."""
        self.read_all(json.dumps(value).encode())

    def read_all(self, body):
        """Read *body* with every reader."""
        for model in (Run, RunStep, Message, Thread):
            for read in (decode, decode_page):
                with suppress(AsyncRunsError):
                    read(body, model)
        for other in (split_page, cut_page, decode_plain):
            with suppress(AsyncRunsError):
                other(body)


ODD_NAMES = [
    "",
    '"',
    "\\",
    "\\ud800",
    "\0",
    "\n",
    "\x7f",
    "é",
    "\u2028",
    "unknown_0",
    "made",
    "extra",
    "__class__",
    "self",
    "😀",
]


class TestNames:
    """A field may have any name that JSON can write."""

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_an_odd_name(self, name):
        """It is kept as any unknown field is, the first time and later, alone and in a page."""
        run = RUN | {name: [1]}
        for _ in range(2):
            assert decode(data(run), Run).extra == {name: [1]}
            assert [each.extra for each in decode_page(page_of(RUN, run), Run).data] == [{}, {name: [1]}]

    @settings(deadline=None, max_examples=50)
    @given(st.dictionaries(st.text(max_size=5), st.booleans() | st.text(max_size=3), max_size=4))
    def test_any_names(self, unknown):
        """So for any names at once."""
        unknown = {name: value for name, value in unknown.items() if name not in RUN}
        assert decode(data(RUN | unknown), Run).extra == unknown


def nested(levels, kind):
    """Return JSON nested so many levels: lists, objects, or both by turns, with company at each level."""
    ends = {"lists": ("[", "]"), "objects": ('{"a":', "}"), "both": ('[0,{"b":0,"a":', ',"c":0},1]')}
    opening, closing = ends[kind]
    pairs = levels // (2 if kind == "both" else 1)
    inside = "[]" if kind == "both" and levels % 2 else "1"
    return opening * pairs + inside + closing * pairs


BRIEF = {"id": "run_1", "thread_id": "thread_1", "status": "queued"}
PLACES = {
    "an unknown field": '"later": %s',
    "an unknown field, and an odd one": '"later": %s, "created_at": 1.0',
    "a tool": '"tools": [{"type": "function", "function": {"name": "f", "parameters": {"p": %s}}}]',
    "an unknown tool": '"tools": [{"type": "later", "p": %s}]',
    "an unknown field of a tool": '"tools": [{"type": "code_interpreter", "p": %s}]',
    "a format": '"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"p": %s}}}',
    "resources": '"tool_resources": {"p": %s}',
    "counts": '"usage": {"prompt_token_details": {"p": %s}}',
    "an unknown field of an error": '"last_error": {"message": "no", "p": %s}',
    "an unknown action": '"required_action": {"type": "later", "p": %s}',
}
"""Where a value of any shape may stand in a run."""


def run_with(place, value):
    """Return a run with *value* in that place, and how many levels of the run stand around it."""
    before = PLACES[place].partition("%s")[0]
    return f"{json.dumps(BRIEF)[:-1]}, {PLACES[place] % value}}}", 1 + sum(map(before.count, "[{")) - before.count("]")


class TestDepth:
    """An answer is nested 128 levels at most, and then everything that is done with objects can be done with it."""

    @pytest.mark.parametrize("kind", ["lists", "objects", "both"])
    @pytest.mark.parametrize("place", PLACES)
    def test_the_deepest_answer(self, place, kind):
        """It is read whole, alone and in a page, and can be shown, compared, pickled, copied and written again."""
        _, around = run_with(place, "1")
        value = nested(MAX_DEPTH - around - 2, kind)
        text, _ = run_with(place, value)
        [run] = decode_page(f'{{"data": [{text}]}}'.encode(), Run).data
        assert run == decode(text.encode(), Run)
        assert value.replace(" ", "") in json.dumps(unstructure(run)).replace(" ", "")
        assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301  # our own bytes
        assert copy.deepcopy(run) == run
        assert "run_1" in repr(run)
        assert attrs.asdict(run)["id"] == "run_1"

    @pytest.mark.parametrize("kind", ["lists", "objects", "both"])
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("beyond", [1, 30, 300])
    def test_a_deeper_one(self, place, kind, beyond):
        """It is refused wherever it is deep, alone and in a page, as is one that Python itself could not read."""
        _, around = run_with(place, "1")
        text, _ = run_with(place, nested(MAX_DEPTH - around + beyond, kind))
        for read in (lambda: decode(text.encode(), Run), lambda: decode_plain(text.encode())):
            with pytest.raises(DecodeError, match="nested deeper than 128 levels"):
                read()
        text, _ = run_with(place, nested(MAX_DEPTH - around - 2 + beyond, kind))
        with pytest.raises(DecodeError, match="nested deeper than 128 levels"):
            decode_page(f'{{"data": [{text}]}}'.encode(), Run)

    @pytest.mark.parametrize("kind", ["lists", "objects", "both"])
    def test_plain_values(self, kind):
        """The level is counted from the outermost list or object, whatever else the text holds."""
        wide = "[" + ",".join(["[]"] * 500) + "]"
        assert decode_plain(f"[{wide},{nested(MAX_DEPTH - 1, kind)}]".encode())
        with pytest.raises(DecodeError, match="nested deeper"):
            decode_plain(f"[{wide},{nested(MAX_DEPTH, kind)}]".encode())
        assert decode_plain(json.dumps("[" * 1000).encode()) == "[" * 1000

    @pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 100_000])
    def test_the_other_ways_in(self, levels):
        """An event is refused as an answer is; the body of a refusal, and an event nobody knows, are then text."""
        deep = nested(levels, "objects")
        for name in ("thread.run.created", "thread.message.delta", "thread.run.step.delta", "thread.message.created"):
            text = f'{{"id": "x", "thread_id": "t", "status": "queued", "delta": {{}}, "later": {deep}}}'
            with pytest.raises(DecodeError):
                decode_event(ServerSentEvent(name, text.encode()))
        assert decode_event(ServerSentEvent("later", deep.encode())).data == deep
        assert decode_event(ServerSentEvent("error", deep.encode())).message == deep
        error = judge(Answer(status=400, headers={}, body=f'{{"error": {deep}}}'.encode()), now=0.0, redact=str)
        assert error.message.startswith('{"error": {"a":')

    def test_raw_items(self):
        """Slices are as deep as they were sent, up to what Python reads at all."""
        deep, _ = run_with("an unknown field", nested(400, "lists"))
        page, _ = split_page(f'{{"data": [{deep}]}}'.encode())
        assert page.data == (deep.encode(),)
        deep, _ = run_with("an unknown field", nested(100_000, "lists"))
        with pytest.raises(DecodeError, match="nested deeper"):
            split_page(f'{{"data": [{deep}]}}'.encode())


class TestToldOnce:
    """`check_told_once`: which object it is, is said once."""

    @pytest.mark.parametrize("value", [b"9" * 5000, b'"\xff"', b"1e9999", b"[" * 900 + b"]" * 900])
    def test_what_a_later_key_replaced(self, value):
        """A value that no reader sees, because its key comes again, lets no error of another library out."""
        whole = b'{"id": "run_1", "thread_id": "t", "status": "queued", "tools": [{"id": %b}], "tools": []}' % value
        assert decode(whole, Run).tools == ()
        with suppress(DecodeError):
            check_told_once(whole, Run)

    @pytest.mark.parametrize("key", ["id", "thread_id", "run_id"])
    def test_each_name_of_an_object(self, key):
        """Twice at the top is refused, equal or not; once there and elsewhere further in is not."""
        with pytest.raises(DecodeError, match=f"tells its {key} twice"):
            check_told_once(b'{"%b": "a", "x": {}, "%b": "a"}' % (key.encode(), key.encode()), RunStep)
        check_told_once(b'\xef\xbb\xbf{"%b": "a", "x": [{"%b": "a"}, {"%b": 1}]}' % ((key.encode(),) * 3), RunStep)


HARD = {
    "lists": b"[" + b"[]," * 300_000 + b"[]]",
    "unknown fields": b'{"id":"a",' + b",".join(b'"f%d":1' % n for n in range(60_000)) + b"}",
    "the same field": b"{" + b'"id":"a",' * 100_000 + b'"id":"b"}',
    "digits": b'{"id":' + b"9" * 10**6 + b"}",
    "escapes": b'{"id":"' + b"\\u00e9" * 150_000 + b'"}',
    "spaces": b'{"id"' + b" " * 10**6 + b':"a"}',
    "open lists": b"[" * 10**6,
    "open strings": b'{"a":"' * 150_000,
    "backslashes": b'"' + b"\\" * 10**6,
    "items without id": b'{"data":[' + b"{}," * 300_000 + b"{}]}",
    "items with a late id": b'{"data":[' + b'{"x":1,"id":"a"},' * 60_000 + b'{"x":1,"id":"a"}]}',
}


_FAR_TOO_LONG = 20.0  # Seconds of CPU; some tenths are usual, and a square of the bytes would take hours.


@pytest.mark.parametrize("name", HARD)
def test_a_million_hard_bytes_take_little_time(name):
    """Reading costs time in proportion to the bytes, whatever they are; a reader with a square in it would not end."""
    body = HARD[name]

    def seconds(read):
        start = time.process_time()
        with suppress(AsyncRunsError):
            read(body)
        return time.process_time() - start

    def told_once(data):
        check_told_once(data, Run)

    for read in (lambda data: decode(data, Run), lambda data: decode_page(data, Run), split_page, cut_page, told_once):
        assert seconds(read) < _FAR_TOO_LONG
    for read in (decode_plain, is_cut_short, lambda data: peek_cursor(data, "last_id")):
        assert seconds(read) < _FAR_TOO_LONG


class TestSplitPage:
    """`split_page`: bytes as sent."""

    def test_what_lies_inside_is_json(self):
        """Its grammar and its UTF-8 are checked, and nothing else: not how large a number is, nor a key told twice."""
        kept = b'{"id": "run_1", "n": 1e999, "m": %b, "a": 1, "a": 2, "s": "\\ud83d\\ude00\\u0000"}' % (b"9" * 5000)
        page, ids = split_page(b'{"data": [%b]}' % kept)
        assert (page.data, list(ids)) == ((kept,), ["run_1"])
        for wrong in (
            b"NaN",
            b"-Infinity",
            b"01",
            b"1.",
            b"+1",
            b'"\\ud800"',
            b'"\xed\xa0\x80"',
            b'"\xff"',
            b'"a\nb"',
            b"[1,]",
        ):
            with pytest.raises(DecodeError):
                split_page(b'{"data": [{"id": "run_1", "n": %b}]}' % wrong)

    @pytest.mark.parametrize(
        ("item", "id"), [(b'{"id": "a", "id": "b"}', "a"), (b'{"x": 1, "id": "a", "id": "b"}', "b")]
    )
    def test_an_id_told_twice(self, item, id):
        """The walk goes by the first where an item begins with it, else by the last; the bytes keep both."""
        page, ids = split_page(b'{"data": [%b]}' % item)
        assert (page.data, list(ids)) == ((item,), [id])

    @given(position=st.integers(0, 5000), put=st.binary(max_size=3), cut=st.integers(0, 4))
    def test_damaged_items_are_json_or_refused(self, position, put, cut):
        """What is given as an item, any other reader of JSON in UTF-8 can read."""
        whole = page_of(RUN | {"odd": [1.5e3, -0.0, "é\n\u2028😀", True]}, STEP)
        at = position % len(whole)
        damaged = whole[:at] + put + whole[at + cut :]
        with suppress(AsyncRunsError):
            for blob in split_page(damaged)[0].data:
                json.loads(blob.decode("utf-8"), parse_constant=pytest.fail, parse_int=str)

    def test_gives_the_bytes_exactly_as_sent(self):
        """With odd spaces, escapes, field order, and numbers that no parser would write again."""
        first = b'{ "id" :"\\u0072un_1",\t"n": 1.50e+00, "id2": "\xc3\xa9"}'
        second = b'{"z":[],"id":"run_2"}'
        page, ids = split_page(
            b'\xef\xbb\xbf{"data": [ %b ,\n%b ], "has_more": true, "last_id": "run_2"}' % (first, second)
        )
        assert page.data == (first, second)
        assert ids == ["run_1", "run_2"]
        assert (page.has_more, page.first_id, page.last_id) == (True, None, "run_2")

    def test_an_empty_page(self):
        """No items, no ids."""
        page, ids = split_page(page_of())
        assert (page.data, list(ids)) == ((), [])

    @pytest.mark.parametrize("item", [{}, {"id": None}, {"id": 5}, "run_1", None])
    def test_an_item_without_an_id_is_an_error(self, item):
        """A walk could not go on from it."""
        with pytest.raises(SchemaError) as caught:
            split_page(page_of(item))
        assert caught.value.path.startswith("$.data[")


class TestCutPage:
    """`cut_page`: bytes as sent, and a little of each item."""

    def test_gives_the_bytes_and_what_stands_in_them(self):
        """Any JSON value is as good; what is not there is None."""
        first = (
            b'{ "thread_id" :"thread_1", "id":"\\u0072un_1", "status": ["odd"], "created_at": 1.5e0 , "run_id":null}'
        )
        page, ids = cut_page(b'\xef\xbb\xbf{"data": [ %b,{"id":"run_2"} ], "has_more": true, "last_id": "x"}' % first)
        assert ids == ["run_1", "run_2"]
        assert [bytes(item.json) for item in page.data] == [first, b'{"id":"run_2"}']
        told = [(item.id, item.status, item.created_at, item.thread_id, item.run_id) for item in page.data]
        assert told == [("run_1", ["odd"], 1.5, "thread_1", None), ("run_2", None, None, None, None)]
        assert (page.has_more, page.first_id, page.last_id) == (True, None, "x")
        page, ids = cut_page(page_of())
        assert (page.data, list(ids)) == ((), [])

    @pytest.mark.parametrize("name", ["status", "created_at", "thread_id", "run_id", "json", "usage"])
    def test_a_number_that_nothing_can_hold(self, name):
        """It makes that field None, and nothing else."""
        item = b'{"%b": 1e999, "id": "run_1", "object": "thread.run"}' % name.encode()
        page, ids = cut_page(b'{"data": [{"id": "run_0", "status": "queued"}, %b]}' % item)
        assert (ids, page.data[0].status) == (["run_0", "run_1"], "queued")
        read = page.data[1]
        assert (bytes(read.json), read.status, read.created_at, read.thread_id) == (item, None, None, None)
        assert read_item(item).id == "run_1"

    def test_of_what_is_told_twice_the_last_counts(self):
        """As JSON readers mostly do."""
        page, ids = cut_page(b'{"data": [{"id": "a", "status": "queued", "id": "b", "status": "failed"}]}')
        assert (ids, page.data[0].status) == (["b"], "failed")

    @given(position=st.integers(0, 5000), put=st.binary(max_size=3), cut=st.integers(0, 4))
    def test_takes_what_split_page_takes(self, position, put, cut):
        """And gives the same bytes."""
        whole = page_of(RUN | {"odd": [1.5e3, -0.0, "é\n\u2028😀", True]}, STEP)
        at = position % len(whole)
        damaged = whole[:at] + put + whole[at + cut :]
        try:
            page, _ = split_page(damaged)
        except AsyncRunsError as error:
            with pytest.raises(type(error)):
                cut_page(damaged)
        else:
            cut_up, _ = cut_page(damaged)
            assert attrs.evolve(cut_up, data=tuple(bytes(item.json) for item in cut_up.data)) == page

    @pytest.mark.parametrize("item", [{}, {"id": None}, {"id": 5}, "run_1", None])
    def test_an_item_without_an_id_is_an_error(self, item):
        """A walk could not go on from it."""
        for read in (lambda: cut_page(page_of(item)), lambda: read_item(json.dumps(item).encode())):
            with pytest.raises(SchemaError):
                read()


class TestPeekCursor:
    """`peek_cursor`: a guess from the tail."""

    @pytest.mark.parametrize(
        ("tail", "name", "guess"),
        [
            ({"first_id": "a", "last_id": "b", "has_more": True}, "last_id", "b"),
            ({"first_id": "a", "last_id": "b", "has_more": True}, "first_id", "a"),
            ({"first_id": "a", "last_id": "b", "has_more": False}, "last_id", None),
            ({"first_id": None, "last_id": None, "has_more": True}, "last_id", None),
            ({"last_id": "a/b", "has_more": True}, "last_id", None),
            ({"has_more": True}, "last_id", None),
            ({"last_id": "b"}, "last_id", None),
        ],
    )
    def test_guesses_only_what_stands_plainly_there(self, tail, name, guess):
        """Compact or pretty-printed."""
        page = {"object": "list", "data": [RUN] * 3, **tail}
        for indent in (None, 2):
            assert peek_cursor(json.dumps(page, indent=indent).encode(), name) == guess

    def test_looks_at_the_tail_alone(self):
        """What an item far from the end says of itself is no cursor, and a large page takes no longer than a small."""
        page = page_of(RUN | {"has_more": True, "last_id": "b"}, RUN)
        assert peek_cursor(page, "last_id") is None

    @given(st.binary(max_size=500), st.sampled_from(["first_id", "last_id"]))
    def test_takes_any_bytes(self, body, name):
        """It never raises."""
        assert peek_cursor(body, name) is None or b"has_more" in body


@pytest.mark.parametrize("value", [RUN, {"data": [MESSAGE]}, [1, 2.5, "é"], "text"])
def test_is_cut_short_knows_every_beginning(value):
    """Each proper beginning of a JSON text is cut short, and the whole is not."""
    whole = json.dumps(value, ensure_ascii=False).encode()
    assert not is_cut_short(whole)
    assert all(is_cut_short(whole[:end]) for end in range(len(whole)))


@pytest.mark.parametrize("body", [b"{} x", b"<html>", b'{"a": nonsense}', b"[" * 100_000])
def test_is_cut_short_is_not_said_of_other_trouble(body):
    """What is wrong otherwise is not the end of a connection."""
    assert not is_cut_short(body)


class TestEncode:
    """`encode`: request bodies."""

    def test_writes_models_in_the_wires_shape(self):
        """Tools, content and formats inside keywords, and plain mappings as they are."""
        body = {
            "assistant_id": "asst_1",
            "tools": [models.FunctionTool(name="f", strict=True), {"type": "new"}],
            "tool_choice": models.NamedToolChoice(name="f"),
            "response_format": models.ResponseFormatJsonSchema(name="n", schema={"a": 1}),
            "truncation_strategy": models.TruncationStrategy(type="last_messages", last_messages=1),
            "metadata": None,
            "additional_messages": [{"role": "user", "content": [TextContent(value="hé")]}],
        }
        assert json.loads(encode(body)) == {
            "assistant_id": "asst_1",
            "tools": [{"type": "function", "function": {"name": "f", "strict": True}}, {"type": "new"}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}}},
            "truncation_strategy": {"type": "last_messages", "last_messages": 1},
            "metadata": None,
            "additional_messages": [{"role": "user", "content": [{"type": "text", "text": "hé"}]}],
        }

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_refuses_numbers_that_json_has_not(self, value):
        """Wherever they stand."""
        for body in (
            {"a": value},
            {"a": [1, {"b": value}]},
            {"a": (value,)},
            {"a": models.RankingOptions(score_threshold=value)},
        ):
            with pytest.raises(ValueError, match="cannot be sent: JSON has no such number"):
                encode(body)

    def test_refuses_text_that_utf8_has_not(self):
        """A lone surrogate has no bytes."""
        with pytest.raises(ValueError, match="surrogate"):
            encode({"a": "\ud800"})

    def test_refuses_what_has_no_json_form(self):
        """A handle, say."""
        with pytest.raises(TypeError):
            encode({"a": object()})

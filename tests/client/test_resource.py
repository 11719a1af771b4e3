"""Wrong arguments are refused before anything is sent, by every method of every resource."""

import inspect
import json
import math

import pytest

from asyncruns import CodeInterpreterTool, InvalidIdError, Toolbox
from asyncruns._pager import AsyncCursorPager

NO_IDS = [
    "..",
    "",
    "a/b",
    "../assistants",
    "x?y=z",
    "%2e%2e",
    "\ud800",
    "x#frag",
    "run\r\nX-Evil: 1",
    "\x00",
    None,
    123,
    "a" * 20_000,
]
RUN_KEYWORDS = {"assistant_id": "asst_1"}
METHODS = {
    "runs.create": (("thread_id",), RUN_KEYWORDS),
    "runs.retrieve": (("thread_id", "run_id"), {}),
    "runs.list": (("thread_id",), {}),
    "runs.modify": (("thread_id", "run_id"), {}),
    "runs.cancel": (("thread_id", "run_id"), {}),
    "runs.submit_tool_outputs": (("thread_id", "run_id"), {"tool_outputs": []}),
    "runs.wait": (("thread_id", "run_id"), {"timeout": 1.0}),
    "runs.find": (("thread_id",), {"request_key": "job-7"}),
    "runs.drive": (("thread_id", "run_id"), {"tools": None, "timeout": 1.0}),
    "runs.stream": (("thread_id",), RUN_KEYWORDS),
    "runs.stream_tool_outputs": (("thread_id", "run_id"), {"tool_outputs": []}),
    "steps.list": (("thread_id", "run_id"), {}),
    "steps.retrieve": (("thread_id", "run_id", "step_id"), {}),
    "threads.retrieve": (("thread_id",), {}),
    "threads.retrieve_raw": (("thread_id",), {}),
    "threads.modify": (("thread_id",), {}),
    "threads.delete": (("thread_id",), {}),
    "messages.create": (("thread_id",), {"role": "user", "content": "hi"}),
    "messages.retrieve": (("thread_id", "message_id"), {}),
    "messages.list": (("thread_id",), {}),
    "messages.modify": (("thread_id", "message_id"), {}),
    "messages.delete": (("thread_id", "message_id"), {}),
}
"""Method -> its ids in URL order, and the keywords that it needs."""
WITHOUT_IDS = {"threads.create", "threads.list", "threads.create_and_run", "threads.stream_and_run"}
GIVES_ERRORS = {"runs.wait_all"}  # What is wrong with one of many runs is given with that one.
LISTS = [("runs", ("thread_1",)), ("steps", ("thread_1", "run_1")), ("threads", ()), ("messages", ("thread_1",))]
KEYWORDS = [
    ("runs", "create", ("thread_1",), RUN_KEYWORDS),
    ("runs", "modify", ("thread_1", "run_1"), {}),
    ("threads", "create", (), {}),
    ("threads", "modify", ("thread_1",), {}),
    ("threads", "create_and_run", (), RUN_KEYWORDS),
    ("messages", "create", ("thread_1",), {"role": "user", "content": "hi"}),
    ("messages", "modify", ("thread_1", "msg_1"), {}),
]
BAD_METADATA = [
    (ValueError, {str(n): "x" for n in range(17)}),
    (ValueError, {"k" * 65: "v"}),
    (ValueError, {"k": "v" * 513}),
    (TypeError, {"k": 5}),
    (TypeError, {5: "v"}),
    (TypeError, [("k", "v")]),
    (TypeError, "k=v"),
]


async def use(session, method, *ids, **keywords):
    """Call a method, and use the pager if it gives one."""
    resource, name = method.split(".")
    result = getattr(getattr(session, resource), name)(*ids, **keywords)
    return await result


def test_every_method_is_held_against_bad_ids(session):
    """The table below leaves none out."""
    public = {
        f"{resource}.{name}"
        for resource in ("runs", "steps", "threads", "messages")
        for name, _ in inspect.getmembers(type(getattr(session, resource)), inspect.isfunction)
        if not name.startswith("_")
    }
    assert public == METHODS.keys() | WITHOUT_IDS | GIVES_ERRORS


@pytest.mark.parametrize("method", METHODS)
async def test_an_id_that_is_none_is_refused(session, emulator, method):
    """In every place of every method; the error names the place, is a ValueError, and nothing was sent."""
    names, keywords = METHODS[method]
    for place, name in enumerate(names):
        for value in NO_IDS:
            ids = [f"{other}_1" for other in names]
            ids[place] = value
            with pytest.raises(InvalidIdError, match=rf"^{name} must be an id") as caught:
                await use(session, method, *ids, **keywords)
            assert isinstance(caught.value, ValueError)
            assert len(str(caught.value)) <= 500
    assert emulator.requests == []


@pytest.mark.parametrize("value", NO_IDS)
async def test_the_run_of_a_message_listing_is_an_id(session, emulator, value):
    """Though it goes into the query."""
    with pytest.raises(InvalidIdError, match="run_id"):
        session.messages.list("thread_1", run_id=value)
    assert emulator.requests == []


@pytest.mark.parametrize(("resource", "ids"), LISTS)
class TestListings:
    """What every `list` refuses, at once and not at the first step."""

    @pytest.mark.parametrize("value", [0, -1, 101, 1.5, "5", None, True, math.inf])
    def test_a_page_size_that_is_none(self, session, resource, ids, value):
        """From 1 to 100; the message says what a total is called."""
        with pytest.raises(ValueError, match=r"page size, from 1 to 100.*max_items"):
            getattr(session, resource).list(*ids, limit=value)

    @pytest.mark.parametrize("value", ["up", "ASC", None, 1])
    def test_an_order_that_is_none(self, session, resource, ids, value):
        """Two words."""
        with pytest.raises(ValueError, match="order must be"):
            getattr(session, resource).list(*ids, order=value)

    @pytest.mark.parametrize("name", ["after", "before"])
    @pytest.mark.parametrize("value", ["", "a\nb", "\ud800", 5, "a" * 513])
    def test_a_cursor_that_is_none(self, session, resource, ids, name, value):
        """Something that can be sent."""
        with pytest.raises(InvalidIdError, match=f"^{name} must be"):
            getattr(session, resource).list(*ids, **{name: value})

    @pytest.mark.parametrize("value", [-1, 1.5, "5", True])
    def test_a_total_that_is_none(self, session, resource, ids, value):
        """A count from 0 on."""
        with pytest.raises(ValueError, match="max_items"):
            getattr(session, resource).list(*ids, max_items=value)

    def test_an_unknown_keyword(self, session, resource, ids):
        """A slip of the pen is no silent default; the known ones are named."""
        with pytest.raises(TypeError, match=r"unexpected keyword 'page_size'; known are .*limit"):
            getattr(session, resource).list(*ids, page_size=5)

    def test_what_is_right_gives_a_pager(self, session, resource, ids):
        """Bounds included."""
        for limit in (1, 100):
            assert isinstance(getattr(session, resource).list(*ids, limit=limit, max_items=0), AsyncCursorPager)


@pytest.mark.parametrize(("resource", "name", "ids", "needed"), KEYWORDS)
class TestKeywords:
    """What creating and modifying refuse."""

    async def test_an_unknown_keyword(self, session, emulator, resource, name, ids, needed):
        """Also one that only another method knows."""
        for unknown in ("temprature", "stream"):
            with pytest.raises(TypeError, match=f"unexpected keyword '{unknown}'"):
                await getattr(getattr(session, resource), name)(*ids, **needed, **{unknown: 1})
        assert emulator.requests == []

    async def test_metadata_beyond_the_limits(self, session, emulator, resource, name, ids, needed):
        """Sixteen pairs of strings, keys of 64, values of 512 characters."""
        for error, metadata in BAD_METADATA:
            with pytest.raises(error, match="metadata"):
                await getattr(getattr(session, resource), name)(*ids, **needed, metadata=metadata)
        assert emulator.requests == []

    async def test_a_missing_keyword(self, session, emulator, resource, name, ids, needed):
        """What the API requires is asked for here."""
        for missing in needed:
            with pytest.raises(TypeError, match=f"missing keyword '{missing}'"):
                await getattr(getattr(session, resource), name)(
                    *ids, **{key: value for key, value in needed.items() if key != missing}
                )
        assert emulator.requests == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
async def test_numbers_that_json_has_not(session, emulator, value):
    """Refused, not sent as something else."""
    with pytest.raises(ValueError, match="JSON has no such number"):
        await session.runs.create("thread_1", assistant_id="a", temperature=value)
    with pytest.raises(ValueError, match="JSON has no such number"):
        await session.threads.modify("thread_1", tool_resources={"x": [value]})
    assert emulator.requests == []


async def test_text_that_utf8_has_not(session, emulator):
    """A lone surrogate cannot be sent."""
    with pytest.raises(ValueError, match="surrogate"):
        await session.messages.create("thread_1", role="user", content="\ud800")
    assert emulator.requests == []


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (ValueError, {"temperature": math.nan}),
        (ValueError, {"instructions": "\ud800"}),
        (TypeError, {"model": object()}),
        (ValueError, {"request_key": "\ud800"}),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_a_search(session, emulator, error, wrong):
    """With a request key too, nothing is searched and no thread is created for a run that cannot be asked for."""
    params = {"assistant_id": "a", "request_key": "job", **wrong}
    with pytest.raises(error):
        await session.runs.create("thread_1", **params)
    with pytest.raises(error):
        await session.threads.create_and_run(**params)
    assert emulator.requests == []


async def test_too_many_tools(session, emulator):
    """Twenty."""
    tools = [CodeInterpreterTool()] * 21
    for call in (
        session.runs.create("thread_1", assistant_id="a", tools=tools),
        session.threads.create_and_run(assistant_id="a", tools=tools),
    ):
        with pytest.raises(ValueError, match="more than 20 tools"):
            await call
    assert emulator.requests == []


async def test_functions_are_no_tools(session, emulator):
    """Neither alone, nor in a list or a toolbox; the message says what to write."""

    def weather(place: str) -> str:
        """Tell the weather."""
        return place

    for tools in (weather, [weather], Toolbox([weather])):
        with pytest.raises(TypeError, match=r"write tools=Toolbox\(\[\.\.\.\]\)\.tools"):
            await session.runs.create("thread_1", assistant_id="a", tools=tools)
    assert emulator.requests == []


async def test_one_run_is_not_several(session, emulator):
    """The message says what to write."""
    thread = await session.threads.create()
    run = await session.runs.create(thread.id, assistant_id="a")
    with pytest.raises(TypeError, match=r"write wait_all\(\[run\]\)"):
        await anext(session.runs.wait_all(run, timeout=1))


async def test_tool_outputs_are_checked_one_by_one(session, emulator):
    """Each names its call, and holds nothing that nobody knows."""
    for output, message in (
        ({"output": "x"}, "missing keyword 'tool_call_id'"),
        ({"tool_call_id": "c", "x": 1}, "unexpected keyword 'x'"),
    ):
        with pytest.raises(TypeError, match=message):
            await session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=[output])
    assert emulator.requests == []


@pytest.mark.parametrize("outputs", [{"tool_call_id": "c", "output": "x"}, [None], [("tool_call_id", "c")], "x"])
async def test_tool_outputs_that_are_no_list_of_mappings(session, emulator, outputs):
    """One output alone is none either; nothing is sent."""
    with pytest.raises(TypeError, match="tool_outputs must be a list of mappings"):
        await session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=outputs)
    with pytest.raises(TypeError, match="tool_outputs must be a list of mappings"):
        session.runs.stream_tool_outputs("thread_1", "run_1", tool_outputs=outputs)
    assert emulator.requests == []


async def test_tool_outputs_of_a_generator(server, scripted_session):
    """They are sent as they come, once."""
    run = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "status": "queued"}
    output = {"tool_call_id": "c", "output": "x"}
    server.reply(run)
    server.reply(
        b"event: thread.run.completed\ndata: %b\n\n" % json.dumps(run).encode(),
        headers={"Content-Type": "text/event-stream"},
    )
    await scripted_session.runs.submit_tool_outputs("thread_1", "run_1", tool_outputs=(each for each in [output]))
    outputs = (each for each in [output])
    async with scripted_session.runs.stream_tool_outputs("thread_1", "run_1", tool_outputs=outputs):
        pass
    assert [request.json["tool_outputs"] for request in server.requests] == [[output]] * 2


async def test_metadata_at_the_limits_is_sent(session, emulator):
    """And None empties it."""
    metadata = {f"{n:064d}": "v" * 512 for n in range(16)}
    thread = await session.threads.create(metadata=metadata)
    assert thread.metadata == metadata
    assert (await session.threads.modify(thread.id, metadata=None)).metadata == {}


async def test_a_wrong_id_among_many_waits(session, emulator):
    """It comes back as that wait's error, and nothing was sent for it."""
    [waited] = [waited async for waited in session.runs.wait_all([("thread_1", "..")], timeout=1)]
    assert isinstance(waited.error, InvalidIdError)
    assert emulator.requests == []

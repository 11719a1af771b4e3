"""Functions as tools: what the model is told of them, how they are called, and how a run is driven with them."""

import asyncio
import json
import math
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import partial, wraps
from typing import Literal, NotRequired, Optional, TypedDict

import attrs
import pytest

from asyncruns import (
    ConfigurationError,
    RequiredAction,
    RequiredToolCall,
    Run,
    SubmitToolOutputs,
    Toolbox,
    ToolReport,
)

SCHEMAS = []


def describes(**properties):
    """Put a function down with the schema that each of its parameters must have."""

    def note(function):
        SCHEMAS.append((function, properties))
        return function

    return note


class Unit(Enum):
    """An enum."""

    CELSIUS = "c"
    KELVIN = "k"


@attrs.frozen
class Place:
    """An attrs class."""

    city: str
    height: int = attrs.field(default=0, validator=attrs.validators.ge(0))


@dataclass
class Node:
    """A dataclass that holds itself."""

    name: str
    inner: "list[Node]" = field(default_factory=list)


class Options(TypedDict):
    """A TypedDict."""

    deep: bool
    note: NotRequired[str]


INTEGER, STRING = {"type": "integer"}, {"type": "string"}
NULL = {"type": "null"}
PLACE = {
    "title": "Place",
    "description": "An attrs class.",
    "type": "object",
    "properties": {"city": STRING, "height": INTEGER | {"default": 0}},
    "required": ["city"],
}
UNIT = {"title": "Unit", "enum": ["c", "k"]}


@describes(a=INTEGER, b={"type": "number"}, c={"type": "boolean"}, d=STRING)
def plain(a: int, b: float, c: bool, d: str):
    """Take the plain types."""


@describes(a={"enum": ["x", "y"]}, b={"$ref": "#/$defs/Unit"}, c={"$ref": "#/$defs/Unit", "default": "k"})
def chosen(a: Literal["x", "y"], b: Unit, c: Unit = Unit.KELVIN):
    """Take one of several."""


@describes(a={"anyOf": [STRING, NULL]}, b={"anyOf": [INTEGER, NULL], "default": None}, c={"anyOf": [INTEGER, STRING]})
def either(a: Optional[str], b: int | None = None, *, c: int | str):  # noqa: UP045
    """Take what may be missing, or of two types."""


@describes(
    a={"type": "array", "items": STRING},
    b={"type": "object", "additionalProperties": INTEGER},
    c={"type": "array", "items": {"$ref": "#/$defs/Place"}, "default": []},
    d={"type": "array"},
    e={},
)
def many(a: list[str], b: dict[str, int], d: list, e, c: list[Place] = []):  # noqa: B006
    """Take collections."""


@describes(a={"$ref": "#/$defs/Place"}, b={"$ref": "#/$defs/Node"}, c={"$ref": "#/$defs/Options"})
def classes(a: Place, b: Node, c: Options):
    """Take classes."""


@describes(a={"type": "string", "format": "date"})
def dates(a: date):
    """Take a date."""


@describes(
    a={"type": "array", "items": STRING, "default": ["x"]},
    b={"type": "object", "additionalProperties": INTEGER, "default": {"x": 1}},
    c={"$ref": "#/$defs/Place", "default": {"city": "Oslo", "height": 0}},
    d={"type": "array", "items": INTEGER, "default": [1]},
    e={"type": "string", "format": "date", "default": "2026-01-31"},
    f={"anyOf": [{"enum": ["x"]}, NULL], "default": None},
)
def defaults(
    a: list[str] = ["x"],  # noqa: B006
    b: dict[str, int] = {"x": 1},  # noqa: B006
    c: Place = Place("Oslo"),
    d: tuple[int, ...] = (1,),
    e: date = date(2026, 1, 31),
    f: Literal["x"] | None = None,
):
    """Take nothing in particular."""


@describes()
def nothing():
    """Take nothing."""


@pytest.mark.parametrize(("function", "properties"), SCHEMAS, ids=lambda value: getattr(value, "__name__", ""))
def test_schema(function, properties):
    """Annotations become a JSON schema, closed, with what has no default required."""
    (tool,) = Toolbox([function]).tools
    schema = tool.parameters
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    assert schema["properties"] == properties
    assert schema["required"] == [name for name, one in properties.items() if "default" not in one]
    assert tool.name == function.__name__
    assert tool.description == function.__doc__


def test_definitions():
    """Classes are described once, below, also where they hold themselves."""
    (tool,) = Toolbox([classes]).tools
    definitions = tool.parameters["$defs"]
    assert definitions["Place"] == PLACE
    node = definitions["Node"]["properties"]["inner"]
    assert node == {"type": "array", "items": {"$ref": "#/$defs/Node"}}
    assert definitions["Options"]["required"] == ["deep"]
    assert "$defs" not in Toolbox([plain]).tools[0].parameters


def test_a_class_of_the_name_that_we_use():
    """A class may be called as our own object of all parameters is."""
    own = attrs.make_class("Arguments", {"x": attrs.field(type=int)})

    def tool(a):
        """Take it."""

    tool.__annotations__["a"] = own
    schema = Toolbox([tool]).tools[0].parameters
    assert schema["properties"]["a"]["$ref"].endswith("Arguments")
    assert [one["properties"] for one in schema["$defs"].values()] == [{"x": INTEGER}]


def google(city: str, unit: str, days: int = 1, odd: int = 0):  # noqa: D417
    """Tell the weather of
    some days.

    It may rain.

    Args:
        city: Where, as a name: not a code.
        unit (Literal["c", "k"]): Which scale.
        days (int, optional): How many.
        nobody: Not a parameter.

    Returns:
        text: The weather.
    """  # noqa: D205


def sphinx(city: str, unit: str):
    """Tell the weather.

    :param city: Where.
    :param str unit: Which scale.
    :returns: The weather.
    """


def test_texts_of_the_docstring():
    """The first paragraph describes the tool, and the arguments' lines its parameters, in either style."""
    tool, other = Toolbox([google, sphinx]).tools
    assert tool.description == "Tell the weather of some days."
    told = {name: one.get("description") for name, one in tool.parameters["properties"].items()}
    assert told == {"city": "Where, as a name: not a code.", "unit": "Which scale.", "days": "How many.", "odd": None}
    told = {name: one.get("description") for name, one in other.parameters["properties"].items()}
    assert told == {"city": "Where.", "unit": "Which scale."}


def test_no_docstring():
    """A function without a docstring has no description, and methods are tools without their `self`."""

    class Shop:
        def buy(self, item: str):
            return item

    (tool,) = Toolbox([Shop().buy]).tools
    assert tool.description is None
    assert list(tool.parameters["properties"]) == ["item"]


def unreadable(a: "Nowhere"):  # noqa: F821
    """Have an annotation that does not exist."""


def positional(a, /):
    """Take a parameter that has no name to be called by."""


def variadic(*args):
    """Take any."""


def keywords(**kwargs):
    """Take any by name."""


def function_type(a: complex):
    """Take what JSON has not."""


def two_classes(a: Place | Node):
    """Take two classes that JSON cannot tell apart."""


def unmakeable(a: list[Decimal]):
    """Take what can be described, and not be made."""


@pytest.mark.parametrize(
    "function", [unreadable, positional, variadic, keywords, function_type, two_classes, unmakeable]
)
def test_what_cannot_be_a_tool(function):
    """A function that cannot be described or called from JSON is refused when the toolbox is made."""
    with pytest.raises(ConfigurationError, match=r"cannot be|by name|argument"):
        Toolbox([function])


def test_names():
    """A name is what the API allows, and each is there once."""
    lambda_ = lambda: None  # noqa: E731
    for odd in (lambda_, partial(plain, 1), type("Callable", (), {"__call__": plain})()):
        with pytest.raises(ConfigurationError, match="name"):
            Toolbox([odd])
    long = lambda: None  # noqa: E731
    long.__name__ = "a" * 65
    with pytest.raises(ConfigurationError, match="name"):
        Toolbox([long])
    long.__name__ = "a-B_9" + "a" * 59
    assert Toolbox([long]).tools[0].name == long.__name__
    with pytest.raises(ConfigurationError, match="Two tools are named 'plain'"):
        Toolbox([plain, plain])
    assert Toolbox([]).tools == ()


@pytest.mark.parametrize("functions", [plain, int, 5, None])
def test_a_function_alone(functions):
    """The message says what to write, as for what is no function."""
    with pytest.raises(ConfigurationError, match=r"write Toolbox\(\[\.\.\.\]\)"):
        Toolbox(functions)


def test_a_function_whose_parameters_nobody_knows():
    """Python itself cannot tell those of some built-in classes."""
    with pytest.raises(ConfigurationError, match="of <class 'int'>"):
        Toolbox([int])


@pytest.mark.parametrize(
    "options",
    [{"timeout": value} for value in (0, -1, None, "5", True)]
    + [{"max_concurrency": value} for value in (0, 2.5, True, None, "5")],
)
def test_limits_that_are_none(options):
    """A toolbox in which nothing could ever run is refused."""
    with pytest.raises(ConfigurationError, match="above 0"):
        Toolbox([], **options)


def test_observer_that_nobody_would_await():
    """A coroutine function would be called and never run."""

    async def observe(report):
        raise AssertionError

    for other in (observe, 5):
        with pytest.raises(ConfigurationError, match="observe must be a plain function"):
            Toolbox([], observe=other)


def call(name, arguments="{}", id="call_1"):
    """Return a call of that tool; arguments that are no text are written as JSON."""
    return RequiredToolCall(
        id=id, name=name, arguments=arguments if isinstance(arguments, str) else json.dumps(arguments)
    )


def waiting(*calls, id="run_1", thread_id="thread_1"):
    """Return a run that waits for the outputs of calls."""
    action = RequiredAction(submit_tool_outputs=SubmitToolOutputs(tool_calls=calls))
    return Run(id=id, thread_id=thread_id, status="requires_action", required_action=action)


async def answer(toolbox, *calls, **ids):
    """Return the outputs of calls."""
    outputs = await toolbox.outputs(waiting(*calls, **ids))
    assert [output["tool_call_id"] for output in outputs] == [each.id for each in calls]
    return [output["output"] for output in outputs]


async def told(function, arguments, **options):
    """Return the text of the error that a call of *function* gave."""
    (output,) = await answer(Toolbox([function], **options), call(function.__name__, arguments))
    (text,) = json.loads(output).values()
    assert list(json.loads(output)) == ["error"]
    return text


def echo(
    a: int = 1,
    b: float = 0.5,
    unit: Unit = Unit.CELSIUS,
    place: Place | None = None,
    node: Node | None = None,
    options: Options | None = None,
    places: list[Place] = [],  # noqa: B006
    counts: dict[str, int] = {},  # noqa: B006
    day: date | None = None,
    blob: bytes = b"",
):
    """Show what came."""
    return repr((a, b, unit, place, node, options, places, counts, day, blob))


class TestArguments:
    """From JSON to Python, or back to the model with what is wrong."""

    async def test_are_structured(self):
        """Arguments arrive as what the annotations say; what is left out has its default."""
        arguments = {
            "a": 2,
            "b": 3,
            "unit": "k",
            "place": {"city": "Oslo"},
            "node": {"name": "x", "inner": [{"name": "y"}]},
            "options": {"deep": True},
            "places": [{"city": "Rome", "height": 21}],
            "counts": {"x": 1},
            "day": "2026-01-31",
            "blob": "AAE=",
        }
        expected = (
            2,
            3.0,
            Unit.KELVIN,
            Place("Oslo"),
            Node("x", [Node("y")]),
            {"deep": True},
            [Place("Rome", 21)],
            {"x": 1},
            date(2026, 1, 31),
            b"\x00\x01",
        )
        toolbox = Toolbox([echo])
        assert await answer(toolbox, call("echo", arguments)) == [repr(expected)]
        assert await answer(toolbox, call("echo", "", "call_2"), call("echo", "{}", "call_3")) == [echo()] * 2

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"a": "2"}, "Expected `int`, got `str`"),
            ({"a": True}, "Expected `int`, got `bool`"),
            ({"a": 1.5}, "Expected `int`, got `float`"),
            ({"b": "x"}, "Expected `float`, got `str`"),
            ({"unit": "f"}, "Invalid enum value 'f'"),
            ({"place": {}}, "missing required field `city`"),
            ({"place": {"city": "x", "country": "y"}}, "country"),
            ({"place": {"city": "x", "height": -1}}, "must be >= 0"),
            ({"node": {"name": "x", "inner": [{"name": 1}]}}, "$.inner[0].name"),
            ({"options": {"deep": "yes"}}, "Expected `bool`, got `str`"),
            ({"places": "Rome"}, "Expected `array"),
            ({"counts": {"x": "1"}}, "$[...]"),
            ({"day": "tomorrow"}, "day"),
            ({"day": 5}, "Expected `date | null`"),
            ({"blob": "??"}, "base64"),
            ({"c": 1}, "there is no parameter 'c'"),
            ({"a": "x", "b": "y", "z": 1}, "there is no parameter 'z'; a: "),
            ("{", "not valid JSON"),
            ("[]", "must be a JSON object"),
            ("null", "must be a JSON object"),
            ('{"a": NaN}', "not valid JSON"),
        ],
    )
    async def test_that_do_not_fit(self, arguments, text):
        """What is wrong is told to the model, all of it, with the place; the function is not called."""
        assert text in await told(echo, arguments)

    async def test_that_are_missing(self):
        """A required parameter that is missing is named."""
        text = await told(plain, {"a": 1, "d": "x"})
        assert text == "The arguments do not fit: the parameter 'b' is missing; the parameter 'c' is missing."

    async def test_unknown_tool(self):
        """A tool that is not there is told with those that are."""
        assert json.loads((await answer(Toolbox([plain, dates]), call("weather")))[0])["error"] == (
            "There is no tool 'weather'; the tools are: plain, dates."
        )
        assert "the tools are: none" in (await answer(Toolbox([]), call("weather")))[0]


class TestOutputs:
    """From what a function gives to what the model reads."""

    @pytest.mark.parametrize(
        ("result", "output"),
        [
            ("warm", "warm"),
            ("", ""),
            (None, ""),
            (3, "3"),
            (True, "true"),
            ([1, "x"], '[1,"x"]'),
            ({"a": Unit.CELSIUS}, '{"a":"c"}'),
            (Place("Oslo", 3), '{"city":"Oslo","height":3}'),
            (Node("x"), '{"name":"x","inner":[]}'),
            (date(2026, 1, 31), '"2026-01-31"'),
        ],
    )
    async def test_results(self, result, output):
        """Text goes as it is, None as nothing, anything else as JSON; so from async functions too."""

        def given():
            return result

        async def awaited():
            return result

        @wraps(awaited)
        def wrapped():
            return awaited()

        wrapped.__name__ = "wrapped"
        toolbox = Toolbox([given, awaited, wrapped])
        calls = [call(name, id=name) for name in ("given", "awaited", "wrapped")]
        assert await answer(toolbox, *calls) == [output] * 3

    async def test_results_without_a_json_form(self):
        """A result that cannot be sent is told to the model as an error, and not to the drive."""

        def opaque():
            return object()

        def half():
            return "\ud800"

        assert "TypeError" in await told(opaque, {})
        assert "surrogates not allowed" in await told(half, {})

    async def test_exceptions(self):
        """An exception becomes an output with its name and text, however odd the text is."""

        def broken():
            raise ValueError("no such city: \ud800")

        async def broken_too():
            raise KeyError("x")

        assert await told(broken, {}) == "ValueError: no such city: \\ud800"
        assert await told(broken_too, {}) == "KeyError: 'x'"

    async def test_exceptions_without_a_text(self):
        """Also one whose text cannot be made."""

        class SilentError(Exception):
            def __str__(self):
                return self.args[0]

        def broken():
            raise SilentError

        async def broken_too():
            raise SilentError(3)

        assert await told(broken, {}) == "SilentError"
        assert await told(broken_too, {}) == "SilentError"

    async def test_nothing_found(self):
        """A function that asks `next` for what is not there ends with an output, plain or async."""

        def first():
            return next(iter(()))

        async def first_too():
            return next(iter(()))

        assert await told(first, {}) == "RuntimeError: the function raised StopIteration"
        assert await told(first_too, {}) == "RuntimeError: coroutine raised StopIteration"

    async def test_plain_functions_run_in_threads(self):
        """A plain function does not stop the loop: one may wait for another."""
        met = threading.Barrier(2, timeout=5)

        def meet():
            met.wait()
            return threading.current_thread() is threading.main_thread()

        assert await answer(Toolbox([meet]), call("meet", id="a"), call("meet", id="b")) == ["false", "false"]

    async def test_plain_functions_know_the_context(self):
        """What a caller has set for its own context is seen in the thread as well."""
        user = ContextVar("user")

        def whose():
            return user.get()

        user.set("Ada")
        assert await answer(Toolbox([whose]), call("whose")) == ["Ada"]


class TestLimits:
    """Timeouts and how many at once."""

    async def test_timeout(self):
        """A call that takes too long is told so; a timeout of the tool's own keeps its own text."""

        async def slow():
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("slow")

        async def impatient():
            raise TimeoutError("the other server was too slow")

        ended = []
        assert await told(slow, {}, timeout=0.02) == "The tool did not answer in 0.02 seconds."
        assert ended == ["slow"]
        assert await told(impatient, {}) == "TimeoutError: the other server was too slow"

    @pytest.mark.parametrize("timeout", [math.inf, 10**6, 0.5])
    async def test_timeout_that_is_not_reached(self, timeout):
        """Any number of seconds above 0 is one, also one that never comes."""

        async def quick():
            await asyncio.sleep(0)
            return "ok"

        assert await answer(Toolbox([quick], timeout=timeout), call("quick")) == ["ok"]

    async def test_timeout_of_a_thread(self):
        """A plain function that takes too long is left to itself; its result is ignored."""

        def slow():
            go.wait(5)
            return "too late"

        go = threading.Event()
        assert "did not answer" in await told(slow, {}, timeout=0.02)
        go.set()

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_max_concurrency(self, limit):
        """No more calls are under way than allowed, over all actions; waiting for a turn uses up no timeout."""
        under_way, most = 0, 0

        async def count():
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.01)
            under_way -= 1
            return "ok"

        toolbox = Toolbox([count], max_concurrency=limit, timeout=0.25)
        actions = [[call("count", id=f"{action}.{number}") for number in range(5)] for action in range(2)]
        outputs = await asyncio.gather(*(answer(toolbox, *calls) for calls in actions))
        assert outputs == [["ok"] * 5] * 2
        assert most == limit

    async def test_threads_of_its_own(self):
        """As many plain functions run at once as are allowed, and ones that hang keep no thread from the loop."""
        most = 40  # The loop has 32 threads of its own at most, which look up host names as well.
        hanging, go = threading.Event(), threading.Event()
        met = threading.Barrier(most, hanging.set, timeout=5)

        def hang():
            met.wait()
            go.wait(5)

        toolbox = Toolbox([hang], max_concurrency=most, timeout=0.1)
        outputs = await answer(toolbox, *(call("hang", id=str(number)) for number in range(most)))
        assert set(outputs) == {'{"error":"The tool did not answer in 0.1 seconds."}'}
        assert await asyncio.to_thread(hanging.wait, 5)
        go.set()


class TestOnce:
    """A call is carried out once."""

    async def test_asked_again(self):
        """Asked again for the same call, the toolbox gives the same output; an error output too."""
        counts = {"good": 0, "bad": 0}

        def good():
            counts["good"] += 1
            return counts["good"]

        def bad():
            counts["bad"] += 1
            raise ValueError(counts["bad"])

        toolbox = Toolbox([good, bad])
        first = await answer(toolbox, call("good", id="a"), call("bad", id="b"))
        assert await answer(toolbox, call("good", id="a"), call("bad", id="b")) == first
        assert await answer(toolbox, call("good", id="c")) == ["2"]
        assert counts == {"good": 2, "bad": 1}

    async def test_an_id_is_not_enough(self):
        """Servers that count their calls from 0 in each run use an id again: other arguments are another call."""

        def double(a: int):
            return 2 * a

        toolbox = Toolbox([double])
        assert await answer(toolbox, call("double", {"a": 1}, "call_0")) == ["2"]
        assert await answer(toolbox, call("double", {"a": 2}, "call_0")) == ["4"]

    async def test_equal_calls_of_other_runs(self):
        """Nor is a call of another run, where servers count the calls of each from 0; it may be for another user."""

        def count():
            counts.append(None)
            return len(counts)

        counts = []
        toolbox = Toolbox([count])
        runs = [{}, {"id": "run_2"}, {"thread_id": "thread_2"}]
        for _ in range(2):
            assert [await answer(toolbox, call("count", id="call_0"), **ids) for ids in runs] == [["1"], ["2"], ["3"]]

    async def test_asked_again_meanwhile(self):
        """Asked again while it is under way, both askers get the one call's output."""
        count = 0

        async def slow():
            nonlocal count
            count += 1
            await asyncio.sleep(0.01)
            return count

        toolbox = Toolbox([slow], max_concurrency=1)
        assert await asyncio.gather(*(answer(toolbox, call("slow")) for _ in range(5))) == [["1"]] * 5

    async def test_the_first_asker_is_cancelled(self):
        """When one asker is cancelled the call goes on for the other."""
        begun, go = asyncio.Event(), asyncio.Event()
        count = 0

        async def slow():
            nonlocal count
            count += 1
            begun.set()
            await go.wait()
            return count

        toolbox = Toolbox([slow])
        first = asyncio.ensure_future(answer(toolbox, call("slow")))
        await begun.wait()
        second = asyncio.ensure_future(answer(toolbox, call("slow")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        go.set()
        assert await second == ["1"]
        assert count == 1

    async def test_all_askers_are_cancelled(self):
        """With its last asker a call is cancelled, cleans up, and has no output; asked again it is carried out anew."""
        begun = asyncio.Event()
        told, reports = [], []

        async def slow():
            told.append("begun")
            begun.set()
            try:
                await (asyncio.sleep(0) if len(told) > 2 else asyncio.Event().wait())
            finally:
                await asyncio.sleep(0.01)
                told.append("ended")
            return "ok"

        toolbox = Toolbox([slow], observe=reports.append)
        askers = [asyncio.ensure_future(answer(toolbox, call("slow"))) for _ in range(2)]
        await begun.wait()
        for asker in askers:
            asker.cancel()
        await asyncio.wait(askers)
        assert [asker.cancelled() for asker in askers] == [True, True]
        assert told == ["begun", "ended"]
        assert reports == []
        assert await answer(toolbox, call("slow")) == ["ok"]
        assert len(asyncio.all_tasks()) == 1

    async def test_a_plain_function_that_nobody_waits_for(self):
        """It cannot be stopped, so it goes on: asked again meanwhile or later, it is not carried out again."""
        begun, go = threading.Event(), threading.Event()
        count = 0

        def book():
            nonlocal count
            count += 1
            begun.set()
            go.wait(5)
            return count

        toolbox = Toolbox([book])
        asker = asyncio.ensure_future(answer(toolbox, call("book")))
        await asyncio.to_thread(begun.wait, 5)
        asker.cancel()
        await asyncio.wait([asker])
        assert asker.cancelled()
        again = asyncio.ensure_future(answer(toolbox, call("book")))
        await asyncio.sleep(0)
        go.set()
        assert [await again, await answer(toolbox, call("book"))] == [["1"], ["1"]]
        assert count == 1

    async def test_a_plain_function_that_ends_alone(self):
        """What it gave is there for whoever asks next."""
        begun, go = threading.Event(), threading.Event()
        reports = []

        def book():
            begun.set()
            go.wait(5)
            return "seat 7"

        toolbox = Toolbox([book], observe=reports.append)
        asker = asyncio.ensure_future(answer(toolbox, call("book")))
        await asyncio.to_thread(begun.wait, 5)
        asker.cancel()
        await asyncio.wait([asker])
        go.set()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        assert [report.output for report in reports] == ["seat 7"]
        assert await answer(toolbox, call("book")) == ["seat 7"]
        assert len(reports) == 1

    async def test_a_tool_that_is_cancelled_by_itself(self):
        """A tool in which something else was cancelled gives an error output, and cancels nobody."""

        async def confused():
            task = asyncio.ensure_future(asyncio.sleep(5))
            task.cancel()
            await task

        assert await told(confused, {}) == "The tool was cancelled."

    async def test_remembers_the_last(self, monkeypatch):
        """Of many calls the oldest are forgotten."""
        monkeypatch.setattr("asyncruns.toolbox._MAX_REMEMBERED", 3)
        count = 0

        def good():
            nonlocal count
            count += 1

        toolbox = Toolbox([good])
        for number in (0, 1, 2, 3, 1, 3, 0):
            await answer(toolbox, call("good", id=str(number)))
        assert count == 5
        assert len(toolbox._known) == 3

    async def test_forgotten_while_under_way(self, monkeypatch):
        """A call that was forgotten for others while it was under way may be asked for anew, and be cancelled."""
        monkeypatch.setattr("asyncruns.toolbox._MAX_REMEMBERED", 1)
        begun = []

        async def stay(a: int):
            begun.append(a)
            await asyncio.Event().wait()

        toolbox = Toolbox([stay])
        askers = [asyncio.ensure_future(answer(toolbox, call("stay", {"a": a}, str(a)))) for a in (1, 2, 1)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert begun == [1, 2, 1]
        for asker in askers:
            asker.cancel()
        await asyncio.wait(askers)
        assert len(toolbox._known) == 0
        assert len(asyncio.all_tasks()) == 1

    async def test_no_calls(self):
        """No calls have no outputs, nor have old ones that a run has left behind."""
        assert await answer(Toolbox([])) == []
        assert await Toolbox([]).outputs(attrs.evolve(waiting(call("none")), status="expired")) == []


class TestObserver:
    """Hooks to see the calls."""

    async def test_sees_each_call_once(self):
        """Each call that was carried out is reported with its output, its error and its time."""
        reports = []

        async def good(a: int):
            await asyncio.sleep(0.01)
            return a

        def bad():
            raise ValueError("x")

        toolbox = Toolbox([good, bad], observe=reports.append)
        calls = [call("good", {"a": 1}, "a"), call("bad", id="b"), call("none", id="c"), call("good", {"a": 1}, "a")]
        outputs = await answer(toolbox, *calls)
        by_id = {report.call.id: report for report in reports}
        assert len(reports) == len(by_id) == 3
        ids = {"thread_id": "thread_1", "run_id": "run_1"}
        assert by_id["a"] == ToolReport(**ids, call=calls[0], output="1", error=None, seconds=by_id["a"].seconds)
        assert 0.005 <= by_id["a"].seconds <= 1
        assert isinstance(by_id["b"].error, ValueError)
        assert "no tool" in str(by_id["c"].error)
        assert by_id["b"].output == outputs[1]

    async def test_what_it_raises_is_raised(self):
        """An observer's own error is not taken for the tool's, and the call is not remembered as done."""

        def observe(report):
            raise RuntimeError("of the observer")

        toolbox = Toolbox([nothing], observe=observe)
        for calls in ([call("nothing")], [call("nothing"), call("other")], [call("nothing"), call("nothing")]):
            with pytest.raises(RuntimeError, match="of the observer"):
                await answer(toolbox, *calls)
        assert not toolbox._known
        toolbox._observe = None
        assert await answer(toolbox, call("nothing")) == [""]

    async def test_what_was_done_before_it_raised_is_remembered(self):
        """A call that had its output is not carried out again because the observer failed over another."""
        count = 0

        async def quick():
            nonlocal count
            count += 1
            return count

        async def slow():
            await asyncio.sleep(0.01)

        def observe(report):
            if report.call.name == "slow":
                raise RuntimeError("of the observer")

        toolbox = Toolbox([quick, slow], observe=observe)
        with pytest.raises(RuntimeError, match="of the observer"):
            await answer(toolbox, call("quick", id="a"), call("slow", id="b"))
        assert await answer(toolbox, call("quick", id="a")) == ["1"]
        assert count == 1

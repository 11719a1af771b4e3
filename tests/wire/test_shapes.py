"""Models <-> the wire's shape: what was read is written again, and requests look as the API wants them."""

import copy
import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncruns import models
from asyncruns._shapes import OBJECT_NAMES, request_body, structure, structurer, unstructure
from asyncruns.models import Message, Run, RunStep, TextContent, Thread

WORDS = st.text(st.characters(codec="utf-8"), max_size=8)
IDS = st.from_regex(r"[a-z]{1,8}", fullmatch=True)
MOMENTS = st.none() | st.integers(-(2**53), 2**53)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(WORDS, PLAIN, max_size=2)
# A field of tomorrow has a name that no field of today has.
EXTRA = st.dictionaries(WORDS.map(lambda word: f"later_{word}"), PLAIN, max_size=2)
PAIRS = st.dictionaries(WORDS, WORDS, max_size=2)


def flat(cls, **fields):
    """Draw objects of *cls*: the fields named, and `extra`."""
    return st.builds(cls, **fields, extra=EXTRA)


def unknown(cls, **fields):
    """Draw objects of a type that nobody knows."""
    return st.builds(
        lambda word, data: cls(type=word, data={**data, "type": word}, **fields), IDS.map("x-{}".format), OBJECTS
    )


RANKING = flat(models.RankingOptions, ranker=st.none() | WORDS, score_threshold=st.none() | st.floats(0, 1))
TOOLS = st.one_of(
    flat(models.CodeInterpreterTool),
    flat(models.FileSearchTool, max_num_results=st.none() | st.integers(1, 50), ranking_options=st.none() | RANKING),
    flat(
        models.FunctionTool,
        name=WORDS,
        description=st.none() | WORDS,
        parameters=st.none() | OBJECTS,
        strict=st.none() | st.booleans(),
    ),
    unknown(models.UnknownTool),
)
FORMATS = st.one_of(
    st.none(),
    WORDS,
    flat(models.ResponseFormatText),
    flat(models.ResponseFormatJsonObject),
    flat(models.ResponseFormatJsonSchema, name=WORDS, description=st.none() | WORDS, schema=st.none() | OBJECTS),
    unknown(models.UnknownResponseFormat),
)
COUNTS = st.none() | st.integers(0, 10**9)
USAGE = st.none() | flat(models.Usage, prompt_tokens=COUNTS, completion_tokens=COUNTS, total_tokens=COUNTS)
LAST_ERROR = st.none() | flat(models.LastError, code=st.none() | WORDS, message=st.none() | WORDS)
DETAILS = st.none() | flat(models.IncompleteDetails, reason=st.none() | WORDS)
CALLS = st.lists(flat(models.RequiredToolCall, id=IDS, name=WORDS, arguments=WORDS), max_size=2).map(tuple)
ACTION = st.none() | flat(
    models.RequiredAction, submit_tool_outputs=st.none() | flat(models.SubmitToolOutputs, tool_calls=CALLS)
)
RUNS = flat(
    Run,
    id=IDS,
    thread_id=IDS,
    status=WORDS,
    assistant_id=st.none() | WORDS,
    created_at=MOMENTS,
    completed_at=MOMENTS,
    required_action=ACTION,
    last_error=LAST_ERROR,
    incomplete_details=DETAILS,
    instructions=st.none() | WORDS,
    tools=st.lists(TOOLS, max_size=3).map(tuple),
    tool_resources=st.none() | OBJECTS,
    metadata=PAIRS,
    usage=USAGE,
    temperature=st.none() | st.floats(0, 2),
    truncation_strategy=st.none() | flat(models.TruncationStrategy, type=WORDS, last_messages=COUNTS),
    tool_choice=st.none() | WORDS | flat(models.NamedToolChoice, type=WORDS, name=st.none() | WORDS),
    parallel_tool_calls=st.none() | st.booleans(),
    response_format=FORMATS,
)
OUTPUTS = st.one_of(
    flat(models.CodeInterpreterLogs, logs=WORDS),
    flat(models.CodeInterpreterImage, file_id=WORDS),
    unknown(models.UnknownCodeInterpreterOutput),
)
RESULTS = flat(
    models.FileSearchResult,
    file_id=WORDS,
    file_name=st.none() | WORDS,
    score=st.none() | st.floats(0, 1),
    content=st.lists(flat(models.FileSearchResultContent, text=st.none() | WORDS, type=WORDS), max_size=2).map(tuple),
)
TOOL_CALLS = st.one_of(
    flat(models.CodeInterpreterToolCall, id=IDS, input=WORDS, outputs=st.lists(OUTPUTS, max_size=2).map(tuple)),
    flat(
        models.FileSearchToolCall,
        id=IDS,
        ranking_options=st.none() | RANKING,
        results=st.lists(RESULTS, max_size=2).map(tuple),
    ),
    flat(models.FunctionToolCall, id=IDS, name=WORDS, arguments=WORDS, output=st.none() | WORDS),
    unknown(models.UnknownToolCall),
)
STEPS = flat(
    RunStep,
    id=IDS,
    run_id=IDS,
    thread_id=IDS,
    type=WORDS,
    status=WORDS,
    step_details=st.one_of(
        flat(models.MessageCreationStepDetails, message_id=WORDS),
        flat(models.ToolCallsStepDetails, tool_calls=st.lists(TOOL_CALLS, max_size=3).map(tuple)),
        unknown(models.UnknownStepDetails),
    ),
    expired_at=MOMENTS,
    last_error=LAST_ERROR,
    metadata=PAIRS,
    usage=USAGE,
)
SPAN = {"text": WORDS, "start_index": COUNTS, "end_index": COUNTS}
ANNOTATIONS = st.one_of(
    flat(models.FileCitation, file_id=st.none() | WORDS, quote=st.none() | WORDS, **SPAN),
    flat(models.FilePath, file_id=st.none() | WORDS, **SPAN),
    flat(models.UrlCitation, url=st.none() | WORDS, title=st.none() | WORDS, **SPAN),
    unknown(models.UnknownAnnotation),
)
CONTENT = st.one_of(
    flat(TextContent, value=WORDS, annotations=st.lists(ANNOTATIONS, max_size=2).map(tuple)),
    flat(models.ImageFileContent, file_id=WORDS, detail=st.none() | WORDS),
    flat(models.ImageUrlContent, url=WORDS, detail=st.none() | WORDS),
    flat(models.RefusalContent, refusal=WORDS),
    unknown(models.UnknownContent),
)
MESSAGES = flat(
    Message,
    id=IDS,
    thread_id=IDS,
    role=WORDS,
    content=st.lists(CONTENT, max_size=3).map(tuple),
    incomplete_details=DETAILS,
    attachments=st.lists(
        flat(models.Attachment, file_id=st.none() | WORDS, tools=st.lists(TOOLS, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    metadata=PAIRS,
)
THREADS = flat(Thread, id=IDS, created_at=MOMENTS, metadata=PAIRS, tool_resources=st.none() | OBJECTS)
ANY = RUNS | STEPS | MESSAGES | THREADS


@given(ANY)
def test_what_is_written_is_read_again(model):
    """The law: structure(unstructure(x)) == x, quickly and with gathered errors, and by one made-ready function."""
    plain = unstructure(model)
    assert structure(plain, type(model)) == model
    assert structure(plain, type(model), detailed=True) == model
    assert structurer(type(model))(plain) == model
    assert plain["object"] == OBJECT_NAMES[type(model)]


@given(ANY)
def test_models_survive_pickle_and_copy(model):
    """They cross process borders in job queues, whatever they hold."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(model, protocol)) == model  # noqa: S301
    assert copy.copy(model) == model
    assert copy.deepcopy(model) == model


@given(ANY)
def test_writing_leaves_the_model_as_it_was(model):
    """What is written shares no list or dict of the top level with the model."""
    before = copy.deepcopy(model)
    plain = unstructure(model)
    plain.clear()
    assert model == before


class TestUnstructure:
    """`unstructure`: the wire's shape."""

    def test_a_top_level_object_is_written_whole(self):
        """Every field is there, null or not, with its kind, as servers write it."""
        plain = unstructure(Run(id="run_1", thread_id="thread_1", status="queued"))
        assert plain.keys() == {f.name for f in attrs.fields(Run)} - {"extra"} | {"object"}
        assert (plain["object"], plain["tools"], plain["usage"]) == ("thread.run", [], None)

    def test_a_nested_object_leaves_its_defaults_out(self):
        """Only what was said, and the type."""
        assert unstructure(models.FileSearchTool()) == {"type": "file_search"}
        assert unstructure(models.FunctionTool(name="f")) == {"type": "function", "function": {"name": "f"}}
        assert unstructure(models.Usage(total_tokens=3)) == {"total_tokens": 3}

    def test_extra_of_the_inner_object_goes_back_into_it(self):
        """It is kept under the inner object's name."""
        tool = models.FunctionTool(name="f", extra={"function": {"flavour": "mint"}, "beta": True})
        assert unstructure(tool) == {"type": "function", "function": {"name": "f", "flavour": "mint"}, "beta": True}
        tool = models.FileSearchTool(extra={"file_search": {"depth": 2}})
        assert unstructure(tool) == {"type": "file_search", "file_search": {"depth": 2}}
        assert tool.extra == {"file_search": {"depth": 2}}

    def test_an_unknown_object_is_written_as_it_was_read(self):
        """Nothing is added and nothing left out."""
        data = {"type": "bing_grounding", "bing_grounding": {"connections": []}}
        assert unstructure(models.UnknownTool(type="bing_grounding", data=data)) == data

    @pytest.mark.parametrize("data", [{}, {"id": None}, {"id": 5, "type": None}, {"q": "x", "type": ["a"]}])
    def test_an_object_without_a_type_is_given_none(self, data):
        """Nor an id; one of another kind stays as it was sent, and everything in its place."""
        made = structure(data, models.ToolCall)
        assert list(unstructure(made).items()) == list(data.items())

    def test_an_unknown_object_of_the_callers_has_what_it_names(self):
        """Its data need not say again what its fields say; where it does, that is what is sent."""
        assert unstructure(models.UnknownTool(type="bing_grounding")) == {"type": "bing_grounding"}
        call = models.UnknownToolCall(type="openapi", id="call_1", data={"q": "x"})
        assert unstructure(call) == {"type": "openapi", "id": "call_1", "q": "x"}
        assert unstructure(models.UnknownTool(type="a", data={"type": "b"})) == {"type": "b"}

    def test_reaches_into_lists_and_mappings(self):
        """Models may stand anywhere."""
        assert unstructure({"a": [models.CodeInterpreterTool()]}) == {"a": [{"type": "code_interpreter"}]}


class TestRequestBody:
    """`request_body`: where requests differ from answers."""

    def test_the_text_of_a_message_is_a_plain_string(self):
        """In answers it is an object with annotations."""
        part = TextContent(value="hello")
        assert request_body([part]) == [{"type": "text", "text": "hello"}]
        assert unstructure([part]) == [{"type": "text", "text": {"value": "hello"}}]

    def test_what_was_read_can_be_sent_again(self):
        """A message's parts go into a new message as they are; annotations are for servers to make."""
        note = models.FilePath(text="p", file_id="file_1")
        body = {"content": (TextContent(value="x", annotations=(note,)), models.ImageFileContent(file_id="file_1"))}
        assert request_body(body) == {
            "content": [
                {"type": "text", "text": "x"},
                {"type": "image_file", "image_file": {"file_id": "file_1"}},
            ]
        }


@pytest.mark.parametrize(
    ("value", "model", "message"),
    [
        (5, str, "expected a string, got a number"),
        (None, str, "expected a string, got null"),
        ("5", int, "expected a whole number, got a string"),
        (1.5, int, "expected a whole number, got a number"),
        (True, int, "expected a whole number, got true or false"),
        ([], float, "expected a number, got a list"),
        (True, float, "expected a number, got true or false"),
        (1, bool, "expected true or false, got a number"),
        ([], Run, "expected an object, got a list"),
        ({}, tuple[models.Tool, ...], "expected a list, got an object"),
        (5, models.Tool, "expected an object, got a number"),
        ({"type": "text", "text": 5}, TextContent, "expected an object at text, got a number"),
        ({"type": "text", "text": []}, TextContent, "expected an object at text, got a list"),
    ],
)
def test_a_wrong_shape_is_told_in_the_words_of_json(value, model, message):
    """Nobody needs to know Python's names of types."""
    with pytest.raises(TypeError, match=message):
        structure(value, model)


def test_an_inner_object_that_is_null_is_as_if_left_out():
    """A call of file search that tells nothing."""
    call = structure({"id": "call_1", "type": "file_search", "file_search": None}, models.FileSearchToolCall)
    assert call == models.FileSearchToolCall(id="call_1")


def test_numbers_of_the_other_kind_are_taken():
    """A whole float for an integer, an integer for a float."""
    assert (structure(5.0, int), structure(5, float)) == (5, 5.0)
    assert type(structure(5.0, int)) is int
    assert type(structure(5, float)) is float

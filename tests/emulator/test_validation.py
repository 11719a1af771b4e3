"""Requests that break a rule are refused in the published shape, and name the parameter at fault."""

import pytest

TOOL = {"type": "function", "function": {"name": "f"}}
SEARCH_CONTENT = "step_details.tool_calls[*].file_search.results[*].content"


def part(**fields):
    """Return a message whose content is one part."""
    return {"role": "user", "content": [fields]}


def chunked(**static):
    """Return a thread request with one new vector store, chunked like that."""
    store = {"chunking_strategy": {"type": "static", "static": static}}
    return {"tool_resources": {"file_search": {"vector_stores": [store]}}}


BAD_RUNS = [
    ({"assistant_id": None}, "assistant_id", "invalid_type"),
    ({"nonsense": 1}, "nonsense", "unknown_parameter"),
    ({"model": 5}, "model", "invalid_type"),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 1.01}, "top_p", "decimal_above_max_value"),
    ({"max_prompt_tokens": 255}, "max_prompt_tokens", "integer_below_min_value"),
    ({"max_completion_tokens": 300.5}, "max_completion_tokens", "invalid_type"),
    ({"instructions": "x" * 256_001}, "instructions", "string_above_max_length"),
    ({"additional_messages": [{"role": "user"}]}, "additional_messages[0].content", "missing_required_parameter"),
    ({"additional_messages": {}}, "additional_messages", "invalid_type"),
    ({"reasoning_effort": "most"}, "reasoning_effort", "invalid_value"),
    ({"parallel_tool_calls": None}, "parallel_tool_calls", "invalid_type"),
    ({"tools": [TOOL] * 21}, "tools", "array_above_max_length"),
    ({"tools": [{}]}, "tools[0].type", "missing_required_parameter"),
    ({"tools": [{"type": "bing"}]}, "tools[0].type", "invalid_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "missing_required_parameter"),
    (
        {"tools": [{"type": "function", "function": {"name": "x" * 65}}]},
        "tools[0].function.name",
        "string_above_max_length",
    ),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    (
        {"tools": [{"type": "file_search", "file_search": {"max_num_results": 51}}]},
        "tools[0].file_search.max_num_results",
        "integer_above_max_value",
    ),
    ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
    ({"tool_choice": 1}, "tool_choice", "invalid_type"),
    ({"tools": [{"type": 1}]}, "tools[0].type", "invalid_type"),
    ({"tools": [1]}, "tools[0]", "invalid_type"),
    ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name", "missing_required_parameter"),
    ({"response_format": "json"}, "response_format", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    (
        {"truncation_strategy": {"type": "auto", "last_messages": 0}},
        "truncation_strategy.last_messages",
        "integer_below_min_value",
    ),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
    ({"metadata": {"x" * 65: ""}}, "metadata", "string_above_max_length"),
    ({"metadata": {"x": "y" * 513}}, "metadata.x", "string_above_max_length"),
    ({"metadata": {"x": 1}}, "metadata.x", "invalid_type"),
    ({"metadata": []}, "metadata", "invalid_type"),
    ({"stream": "yes"}, "stream", "invalid_type"),
]


@pytest.mark.parametrize(("fields", "param", "code"), BAD_RUNS)
async def test_run_requests(wire, fields, param, code):
    """A bad run request is refused, and no run is made."""
    thread = await wire.thread("x")
    reply = await wire.send("POST", f"{thread}/runs", {"assistant_id": "asst_1", **fields})
    assert (reply.status, *reply.error[1:]) == (400, param, code)
    assert (await wire.get(f"{thread}/runs"))["data"] == []


GOOD_RUNS = [
    {"metadata": {f"{n:064}": "y" * 512 for n in range(16)}},
    {"tools": [TOOL] * 20},
    {"tools": [{"type": "function", "function": {"name": "x" * 64, "strict": None, "description": ""}}]},
    {"tools": None, "metadata": None, "temperature": None, "stream": None, "truncation_strategy": None},
    {"temperature": 2, "top_p": 0, "max_prompt_tokens": 256, "max_completion_tokens": 256.0},
    {"stream": False, "reasoning_effort": "high", "additional_instructions": "More."},
    {"tool_choice": {"type": "function", "function": {"name": "f"}}, "response_format": {"type": "text"}},
]


@pytest.mark.parametrize("fields", GOOD_RUNS)
async def test_run_requests_at_the_limits(wire, fields):
    """What lies on a limit is taken, and the run echoes it."""
    run = await wire.get(await wire.run(**fields))
    for name, value in fields.items():
        assert name not in run or value is None or run[name] == value


BAD_THREADS = [
    ([], None, "invalid_type"),
    ({"metadata": {}, "name": "x"}, "name", "unknown_parameter"),
    ({"messages": [{"role": "system", "content": "x"}]}, "messages[0].role", "invalid_value"),
    ({"messages": [{"role": "user", "content": []}]}, "messages[0].content", "empty_array"),
    ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type"),
    ({"messages": [part(type="text")]}, "messages[0].content[0].text", "missing_required_parameter"),
    (
        {"messages": [part(type="image_url", image_url={"url": "no url"})]},
        "messages[0].content[0].image_url.url",
        "invalid_value",
    ),
    (
        {"messages": [part(type="image_file", image_file={"file_id": "f", "detail": "most"})]},
        "messages[0].content[0].image_file.detail",
        "invalid_value",
    ),
    (
        {"tool_resources": {"code_interpreter": {"file_ids": ["f"] * 21}}},
        "tool_resources.code_interpreter.file_ids",
        "array_above_max_length",
    ),
    ({"tool_resources": {"file_search": {}}}, "tool_resources.file_search", "invalid_value"),
    (
        {"tool_resources": {"file_search": {"vector_store_ids": [], "vector_stores": []}}},
        "tool_resources.file_search",
        "invalid_value",
    ),
    (
        chunked(max_chunk_size_tokens=99, chunk_overlap_tokens=0),
        "tool_resources.file_search.vector_stores[0].chunking_strategy.static.max_chunk_size_tokens",
        "integer_below_min_value",
    ),
    (
        chunked(max_chunk_size_tokens=100, chunk_overlap_tokens=51),
        "tool_resources.file_search.vector_stores[0].chunking_strategy.static.chunk_overlap_tokens",
        "decimal_above_max_value",
    ),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD_THREADS)
async def test_thread_requests(wire, body, param, code):
    """A bad thread request is refused, and no thread is made."""
    reply = await wire.send("POST", "/threads", body)
    assert (reply.status, *reply.error[1:]) == (400, param, code)
    assert (await wire.get("/threads"))["data"] == []


async def test_new_vector_stores_become_ids(wire):
    """A thread that asks for a vector store shows the id of one."""
    thread = await wire.post("/threads", chunked(max_chunk_size_tokens=100, chunk_overlap_tokens=50))
    [id] = thread["tool_resources"]["file_search"]["vector_store_ids"]
    assert id.startswith("vs_")


async def test_thread_and_run_has_fewer_parameters(wire):
    """POST /threads/runs takes no additional messages and no reasoning effort."""
    for name in ("additional_messages", "additional_instructions", "reasoning_effort"):
        reply = await wire.send("POST", "/threads/runs", {"assistant_id": "asst_1", name: None})
        assert reply.error[1:] == (name, "unknown_parameter")
    reply = await wire.send("POST", "/threads/runs", {"thread": {}})
    assert reply.error == (
        "Missing required parameter: 'assistant_id'.",
        "assistant_id",
        "missing_required_parameter",
    )


@pytest.mark.parametrize(
    ("query", "message", "code"),
    [
        (
            {"limit": "0"},
            "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got 0 instead.",
            "integer_below_min_value",
        ),
        (
            {"limit": "101"},
            "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.",
            "integer_above_max_value",
        ),
        (
            {"limit": "ten"},
            "Invalid type for 'limit': expected an integer, but got a string instead.",
            "invalid_type",
        ),
        ({"order": "up"}, "Invalid value: 'up'. Supported values are: 'asc' and 'desc'.", "invalid_value"),
    ],
)
async def test_page_queries(wire, query, message, code):
    """Page size and order are checked on every listing, in these words."""
    path = await wire.run()
    thread = path.split("/runs")[0]
    for listing in ("/threads", f"{thread}/runs", f"{path}/steps", f"{thread}/messages"):
        reply = await wire.send("GET", listing, params=query)
        assert (reply.status, reply.error) == (400, (message, next(iter(query)), code))


@pytest.mark.parametrize(
    "query",
    [
        [("include[]", SEARCH_CONTENT)],
        [("include[]", SEARCH_CONTENT), ("include[]", SEARCH_CONTENT)],
        [("include[]", f"{SEARCH_CONTENT},{SEARCH_CONTENT}")],
        [("api-version", "v1"), ("limit", "5")],
    ],
)
async def test_queries_of_both_clients_are_understood(wire, query):
    """Repeated and comma-joined include[] values and an api-version are taken."""
    path = await wire.run()
    reply = await wire.send("GET", f"{path}/steps", params=query)
    assert reply.status == 200


async def test_unknown_include(wire):
    """An include value that does not exist is refused by its place."""
    path = await wire.run()
    query = [("include[]", f"{SEARCH_CONTENT},more")]
    for method, where in (("GET", f"{path}/steps"), ("POST", path.rsplit("/", 1)[0])):
        reply = await wire.send(method, where, {"assistant_id": "a"}, params=query)
        assert (reply.status, *reply.error[1:]) == (400, "include[1]", "invalid_value")


@pytest.mark.parametrize(
    "text",
    [b"{", b"", b'{"metadata": {"a": "\xff"}}', b'{"a": NaN}', b"[" * 100_000, b'{"metadata": "\\ud800"}'],
    ids=["cut", "empty", "not utf-8", "nan", "deep", "surrogate"],
)
async def test_bodies_that_are_not_json(wire, text):
    """Whatever cannot be read as JSON is a 400 with an error body, never a crash."""
    path = await wire.run()
    headers = {"Authorization": f"Bearer {wire.emulator.api_key}", "Content-Type": "application/json"}
    reply = await wire.send("POST", path, data=text, headers=headers)
    assert reply.status == 400
    assert reply.error[0].startswith("We could not parse the JSON body of your request")


async def test_other_content_types(wire):
    """A form is not JSON, even where its text would be."""
    reply = await wire.send("POST", "/threads", data="{}")
    assert (reply.status, reply.error[2]) == (400, "unsupported_content_type")

"""What requests may hold: the published description's request schemas, and the limits its prose adds."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol, cast

from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._rules import (
    Rule,
    anything,
    array,
    boolean,
    by_type,
    missing,
    nullable,
    number,
    one_of,
    shape,
    string,
    tagged,
)
from asyncruns.emulator._store import Body, Order

SEARCH_CONTENT = "step_details.tool_calls[*].file_search.results[*].content"

_NAME = string(max_length=64, pattern="[a-zA-Z0-9_-]+")
_URL = string(pattern=r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


class Query(Protocol):
    """What this room needs of a multidict; the emulator's web framework brings one."""

    def get(self, name: str, /) -> str | None:
        """Return the first value of that name, or None."""
        ...

    def getall(self, name: str, default: list[str], /) -> list[str]:
        """Return all values of that name, or the default."""
        ...


class PageQuery(NamedTuple):
    """The query of a listing."""

    limit: int
    order: Order
    after: str | None
    before: str | None


def _metadata(value: object, path: str) -> None:
    """Hold metadata to the limits that the description gives in prose: 16 pairs, 64 and 512 characters."""
    shape({})(value, path)
    pairs = cast("dict[str, object]", value)
    if len(pairs) > 16:
        raise Refusal(
            f"Invalid '{path}': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(pairs)} properties instead.",
            param=path,
            code="object_above_max_properties",
        )
    for key, entry in pairs.items():
        if len(key) > 64:
            raise Refusal(
                f"Invalid '{path}': object key too long. Expected keys with maximum length 64, "
                f"but got a key with length {len(key)} instead.",
                param=path,
                code="string_above_max_length",
            )
        string(max_length=512)(entry, f"{path}.{key}")


_METADATA = nullable(_metadata)
_DETAIL = one_of("auto", "low", "high")
_STRINGS = string()
_OPEN = shape({})

_CONTENT_PART = tagged(
    {
        "text": shape({"text": _STRINGS}, required=("text",)),
        "image_file": shape(
            {"image_file": shape({"file_id": _STRINGS, "detail": _DETAIL}, required=("file_id",))},
            required=("image_file",),
        ),
        "image_url": shape(
            {"image_url": shape({"url": _URL, "detail": _DETAIL}, required=("url",))}, required=("image_url",)
        ),
    }
)
_ATTACHMENT = shape(
    {"file_id": _STRINGS, "tools": array(tagged({"code_interpreter": anything, "file_search": anything}))},
    required=("file_id", "tools"),
)
_MESSAGE_FIELDS: Mapping[str, Rule] = {
    "role": one_of("user", "assistant"),
    "content": by_type(
        {str: anything, list: array(_CONTENT_PART, min_length=1)}, "one of a string or array of objects"
    ),
    "attachments": nullable(array(_ATTACHMENT)),
    "metadata": _METADATA,
}
_MESSAGE = shape(_MESSAGE_FIELDS, required=("role", "content"), closed=True)

_RANKING = shape(
    {"ranker": one_of("auto", "default_2024_08_21"), "score_threshold": number(minimum=0, maximum=1)},
    required=("score_threshold",),
)
_SEARCH = shape(
    {"max_num_results": number(minimum=1, maximum=50, whole=True), "ranking_options": _RANKING},
)
_FUNCTION = shape(
    {"name": _NAME, "description": _STRINGS, "parameters": _OPEN, "strict": nullable(boolean)},
    required=("name",),
)
_TOOL = tagged(
    {
        "code_interpreter": anything,
        "file_search": shape({"file_search": _SEARCH}),
        "function": shape({"function": _FUNCTION}, required=("function",)),
    }
)
_NAMED_TOOL = shape(
    {
        "type": one_of("function", "code_interpreter", "file_search"),
        "function": shape({"name": _STRINGS}, required=("name",)),
    },
    required=("type",),
)
_TOOL_CHOICE = by_type({str: one_of("none", "auto", "required"), dict: _NAMED_TOOL}, "a string or an object")
_JSON_SCHEMA = shape(
    {"name": _NAME, "description": _STRINGS, "schema": _OPEN, "strict": nullable(boolean)}, required=("name",)
)
_RESPONSE_FORMAT = by_type(
    {
        str: one_of("auto"),
        dict: tagged(
            {
                "text": anything,
                "json_object": anything,
                "json_schema": shape({"json_schema": _JSON_SCHEMA}, required=("json_schema",)),
            }
        ),
    },
    "a string or an object",
)
_TRUNCATION = shape(
    {"type": one_of("auto", "last_messages"), "last_messages": nullable(number(minimum=1, whole=True))},
    required=("type",),
)
_CODE_FILES = shape({"file_ids": array(_STRINGS, max_length=20)})
_STORE_IDS = array(_STRINGS, max_length=1)
_TOOL_RESOURCES = shape({"code_interpreter": _CODE_FILES, "file_search": shape({"vector_store_ids": _STORE_IDS})})


def _static_chunking(value: object, path: str) -> None:
    sizes = {
        "max_chunk_size_tokens": number(minimum=100, maximum=4096, whole=True),
        "chunk_overlap_tokens": number(minimum=0, whole=True),
    }
    shape(sizes, required=tuple(sizes), closed=True)(value, path)
    chosen = cast("dict[str, int]", value)
    most = chosen["max_chunk_size_tokens"] // 2
    number(maximum=most)(chosen["chunk_overlap_tokens"], f"{path}.chunk_overlap_tokens")


_CHUNKING = tagged(
    {
        "auto": shape({"type": anything}, closed=True),
        "static": shape({"type": anything, "static": _static_chunking}, required=("static",), closed=True),
    }
)
_VECTOR_STORE = shape(
    {"file_ids": array(_STRINGS), "chunking_strategy": _CHUNKING, "metadata": _METADATA},
)


def _new_file_search(value: object, path: str) -> None:
    shape({"vector_store_ids": _STORE_IDS, "vector_stores": array(_VECTOR_STORE, max_length=1)})(value, path)
    given = cast("dict[str, object]", value)
    if ("vector_store_ids" in given) == ("vector_stores" in given):
        raise Refusal(
            f"Invalid '{path}': give exactly one of 'vector_store_ids' and 'vector_stores'.",
            param=path,
            code="invalid_value",
        )


_RUN_FIELDS: Mapping[str, Rule] = {
    "assistant_id": _STRINGS,
    "model": nullable(_STRINGS),
    "instructions": nullable(string(max_length=256_000)),
    "tools": nullable(array(_TOOL, max_length=20)),
    "metadata": _METADATA,
    "temperature": nullable(number(minimum=0, maximum=2)),
    "top_p": nullable(number(minimum=0, maximum=1)),
    "stream": nullable(boolean),
    "max_prompt_tokens": nullable(number(minimum=256, whole=True)),
    "max_completion_tokens": nullable(number(minimum=256, whole=True)),
    "truncation_strategy": nullable(_TRUNCATION),
    "tool_choice": nullable(_TOOL_CHOICE),
    "parallel_tool_calls": boolean,
    "response_format": nullable(_RESPONSE_FORMAT),
}
_EFFORTS = one_of("none", "minimal", "low", "medium", "high", "xhigh", "max")
_THREAD = shape(
    {
        "messages": array(_MESSAGE),
        "tool_resources": nullable(shape({"code_interpreter": _CODE_FILES, "file_search": _new_file_search})),
        "metadata": _METADATA,
    },
    closed=True,
)
_TOOL_OUTPUT = shape({"tool_call_id": _STRINGS, "output": _STRINGS})

REQUESTS: Mapping[str, Rule] = {
    "create_thread": _THREAD,
    "modify_thread": shape({"tool_resources": nullable(_TOOL_RESOURCES), "metadata": _METADATA}, closed=True),
    "create_run": shape(
        {
            **_RUN_FIELDS,
            "reasoning_effort": nullable(_EFFORTS),
            "additional_instructions": nullable(_STRINGS),
            "additional_messages": nullable(array(_MESSAGE)),
        },
        required=("assistant_id",),
        closed=True,
    ),
    "create_thread_and_run": shape(
        {**_RUN_FIELDS, "thread": _THREAD, "tool_resources": nullable(_TOOL_RESOURCES)},
        required=("assistant_id",),
        closed=True,
    ),
    "submit_tool_outputs": shape(
        {"tool_outputs": array(_TOOL_OUTPUT), "stream": nullable(boolean)},
        required=("tool_outputs",),
        closed=True,
    ),
    "create_message": _MESSAGE,
    "modify": shape({"metadata": _METADATA}, closed=True),
}


def check_request(name: str, body: object) -> Body:
    """Return *body* when it follows the rules of that request.

    Raises:
        Refusal: It does not.
    """
    REQUESTS[name](body, "")
    return cast("Body", body)


def check_page(query: Query) -> PageQuery:
    """Return the page a listing's query asks for.

    Raises:
        Refusal: The limit is no integer from 1 to 100, or the order is neither asc nor desc.
    """
    order = query.get("order") or "desc"
    one_of("asc", "desc")(order, "order")
    limit: object = query.get("limit") or "20"
    if isinstance(limit, str) and re.fullmatch("[+-]?[0-9]{1,15}", limit):
        limit = int(limit)
    number(minimum=1, maximum=100, whole=True)(limit, "limit")
    return PageQuery(cast("int", limit), cast("Order", order), query.get("after"), query.get("before"))


def check_include(query: Query) -> bool:
    """Return whether file search results should show their content.

    openai-python repeats `include[]`, azure-ai-agents joins the values with commas; both are understood.

    Raises:
        Refusal: A value is not the one that exists.
    """
    values = [value for joined in query.getall("include[]", []) for value in joined.split(",")]
    for index, value in enumerate(values):
        one_of(SEARCH_CONTENT)(value, f"include[{index}]")
    return bool(values)


def check_tool_outputs(outputs: Iterable[Body], expected: list[str]) -> dict[str, str]:
    """Return the tool outputs by call id.

    Raises:
        Refusal: One lacks its id, or they are not exactly the outputs that the run waits for.
    """
    given: list[str] = []
    by_call: dict[str, str] = {}
    for index, output in enumerate(outputs):
        if "tool_call_id" not in output:
            raise missing(f"tool_outputs[{index}].tool_call_id")
        given.append(output["tool_call_id"])
        by_call[output["tool_call_id"]] = output.get("output", "")
    if sorted(given) != sorted(expected):
        raise Refusal(f"Expected tool outputs for call_ids {expected}, got {given}", param="tool_outputs")
    return by_call

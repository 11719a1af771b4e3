"""What the emulated model says: replies, tool calls and their outputs, always the same for the same input."""

import zlib
from collections.abc import Mapping
from typing import Any

from asyncruns.emulator._json import encode
from asyncruns.emulator._store import Body, Resource, Step

_OPENINGS = (
    "Here is what I found.",
    "Certainly.",
    "Let us look at it step by step.",
    "In short, yes.",
    "That depends on the details.",
)
_STRINGS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_DEPTH = 6


def choose(seed: int, key: str, count: int) -> int:
    """Return a number below *count* that depends on *seed* and *key* alone."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass"), seed & 0xFFFFFFFF) % count


def reply(seed: int, question: str, response_format: str | Body) -> str:
    """Return the assistant's answer to *question*, in the response format that the run asks for."""
    text = f"{_OPENINGS[choose(seed, question, len(_OPENINGS))]} You said: {question}"
    kind = "text" if isinstance(response_format, str) else response_format["type"]
    if kind == "json_object":
        return encode({"answer": text}).decode()
    if kind == "json_schema" and not isinstance(response_format, str):
        return arguments(response_format["json_schema"].get("schema"))
    return text


def arguments(schema: object) -> str:
    """Return JSON text of an object that follows the JSON schema of a function's parameters."""
    value = _plausible(schema, _DEPTH)
    return encode(value if isinstance(value, dict) else {}).decode()


def function_call(id: str, function: Body) -> Body:
    """Return a call of *function*, not answered yet."""
    called = {"name": function["name"], "arguments": arguments(function.get("parameters")), "output": None}
    return {"id": id, "type": "function", "function": called}


def scripted_call(id: str, name: str, arguments: Mapping[str, object] | str) -> Body:
    """Return a call of the function *name* with these arguments, not answered yet."""
    text = arguments if isinstance(arguments, str) else encode(arguments).decode()
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text, "output": None}}


def code_call(id: str) -> Body:
    """Return a code interpreter call that has not run yet."""
    code = {"input": "print(6 * 7)", "outputs": []}
    return {"id": id, "type": "code_interpreter", "code_interpreter": code}


def search_call(id: str) -> Body:
    """Return a file search call that has found nothing yet."""
    options = {"ranker": "default_2024_08_21", "score_threshold": 0.0}
    return {"id": id, "type": "file_search", "file_search": {"ranking_options": options, "results": []}}


def with_outcome(call: Body) -> Body:
    """Return *call* with what a server-side tool found; function calls stay as they are."""
    if call["type"] == "code_interpreter":
        outputs = [{"type": "logs", "logs": "42\n"}]
        return {**call, "code_interpreter": {**call["code_interpreter"], "outputs": outputs}}
    if call["type"] == "file_search":
        content = [{"type": "text", "text": "The answer is in the second chapter."}]
        result = {"file_id": "file-notes", "file_name": "notes.txt", "score": 0.75, "content": content}
        return {**call, "file_search": {**call["file_search"], "results": [result]}}
    return call


def code_outputs(call: Body) -> list[Body]:
    """Return what a code interpreter call will have printed, as a delta adds it; nothing for other calls."""
    if call["type"] != "code_interpreter":
        return []
    outputs = with_outcome(call)["code_interpreter"]["outputs"]
    return [{"index": index, **output} for index, output in enumerate(outputs)]


def shown_step(step: Step, *, with_content: bool) -> Resource:
    """Return *step*, or a copy whose file search results hide their content as they do unless asked for."""
    if with_content or not step.searched:
        return step
    details = step.body["step_details"]
    calls = [_search_without_content(call) for call in details["tool_calls"]]
    return Resource(step.id, step.place, {**step.body, "step_details": {**details, "tool_calls": calls}})


def _search_without_content(call: Body) -> Body:
    results = [
        {name: value for name, value in result.items() if name != "content"}
        for result in call["file_search"]["results"]
    ]
    return {**call, "file_search": {**call["file_search"], "results": results}}


def _plausible(schema: object, depth: int) -> Any:
    """Return a value for a JSON schema; whatever is not understood gives null."""
    if not isinstance(schema, dict) or depth == 0:
        return None
    if "const" in schema:
        return schema["const"]
    for name in ("enum", "anyOf", "oneOf", "allOf"):
        choices = schema.get(name)
        if isinstance(choices, list) and choices:
            return choices[0] if name == "enum" else _plausible(choices[0], depth - 1)
    return _of_type(_first_type(schema), schema, depth)


def _first_type(schema: Body) -> object:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((one for one in kind if one != "null"), None)
    return "object" if kind is None and "properties" in schema else kind


def _of_type(kind: object, schema: Body, depth: int) -> Any:
    match kind:
        case "object":
            properties = schema.get("properties")
            pairs = properties.items() if isinstance(properties, dict) else ()
            return {name: _plausible(inner, depth - 1) for name, inner in pairs}
        case "array":
            return [_plausible(schema.get("items"), depth - 1)] if "items" in schema else []
        case "string":
            return _STRINGS.get(str(schema.get("format")), "example")
        case "integer" | "number":
            minimum = schema.get("minimum")
            return minimum if isinstance(minimum, int | float) else 1
        case "boolean":
            return True
        case _:
            return None

"""Plain JSON values <-> model classes, by cattrs: what msgspec cannot fill itself.

The models are flat where the wire nests (`{"type": "function", "function": {"name": ...}}` is
`FunctionTool(name=...)`), have unions told apart by `type`, and keep what they do not know in `extra`.
"""

import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Union, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from asyncruns import models as m

Structure = Callable[[Any, Any], Any]

INNER: Mapping[type, tuple[str, frozenset[str]]] = {
    m.FunctionTool: ("function", frozenset({"name", "description", "parameters", "strict"})),
    m.FileSearchTool: ("file_search", frozenset({"max_num_results", "ranking_options"})),
    m.NamedToolChoice: ("function", frozenset({"name"})),
    m.ResponseFormatJsonSchema: ("json_schema", frozenset({"name", "description", "schema", "strict"})),
    m.RequiredToolCall: ("function", frozenset({"name", "arguments"})),
    m.CodeInterpreterImage: ("image", frozenset({"file_id"})),
    m.CodeInterpreterToolCall: ("code_interpreter", frozenset({"input", "outputs"})),
    m.FileSearchToolCall: ("file_search", frozenset({"ranking_options", "results"})),
    m.FunctionToolCall: ("function", frozenset({"name", "arguments", "output"})),
    m.MessageCreationStepDetails: ("message_creation", frozenset({"message_id"})),
    m.FileCitation: ("file_citation", frozenset({"file_id", "quote"})),
    m.FilePath: ("file_path", frozenset({"file_id"})),
    m.UrlCitation: ("url_citation", frozenset({"url", "title"})),
    m.TextContent: ("text", frozenset({"value", "annotations"})),
    m.ImageFileContent: ("image_file", frozenset({"file_id", "detail"})),
    m.ImageUrlContent: ("image_url", frozenset({"url", "detail"})),
    m.MessageDelta: ("delta", frozenset({"role", "content"})),
    m.TextDelta: ("text", frozenset({"value", "annotations"})),
    m.ImageFileDelta: ("image_file", frozenset({"file_id", "detail"})),
    m.ImageUrlDelta: ("image_url", frozenset({"url", "detail"})),
    m.RunStepDelta: ("delta", frozenset({"step_details"})),
    m.MessageCreationDelta: ("message_creation", frozenset({"message_id"})),
    m.FunctionToolCallDelta: ("function", frozenset({"name", "arguments", "output"})),
    m.CodeInterpreterToolCallDelta: ("code_interpreter", frozenset({"input", "outputs"})),
}
"""Class -> the inner object of the wire, and the fields that stand in it."""

UNIONS: Mapping[object, type] = {
    m.Tool: m.UnknownTool,
    m.ResponseFormat: m.UnknownResponseFormat,
    m.CodeInterpreterOutput: m.UnknownCodeInterpreterOutput,
    m.ToolCall: m.UnknownToolCall,
    m.StepDetails: m.UnknownStepDetails,
    m.Annotation: m.UnknownAnnotation,
    m.MessageContent: m.UnknownContent,
    m.ContentDelta: m.UnknownContentDelta,
    m.ToolCallDelta: m.UnknownToolCallDelta,
    m.StepDetailsDelta: m.UnknownStepDetailsDelta,
}
"""Union told apart by `type` -> the class for a type that nobody knows."""

OBJECT_NAMES: Mapping[type, str] = {
    m.Run: "thread.run",
    m.RunStep: "thread.run.step",
    m.Thread: "thread",
    m.ThreadDeleted: "thread.deleted",
    m.Message: "thread.message",
    m.MessageDeleted: "thread.message.deleted",
    m.MessageDelta: "thread.message.delta",
    m.RunStepDelta: "thread.run.step.delta",
}
"""Top-level class -> the wire's constant `object` field."""

RENAMED: Mapping[type, Mapping[str, str]] = {
    # Real servers send `expires_at` on a step where the description says `expired_at`.
    m.RunStep: {"expires_at": "expired_at"},
    # DashScope counts by these names.
    m.Usage: {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens"},
}
"""Class -> {name that some servers use: our field}; the field's own name wins where both are sent."""


def structure(value: object, model: Any, *, detailed: bool = False) -> Any:
    """Make *model* (a class, a union or a tuple type) from the plain JSON *value*.

    With *detailed*, errors are gathered with the path to each (and it takes about twice as long).

    Raises:
        Exception: Whatever cattrs or a hook raises for a value of the wrong shape.
    """
    return _converter(detailed).structure(value, model)


def structurer(model: Any) -> Callable[[Any], Any]:
    """Return the function that makes *model* from plain JSON, for many calls of one type."""
    hook = _converter(False).get_structure_hook(model)
    return lambda value: hook(value, model)


def unstructure(value: object) -> Any:
    """Turn models, alone or inside lists and mappings, into plain JSON values in the wire's shape."""
    return _converter(False).unstructure(value)


def request_body(value: object) -> Any:
    """As `unstructure`, for a request: there the text of a message is a plain string."""
    return _request_converter().unstructure(value)


@cache
def _request_converter() -> cattrs.Converter:
    converter = _converter(False).copy()
    converter.register_unstructure_hook(m.TextContent, lambda part: {"type": part.type, "text": part.value})
    return converter


@cache
def _converter(detailed: bool) -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=detailed, unstruct_collection_overrides={tuple: list})
    for scalar, hook in ((str, _str), (int, _int), (float, _float), (bool, _bool)):
        converter.register_structure_hook(scalar, hook)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _object_hook(cls, converter))
    converter.register_structure_hook_func(_is_mapping, _mapping)
    converter.register_structure_hook_factory(_is_tuple, lambda hint: _tuple_hook(hint, converter))
    for union, unknown in UNIONS.items():
        converter.register_structure_hook(union, _union_hook(union, unknown, converter))
    for hint in (str | m.NamedToolChoice | None, str | m.ResponseFormat | None, m.StepDetailsDelta | None):
        converter.register_structure_hook(hint, _word_or_object_hook(hint, converter))
    converter.register_unstructure_hook_factory(attrs.has, lambda cls: _plain_hook(cls, converter))
    return converter


def _str(value: Any, _: Any) -> str:
    if type(value) is not str:
        raise TypeError(f"expected a string, got {_kind(value)}")
    return value


def _int(value: Any, _: Any) -> int:
    """Take whole floats too: one self-hosted server sends every `*_at` as `1795241450.0`."""
    if type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {_kind(value)}")
    return value


def _float(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"expected a number, got {_kind(value)}")
    return float(value)


def _bool(value: Any, _: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(f"expected true or false, got {_kind(value)}")
    return value


def _is_tuple(hint: Any) -> bool:
    origin: object = get_origin(hint)
    return origin is tuple


def _is_mapping(hint: Any) -> bool:
    return get_origin(hint) is not None and isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping)


def _mapping(value: Any, hint: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise TypeError(f"expected an object, got {_kind(value)}")
    if get_args(hint)[1] is str:
        for item in value.values():
            _str(item, str)
    return value


def _tuple_hook(hint: Any, converter: cattrs.Converter) -> Structure:
    items = types.GenericAlias(list, get_args(hint)[0])
    each = converter.get_structure_hook(items)

    def hook(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise TypeError(f"expected a list, got {_kind(value)}")
        return tuple(each(value, items))

    return hook


def _union_hook(union: Any, unknown: type, converter: cattrs.Converter) -> Structure:
    known = {attrs.fields(cls).type.default: cls for cls in get_args(union) if cls is not unknown}
    has_id = hasattr(attrs.fields(unknown), "id")

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise TypeError(f"expected an object, got {_kind(value)}")
        kind = value.get("type")
        cls = known.get(kind) if type(kind) is str else None
        if cls is not None:
            return converter.get_structure_hook(cls)(value, cls)
        word = kind if type(kind) is str else ""
        return unknown(type=word, id=value.get("id"), data=value) if has_id else unknown(type=word, data=value)

    return hook


def _word_or_object_hook(hint: Any, converter: cattrs.Converter) -> Structure:
    members = tuple(member for member in get_args(hint) if member not in (str, types.NoneType))
    model: Any = Union[members]  # noqa: UP007  # a union made at run time

    takes_words = str in get_args(hint)

    def hook(value: Any, _: Any) -> Any:
        if value is None or (takes_words and type(value) is str):
            return value
        return converter.structure(value, model)

    return hook


def _object_hook(cls: type, converter: cattrs.Converter) -> Structure:
    """Return the hook that makes *cls* from an object of the wire: inner object unfolded, the unknown kept."""
    fields = attrs.fields(cls)
    inner_key, inside = INNER.get(cls, (None, frozenset()))
    outside = {field.name for field in fields} - inside - {"extra"}
    keeps_extra = hasattr(fields, "extra")
    never_null = {f.name for f in fields if f.default is not attrs.NOTHING and types.NoneType not in get_args(f.type)}
    renamed = RENAMED.get(cls, {})
    constant = OBJECT_NAMES.get(cls)
    omitted = {"extra": override(omit=True)} if keeps_extra else {}
    build: Structure = make_dict_structure_fn(cls, converter, **cast("Any", omitted))

    def hook(value: Any, _: Any) -> Any:
        if type(value) is not dict:
            raise TypeError(f"expected an object, got {_kind(value)}")
        flat: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for key, item in _under_our_names(value, renamed).items():
            if key in outside:
                flat[key] = item
            elif key == inner_key:
                _unfold(key, item, inside, flat, extra)
            elif key != "object" or constant is None:
                extra[key] = item
        for name in never_null & flat.keys():
            if flat[name] is None:
                del flat[name]
        made = build(flat, cls)
        return attrs.evolve(made, extra=extra) if extra and keeps_extra else made

    return hook


def _under_our_names(value: dict[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Return *value* with what stands under another name moved to ours, unless ours holds something too."""
    moved = dict(value) if renamed else value
    for theirs, ours in renamed.items():
        item = moved.pop(theirs, None)
        if moved.get(ours) is None:
            moved[ours] = item
        elif item is not None:
            moved[theirs] = item
    return moved


def _unfold(key: str, inner: Any, inside: frozenset[str], flat: dict[str, Any], extra: dict[str, Any]) -> None:
    if type(inner) is list and len(inner) == 1:
        inner = inner[0]  # One self-hosted server wraps the text of a message in a list.
    if inner is None:
        return
    if type(inner) is not dict:
        raise TypeError(f"expected an object at {key}, got {_kind(inner)}")
    flat.update((name, item) for name, item in inner.items() if name in inside)
    unknown = {name: item for name, item in inner.items() if name not in inside}
    if unknown:
        extra[key] = unknown


def _plain_hook(cls: type, converter: cattrs.Converter) -> Callable[[Any], dict[str, Any]]:
    """Return the hook that writes *cls* in the wire's shape.

    A nested object leaves out what has its default value, `type` excepted; a top-level one is written whole.
    """
    fields = attrs.fields(cls)
    inner_key, inside = INNER.get(cls, (None, frozenset()))
    constant = OBJECT_NAMES.get(cls)
    whole = constant is not None

    def hook(model: Any) -> dict[str, Any]:
        if (data := getattr(model, "data", None)) is not None and cls in UNIONS.values():
            named = {field.name: getattr(model, field.name) for field in fields if field.name != "data"}
            return dict(data) | {name: value for name, value in named.items() if value and name not in data}
        out: dict[str, Any] = {"object": constant} if whole else {}
        inner: dict[str, Any] = {}
        for field in fields:
            value = getattr(model, field.name)
            if field.name == "extra" or (not whole and field.name != "type" and value == _default(field)):
                continue
            (inner if field.name in inside else out)[field.name] = converter.unstructure(value)
        extra = dict(getattr(model, "extra", {}))
        if inner_key is not None and (inner or inner_key in extra):
            out[inner_key] = inner | dict(extra.pop(inner_key, {}))
        return out | extra

    return hook


def _default(field: Any) -> object:
    return field.default.factory() if isinstance(field.default, attrs.Factory) else field.default  # type: ignore[arg-type]


def _kind(value: object) -> str:
    names = {type(None): "null", dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return names.get(type(value), "a number")

"""The fast road from bytes to models: msgspec structs derived from the models, and slots filled from them.

msgspec reads JSON fastest into structs of its own, can tell a union by its `type` there, and can refuse fields that
the struct has not. None of this it does for attrs classes. So each model gets a private struct with the wire's shape,
and a method that moves its values into the model's slots.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Any, get_args, get_origin

import attrs
import msgspec
from msgspec import Raw

from asyncruns._shapes import INNER, RENAMED, UNIONS, structurer

SHARED = frozenset({"instructions", "tools", "tool_resources", "truncation_strategy", "tool_choice", "response_format"})
"""Fields of a run that are equal in most runs of a thread: read once, and one object for all of them."""

MAX_DEPTH = 128
"""Levels that an answer may be nested; much deeper ones can be read, but neither copied nor pickled."""

_SHARED_BYTES = 2**18
_SCALARS = {str, int, float, bool, type(None)}
_NULL = Raw(b"null")


def _plain_type(levels: int) -> Any:
    """Return a type for any JSON value nested at most so many levels, which msgspec holds it to while it reads."""
    scalar = str | int | float | bool | None
    made: Any = scalar
    for _ in range(levels):
        made = scalar | list[made] | dict[str, made]
    return made


# Each level doubles the time that making a decoder takes; what is nested deeper goes the slow road.
_PLAIN = _plain_type(4)


def read_plain(data: bytes, levels: int = MAX_DEPTH) -> Any:
    """Read any JSON value into dicts and lists.

    Raises:
        RecursionError: It is nested deeper than so many levels.
        ValueError: It is not JSON.
    """
    plain = msgspec.json.decode(data)
    if data.count(b"[") + data.count(b"{") > levels:
        _check_depth(plain, levels)
    return plain


def _check_depth(plain: Any, levels: int) -> None:
    level = [plain]
    for _ in range(levels):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    raise RecursionError(f"nested deeper than {levels} levels")


def wire_struct(model: type, *, unknown: Sequence[str] | None = None) -> Any:
    """Return the struct that msgspec decodes a *model* into; its method `made` gives the model.

    It refuses fields that it does not know. A top-level one also takes *unknown* fields, into `extra`.
    """
    # A member of a union has its `type` as the struct's tag; it is no field of the struct then.
    tag = _tag(model)
    fields = [f for f in attrs.fields(model) if f.name != "extra" and not (tag and f.name == "type")]
    shared = frozenset[str]() if unknown is None else SHARED
    columns = _columns(model, fields, shared)
    options: dict[str, Any] = {"tag": tag, "tag_field": "type"} if tag else {}
    if unknown is not None:
        columns += [("object", str | None, None)]
        columns += [(f"unknown_{at}", _PLAIN | msgspec.UnsetType, msgspec.UNSET) for at in range(len(unknown))]
        options["rename"] = {f"unknown_{at}": name for at, name in enumerate(unknown)}
    made = _compile(model, fields, shared, tag, unknown or ())
    return _defstruct(f"{model.__name__}Wire", columns, namespace={"made": made}, **options)


def _compile(
    model: type, fields: list[Any], shared: frozenset[str], tag: str, unknown: Sequence[str]
) -> Callable[[Any], Any]:
    """Write and compile the method that makes *model* from its struct, as attrs and cattrs do for theirs.

    A line a field, with no loop and no lookup left for the call, takes a third of the time that a loop over the
    fields takes. The source is made of the models' own names and nothing else.
    """
    inner_key, inside = INNER.get(model, ("", frozenset()))
    aliases = {ours: theirs for theirs, ours in RENAMED.get(model, {}).items()}
    names: dict[str, Any] = {"model": model, "open_model": _open(model), "new": object.__new__}
    lines = ["def made(wire):", "it = new(open_model)", "extra = {}"]
    if inside:
        lines.append(f"inner = wire.{inner_key}")
    for field in fields:
        name = field.name
        value = f"inner.{name}" if name in inside else f"wire.{name}"
        if name in aliases:
            lines += [
                f"value = {value}",
                f"if value is None: value = wire.{aliases[name]}",
                f"elif wire.{aliases[name]} is not None: extra[{aliases[name]!r}] = wire.{aliases[name]}",
            ]
            value = "value"
        if name in shared:
            names[f"shared_{name}"] = _Shared(field.type)
            source = f"shared_{name}[bytes({value})]"
        else:
            source, null = _source(field.type, value), _null(field)
            if source != value or null != "None":
                source = f"{null} if {value} is None else {source}"
        lines.append(f"it.{name} = {source}")
    if tag:
        lines.append(f"it.type = {tag!r}")
    for at, name in enumerate(unknown):
        names |= {"UNSET": msgspec.UNSET, f"name_{at}": name}
        lines.append(f"if wire.unknown_{at} is not UNSET: extra[name_{at}] = wire.unknown_{at}")
    lines += ["it.extra = extra", "it.__class__ = model", "return it"]
    exec("\n    ".join(lines), names)  # noqa: S102
    compiled: Callable[[Any], Any] = names["made"]
    return compiled


def _open(model: type) -> type:
    """Return a class with the layout of the frozen *model* whose objects can be filled, and then become the model's.

    Plain assignment to a slot is many times faster than the calls that get past a frozen class.
    """
    as_usual = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(f"Open{model.__name__}", (model,), as_usual)


def _source(hint: Any, value: str) -> str:
    """Return the source of what turns *value*, read by `_wire(hint)`, into the model's."""
    if get_origin(hint) is tuple:
        item = _source(get_args(hint)[0], "item")
        return f"tuple({value})" if item == "item" else f"tuple([{item} for item in {value}])"
    is_struct = any(part in UNIONS or attrs.has(part) for part in (_union(hint), *get_args(hint)))
    return f"{value}.made()" if is_struct else value


class _Shared(dict[bytes, Any]):
    """What bytes mean: read once, and the same object for equal ones; what is kept is bounded in bytes."""

    def __init__(self, hint: Any) -> None:
        self._structure = structurer(hint)
        self._decode = msgspec.json.Decoder(_wire(hint)).decode if get_origin(hint) is tuple else None
        self._null = () if get_origin(hint) is tuple else None
        self._size = 0

    def __missing__(self, key: bytes) -> Any:
        value = self._null if key == b"null" else self._value(key)
        if self._size + len(key) > _SHARED_BYTES:
            self.clear()
            self._size = 0
        self[key] = value
        self._size += len(key)
        return value

    def _value(self, key: bytes) -> Any:
        if self._decode is not None:
            try:
                return tuple([item.made() for item in self._decode(key)])
            except (ValueError, TypeError, AttributeError):  # cattrs knows the shapes that msgspec does not
                pass
        return self._structure(read_plain(key, MAX_DEPTH - 4))  # Around it stand a page, its list and a run.


def _columns(model: type, fields: list[Any], shared: frozenset[str]) -> list[Any]:
    inner_key, inside = INNER.get(model, ("", frozenset()))
    columns = [_column(field, shared) for field in fields if field.name not in inside]
    columns += [(name, int | None, None) for name in RENAMED.get(model, ())]
    if inside:
        inner = [_column(field, shared) for field in fields if field.name in inside]
        columns.append((inner_key, _defstruct(f"{model.__name__}Inner", inner)))
    return columns


def _defstruct(name: str, columns: list[Any], **options: Any) -> Any:
    return msgspec.defstruct(name, columns, kw_only=True, forbid_unknown_fields=True, gc=False, **options)


def _column(field: Any, shared: frozenset[str]) -> tuple[Any, ...]:
    if field.name in shared:
        return field.name, Raw, _NULL
    hint = _wire(field.type)
    if field.default is attrs.NOTHING:
        return field.name, hint
    plain = field.default if type(field.default) in _SCALARS else None
    return field.name, hint | None if plain is None else hint, plain


def _wire(hint: Any) -> Any:
    """Return what msgspec reads for the model's annotation *hint*."""
    if get_origin(hint) is tuple:
        return list[_wire(get_args(hint)[0])]  # type: ignore[misc]  # a type made at run time
    if _is_mapping(hint):
        return dict[str, _PLAIN if get_args(hint)[1] is object else str]  # type: ignore[misc]  # as above
    if hint in UNIONS:
        return reduce(or_, [_nested(model) for model in get_args(hint) if model is not UNIONS[hint]])
    if _union(hint) in UNIONS:
        return _wire(_union(hint)) | None
    if attrs.has(hint):
        return _nested(hint)
    if get_args(hint):
        return reduce(or_, [part if part in _SCALARS else _wire(part) for part in get_args(hint)])
    return hint


def _union(hint: Any) -> Any:
    """Return the union *hint* without None."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    return reduce(or_, parts) if isinstance(hint, UnionType) else hint


@cache
def _nested(model: type) -> Any:
    return wire_struct(model)


def _tag(model: type) -> str:
    is_member = any(model in get_args(union) for union in UNIONS)
    return str(attrs.fields_dict(model)["type"].default) if is_member else ""


def _null(field: Any) -> str:
    """Return the source of what stands for null: an empty tuple or dict in a field that is never None."""
    if get_origin(field.type) is tuple:
        return "()"
    return "{}" if _is_mapping(field.type) else "None"


def _is_mapping(hint: Any) -> bool:
    return get_origin(hint) is Mapping

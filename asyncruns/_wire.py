"""The fast road from bytes to models: msgspec structs derived from the models, and slots filled from them.

msgspec reads JSON fastest into structs of its own, can tell a union by its `type` there, and can refuse fields that
the struct has not. None of this it does for attrs classes. So each model gets a private struct with the wire's shape,
and a `Filler` that moves a struct's values into the model's slots.
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

_SHARED_BYTES = 4 * 2**20
_SCALARS = {str, int, float, bool, type(None)}
_NULL = Raw(b"null")

Make = Callable[[Any], Any]


class Filler:
    """Fills one model from its struct.

    Attributes:
        struct: The struct that msgspec decodes into. It refuses fields that it does not know.
        fill: Called with a struct; returns the model.
    """

    def __init__(self, model: type, *, unknown: Sequence[str] | None = None) -> None:
        """Make the filler of *model*; a top-level one also takes *unknown* fields, into `extra`."""
        # A member of a union has its `type` as the struct's tag; it is no field of the struct then.
        tag = _tag(model)
        fields = [f for f in attrs.fields(model) if f.name != "extra" and not (tag and f.name == "type")]
        shared = frozenset[str]() if unknown is None else SHARED
        self.struct = _struct(model, fields, shared, tag, unknown)
        self.fill = _compile(model, fields, shared, tag, unknown or ())


def _compile(
    model: type, fields: list[Any], shared: frozenset[str], tag: str, unknown: Sequence[str]
) -> Callable[[Any], Any]:
    """Write and compile the function that fills *model*, as attrs and cattrs do for theirs.

    A line a field, with no loop and no lookup left for the call, takes a third of the time that a loop over the
    fields takes. The source is made of the models' own names and nothing else.
    """
    inner_key, inside = INNER.get(model, ("", frozenset()))
    aliases = {ours: theirs for theirs, ours in RENAMED.get(model, {}).items()}
    names: dict[str, Any] = {"model": model, "new": object.__new__}
    lines = ["def fill(wire):", "made = new(model)", "extra = {}"]
    if inside:
        lines.append(f"inner = wire.{inner_key}")
    for field in fields:
        name = field.name
        value = f"inner.{name}" if name in inside else f"wire.{name}"
        make = _Shared(field.type) if name in shared else _maker(field.type)
        names |= {f"set_{name}": getattr(model, name).__set__, f"make_{name}": make}
        if name in aliases:
            lines += [
                f"value = {value}",
                f"if value is None: value = wire.{aliases[name]}",
                f"elif wire.{aliases[name]} is not None: extra[{aliases[name]!r}] = wire.{aliases[name]}",
            ]
            value = "value"
        made = value if make is None else f"make_{name}({value})"
        null = _null(field)
        if name not in shared and (null != "None" or make is not None):
            made = f"{null} if {value} is None else {made}"
        lines.append(f"set_{name}(made, {made})")
    if tag:
        names["set_type"] = getattr(model, "type").__set__  # noqa: B009  # the class says nothing of it
        lines.append(f"set_type(made, {tag!r})")
    for at, name in enumerate(unknown):
        names |= {"UNSET": msgspec.UNSET, f"name_{at}": name}
        lines.append(f"if wire.unknown_{at} is not UNSET: extra[name_{at}] = wire.unknown_{at}")
    names["set_extra"] = getattr(model, "extra").__set__  # noqa: B009
    lines += ["set_extra(made, extra)", "return made"]
    exec("\n    ".join(lines), names)  # noqa: S102
    filled: Callable[[Any], Any] = names["fill"]
    return filled


class _Shared:
    """Reads equal bytes once and gives the same object for them; what it keeps is bounded in bytes."""

    def __init__(self, hint: Any) -> None:
        self._structure = structurer(hint)
        self._read = _tuple_reader(hint) if get_origin(hint) is tuple else None
        self._null = () if get_origin(hint) is tuple else None
        self._known: dict[bytes, Any] = {}
        self._size = 0
        self._last: tuple[bytes, Any] = b"null", self._null

    def __call__(self, raw: Raw) -> Any:
        key = bytes(raw)
        last, value = self._last
        if key == last:  # the run before had the same: spares hashing the bytes
            return value
        if key not in self._known:
            self._learn(key)
        self._last = key, self._known[key]
        return self._last[1]

    def _learn(self, key: bytes) -> None:
        value = self._null if key == b"null" else self._value(key)
        if self._size + len(key) > _SHARED_BYTES:
            self._known.clear()
            self._size = 0
        self._known[key] = value
        self._size += len(key)

    def _value(self, key: bytes) -> Any:
        if self._read is not None:
            try:
                return self._read(key)
            except (ValueError, TypeError, AttributeError):  # cattrs knows the shapes that msgspec does not
                pass
        return self._structure(msgspec.json.decode(key))


def _tuple_reader(hint: Any) -> Make:
    """Return what reads the bytes of a list of *hint*'s items, all of them of the published shape."""
    decoder, make = msgspec.json.Decoder(_wire(hint)), _maker(hint) or tuple
    return lambda data: make(decoder.decode(data))


def _struct(model: type, fields: list[Any], shared: frozenset[str], tag: str, unknown: Sequence[str] | None) -> Any:
    inner_key, inside = INNER.get(model, ("", frozenset()))
    outer = [_column(field, shared) for field in fields if field.name not in inside]
    outer += [(name, int | None, None) for name in RENAMED.get(model, ())]
    if inside:
        columns = [_column(field, shared) for field in fields if field.name in inside]
        outer.append((inner_key, _defstruct(f"{model.__name__}Inner", columns)))
    if unknown is None:
        return _defstruct(f"{model.__name__}Wire", outer, tag=tag or None, tag_field="type" if tag else None)
    outer += [("object", str | None, None)]
    outer += [(f"unknown_{at}", Any, msgspec.UNSET) for at in range(len(unknown))]
    return _defstruct(f"{model.__name__}Wire", outer, rename={f"unknown_{at}": name for at, name in enumerate(unknown)})


def _defstruct(name: str, columns: list[Any], **options: Any) -> Any:
    return msgspec.defstruct(name, columns, kw_only=True, forbid_unknown_fields=True, **options)


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
        return dict[str, Any] if get_args(hint)[1] is object else dict[str, str]
    if hint in UNIONS:
        return reduce(or_, _members(hint))
    if _union(hint) in UNIONS:
        return _wire(_union(hint)) | None
    if attrs.has(hint):
        return _nested(hint).struct
    if get_args(hint):
        return reduce(or_, [part if part in _SCALARS else _wire(part) for part in get_args(hint)])
    return hint


def _maker(hint: Any) -> Make | None:
    """Return what turns a value read by `_wire(hint)` into the model's; None where it is the same."""
    if get_origin(hint) is tuple:
        make = _maker(get_args(hint)[0])
        return tuple if make is None else lambda values: tuple(map(make, values))
    if _union(hint) in UNIONS:
        members = _members(_union(hint))
        return lambda wire: members[type(wire)](wire)
    if attrs.has(hint):
        return _nested(hint).fill
    parts = [part for part in get_args(hint) if part not in _SCALARS and not _is_mapping(hint)]
    return _maker(parts[0]) if len(parts) == 1 else None


def _union(hint: Any) -> Any:
    """Return the union *hint* without None."""
    parts = [part for part in get_args(hint) if part is not type(None)]
    return reduce(or_, parts) if isinstance(hint, UnionType) else hint


@cache
def _nested(model: type) -> Filler:
    return Filler(model)


def _members(union: Any) -> dict[Any, Make]:
    """Return the structs of the known members of *union*, each with its filler."""
    fillers = [_nested(model) for model in get_args(union) if model is not UNIONS[union]]
    return {filler.struct: filler.fill for filler in fillers}


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

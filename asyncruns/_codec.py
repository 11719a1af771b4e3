"""Bytes <-> models: msgspec reads what servers normally send, cattrs what they send otherwise.

What an answer holds beyond the published shape is handled in two steps, so that conformant servers pay nothing for it.
With unknown fields the same bytes are read again for these alone; with fields of another shape (a null list, a float
for an integer) cattrs structures the plain JSON.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import attrs
import cattrs
import msgspec
from msgspec import Raw

from asyncruns._shapes import INNER, RENAMED, request_body, structure
from asyncruns._wire import MAX_DEPTH, read_plain, wire_struct
from asyncruns.errors import DecodeError, ProtocolError, SchemaError
from asyncruns.models import Page

T = TypeVar("T")

_MAX_UNKNOWN = 64
"""Unknown fields of one model that are learnt; with more, answers that hold them are read by cattrs."""
_NO_NAME = re.compile(r'[\x00-\x1f"\\]')
"""What msgspec takes in no field's name; answers with such names are read by cattrs."""
_MAX_DETAILED = 8192
"""Values in a refused object up to which is looked for what is wrong with each; that takes 20 µs and 2 kB for one."""
_BOM = b"\xef\xbb\xbf"
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_REFUSED = (TypeError, ValueError, KeyError, AttributeError, RecursionError)  # msgspec's errors are ValueErrors


def decode(data: bytes, model: type[T]) -> T:
    """Read one object.

    Raises:
        DecodeError: The bytes are not JSON (in UTF-8, without NaN), or nested deeper than 128 levels.
        SchemaError: It is JSON of another shape; `path` says where, in an object of 8,192 values at most.
        ProtocolError: It is an error object.
    """
    made: T = _READERS[model].one(without_bom(data))
    return made


def check_told_once(data: bytes, model: type) -> None:
    """Raise `DecodeError` if the one *model* in *data* says twice which it is, or whose.

    Readers of JSON differ about which of two equal keys counts. For all other fields, and within pages, it is
    the last. Keys written with escapes are not looked for.
    """
    for written, name in _READERS[model].identity.items():
        if data.find(written) != data.rfind(written) and _keys(without_bom(data)).count(name) > 1:
            raise DecodeError(f"The answer tells its {name} twice.")


def decode_page(data: bytes, model: type[T]) -> Page[T]:
    """Read one page of a listing. Raises as `decode`."""
    return _READERS[model].page(without_bom(data))


def decode_plain(data: bytes) -> Any:
    """Read any JSON value into dicts and lists.

    Raises:
        DecodeError: The bytes are not JSON (in UTF-8, without NaN), or nested deeper than 128 levels.
    """
    return _plain(without_bom(data))


def structure_plain(plain: Any, model: type[T]) -> T:
    """Make one object from a plain JSON value. Raises `SchemaError`, as `decode`."""
    return _structured(plain, model, "$")


def is_cut_short(data: bytes) -> bool:
    """Whether *data* is the beginning of a JSON text whose end is missing."""
    why = _refusal(data)
    # A number that ends behind its sign, point or exponent is called malformed; what stands before it tells.
    return bool(why) and "truncated" in why + _refusal(data.rstrip(b"+-.Ee"))


def peek_cursor(data: bytes, name: str) -> str | None:
    """Guess the next cursor from the last bytes of a page, without reading the page.

    Args:
        data: The page.
        name: `last_id` or `first_id`, whichever the walk continues from.

    Returns:
        The id, or None when the tail does not say that there is more, or not plainly. It is a guess to be held
        against the page once that is read.
    """
    tail = data[-400:]
    more, found = _HAS_MORE.search(tail), _TAIL_ID[name].search(tail)
    return found[1].decode() if more and found else None


def encode(body: Mapping[str, object]) -> bytes:
    """Write a request body; models inside it take the wire's shape.

    Raises:
        ValueError: A string cannot be written as UTF-8, or a number is NaN or infinite.
        TypeError: A value has no JSON form.
    """
    plain = request_body(body)
    _check_finite(plain)
    return msgspec.json.encode(plain)


class _Reader(Generic[T]):
    """Reads one model, by the quickest way that its bytes allow; what that needs is made once.

    Attributes:
        identity: The keys that say which object it is, and whose: as they are written -> by name.
    """

    def __init__(self, model: type[T]) -> None:
        names = {field.name for field in attrs.fields(cast("Any", model))} - {"extra"}
        self.identity = {f'"{name}"'.encode(): name for name in ("id", "thread_id", "run_id") if name in names}
        self._model = model
        self._known = names | RENAMED.get(model, {}).keys() | {"object", *INNER.get(model, ())[:1]}
        self._learn(frozenset())

    def one(self, data: bytes) -> T:
        while True:
            try:
                made: T = self._one.decode(data).made()
            except _REFUSED:
                pass  # What is raised below must not have a half-made object hanging on it.
            else:
                return made
            if not self._has_learned(_FIELDS, data):
                return self._structure(_plain(data), "$")

    def page(self, data: bytes) -> Page[T]:
        while True:
            try:
                page = self._page.decode(data)
                items = tuple([wire.made() for wire in page.data])
            except _REFUSED:
                pass
            else:
                return Page(data=items, first_id=page.first_id, last_id=page.last_id, has_more=page.has_more)
            if not self._has_learned(_PAGE_FIELDS, data):
                return self._structured_page(data)

    def _learn(self, unknown: frozenset[str]) -> None:
        """Expect the *unknown* fields from now on, so that a server that always sends them is read as fast."""
        self._unknown = unknown
        struct = wire_struct(cast("type", self._model), unknown=sorted(unknown))
        self._one: Any = msgspec.json.Decoder(struct)
        self._page: Any = msgspec.json.Decoder(page_struct(struct))

    def _has_learned(self, decoder: Any, data: bytes) -> bool:
        """Look for unknown fields in an answer that was refused; True if there were new ones to learn."""
        try:
            found = decoder.decode(data)
        except _REFUSED:
            return False
        objects = [found] if isinstance(found, dict) else found.data
        met = self._unknown.union(*objects) - self._known
        if met == self._unknown or len(met) > _MAX_UNKNOWN or any(map(_NO_NAME.search, met)):
            return False
        self._learn(met)
        return True

    def _structured_page(self, data: bytes) -> Page[T]:
        plain = _plain(data)
        try:
            frame = SLICES.decode(data)
        except msgspec.ValidationError as error:
            raise schema_error(error, plain) from None
        items = tuple(self._structure(item, f"$.data[{n}]") for n, item in enumerate(plain["data"]))
        return Page(data=items, first_id=frame.first_id, last_id=frame.last_id, has_more=frame.has_more)

    def _structure(self, plain: Any, path: str) -> T:
        if isinstance(plain, dict) and "error" in plain and "id" not in plain:
            raise _error_object(plain)
        return _structured(plain, self._model, path)


class _Readers(dict[type, _Reader[Any]]):
    """A reader for each model, made when it is first asked for."""

    def __missing__(self, model: type) -> _Reader[Any]:
        return self.setdefault(model, _Reader(model))


_READERS = _Readers()


def page_struct(item: Any) -> Any:
    return msgspec.defstruct(
        "PageWire",
        [
            ("data", list[item]),
            ("first_id", str | None, None),
            ("last_id", str | None, None),
            ("has_more", bool | None, None),
            ("error", None, None),  # What comes with one is not all that there is.
        ],
    )


SLICES: Any = msgspec.json.Decoder(page_struct(Raw))
_FIELDS: Any = msgspec.json.Decoder(dict[str, Raw])
_PAGE_FIELDS: Any = msgspec.json.Decoder(page_struct(dict[str, Raw]))
_HAS_MORE = re.compile(rb'"has_more"\s*:\s*true')
_TAIL_ID = {name: re.compile(rb'"%b"\s*:\s*"([A-Za-z0-9._~-]+)"' % name.encode()) for name in ("first_id", "last_id")}


def without_bom(data: bytes) -> bytes:
    return data.removeprefix(_BOM)


def _plain(data: bytes) -> Any:
    try:
        return read_plain(data)
    except MALFORMED as error:
        raise decode_error(error) from None


def _keys(data: bytes) -> list[str]:
    """Return the keys of the outermost object as often as they stand there."""
    keys: list[str] = []

    def keep(pairs: list[tuple[str, object]]) -> None:
        keys[:] = [key for key, _ in pairs]  # The outermost object comes last.

    try:
        json.loads(data, object_pairs_hook=keep)
    except (ValueError, RecursionError) as error:  # In a value that another of the same key replaced.
        raise decode_error(error) from None
    return keys


def _refusal(data: bytes) -> str:
    """Return what is wrong with a JSON text; empty when nothing is."""
    try:
        msgspec.json.decode(data, type=Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return str(error)
    return ""


def _structured(plain: Any, model: type[T], path: str) -> T:
    """Make one object from a plain JSON value that stands at *path*; where in it an error is, only small ones tell."""
    try:
        made: T = structure(plain, model)
    except Exception as error:
        if not _is_small(plain):
            raise _structure_error(error, path) from None
    else:
        return made
    try:
        return cast("T", structure(plain, model, detailed=True))
    except Exception as error:
        raise _structure_error(error, path) from None


def _is_small(plain: Any) -> bool:
    left, todo = _MAX_DETAILED, [plain]
    while todo:
        value = todo.pop()
        if isinstance(value, dict | list):
            left -= len(value)
            if left < 0:
                return False
            todo += value.values() if isinstance(value, dict) else value
    return True


def _check_finite(plain: Any) -> None:
    match plain:
        case float() if plain != plain or plain in (float("inf"), float("-inf")):
            raise ValueError(f"{plain} cannot be sent: JSON has no such number.")
        case dict():
            for item in plain.values():
                _check_finite(item)
        case list():
            for item in plain:
                _check_finite(item)


def decode_error(error: BaseException) -> DecodeError:
    reason = f"nested deeper than {MAX_DEPTH} levels" if isinstance(error, RecursionError) else str(error)
    return DecodeError(f"The answer is not readable JSON: {reason}")


def _error_object(plain: dict[str, Any]) -> ProtocolError:
    error = plain["error"]
    message = error.get("message", error) if isinstance(error, dict) else error
    return ProtocolError(f"The server said yes and sent an error object: {message}")


def schema_error(error: msgspec.ValidationError, plain: Any) -> ProtocolError:
    if isinstance(plain, dict) and (plain.get("error") is not None or ("data" not in plain and "error" in plain)):
        return _error_object(plain)
    reason, _, path = str(error).partition(" - at `")
    return _named(reason, path.rstrip("`") or "$")


def _named(reason: str, path: str) -> SchemaError:
    missing = re.search(r"missing required field `(\w+)`", reason)
    return SchemaError(f"The answer has another shape: {reason}", path=f"{path}.{missing[1]}" if missing else path)


def _structure_error(error: Exception, path: str) -> SchemaError:
    reason, _, where = cattrs.transform_error(error, path)[0].rpartition(" @ ")
    return SchemaError(f"The answer has another shape: {reason}", path=where)

"""What is read of every item, and whether it can still change."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, TypeGuard, TypeVar

import msgspec

from asyncruns import TERMINAL_STATUSES, DecodeError, SchemaError
from asyncruns.archive._records import Walk

T = TypeVar("T", bound=msgspec.Struct)

_NULL = msgspec.Raw(b"null")


class Facts(msgspec.Struct, gc=False):
    """What is read of an item whatever else is in it; only the id must be there."""

    id: str
    status: Any = None
    created_at: Any = None
    thread_id: Any = None


class _Unread(msgspec.Struct, gc=False):
    id: str
    status: msgspec.Raw = _NULL
    created_at: msgspec.Raw = _NULL
    thread_id: msgspec.Raw = _NULL


_read_facts = msgspec.json.Decoder(Facts).decode
_read_little = msgspec.json.Decoder(_Unread).decode


def facts_of(blobs: Sequence[bytes]) -> list[Facts]:
    """Read the facts of a page's items.

    Raises:
        SchemaError: An item is no object with an id.
        DecodeError: An item is nested deeper than Python reads: about 1,000 levels in 3.11, 10,000 in 3.13.
    """
    try:
        try:
            return list(map(_read_facts, blobs))
        except msgspec.DecodeError:
            return [_readable(_read_little(blob)) for blob in blobs]
    except RecursionError:
        raise DecodeError("An item of the listing is nested too deep to be read.") from None
    except msgspec.DecodeError as error:
        raise SchemaError(f"An item of the listing has another shape: {error}", path="$.data") from None


def _readable(unread: _Unread) -> Facts:
    """Return the facts without those that hold a number that nothing can."""
    found: dict[str, Any] = {}
    for name in ("status", "created_at", "thread_id"):
        with suppress(msgspec.DecodeError):
            found[name] = msgspec.json.decode(getattr(unread, name))
    return Facts(id=unread.id, **found)


def reader_of(struct: type[T]) -> Callable[[bytes], T]:
    """Return what reads an item as *struct*: all of it, or the facts beside a number that nothing can hold.

    Of one that is nested too deep to be read here, there are none, and its id is empty.
    """
    decode = msgspec.json.Decoder(struct).decode
    names = [name for name in Facts.__struct_fields__ if name in struct.__struct_fields__]

    def read(blob: bytes) -> T:
        try:
            return decode(blob)
        except (msgspec.DecodeError, RecursionError):
            try:
                (facts,) = facts_of([blob])
            except DecodeError:
                facts = Facts(id="")
            return struct(**{name: getattr(facts, name) for name in names})

    return read


def is_terminal(status: object) -> bool:
    """Whether a run with this status, which may be anything a server sends, will never change again."""
    return isinstance(status, str) and status in TERMINAL_STATUSES


def settled(facts: Sequence[Facts], walk: Walk) -> int:
    """Return how many items there are before the first that may still change."""
    for number, fact in enumerate(facts):
        if not (is_terminal(fact.status) if walk.kind == "runs" else fact.status != "in_progress"):
            return number
    return len(facts)


def is_number(moment: object) -> TypeGuard[int | float]:
    """Whether a moment that a server tells can be compared."""
    return isinstance(moment, int | float)


def newest_first(moments: Sequence[object]) -> bool:
    """Whether the moments, one at least, are numbers and none comes before a later one."""
    return is_number(moments[0]) and all(
        is_number(before) and is_number(behind) and before >= behind for before, behind in pairwise(moments)
    )

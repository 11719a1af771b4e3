"""What is read of every item, and whether it can still change."""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from asyncruns import TERMINAL_STATUSES, DecodeError, SchemaError
from asyncruns.archive._records import Walk

T = TypeVar("T", bound=msgspec.Struct)


class Facts(msgspec.Struct, gc=False):
    """What is read of an item whatever else is in it; only the id must be there."""

    id: str
    status: Any = None
    created_at: Any = None
    thread_id: Any = None


_MOST_LEVELS = 500
"""Well below the 1,000 levels beyond which SQLite searches no JSON, and Python 3.11 reads none."""
_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|([\[{])|([\]}])')
_NO_OPENING = bytes(set(range(256)) - set(b"[{"))
_read_facts = msgspec.json.Decoder(Facts).decode


def facts_of(blobs: Sequence[bytes]) -> list[Facts]:
    """Read the facts of a page's items.

    Raises:
        SchemaError: An item is no object with an id.
        DecodeError: An item is nested too deep to be searched in an archive.
    """
    for blob in blobs:
        if len(blob) > 2 * _MOST_LEVELS and len(blob.translate(None, _NO_OPENING)) > _MOST_LEVELS:
            _check_depth(blob)
    try:
        return list(map(_read_facts, blobs))
    except msgspec.DecodeError as error:
        raise SchemaError(f"An item of the listing has another shape: {error}", path="$.data") from None


def reader_of(struct: type[T]) -> Callable[[bytes], T]:
    """Return what reads an item as *struct*: all of it, or the facts beside a number that nothing can hold."""
    decode = msgspec.json.Decoder(struct).decode
    names = [name for name in Facts.__struct_fields__ if name in struct.__struct_fields__]

    def read(blob: bytes) -> T:
        try:
            return decode(blob)
        except (msgspec.DecodeError, RecursionError):
            (facts,) = facts_of([blob])
            return struct(**{name: getattr(facts, name) for name in names})

    return read


def _check_depth(blob: bytes) -> None:
    levels = 0
    for found in _BRACKETS.finditer(blob):
        levels += (found[1] is not None) - (found[2] is not None)
        if levels > _MOST_LEVELS:
            raise DecodeError(f"An item of the listing is nested deeper than {_MOST_LEVELS} levels.")


def is_terminal(status: object) -> bool:
    """Whether a run with this status, which may be anything a server sends, will never change again."""
    return isinstance(status, str) and status in TERMINAL_STATUSES


def settled(facts: Sequence[Facts], walk: Walk) -> int:
    """Return how many items there are before the first that may still change."""
    for number, fact in enumerate(facts):
        if not (is_terminal(fact.status) if walk.kind == "runs" else fact.status != "in_progress"):
            return number
    return len(facts)

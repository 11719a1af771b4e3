"""What an item as it was sent tells: whether it can still change, and which of several came first."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeGuard, TypeVar

import msgspec

from asyncruns import TERMINAL_STATUSES, DecodeError
from asyncruns._slices import RawItem, read_item
from asyncruns.archive._records import Walk

T = TypeVar("T", bound=msgspec.Struct)


def reader_of(struct: type[T]) -> Callable[[bytes], T]:
    """Return what reads an item as *struct*: all of it, or what `RawItem` has beside a number that nothing can hold.

    Of one that is nested too deep to be read here, that is nothing, and its id is empty.
    """
    decode = msgspec.json.Decoder(struct).decode
    names = [name for name in RawItem.__struct_fields__ if name in struct.__struct_fields__]

    def read(blob: bytes) -> T:
        try:
            return decode(blob)
        except (msgspec.DecodeError, RecursionError):
            try:
                item = read_item(blob)
            except DecodeError:
                item = RawItem(id="")
            return struct(**{name: getattr(item, name) for name in names})

    return read


def is_terminal(status: object) -> bool:
    """Whether a run with this status, which may be anything a server sends, will never change again."""
    return isinstance(status, str) and status in TERMINAL_STATUSES


def settled(items: Sequence[RawItem], walk: Walk) -> int:
    """Return how many items there are before the first that may still change."""
    statuses = [item.status for item in items]
    if walk.kind != "runs":
        return statuses.index("in_progress") if "in_progress" in statuses else len(items)
    settle = list(map(is_terminal, statuses))
    return len(items) if all(settle) else settle.index(False)


def is_number(moment: object) -> TypeGuard[int | float]:
    """Whether a moment that a server tells can be compared."""
    return isinstance(moment, int | float)


def newest_first(moments: Sequence[object]) -> bool:
    """Whether the moments, one at least, are numbers and none comes before a later one."""
    return is_number(moments[0]) and all(
        is_number(before) and is_number(behind) and before >= behind for before, behind in pairwise(moments)
    )

"""What is written into an archive: pages with the walk's new state, and what is known of threads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec

from asyncruns import ArchiveCorrupt
from asyncruns._slices import RawItem
from asyncruns.archive._schema import Kind, checksum

WalkState = Literal["walking", "done", "open", "failed"]
"""Of a walk: under way; ended; ended, but what it holds may still change; broken off."""
ThreadState = Literal["listed", "done", "failed"]
"""Of a thread: not all brought yet; all brought; something could not be brought."""
Order = Literal["asc", "desc"]

FROM_NEWEST = 2**40
"""Items of a walk from the newest end are numbered from here downwards, so that all are in one order."""


@attrs.frozen(kw_only=True)
class Walk:
    """Where the walk of one listing stands.

    Attributes:
        thread_id: The thread.
        kind: What is listed.
        run_id: Whose steps; empty for the other kinds.
        order: The end that it began at: `asc` for the oldest item.
        state: See `WalkState`.
        cursor: Id of the last item archived; None before the first.
        anchor: Id of the last item before the first that may still change; a later walk begins behind it.
        position: Number of the next item, counted from the oldest, or from `FROM_NEWEST` downwards.
        reason: Why it failed.
    """

    thread_id: str
    kind: Kind
    run_id: str = ""
    order: Order = "asc"
    state: WalkState = "walking"
    cursor: str | None = None
    anchor: str | None = None
    position: int = 0
    reason: str | None = None

    def fields(self) -> tuple[Any, ...]:
        """Return the values of the columns of `walks`, less the checksum."""
        return tuple([getattr(self, name) for name in WALK_COLUMNS])


WALK_COLUMNS = tuple(field.name for field in attrs.fields(Walk))
WALKS = "SELECT " + ", ".join(f'"{name}"' for name in (*WALK_COLUMNS, "checksum")) + " FROM walks"  # noqa: S608  # names of our own
"""The query that gives rows for `read_walk`."""

THREADS = "SELECT id, state, reason, verified, checksum, json FROM threads ORDER BY rowid"
"""The query that gives rows for `check_thread`, in the order of the list that was given."""


@attrs.frozen(kw_only=True)
class PageWrite:
    """The items of a page, in the order of the listing, and the state of their walk behind it."""

    walk: Walk
    items: Sequence[RawItem] = ()

    @property
    def positions(self) -> range:
        """The numbers of the items."""
        count, behind = len(self.items), self.walk.position
        return range(behind - count, behind) if self.walk.order == "asc" else range(behind + count, behind, -1)


@attrs.frozen(kw_only=True)
class ThreadWrite:
    """What is now known of a thread; *json* None leaves the object as it is."""

    id: str
    state: ThreadState
    reason: str | None = None
    json: bytes | None = None


@attrs.frozen(kw_only=True)
class VerifiedWrite:
    """What a verification found of a thread: empty for nothing missing and nothing different."""

    id: str
    findings: str


Write = PageWrite | ThreadWrite | VerifiedWrite


@attrs.frozen(kw_only=True)
class KnownThread:
    """A thread to bring, and what is known of it: the walks of its own listings, by what is listed and the order."""

    id: str
    state: ThreadState
    has_json: bool
    walks: dict[tuple[Kind, Order], Walk] = attrs.field(factory=dict)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What exports were ever asked to bring into an archive: kinds of items, and how the steps are asked for.

    Attributes:
        include: Strings; which ones a server takes shows when it is asked.
        listed: All threads that the server lists.
    """

    steps: bool = False
    messages: bool = False
    threads: bool = False
    include: tuple[Any, ...] = ()
    probe: bool = False
    listed: bool = False

    def added_to(self, before: "Asked") -> "Asked":
        """Return this and what was asked *before*."""
        return Asked(
            steps=self.steps or before.steps,
            messages=self.messages or before.messages,
            threads=self.threads or before.threads,
            include=tuple(sorted({*self.include, *before.include})),
            probe=self.probe or before.probe,
            listed=self.listed or before.listed,
        )


def read_asked(path: Path, asked: bytes, given: int) -> Asked:
    """Return what exports were asked for, from the row of `archive`.

    Raises:
        ArchiveCorrupt: It is not what was written.
    """
    try:
        if checksum(None, asked.decode()) == given:
            return msgspec.json.decode(asked, type=Asked)
    except (UnicodeDecodeError, AttributeError, msgspec.DecodeError):
        pass
    raise ArchiveCorrupt(f"{path} is damaged: what it says that exports were asked for does not match its checksum.")


def read_walk(path: Path, row: Sequence[Any]) -> Walk:
    """Return the walk in *row*, the columns of `walks`.

    Raises:
        ArchiveCorrupt: It is not what was written.
    """
    try:
        fields: list[Any] = [value.decode() if isinstance(value, bytes) else value for value in row[:-1]]
    except UnicodeDecodeError:
        fields = []
    if not fields or checksum(None, *fields) != row[-1]:
        raise ArchiveCorrupt(f"{path} is damaged: where a walk stands does not match its checksum.")
    return Walk(**dict(zip(WALK_COLUMNS, fields, strict=True)))


def check_item(path: Path, kind: Kind, row: Sequence[Any]) -> None:
    """Raise `ArchiveCorrupt` unless *row*, the `ITEM_COLUMNS` of an item, is what was written."""
    given, json, *raw, position = row
    try:
        right = isinstance(json, bytes) and checksum(json, *[field.decode() for field in raw], position) == given
    except (UnicodeDecodeError, AttributeError):
        right = False
    if not right:
        raise ArchiveCorrupt(f"{path} is damaged: an item of {kind} does not match its checksum.")


def check_thread(
    path: Path, id: bytes, state: bytes, reason: bytes | None, verified: bytes | None, given: int, json: bytes | None
) -> None:
    """Raise `ArchiveCorrupt` unless a row of `threads` is what was written."""
    try:
        told = [None if value is None else value.decode() for value in (id, state, reason, verified)]
        right = checksum(json, *told) == given
    except (UnicodeDecodeError, AttributeError):
        right = False
    if not right:
        raise ArchiveCorrupt(f"{path} is damaged: what it says of a thread does not match its checksum.")

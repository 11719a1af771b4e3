"""Many rows in few statements.

A statement lets go of the interpreter once, and to get it back from the event loop's thread takes longer than to
write a row. So the rows of several pages go into one statement, or a few.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain, repeat
from typing import Any
from zlib import crc32

from asyncruns.archive._records import WALK_COLUMNS, PageWrite, Walk
from asyncruns.archive._schema import OWNERS, Kind, checksum

_MOST_ROWS = 800
_SIZES = (100, 10, 1)


def put_items(db: sqlite3.Connection, pages: Iterable[PageWrite]) -> None:
    """Insert the items of *pages*, or bring up to date those that are there."""
    by_kind: dict[Kind, list[Any]] = defaultdict(list)
    for page in pages:
        _add_items(by_kind[page.walk.kind], page)
    for kind, values in by_kind.items():
        for count, part in _parts(values, len(OWNERS[kind]) + 4):
            try:
                db.execute(_insertion(kind, count, update=False), part)
            except sqlite3.IntegrityError:  # One is there. What came before it is put twice.
                db.execute(_insertion(kind, count, update=True), part)


def put_walks(db: sqlite3.Connection, walks: Iterable[Walk]) -> None:
    """Insert or replace *walks*."""
    values: list[Any] = []
    for walk in walks:
        fields = walk.fields()
        values += (*fields, checksum(None, *fields))
    for count, part in _parts(values, len(WALK_COLUMNS) + 1):
        db.execute(_replacement(count), part)


def _add_items(values: list[Any], page: PageWrite) -> None:
    walk = page.walk
    owners = (walk.thread_id, walk.run_id) if walk.kind == "steps" else (walk.thread_id,)
    ids, blobs = [item.id for item in page.items], [item.json for item in page.items]
    # What `checksum` gives, with the part that the rows have in common made once.
    common = "".join(f"\0{owner}" for owner in owners)
    heads = [crc32(f"{id}{common}\0{position}".encode()) for id, position in zip(ids, page.positions, strict=True)]
    checksums, texts = map(crc32, blobs, heads), map(str, blobs, repeat("utf-8"))
    rows = zip(ids, *map(repeat, owners), page.positions, checksums, texts)  # noqa: B905  # some are endless
    values += chain.from_iterable(rows)


def _parts(values: list[Any], columns: int) -> Iterator[tuple[int, list[Any]]]:
    """Yield the values of some rows at a time: of whole hundreds, then of tens, then of single ones.

    So there are few different statements, and what is given takes three of them at most, unless it is very much.
    """
    at, rows = 0, len(values) // columns
    for size in _SIZES:
        while rows >= size:
            count = min(rows, _MOST_ROWS) // size * size
            yield count, values[at : at + count * columns]
            at += count * columns
            rows -= count


@cache
def _insertion(kind: Kind, count: int, *, update: bool) -> str:
    """Return what inserts rows, and brings up to date those that are there or ends at the first of them.

    What a statement that fails may leave half done, SQLite need not be able to undo: to be able to, it would copy the
    pages that each one changes to a file of its own.
    """
    owners = ", ".join(OWNERS[kind])
    marks = f"({'?, ' * len(OWNERS[kind])}?, ?, ?, ?)"
    on_conflict = (
        f" ON CONFLICT ({owners}, id) DO UPDATE SET"
        " position = excluded.position, checksum = excluded.checksum, json = excluded.json"
    )
    return (
        f"INSERT {'' if update else 'OR FAIL '}INTO {kind} (id, {owners}, position, checksum, json)"  # noqa: S608  # names of our own
        f" VALUES {', '.join([marks] * count)}{on_conflict if update else ''}"
    )


@cache
def _replacement(count: int) -> str:
    marks = f"({', '.join('?' * (len(WALK_COLUMNS) + 1))})"
    return f"REPLACE INTO walks VALUES {', '.join([marks] * count)}"  # noqa: S608  # marks alone

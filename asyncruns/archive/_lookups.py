"""What an archive that is being filled says of itself: where its walks stand, and what they brought. It blocks."""

import sqlite3
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from asyncruns._slices import RawItem
from asyncruns.archive import _file
from asyncruns.archive._facts import is_terminal
from asyncruns.archive._records import (
    FROM_NEWEST,
    THREADS,
    WALKS,
    Asked,
    ThreadState,
    Walk,
    check_item,
    check_thread,
    read_asked,
    read_walk,
)
from asyncruns.archive._schema import ITEM_COLUMNS, OWNERS, Kind, column, digest

_MOST_MARKS = 10_000
"""Of values in a statement; SQLite takes 32,766 unless it was built otherwise, and a page may bring more items."""
_OF_OWNER: dict[Kind, str] = {kind: " AND ".join(f"{name} = :{name}" for name in OWNERS[kind]) for kind in OWNERS}
_AT_CURSOR = "AND id = :cursor"


class Lookups:
    """What the store can be asked. A row that does not match its checksum is `ArchiveCorrupt`.

    Attributes:
        path: The file.
    """

    path: Path
    _db: sqlite3.Connection

    def asked(self) -> Asked:
        """Return what exports were ever asked to bring."""
        with _file.told(self.path):
            return self._asked()

    def _asked(self) -> Asked:
        return read_asked(self.path, *self._db.execute("SELECT asked, checksum FROM archive").fetchone())

    def standing(self, thread_id: str, kinds: Sequence[str]) -> tuple[ThreadState, str | None]:
        """Return the state of a thread by its listings of these kinds and those of its runs, and why one failed."""
        with _file.told(self.path):
            rows = self._db.execute(
                f"{WALKS} WHERE thread_id = ? AND \"order\" = 'asc' AND state IN ('failed', 'walking')"
                f" AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY state LIMIT 1",
                (thread_id, *kinds),
            ).fetchall()
        for walk in (read_walk(self.path, row) for row in rows):
            return ("failed", walk.reason) if walk.state == "failed" else ("listed", None)
        return "done", None

    def walk(self, thread_id: str, kind: Kind, run_id: str = "") -> Walk | None:
        """Return where a walk stands; None if it never began."""
        with _file.told(self.path):
            found = self._db.execute(
                f"{WALKS} WHERE thread_id = ? AND kind = ? AND run_id = ? AND \"order\" = 'asc'",
                (thread_id, kind, run_id),
            ).fetchone()
        return None if found is None else read_walk(self.path, found)

    def runs_without_steps(
        self, walk: Walk, newest: Walk | None, after: str, limit: int
    ) -> tuple[str | None, list[tuple[str, str | None]]]:
        """Return id and status of runs that *walk*, or the one from the newest end, brought without all their steps.

        Not those that had not ended, with the steps that they had: they are listed again, unless they were deleted.

        Args:
            walk: Where the walk of the runs is to go on; what is behind that comes again.
            newest: Where the walk from the newest end stands.
            after: Only runs with greater ids.
            limit: How many are looked at.

        Returns:
            The id to go on behind, None at the end, and the runs.
        """
        columns = ", ".join(f"runs.{name}" for name in ITEM_COLUMNS["runs"])
        behind, edge = self._position(walk), 2 * FROM_NEWEST if newest is None else newest.position
        last, found = None, []
        with _file.told(self.path):
            rows = self._db.execute(
                f"SELECT {columns}, {column('runs', 'status')}, state FROM runs LEFT JOIN walks"  # noqa: S608  # words of our own
                " ON walks.thread_id = runs.thread_id AND walks.kind = 'steps' AND walks.run_id = runs.id"
                " WHERE runs.thread_id = ? AND runs.id > ? AND state IS NOT 'done' ORDER BY runs.id LIMIT ?",
                (walk.thread_id, after, limit),
            )
            for *item, raw_status, state in rows:
                check_item(self.path, "runs", item)
                last = item[2].decode()
                status = raw_status.decode() if isinstance(raw_status, bytes) else None
                if not behind < item[-1] <= edge and (state != b"open" or is_terminal(status)):
                    found.append((last, status))
        return last, found

    def at_cursor(self, walk: Walk) -> list[bytes]:
        """Return the item at the cursor of *walk*, if it is there."""
        return [row[1] for row in self._rows_of(walk, _AT_CURSOR)]

    def first(self, walk: Walk) -> list[bytes]:
        """Return the first item of the listing of *walk*, if there is one."""
        return [row[1] for row in self._rows_of(walk, "ORDER BY position LIMIT 1")]

    def _position(self, walk: Walk) -> int:
        """Return the position of the item at the cursor of *walk*; -1 where there is none."""
        return max([row[-1] for row in self._rows_of(walk, _AT_CURSOR)], default=-1)

    def _rows_of(self, walk: Walk, which: str) -> list[Any]:
        with _file.told(self.path):
            rows = self._db.execute(
                f"SELECT {', '.join(ITEM_COLUMNS[walk.kind])} FROM {walk.kind}"  # noqa: S608  # words of our own
                f" WHERE {_OF_OWNER[walk.kind]} {which}",
                {"thread_id": walk.thread_id, "run_id": walk.run_id, "cursor": walk.cursor},
            ).fetchall()
        for row in rows:
            check_item(self.path, walk.kind, row)
        return rows

    def runs_with_steps(self, thread_id: str, among: Sequence[str]) -> set[str]:
        """Return those runs of *among* whose steps are all there and can no longer change."""
        with _file.told(self.path):
            rows = self._among(
                "SELECT run_id FROM walks WHERE thread_id = ? AND kind = 'steps' AND state = 'done' AND run_id",
                (thread_id,),
                among,
            )
        return {id.decode() for (id,) in rows}

    def ids_before(self, walk: Walk, limit: int) -> list[str]:
        """Return the ids of the items archived before the cursor of *walk*, nearest first."""
        listing = f"FROM {walk.kind} WHERE {_OF_OWNER[walk.kind]}"
        values = {"thread_id": walk.thread_id, "run_id": walk.run_id, "cursor": walk.cursor, "limit": limit}
        with _file.told(self.path):
            rows = self._db.execute(
                f"SELECT id {listing} AND position < (SELECT position {listing} AND id = :cursor)"
                " ORDER BY position DESC LIMIT :limit",
                values,
            ).fetchall()
        return [id.decode() for (id,) in rows]

    def of_other_end(self, walk: Walk, ids: Collection[str]) -> set[str]:
        """Return those of *ids* that the walk from the other end of the listing brought."""
        side = ">" if walk.order == "asc" else "<"
        with _file.told(self.path):
            rows = self._among(
                f"SELECT id FROM {walk.kind} WHERE thread_id = ? AND position {side} ? AND id",  # noqa: S608  # our own words
                (walk.thread_id, FROM_NEWEST // 2),
                ids,
            )
        return {id.decode() for (id,) in rows}

    def same(self, walk: Walk, items: Sequence[RawItem]) -> set[str]:
        """Return the ids of those *items* of the listing of *walk* that are here just as they came."""
        owners = OWNERS[walk.kind]
        with _file.told(self.path):
            rows = self._among(
                f"SELECT id, json FROM {walk.kind} WHERE {' AND '.join(f'{name} = ?' for name in owners)} AND id",  # noqa: S608
                [getattr(walk, name) for name in owners],
                [item.id for item in items],
            )
        here = {id.decode(): json for id, json in rows}
        return {item.id for item in items if here.get(item.id) == bytes(item.json)}

    def _among(self, query: str, values: Sequence[Any], among: Collection[str]) -> list[Any]:
        """Return the rows of *query*, with *values*, whose last word is then one of *among*."""
        texts, rows = list(among), list[Any]()
        for at in range(0, len(texts), _MOST_MARKS):
            part = texts[at : at + _MOST_MARKS]
            rows += self._db.execute(f"{query} IN ({', '.join('?' * len(part))})", (*values, *part)).fetchall()
        return rows

    def newest_of_block(self, walk: Walk) -> str | None:
        """Return the id of the item at which the walk from the newest end began; None: the other came to it, too."""
        with _file.told(self.path):
            found = self._db.execute(
                f"SELECT id FROM {walk.kind} WHERE thread_id = ? AND position = ?",  # noqa: S608  # our own words
                (walk.thread_id, FROM_NEWEST),
            ).fetchone()
        return None if found is None else found[0].decode()

    def thread_digests(self) -> dict[str, int | None]:
        """Return all threads, in the order of the list that was given, with the digest of each that was itself brought.

        Raises:
            ArchiveCorrupt: A row does not match its checksum.
        """
        found: dict[str, int | None] = {}
        with _file.told(self.path):
            for row in self._db.execute(THREADS):
                check_thread(self.path, *row)
                found[row[0].decode()] = None if row[-1] is None else digest(row[-1])
        return found

    def digests(self, kind: Kind, thread_id: str, run_id: str = "") -> dict[str, int]:
        """Return the digest of each run or message of a thread, or of each step of a run, by id.

        Raises:
            ArchiveCorrupt: A row does not match its checksum.
        """
        query = f"SELECT {', '.join(ITEM_COLUMNS[kind])} FROM {kind} WHERE {_OF_OWNER[kind]}"  # noqa: S608
        found: dict[str, int] = {}
        with _file.told(self.path):
            for row in self._db.execute(query, {"thread_id": thread_id, "run_id": run_id}):
                check_item(self.path, kind, row)
                found[row[2].decode()] = digest(row[1])
        return found

"""The reading side of an archive: what it holds, as objects or as the bytes that were sent, without a server."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar
from weakref import WeakSet

import attrs

from asyncruns import ArchiveCorrupt, Message, Run, RunStep, Thread
from asyncruns._arguments import check_whole
from asyncruns._codec import decode
from asyncruns.archive import _file
from asyncruns.archive._options import check_several
from asyncruns.archive._records import THREADS, WALKS, ThreadState, Walk, check_item, check_thread, read_walk
from asyncruns.archive._schema import ITEM_COLUMNS, OWNERS, Kind, Table, column, column_names

T = TypeVar("T")

_MODELS: dict[Table, type[Any]] = {"runs": Run, "steps": RunStep, "messages": Message, "threads": Thread}
_OF_THREAD = "thread_id = ?"
_PLACE_OF_RUN = "(SELECT position FROM runs WHERE thread_id = steps.thread_id AND id = steps.run_id)"
# A run's steps lie with those of its thread.
_OF_RUN = "thread_id IN (SELECT thread_id FROM runs WHERE id = ?) AND run_id = ?"
_OF_RUN_IN_THREAD = "run_id = ? AND thread_id = ?"


def check_archive(archive: object) -> None:
    """Raise `TypeError` unless *archive* is one, and not the path of one."""
    if not isinstance(archive, Archive):
        raise TypeError(f"archive must be an open one, from Archive.open(path), not {type(archive).__name__}.")


@attrs.frozen(kw_only=True)
class ThreadRecord:
    """What the archive knows of one thread.

    Attributes:
        id: The thread.
        state: `listed` (not all brought yet), `done` or `failed`.
        reason: Why something could not be brought. None: nothing is known to be missing.
        verified: What a verification found: empty for nothing, None for none made.
    """

    id: str
    state: ThreadState
    reason: str | None
    verified: str | None


class Archive:
    """An archive open for reading, also while an export fills it; make one with `open`, best in a `with` block.

    Every row is held against its checksum as it is read. Reading goes on where damage allows it and raises
    `ArchiveCorrupt` where it does not. Where nobody may write beside the file, it can only be read while nobody fills
    it: `ArchiveLocked` says that somebody did meanwhile. What a server sent in another shape than the published one
    raises `SchemaError` where it is to become an object; the same iterator then gives the next.
    """

    def __init__(self, path: Path, db: sqlite3.Connection, check_same: Callable[[], None]) -> None:
        self.path = path
        self._db = db
        self._check_same = check_same
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    @classmethod
    def open(cls, path: str | PathLike[str], *, check: bool = True) -> Self:
        """Open the archive at *path*.

        Args:
            path: The file.
            check: Whether to look through the whole file for damage first, which reads all of it. Without it, a row
                that damage made unreachable may be missing unnoticed; a changed one never is.

        Raises:
            ArchiveCorrupt: It is no archive, is of another version, or is damaged.
            ArchiveLocked: It was filled meanwhile; see above.
            ArchiveError: It does not exist or cannot be opened.
        """
        where = Path(path)
        return cls(where, *_file.connect_to_read(where, check=check))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, also for iterators that were left on the way."""
        for cursor in list(self._cursors):  # SQLite would keep the file for them.
            cursor.close()
        self._db.close()

    def runs(self, thread_id: str | None = None) -> Iterator[Run]:
        """Yield the runs: of a thread in the server's order, or all of them as they came."""
        return _objects(Run, self._blobs("runs", _OF_THREAD, thread_id))

    def steps(self, run_id: str | None = None, *, thread_id: str | None = None) -> Iterator[RunStep]:
        """Yield the steps: of a run, or of a thread run by run, in the server's order, or all of them as they came.

        Args:
            run_id: The run. None: the steps of all runs.
            thread_id: The run's thread, for servers that have runs of the same id in several. None: any.
        """
        if run_id is None:
            return _objects(RunStep, self._blobs("steps", _OF_THREAD, thread_id))
        return _objects(RunStep, self.raw_steps(run_id, thread_id=thread_id))

    def messages(self, thread_id: str | None = None) -> Iterator[Message]:
        """Yield the messages: of a thread in the server's order, or all of them as they came."""
        return _objects(Message, self._blobs("messages", _OF_THREAD, thread_id))

    def threads(self) -> Iterator[Thread]:
        """Yield the threads that were brought themselves."""
        return _objects(Thread, self.raw("threads"))

    def raw(self, table: Table, *, thread_id: str | None = None) -> Iterator[bytes]:
        """Yield the JSON of every item of a table exactly as sent: of all, or of a thread in the server's order.

        Steps come run by run.
        """
        _check_table(table)
        if table == "threads":
            wanted = (json for record, json in self._threads() if thread_id in (None, record.id))
            return (json for json in wanted if json is not None)
        return self._blobs(table, _OF_THREAD, thread_id)

    def raw_steps(self, run_id: str, *, thread_id: str | None = None) -> Iterator[bytes]:
        """Yield the JSON of a run's steps exactly as sent, in the server's order; its thread is as for `steps`."""
        if thread_id is None:
            return self._blobs("steps", _OF_RUN, run_id, run_id)
        return self._blobs("steps", _OF_RUN_IN_THREAD, run_id, thread_id)

    def named(self, table: Kind, ids: Sequence[str]) -> Iterator[bytes]:
        """Yield the JSON of the items with these ids, as far as they are there."""
        check_several("ids", ids)
        _check_kind(table)
        return (blob for id in ids for blob in self._checked(table, "WHERE id = ?", (id,)))

    def last(self, table: Kind, count: int) -> Iterator[bytes]:
        """Yield the JSON of the items that came last, the very last first, at most *count* of them."""
        check_whole("count", count, 0)
        _check_kind(table)
        return self._checked(table, "ORDER BY rowid DESC LIMIT ?", (count,))

    def columns(self, table: Table, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the named columns of every row, texts as bytes, after holding the row against its checksum."""
        _check_table(table)
        check_several("names", names)
        known = column_names(table)
        if wrong := [name for name in names if name not in known]:
            raise ValueError(f"{table} has the columns {', '.join(known)}, and no {wrong[0]!r}.")
        if table == "threads":
            return self._thread_columns(names)
        return self._item_columns(table, names)

    def records(self) -> Iterator[ThreadRecord]:
        """Yield what is known of each thread, in the order of the list that was given."""
        return (record for record, _ in self._threads())

    def count(self, table: Table) -> int:
        """Return how many items a table has; of threads, how many are known."""
        _check_table(table)
        [(found,)] = self._rows(f"SELECT count(*) FROM {table}", ())  # noqa: S608  # a name of ours
        return int(found)

    def walks(self) -> Iterator[Walk]:
        """Yield where each walk stands."""
        return (read_walk(self.path, row) for row in self._rows(WALKS, ()))

    @property
    def verified_at(self) -> int | None:
        """When the archive was last verified against the server, in Unix seconds; None for never."""
        [(found,)] = self._rows("SELECT verified_at FROM archive", ())
        return None if found is None else int(found)

    def _blobs(self, table: Kind, which: str, *owners: str | None) -> Iterator[bytes]:
        """Yield all of a table as it came, or what *which* says of *owners* in the server's order."""
        if None in owners:
            yield from self._checked(table, "ORDER BY rowid", ())
            return
        # Sorted by number alone: with its JSON, what a long thread holds would go through a file.
        order = f"{_PLACE_OF_RUN}, position" if table == "steps" else "position"
        query = f"SELECT rowid FROM {table} WHERE {which} ORDER BY {order}"  # noqa: S608  # words of our own
        for rowid in list(self._rows(query, owners)):
            yield from self._checked(table, "WHERE rowid = ?", rowid)

    def _checked(self, table: Kind, which: str, values: tuple[object, ...]) -> Iterator[bytes]:
        columns = ITEM_COLUMNS[table]
        query = f"SELECT {', '.join(columns)} FROM {table} {which}"  # noqa: S608  # names of our own
        for row in self._rows(query, values):
            check_item(self.path, table, row)
            yield row[1]

    def _item_columns(self, table: Kind, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        columns = ITEM_COLUMNS[table]
        wanted = [column(table, name) for name in names]
        query = f"SELECT {', '.join((*columns, *wanted))} FROM {table} ORDER BY rowid"  # noqa: S608
        for row in self._rows(query, ()):
            check_item(self.path, table, row[: len(columns)])
            yield row[len(columns) :]

    def _thread_columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        checked = self._threads()
        query = f"SELECT {', '.join(names)}, json IS NOT NULL FROM threads ORDER BY rowid"  # noqa: S608
        for row, _ in zip(self._rows(query, ()), checked, strict=True):
            if row[-1]:
                yield row[:-1]

    def _threads(self) -> Iterator[tuple[ThreadRecord, bytes | None]]:
        for id, state, reason, verified, given, json in self._rows(THREADS, ()):
            check_thread(self.path, id, state, reason, verified, given, json)
            told = (None if value is None else value.decode() for value in (reason, verified))
            reason, verified = told
            yield ThreadRecord(id=id.decode(), state=state.decode(), reason=reason, verified=verified), json

    def _rows(self, query: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        try:
            with _file.told(self.path):
                cursor = self._db.execute(query, values)
                self._cursors.add(cursor)
                for row in cursor:
                    self._check_same()
                    yield row
        except ArchiveCorrupt:
            self._check_same()
            raise
        self._check_same()


def _objects(model: type[T], blobs: Iterator[bytes]) -> Iterator[T]:
    return map(partial(decode, model=model), blobs)  # A generator would end with the first error.


def _check_table(table: Table) -> None:
    if table not in _MODELS:
        raise ValueError(f"table must be one of {', '.join(_MODELS)}, not {table!r}.")


def _check_kind(table: Kind) -> None:
    if table not in OWNERS:
        raise ValueError(f"table must be one of {', '.join(OWNERS)}, not {table!r}.")

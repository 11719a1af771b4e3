"""The writing side of an archive: pages with the walk's new state, in transactions. It blocks; see `_writer`."""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import attrs
import msgspec

from asyncruns import ArchiveCorrupt, ArchiveError, ArchiveLocked
from asyncruns.archive import _file, _moments
from asyncruns.archive._checkpoints import Checkpoints
from asyncruns.archive._lock import Lock
from asyncruns.archive._lookups import Lookups
from asyncruns.archive._records import (
    WALKS,
    Asked,
    KnownThread,
    PageWrite,
    ThreadWrite,
    VerifiedWrite,
    Write,
    check_thread,
    read_walk,
)
from asyncruns.archive._rows import put_items, put_walks
from asyncruns.archive._schema import (
    ADDITIONS,
    INDEX_OF_IDS,
    PAGE_SIZE,
    SCHEMA,
    checksum,
)


class Store(Lookups):
    """An archive open for filling, held by this process alone.

    Args:
        path: The file.
        create: Whether to make one that does not exist.
        is_wanted: Asked while it is looked through; see `_file.connect`.

    Raises:
        ArchiveLocked: Another process fills it.
        ArchiveCorrupt: It is no archive, or is damaged.
        ArchiveError: It cannot be read or written.
    """

    def __init__(self, path: Path, *, create: bool = True, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self.path = path
        self._lock = Lock(path)
        try:
            if create and not path.exists():
                _file.create(path)
            self._db = _file.connect(path, check=True, is_wanted=is_wanted)
        except BaseException:
            self._lock.release()
            raise
        try:
            with _file.told(path):
                self._place = _file.real(path)  # The folder that the process is in may change.
                self._found = self._place.stat()
                self._epoch = self._begin_filling()
                self._is_new = self._db.execute("SELECT 1 FROM walks LIMIT 1").fetchone() is None
                self._checkpoints = Checkpoints(path, self._db)
        except BaseException:
            self._db.close()
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave one file behind, unless somebody reads it just now, and let go of it.

        Raises:
            ArchiveError: It is not at its place any more, or its tables have no generated columns yet, and cannot be
                given them.
        """
        with ExitStack() as ending:
            ending.callback(self._lock.release)
            ending.callback(self._db.close)
            ending.callback(self._checkpoints.close)
            with _file.told(self.path):
                self._check_place()
                self._add_columns()

    def apply(self, writes: Iterable[Write]) -> None:
        """Carry out *writes*, all or none.

        Raises:
            ArchiveError: They were not carried out.
        """
        with _file.told(self.path):
            whole = self._checkpoints.whole
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._check_place()
                self._check_epoch()
                count = self._apply(list(writes))
                _moments.reached("before_commit")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            _moments.reached("after_commit")
            self._checkpoints.wrote(count, whole)

    def stage(self, ids: Iterable[str]) -> None:
        """Remember more of the threads that this export is to bring."""
        with _file.told(self.path):
            self._db.execute("CREATE TEMP TABLE IF NOT EXISTS given (id TEXT PRIMARY KEY)")
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO given (id) VALUES (?)", [(id,) for id in ids])
            self._db.execute("COMMIT")

    def settle(self, *, allow_change: bool, listed: bool = False) -> int:
        """Take the staged threads into the archive and return how many there are.

        Args:
            allow_change: Whether they may be others than those that there are. One that is no longer wanted and never
                brought anything, as a wrong id does, is then forgotten.
            listed: Whether they are what the server lists; if all that it lists was ever asked for, they may.

        Raises:
            ArchiveError: The archive holds another list of threads, and that was not allowed.
        """
        with _file.told(self.path):
            self.stage(())
            if not (allow_change or (listed and self._asked().listed)):
                self._check_same_list()
            fresh = self._db.execute(
                "SELECT id FROM given WHERE id NOT IN (SELECT id FROM threads) ORDER BY rowid"
            ).fetchall()
            self._db.execute("BEGIN IMMEDIATE")
            if allow_change:
                self._forget_what_brought_nothing()
            self._db.executemany(
                "INSERT INTO threads (id, state, checksum) VALUES (?, 'listed', ?)",
                [(id.decode(), checksum(None, id.decode(), "listed", None, None)) for (id,) in fresh],
            )
            if listed:
                # What the server listed once, and was not brought to an end: why not is to be told.
                self._db.execute("INSERT OR IGNORE INTO given (id) SELECT id FROM threads WHERE state = 'listed'")
                self._note_asked(Asked(listed=True).added_to(self._asked()))
            self._db.execute("COMMIT")
            count: int = self._db.execute("SELECT count(*) FROM given").fetchone()[0]
            return count

    def ask(self, asked: Asked) -> Asked:
        """Write down which kinds an export is asked to bring, and return all that ever was asked.

        Where more is asked of steps than before, all are to be brought again. What they are to include is only written
        down with `note_include`, once a server was seen to take it.
        """
        with _file.told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            before = self._asked()
            asked = asked.added_to(before)
            if (asked.include, asked.probe) != (before.include, before.probe):
                self._reopen_steps()
            self._note_asked(msgspec.structs.replace(asked, include=before.include))
            self._db.execute("COMMIT")
        return asked

    def note_include(self, asked: Asked) -> None:
        """Write down what steps are to include."""
        with _file.told(self.path):
            self._note_asked(asked)

    def _note_asked(self, asked: Asked) -> None:
        text = msgspec.json.encode(asked).decode()
        self._db.execute("UPDATE archive SET asked = ?, checksum = ?", (text, checksum(None, text)))

    def _reopen_steps(self) -> None:
        last = ("", "", "")
        query = (
            f"{WALKS} WHERE (thread_id, kind, run_id) > (?, ?, ?) AND kind = 'steps' AND state != 'open'"
            " ORDER BY thread_id, kind, run_id LIMIT 1000"
        )
        while rows := self._db.execute(query, last).fetchall():
            walks = [read_walk(self.path, row) for row in rows]
            put_walks(self._db, [attrs.evolve(walk, state="open") for walk in walks])
            last = (walks[-1].thread_id, walks[-1].kind, walks[-1].run_id)

    def next_threads(self, after: int, limit: int) -> tuple[int, list[KnownThread]]:
        """Return the staged threads behind number *after*, *limit* at most, and the number of the last."""
        with _file.told(self.path):
            rows = self._db.execute(
                "SELECT given.rowid, threads.id, state, json IS NOT NULL, reason, verified, checksum, json"
                " FROM given JOIN threads USING (id) WHERE given.rowid > ? ORDER BY given.rowid LIMIT ?",
                (after, limit),
            ).fetchall()
            known = [self._known_thread(*row[1:]) for row in rows]
        return (rows[-1][0] if rows else after), known

    def index_runs(self) -> None:
        """Make a quick way to a run, and so to its steps, by its id alone, unless there is one."""
        with _file.told(self.path):
            self._db.execute(INDEX_OF_IDS.replace("INDEX", "INDEX IF NOT EXISTS"))

    def note_verified(self, moment: int) -> None:
        """Write down when the archive was verified, in Unix seconds."""
        with _file.told(self.path):
            self._db.execute("UPDATE archive SET verified_at = ?", (moment,))

    def _begin_filling(self) -> int:
        self._db.execute("PRAGMA journal_mode = WAL")
        # A power cut may take back the last transactions, rows and cursor alike; it tears none.
        self._db.execute("PRAGMA synchronous = NORMAL")
        # In KiB. Little of what was written is read again, and a larger cache costs more than it saves.
        self._db.execute("PRAGMA cache_size = -4000")
        taken = self._db.execute(
            "UPDATE archive SET epoch = epoch + 1, owner = ? RETURNING epoch", (self._lock.owner,)
        ).fetchone()
        if taken is None:
            raise ArchiveCorrupt(f"{self.path} is damaged: it does not say who fills it.")
        _moments.reached("after_lock")
        epoch: int = taken[0]
        return epoch

    def _add_columns(self) -> None:
        self._db.rollback()  # Something may have gone wrong on the way.
        if not self._is_bare():
            return
        self._db.execute("BEGIN IMMEDIATE")
        if self._is_bare() and self._filled_by()[0] == self._epoch:
            for addition in ADDITIONS:
                self._db.execute(addition)
        self._db.execute("COMMIT")

    def _is_bare(self) -> bool:
        found = self._db.execute("SELECT 1 FROM sqlite_schema WHERE sql = ?", (SCHEMA["runs"],)).fetchone()
        return found is not None

    def _filled_by(self) -> tuple[int, bytes]:
        found: tuple[int, bytes] = self._db.execute("SELECT epoch, owner FROM archive").fetchone()
        return found

    def _check_place(self) -> None:
        """Refuse to go on with a file that was moved or removed: what is written would not be found again."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self._place.stat(), self._found):
                return
        raise ArchiveError(f"{self.path} was moved, removed or replaced while it was filled.")

    def _check_epoch(self) -> None:
        epoch, owner = self._filled_by()
        if epoch != self._epoch:
            raise ArchiveLocked(f"The archive was taken over by {owner.decode(errors='replace')}.")

    def _check_same_list(self) -> None:
        missing, added = (
            [id.decode() for (id,) in self._db.execute(f"SELECT id FROM {one} EXCEPT SELECT id FROM {other}")]  # noqa: S608
            for one, other in (("threads", "given"), ("given", "threads"))
        )
        known: int = self._db.execute("SELECT count(*) FROM threads").fetchone()[0]
        if known and (missing or added):
            raise ArchiveError(
                f"{self.path} was begun with another list of threads: {_some(missing)} missing now, {_some(added)} "
                "new. Allow the change (allow_change=True, --allow-change) if it is meant."
            )

    def _forget_what_brought_nothing(self) -> None:
        """Take the threads that failed, have nothing here and were not given off the list."""
        failed = self._db.execute(
            "SELECT id FROM threads WHERE state = 'failed' AND json IS NULL AND id NOT IN (SELECT id FROM given)"
            " AND NOT EXISTS (SELECT 1 FROM runs WHERE thread_id = threads.id)"
            " AND NOT EXISTS (SELECT 1 FROM messages WHERE thread_id = threads.id)"
        ).fetchall()
        told = [(id.decode(),) for (id,) in failed]
        self._db.executemany("DELETE FROM walks WHERE thread_id = ?", told)
        self._db.executemany("DELETE FROM threads WHERE id = ?", told)

    def _known_thread(self, id: bytes, state: Any, has_json: int, *rest: Any) -> KnownThread:
        reason, verified, given_sum, json = rest
        check_thread(self.path, id, state, reason, verified, given_sum, json)
        thread_id = id.decode()
        if self._is_new:
            return KnownThread(id=thread_id, state=state.decode(), has_json=bool(has_json))
        rows = self._db.execute(f"{WALKS} WHERE thread_id = ? AND kind IN ('runs', 'messages')", (thread_id,))
        walks = [read_walk(self.path, row) for row in rows]
        known = {(walk.kind, walk.order): walk for walk in walks}
        return KnownThread(id=thread_id, state=state.decode(), has_json=bool(has_json), walks=known)

    def _apply(self, writes: Sequence[Write]) -> int:
        """Do it, and return about how many bytes of pages that is: of JSON, and a page for where each walk stands.

        What else is written may be what is there already, and then nothing is.
        """
        pages = [write for write in writes if isinstance(write, PageWrite)]
        if pages:
            put_items(self._db, pages)
            _moments.reached("after_rows")
            put_walks(self._db, [page.walk for page in pages])
            _moments.reached("after_cursor")
        for write in writes:
            match write:
                case ThreadWrite():
                    self._put_thread(write)
                case VerifiedWrite():
                    self._put_verified(write)
        return PAGE_SIZE * len(pages) + sum([memoryview(item.json).nbytes for page in pages for item in page.items])

    def _put_thread(self, write: ThreadWrite) -> None:
        json, verified = self._db.execute("SELECT json, verified FROM threads WHERE id = ?", (write.id,)).fetchone()
        json = json if write.json is None else write.json
        told = None if verified is None else verified.decode()
        self._db.execute(
            "UPDATE threads SET state = ?, reason = ?, checksum = ?, json = CAST(? AS TEXT) WHERE id = ?",
            (write.state, write.reason, checksum(json, write.id, write.state, write.reason, told), json, write.id),
        )

    def _put_verified(self, write: VerifiedWrite) -> None:
        found = self._db.execute("SELECT state, reason, json FROM threads WHERE id = ?", (write.id,)).fetchone()
        state, reason = found[0].decode(), None if found[1] is None else found[1].decode()
        told = checksum(found[2], write.id, state, reason, write.findings)
        self._db.execute("UPDATE threads SET verified = ?, checksum = ? WHERE id = ?", (write.findings, told, write.id))


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:3])
    return f"{len(ids)} ({shown}{', ...' if len(ids) > 3 else ''})" if ids else "none"

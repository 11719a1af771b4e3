"""The writing side of an archive: pages with the walk's new state, in transactions. It blocks; see `_writer`."""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import attrs

from asyncruns import ArchiveCorrupt, ArchiveError, ArchiveLocked
from asyncruns.archive import _file, _moments
from asyncruns.archive._lock import Lock
from asyncruns.archive._schema import Kind, checksum, digest

WalkState = Literal["walking", "done", "open", "failed"]
"""Of a walk: under way; ended; ended, but what it holds may still change; broken off."""
ThreadState = Literal["listed", "done", "failed"]
"""Of a thread: not all brought yet; all brought; something could not be brought."""


@attrs.frozen(kw_only=True)
class Walk:
    """Where the walk of one listing stands.

    Attributes:
        thread_id: The thread.
        kind: What is listed.
        run_id: Whose steps; empty for the other kinds.
        state: See `WalkState`.
        cursor: Id of the last item archived; None before the first.
        anchor: Id of the last item before the first that may still change; a later walk begins behind it.
        position: Items seen so far.
        reason: Why it failed.
    """

    thread_id: str
    kind: Kind
    run_id: str = ""
    state: WalkState = "walking"
    cursor: str | None = None
    anchor: str | None = None
    position: int = 0
    reason: str | None = None


@attrs.frozen(kw_only=True)
class PageWrite:
    """The items of a page and the state of their walk behind it."""

    walk: Walk
    items: Sequence[tuple[str, bytes]] = ()


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
    """A thread to bring, with what is known of it."""

    id: str
    state: ThreadState
    has_json: bool
    walks: dict[Kind, Walk]


class Store:
    """An archive open for filling, held by this process alone.

    Args:
        path: The file.
        create: Whether to make one that does not exist.

    Raises:
        ArchiveLocked: Another process fills it.
        ArchiveCorrupt: It is no archive, or is damaged.
        ArchiveError: It cannot be read or written.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._lock = Lock(path)
        try:
            if create and not path.exists():
                _file.create(path)
            self._db = _file.connect(path, write=True, check=True)
        except BaseException:
            self._lock.release()
            raise
        try:
            with _file.told(path):
                self._epoch = self._begin_filling()
        except BaseException:
            self._db.close()
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave one file behind, unless somebody reads it just now, and let go of it."""
        try:
            self._db.close()
        finally:
            self._lock.release()

    def apply(self, writes: Iterable[Write]) -> None:
        """Carry out *writes*, all or none.

        Raises:
            ArchiveError: They were not carried out.
        """
        with _file.told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._check_epoch()
                for write in writes:
                    self._apply(write)
                _moments.reached("before_commit")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            _moments.reached("after_commit")

    def stage(self, ids: Iterable[str]) -> None:
        """Remember more of the threads that this export is to bring."""
        with _file.told(self.path):
            self._db.execute("CREATE TEMP TABLE IF NOT EXISTS given (id TEXT PRIMARY KEY)")
            self._db.execute("BEGIN")
            self._db.executemany("INSERT OR IGNORE INTO given (id) VALUES (?)", [(id,) for id in ids])
            self._db.execute("COMMIT")

    def settle(self, *, allow_change: bool) -> int:
        """Take the staged threads into the archive and return how many there are.

        Raises:
            ArchiveError: The archive holds another list of threads, and that was not allowed.
        """
        with _file.told(self.path):
            self.stage(())
            if not allow_change:
                self._check_same_list()
            fresh = self._db.execute(
                "SELECT id FROM given WHERE id NOT IN (SELECT id FROM threads) ORDER BY rowid"
            ).fetchall()
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO threads (id, state, checksum) VALUES (?, 'listed', ?)",
                [(id.decode(), checksum(None, id.decode(), "listed", None, None)) for (id,) in fresh],
            )
            self._db.execute("COMMIT")
            count: int = self._db.execute("SELECT count(*) FROM given").fetchone()[0]
            return count

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

    def walk(self, thread_id: str, kind: Kind, run_id: str = "") -> Walk | None:
        """Return where a walk stands; None if it never began."""
        with _file.told(self.path):
            found = self._db.execute(
                "SELECT thread_id, kind, run_id, state, cursor, anchor, position, reason, checksum FROM walks"
                " WHERE thread_id = ? AND kind = ? AND run_id = ?",
                (thread_id, kind, run_id),
            ).fetchone()
        return None if found is None else read_walk(self.path, found)

    def runs_without_steps(self, walk: Walk) -> list[tuple[str, str | None]]:
        """Return id and status of the runs up to the cursor of *walk* whose steps are not all there."""
        with _file.told(self.path):
            rows = self._db.execute(
                "SELECT id, status FROM runs WHERE thread_id = ?1"
                " AND position <= (SELECT position FROM runs WHERE id = ?2)"
                " AND NOT EXISTS (SELECT 1 FROM walks WHERE walks.thread_id = ?1 AND kind = 'steps'"
                " AND walks.run_id = runs.id AND state = 'done') ORDER BY position",
                (walk.thread_id, walk.cursor),
            ).fetchall()
        return [(id.decode(), status.decode() if isinstance(status, bytes) else None) for id, status in rows]

    def runs_with_steps(self, thread_id: str, among: Sequence[str]) -> set[str]:
        """Return those runs of *among* whose steps are all there and can no longer change."""
        with _file.told(self.path):
            rows = self._db.execute(
                "SELECT run_id FROM walks WHERE thread_id = ? AND kind = 'steps' AND state = 'done'"  # noqa: S608
                f" AND run_id IN ({', '.join('?' * len(among))})",
                (thread_id, *among),
            ).fetchall()
        return {id.decode() for (id,) in rows}

    def ids_before(self, walk: Walk, limit: int) -> list[str]:
        """Return the ids of the items archived before the cursor of *walk*, nearest first."""
        owner, key = ("run_id", walk.run_id) if walk.kind == "steps" else ("thread_id", walk.thread_id)
        with _file.told(self.path):
            rows = self._db.execute(
                f"SELECT id FROM {walk.kind} WHERE {owner} = ?1 AND position <"  # noqa: S608  # names of our own
                f" (SELECT position FROM {walk.kind} WHERE id = ?2) ORDER BY position DESC LIMIT ?3",
                (key, walk.cursor, limit),
            ).fetchall()
        return [id.decode() for (id,) in rows]

    def all_threads(self) -> list[str]:
        """Return the ids of all threads, in the order of the list that was given."""
        with _file.told(self.path):
            return [id.decode() for (id,) in self._db.execute("SELECT id FROM threads ORDER BY rowid")]

    def digests(self, kind: Kind, owner: str) -> dict[str, int]:
        """Return the digest of each run of a thread, or of each step of a run, by id."""
        column = "run_id" if kind == "steps" else "thread_id"
        with _file.told(self.path):
            rows = self._db.execute(f"SELECT id, json FROM {kind} WHERE {column} = ?", (owner,))  # noqa: S608
            return {id.decode(): digest(json) for id, json in rows}

    def note_verified(self, moment: int) -> None:
        """Write down when the archive was verified, in Unix seconds."""
        with _file.told(self.path):
            self._db.execute("UPDATE archive SET verified_at = ?", (moment,))

    def _begin_filling(self) -> int:
        self._db.execute("PRAGMA journal_mode = WAL")
        # A power cut may take back the last transactions, rows and cursor alike; it tears none.
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA cache_size = -32000")
        taken = self._db.execute(
            "UPDATE archive SET epoch = epoch + 1, owner = ? RETURNING epoch", (self._lock.owner,)
        ).fetchone()
        if taken is None:
            raise ArchiveCorrupt(f"{self.path} is damaged: it does not say who fills it.")
        _moments.reached("after_lock")
        epoch: int = taken[0]
        return epoch

    def _check_epoch(self) -> None:
        epoch, owner = self._db.execute("SELECT epoch, owner FROM archive").fetchone()
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

    def _known_thread(self, id: bytes, state: Any, has_json: int, *rest: Any) -> KnownThread:
        reason, verified, given_sum, json = rest
        check_thread(self.path, id, state, reason, verified, given_sum, json)
        thread_id = id.decode()
        kinds: tuple[Kind, ...] = ("runs", "messages")
        walks = {kind: walk for kind in kinds if (walk := self.walk(thread_id, kind)) is not None}
        return KnownThread(id=thread_id, state=state.decode(), has_json=bool(has_json), walks=walks)

    def _apply(self, write: Write) -> None:
        match write:
            case PageWrite():
                self._insert(write)
                _moments.reached("after_rows")
                self._put_walk(write.walk)
                _moments.reached("after_cursor")
            case ThreadWrite():
                self._put_thread(write)
            case VerifiedWrite():
                self._put_verified(write)

    def _insert(self, write: PageWrite) -> None:
        if not write.items:
            return
        walk, values = write.walk, []
        owners = (walk.thread_id, walk.run_id) if walk.kind == "steps" else (walk.thread_id,)
        first = walk.position - len(write.items)
        for position, (id, blob) in enumerate(write.items, first):
            values += [id, *owners, position, checksum(blob, id, *owners), blob]
        changed = self._db.execute(_insertion(walk.kind, len(write.items)), values).rowcount
        if changed != len(write.items):
            raise ArchiveError(
                f"An item of thread {walk.thread_id} has the id of one that the archive holds under another thread."
            )

    def _put_walk(self, walk: Walk) -> None:
        values = attrs.astuple(walk)
        fields = (walk.thread_id, walk.kind, walk.run_id, walk.state, *values[4:])
        self._db.execute("REPLACE INTO walks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (*fields, checksum(None, *fields)))

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
    names = ("thread_id", "kind", "run_id", "state", "cursor", "anchor", "position", "reason")
    return Walk(**dict(zip(names, fields, strict=True)))


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


@cache
def _insertion(kind: Kind, count: int) -> str:
    """Write the statement for *count* items: one for a page, so that the interpreter is let go once and not per row."""
    owners = "thread_id, run_id" if kind == "steps" else "thread_id"
    marks = f"({', '.join('?' * (owners.count(',') + 1))}, ?, ?, ?, CAST(? AS TEXT))"
    same = "thread_id = excluded.thread_id" + (" AND run_id = excluded.run_id" if kind == "steps" else "")
    return (
        f"INSERT INTO {kind} (id, {owners}, position, checksum, json) VALUES {', '.join([marks] * count)}"  # noqa: S608
        f" ON CONFLICT (id) DO UPDATE SET checksum = excluded.checksum, json = excluded.json WHERE {same}"
    )


def _some(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:3])
    return f"{len(ids)} ({shown}{', ...' if len(ids) > 3 else ''})" if ids else "none"

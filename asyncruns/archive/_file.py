"""Open an archive file, and refuse what is none or is damaged: nothing is repaired, nothing begun again."""

import errno
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

from asyncruns import ArchiveCorrupt, ArchiveError, ArchiveLocked
from asyncruns.archive import _moments
from asyncruns.archive._schema import APPLICATION_ID, FINISHED, INDEX_OF_IDS, PAGE_SIZE, SCHEMA, VERSION, checksum

_WAIT_SECONDS = 10.0
_LOOK_UP_SECONDS = 0.1


def create(path: Path) -> None:
    """Make an empty archive; it appears under its name complete or not at all.

    Raises:
        ArchiveCorrupt: What an earlier archive of that name had not taken in yet is still there.
        ArchiveError: It cannot be written.
    """
    path = real(path)
    new = path.with_name(path.name + ".new")
    with told(path):
        _refuse_leftovers(path)
        new.unlink(missing_ok=True)
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            _fill(new)
            _sync(new, os.O_RDWR)
            _moments.reached("before_rename")
            os.rename(new, path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        _moments.reached("after_rename")
        sync_folder(path.parent)


def _fill(new: Path) -> None:
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        # It is nobody's file before it has its name: one sync behind all of it does.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("BEGIN")
        for statement in SCHEMA.values():
            db.execute(statement)
        db.execute("INSERT INTO archive VALUES (1, 0, '', NULL, '{}', ?)", (checksum(None, "{}"),))
        db.execute("COMMIT")


def connect(path: Path, *, check: bool, is_wanted: Callable[[], bool] = lambda: True) -> sqlite3.Connection:
    """Open the archive at *path* to fill it.

    Args:
        path: The file.
        check: Whether to look through all of it for damage first; that reads the whole file.
        is_wanted: Asked meanwhile, many times; once it says no, that ends. So it does at a signal.

    Raises:
        ArchiveCorrupt: It is no archive, is of another version, or is damaged.
        ArchiveError: It does not exist or cannot be opened, or is not wanted any more.
    """
    with told(path):
        _check_file(path)
        return _opened(path, "mode=rw", check=check, is_wanted=is_wanted)


def connect_to_read(path: Path, *, check: bool) -> tuple[sqlite3.Connection, Callable[[], None]]:
    """Open the archive at *path* to read it, and return what raises `ArchiveLocked` where it must not be read on.

    Readers keep files of their own beside it. Where they may not, and nobody fills it, SQLite is told that the file
    stays as it is, and would not notice that it does not.

    Raises:
        ArchiveCorrupt: It is no archive, is of another version, or is damaged.
        ArchiveLocked: It was changed while it was looked through.
        ArchiveError: It does not exist or cannot be opened.
    """
    with told(path):
        found, where = _check_file(path), real(path)
        mode, check_same = "mode=rw", _nothing
        if not (os.access(where, os.W_OK) and os.access(where.parent, os.W_OK)):
            mode = "mode=ro"
            if not log_of(path).exists():
                mode, check_same = "immutable=1", partial(_check_same, path, found)
        try:
            db = _opened(path, mode, check=check)
            db.execute("PRAGMA query_only = 1")
        except (ArchiveCorrupt, sqlite3.Error):
            check_same()
            raise
    return db, check_same


def _opened(path: Path, mode: str, *, check: bool, is_wanted: Callable[[], bool] = lambda: True) -> sqlite3.Connection:
    # What stands between two slashes and the next one would be a host; a name may be of any bytes.
    uri = f"file:///{quote(os.fsencode(path.absolute()).lstrip(b'/'))}?{mode}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_WAIT_SECONDS)
    try:
        db.text_factory = bytes
        _check_marks(path, db)
        if check:
            _check_pages(path, db, is_wanted)
    except BaseException:
        db.close()
        raise
    return db


def _check_same(path: Path, before: os.stat_result) -> None:
    with told(path):
        now = path.stat()
    if (now.st_ino, now.st_mtime_ns, now.st_size) != (before.st_ino, before.st_mtime_ns, before.st_size):
        raise ArchiveLocked(
            f"{path} was changed while it was read, from where nobody may write beside it. Open it again."
        )


def _nothing() -> None:
    """Do nothing: SQLite sees what others write."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what SQLite and the system say about *path* as errors of ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_NOTADB:
            raise ArchiveCorrupt(f"{path} is not an archive: it is no SQLite file.") from None
        if code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT:
            raise ArchiveCorrupt(f"{path} is damaged ({error}).") from None
        if code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise ArchiveLocked(f"{path} is in use by another program ({error}).") from None
        raise ArchiveError(f"{path} cannot be read or written ({error}).") from None
    except UnicodeDecodeError as error:  # Also of what SQLite says, which quotes what it found.
        raise ArchiveCorrupt(f"{path} is damaged ({error}).") from None
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read or written ({error.strerror or error}).") from None


def real(path: Path) -> Path:
    """Return where the file is: an archive and the files beside it are the same under each name that leads there."""
    return Path(os.path.realpath(path))


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of the archive at *path*."""
    path = real(path)
    return path.with_name(f"{path.name}-wal")


def sync_folder(folder: Path) -> None:
    """Have the system write down that a file in *folder* has a new name."""
    if os.name == "nt":  # pragma: no cover  # folders cannot be opened there, and the gate runs on Linux
        return
    _sync(folder, os.O_RDONLY)


def _sync(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_leftovers(path: Path) -> None:
    """Refuse to begin beside a log of SQLite's: it would carry pages of another archive into the new one."""
    for ending in ("-wal", "-journal"):
        if (left := path.with_name(path.name + ending)).exists():
            raise ArchiveCorrupt(
                f"There is no archive at {path}, but {left.name} of one is beside it, and holds a part of it. "
                "Put the archive back, or remove that file."
            )


def _check_file(path: Path) -> os.stat_result:
    """Return how the file is; refuse what SQLite would take for an empty database, whose log it removes.

    Without opening it: a process that closes a file loses all its locks on it, those of SQLite in other threads too.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ArchiveError(f"There is no archive at {path}.") from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not found.st_size:
        raise ArchiveCorrupt(f"{path} is not an archive: it is empty.")
    return found


def _check_marks(path: Path, db: sqlite3.Connection) -> None:
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise ArchiveCorrupt(f"{path} is an SQLite file, but no archive of this program.")
    version = _pragma(db, "user_version")
    if version != VERSION:
        raise ArchiveCorrupt(f"{path} is an archive of version {version}; this program reads version {VERSION}.")
    found = {name.decode(errors="replace"): sql for name, sql in db.execute("SELECT name, sql FROM sqlite_schema")}
    index = {"runs_by_id": INDEX_OF_IDS} if "runs_by_id" in found else {}
    if not any(_matches(found, wanted | index) for wanted in (FINISHED, SCHEMA)):
        raise ArchiveCorrupt(f"{path} is damaged: its tables are not those of an archive.")


def _matches(found: Mapping[str, bytes], wanted: Mapping[str, str]) -> bool:
    return all(found.get(name, b"") == statement.encode() for name, statement in wanted.items())


def _check_pages(path: Path, db: sqlite3.Connection, is_wanted: Callable[[], bool]) -> None:
    # In a thread of its own: who waits for SQLite hears of no signal, and here it may be for minutes.
    with ThreadPoolExecutor(1) as threads:
        checking = threads.submit(lambda: db.execute("PRAGMA integrity_check(3)").fetchall())
        try:
            while not wait([checking], _LOOK_UP_SECONDS).done:
                if not is_wanted():
                    raise ArchiveError(f"{path} is not wanted any more.")
        finally:
            while not checking.done():
                db.interrupt()
                wait([checking], _LOOK_UP_SECONDS)
        said = b"; ".join(row[0] for row in checking.result())
    if said != b"ok":
        raise ArchiveCorrupt(f"{path} is damaged: {said.decode(errors='replace')}")


def _pragma(db: sqlite3.Connection, name: str) -> object:
    return db.execute(f"PRAGMA {name}").fetchone()[0]

"""Carry an archive's write-ahead log over into the file while more is written."""

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from asyncruns import ArchiveError
from asyncruns.archive import _moments
from asyncruns.archive._file import connect, log_of

BYTES_BETWEEN = 2 * 2**20
"""How much is written between two of them."""
LOG_BYTES = 32 * 2**20
"""How long the log may get before the writer makes one itself, so that it begins anew."""


class Checkpoints:
    """Made in a thread of its own, so that the writer need not wait for the disk.

    One that carries everything over lets the next commit begin the log anew, and while that commit is under way no
    other may begin: before its version 3.51.3, SQLite could lose pages by that
    (https://www.sqlite.org/wal.html#walresetbug). So each begins behind a commit that wrote to the log and began behind
    the last whole one. SQLite makes none of its own accord; the writer does where the log gets long, and commits
    nothing meanwhile.

    Attributes:
        whole: How many carried everything over; to be looked at before a commit begins.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection) -> None:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")  # cut to that when it begins anew
        self.whole = 0
        self._path = path
        self._log = log_of(path)
        self._writer = writer
        self._making = threading.Lock()
        self._due = threading.Event()
        self._ended = False
        self._whole_before_commit = -1
        self._waiting = 0
        self._thread = threading.Thread(target=self._work, name="asyncruns-checkpoints", daemon=True)

    def wrote(self, count: int, whole_before: int) -> None:
        """Note that a commit wrote about so many bytes, 0 for perhaps none, and what `whole` was before it began."""
        self._waiting += count
        if self._log.stat().st_size > LOG_BYTES:
            with self._making:
                self._make(self._writer)
        elif count and self._waiting >= BYTES_BETWEEN:
            self._waiting = 0
            self._whole_before_commit = whole_before
            if self._thread.ident is None:
                with suppress(RuntimeError):  # There can be no more threads: the writer does it alone.
                    self._thread.start()
            self._due.set()

    def close(self) -> None:
        """Return when no more are made."""
        self._ended = True
        self._due.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        # What cannot be carried over is as safe in the log, and the writer will try it too.
        with suppress(ArchiveError, sqlite3.Error), closing(connect(self._path, check=False)) as db:
            while self._due.wait() and not self._ended:
                self._due.clear()
                with self._making:
                    if self._whole_before_commit == self.whole:
                        self._make(db)
                    else:
                        self._waiting += BYTES_BETWEEN  # so that the next commit calls for it

    def _make(self, db: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            _, logged, carried = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.whole += logged == carried
        _moments.reached("after_checkpoint")

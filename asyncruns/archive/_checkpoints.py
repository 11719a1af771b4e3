"""Carry an archive's write-ahead log over into the file while more is written."""

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

from asyncruns import ArchiveError
from asyncruns.archive import _moments
from asyncruns.archive._file import connect

BYTES_BETWEEN = 2 * 2**20
"""How much is written between two of them."""
LOG_BYTES = 16 * 2**20
"""How much may be written before the writer makes one itself, so that the log begins anew."""


class Checkpoints:
    """Made in a thread of its own, so that the writer need not wait for the disk.

    One that carries everything over lets the next commit begin the log anew, and while that commit is under way no
    other may begin: before its version 3.51.3, SQLite could lose pages by that
    (https://www.sqlite.org/wal.html#walresetbug). So each begins behind a commit that began behind the last whole one,
    and SQLite must make none of its own accord.

    Attributes:
        whole: How many carried everything over; to be looked at before a commit begins.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection) -> None:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        self.whole = 0
        self._path = path
        self._writer = writer
        self._making = threading.Lock()
        self._due = threading.Event()
        self._ended = False
        self._whole_before_commit = -1
        self._waiting = self._logged = 0
        self._thread = threading.Thread(target=self._work, name="asyncruns-checkpoints", daemon=True)

    def wrote(self, count: int, whole_before: int) -> None:
        """Note that a commit wrote so many bytes, and what `whole` was before it began."""
        self._waiting += count
        self._logged += count
        if self._logged >= LOG_BYTES:
            with self._making:
                self._make(self._writer)
            self._logged = 0
        elif self._waiting >= BYTES_BETWEEN:
            self._waiting = 0
            self._whole_before_commit = whole_before
            if self._thread.ident is None:
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
        with suppress(ArchiveError, sqlite3.Error), closing(connect(self._path, write=True, check=False)) as db:
            while self._due.wait() and not self._ended:
                self._due.clear()
                with self._making:
                    if self._whole_before_commit == self.whole:
                        self._make(db)
                    else:
                        self._waiting += BYTES_BETWEEN  # so that the next commit calls for it

    def _make(self, db: sqlite3.Connection) -> None:
        with suppress(sqlite3.OperationalError):
            _, logged, carried = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self.whole += logged == carried
        _moments.reached("after_checkpoint")

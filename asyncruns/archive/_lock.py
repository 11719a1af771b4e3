"""One process at a time fills an archive: a lock that the system takes back from the dead."""

import os
import socket
import sys
from pathlib import Path

from asyncruns import ArchiveError, ArchiveLocked
from asyncruns.archive._file import real


class Lock:
    """Holds `ARCHIVE.lock`, whose text says who holds it. It goes with the process, however that ends.

    Raises:
        ArchiveLocked: Another process holds it.
        ArchiveError: The file cannot be made.
    """

    def __init__(self, archive: Path) -> None:
        archive = real(archive)
        self._path = archive.with_name(archive.name + ".lock")
        self.owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._file = self._taken()
        try:
            os.ftruncate(self._file, 0)
            os.write(self._file, self.owner.encode())
        except OSError as error:
            self.release()
            raise ArchiveError(f"{self._path} cannot be written: {error.strerror}.") from None

    def release(self) -> None:
        """Let go; another may fill the archive."""
        if self._file >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def _taken(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        while True:
            try:
                file = os.open(self._path, flags, 0o600)
            except OSError as error:
                raise ArchiveError(f"{self._path} cannot be made: {error.strerror}.") from None
            try:
                lock_file(file)
            except OSError:
                owner = os.pread(file, 200, 0).decode(errors="replace") if hasattr(os, "pread") else ""
                os.close(file)
                raise ArchiveLocked(
                    f"The archive is being filled by {owner or 'another process'}. Its lock is {self._path}."
                ) from None
            if is_still_there(file, self._path):
                return file
            os.close(file)  # Its holder removed it while we waited for the lock: take the next one.


def is_still_there(file: int, path: Path) -> bool:
    """Whether *path* is the name of the open *file*, and not of another or of none."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":  # pragma: no cover  # the gate runs on Linux
    import msvcrt

    def lock_file(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def lock_file(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

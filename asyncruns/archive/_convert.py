"""Out of the archive into other formats: written beside the target, made safe, and then given its name."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from asyncruns import ArchiveLocked, ConfigurationError
from asyncruns.archive import _file, _moments
from asyncruns.archive._archive import Archive, check_archive
from asyncruns.archive._lock import is_still_there, lock_file
from asyncruns.archive._schema import TABLES, Table, column_names

_ROWS_PER_GROUP, _BYTES_PER_GROUP = 10_000, 32 * 2**20
_NUMBERS = frozenset({"created_at", "prompt_tokens", "completion_tokens", "total_tokens"})


def convert(archive: Archive, out: str | PathLike[str], *, table: Table = "runs") -> int:
    """Write a table to *out* and return the number of its rows; the name says the format.

    `.jsonl` is one JSON object a line, as it was sent but for line breaks between its parts; `.jsonl.zst` is the same,
    packed; `.parquet` has typed columns, and the whole object as text in the column `json`. A file that is there is
    replaced in the end, all at once; until then, and when anything goes wrong, it stays as it was. Nothing is held in
    memory but a few thousand rows, of 32 MiB at most.

    Args:
        archive: An open archive.
        out: The file to write.
        table: What to write.

    Raises:
        ConfigurationError: The format is not known, or the package that writes it is not installed, or *out* is the
            archive itself or no regular file.
        ArchiveLocked: Another program is writing *out*.
        ArchiveCorrupt: The archive is damaged.
        ArchiveError: The file cannot be written.
        TypeError: *archive* is none.
    """
    check_archive(archive)
    target = Path(out)
    if table not in TABLES:
        raise ConfigurationError(f"table must be one of {', '.join(TABLES)}, not {table!r}.")
    write = _writer_for(target.name)
    with replaced(target, unless=archive.path) as file:
        return write(archive, table, file)


@contextmanager
def replaced(target: Path, *, unless: Path) -> Iterator[BinaryIO]:
    """Give a file that becomes *target* when the block ends well, and vanishes when it does not.

    Raises:
        ConfigurationError: See `check_target`.
        ArchiveLocked: Another is writing it.
        ArchiveError: It cannot be written.
    """
    check_target(target, unless=unless)
    new = _draft_of(target)
    with _file.told(target):
        with os.fdopen(_taken(new), "wb") as file:
            try:
                yield file
                file.flush()
                _moments.reached("after_rows")
                os.fsync(file.fileno())
                _moments.reached("before_rename")
                _let_go(file)
                os.replace(new, target)
            except BaseException:
                _let_go(file)
                new.unlink(missing_ok=True)
                raise
        _moments.reached("after_rename")
        _file.sync_folder(target.parent)


def _taken(new: Path) -> int:
    """Make and lock the file at *new*; raise `ArchiveLocked` if another writes one, and remove one that nobody does."""
    while True:
        try:
            file = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            _remove_left(new)
            continue
        with suppress(OSError):  # Not every file system has locks.
            lock_file(file)
        if is_still_there(file, new):
            return file
        os.close(file)  # It was taken for one that was left: make another.


def _remove_left(new: Path) -> None:
    """Remove a draft of one that was killed."""
    try:
        file = os.open(new, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return
    try:
        lock_file(file)
        if is_still_there(file, new):
            new.unlink()
    except (BlockingIOError, PermissionError):
        raise ArchiveLocked(f"Another program writes {new}; wait for it, or give another name.") from None
    except OSError:
        new.unlink(missing_ok=True)
    finally:
        os.close(file)


def _let_go(file: BinaryIO) -> None:
    """Close *file* where an open one gets no other name; elsewhere its lock holds until it has got it."""
    if os.name == "nt":  # pragma: no cover  # the gate runs on Linux
        file.close()


def check_target(target: Path, *, unless: Path) -> None:
    """Raise `ConfigurationError` if *target* is the archive at *unless*, a folder, a FIFO or a device."""
    if os.path.exists(target) and not os.path.isfile(target):
        raise ConfigurationError(f"{target} is no regular file, and is not replaced by one; give another name.")
    if _file.real(unless) in (_file.real(target), _file.real(_draft_of(target))):
        raise ConfigurationError(f"{target} is the archive itself; give another name.")


def _draft_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


def _writer_for(name: str) -> Callable[[Archive, Table, BinaryIO], int]:
    if name.endswith(".jsonl"):
        return _write_lines
    if name.endswith(".jsonl.zst"):
        return _writer_of_packed_lines()
    if name.endswith(".parquet"):
        return _writer_of_parquet()
    raise ConfigurationError(f"The name must end in .jsonl, .jsonl.zst or .parquet; {name!r} does not.")


def _write_lines(archive: Archive, table: Table, file: Any) -> int:
    count = 0
    for blob in archive.raw(table):
        file.write(_one_line(blob))
        count += 1
    return count


def _one_line(blob: bytes) -> bytes:
    """Return *blob* as a line: in JSON, line breaks stand between the parts alone, and a space does as well."""
    return blob.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _writer_of_packed_lines() -> Callable[[Archive, Table, BinaryIO], int]:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise ConfigurationError("Writing .zst needs one more package: pip install 'asyncruns[zstd]'") from None

    def write(archive: Archive, table: Table, file: BinaryIO) -> int:
        with zstandard.ZstdCompressor(level=6, write_checksum=True).stream_writer(file, closefd=False) as packed:
            return _write_lines(archive, table, packed)

    return write


def _writer_of_parquet() -> Callable[[Archive, Table, BinaryIO], int]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise ConfigurationError("Writing Parquet needs one more package: pip install 'asyncruns[parquet]'") from None

    def write(archive: Archive, table: Table, file: BinaryIO) -> int:
        names = column_names(table)
        kinds = [(name, pa.int64() if name in _NUMBERS else pa.string()) for name in names]
        schema, count = pa.schema(kinds), 0
        rows = archive.columns(table, names)
        with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
            for group in _groups(rows):
                columns = [
                    pa.array([_typed(name, row[place]) for row in group], type=kind)
                    for place, (name, kind) in enumerate(kinds)
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                _moments.reached("mid_rows")
                count += len(group)
        return count

    return write


def _groups(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Yield *rows* by the thousand, and fewer at a time where their JSON, which comes last, is long."""
    group: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        group.append(row)
        size += len(row[-1])
        if len(group) == _ROWS_PER_GROUP or size >= _BYTES_PER_GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def _typed(name: str, value: object) -> object:
    """Return what a column takes; what a server sent as another type is left to the column `json`."""
    if name not in _NUMBERS:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None

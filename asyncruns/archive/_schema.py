"""What an archive file looks like inside: its marks, its tables, and the checksum of a row."""

from collections.abc import Sequence
from typing import Literal, get_args
from zlib import crc32

import msgspec

APPLICATION_ID = int.from_bytes(b"aRun", "big")
"""Stands in the file's header, so that an archive is told from other SQLite files."""
VERSION = 2
PAGE_SIZE = 32768
"""Bytes of a database page; a run has about two thousand.

Measured: 60,000 runs a second are written to pages of 4 KiB, 73,000 to 16 KiB, 100,000 to 32 KiB.
"""

Kind = Literal["runs", "steps", "messages"]
"""A kind of listing, and the table that its items go into."""
Table = Literal["runs", "steps", "messages", "threads"]
TABLES: tuple[Table, ...] = get_args(Table)
OWNERS: dict[Kind, tuple[str, ...]] = {
    "runs": ("thread_id",),
    "steps": ("thread_id", "run_id"),
    "messages": ("thread_id",),
}
"""Whose an item is. The primary key begins with it, so that what arrives together lies together."""
ITEM_COLUMNS = {kind: ("checksum", "json", "id", *owners, "position") for kind, owners in OWNERS.items()}
"""The columns of an item that are under its checksum, behind that."""

FIELDS: dict[Table, dict[str, str]] = {
    "runs": {
        "status": "$.status",
        "created_at": "$.created_at",
        "model": "$.model",
        "prompt_tokens": "$.usage.prompt_tokens",
        "completion_tokens": "$.usage.completion_tokens",
        "total_tokens": "$.usage.total_tokens",
    },
    "steps": {
        "type": "$.type",
        "status": "$.status",
        "created_at": "$.created_at",
        "prompt_tokens": "$.usage.prompt_tokens",
        "completion_tokens": "$.usage.completion_tokens",
        "total_tokens": "$.usage.total_tokens",
    },
    "messages": {"run_id": "$.run_id", "role": "$.role", "status": "$.status", "created_at": "$.created_at"},
    "threads": {"created_at": "$.created_at"},
}


def column_names(table: Table) -> list[str]:
    """Return the names of a table's columns for readers."""
    owners = () if table == "threads" else OWNERS[table]
    return ["id", *owners, *FIELDS[table], "json"]


def column(table: Table, name: str) -> str:
    """Return the expression for a column of a table; a generated one may not be there yet.

    Of an object that is nested too deep for SQLite, beyond 1,000 or 2,000 levels, it is NULL, where a query would fail.
    """
    path = FIELDS[table].get(name)
    return name if path is None else f"iif(json_valid(json), json_extract(json, '{path}'), NULL)"


def _generated(table: Table) -> list[str]:
    return [f"{name} AS ({column(table, name)})" for name in FIELDS[table]]


def _items(table: Kind, generated: Sequence[str] = ()) -> str:
    owners = OWNERS[table]
    declared = "".join(f"  {owner} TEXT NOT NULL,\n" for owner in owners)
    return (
        f"CREATE TABLE {table} (\n  id TEXT NOT NULL,\n{declared}  position INTEGER NOT NULL,\n"
        f"  checksum INTEGER NOT NULL,\n  json TEXT NOT NULL{''.join(f', {added}' for added in generated)},\n"
        f"  PRIMARY KEY ({', '.join(owners)}, id)\n)"
    )


SCHEMA: dict[str, str] = {
    "archive": (
        "CREATE TABLE archive (\n  only INTEGER PRIMARY KEY CHECK (only = 1),\n  epoch INTEGER NOT NULL,\n"
        "  owner TEXT NOT NULL,\n  verified_at INTEGER,\n  asked TEXT NOT NULL,\n  checksum INTEGER NOT NULL\n)"
    ),
    "runs": _items("runs"),
    "steps": _items("steps"),
    "messages": _items("messages"),
    "threads": (
        "CREATE TABLE threads (\n  id TEXT PRIMARY KEY NOT NULL,\n  state TEXT NOT NULL,\n  reason TEXT,\n"
        f"  verified TEXT,\n  checksum INTEGER NOT NULL,\n  json TEXT, {', '.join(_generated('threads'))}\n)"
    ),
    "walks": (
        "CREATE TABLE walks (\n  thread_id TEXT NOT NULL,\n  kind TEXT NOT NULL,\n  run_id TEXT NOT NULL,\n"
        '  "order" TEXT NOT NULL,\n  state TEXT NOT NULL,\n  cursor TEXT,\n  anchor TEXT,\n'
        "  position INTEGER NOT NULL,\n  reason TEXT,\n  checksum INTEGER NOT NULL,\n"
        '  PRIMARY KEY (thread_id, kind, run_id, "order")\n) WITHOUT ROWID'
    ),
}
"""Name -> the statement that makes it. An archive holds exactly these texts, or it was tampered with."""
ADDITIONS = [f"ALTER TABLE {kind} ADD COLUMN {added}" for kind in OWNERS for added in _generated(kind)]
"""What gives the tables of items their generated columns; carried out when an archive is closed.

While they are there, SQLite searches each object that is written, which takes half of the time of writing it.
"""
FINISHED = SCHEMA | {kind: _items(kind, _generated(kind)) for kind in OWNERS}
"""The same as `SCHEMA`, after the additions."""
INDEX_OF_IDS = "CREATE INDEX runs_by_id ON runs (id)"
"""Made once an export has ended: ids come in no order, and to keep it while millions arrive would cost most."""


def checksum(blob: bytes | None, *fields: object) -> int:
    """Return the CRC-32 of a row: of its fields and, behind them, its JSON."""
    head = crc32("\0".join(map(str, fields)).encode("utf-8", "surrogatepass"))
    return head if blob is None else crc32(blob, head)


def digest(blob: bytes) -> int:
    """Return a checksum of the JSON value in *blob*, however it is written.

    Where it holds a number that no variable can, it is one of the bytes.
    """
    try:
        return crc32(msgspec.json.encode(msgspec.json.decode(blob), order="sorted"))
    except (msgspec.DecodeError, RecursionError):
        return crc32(blob)

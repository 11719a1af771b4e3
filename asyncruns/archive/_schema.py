"""What an archive file looks like inside: its marks, its tables, and the checksum of a row."""

from typing import Literal, get_args
from zlib import crc32

import msgspec

APPLICATION_ID = int.from_bytes(b"aRun", "big")
"""Stands in the file's header, so that an archive is told from other SQLite files."""
VERSION = 1
PAGE_SIZE = 32768
"""Bytes of a database page; a run has about two thousand.

Measured: 60,000 runs a second are written to pages of 4 KiB, 73,000 to 16 KiB, 100,000 to 32 KiB.
"""

Kind = Literal["runs", "steps", "messages"]
"""A kind of listing, and the table that its items go into."""
Table = Literal["runs", "steps", "messages", "threads"]
TABLES: tuple[Table, ...] = get_args(Table)

FIELDS = {
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


def _generated(table: str) -> str:
    return "".join(f",\n  {name} AS (json_extract(json, '{path}'))" for name, path in FIELDS[table].items())


def _items(table: str, owner: str) -> str:
    return (
        f"CREATE TABLE {table} (\n  id TEXT PRIMARY KEY NOT NULL,\n  {owner}position INTEGER NOT NULL,\n"
        f"  checksum INTEGER NOT NULL,\n  json TEXT NOT NULL{_generated(table)}\n)"
    )


SCHEMA: dict[str, str] = {
    "archive": (
        "CREATE TABLE archive (\n  only INTEGER PRIMARY KEY CHECK (only = 1),\n  epoch INTEGER NOT NULL,\n"
        "  owner TEXT NOT NULL,\n  verified_at INTEGER\n)"
    ),
    "runs": _items("runs", "thread_id TEXT NOT NULL,\n  "),
    "steps": _items("steps", "thread_id TEXT NOT NULL,\n  run_id TEXT NOT NULL,\n  "),
    "messages": _items("messages", "thread_id TEXT NOT NULL,\n  "),
    "threads": (
        "CREATE TABLE threads (\n  id TEXT PRIMARY KEY NOT NULL,\n  state TEXT NOT NULL,\n  reason TEXT,\n"
        f"  verified TEXT,\n  checksum INTEGER NOT NULL,\n  json TEXT{_generated('threads')}\n)"
    ),
    "walks": (
        "CREATE TABLE walks (\n  thread_id TEXT NOT NULL,\n  kind TEXT NOT NULL,\n  run_id TEXT NOT NULL,\n"
        "  state TEXT NOT NULL,\n  cursor TEXT,\n  anchor TEXT,\n  position INTEGER NOT NULL,\n  reason TEXT,\n"
        "  checksum INTEGER NOT NULL,\n  PRIMARY KEY (thread_id, kind, run_id)\n) WITHOUT ROWID"
    ),
    "runs_by_thread": "CREATE INDEX runs_by_thread ON runs (thread_id, position)",
    "steps_by_run": "CREATE INDEX steps_by_run ON steps (run_id, position)",
    "messages_by_thread": "CREATE INDEX messages_by_thread ON messages (thread_id, position)",
}
"""Name -> the statement that makes it. An archive holds exactly these texts, or it was tampered with."""


def checksum(blob: bytes | None, *fields: object) -> int:
    """Return the CRC-32 of a row: of its fields and, behind them, its JSON."""
    head = crc32("\0".join(map(str, fields)).encode("utf-8", "surrogatepass"))
    return head if blob is None else crc32(blob, head)


def digest(blob: bytes) -> int:
    """Return a checksum of the JSON value in *blob*, however it is written."""
    return crc32(msgspec.json.encode(msgspec.json.decode(blob), order="sorted"))

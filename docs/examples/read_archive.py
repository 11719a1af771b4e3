"""Ask an archive in three ways which models ended how often in which way, and with how many tokens.

    python read_archive.py ARCHIVE

sqlite3 reads the archive as it is, also while an export fills it. DuckDB and polars read a Parquet file made of it,
which is left beside the archive; they come with: pip install 'asyncruns[parquet]' duckdb polars
"""

import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import duckdb
import polars as pl

from asyncruns.archive import Archive, convert

Row = tuple[str, str, int, int]

QUERY = """
    SELECT model, status, count(*) AS runs, sum(total_tokens) AS tokens
    FROM {runs}
    GROUP BY model, status
    ORDER BY runs DESC, status
"""
RUNS = """(
    SELECT json_extract(json, '$.model') AS model, json_extract(json, '$.status') AS status,
        json_extract(json, '$.usage.total_tokens') AS total_tokens
    FROM runs
)"""


def with_sqlite(archive: Path) -> list[Row]:
    """Ask the archive itself: `json` is the object as it was sent.

    Status, model, times and counts are columns, too, but not while an export goes on.
    """
    with closing(sqlite3.connect(f"file:{archive}?mode=ro", uri=True)) as db:
        return db.execute(QUERY.format(runs=RUNS)).fetchall()


def with_duckdb(runs: Path) -> list[Row]:
    """Ask the Parquet file with the same SQL."""
    return duckdb.execute(QUERY.format(runs="read_parquet(?)"), [str(runs)]).fetchall()


def with_polars(runs: Path) -> list[Row]:
    """Ask it with expressions; only the columns that are named are read."""
    groups = pl.scan_parquet(runs).group_by("model", "status")
    counted = groups.agg(runs=pl.len(), tokens=pl.col("total_tokens").sum())
    return counted.sort(["runs", "status"], descending=[True, False]).collect().rows()


def slowest_steps(steps: Path) -> list[tuple[str, float]]:
    """Look into the whole objects, too: which kinds of steps take longest in the middle."""
    return duckdb.execute(
        """
        SELECT type, median((json ->> '$.completed_at')::BIGINT - created_at) AS seconds
        FROM read_parquet(?)
        WHERE status = 'completed'
        GROUP BY type
        ORDER BY seconds DESC, type
        """,
        [str(steps)],
    ).fetchall()


def show(title: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Print rows under a title."""
    print(title)
    for row in rows:
        print("  ", *row, sep="\t")


def main() -> None:
    """Convert the archive, ask, and print the answers."""
    archive = Path(sys.argv[1])
    runs, steps = archive.with_suffix(".runs.parquet"), archive.with_suffix(".steps.parquet")
    with Archive.open(archive) as opened:
        convert(opened, runs)
        convert(opened, steps, table="steps")
    show("sqlite3", with_sqlite(archive))
    show("DuckDB", with_duckdb(runs))
    show("polars", with_polars(runs))
    show("seconds a step takes", slowest_steps(steps))


if __name__ == "__main__":
    main()

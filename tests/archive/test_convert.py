"""An archive becomes JSON Lines or Parquet, whole or not at all, and readable with other tools."""

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncruns import ArchiveError, ArchiveLocked, ConfigurationError
from asyncruns.archive import Archive, _convert, _moments, convert, write_report
from asyncruns.archive._lock import lock_file
from asyncruns.archive._records import PageWrite, ThreadWrite, Walk
from asyncruns.archive._store import Store

from .conftest import Filled
from .items import raw_items


def one(path: Path, blob: bytes) -> Archive:
    """Make an archive of one run."""
    with Store(path) as store:
        walk = Walk(thread_id="thread_1", kind="runs", cursor="run_1", anchor="run_1", position=1)
        store.apply([PageWrite(walk=walk, items=raw_items([("run_1", blob)]))])
    return Archive.open(path)


async def test_lines_are_the_objects_as_sent(small: Filled, path: Path, tmp_path: Path) -> None:
    """Each line is the bytes of one object, in the order they came."""
    await small.export(path)
    with Archive.open(path) as archive:
        assert convert(archive, tmp_path / "runs.jsonl") == len(small.runs)
        assert convert(archive, tmp_path / "steps.jsonl", table="steps") == len(small.steps)
    assert sorted((tmp_path / "runs.jsonl").read_bytes().splitlines()) == sorted(small.runs)
    assert sorted((tmp_path / "steps.jsonl").read_bytes().splitlines()) == sorted(small.steps)


def test_line_breaks_between_parts_go(path: Path, tmp_path: Path) -> None:
    """A server that writes its objects over several lines still makes one line each."""
    blob = b'{\n  "id": "run_1",\r\n  "text": "a\\nb \xe2\x80\xa8"\n}'
    with one(path, blob) as archive:
        assert list(archive.raw("runs")) == [blob]
        convert(archive, tmp_path / "runs.jsonl")
    (line,) = (tmp_path / "runs.jsonl").read_bytes().split(b"\n")[:-1]
    assert json.loads(line) == json.loads(blob)


async def test_packed_lines(small: Filled, path: Path, tmp_path: Path) -> None:
    """The packed lines unpack to the plain ones."""
    zstandard = pytest.importorskip("zstandard", reason="the zstd extra is not installed")
    await small.export(path)
    with Archive.open(path) as archive:
        convert(archive, tmp_path / "runs.jsonl")
        convert(archive, tmp_path / "runs.jsonl.zst")
    with zstandard.open(tmp_path / "runs.jsonl.zst", "rb") as packed:
        assert packed.read() == (tmp_path / "runs.jsonl").read_bytes()
    damaged = bytearray((tmp_path / "runs.jsonl.zst").read_bytes())
    damaged[-2] ^= 1  # In the checksum, which stands last.
    with pytest.raises(zstandard.ZstdError, match="checksum"):
        zstandard.ZstdDecompressor().stream_reader(bytes(damaged)).read()


@pytest.mark.parametrize("table", ["runs", "steps", "messages", "threads"])
async def test_parquet_has_typed_columns_and_the_whole_object(
    small: Filled, path: Path, tmp_path: Path, table: str
) -> None:
    """Counts and times are integers, words are text, and `json` is the object as it was sent."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the parquet extra is not installed")
    await small.export(path, messages=True, threads=True)
    with Archive.open(path) as archive:
        count = convert(archive, tmp_path / "out.parquet", table=table)  # type: ignore[arg-type]
        blobs = list(archive.raw(table))  # type: ignore[arg-type]
    found = parquet.read_table(tmp_path / "out.parquet")
    assert count == found.num_rows == len(blobs) > 0
    assert [text.encode() for text in found["json"].to_pylist()] == blobs
    assert str(found.schema.field("created_at").type) == "int64"
    db = sqlite3.connect(path)
    assert found["id"].to_pylist() == [id for (id,) in db.execute(f"SELECT id FROM {table} ORDER BY rowid")]  # noqa: S608
    db.close()


def test_parquet_takes_what_servers_send_otherwise(path: Path, tmp_path: Path) -> None:
    """Times as whole floats become integers; what does not fit a column is empty there and stays in `json`."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the parquet extra is not installed")
    usage = {"prompt_tokens": "many", "completion_tokens": 1.5, "total_tokens": 2**70}
    blob = json.dumps({"id": "run_1", "created_at": 1795241450.0, "model": 7, "usage": usage}).encode()
    with one(path, blob) as archive:
        convert(archive, tmp_path / "runs.parquet")
    (row,) = parquet.read_table(tmp_path / "runs.parquet").to_pylist()
    assert row["created_at"] == 1795241450
    assert (row["model"], row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (None,) * 4
    assert row["json"].encode() == blob


def test_long_objects_make_small_groups(path: Path, tmp_path: Path) -> None:
    """Row groups end at 10,000 rows or 32 MiB of JSON, so that memory stays flat however long the objects are."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the parquet extra is not installed")
    blob = b'{"instructions": "' + b"x" * 9 * 2**20 + b'"}'
    with Store(path) as store:
        walk = Walk(thread_id="thread_1", kind="runs", position=9)
        store.apply([PageWrite(walk=walk, items=raw_items([(f"run_{n}", blob) for n in range(9)]))])
    with Archive.open(path) as archive:
        assert convert(archive, tmp_path / "runs.parquet") == 9
    written = parquet.ParquetFile(tmp_path / "runs.parquet").metadata
    assert [written.row_group(n).num_rows for n in range(written.num_row_groups)] == [4, 4, 1]


def test_columns_have_the_types_that_tools_expect(path: Path, tmp_path: Path) -> None:
    """Owners' ids and words are text, times and counts integers, and the last column is the whole object."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="the parquet extra is not installed")
    one(path, b"{}").close()
    found = {}
    with Archive.open(path) as archive:
        for table in ("runs", "steps", "messages", "threads"):
            convert(archive, tmp_path / "out.parquet", table=table)  # type: ignore[arg-type]
            schema = parquet.read_schema(tmp_path / "out.parquet")
            found[table] = " ".join(f"{field.name}:{field.type}" for field in schema)
    usage = "created_at:int64 {}prompt_tokens:int64 completion_tokens:int64 total_tokens:int64 json:string"
    assert found == {
        "runs": f"id:string thread_id:string status:string {usage.format('model:string ')}",
        "steps": f"id:string thread_id:string run_id:string type:string status:string {usage.format('')}",
        "messages": "id:string thread_id:string run_id:string role:string status:string created_at:int64 json:string",
        "threads": "id:string created_at:int64 json:string",
    }


def test_threads_without_their_object_are_left_out(path: Path, tmp_path: Path) -> None:
    """Of threads, only those that were brought themselves are rows."""
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    with Store(path) as store:
        store.stage(["thread_1", "thread_2"])
        store.settle(allow_change=False)
        store.apply([ThreadWrite(id="thread_2", state="listed", json=b'{"id": "thread_2"}')])
    with Archive.open(path) as archive:
        assert convert(archive, tmp_path / "threads.parquet", table="threads") == 1


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [("runs.csv", "runs", "must end in"), ("runs.jsonl", "files", "table must be one of")],
)
def test_wrong_wishes_are_refused(path: Path, tmp_path: Path, name: str, table: str, message: str) -> None:
    """An unknown format or table is a wrong setting, and nothing is written."""
    with one(path, b"{}") as archive, pytest.raises(ConfigurationError, match=message):
        convert(archive, tmp_path / name, table=table)  # type: ignore[arg-type]
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
@pytest.mark.parametrize("name", ["runs.jsonl", "report.html"])
def test_what_is_no_file_is_not_replaced(path: Path, tmp_path: Path, name: str, make: Callable[[Path], None]) -> None:
    """A FIFO, a folder, and what a link leads to, stay as they are; nothing is written beside them."""
    out, link = tmp_path / name, tmp_path / f"link.{name}"
    make(out)
    link.symlink_to(out)
    mode, write = out.stat().st_mode, write_report if name == "report.html" else convert
    for target in (out, link):
        with one(path, b"{}") as archive, pytest.raises(ConfigurationError, match="is no regular file"):
            write(archive, target)
    assert out.stat().st_mode == mode
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted((link.name, name, "runs.db"))


@pytest.mark.parametrize("moment", ["after_rows", "before_rename"])
@pytest.mark.parametrize("name", ["runs.jsonl", "report.html"])
def test_one_at_a_time_writes_a_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, moment: str
) -> None:
    """Who comes second is refused, and the file of the first is whole."""
    out, refused = tmp_path / name, []
    write = write_report if name == "report.html" else convert

    def write_too(reached: str) -> None:
        if reached == moment and not refused:
            refused.append(reached)
            with pytest.raises(ArchiveLocked, match="Another program writes"):
                write(archive, out)

    with one(path, b'{"id": "run_1"}') as archive:
        monkeypatch.setattr(_moments, "reached", write_too)
        write(archive, out)
        assert refused == [moment]
        assert out.stat().st_size > 10
        write(archive, out)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted((name, "runs.db"))


def test_lock_of_a_file_that_got_its_name_is_none(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the draft and locking it, another may finish with it: it is then no draft any more."""
    out, draft = tmp_path / "runs.jsonl", tmp_path / ".runs.jsonl.new"
    tries: list[int] = []

    def lock_late(file: int) -> None:
        if not tries:
            os.replace(draft, tmp_path / "of another")
        tries.append(file)
        lock_file(file)

    monkeypatch.setattr(_convert, "lock_file", lock_late)
    with one(path, b"{}") as archive:
        convert(archive, out)
    assert (len(tries), out.read_bytes(), (tmp_path / "of another").read_bytes()) == (2, b"{}\n", b"")


def test_archive_under_the_name_of_the_draft_is_not_replaced(tmp_path: Path) -> None:
    """An archive may even be called as what is written first."""
    path = tmp_path / ".runs.jsonl.new"
    with one(path, b"{}") as archive, pytest.raises(ConfigurationError, match="is the archive itself"):
        convert(archive, tmp_path / "runs.jsonl")
    with Archive.open(path) as archive:
        assert archive.count("runs") == 1


@pytest.mark.parametrize(("name", "package"), [("runs.jsonl.zst", "zstandard"), ("runs.parquet", "pyarrow")])
def test_missing_packages_are_named(
    path: Path, tmp_path: Path, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, the error says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    with one(path, b"{}") as archive, pytest.raises(ConfigurationError, match=r"pip install 'asyncruns\["):
        convert(archive, tmp_path / name)


def test_place_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    """A folder that is not there is told, and a damaged row leaves nothing behind."""
    with one(path, b"{}") as archive, pytest.raises(ArchiveError, match="cannot be read or written"):
        convert(archive, tmp_path / "nowhere" / "runs.jsonl")
    db = sqlite3.connect(path)
    db.execute("UPDATE runs SET json = '[]'")
    db.commit()
    db.close()
    with Archive.open(path) as archive, pytest.raises(ArchiveError, match="checksum"):
        convert(archive, tmp_path / "runs.jsonl")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runs.db"]


async def test_draft_that_is_anothers_is_not_written(small: Filled, path: Path, tmp_path: Path) -> None:
    """What stands in the draft's place, and is another file by another name, is left as it is."""
    await small.export(path)
    precious, out = tmp_path / "precious", tmp_path / "runs.jsonl"
    precious.write_bytes(b"precious")
    precious.chmod(0o666)
    os.link(precious, tmp_path / ".runs.jsonl.new")
    with Archive.open(path) as archive:
        assert convert(archive, out) == len(small.runs)
    assert precious.read_bytes() == b"precious"
    assert out.stat().st_mode & 0o777 == 0o600

"""Exports that are killed, writes that fail, files that are damaged: nothing is lost, doubled or wrong in silence."""

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from asyncruns import ArchiveCorrupt, ArchiveError
from asyncruns.archive import Archive, _moments, convert
from asyncruns.archive._records import PageWrite, Walk
from asyncruns.archive._schema import PAGE_SIZE
from asyncruns.archive._store import Store

from .conftest import WHERE, Filled, compiled, rows
from .items import raw_items

HERE = Path(__file__).parent
MOMENTS = {
    name
    for source in Path(_moments.__file__).parent.glob("*.py")
    for name in re.findall(r'_moments\.reached\("(\w+)"\)', source.read_text())
}
OF_CONVERSIONS = {"mid_rows"}  # Its other steps have the names that an archive's have.
ROOT = HERE.parents[1]


def test_sixty_kills() -> None:
    """SIGKILL at random moments and at every named step: 0 lost, 0 doubled, 0 torn, a page a walk fetched again."""
    command = [sys.executable, "-m", "benchmarks.kill", "--kills", "60", "--seed", "7"]
    ran = subprocess.run(command, env=WHERE, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    figures = json.loads(ran.stdout.splitlines()[-1])
    assert figures["kills"] == 60
    assert figures["at_moment"]["random"] > 10
    assert len(figures["at_moment"]) > 4
    kept = ("lost", "doubled", "torn", "shrunk", "refetched_beyond_bound")
    assert {name: figures[name] for name in kept} == dict.fromkeys(kept, 0)


def test_row_70_every_failing_write(tmp_path: Path) -> None:
    """For every N, the N-th write, sync or rename fails: the error is told, and resuming completes the archive."""
    shim = compiled("failing_writes", tmp_path)
    ran = subprocess.run(
        [sys.executable, HERE / "failing_child.py", shim, tmp_path],
        env={**WHERE, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    outcomes = json.loads(ran.stdout)
    assert (outcomes["defects"], outcomes["torn"], outcomes["missing, and not told"]) == (0, 0, 0)
    assert outcomes["told"] > 100
    assert outcomes["conversions told"] >= 12


@pytest.mark.parametrize("command", ["export", "verify", "convert", "report"])
async def test_row_74_while_a_large_archive_is_looked_through(path: Path, tmp_path: Path, command: str) -> None:
    """A signal ends a command that reads the whole archive first, from a disk that takes long for it."""
    with Store(path) as store:
        for number in range(20):
            items = [(f"run_{number}_{place}", b'{"x": "%s"}' % (b"x" * 32_000)) for place in range(20)]
            walk = Walk(thread_id="thread_1", kind="runs", cursor=items[-1][0], position=20 * number + 20)
            store.apply([PageWrite(walk=walk, items=raw_items(items))])
    reading = tmp_path / "reading"
    where = {**WHERE, "OPENAI_API_KEY": "key", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    slow = {"LD_PRELOAD": str(compiled("slow_reads", tmp_path)), "READING": str(reading)}
    before = {*tmp_path.iterdir(), reading}
    out = {"convert": [str(tmp_path / "a.jsonl")], "report": [str(tmp_path / "a.html")]}.get(command, [])
    words = [sys.executable, "-m", "asyncruns", command, str(path), *out]
    child = await asyncio.create_subprocess_exec(*words, env=where | slow, stderr=subprocess.PIPE)
    while not reading.exists():
        await asyncio.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(child.communicate(), 5)
    assert (child.returncode, err.splitlines()[-1:]) == (130, [b"asyncruns: interrupted"]), err.decode()
    assert set(tmp_path.iterdir()) == before


async def test_row_72_flipped_bytes(small: Filled, path: Path, tmp_path: Path) -> None:
    """Flip any byte: either the archive is refused, or all of its rows are still right. It is never begun again."""
    await small.export(path)
    whole, chance, outcomes = path.read_bytes(), random.Random(5), Counter[str]()
    damaged = tmp_path / "damaged.db"
    places = {*range(112), *(chance.randrange(len(whole)) for _ in range(400))}
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        damaged.write_bytes(data)
        try:
            with Archive.open(damaged) as archive:
                found = sorted(archive.raw("runs")), sorted(archive.raw("steps"))
                records = list(archive.records())
                walks = sum(1 for _ in archive.walks())
        except ArchiveError:
            outcomes["refused"] += 1
            continue
        outcomes["right"] += 1
        assert found == (sorted(small.runs), sorted(small.steps)), place
        assert len(records) == 2
        assert walks == 2 + len(small.runs)
    assert outcomes["refused"] > 50


async def test_row_72_damage_that_is_no_text(small: Filled, path: Path) -> None:
    """Where SQLite's own complaint quotes bytes that are no text, the archive is refused like any other damaged one."""
    await small.export(path)
    path.write_bytes(path.read_bytes().replace(b"TABLE runs (", b"TABLE runs \xa9"))
    with pytest.raises(ArchiveCorrupt, match=r"is damaged \(.*decode byte 0xa9"):
        Archive.open(path)


async def test_row_72_rows_made_unreachable(small: Filled, path: Path, tmp_path: Path) -> None:
    """Each page of the file that says it holds one thing less is noticed; what is there would still be right."""
    await small.export(path)
    whole, damaged = path.read_bytes(), tmp_path / "damaged.db"
    pages = 0
    for start in range(0, len(whole), PAGE_SIZE):
        header = start + (100 if start == 0 else 0)
        held = int.from_bytes(whole[header + 3 : header + 5], "big")  # https://www.sqlite.org/fileformat.html, 1.6
        if whole[header] in (2, 5, 10, 13) and held:
            pages += 1
            damaged.write_bytes(whole[: header + 3] + (held - 1).to_bytes(2, "big") + whole[header + 5 :])
            with pytest.raises(ArchiveCorrupt):
                Archive.open(damaged)
            with pytest.raises(ArchiveCorrupt):
                await small.export(damaged)
    assert pages > 5


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
async def test_row_72_damaged_log_of_a_killed_export(
    small: Filled, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was not carried over when an export was killed is damaged: fewer rows, never wrong ones, and they come."""
    copies: list[tuple[bytes, bytes]] = []
    log = path.with_name("runs.db-wal")

    def remember(moment: str) -> None:
        if moment == "after_commit":
            copies.append((path.read_bytes(), log.read_bytes()))

    monkeypatch.setattr(_moments, "reached", remember)
    await small.export(path)
    monkeypatch.undo()
    whole, written = copies[len(copies) // 2]
    chance, counts = random.Random(8), Counter[str]()
    for trial in range(1 if how == "gone" else 30):
        damaged = tmp_path / f"{trial}.db"
        damaged.write_bytes(whole)
        data, place = bytearray(written), chance.randrange(len(written))
        if how == "flipped":
            data[place] ^= 1 << chance.randrange(8)
        if how != "gone":
            damaged.with_name(damaged.name + "-wal").write_bytes(data[:place] if how == "cut" else data)
        try:
            kept = rows(damaged)
            await small.export(damaged)
            found = rows(damaged)
        except ArchiveCorrupt:
            counts["refused"] += 1
            continue
        counts["went on"] += 1
        assert set(small.runs) >= set(kept[0])
        assert set(small.steps) >= set(kept[1])
        assert found == (sorted(small.runs), sorted(small.steps))
    assert counts["went on"] > 0


@pytest.mark.parametrize("moment", sorted(MOMENTS - OF_CONVERSIONS))
async def test_kill_at_each_named_step(small: Filled, path: Path, moment: str) -> None:
    """At whichever step of a write an export is killed, the next goes on, and a page a walk is fetched again."""
    small.emulator.delay = 0.005
    for times in (1, 4) if moment in ("after_rows", "after_cursor", "before_commit", "after_commit") else (1,):
        small.emulator.requests.clear()
        words = (HERE / "killed_export.py", path, moment, str(times), small.emulator.base_url, *small.threads)
        child = await asyncio.create_subprocess_exec(
            sys.executable, *words, env={**WHERE, "OPENAI_API_KEY": small.emulator.api_key}
        )
        assert await asyncio.wait_for(child.wait(), 60) == -9
        if path.exists():
            kept = rows(path)
            assert set(small.runs) >= set(kept[0])
            assert set(small.steps) >= set(kept[1])
        asked = Counter(target for _, target in small.emulator.requests)
        small.emulator.requests.clear()
        await small.export(path)
        again = asked & Counter(target for _, target in small.emulator.requests)
        assert again.total() <= 4  # As many walks were in flight.
        assert rows(path) == (sorted(small.runs), sorted(small.steps))
        path.unlink()


def test_every_named_step_is_killed_at() -> None:
    """The kills of this file and of `benchmarks.kill` leave no named step of the sources out."""
    named = (ROOT / "benchmarks" / "kill.py").read_text()
    assert all(f'"{moment}"' in named for moment in MOMENTS - OF_CONVERSIONS)
    assert len(MOMENTS) >= 8


async def test_row_72_resuming_a_damaged_archive(small: Filled, path: Path, tmp_path: Path) -> None:
    """An export into a damaged archive refuses it, or ends with every row right."""
    await small.export(path)
    whole, chance = path.read_bytes(), random.Random(6)
    damaged = tmp_path / "damaged.db"
    for _ in range(40):
        data = bytearray(whole)
        data[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        damaged.write_bytes(data)
        try:
            await small.export(damaged)
            found = rows(damaged)
        except ArchiveError:
            continue
        assert found == (sorted(small.runs), sorted(small.steps))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 100, 16384, 40000])
async def test_row_72_truncated(small: Filled, path: Path, size: int) -> None:
    """A truncated archive, down to nothing, is `ArchiveCorrupt` to readers and to exports; it stays as it is."""
    await small.export(path)
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ArchiveCorrupt):
        Archive.open(path)
    with pytest.raises(ArchiveCorrupt):
        await small.export(path)
    assert path.stat().st_size == size


async def test_killed_export_leaves_no_lock(small: Filled, path: Path) -> None:
    """A lock file of a dead process is taken over."""
    path.with_name("runs.db.lock").write_text("process 1 on elsewhere")
    assert (await small.export(path)).threads_done == 2
    assert not path.with_name("runs.db.lock").exists()


@pytest.mark.parametrize("name", ["runs.jsonl", "runs.jsonl.zst", "runs.parquet"])
async def test_killed_conversion_leaves_the_old_file(small: Filled, path: Path, tmp_path: Path, name: str) -> None:
    """SIGKILL at every named step of a conversion: the file is the old one or the new one, and whole."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("zstandard")
    await small.export(path)
    out, new = tmp_path / name, tmp_path / f".{name}.new"
    with Archive.open(path) as archive:
        convert(archive, out)
    whole = out.read_bytes()
    for moment in ("mid_rows", "after_rows", "before_rename", "after_rename"):
        if moment == "mid_rows" and name != "runs.parquet":
            continue
        out.write_bytes(b"as it was")
        command = [sys.executable, HERE / "killed_conversion.py", path, out, moment]
        ran = subprocess.run(command, env=WHERE, check=False, timeout=60)
        assert ran.returncode == -9
        assert out.read_bytes() == (whole if moment == "after_rename" else b"as it was")
        with Archive.open(path) as archive:
            convert(archive, out)
        assert out.read_bytes() == whole
        assert not new.exists()


def test_moments_do_nothing_of_themselves() -> None:
    """Outside of tests nothing happens at the named moments."""
    _moments.reached("before_commit")

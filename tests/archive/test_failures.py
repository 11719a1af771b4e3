"""Exports that are killed, writes that fail, files that are damaged: nothing is lost, doubled or wrong in silence."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import asyncruns
from asyncruns import ArchiveCorrupt, ArchiveError
from asyncruns.archive import Archive, _moments, convert

from .conftest import Filled, rows

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WHERE = {**os.environ, "PYTHONPATH": str(Path(asyncruns.__file__).parents[1])}


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
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux, to stand between the process and the system")
    shim = tmp_path / "failing_writes.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", shim, HERE / "failing_writes.c", "-ldl"], check=True)
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
    assert (outcomes["defects"], outcomes["torn"]) == (0, 0)
    assert outcomes["told"] > 100
    assert outcomes["conversions told"] >= 12


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

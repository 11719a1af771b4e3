"""The commands of `benchmarks/` that nobody runs every day, for a moment."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_fuzz() -> None:
    """Every parser takes its corpus, and what a second of mutations makes of it."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--seconds", "1", "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("nothing but refusals") == 6


def test_trouble() -> None:
    """What comes of a call in front of a server in trouble is told, with what the server counted."""
    cases = ["lost-once", "late-500", "same-page", "empty-page", "error-as-page"]
    command = [sys.executable, "-m", "benchmarks.trouble", "--clients", "asyncruns", "--cases", *cases]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = [line.split("asyncruns")[1].partition(",")[0].strip() for line in ran.stdout.splitlines()[1::2]]
    assert told == [
        "a run",
        "a run",
        "PaginationLoopError (2 requests",
        "the end",
        "ProtocolError (2 requests",
    ]
    assert ran.stdout.count("1 on the server (3 requests") == 2


def test_kill_comes_too_late(tmp_path: Path) -> None:
    """An export that ends before its kill is told as ended, and nothing else is killed in its place."""
    order = {"key": "k", "base_url": "http://127.0.0.1:9/v1", "path": str(tmp_path / "archive.db"), "threads": []}
    tries = [{**order, "both_ends": False, "moment": "", "after": 0, "seconds": 0.1 * 4**n} for n in range(4)]
    command = [sys.executable, "-m", "benchmarks.kill", "--forks"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as helper:  # noqa: S603
        assert helper.stdin is not None
        assert helper.stdout is not None
        statuses = []
        while tries and 0 not in statuses:
            print(json.dumps(tries.pop(0)), file=helper.stdin, flush=True)
            statuses.append(int(helper.stdout.readline()))
        helper.stdin.close()
    assert statuses[-1] == 0
    assert set(statuses[:-1]) <= {9}

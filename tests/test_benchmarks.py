"""The commands of `benchmarks/` that nobody runs every day, for a moment."""

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

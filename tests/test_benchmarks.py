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

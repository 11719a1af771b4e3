"""How figures and text look, and what a terminal is spared."""

import json
import sys
from datetime import timedelta

import pytest
from rich.console import Console

from asyncruns.cli import _output


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, None), (0, "0 s"), (0.25, "0.25 s"), (9, "9 s"), (59.4, "59.4 s"), (125, "2 m 05 s"), (3720, "1 h 02 m")],
)
def test_span(seconds: float | None, shown: str | None) -> None:
    """A duration is shown to the precision that it matters in."""
    assert _output.span(None if seconds is None else timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("started", "found", "told"),
    [
        ("/elsewhere/asyncruns", "/elsewhere/asyncruns", "asyncruns"),
        (".venv/bin/asyncruns", None, ".venv/bin/asyncruns"),
        ("my env/bin/asyncruns", None, "'my env/bin/asyncruns'"),
        ("/lib/asyncruns/__main__.py", None, f"{sys.executable} -m asyncruns"),
    ],
)
def test_program(started: str, found: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What people are told to type is what the shell finds, or what they typed themselves."""
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert _output.program() == told


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (1_735_689_600, "2025-01-01 00:00:00"),
        (1_735_689_600_000, "2025-01-01 00:00:00"),
        (10**30, str(10**30)),
    ],
)
def test_moment(value: int | None, shown: str | None) -> None:
    """A moment is shown in UTC, from seconds and milliseconds alike; what is none is shown as sent."""
    assert _output.moment(value) == shown


@pytest.mark.parametrize(("number", "shown"), [(None, None), (0, "0"), (1234567, "1,234,567")])
def test_count(number: int | None, shown: str | None) -> None:
    """Thousands are set apart; 0 is a figure and not nothing."""
    assert _output.count(number) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [(None, "-"), ("", "-"), (0, "0"), ("a\x1b[31m\nb\u202e", "a\\x1b[31m\\x0ab\\u202e"), ("[red]x[/]", "[red]x[/]")],
)
def test_cell(text: object, shown: str) -> None:
    """A cell holds one line, with control characters escaped and nothing read as markup."""
    assert _output.cell(text).plain == shown


def test_narrow_table_keeps_ids() -> None:
    """On a narrow terminal the first column stays whole, and the others are cut."""
    console = Console(width=24, highlight=False)
    with console.capture() as captured:
        console.print(_output.table(["run", "status"], [[_output.cell("run_0123456789"), _output.cell("completed")]]))
    line = captured.get().splitlines()[1]
    assert line.startswith("run_0123456789  comp")
    assert len(line.rstrip()) <= 24


@pytest.mark.parametrize("text", ["\x7f", "\x9b31m", "\u202e", "\u2028", "\U000e0041", "ü", '\\ " \n \x1b'])
def test_json_line_keeps_the_value(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON line is one printable line, and read back it is the value that was sent."""
    _output.write_json_bytes(json.dumps({"a": [text, 1.0, None]}, ensure_ascii=False, indent=2).encode())
    out = capsys.readouterr().out
    assert out[-1] == "\n"
    assert out[:-1].isprintable()
    assert json.loads(out) == {"a": [text, 1.0, None]}
    assert "1.0,null]}" in out

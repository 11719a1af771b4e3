"""How things look: tables and words for people, JSON Lines for pipes, and nothing of a server's unescaped."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from os import PathLike
from pathlib import Path

import msgspec
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

import asyncruns
from asyncruns._shapes import unstructure

NOTHING = "-"
_STYLES = {
    "completed": "green",
    "failed": "red",
    "expired": "yellow",
    "incomplete": "yellow",
    "cancelled": "yellow",
    "requires_action": "cyan",
}


def console(*, stderr: bool = False) -> Console:
    """Return a console on the present stdout or stderr that takes text as it is."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def for_people(as_json: bool) -> bool:
    """Whether to print tables: on a terminal, unless JSON was asked for."""
    return sys.stdout.isatty() and not as_json


def write_json(value: object) -> None:
    """Print *value*, which may be or hold models, as one line of JSON in the wire's shape."""
    write_json_bytes(msgspec.json.encode(unstructure(value)))


def write_json_bytes(data: bytes) -> None:
    """Print one JSON value as one line: nothing but white space and the spelling of unprintable characters changes."""
    line = msgspec.json.format(data, indent=-1).decode()
    if not line.isprintable():
        line = "".join(char if char.isprintable() else _json_escape(char) for char in line)
    sys.stdout.buffer.write(line.encode() + b"\n")


def _json_escape(char: str) -> str:
    return re.sub("(....)", r"\\u\1", char.encode("utf-16-be").hex())


def program() -> str:
    """Return what a person types to run this program: its name where the shell finds it, else how it was started."""
    started = sys.argv[0]
    if shutil.which("asyncruns"):
        return "asyncruns"
    return shlex.quote(started) if Path(started).name == "asyncruns" else f"{shlex.quote(sys.executable)} -m asyncruns"


def name_of_file(path: str | PathLike[str]) -> str:
    r"""Return the name of a file as text that JSON can hold: it may be of any bytes, and `\xff` stands for one."""
    return os.fsencode(path).decode(errors="backslashreplace")


def cell(text: object, *, style: str = "", limit: int = 200) -> Text:
    """Return *text* for one cell, escaped; None and empty text show as a dash."""
    if text is None or text == "":
        return Text(NOTHING, style="dim")
    return Text(asyncruns.escape_server_text(str(text), limit), style=style, no_wrap=True, overflow="ellipsis")


def status_cell(status: str) -> Text:
    """Return a status in its colour."""
    return cell(status, style=_STYLES.get(status, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    """Make a table without frames, whose first column is never cut, however narrow the terminal is.

    Args:
        columns: The headings; one that ends in `>` stands over right-aligned figures.
        rows: The cells of each row.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(columns):
        made.add_column(
            Text(heading.rstrip(">"), no_wrap=True),
            justify="right" if heading.endswith(">") else "left",
            no_wrap=index == 0,
        )
    for row in rows:
        made.add_row(*row)
    return made


def moment(value: float | None) -> str | None:
    """Write a `*_at` of the wire as UTC date and time; what is no date is shown as it is."""
    try:
        when = asyncruns.timestamp(value)
    except ValueError:
        return str(value)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when else None


def span(duration: timedelta | None) -> str | None:
    """Write a duration as `9 s`, `2 m 05 s` or `1 h 02 m`."""
    if duration is None:
        return None
    seconds = duration.total_seconds()
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def count(number: int | None) -> str | None:
    """Write a number with its thousands apart."""
    return None if number is None else f"{number:,}"

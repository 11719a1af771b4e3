"""Parts of the report's page: escaped text, tables, bars, and charts that scale with the screen."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from asyncruns import escape_server_text

STATUSES = (
    "completed",
    "failed",
    "expired",
    "incomplete",
    "cancelled",
    "requires_action",
    "in_progress",
    "queued",
    "cancelling",
)
"""The order in which statuses are shown; others follow."""

GAP = "\N{NO-BREAK SPACE}"
"""Between a figure and its unit."""


def text(value: object, limit: int = 300) -> str:
    """Return *value* as text of the page; control characters of a server's are written out, long texts cut."""
    return escape(escape_server_text(str(value), limit))


def number(value: float) -> str:
    """Write a count with its thousands apart, and a large one short."""
    for size, unit in ((1e9, "bn"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.1f}{GAP}{unit}"
    return f"{value:,.0f}"


def span(seconds: float | None) -> str:
    """Write a duration as `9 s`, `2 m 05 s`, `10 m` or `1 h 02 m`."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 60:
        return f"{seconds:.3g}{GAP}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "m")] if hours else [(minutes, "m"), (rest, "s")]
    (first, unit), (second, smaller) = parts
    return f"{first:,}{GAP}{unit}" + (f"{GAP}{second:02d}{GAP}{smaller}" if second else "")


def share(part: float, whole: float) -> str:
    """Write a share in per cent; a small one is not written as nothing."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return f"<{GAP}0.1{GAP}%"
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f}{GAP}%"
    return f"{percent:.1f}{GAP}%" if 0 < percent < 10 else f"{percent:.0f}{GAP}%"


def section(id: str, title: str, body: str) -> str:
    """Return a section of the page."""
    return f'<section id="{id}"><h2>{text(title)}</h2>{body}</section>'


def note(words: str) -> str:
    """Return a paragraph that stands back."""
    return f'<p class="note">{text(words, 1000)}</p>'


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Return facts as tiles: what, and how much, in words of our own."""
    return f'<dl class="tiles">{"".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in facts)}</dl>'


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str) -> str:
    """Return a table.

    Args:
        caption: What it tells.
        columns: The headings; one that ends in `>` stands over figures.
        rows: Their cells, which are HTML already.
        kind: `stack` for rows that become blocks on a narrow screen, `tall` for a table that scrolls by itself.
    """
    names = [text(column.rstrip(">")) for column in columns]
    classes = [' class="n"' if column.endswith(">") else "" for column in columns]
    labels = [f' data-label="{name}"' if kind == "stack" else "" for name in names]
    heads = "".join(f'<th scope="col"{n}>{name}</th>' for n, name in zip(classes, names, strict=True))
    cells = [f"<td{n}{label}>" for n, label in zip(classes, labels, strict=True)]
    lines = "".join(
        f"<tr>{''.join(f'{begin}{cell}</td>' for begin, cell in zip(cells, row, strict=True))}</tr>" for row in rows
    )
    return (
        f'<div class="wide {kind}" tabindex="0" role="region" aria-label="{text(caption)}"><table><caption>'
        f"{text(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def bars(caption: str, parts: Sequence[tuple[str, float, str]], whole: float) -> str:
    """Return a list of bars of what, how much, and the class of its colour; they are shares of the *whole*."""
    rows = []
    for name, value, kind in parts:
        told = f"{number(value)} · {escape(share(value, whole))}"
        rows.append(
            f'<li><span class="name">{text(name, 80)}</span><span class="told">{told}</span>'
            f'<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="{kind}" width="{max(0.4, 100 * value / whole) if value else 0:.2f}" height="1"/></svg></li>'
        )
    return f'<p class="caption">{text(caption)}</p><ul class="bars" aria-label="{text(caption)}">{"".join(rows)}</ul>'


def kind_of_status(status: str) -> str:
    """Return the class of a status's colour."""
    return f"s-{status}" if status in STATUSES else "s-other"


def statuses_in_order(counts: Mapping[str, object]) -> list[str]:
    """Return the statuses that occur, known ones first."""
    return [status for status in STATUSES if status in counts] + sorted(counts.keys() - set(STATUSES))

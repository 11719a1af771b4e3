"""Parts of the report's page: escaped text, tables, bars, and charts that scale with the screen."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

import attrs

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


def text(value: object, limit: int = 300) -> str:
    """Return *value* as text of the page; control characters of a server's are written out, long texts cut."""
    return escape(escape_server_text(str(value), limit))


def number(value: float) -> str:
    """Write a count with its thousands apart, and a large one short."""
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.1f}\N{NO-BREAK SPACE}{unit}"
    return f"{value:,.0f}"


def span(seconds: float | None) -> str:
    """Write a duration as `9 s`, `2 m 05 s`, `10 m` or `1 h 02 m`."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s" if rest else f"{minutes} m"
    return f"{minutes // 60:,} h {minutes % 60:02d} m" if minutes % 60 else f"{minutes // 60:,} h"


def share(part: float, whole: float) -> str:
    """Write a share in per cent; a small one is not written as nothing."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 10 else f"{percent:.0f} %"


def section(id: str, title: str, *parts: str) -> str:
    """Return a section of the page."""
    return f'<section id="{id}"><h2>{text(title)}</h2>{"".join(parts)}</section>'


def note(words: str) -> str:
    """Return a paragraph that stands back."""
    return f'<p class="note">{text(words, 1000)}</p>'


def tiles(facts: Iterable[tuple[str, str]]) -> str:
    """Return facts as tiles: what, and how much."""
    return f'<dl class="tiles">{"".join(f"<div><dt>{text(n)}</dt><dd>{text(v)}</dd></div>" for n, v in facts)}</dl>'


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a heading that ends in `>` stands over figures, and cells are HTML already."""
    classes = [' class="n"' if column.endswith(">") else "" for column in columns]
    heads = "".join(
        f'<th scope="col"{kind}>{text(column.rstrip(">"))}</th>' for kind, column in zip(classes, columns, strict=True)
    )
    lines = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(classes, row, strict=True))}</tr>" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}"><table><caption>{text(caption)}'
        f"</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def bars(caption: str, parts: Sequence[tuple[str, float, str]], whole: float | None = None) -> str:
    """Return a list of bars: what, how much, and the class of its colour."""
    most = max((value for _, value, _ in parts), default=0) or 1
    rows = []
    for name, value, kind in parts:
        told = number(value) + (f" · {text(share(value, whole))}" if whole else "")
        rows.append(
            f'<li><span class="name">{text(name, 80)}</span><span class="told">{told}</span>'
            f'<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="{kind}" width="{max(0.4, 100 * value / most) if value else 0:.2f}" height="1"/></svg></li>'
        )
    return f'<ul class="bars" aria-label="{text(caption)}">{"".join(rows)}</ul>'


@attrs.frozen(kw_only=True)
class Series:
    """One colour of a stacked chart: its name, its class, and a figure for each place."""

    name: str
    kind: str
    values: Sequence[float]


def chart(caption: str, places: Sequence[str], series: Sequence[Series], unit: str) -> str:
    """Return a chart of stacked columns, with a legend, and all of its figures as a table below."""
    totals = [sum(column) for column in zip(*(one.values for one in series), strict=True)]
    most = max(totals, default=0) or 1
    columns = []
    for place, name in enumerate(places):
        top, rects = 100.0, []
        for one in series:
            if value := one.values[place]:
                height = 100 * value / most
                top -= height
                rects.append(f'<rect class="{one.kind}" x="{place}" y="{top:.2f}" width=".82" height="{height:.2f}"/>')
        if rects:
            columns.append(f"<g><title>{text(name)}: {number(totals[place])} {text(unit)}</title>{''.join(rects)}</g>")
    legend = "".join(
        f'<li><i class="{one.kind}"></i>{text(one.name, 60)} <b>{number(sum(one.values))}</b></li>' for one in series
    )
    middle = f"<span>{text(places[len(places) // 2])}</span>" if len(places) > 2 else ""
    ends = f"<span>{text(places[0])}</span>{middle}" + (f"<span>{text(places[-1])}</span>" if len(places) > 1 else "")
    peak = totals.index(max(totals))
    told = f"{caption}. Most: {number(most)} {unit}, {places[peak]}."
    return (
        f'<figure><figcaption>{text(caption)}</figcaption><div class="plot"><span class="most">{number(most)} '
        f'{text(unit)}</span><svg role="img" aria-label="{text(told)}" viewBox="0 0 {len(places)} 100" '
        f'preserveAspectRatio="none">{"".join(columns)}</svg><div class="axis">{ends}</div></div>'
        f'<ul class="legend">{legend}</ul>{_figures_table(caption, places, series, totals)}</figure>'
    )


def _figures_table(caption: str, places: Sequence[str], series: Sequence[Series], totals: Sequence[float]) -> str:
    rows = [
        [text(name), *(number(one.values[place]) for one in series), number(totals[place])]
        for place, name in enumerate(places)
        if totals[place]
    ]
    columns = ["", *(f"{one.name}>" for one in series), "all>"]
    return f"<details><summary>Figures</summary>{table(caption, columns, rows)}</details>"


def kind_of_status(status: str) -> str:
    """Return the class of a status's colour."""
    return f"s-{status}" if status in STATUSES else "s-other"


def statuses_in_order(counts: Mapping[str, object]) -> list[str]:
    """Return the statuses that occur, known ones first."""
    return [status for status in STATUSES if status in counts] + sorted(counts.keys() - set(STATUSES))

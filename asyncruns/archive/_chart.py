"""Charts of stacked columns over time, which scale with the screen, each with all of its figures as a table."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html import escape

import attrs

from asyncruns.archive._html import number, table, text

_MOST_COLUMNS = 180
_MOST_HOURS, _FEWEST_HOURS = 72, 6
_DAY = 24


def stacked(subject: str, unit: str, counts: Mapping[tuple[int, str], int], names: Sequence[tuple[str, str]]) -> str:
    """Chart counts by hour and name, in columns of hours, days, weeks, months or years, whichever are few enough."""
    hours = [hour for hour, _ in counts]
    every, place_of, places = _columns(min(hours), max(hours))
    index = {place: number for number, place in enumerate(places)}
    values = {name: [0] * len(places) for name, _ in names}
    for (hour, name), count in counts.items():
        values[name][index[place_of(hour)]] += count
    series = [_Series(name=name, kind=kind, values=values[name]) for name, kind in names]
    told = " (weeks begin on Mondays)" if every == "week" else ""
    return _chart(f"{subject} per {every}{told}", places, series, unit)


def _columns(first: int, last: int) -> tuple[str, Callable[[int], str], list[str]]:
    """Choose the width of the columns between two hours; return its word, the column of an hour, and all columns."""
    if last - first < _MOST_HOURS:
        last = max(last, first + _FEWEST_HOURS - 1)
        return "hour", _formatted("%Y-%m-%d %H:00"), list(map(_formatted("%Y-%m-%d %H:00"), range(first, last + 1)))
    day, month, year = map(_formatted, ("%Y-%m-%d", "%Y-%m", "%Y"))
    wider = (("day", day), ("week", _monday), ("month", month), ("year", year))
    choices = [(every, place_of, list(dict.fromkeys(map(place_of, _days(first, last))))) for every, place_of in wider]
    return next((choice for choice in choices if len(choice[2]) <= _MOST_COLUMNS), choices[-1])


def _days(first: int, last: int) -> Iterator[int]:
    yield from range(first, last, _DAY)
    yield last


def _formatted(form: str) -> Callable[[int], str]:
    return lambda hour: f"{datetime.fromtimestamp(hour * 3600, UTC):{form}}"


def _monday(hour: int) -> str:
    when = datetime.fromtimestamp(hour * 3600, UTC)
    return f"{when - timedelta(days=when.weekday()):%Y-%m-%d}"


@attrs.frozen(kw_only=True)
class _Series:
    """One colour of a stacked chart: its name, its class, and a figure for each place."""

    name: str
    kind: str
    values: Sequence[float]


def _chart(caption: str, places: Sequence[str], series: Sequence[_Series], unit: str) -> str:
    """Return a chart of stacked columns, with a legend, and all of its figures as a table below."""
    totals = [sum(column) for column in zip(*(one.values for one in series), strict=True)]
    top = _round_above(max(totals, default=0))
    columns = []
    for place, name in enumerate(places):
        height, rects = 100.0, []
        for one in series:
            if value := one.values[place]:
                part = 100 * value / top
                height -= part
                rects.append(f'<rect class="{one.kind}" x="{place}" y="{height:.2f}" width=".82" height="{part:.2f}"/>')
        if rects:
            columns.append(
                f"<g><title>{escape(name)}: {number(totals[place])} {escape(unit)}</title>{''.join(rects)}</g>"
            )
    peak = totals.index(max(totals))
    told = f"{caption}. Most: {number(totals[peak])} {unit}, {places[peak]}."
    scale = "".join(f"<li>{number(value)}</li>" for value in (top, top / 2, 0))
    lines = f'<path class="grid" d="M0 0H{len(places)}M0 50H{len(places)}"/>'
    return (
        f'<figure><figcaption>{text(caption)}</figcaption><div class="plot">'
        f'<ul class="scale" aria-hidden="true">{scale}</ul><svg role="img" aria-label="{escape(told)}" '
        f'viewBox="0 0 {len(places)} 100" preserveAspectRatio="none">{lines}{"".join(columns)}</svg>'
        f'<div class="axis" aria-hidden="true">{_axis(places)}</div></div>'
        f'<ul class="legend">{_legend(series)}</ul>{_figures_table(caption, places, series, totals)}</figure>'
    )


def _round_above(value: float) -> float:
    """Return the next figure of which the half, too, is whole and has two digits that count at most."""
    size = 10.0 ** max(0, math.floor(math.log10(max(value, 1))))
    steps = (2, 4, 6, 8, 10) if size == 1 else (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10)
    return next(step * size for step in steps if step * size >= value)


def _axis(places: Sequence[str]) -> str:
    chosen = dict.fromkeys((0, len(places) // 2, len(places) - 1)) if len(places) > 2 else range(len(places))
    return "".join(f"<span>{text(places[place])}</span>" for place in chosen)


def _legend(series: Sequence[_Series]) -> str:
    return "".join(
        f'<li><i class="{one.kind}"></i>{text(one.name, 60)} <b>{number(sum(one.values))}</b></li>' for one in series
    )


def _figures_table(caption: str, places: Sequence[str], series: Sequence[_Series], totals: Sequence[float]) -> str:
    rows = [
        [text(name), *(number(one.values[place]) for one in series), number(totals[place])]
        for place, name in enumerate(places)
        if totals[place]
    ]
    columns = ["from", *(f"{one.name}>" for one in series), "all>"]
    return f"<details><summary>Figures</summary>{table(caption, columns, rows, kind='tall')}</details>"

"""One page that shows an archive: it needs no network, no script and no other file."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from os import PathLike
from pathlib import Path

import msgspec

from asyncruns.archive._archive import Archive
from asyncruns.archive._convert import replaced
from asyncruns.archive._figures import Figures, RunRow, day_of, gather, moment, word
from asyncruns.archive._html import (
    Series,
    bars,
    chart,
    kind_of_status,
    note,
    number,
    section,
    share,
    span,
    statuses_in_order,
    table,
    text,
    tiles,
)
from asyncruns.archive._waterfall import waterfall

MOST_WATERFALLS = 150
"""Runs that are drawn step by step unless they are asked for by name: the slowest, the costliest, the last ones."""

_MOST_COLUMNS = 400
_MOST_HOURS, _FEWEST_HOURS = 72, 12
_MOST_MODELS = 5
_MOST_BARS = 12
_EDGES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_DAY = 24
_read_run = msgspec.json.Decoder(RunRow).decode


def write_report(archive: Archive, out: str | PathLike[str], *, runs: Iterable[str] = ()) -> int:
    """Write the page to *out* and return its size in bytes; a file that is there is replaced in the end, all at once.

    Args:
        archive: An open archive.
        out: The file to write.
        runs: Ids of runs that are to be drawn step by step, besides those chosen anyway.

    Raises:
        ArchiveCorrupt: The archive is damaged.
        ArchiveError: The file cannot be written.
    """
    figures = gather(archive)
    page = _page(archive, figures, list(runs)).encode()
    with replaced(Path(out)) as file:
        file.write(page)
    return len(page)


def _page(archive: Archive, figures: Figures, wanted: Sequence[str]) -> str:
    sections = [
        ("coverage", "Coverage", _coverage(figures)),
        ("status", "Runs by status", _statuses(figures)),
        ("time", "Runs over time", _over_time(figures)),
        ("durations", "Durations", _durations(figures)),
        ("tokens", "Tokens", _tokens(figures)),
        ("errors", "Errors", _errors(figures)),
        ("tools", "Tool use", _tools(figures)),
        ("slowest", "Slowest runs", _listed("The slowest runs", figures.slowest)),
        ("costliest", "Costliest runs", _listed("The runs with most tokens", figures.costliest)),
        ("steps", "Step by step", _waterfalls(archive, figures, wanted)),
    ]
    links = "".join(f'<a href="#{id}">{text(title)}</a>' for id, title, _ in sections)
    style = files("asyncruns.archive").joinpath("report.css").read_text(encoding="utf-8")
    made = f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{text(archive.path.name)}: runs</title><style>{style}</style></head><body>"
        f'<header><p class="note">Archive <code>{text(archive.path.name)}</code>, report of {made}</p>'
        f'<h1>{_headline(figures)}</h1>{_tiles(figures)}</header><nav aria-label="Sections">{links}</nav>'
        f"<main>{''.join(section(id, title, body) for id, title, body in sections)}</main>"
        '<footer><p class="note">All times are UTC. Made by asyncruns; this page asks no server for anything.</p>'
        "</footer></body></html>"
    )


def _headline(figures: Figures) -> str:
    if not figures.runs:
        return "No runs yet"
    days = sorted({day_of(hour * 3600) for hour, _ in figures.by_hour})
    when = f", {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    return f"{figures.runs:,} runs of {_counted(figures.threads.total(), 'thread')}{when}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _tiles(figures: Figures) -> str:
    ended = share(figures.statuses["completed"], figures.runs) if figures.runs else "\N{EN DASH}"
    return tiles(
        [
            ("Threads", number(figures.threads.total())),
            ("Runs", number(figures.runs)),
            ("Steps", number(figures.steps)),
            ("Messages", number(figures.messages)),
            ("Completed", ended),
            ("Median duration", span(figures.percentile(0.5))),
            ("Tokens", number(figures.tokens)),
        ]
    )


def _coverage(figures: Figures) -> str:
    if not figures.threads:
        return note("No thread was asked for yet.")
    names = {"done": ("complete", "s-completed"), "failed": ("failed", "s-failed"), "listed": ("not yet", "s-queued")}
    parts = [(names[state][0], figures.threads[state], names[state][1]) for state in names if figures.threads[state]]
    shown = bars("Threads by how far the export is", parts, figures.threads.total())
    if figures.verified_at is None:
        shown += note("Not verified against the server yet (asyncruns verify does that).")
    else:
        told = "all as on the server" if not figures.deviating else f"{figures.deviating:,} not as on the server"
        shown += note(f"Verified on {day_of(figures.verified_at)}: {_counted(figures.verified, 'thread')}, {told}.")
    if figures.failed:
        rows = [[f"<code>{text(record.id)}</code>", text(record.reason or "")] for record in figures.failed]
        shown += table("Threads that could not be brought, and why", ["thread", "why"], rows)
    return shown


def _statuses(figures: Figures) -> str:
    parts = [
        (status, figures.statuses[status], kind_of_status(status)) for status in statuses_in_order(figures.statuses)
    ]
    return bars("Runs by status", parts, figures.runs) if parts else note("There are no runs.")


def _over_time(figures: Figures) -> str:
    if not figures.by_hour:
        return note("There are no runs with a date.")
    statuses = statuses_in_order(figures.statuses)
    shown = _stacked("Runs", "runs", figures.by_hour, [(status, kind_of_status(status)) for status in statuses])
    return shown + (note(f"{figures.undated:,} runs have no readable date.") if figures.undated else "")


def _tokens(figures: Figures) -> str:
    totals: Counter[str] = Counter()
    for (_, model), count in figures.tokens_by_hour.items():
        totals[model] += count
    if not totals.total():
        return note("No run says what it used.")
    shown = [model for model, _ in totals.most_common(_MOST_MODELS)]
    merged: Counter[tuple[int, str]] = Counter()
    for (hour, model), count in figures.tokens_by_hour.items():
        merged[hour, model if model in shown else "other models"] += count
    names = [(model, f"c-{place}") for place, model in enumerate(shown)]
    if len(totals) > len(shown):
        names.append(("other models", "s-other"))
    return _stacked("Tokens by model", "tokens", merged, names)


def _stacked(subject: str, unit: str, counts: Mapping[tuple[int, str], int], names: Sequence[tuple[str, str]]) -> str:
    """Chart counts by hour and name, in columns of hours, days, weeks, months or years, whichever are few enough."""
    hours = [hour for hour, _ in counts]
    every, place_of, places = _columns(min(hours), max(hours))
    index = {place: number for number, place in enumerate(places)}
    values = {name: [0] * len(places) for name, _ in names}
    for (hour, name), count in counts.items():
        values[name][index[place_of(hour)]] += count
    series = [Series(name=name, kind=kind, values=values[name]) for name, kind in names]
    return chart(f"{subject} per {every}", places, series, unit)


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


def _durations(figures: Figures) -> str:
    if not figures.durations:
        return note("No run has both a start and an end.")
    shares = (("Median", 0.5), ("90 %", 0.9), ("95 %", 0.95), ("99 %", 0.99), ("Longest", 1.0))
    counts = Counter(next((edge for edge in _EDGES if seconds <= edge), 0) for seconds in figures.durations)
    used = [place for place, edge in enumerate((*_EDGES, 0)) if counts[edge]]
    edges = (*_EDGES, 0)[used[0] : used[-1] + 1]
    parts = [(f"up to {span(edge)}" if edge else "longer", counts[edge], "c-0") for edge in edges]
    return tiles((name, span(figures.percentile(part))) for name, part in shares) + bars(
        "Runs by how long they took", parts, len(figures.durations)
    )


def _errors(figures: Figures) -> str:
    if not figures.errors:
        return note("No run says that something went wrong.")
    most = figures.errors.most_common(_MOST_BARS)
    rows = [[f"<code>{text(code)}</code>", text(figures.error_texts.get(code, ""))] for code, _ in most]
    return bars("Runs by error", [(code, count, "s-failed") for code, count in most], figures.runs) + table(
        "What the server said, an example each", ["code", "message"], rows
    )


def _tools(figures: Figures) -> str:
    if not figures.tools:
        return note("No step calls a tool.")
    most = [(name, count, "c-1") for name, count in figures.tools.most_common(_MOST_BARS)]
    return bars("Tool calls by tool", most, figures.tools.total())


def _listed(caption: str, runs: Sequence[RunRow]) -> str:
    if not runs:
        return note("There are none.")
    rows = [
        [
            f'<a href="#run-{text(run.id)}"><code>{text(run.id)}</code></a>',
            f'<i class="{kind_of_status(word(run.status))}"></i> {text(word(run.status), 40)}',
            _day_and_hour(run),
            span(run.seconds),
            f"{run.tokens:,}",
            text(word(run.model), 60),
        ]
        for run in runs
    ]
    return table(caption, ["run", "status", "created", "took>", "tokens>", "model"], rows)


def _day_and_hour(run: RunRow) -> str:
    made = moment(run.created_at)
    return "\N{EN DASH}" if made is None else f"{datetime.fromtimestamp(made, UTC):%Y-%m-%d %H:%M}"


def _waterfalls(archive: Archive, figures: Figures, wanted: Sequence[str]) -> str:
    chosen = {run.id: run for run in (*figures.slowest, *figures.costliest)}
    for blob in archive.named("runs", wanted):
        run = _read_run(blob)
        chosen[run.id] = run
    for blob in archive.last("runs", MOST_WATERFALLS):
        if len(chosen) >= MOST_WATERFALLS + len(wanted):
            break
        run = _read_run(blob)
        chosen.setdefault(run.id, run)
    if not chosen:
        return note("There are no runs.")
    legend = "".join(
        f'<li><i class="{kind}"></i>{words}</li>'
        for kind, words in (
            ("w-queue", "in the queue"),
            ("w-model", "the model writes"),
            ("w-tool", "a tool of the server's"),
            ("w-us", "waits for our tool outputs"),
        )
    )
    left = figures.runs - len(chosen)
    told = "The slowest, the costliest and the last runs." if left > 0 else "Every run."
    more = f" For one of the other {left:,}: asyncruns report --run ID." if left > 0 else ""
    return (
        note(told + more)
        + f'<ul class="legend">{legend}</ul>'
        + "".join(waterfall(run, archive.raw_steps(run.id)) for run in chosen.values())
    )

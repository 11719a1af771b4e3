"""One page that shows an archive: it needs no network, no script and no other file."""

import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from os import PathLike
from pathlib import Path

from asyncruns import ConfigurationError, escape_server_text
from asyncruns.archive._archive import Archive, check_archive
from asyncruns.archive._chart import stacked
from asyncruns.archive._convert import check_target, replaced
from asyncruns.archive._figures import Figures, RunRow, day_of, gather, moment, read_run, word
from asyncruns.archive._html import (
    bars,
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
from asyncruns.archive._options import check_several
from asyncruns.archive._waterfall import anchor, waterfall

MOST_WATERFALLS = 150
"""Runs that are drawn step by step unless they are asked for by name: the slowest, the costliest, the last ones."""

_MOST_MODELS, _OTHER_MODELS = 5, "other models"
_MOST_STATUSES, _OTHER_STATUSES = 12, "other statuses"
_MOST_BARS = 12
_EDGES = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)


def write_report(archive: Archive, out: str | PathLike[str], *, runs: Iterable[str] = ()) -> int:
    """Write the page to *out* and return its size in bytes; a file that is there is replaced in the end, all at once.

    Args:
        archive: An open archive.
        out: The file to write; its name ends in `.html` or `.htm`.
        runs: Ids of runs that are to be drawn step by step, besides those chosen anyway.

    Raises:
        ConfigurationError: *out* has another name, is the archive itself or no regular file, or one of the *runs* is
            not in the archive.
        ArchiveLocked: Another program is writing *out*.
        ArchiveCorrupt: The archive is damaged.
        ArchiveError: The file cannot be written.
        TypeError: *archive* is none, or *runs* is one string.
    """
    check_archive(archive)
    target = Path(out)
    check_target(target, unless=archive.path)
    if not target.name.endswith((".html", ".htm")):
        raise ConfigurationError(f"The name must end in .html or .htm; {target.name!r} does not.")
    check_several("runs", runs)
    wanted = list(runs)
    for id in wanted:
        if not any(archive.named("runs", [id])):
            raise ConfigurationError(f"There is no run {escape_server_text(id, 80)} in {archive.path}.")
    figures = gather(archive)
    page = _page(archive, figures, wanted).encode()
    with replaced(target, unless=archive.path) as file:
        file.write(page)
    return len(page)


def _page(archive: Archive, figures: Figures, wanted: Sequence[str]) -> str:
    sections = [("coverage", "Coverage", _coverage(archive, figures))]
    if figures.runs:
        sections += _sections_of_runs(archive, figures, wanted)
    style = files("asyncruns.archive").joinpath("report.css").read_text(encoding="utf-8")
    made = f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%d %H:%M} UTC"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{text(archive.path.name)}: runs</title><style>{style}</style></head><body>"
        f'<header><h1>{_headline(figures)}</h1><p class="note">{_days_told(figures)}archive '
        f"<code>{text(archive.path.name)}</code> · <span>report of {made}</span></p>{_tiles(figures)}</header>"
        f"{_nav(sections)}"
        f"<main>{''.join(section(id, title, body) for id, title, body in sections)}</main>"
        '<footer><p class="note">All times are UTC. Made by asyncruns; this page asks no server for anything.</p>'
        "</footer></body></html>"
    )


def _sections_of_runs(archive: Archive, figures: Figures, wanted: Sequence[str]) -> list[tuple[str, str, str]]:
    return [
        ("status", "Runs by status", _statuses(figures)),
        ("time", "Runs over time", _over_time(figures)),
        ("durations", "Durations", _durations(figures)),
        ("tokens", "Tokens", _tokens(figures)),
        ("errors", "Errors", _errors(figures)),
        ("tools", "Tool use", _tools(figures)),
        ("slowest", "Slowest runs", _listed("By the time from start to end", figures.slowest)),
        ("costliest", "Costliest runs", _listed("By tokens read and written", figures.costliest)),
        ("steps", "Step by step", _waterfalls(archive, figures, wanted)),
    ]


def _nav(sections: Sequence[tuple[str, str, str]]) -> str:
    links = "".join(f'<a href="#{id}">{text(title)}</a>' for id, title, _ in sections)
    return f'<nav aria-label="Sections">{links}</nav>' if len(sections) > 1 else ""


def _headline(figures: Figures) -> str:
    if not figures.runs:
        return "No runs yet"
    return f"{_counted(figures.runs, 'run')} of {_counted(figures.threads.total(), 'thread')}"


def _days_told(figures: Figures) -> str:
    days = sorted({day_of(hour * 3600) for hour, _ in figures.by_hour})
    return f"<span>{'</span> to <span>'.join(dict.fromkeys((days[0], days[-1])))}</span> · " if days else ""


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
            ("Tokens", number(figures.tokens)),
            ("Completed", ended),
            ("Median time", span(figures.percentile(0.5))),
            ("95 % within", span(figures.percentile(0.95))),
        ]
    )


def _coverage(archive: Archive, figures: Figures) -> str:
    if not figures.threads:
        name = shlex.quote(archive.path.name)
        return note(f"No thread was asked for yet. To fill it: asyncruns export {name} --threads ids.txt")
    names = {
        "done": ("complete", "s-completed"),
        "failed": ("failed", "s-failed"),
        "listed": ("not yet", "s-cancelled"),
    }
    parts = [(names[state][0], figures.threads[state], names[state][1]) for state in names if figures.threads[state]]
    shown = bars("Threads by how far the export is", parts, figures.threads.total())
    if figures.failed:
        rows = [[f"<code>{text(record.id)}</code>", text(record.reason or "")] for record in figures.failed]
        shown += table(
            _first_of("Threads that could not be brought", rows, figures.threads["failed"]),
            ["thread", "why"],
            rows,
            kind="stack",
        )
    return shown + _verification(figures)


def _verification(figures: Figures) -> str:
    if figures.verified_at is None and not figures.verified:
        return note("Not verified against the server yet; asyncruns verify does that.")
    last = "not all yet" if figures.verified_at is None else f"last on {day_of(figures.verified_at)}"
    parts = [
        ("as on the server", figures.verified - figures.deviating, "s-completed"),
        ("different or not found", figures.deviating, "s-failed"),
        ("not verified", figures.threads.total() - figures.verified, "s-cancelled"),
    ]
    counted = [part for part in parts if part[1]]
    shown = bars(f"Threads verified, {last}", counted, figures.threads.total())
    if figures.deviations:
        rows = [[f"<code>{text(record.id)}</code>", text(record.verified or "")] for record in figures.deviations]
        shown += table(
            _first_of("Different or not found then", rows, figures.deviating), ["thread", "what"], rows, kind="stack"
        )
    return shown


def _first_of(caption: str, rows: Sequence[object], count: int) -> str:
    return caption if len(rows) == count else f"{caption}: the first {len(rows)} of {count:,}"


def _statuses(figures: Figures) -> str:
    parts = [(status, figures.statuses[status], kind) for status, kind in _shown_statuses(figures)]
    if rest := figures.runs - sum(count for _, count, _ in parts):
        parts.append((_OTHER_STATUSES, rest, "s-other"))
    return bars("Share of all runs", parts, figures.runs)


def _over_time(figures: Figures) -> str:
    if not figures.by_hour:
        return note("There are no runs with a date.")
    names = _shown_statuses(figures)
    if len(figures.statuses) > len(names):
        names.append((_OTHER_STATUSES, "s-other"))
    shown = stacked("Runs", "runs", _merged(figures.by_hour, names, _OTHER_STATUSES), names)
    return shown + (note(f"{figures.undated:,} runs have no readable date.") if figures.undated else "")


def _shown_statuses(figures: Figures) -> list[tuple[str, str]]:
    """Return the statuses that are shown for themselves, known ones first, each with the class of its colour."""
    shown = _most_common(figures.statuses, _MOST_STATUSES, _OTHER_STATUSES)
    return [(status, kind_of_status(status)) for status in statuses_in_order(dict.fromkeys(shown))]


def _most_common(counts: Counter[str], most: int, rest: str) -> list[str]:
    """Return the names that stand for themselves; one that is called as the *rest* is a part of it."""
    return [name for name, _ in counts.most_common(most + 1) if name != rest][:most]


def _tokens(figures: Figures) -> str:
    totals: Counter[str] = Counter()
    for (_, model), count in figures.tokens_by_hour.items():
        totals[model] += count
    undated = figures.tokens - totals.total()
    left_out = note(f"{undated:,} tokens are of runs without a readable date.") if undated else ""
    if not totals.total():
        return left_out or note("No run says what it used.")
    shown = _most_common(totals, _MOST_MODELS, _OTHER_MODELS)
    names = [(model, f"c-{place}") for place, model in enumerate(shown)]
    if len(totals) > len(shown):
        names.append((_OTHER_MODELS, "s-other"))
    return stacked("Tokens by model", "tokens", _merged(figures.tokens_by_hour, names, _OTHER_MODELS), names) + left_out


def _merged(
    counts: Mapping[tuple[int, str], int], names: Sequence[tuple[str, str]], rest: str
) -> Counter[tuple[int, str]]:
    """Return *counts* with those of other names than these under that of the *rest*."""
    known = {name for name, _ in names}
    merged: Counter[tuple[int, str]] = Counter()
    for (hour, name), count in counts.items():
        merged[hour, name if name in known else rest] += count
    return merged


def _durations(figures: Figures) -> str:
    if not figures.durations:
        return note("No run has both a start and an end.")
    shares = (
        ("50 % within", 0.5),
        ("90 % within", 0.9),
        ("95 % within", 0.95),
        ("99 % within", 0.99),
        ("Longest", 1.0),
    )
    counts = Counter(next((edge for edge in _EDGES if seconds <= edge), 0) for seconds in figures.durations)
    used = [place for place, edge in enumerate((*_EDGES, 0)) if counts[edge]]
    parts = [(_between(place), counts[(*_EDGES, 0)[place]], "c-0") for place in range(used[0], used[-1] + 1)]
    told = "Runs by the time from start to end, share of the runs that have both"
    return tiles((name, span(figures.percentile(part))) for name, part in shares) + bars(
        told, parts, len(figures.durations)
    )


def _between(place: int) -> str:
    """Say from where to where the durations of a bar go."""
    if place == len(_EDGES):
        return f"more than {span(_EDGES[-1])}"
    return f"{span(_EDGES[place - 1])} to {span(_EDGES[place])}" if place else f"up to {span(_EDGES[0])}"


def _errors(figures: Figures) -> str:
    if not figures.errors:
        return note("No run says that something went wrong.")
    most = figures.errors.most_common(_MOST_BARS)
    rows = [
        [f"<code>{text(code)}</code>", text(figures.error_texts[code])]
        for code, _ in most
        if code in figures.error_texts
    ]
    shown = bars("Share of all runs", [(code, count, "s-failed") for code, count in most], figures.runs)
    if rows:
        shown += table("What the server said, an example each", ["code", "message"], rows, kind="stack")
    return shown + _left_out(len(figures.errors) - len(most), "codes")


def _left_out(count: int, what: str) -> str:
    return note(f"{count:,} more {what}, each less often.") if count else ""


def _tools(figures: Figures) -> str:
    if not figures.tools:
        return note("No step calls a tool.")
    most = [(name, count, "c-1") for name, count in figures.tools.most_common(_MOST_BARS)]
    shown = bars("Share of all tool calls", most, figures.tools.total())
    return shown + _left_out(len(figures.tools) - len(most), "tools")


def _listed(caption: str, runs: Sequence[RunRow]) -> str:
    if not runs:
        return note("There are none.")
    rows = [
        [
            f'<a href="#{anchor(run)}"><code>{text(run.id)}</code></a>',
            f'<i class="{kind_of_status(word(run.status))}"></i>{text(word(run.status), 40)}',
            _day_and_hour(run),
            span(run.seconds),
            f"{run.tokens:,}",
            text(word(run.model), 60),
        ]
        for run in runs
    ]
    return table(caption, ["run", "status", "created", "took>", "tokens>", "model"], rows, kind="stack")


def _day_and_hour(run: RunRow) -> str:
    made = moment(run.created_at)
    return "\N{EN DASH}" if made is None else f"{datetime.fromtimestamp(made, UTC):%Y-%m-%d %H:%M}"


def _waterfalls(archive: Archive, figures: Figures, wanted: Sequence[str]) -> str:
    chosen = {run.place: run for run in (*figures.slowest, *figures.costliest)}
    for blob in archive.named("runs", wanted):
        run = read_run(blob)
        chosen[run.place] = run
    for blob in archive.last("runs", MOST_WATERFALLS):
        if len(chosen) >= MOST_WATERFALLS + len(wanted):
            break
        run = read_run(blob)
        chosen.setdefault(run.place, run)
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
    name = shlex.quote(archive.path.name)
    more = f" For one of the other {left:,}: asyncruns report {name} report.html --run ID." if left > 0 else ""
    return (
        note(told + more)
        + f'<ul class="legend">{legend}</ul>'
        + "".join(waterfall(run, _steps_of(archive, run)) for run in chosen.values())
    )


def _steps_of(archive: Archive, run: RunRow) -> Iterator[bytes]:
    return archive.raw_steps(run.id, thread_id=run.thread_id if isinstance(run.thread_id, str) else None)

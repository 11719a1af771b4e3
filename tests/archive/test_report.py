"""The report is one page that asks nobody for anything, says what the archive holds, and shows no text unescaped."""

import itertools
import json
import math
import operator
import os
import re
import shlex
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from asyncruns import ConfigurationError
from asyncruns.archive import Archive, convert, verify, write_report
from asyncruns.archive._chart import _round_above
from asyncruns.archive._figures import gather
from asyncruns.archive._html import number, share, span
from asyncruns.archive._records import PageWrite, ThreadWrite, VerifiedWrite, Walk
from asyncruns.archive._store import Store

from .conftest import Filled
from .items import raw_items

DAY = 86_400
START = 1_760_000_000


class Reader(HTMLParser):
    """Reads a page: its tags, the ids and links in them, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if tag not in ("meta", "rect"):
            self.open.append(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "data")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All text of the page."""
        return " ".join(" ".join(self.words).split())


def run(number: int, **fields: Any) -> dict[str, Any]:
    """Make a run of some day."""
    at = START + number * DAY
    made = {"id": f"run_{number}", "thread_id": "thread_1", "status": "completed", "created_at": at, "model": "gpt-4o"}
    return {**made, "started_at": at + 1, "completed_at": at + 5 + number, "usage": {"total_tokens": 100}, **fields}


def archive_of(path: Path, runs: list[Any], steps: list[Any] = ()) -> Archive:  # type: ignore[assignment]
    """Make an archive of one thread."""
    with Store(path) as store:
        store.stage(["thread_1"])
        store.settle(allow_change=False)
        walk = Walk(thread_id="thread_1", kind="runs", position=len(runs))
        store.apply([PageWrite(walk=walk, items=raw_items([(one["id"], json.dumps(one).encode()) for one in runs]))])
        for number, step in enumerate(steps):
            walk = Walk(thread_id="thread_1", kind="steps", run_id=step["run_id"], position=number + 1)
            store.apply([PageWrite(walk=walk, items=raw_items([(step["id"], json.dumps(step).encode())]))])
        store.apply([ThreadWrite(id="thread_1", state="done")])
    return Archive.open(path)


def page_of(archive: Archive, out: Path, **options: Any) -> tuple[str, Reader]:
    """Write the report and read it."""
    with archive:
        size = write_report(archive, out, **options)
    page = out.read_text(encoding="utf-8")
    assert size == len(page.encode())
    reader = Reader(page)
    assert reader.open == []
    assert "script" not in reader.tags
    assert len(set(reader.ids)) == len(reader.ids)
    assert all(link[:1] == "#" and link[1:] in reader.ids for link in reader.links)
    assert "url(" not in page
    assert "://" not in page
    return page, reader


async def test_page_of_an_export(small: Filled, path: Path, tmp_path: Path) -> None:
    """The page counts what is there, says how far the export is, and draws every run of a small archive."""
    await small.export(path, messages=True)
    await verify(small.session, path)
    page, reader = page_of(Archive.open(path), tmp_path / "report.html")
    assert "10 runs of 2 threads 2025-01-01 \N{MIDDLE DOT} archive runs.db" in reader.text
    assert "as on the server 2 \N{MIDDLE DOT} 100 %" in reader.text
    assert page.count('<details class="run">') == 10
    for title in ("Coverage", "Runs over time", "Durations", "Tokens", "Errors", "Tool use", "Step by step"):
        assert title in reader.text


def test_empty_archive(path: Path, tmp_path: Path) -> None:
    """An archive without anything makes a page that says so."""
    Store(path).close()
    _, reader = page_of(Archive.open(path), tmp_path / "report.html")
    assert "No runs yet" in reader.text
    assert "No thread was asked for yet. To fill it: asyncruns export runs.db" in reader.text
    assert (reader.tags.count("section"), reader.links) == (1, [])


def test_server_text_is_escaped(path: Path, tmp_path: Path) -> None:
    """Markup and control characters in anything that a server sends are shown, never followed."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b]0;x\x07\u202e'\""
    error = {"code": evil, "message": evil}
    runs = [run(n, id=f"run_{n}{evil}", status=evil if n else "failed", model=evil, last_error=error) for n in range(3)]
    call = {"type": evil, evil: {"name": evil}}
    step = {"id": "step_1", "run_id": runs[0]["id"], "created_at": START, "type": evil}
    steps = [{**step, "step_details": {"tool_calls": [call]}}]
    with Store(path) as store:
        store.stage([evil])
        store.settle(allow_change=True)
        store.apply([ThreadWrite(id=evil, state="failed", reason=evil)])
    page, reader = page_of(archive_of_more(path, runs, steps), tmp_path / "report.html")
    assert "img" not in reader.tags
    assert "<script" not in page
    assert not any(char in page for char in "\x1b\x07\u202e")
    assert "<script>alert(1)</script>" in reader.text


def archive_of_more(path: Path, runs: list[Any], steps: list[Any]) -> Archive:
    """Add runs and steps to an archive."""
    with Store(path) as store:
        walk = Walk(thread_id="thread_1", kind="runs", position=len(runs))
        store.apply([PageWrite(walk=walk, items=raw_items([(one["id"], json.dumps(one).encode()) for one in runs]))])
        for step in steps:
            walk = Walk(thread_id="thread_1", kind="steps", run_id=step["run_id"], position=1)
            store.apply([PageWrite(walk=walk, items=raw_items([(step["id"], json.dumps(step).encode())]))])
    return Archive.open(path)


def test_commands_on_the_page_can_be_pasted(tmp_path: Path) -> None:
    """They name the archive as a shell takes it, whatever it is called."""
    path, out = tmp_path / "my 'runs'.db", tmp_path / "report.html"
    name = shlex.quote(path.name)
    Store(path).close()
    _, reader = page_of(Archive.open(path), out)
    assert f"asyncruns export {name} --threads ids.txt" in reader.text
    _, reader = page_of(archive_of(path, [run(number) for number in range(400)]), out)
    assert f"asyncruns report {name} report.html --run ID" in reader.text


def test_figures(path: Path) -> None:
    """Counts, percentiles, sums, errors and tools are what the rows say."""
    failed = {"status": "failed", "failed_at": START + 9, "last_error": {"code": "server_error", "message": "Sorry"}}
    short = {"status": "incomplete", "incomplete_details": {"reason": "max_prompt_tokens"}, "completed_at": None}
    runs = [*(run(n) for n in range(8)), run(8, **failed), run(9, **short)]
    calls = [{"type": "function", "function": {"name": "get_weather"}}, {"type": "file_search", "file_search": {}}, 7]
    step = {"id": "step_1", "run_id": "run_1", "step_details": {"tool_calls": calls}}
    with archive_of(path, runs, [step]) as archive:
        figures = gather(archive)
    assert figures.statuses == {"completed": 8, "failed": 1, "incomplete": 1}
    assert list(figures.durations) == [0.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    assert (figures.percentile(0.5), figures.percentile(1.0), figures.percentile(0.0)) == (7.0, 11.0, 0.0)
    assert figures.tokens == 1000
    assert figures.errors == {"server_error": 1, "max_prompt_tokens": 1}
    assert figures.error_texts == {"server_error": "Sorry"}
    assert figures.tools == {"function: get_weather": 1, "file_search": 1}
    assert [one.id for one in figures.slowest[:2]] == ["run_7", "run_6"]
    assert len(figures.costliest) == 10


def test_odd_shapes_do_no_harm(path: Path, tmp_path: Path) -> None:
    """Nothing that a server sends where something else is expected keeps the page from being made."""
    odd: list[object] = [None, True, "x", 3.5, -1, 2**70, [], {}, {"x": 1}, 1_711_448_377_850]
    names = ("status", "created_at", "started_at", "completed_at", "model", "usage", "last_error", "incomplete_details")
    runs = [run(n, id=f"run_{name}_{n}", **{name: value}) for name in names for n, value in enumerate(odd)]
    details: list[object] = [None, [], {"tool_calls": None}, {"tool_calls": [7, {"type": None}, {"type": "x", "x": 3}]}]
    steps = [
        {"id": f"step_{n}", "run_id": "run_model_0", "created_at": at, "completed_at": at, "step_details": detail}
        for n, (at, detail) in enumerate((at, detail) for at in (None, START) for detail in details)
    ]
    _, reader = page_of(archive_of(path, runs, steps), tmp_path / "report.html")
    assert "80 runs of 1 thread" in reader.text
    assert "runs have no readable date" in reader.text
    assert "no time given" in reader.text


@pytest.mark.parametrize("end", [10**400, -(10**400)], ids=["late", "early"])
def test_times_beyond_all_numbers_are_none(path: Path, tmp_path: Path, end: int) -> None:
    """An integer that no fraction can hold is no time, wherever it stands."""
    times = dict.fromkeys(("created_at", "started_at", "completed_at"), end)
    usage = {"total_tokens": end}
    pytest.importorskip("pyarrow", reason="the parquet extra is not installed")
    steps = [{"id": "step_1", "run_id": "run_1", "usage": usage, **times}]
    archive = archive_of(path, [run(1, usage=usage, **times), run(2, completed_at=end)], steps)
    for table in ("runs", "steps"):
        convert(archive, tmp_path / f"{table}.parquet", table=table)  # type: ignore[arg-type]
    _, reader = page_of(archive, tmp_path / "report.html")
    assert "No run has both a start and an end" in reader.text


def test_waterfall_tells_waiting_for_us(path: Path, tmp_path: Path) -> None:
    """Queue, model, server's tools and our own tool outputs are told apart, with the seconds of each."""
    made = run(0, created_at=START, started_at=START + 4, completed_at=START + 50)
    call = {"type": "tool_calls", "tool_calls": [{"type": "function", "function": {"name": "get_weather"}}]}
    search = {"type": "tool_calls", "tool_calls": [{"type": "file_search", "file_search": {}}]}
    parts = [(4, 34, "tool_calls", call), (34, 40, "tool_calls", search), (40, 50, "message_creation", {"type": "m"})]
    steps = [
        {"id": f"s{at}", "run_id": "run_0", "type": kind, "created_at": START + at, "completed_at": START + to,
         "step_details": detail}
        for at, to, kind, detail in parts
    ]  # fmt: skip
    page, reader = page_of(archive_of(path, [made], steps), tmp_path / "report.html")
    assert "waited 30 s for tool outputs" in reader.text
    assert "in the queue 4 s" in reader.text
    assert "waits for get_weather 30 s" in reader.text
    for kind in ("w-queue", "w-us", "w-tool", "w-model"):
        assert f'<rect class="{kind}"' in page


def test_runs_of_one_id_are_drawn_each_with_its_own_steps(path: Path, tmp_path: Path) -> None:
    """A server may have a run of the same id in another thread: each is drawn and linked to by itself."""
    archive_of(path, [run(1)], [{"id": "s1", "run_id": "run_1", "created_at": START + DAY + 1}]).close()
    other = run(1, thread_id="thread_2", completed_at=START + DAY + 100)
    with Store(path) as store:
        store.stage(["thread_2"])
        store.settle(allow_change=True)
        items = raw_items([("run_1", json.dumps(other).encode())])
        store.apply([PageWrite(walk=Walk(thread_id="thread_2", kind="runs", position=1), items=items)])
        for number in (2, 3):
            item = raw_items([(f"s{number}", b'{"id":"s%d","run_id":"run_1"}' % number)])
            walk = Walk(thread_id="thread_2", kind="steps", run_id="run_1", position=number)
            store.apply([PageWrite(walk=walk, items=item)])
    page, reader = page_of(Archive.open(path), tmp_path / "report.html", runs=["run_1"])
    assert [id for id in reader.ids if "run_1" in id] == ["run-thread_2-run_1", "run-thread_1-run_1"]
    assert page.count("#run-thread_1-run_1") == page.count("#run-thread_2-run_1") == 2
    assert ("2 steps" in reader.text, "1 step " in reader.text, "3 steps" in reader.text) == (True, True, False)


def test_run_that_tells_no_thread(path: Path, tmp_path: Path) -> None:
    """It is drawn as one of a thread that is not known, with its steps."""
    step = {"id": "s1", "run_id": "run_1", "created_at": START + DAY + 1}
    _, reader = page_of(archive_of(path, [run(1, thread_id=None)], [step]), tmp_path / "report.html")
    assert "Thread unknown" in reader.text
    assert "1 step" in reader.text


def test_large_archive_draws_some_and_any_by_name(path: Path, tmp_path: Path) -> None:
    """Of many runs the slowest, costliest and last are drawn, and any other one that is named."""
    runs = [run(n % 50, id=f"run_{n}", completed_at=START + (n % 50) * DAY + 2 + n % 7) for n in range(400)]
    archive = archive_of(path, runs[:0])
    archive.close()
    for start in range(0, 400, 100):
        archive_of_more(path, runs[start : start + 100], []).close()
    page, reader = page_of(Archive.open(path), tmp_path / "report.html", runs=["run_17"])
    assert 'id="run-thread_1-run_17"' in page
    assert 'id="run-thread_1-run_399"' in page
    assert 'id="run-thread_1-run_18"' not in page
    assert "For one of the other" in reader.text


def test_what_cannot_be_drawn_is_refused(path: Path, tmp_path: Path) -> None:
    """A run that is not in the archive, or a path in place of an archive, is an error, and no page is left."""
    out = tmp_path / "report.html"
    with archive_of(path, [run(1, id="run_1")]) as archive:
        with pytest.raises(ConfigurationError, match="There is no run run_nowhere in "):
            write_report(archive, out, runs=["run_1", "run_nowhere"])
        with pytest.raises(TypeError, match=r"Archive\.open\(path\), not str"):
            write_report(str(path), out)  # type: ignore[arg-type]  # the mistake in question
        with pytest.raises(TypeError, match=r"Archive\.open\(path\), not str"):
            convert(str(path), tmp_path / "runs.jsonl")  # type: ignore[arg-type]  # the mistake in question
    assert not out.exists()


@pytest.mark.parametrize("name", ["other.db", "ids.txt", "runs.db-wal", "runs.db.lock", ""])
def test_page_takes_the_place_of_pages_alone(path: Path, tmp_path: Path, name: str) -> None:
    """What has another name than a page is another archive, a list or a file of the archive's, and stays."""
    others = ["ids.txt", "other.db", "runs.db-wal", "runs.db.lock"]
    archive_of(path, [run(1)]).close()
    with Archive.open(path) as archive:
        for other in others:
            (tmp_path / other).touch()
        with pytest.raises(ConfigurationError, match=r"end in .html or .htm|is no regular file"):
            write_report(archive, tmp_path / name if name else "")
        assert all((tmp_path / other).stat().st_size == 0 for other in others)
        assert write_report(archive, tmp_path / "page.htm") > 0


@pytest.mark.parametrize(
    ("days", "every"), [((0, 1), "hour"), ((0, 100), "day"), ((0, 1000), "week"), ((0, 5000), "month")]
)
def test_columns_are_as_wide_as_is_readable(path: Path, tmp_path: Path, days: tuple[int, int], every: str) -> None:
    """Hours, days, weeks or months: whichever gives a chart that can be read."""
    _, reader = page_of(archive_of(path, [run(day) for day in days]), tmp_path / "report.html")
    assert f"Runs per {every}" in reader.text


def test_dates_out_of_all_bounds_make_columns_of_years(path: Path, tmp_path: Path) -> None:
    """Runs of 2010 and of 2099 still make a chart, of years."""
    runs = [run(0, created_at=1_270_000_000), run(1, created_at=4_080_000_000)]
    _, reader = page_of(archive_of(path, runs), tmp_path / "report.html")
    assert "Runs per year" in reader.text


def test_words_for_figures() -> None:
    """Durations and shares are written as people say them."""
    spans = [span(value).replace("\N{NO-BREAK SPACE}", "~") for value in (None, 0.25, 59, 60, 125, 3600, 3720)]
    assert spans == ["\N{EN DASH}", "0.25~s", "59~s", "1~m", "2~m~05~s", "1~h", "1~h~02~m"]
    pairs = ((0, 0), (1, 100_000), (1, 50), (1, 2), (999, 1000), (99_999, 100_000), (1, 1))
    shares = [share(*pair).replace("\N{NO-BREAK SPACE}", "~") for pair in pairs]
    assert shares == ["0~%", "<~0.1~%", "2.0~%", "50~%", "99.9~%", "99.9~%", "100~%"]
    assert [number(value).replace("\N{NO-BREAK SPACE}", "~") for value in (1234, 68.6e6, 1.25e9)] == [
        "1,234", "68.6~M", "1.2~bn",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("most", "top"), [(0, 2), (1, 2), (7, 8), (9, 10), (48, 50), (1020, 1200), (1830, 2000), (10_000, 10_000)]
)
def test_scale_ends_at_a_round_figure(most: float, top: float) -> None:
    """A chart's scale ends at a round figure above its highest column, and its half is a round one as well."""
    assert _round_above(most) == top


def test_long_lists_say_what_they_leave_out(path: Path, tmp_path: Path) -> None:
    """Of many failed threads, error codes and tools the first are shown, and how many more there are."""
    runs = [
        run(n, status="failed", last_error={"code": f"code_{n}"}, completed_at=START + n * DAY + 4000)
        for n in range(20)
    ]
    calls = [{"type": "function", "function": {"name": f"tool_{n}"}} for n in range(14)]
    step = {"id": "step_1", "run_id": "run_1", "step_details": {"tool_calls": calls}}
    archive_of(path, runs, [step]).close()
    with Store(path) as store:
        ids = [f"thread_{n}" for n in range(2, 62)]
        store.stage(ids)
        store.settle(allow_change=True)
        store.apply([ThreadWrite(id=id, state="failed", reason="gone") for id in ids])
        store.apply([VerifiedWrite(id="thread_1", findings="2 missing, 1 different")])
        store.note_verified(START)
    _, reader = page_of(Archive.open(path), tmp_path / "report.html")
    assert "Threads that could not be brought: the first 50 of 60" in reader.text
    assert "8 more codes, each less often." in reader.text
    assert "2 more tools, each less often." in reader.text
    assert "different or not found 1" in reader.text
    assert "not verified 60" in reader.text
    assert "2 missing, 1 different" in reader.text


def test_verification_that_was_interrupted_is_shown(path: Path, tmp_path: Path) -> None:
    """What it found so far is there, without a day, for it has not come to its end."""
    archive_of(path, [run(1)]).close()
    with Store(path) as store:
        store.apply([VerifiedWrite(id="thread_1", findings="1 missing")])
    _, reader = page_of(Archive.open(path), tmp_path / "report.html")
    assert "Not verified against the server yet" not in reader.text
    assert "Threads verified, not all yet" in reader.text
    assert "1 missing" in reader.text


def test_error_without_words_has_no_example(path: Path, tmp_path: Path) -> None:
    """A code that comes without a message is counted, and no empty row stands for what the server said."""
    short = {"status": "incomplete", "incomplete_details": {"reason": "max_prompt_tokens"}}
    _, reader = page_of(archive_of(path, [run(1, **short)]), tmp_path / "report.html")
    assert "max_prompt_tokens 1" in reader.text
    assert "What the server said" not in reader.text


def test_models_beyond_the_fifth_are_summed_up(path: Path, tmp_path: Path) -> None:
    """The five models with most tokens have colours of their own, the others share one."""
    runs = [run(n, model=f"model {n % 7}", usage={"total_tokens": 1000 - n % 7}) for n in range(14)]
    _, reader = page_of(archive_of(path, runs), tmp_path / "report.html")
    assert "model 4 1,992 other models 3,978" in reader.text


def test_statuses_beyond_the_twelfth_are_summed_up(path: Path, tmp_path: Path) -> None:
    """A server with a status for each run makes no page of as many colours."""
    runs = [run(n, status=f"status {n}") for n in range(2000)] + [run(2000), run(2001)]
    page, reader = page_of(archive_of(path, runs), tmp_path / "report.html")
    assert "Share of all runs completed 2 · < 0.1 % status 0 1 · < 0.1 %" in reader.text
    assert "other statuses 1,989 · 99.4 %" in reader.text
    assert page.count("other statuses <b>1,989</b>") == 1
    assert len(page) < 200_000


def test_model_called_as_the_rest_is_a_part_of_it(path: Path, tmp_path: Path) -> None:
    """What the legend names is drawn once."""
    runs = [run(n, model=f"model {n}" if n else "other models", usage={"total_tokens": 10 - n}) for n in range(8)]
    page, reader = page_of(archive_of(path, runs), tmp_path / "report.html")
    assert "model 5 5 other models 17" in reader.text
    assert page.count("other models <b>") == 1


def test_tokens_without_a_date_are_told(path: Path, tmp_path: Path) -> None:
    """What runs without a date used is in the sum, and not in the chart, which says so."""
    undated = run(1, created_at=None)
    for name, runs in (("one.db", [undated]), ("two.db", [undated, run(2)])):
        _, reader = page_of(archive_of(tmp_path / name, runs), tmp_path / "report.html")
        assert "100 tokens are of runs without a readable date." in reader.text
        assert "No run says what it used" not in reader.text


def test_runs_without_dates_and_figures(path: Path, tmp_path: Path) -> None:
    """Runs that say neither when they were made nor what they used are counted, and the rest is said to be unknown."""
    archive = archive_of(path, [{"id": "run_1", "status": "queued"}])
    _, reader = page_of(archive, tmp_path / "report.html")
    assert "1 run of 1 thread archive runs.db" in reader.text
    for words in ("no runs with a date", "No run has both a start and an end", "No run says what it used"):
        assert words in reader.text


def test_runs_of_hours_and_of_unknown_length(path: Path, tmp_path: Path) -> None:
    """Durations beyond the last edge have a bar of their own, and an unknown one is said to be unknown."""
    runs = [
        run(1, completed_at=START + DAY + 9000),
        run(2, completed_at=START + 2 * DAY + 1),
        run(3, completed_at=None),
    ]
    _, reader = page_of(archive_of(path, runs), tmp_path / "report.html")
    assert "more than 1 h 1 \N{MIDDLE DOT} 50 %" in reader.text
    assert "up to 1 s 1" in reader.text
    assert "time not known \N{MIDDLE DOT} 0 steps" in reader.text


def test_hundred_thousand_runs_make_a_small_page(path: Path, tmp_path: Path) -> None:
    """The page of a large archive stays under 3 MB, whatever the number of runs: it was made of at most 180 columns."""
    runs = [json.dumps(run(n % 3000, id=f"run_{n}", model=f"model {n % 40}")).encode() for n in range(5000)]
    with Store(path) as store:
        for start in range(0, 5000, 100):
            walk = Walk(thread_id="thread_1", kind="runs", position=start + 100)
            items = [(f"run_{n}", runs[n]) for n in range(start, start + 100)]
            store.apply([PageWrite(walk=walk, items=raw_items(items))])
    page, _ = page_of(Archive.open(path), tmp_path / "report.html")
    assert len(page) < 600_000


def _colours(css: str) -> list[dict[str, str]]:
    """Return the colours of the light and of the dark page."""
    light, dark = re.findall(r":root \{([^}]*--ink[^}]*)\}", css)
    return [dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in (light, dark)]


def _linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def _contrast(one: str, other: str) -> float:
    """Return the contrast of WCAG 2.2."""
    light = [sum(map(operator.mul, _linear(colour), (0.2126, 0.7152, 0.0722))) + 0.05 for colour in (one, other)]
    return max(light) / min(light)


# Machado, Oliveira and Fernandes (2009): how the three kinds of colour-blindness change linear RGB, all of it.
_SEEN_BY = {
    "most": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopes": ((0.1523, 1.0526, -0.2049), (0.1145, 0.7863, 0.0992), (-0.0039, -0.0481, 1.0520)),
    "deuteranopes": ((0.3673, 0.8606, -0.2280), (0.2801, 0.6725, 0.0474), (-0.0118, 0.0429, 0.9689)),
    "tritanopes": ((1.2555, -0.0767, -0.1788), (-0.0784, 0.9308, 0.1476), (0.0047, 0.6914, 0.3039)),
}


def _oklab(linear: list[float]) -> list[float]:
    red, green, blue = (min(1.0, max(0.0, part)) for part in linear)
    long = (0.41222 * red + 0.53633 * green + 0.05145 * blue) ** (1 / 3)
    middle = (0.21190 * red + 0.68070 * green + 0.10740 * blue) ** (1 / 3)
    short = (0.08830 * red + 0.28172 * green + 0.62998 * blue) ** (1 / 3)
    return [
        0.21045 * long + 0.79362 * middle - 0.00407 * short,
        1.97800 * long - 2.42859 * middle + 0.45059 * short,
        0.02590 * long + 0.78277 * middle - 0.80868 * short,
    ]


def _apart(one: str, other: str, who: str) -> float:
    """Return how far two colours are apart in OKLab, in hundredths, for someone's eyes."""
    seen = [_oklab([sum(map(operator.mul, row, _linear(colour))) for row in _SEEN_BY[who]]) for colour in (one, other)]
    return 100 * math.dist(*seen)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read_and_told_apart(scheme: int) -> None:
    """Text has the contrast of WCAG AA (4.5), figures 3, and the colour-blind tell the colours of a chart apart."""
    colours = _colours(files("asyncruns.archive").joinpath("report.css").read_text())[scheme]
    assert (
        min(_contrast(colours[word], colours[on]) for word in ("ink", "soft", "link") for on in ("paper", "card"))
        >= 4.5
    )
    statuses = ("completed", "failed", "expired", "incomplete", "cancelled", "waiting", "moving")
    models = ("c0", "c1", "c2", "c3", "c4", "other")
    for names in (statuses, models):
        assert min(_contrast(colours[name], colours["card"]) for name in names) >= 3
        pairs = itertools.combinations(names, 2)
        assert min(_apart(colours[a], colours[b], who) for a, b in pairs for who in _SEEN_BY) > 8


async def test_page_opens_in_a_browser(small: Filled, path: Path, tmp_path: Path) -> None:
    """Headless Chromium shows the page in a frame as wide as a phone: it is not wider than that, long ids and all."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    await small.export(path)
    long = "x" * 300
    archive = archive_of_more(path, [run(1, id=f"run_{long}", model=long, status=long, last_error={"code": long})], [])
    page, _ = page_of(archive, tmp_path / "report.html")
    script = (
        "f=document.querySelector('iframe').contentDocument;"
        "document.title=[f.documentElement.scrollWidth,f.querySelectorAll('section').length]"
    )
    frame = f'<iframe style="width:390px;border:0" srcdoc="{escape(page)}"></iframe>'
    measured = tmp_path / "measured.html"
    measured.write_text(f"<title></title>{frame}<script>onload=()=>{{{script}}}</script>", encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    environ = {**os.environ, "HOME": str(tmp_path)}
    ran = subprocess.run(
        [*command, "--dump-dom", measured.as_uri()],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    title = re.search(r"<title>(\d+),(\d+)</title>", ran.stdout)
    assert title is not None
    assert int(title[1]) <= 390
    assert title[2] == "10"


async def test_page_can_be_read_by_everybody(small: Filled, path: Path, tmp_path: Path) -> None:
    """Ten sections with headings, tables with captions, drawings that are told in words or say nothing of their own.

    The page names its language, fits a phone, has colours for the dark and a form for paper, and may load nothing.
    """
    await small.export(path)
    page, reader = page_of(Archive.open(path), tmp_path / "report.html")
    assert page.startswith('<!doctype html><html lang="en">')
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'\"" in page
    for rule in ("@media screen and (prefers-color-scheme: dark)", "@media print", "@media (max-width: "):
        assert rule in page
    headings = re.findall(r'<section id="(\w+)"[^>]*><h2[^>]*>([^<]+)</h2>', page)
    assert [title for _, title in headings] == [
        *("Coverage", "Runs by status", "Runs over time", "Durations", "Tokens", "Errors", "Tool use"),
        *("Slowest runs", "Costliest runs", "Step by step"),
    ]
    assert page.count("<h1>") == 1
    assert {f"#{id}" for id, _ in headings} <= set(reader.links)
    drawings = re.findall(r"<svg([^>]*)>", page)
    assert drawings
    for told in drawings:
        assert 'aria-hidden="true"' in told or re.search(r'role="img" aria-label="[^"]{20,}"', told)
    tables = page.count("<table>")
    assert tables >= 2
    assert tables == len(re.findall(r"<table><caption>[^<]+</caption><thead><tr><th scope=\"col\"", page))

"""What an export shows of itself: how far, how fast, and why it waits."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.spinner import Spinner

from asyncruns import RateLimit, Session
from asyncruns.archive import Progress
from asyncruns.cli._export_view import ExportView, plain


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give the test a way to set the time that has passed since the view was made."""
    now = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def set_time(seconds: float) -> None:
        now[0] = 1000.0 + seconds

    return set_time


def shown(view: ExportView) -> list[str]:
    """Return the lines as a terminal of 80 columns shows them, without the spinner."""
    console = Console(width=80, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(view._lines(Spinner("dots")))
    first, *others = capture.get().rstrip("\n").split("\n")
    return [first[2:].rstrip(), *others]


async def test_how_far_and_how_fast(at: Callable[[float], None]) -> None:
    """The share counts step listings, the time left follows from it, and the rate is that of the last ten seconds."""
    progress, limit = Progress(), RateLimit()
    view = ExportView(progress, limit, as_json=False)
    assert shown(view) == ["reading the list of threads"]
    progress.threads, progress.threads_listed, progress.step_listings, progress.step_listings_done = 40, 10, 500, 200
    progress.threads_done, progress.threads_failed, progress.runs, progress.steps = 3, 1, 500, 1200
    at(20.0)
    first, second = shown(view)
    assert first.endswith("10 %  4 of 40 threads  1 failed  3 m 00 s left")
    assert second == "  500 runs  1,200 steps  85/s"
    progress.steps, progress.messages = 1300, 40
    at(31.0)
    assert shown(view)[1] == "  500 runs  1,300 steps  40 messages  13/s"


async def test_why_it_waits(at: Callable[[float], None]) -> None:
    """A wait stands first, with its reason; refusals and a slower pace are told as long as they last."""
    progress, limit = Progress(threads=2, runs=5), RateLimit()
    view = ExportView(progress, limit, as_json=False)
    at(1.0)
    limit.note(429, {"retry-after": "7"}, 0.0)
    assert shown(view)[1] == "  waiting 7 s as the server asks  1 refused  5 runs  5/s"
    limit.closed_until = 0.0
    assert shown(view)[1] == "  5 runs  5/s  slowed to 1,200 requests/min  1 refused"
    progress.paused_until = asyncio.get_running_loop().time() + 2.5
    progress.last_trouble = "HTTP 503 (request req_1): Overloaded \x1b[31m"
    assert shown(view)[1].startswith("  waiting 3 s (HTTP 503: Overloaded \\x1b[31m)  1 refused")
    progress.last_trouble = "HTTP 429 rate_limit_exceeded: Slow down."
    assert shown(view)[1].startswith("  waiting 3 s as the server asks")


async def test_asked_pace_is_no_trouble(at: Callable[[float], None]) -> None:
    """A pace that the user asked for is not told as one that the server imposed."""
    view = ExportView(Progress(threads=1), RateLimit(60), as_json=False)
    at(1.0)
    assert shown(view)[1] == "  0 runs  0/s"


async def test_retries_are_counted() -> None:
    """Attempts that are made again are counted while the export runs, and logging is as before afterwards."""
    logger = logging.getLogger("asyncruns")
    before = logger.level, list(logger.handlers), list(logger.filters)
    view = ExportView(Progress(threads=1), RateLimit(), as_json=False)

    async def work() -> str:
        logger.info("GET /x: attempt %d failed, next in %.2f s", 1, 0.5)
        logger.warning("The server sends JSON under another content type; it is read all the same.")
        return "done"

    assert await view.while_running(work()) == "done"
    assert shown(view)[1].endswith("1 retried")
    assert (logger.level, list(logger.handlers), list(logger.filters)) == before


async def test_only_retries_are_counted(
    server: Any, scripted_session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is an attempt that the library really makes again, and neither that nor other words are logged."""
    view = ExportView(Progress(threads=1), RateLimit(), as_json=False)

    async def work() -> None:
        logging.getLogger("asyncruns").info("A word that is none of a retry.")
        server.reply({}, 500, times=2)
        server.reply({"id": "thread_1", "object": "thread"})
        await scripted_session.threads.retrieve("thread_1")

    await view.while_running(work())
    assert shown(view)[1].endswith("2 retried")
    assert not caplog.records


async def test_warnings_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning of the library comes to stderr while the export runs, as it does at any other time."""
    logger = logging.getLogger("asyncruns")
    monkeypatch.setattr(logger, "propagate", False)  # The tests' own handlers are of no use to people.

    async def work() -> None:
        logger.warning("It is odd.")

    await ExportView(Progress(threads=1), RateLimit(), as_json=False).while_running(work())
    assert capsys.readouterr().err == "It is odd.\n"


async def test_failing_display_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong with the display is told once, at once, and the work goes on."""
    failed = asyncio.Event()

    def fail(_: ExportView) -> None:
        failed.set()
        raise ZeroDivisionError("no \x1b time")

    monkeypatch.setattr("asyncruns.cli._export_view._JSON_EVERY", 0.001)
    monkeypatch.setattr(ExportView, "_write_line", fail)

    async def work() -> str:
        await failed.wait()
        return capsys.readouterr().err

    told = await ExportView(Progress(threads=1), RateLimit(), as_json=True).while_running(work())
    assert told == "asyncruns: how far it is can be shown no longer: ZeroDivisionError: no \\x1b time\n"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("figures", "share"),
    [
        ({}, 0.0),
        ({"threads": 4, "threads_done": 1}, 0.25),
        ({"threads": 4, "threads_done": 1, "threads_failed": 3}, 1.0),
        ({"threads": 4, "threads_listed": 2, "step_listings": 10, "step_listings_done": 5}, 0.25),
        ({"threads": 4, "threads_listed": 4, "step_listings": 10, "step_listings_done": 10, "threads_done": 3}, 1.0),
    ],
)
def test_share(figures: dict[str, int], share: float) -> None:
    """Threads that ended count whole; before, runs not known yet are taken to be like those that are."""
    assert Progress(**figures).share == share


def test_plain_figures_have_no_moment_of_a_clock() -> None:
    """The JSON leaves out what means something in this process alone."""
    assert "paused_until" not in plain(Progress(paused_until=7.0))

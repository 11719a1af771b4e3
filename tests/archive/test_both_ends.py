"""Long listings are walked from both ends until the walks meet; nothing depends on where that is."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from asyncruns import Session
from asyncruns._slices import RawItem
from asyncruns.archive import Archive, Progress, export
from asyncruns.archive._meeting import Meeting
from asyncruns.archive._records import FROM_NEWEST, Walk

from .listings import Listings

THREAD = "thread_1"


@pytest.fixture
async def listings() -> AsyncIterator[Listings]:
    """Give the test a server of listings."""
    async with Listings() as server:
        yield server


@pytest.fixture
async def local(listings: Listings, open_session: Any) -> Session:
    """Give the test a session on it."""
    session: Session = await open_session(Session("sk-test", listings.base_url))
    return session


async def bring(session: Session, path: Path, **options: Any) -> Progress:
    """Export the one thread from both ends."""
    return await export(session, path, [THREAD], **{"both_ends": True, "steps": False, "concurrency": 2, **options})


def held(path: Path) -> list[Any]:
    """Return the runs of the thread, in the archive's order."""
    with Archive.open(path) as archive:
        return [json.loads(blob) for blob in archive.raw("runs", thread_id=THREAD)]


def asked(listings: Listings, order: str) -> int:
    """Return how often listings of runs were asked for in an order."""
    return sum(path.endswith("/runs") and one == order for path, one, _ in listings.requests)


@pytest.mark.parametrize("count", [*range(12), 25, 61])
async def test_everything_comes_once_and_in_order(listings: Listings, local: Session, path: Path, count: int) -> None:
    """Whatever the length, every run is there once, in the server's order, for three requests more at most."""
    listings.threads[THREAD] = []
    for _ in range(count):
        listings.add_run(THREAD)
    progress = await bring(local, path)
    assert (progress.runs, progress.threads_done) == (count, 1)
    assert held(path) == listings.threads[THREAD]
    assert len(listings.requests) <= max(1, -(-count // 3)) + 3
    if count <= 3:
        assert asked(listings, "desc") == 0
    if count > 20:
        assert abs(asked(listings, "asc") - asked(listings, "desc")) <= 4
    listings.requests.clear()
    assert (await bring(local, path)).runs == 0
    assert len(listings.requests) == 1


async def test_it_is_asked_for(listings: Listings, local: Session, path: Path) -> None:
    """Without the option every listing is walked from its oldest end alone."""
    for _ in range(20):
        listings.add_run(THREAD)
    await bring(local, path, both_ends=False)
    assert asked(listings, "desc") == 0


async def test_steps_are_asked_for_once_a_run(listings: Listings, local: Session, path: Path) -> None:
    """Where the walks overlap, neither leaves the steps of a run to the other, nor do both bring them."""
    for _ in range(31):
        listings.add_run(THREAD)
    progress = await bring(local, path, steps=True, concurrency=5)
    assert progress.steps == 31
    steps = [path for path, _, _ in listings.requests if path.endswith("/steps")]
    assert len(steps) == len(set(steps)) == 31


async def test_steps_of_a_block_are_asked_for_later(listings: Listings, local: Session, path: Path) -> None:
    """The steps of the runs that came from the newest end, without them, are not left out by who wants them later."""
    for _ in range(40):
        listings.add_run(THREAD)
    await listings.interrupt(bring(local, path), behind=8)
    assert asked(listings, "desc") > 1
    assert (await bring(local, path, steps=True)).steps == 40


async def test_thread_fails_by_its_last_steps(listings: Listings, local: Session, path: Path) -> None:
    """A thread is not done before the last listing of steps, whatever comes of the walk from its newest end."""
    for _ in range(10):
        listings.add_run(THREAD)

    def refuse() -> None:
        if sum(path.endswith("/steps") for path, _, _ in listings.requests) == 9:
            raise web.HTTPForbidden

    listings.on_request = refuse
    progress = await bring(local, path, steps=True, concurrency=1)
    assert (progress.steps, progress.threads_done, progress.threads_failed) == (9, 0, 1)


@pytest.mark.parametrize("behind", [4, 8, 12])
async def test_what_came_into_being_meanwhile(listings: Listings, local: Session, path: Path, behind: int) -> None:
    """Runs that are newer than where the walk from the newest end began are brought by the same export."""
    for _ in range(40):
        listings.add_run(THREAD)

    def add() -> None:
        if len(listings.requests) == behind:
            for _ in range(4):
                listings.add_run(THREAD)

    listings.on_request = add
    assert (await bring(local, path)).runs == 44
    assert held(path) == listings.threads[THREAD]


@pytest.mark.parametrize("place", [30, 35, 39])
async def test_run_of_the_block_that_was_under_way(listings: Listings, local: Session, path: Path, place: int) -> None:
    """A run that came from the newest end before it had ended is read again by the next export."""
    for number in range(40):
        listings.add_run(THREAD, "in_progress" if number == place else "completed")
    await bring(local, path)
    listings.threads[THREAD][place].update(status="completed", change=1)
    await bring(local, path)
    assert held(path) == listings.threads[THREAD]


@pytest.mark.parametrize(
    "newest_first",
    [
        pytest.param(lambda items: items, id="ignores the order"),
        pytest.param(lambda items: items[1::2] + items[::2], id="any order"),
        pytest.param(lambda items: items[:2], id="another, shorter listing"),
        pytest.param(lambda items: [], id="nothing"),
    ],
)
async def test_unsound_order_falls_back(listings: Listings, local: Session, path: Path, newest_first: Any) -> None:
    """A server whose `desc` is seen not to come newest first is walked from the oldest end alone, and to the end."""
    for _ in range(25):
        listings.add_run(THREAD)
    listings.newest_first = newest_first
    await bring(local, path)
    assert held(path) == listings.threads[THREAD]


@pytest.mark.parametrize("behind", [slice(5, 20), slice(20, 26)], ids=["already brought", "not brought yet"])
async def test_order_that_becomes_unsound_falls_back(
    listings: Listings, local: Session, path: Path, behind: slice
) -> None:
    """Where only a later page shows that the order is not sound, what came until then does no harm."""
    for _ in range(40):
        listings.add_run(THREAD)
    listings.newest_first = lambda items: items[:-7:-1] + items[behind] + items[:5]
    await bring(local, path)
    assert held(path) == listings.threads[THREAD]


async def test_gap_that_an_unsound_order_left(listings: Listings, local: Session, path: Path) -> None:
    """What was passed over before the order showed that it is not sound is brought by the walk from the oldest end."""
    for second in range(40):
        listings.add_run(THREAD)["created_at"] = second
    places = [39, 38, 37, 21, 20, 19, 33, 32, 2]
    listings.newest_first = lambda items: [items[place] for place in places] + items[:2]
    await bring(local, path)
    assert held(path) == listings.threads[THREAD]


async def test_refusal_of_the_newest_end_is_no_failure(listings: Listings, local: Session, path: Path) -> None:
    """A page from the newest end that is refused leaves the listing to the walk from the oldest."""
    for _ in range(40):
        listings.add_run(THREAD)
    shown: list[Any] = []

    def forget(items: list[Any]) -> list[Any]:
        shown.append(None)
        return items[::-1] if len(shown) < 3 else []  # Its cursors are unknown from the third page on.

    listings.newest_first = forget
    progress = await bring(local, path)
    assert progress.threads_failed == 0
    assert held(path) == listings.threads[THREAD]


@pytest.mark.parametrize("seed", range(20))
async def test_one_order_within_a_second(listings: Listings, local: Session, path: Path, seed: int) -> None:
    """Where the runs of one second come in the same order from both ends, none is passed over."""
    chance, second = random.Random(seed), 0
    for _ in range(chance.randrange(8, 40)):
        second += chance.random() < 0.4
        listings.add_run(THREAD)["created_at"] = second
    listings.newest_first = lambda items: sorted(items, key=lambda run: -run["created_at"])
    for _ in range(2):
        assert (await bring(local, path)).failures == {}
        found = held(path)
        assert sorted(found, key=str) == sorted(listings.threads[THREAD], key=str)
        seconds = [run["created_at"] for run in found]
        assert seconds == sorted(seconds)


async def test_distrust_outlasts_the_export(listings: Listings, local: Session, path: Path) -> None:
    """A listing that was seen not to come newest first is not trusted by the next export, either."""
    for second in range(40):
        listings.add_run(THREAD)["created_at"] = second
    exporting: list[asyncio.Task[Progress]] = []

    def misplaced(items: list[Any]) -> list[Any]:
        newest = items[::-1]
        return newest[:6] + newest[18:21] + newest[6:18] + newest[21:]

    def stop() -> None:
        orders = [order for _, order, _ in listings.requests]
        if min(orders.count("asc"), orders.count("desc")) == 4:
            exporting[0].cancel()

    listings.newest_first, listings.on_request = misplaced, stop
    exporting.append(asyncio.create_task(bring(local, path)))
    await asyncio.wait(exporting)
    assert exporting[0].cancelled()
    listings.on_request = lambda: None
    await bring(local, path)
    assert held(path) == listings.threads[THREAD]


async def test_distrust_is_written_down(path: Path, open_session: Any) -> None:
    """What one export saw not to come newest first is no block to go on behind for another that did not see it."""
    exporting: list[asyncio.Task[Progress]] = []
    stopped = asyncio.Event()

    @web.middleware
    async def hold(request: web.Request, handler: Any) -> web.StreamResponse:
        if not stopped.is_set():
            if request.path.endswith("/steps"):
                # The second worker walks from the newest end before all steps, which it begins once that is over.
                if asked(listings, "desc") >= 4:
                    exporting[0].cancel()
                    stopped.set()
            elif request.query["order"] == "asc" and asked(listings, "asc") == 4:
                await stopped.wait()
        response: web.StreamResponse = await handler(request)
        return response

    def misplaced(items: list[Any]) -> list[Any]:
        newest = items[::-1]
        return newest[:6] + newest[18:21] + newest[6:18] + newest[21:]

    async with Listings(middlewares=[hold]) as listings:
        local = await open_session(Session("sk-test", listings.base_url))
        for second in range(40):
            listings.add_run(THREAD)["created_at"] = second
        listings.newest_first = misplaced
        exporting.append(asyncio.create_task(bring(local, path, steps=True)))
        await asyncio.wait(exporting)
        assert exporting[0].cancelled()
        await bring(local, path, steps=True, concurrency=1)
        assert held(path) == listings.threads[THREAD]


@pytest.mark.parametrize("seed", range(25))
async def test_stopped_anywhere_and_gone_on_with(listings: Listings, local: Session, path: Path, seed: int) -> None:
    """Stopped after any request, again and again, with runs added, changed and deleted meanwhile: nothing is lost."""
    chance = random.Random(seed)
    for _ in range(chance.randrange(8, 60)):
        listings.add_run(THREAD, chance.choice(["completed", "completed", "in_progress"]))
    runs = listings.threads[THREAD]
    stable = {run["id"] for run in runs}
    tasks: list[asyncio.Task[Progress]] = []
    for _ in range(chance.randrange(1, 6)):
        left = chance.randrange(1, 9)

        def count() -> None:
            nonlocal left
            left -= 1
            if chance.random() < 0.2:
                listings.add_run(THREAD)
            if chance.random() < 0.1:
                stable.discard(runs.pop(chance.randrange(len(runs)))["id"])
            if left == 0:
                tasks[-1].cancel()

        listings.on_request = count
        exporting = asyncio.create_task(bring(local, path, both_ends=chance.random() < 0.8, steps=True))
        tasks.append(exporting)
        await asyncio.wait([exporting])
        assert exporting.cancelled() or exporting.result().threads_done == 1
    listings.on_request = lambda: None
    await bring(local, path, steps=True)
    for run in runs:
        if run["status"] == "in_progress":
            run.update(status="completed", change=1)
    await bring(local, path, steps=True)
    found = {run["id"]: run for run in held(path)}
    assert len(found) == len(held(path))
    assert stable <= found.keys()
    assert [run for run in held(path) if run in runs] == runs
    with Archive.open(path) as archive:
        assert {json.loads(step)["run_id"] for step in archive.raw("steps")} >= stable
    await bring(local, path, steps=True)  # Now the steps of runs that were deleted before these came are there, too.
    listings.requests.clear()
    await bring(local, path, steps=True)
    assert len(listings.requests) == 1


def test_anchor_of_the_block() -> None:
    """All that is older than the anchor, and was brought from the newest end, is settled."""
    newest = Walk(thread_id=THREAD, kind="runs", order="desc", position=FROM_NEWEST)
    for words, anchor in [
        ("ccc", "run_0"), ("uc", "run_1"), ("ccu", None), ("cucuc", "run_4"), ("u", None), ("ucc", "run_1"),
    ]:  # fmt: skip
        status = {"c": "completed", "u": "in_progress"}
        items = [RawItem(id=f"run_{n}", status=status[letter]) for n, letter in enumerate(words)]
        for cut in range(len(items)):
            meeting = Meeting(None, newest)  # type: ignore[arg-type]  # it writes nothing here
            for part in (items[:cut], items[cut:]):
                if part:
                    meeting.newest = meeting.further(part)
            assert meeting.newest.anchor == anchor
            assert meeting.newest.position == FROM_NEWEST - len(items)

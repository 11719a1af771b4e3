"""Listings that change under the walk: what was there all along comes out exactly once, in the server's order."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from asyncruns import Session
from asyncruns.archive import Archive, export

from .listings import Item, Listings

THREAD = "thread_1"


@pytest.fixture
async def listings() -> AsyncIterator[Listings]:
    """Give the test a server of listings."""
    async with Listings(page_items=20) as server:
        yield server


@pytest.fixture
async def local(listings: Listings, open_session: Any) -> Session:
    """Give the test a session on it."""
    session: Session = await open_session(Session("sk-test", listings.base_url))
    return session


class Changes:
    """Inserts and deletes runs anywhere, and lets cursors expire, before requests at random."""

    def __init__(self, listings: Listings, seed: int) -> None:
        self.listings = listings
        self.chance = random.Random(seed)
        self.stable: dict[str, Item] = {}
        self.inserted = self.deleted = 0
        self.expired: dict[str, bool] = {}
        listings.on_request = self.change
        listings.on_cursor = self.expire

    def change(self) -> None:
        """Change something, or nothing."""
        runs = self.listings.threads[THREAD]
        if self.chance.random() < 0.3:
            self.inserted += 1
            run = self.listings.add_run(THREAD)
            runs.remove(run)
            place = self.chance.choice([len(runs), self.chance.randrange(len(runs) + 1)])
            if place < len(runs):
                run["created_at"] = runs[place]["created_at"]
            runs.insert(place, run)
        if self.chance.random() < 0.3 and len(runs) > 5:
            self.deleted += 1
            gone = runs.pop(self.chance.randrange(len(runs)))
            self.stable.pop(gone["id"], None)

    def expire(self, cursor: str) -> None:
        """Refuse a cursor for good although its item is there: the first one, and then every fifth or so."""
        if self.expired.setdefault(cursor, not self.expired or self.chance.random() < 0.2):
            raise web.HTTPNotFound(text='{"error": {"message": "The cursor is too old."}}')


@pytest.mark.parametrize("both_ends", [False, True], ids=["oldest end", "both ends"])
@pytest.mark.parametrize("seed", range(15))
async def test_what_was_there_all_along_comes_once(
    listings: Listings, local: Session, path: Path, seed: int, both_ends: bool
) -> None:
    """Rows 50 and 51: with runs inserted and deleted anywhere and cursors that expire, no other run is lost or doubled.

    So it is after the first export, and after another that begins where that one ended.
    """
    for _ in range(150 + seed):
        listings.add_run(THREAD)
    changes = Changes(listings, seed)
    changes.stable = {run["id"]: run for run in listings.threads[THREAD]}
    for _ in range(2):
        progress = await export(local, path, [THREAD], steps=False, both_ends=both_ends, concurrency=2)
        assert progress.failures == {}
        with Archive.open(path) as archive:
            found = [json.loads(run) for run in archive.raw("runs", thread_id=THREAD)]
        ids = [run["id"] for run in found]
        assert len(set(ids)) == len(ids)
        expected = [run for run in listings.threads[THREAD] if run["id"] in changes.stable]
        assert [run for run in found if run["id"] in changes.stable] == expected
    assert changes.inserted + changes.deleted > 0
    assert sum(changes.expired.values()) > 0


@pytest.mark.parametrize("both_ends", [False, True], ids=["oldest end", "both ends"])
async def test_all_that_came_is_deleted(listings: Listings, local: Session, path: Path, both_ends: bool) -> None:
    """Row 50: where no item is left to go on behind, the walk begins again, and keeps what it has."""
    for _ in range(150):
        listings.add_run(THREAD)
    runs = listings.threads[THREAD]
    everything = list(runs)

    def delete(cursor: str) -> None:
        place = [run["id"] for run in runs].index(cursor) if len(runs) == 150 else None
        if place == 59:
            del runs[:60]

    listings.on_cursor = delete
    progress = await export(local, path, [THREAD], steps=False, both_ends=both_ends, concurrency=2)
    assert progress.failures == {}
    assert len(runs) == 90
    with Archive.open(path) as archive:
        found = [json.loads(run) for run in archive.raw("runs", thread_id=THREAD)]
    assert found[:60] == everything[:60]
    assert sorted(run["id"] for run in found) == sorted(run["id"] for run in everything)


async def test_all_is_deleted_between_two_exports(listings: Listings, local: Session, path: Path) -> None:
    """Row 50: where the server has none of the runs that are here, the walk begins with the first that it has."""
    for _ in range(20):
        listings.add_run(THREAD)
    await export(local, path, [THREAD])
    listings.threads[THREAD].clear()
    for _ in range(5):
        listings.add_run(THREAD)
    progress = await export(local, path, [THREAD])
    assert (progress.runs, progress.failures) == (5, {})
    with Archive.open(path) as archive:
        assert archive.count("runs") == 25


@pytest.mark.parametrize("id", ["", "run\n1", "r" * 600])
async def test_last_item_has_an_id_that_is_no_cursor(listings: Listings, local: Session, path: Path, id: str) -> None:
    """What no request can name is gone on behind as what the server refuses to: from the item before it."""
    for number in range(7):
        run = listings.add_run(THREAD)
        if number == 5:
            run["id"], listings.steps[id] = id, []
    listings.threads[THREAD].pop()
    await export(local, path, [THREAD], steps=False)
    listings.add_run(THREAD)
    progress = await export(local, path, [THREAD], steps=False)
    assert (progress.failures, progress.runs) == ({}, 2)
    with Archive.open(path) as archive:
        assert [json.loads(run) for run in archive.raw("runs", thread_id=THREAD)] == listings.threads[THREAD]

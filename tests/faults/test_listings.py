"""Rows 45 to 53 of the fault matrix: listings that lie, change, or break off."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from asyncruns import (
    AsyncCursorPager,
    CursorLostError,
    IdentityMismatchError,
    NotFoundError,
    Page,
    PaginationLoopError,
    PaginationStalledError,
    ProtocolError,
    Run,
    SchemaError,
    ServerError,
    Session,
    TruncatedBodyError,
    UnexpectedContentError,
)
from asyncruns.emulator import Emulator

from .bodies import RUN, THREAD, error, page, run, runs
from .byte_proxy import ByteProxy
from .conftest import Bench, until
from .script_server import Action, Exchange, Received, answer, hang, reply

WALKS: dict[str, Callable[[AsyncCursorPager[Run]], Any]] = {
    "items": lambda pager: pager.collect(),
    "raw": lambda pager: _gather(pager.raw()),
    "pages": lambda pager: _gather(pager.pages()),
}


async def _gather(items: Any) -> list[Any]:
    return [item async for item in items]


def ids_in(found: list[Any]) -> list[str]:
    """Return the ids of what a walk gave: runs, their bytes, or pages of them."""
    items = [item for each in found for item in (each.data if isinstance(each, Page) else [each])]
    return [json.loads(item)["id"] if isinstance(item, bytes) else item.id for item in items]


def pages_by_cursor(pages: dict[str | None, Any]) -> Action:
    """Answer with the page that belongs to the cursor asked for."""
    return reply(lambda request: pages[request.query.get("after")])


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("length", [1, 2, 5])
async def test_row_45_cursors_that_go_round(bench: Bench, length: int, walk: str) -> None:
    """A listing whose cursors repeat is ended at the first repetition, not walked for ever."""
    data = runs(*range(2 * length))
    pages = [page(data[2 * n : 2 * n + 2], has_more=True) for n in range(length)]
    follows: dict[str | None, Any] = {None: pages[0]}
    follows |= {pages[n]["last_id"]: pages[(n + 1) % length] for n in range(length)}
    async with bench.serve(pages_by_cursor(follows)) as (server, session):
        failed = await bench.fails(PaginationLoopError, WALKS[walk](session.runs.list(THREAD, limit=2)))
        assert server.count <= length + 1
    assert failed.partial_count == 2 * length
    assert failed.cursor == pages[0]["last_id"]


@pytest.mark.parametrize("walk", WALKS)
async def test_row_45_cursors_that_enter_a_cycle(bench: Bench, walk: str) -> None:
    """A cycle is found as well when the walk enters it later than at its start."""
    a, b, c = (page(runs(2 * n, 2 * n + 1), has_more=True) for n in range(3))
    follows = {None: a, "run_1": b, "run_3": c, "run_5": b}
    async with bench.serve(pages_by_cursor(follows)) as (server, session):
        failed = await bench.fails(PaginationLoopError, WALKS[walk](session.runs.list(THREAD, limit=2)))
        assert server.count == 4
    assert failed.partial_count == 6


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("before", [0, 1])
async def test_row_46_promise_without_a_cursor(bench: Bench, before: int, walk: str) -> None:
    """An empty page that promises more and names no cursor is an error, not the end."""
    script = [*[answer(page(runs(1, 2), has_more=True))] * before, answer(page([], has_more=True))]
    async with bench.serve(*script) as (server, session):
        failed = await bench.fails(PaginationStalledError, WALKS[walk](session.runs.list(THREAD, limit=2)))
        assert server.count == before + 1
    assert failed.partial_count == 2 * before


@pytest.mark.parametrize("walk", WALKS)
async def test_row_47_empty_pages_whose_cursor_moves(bench: Bench, walk: str) -> None:
    """Empty pages are passed over as long as their cursor moves."""
    gap = [answer(page([], has_more=True, last_id=f"gap_{n}")) for n in range(15)]
    script = [answer(page(runs(1, 2), has_more=True)), *gap, answer(page(runs(3)))]
    async with bench.serve(*script) as (server, session):
        found = await WALKS[walk](session.runs.list(THREAD, limit=2))
        assert server.count == 17
        assert server.requests[-1].query["after"] == "gap_14"
    assert ids_in(found) == ["run_1", "run_2", "run_3"]


@pytest.mark.parametrize("walk", WALKS)
async def test_row_47_empty_pages_on_the_way_back(bench: Bench, walk: str) -> None:
    """A walk backwards passes over them as well; there the first id is the cursor."""
    gap = [answer(page([], has_more=True, first_id=f"gap_{n}", last_id="run_4")) for n in range(2)]
    script = [answer(page(runs(2, 3), has_more=True)), *gap, answer(page(runs(1)))]
    async with bench.serve(*script) as (server, session):
        found = await WALKS[walk](session.runs.list(THREAD, limit=2, before="run_4"))
        assert [request.query["before"] for request in server.requests] == ["run_4", "run_2", "gap_0", "gap_1"]
    assert ids_in(found) == ["run_3", "run_2", "run_1"]


@pytest.mark.parametrize("walk", WALKS)
async def test_row_47_empty_pages_without_end(bench: Bench, walk: str) -> None:
    """After sixteen empty pages in a row the walk is given up."""
    moves = reply(lambda request: page([], has_more=True, last_id=request.query.get("after", "") + "x"))
    async with bench.serve(moves) as (server, session):
        await bench.fails(PaginationStalledError, WALKS[walk](session.runs.list(THREAD, limit=2)))
        assert server.count <= 17


@pytest.mark.parametrize("has_more", ["false", 0, 1, [], {}])
@pytest.mark.parametrize("walk", WALKS)
async def test_row_48_has_more_of_the_wrong_type(bench: Bench, has_more: object, walk: str) -> None:
    """What is not true, false or null does not say whether there is more."""
    async with bench.serve(answer(page(runs(1), has_more=has_more))) as (server, session):
        failed = await bench.fails(SchemaError, WALKS[walk](session.runs.list(THREAD)))
        assert server.count == 1
    assert failed.path == "$.has_more"


@pytest.mark.parametrize("is_null", [True, False])
async def test_row_48_has_more_missing(bench: Bench, is_null: bool) -> None:
    """Where the server does not say, a full page is followed by one more request, and a short page ends."""

    def silent(data: list[dict[str, Any]]) -> Action:
        body = page(data, has_more=None)
        return answer(body if is_null else {name: value for name, value in body.items() if name != "has_more"})

    async with bench.serve(silent(runs(1, 2)), silent(runs(3))) as (server, session):
        assert len(await session.runs.list(THREAD, limit=2).collect()) == 3
        assert server.count == 2
    async with bench.serve(silent(runs(1, 2)), silent([])) as (server, session):
        assert len(await session.runs.list(THREAD, limit=2).collect()) == 2
        assert server.count == 2


@pytest.mark.parametrize("walk", WALKS)
async def test_row_49_pages_that_overlap(bench: Bench, walk: str) -> None:
    """A row that comes on two pages is given once, and counted."""
    script = answer(page(runs(1, 2), has_more=True)), answer(page(runs(2, 3)))
    async with bench.serve(*script) as (server, session):
        pager = session.runs.list(THREAD, limit=2)
        assert ids_in(await WALKS[walk](pager)) == ["run_1", "run_2", "run_3"]
        assert pager.duplicates_dropped == 1
        assert server.count == 2


async def test_row_49_row_twice_on_one_page(bench: Bench) -> None:
    """A row that comes twice on one page is given once."""
    async with bench.serve(answer(page(runs(1, 1, 2)))) as (_, session):
        pager = session.runs.list(THREAD)
        assert [each.id for each in await pager.collect()] == ["run_1", "run_2"]
        assert pager.duplicates_dropped == 1


async def test_row_49_row_that_comes_back_late(bench: Bench) -> None:
    """At least the last 4,096 rows are remembered: one that comes again within these is dropped."""
    pages = [page(runs(*range(at, at + 100)), has_more=True) for at in range(0, 4100, 100)]
    last = page(runs(4, 4100))
    async with bench.serve(*map(answer, [*pages, last])) as (server, session):
        pager = session.runs.list(THREAD)
        assert len(ids_in(await WALKS["raw"](pager))) == 4101
        assert pager.duplicates_dropped == 1
        assert server.count == 42


class Changing:
    """A thread of the emulator whose runs are taken away or added while a listing is walked."""

    def __init__(self, emulator: Emulator, thread_id: str) -> None:
        thread = emulator._store.threads.get(thread_id)
        assert thread is not None
        self.thread, self._emulator = thread, emulator

    @property
    def ids(self) -> list[str]:
        """All ids, oldest first."""
        return [each.id for each in self.thread.runs.items()]

    def delete(self, id: str) -> None:
        """Take a run away."""
        item = self.thread.runs.get(id)
        assert item is not None
        self.thread.runs.remove(item)

    def insert(self, id: str, created_at: int) -> None:
        """Add a run that was created at that second."""
        self._emulator._store.add_run(self.thread, run(id, thread_id=self.thread.id, created_at=created_at))


@contextmanager
def filled(emulator: Emulator, count: int) -> Iterator[Changing]:
    """Give a thread of *count* runs."""
    (thread_id,) = emulator.fill(threads=1, runs_per_thread=count)
    yield Changing(emulator, thread_id)


def session_on(bench: Bench, emulator: Emulator, **options: Any) -> Any:
    """Return a session on the emulator that still has the canary for its key."""
    emulator._gate.api_key = bench.key
    return bench.session(emulator.base_url, **options)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("gone", [1, 3])
@pytest.mark.parametrize("walk", ["pages", "raw_pages"])
async def test_row_50_row_at_the_cursor_deleted(
    bench: Bench, emulator: Emulator, order: Any, gone: int, walk: str
) -> None:
    """When the row at the cursor is deleted the walk goes on from the one before it; nothing is lost or doubled."""
    async with session_on(bench, emulator) as session:
        with filled(emulator, 20) as changing:
            before, found = changing.ids, []
            async for each in getattr(session.runs.list(changing.thread.id, limit=4, order=order), walk)():
                found += ids_in([each])
                if len(found) == 8:
                    for id in found[-gone:]:
                        changing.delete(id)
    assert found == (before if order == "asc" else before[::-1])


async def test_row_50_all_rows_seen_deleted(bench: Bench, emulator: Emulator) -> None:
    """When none of the rows near the cursor exists any more, that is said."""
    async with session_on(bench, emulator) as session:
        with filled(emulator, 60) as changing:

            async def walk() -> None:
                found: list[str] = []
                async for each in session.runs.list(changing.thread.id, limit=20, order="asc").pages():
                    found += [item.id for item in each.data]
                    if len(found) == 20:
                        for id in found:
                            changing.delete(id)

            failed = await bench.fails(CursorLostError, walk())
            assert emulator.request_count <= 20
    assert failed.partial_count == 20


async def test_row_50_thread_deleted(bench: Bench, emulator: Emulator) -> None:
    """A listing that is gone altogether is not taken for a lost cursor."""
    async with session_on(bench, emulator) as session:
        with filled(emulator, 8) as changing:

            async def walk() -> None:
                async for _ in session.runs.list(changing.thread.id, limit=4).pages():
                    emulator._store.threads.remove(changing.thread)

            await bench.fails(NotFoundError, walk())
            assert emulator.request_count == 3


@pytest.mark.parametrize("seed", range(6))
async def test_row_51_rows_come_and_go(bench: Bench, emulator: Emulator, seed: int) -> None:
    """Rows that are there for the whole walk come out exactly once, whatever else happens around them."""
    random = Random(seed)
    order: Any = random.choice(["asc", "desc"])
    async with session_on(bench, emulator) as session:
        with filled(emulator, 60) as changing:
            stayed, found = set(changing.ids), []
            earliest = changing.thread.runs.items()[0].place[0]
            async for each in session.runs.list(changing.thread.id, limit=random.randint(2, 9), order=order):
                found.append(each.id)
                if random.random() < 0.4:
                    changing.insert(f"run_new{random.getrandbits(60)}", earliest + random.randint(0, 4000))
                if random.random() < 0.3:
                    gone = random.choice(changing.ids)
                    changing.delete(gone)
                    stayed.discard(gone)
    assert len(found) == len(set(found))
    assert stayed <= set(found)


BROKEN_PAGES: dict[str, tuple[Action, type[Exception], int]] = {
    "html": (answer("<html>", content_type="text/html"), UnexpectedContentError, 1),
    "500": (answer(error("oops"), 500), ServerError, 3),
    "error object": (answer(error("oops")), ProtocolError, 1),
    "no more and an error": (answer(page([]) | error("oops")), ProtocolError, 1),
    "rows and an error": (answer(page(runs(3, 4)) | error("oops")), ProtocolError, 1),
    "null": (answer(b"null"), SchemaError, 1),
    "no data": (answer({"object": "list", "has_more": False}), SchemaError, 1),
    "null data": (answer(page([]) | {"data": None}), SchemaError, 1),
}


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("name", BROKEN_PAGES)
async def test_row_52_second_page_broken(bench: Bench, name: str, walk: str) -> None:
    """A page that cannot be read is an error after the rows before it, never the end of a shorter list."""
    action, kind, tries = BROKEN_PAGES[name]
    async with bench.serve(answer(page(runs(1, 2), has_more=True)), action) as (server, session):
        pager = session.runs.list(THREAD, limit=2)
        await bench.fails(kind, WALKS[walk](pager))
        assert server.count == 1 + tries
    assert pager.cursor == "run_2"


@pytest.mark.parametrize("walk", ["items", "raw"])
async def test_page_that_tells_of_no_error(bench: Bench, walk: str) -> None:
    """A page whose error is null is one like any other."""
    async with bench.serve(answer(page(runs(1, 2)) | {"error": None})) as (_, session):
        assert len(await WALKS[walk](session.runs.list(THREAD))) == 2


async def test_row_53_row_of_another_thread(bench: Bench) -> None:
    """A row of another thread is an error that names both."""
    data = [run("run_1"), run("run_2", thread_id="thread_other")]
    async with bench.serve(answer(page(data))) as (server, session):
        failed = await bench.fails(IdentityMismatchError, session.runs.list(THREAD).collect())
        assert server.count == 1
    assert (failed.expected, failed.got) == (THREAD, "thread_other")


@pytest.mark.parametrize("indent", [None, 2])
async def test_row_53_row_of_another_thread_as_bytes(bench: Bench, indent: int | None) -> None:
    """Raw items are unread, and yet one of another thread is an error that names both, however it is written."""
    data = [run("run_1"), run("run_2", thread_id="thread_other")]
    async with bench.serve(answer(json.dumps(page(data), indent=indent).encode())) as (server, session):
        failed = await bench.fails(IdentityMismatchError, _gather(session.runs.list(THREAD).raw()))
        assert server.count == 1
    assert (failed.expected, failed.got) == (THREAD, "thread_other")


@pytest.mark.parametrize("indent", [None, 2])
async def test_row_53_row_of_nobody_as_bytes(bench: Bench, indent: int | None) -> None:
    """A raw item that does not say whose it is comes as it was sent; so does one that only names others in it."""
    nobodys = {"id": "run_1", "metadata": {"thread_id": "thread_other"}}
    data = [nobodys, run("run_2", metadata={"thread_id": "thread_other"})]
    async with bench.serve(answer(json.dumps(page(data), indent=indent).encode())) as (_, session):
        assert ids_in(await _gather(session.runs.list(THREAD).raw())) == ["run_1", "run_2"]


@pytest.mark.parametrize("owner", [b"1e999", b"null"])
async def test_row_53_row_whose_owner_cannot_be_read_as_bytes(bench: Bench, owner: bytes) -> None:
    """A number that nothing can hold, in place of a thread, says of no thread that the item is its."""
    item = b'{"id":"run_1","thread_id":%b}' % owner
    async with bench.serve(answer(b'{"data":[%b],"has_more":false}' % item)) as (_, session):
        assert await _gather(session.runs.list(THREAD).raw()) == [item]


async def test_row_53_row_of_another_thread_that_names_ours_as_bytes(bench: Bench) -> None:
    """A raw item of another thread is an error, too, where an object in it names the one that was asked for."""
    other = run("run_9", thread_id="thread_other", metadata={"thread_id": THREAD})
    body = json.dumps(page([run("run_1"), other]), separators=(",", ":"))
    async with bench.serve(answer(body.encode())) as (_, session):
        failed = await bench.fails(IdentityMismatchError, _gather(session.runs.list(THREAD).raw()))
    assert (failed.expected, failed.got) == (THREAD, "thread_other")


async def test_row_53_step_of_another_run_as_bytes(bench: Bench) -> None:
    """A raw step of another run is an error, too."""
    step = {"id": "step_1", "thread_id": THREAD, "run_id": "run_other"}
    async with bench.serve(answer(page([step]))) as (_, session):
        failed = await bench.fails(IdentityMismatchError, _gather(session.steps.list(THREAD, RUN).raw()))
    assert (failed.expected, failed.got) == (RUN, "run_other")


@pytest.mark.parametrize(
    "harm",
    [
        {"piece": 1},
        {"latency": 0.002, "piece": 4096},
        {"cut_after": 3000, "cuts": 2},
        {"cut_after": 3000, "cuts": 2, "is_reset": True},
        {"cut_after": 0, "cuts": 2},
    ],
    ids=["single bytes", "latency", "cut", "reset", "closed unanswered"],
)
async def test_listing_through_a_bad_line(bench: Bench, emulator: Emulator, harm: dict[str, Any]) -> None:
    """A line that slices, slows or now and then breaks does not change what a walk finds."""
    emulator._gate.api_key = bench.key
    with filled(emulator, 12) as changing:
        async with ByteProxy(emulator._bound_port, **harm) as proxy, bench.session(proxy.url) as session:
            found = [each.id async for each in session.runs.list(changing.thread.id, limit=5, order="asc")]
            assert proxy.connections >= 1 + harm.get("cuts", 0)
        assert found == changing.ids


async def test_listing_through_a_line_that_is_cut_for_good(bench: Bench, emulator: Emulator) -> None:
    """A line that always breaks ends in an error after three attempts, and in no shorter list."""
    emulator._gate.api_key = bench.key
    with filled(emulator, 12) as changing:
        async with ByteProxy(emulator._bound_port, cut_after=3000) as proxy, bench.session(proxy.url) as session:
            await bench.fails(TruncatedBodyError, session.runs.list(changing.thread.id).collect())
            assert emulator.request_count == 3


async def test_a_page_asked_for_in_vain_is_given_up(bench: Bench) -> None:
    """Where the end of a page named another cursor than its items do, what was asked for by it is cancelled."""

    async def pages(exchange: Exchange) -> None:
        after = exchange.request.query.get("after")
        if after == "run_vain":
            await hang()(exchange)
        number = 0 if after is None else int(after[4:])
        last = {"last_id": "run_vain"} if number == 2 else {}
        await answer(page(runs(number + 1, number + 2), has_more=number < 4, **last))(exchange)

    async with bench.serve(pages) as (server, session):
        tasks = len(asyncio.all_tasks())
        found = await session.runs.list(THREAD, limit=2).collect()
        assert [each.id for each in found] == [f"run_{n}" for n in range(1, 7)]
        assert [request.query.get("after") for request in server.requests] == [None, "run_2", "run_vain", "run_4"]
        await until(lambda: server.open_connections == 1, "the connection of the page given up is left")
        await until(lambda: len(asyncio.all_tasks()) <= tasks + 1, "a task is left")


async def test_leaving_a_walk_early_leaves_nothing(bench: Bench) -> None:
    """A loop that is left early cancels the page under way; the bench sees whether a socket or task stays."""

    def endless(request: Received) -> Any:
        number = int(request.query.get("after", "run_0")[4:])
        return page(runs(number + 1, number + 2), has_more=True)

    async def leave(session: Session, count: int) -> None:
        items = session.runs.list(THREAD, limit=2).__aiter__()
        for _ in range(count):
            await anext(items)
        await items.aclose()

    async with bench.serve(reply(endless)) as (server, session):
        for count in range(1, 9):
            await leave(session, count)
        assert server.count <= 8 * 6

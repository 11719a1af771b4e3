"""A listing comes out complete and in order however it is walked, and a walk costs no more than it must."""

import asyncio
import gc
import json
from contextlib import aclosing
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncruns import (
    AsyncCursorPager,
    BadRequestError,
    CursorLostError,
    IdentityMismatchError,
    NotFoundError,
    Page,
    PaginationLoopError,
    PaginationStalledError,
    Run,
    Thread,
)
from asyncruns._codec import decode_page, peek_cursor
from asyncruns._slices import cut_page, split_page
from asyncruns._walk import MAX_EMPTY_PAGES, Listing, PageQuery

RUNS = 257


@pytest.fixture
def thread_id(emulator):
    """Give the test a thread with 257 runs."""
    [thread_id] = emulator.fill(threads=1, runs_per_thread=RUNS)
    return thread_id


@pytest.fixture
async def oldest_first(session, thread_id, emulator):
    """Give the test the ids of those runs, oldest first, read without the pager."""
    ids = []
    for _ in range(3):
        after = f"&after={ids[-1]}" if ids else ""
        page = await session.runs._fetch_page(
            f"/threads/{thread_id}/runs",
            [],
            None,
            PageQuery(limit=100, order="asc", after=ids[-1] if after else None, before=None),
        )
        ids += [run["id"] for run in json.loads(page)["data"]]
    assert len(set(ids)) == len(ids) == RUNS
    emulator.requests.clear()
    return ids


def ids_of(items):
    """Return the ids of runs or of their bytes."""
    return [json.loads(item)["id"] if isinstance(item, bytes) else item.id for item in items]


async def settle():
    """Let whatever was begun in the background reach the server."""
    await asyncio.sleep(0.05)


class Shelf:
    """A listing in memory that follows the protocol; `frame` changes what it says about each page."""

    def __init__(self, count, frame=None):
        self.ids = [f"t{n:03d}" for n in range(count)]
        self.queries = []
        self.frame = frame or (lambda page: page)
        self.gone = set()
        self.fetching = 0

    async def fetch(self, query):
        """Answer as a server would."""
        self.queries.append(query)
        self.fetching += 1
        try:
            await asyncio.sleep(0)
        finally:
            self.fetching -= 1
        for cursor in (query.after, query.before):
            if cursor in self.gone:
                raise NotFoundError("gone", status=404)
        ids = self.ids if query.order == "asc" else self.ids[::-1]
        low = 0 if query.after is None else self.ids_index(ids, query.after) + 1
        high = len(ids) if query.before is None else self.ids_index(ids, query.before)
        backwards = query.after is None and query.before is not None
        found = [
            id
            for id in (ids[max(low, high - query.limit) : high] if backwards else ids[low:high][: query.limit])
            if id not in self.gone
        ]
        more = high - low > query.limit
        page = {"data": [{"id": id} for id in found], "has_more": more}
        page |= {"first_id": found[0], "last_id": found[-1]} if found else {"first_id": None, "last_id": None}
        return json.dumps(self.frame(page)).encode()

    def ids_index(self, ids, id):
        """Return where *id* stands."""
        return ids.index(id)

    def pager(self, max_items=None, **query):
        """Return a pager over it."""
        query = {"limit": 10, "order": "asc", "after": None, "before": None} | query
        listing = Listing(fetch=self.fetch, read=read_threads, split=split_page, cut=cut_page, peek=peek_cursor)
        return AsyncCursorPager(listing, PageQuery(**query), max_items)


def read_threads(data):
    """Read a page of threads."""
    page = decode_page(data, Thread)
    return page, [item.id for item in page.data]


def script(*pages, limit=2, max_items=None, **query):
    """Return a pager over these pages, whatever is asked, and the list of cursors it asked with."""
    cursors = []

    async def fetch(asked):
        cursors.append(asked.after if query.get("before") is None else asked.before)
        answer = pages[min(len(cursors), len(pages)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return (
            json.dumps({"data": [{"id": id} for id in answer.pop("ids")], **answer}).encode()
            if "ids" in answer
            else json.dumps(answer).encode()
        )

    listing = Listing(fetch=fetch, read=read_threads, split=split_page, cut=cut_page, peek=peek_cursor)
    asked = {"limit": limit, "order": "asc", "after": None, "before": None} | query
    return AsyncCursorPager(listing, PageQuery(**asked), max_items), cursors


def page(*ids, **frame):
    """Return a page for `script`."""
    return {"ids": list(ids), "has_more": True, **frame}


async def take(walk, count):
    """Return the first *count* items of a walk, and leave it."""
    items = []
    async with aclosing(walk):
        async for item in walk:
            items.append(item)
            if len(items) == count:
                break
    return items


class TestCompleteWalks:
    """257 runs over a real socket."""

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("limit", [1, 7, 50, 100])
    async def test_every_run_comes_once_and_in_order(self, session, thread_id, oldest_first, emulator, limit, order):
        """At any page size, in both orders, with exactly as many requests as there are pages."""
        expected = oldest_first if order == "asc" else oldest_first[::-1]
        pager = session.runs.list(thread_id, limit=limit, order=order)
        assert ids_of([run async for run in pager]) == expected
        assert pager.cursor == expected[-1]
        assert pager.duplicates_dropped == 0
        assert len(emulator.requests) == -(-RUNS // limit)

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("cut", [1, 49, 50, 51, 100, 256, 257])
    async def test_goes_on_where_it_was_left(
        self, session, open_session, emulator, thread_id, oldest_first, cut, order
    ):
        """With the cursor alone, in another session: nothing lost, nothing twice."""
        expected = oldest_first if order == "asc" else oldest_first[::-1]
        pager = session.runs.list(thread_id, limit=50, order=order)
        begun = ids_of(await take(aiter(pager), cut))
        assert pager.cursor == begun[-1] == expected[cut - 1]
        other = await open_session(emulator)
        rest = ids_of([run async for run in other.runs.list(thread_id, limit=33, order=order, after=pager.cursor)])
        assert begun + rest == expected

    @pytest.mark.parametrize("order", ["asc", "desc"])
    @pytest.mark.parametrize("point", [0, 1, 49, 50, 51, 128, 256])
    async def test_before_walks_backwards(self, session, thread_id, oldest_first, point, order):
        """Nearest item first: the exact reverse of the way there, at any page size."""
        forward = oldest_first if order == "asc" else oldest_first[::-1]
        pager = session.runs.list(thread_id, limit=50, order=order, before=forward[point])
        walked = ids_of([run async for run in pager])
        assert walked == forward[:point][::-1]
        assert pager.cursor == (walked[-1] if walked else forward[point])

    async def test_backwards_goes_on_with_before(self, session, thread_id, oldest_first):
        """The cursor of a backwards walk is passed as `before=`."""
        pager = session.runs.list(thread_id, limit=50, order="asc", before=oldest_first[200])
        begun = ids_of(await take(aiter(pager), 77))
        rest = ids_of([run async for run in session.runs.list(thread_id, order="asc", before=pager.cursor)])
        assert begun + rest == oldest_first[:200][::-1]

    @pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (10, 61), (10, 60), (9, 200), (255, 256)])
    async def test_after_and_before_are_a_window(self, session, thread_id, oldest_first, low, high):
        """What lies between the two, without either."""
        pager = session.runs.list(thread_id, limit=50, order="asc", after=oldest_first[low], before=oldest_first[high])
        assert ids_of([run async for run in pager]) == oldest_first[low + 1 : high]

    @pytest.mark.parametrize("max_items", [0, 1, 49, 50, 51, 100, 257, 1000])
    async def test_max_items_is_a_total(self, session, thread_id, oldest_first, emulator, max_items):
        """No more come, no more are asked for than needed, and no page is asked for beyond them."""
        pager = session.runs.list(thread_id, limit=50, order="asc", max_items=max_items)
        assert ids_of([run async for run in pager]) == oldest_first[:max_items]
        assert len(emulator.requests) == -(-min(max_items, RUNS) // 50)
        if 0 < max_items < RUNS:
            assert f"limit={(max_items - 1) % 50 + 1}&" in emulator.requests[-1][1]

    @pytest.mark.parametrize("query", [{"order": "asc"}, {"order": "desc"}])
    async def test_pages(self, session, thread_id, oldest_first, query):
        """Pages as the server sent them, and the cursor at each one's end."""
        expected = oldest_first if query["order"] == "asc" else oldest_first[::-1]
        pager = session.runs.list(thread_id, limit=100, **query)
        sizes, seen = [], []
        async for one in pager.pages():
            assert isinstance(one, Page)
            assert isinstance(one.data, tuple)
            assert (one.first_id, one.last_id) == (one.data[0].id, one.data[-1].id)
            assert one.has_more is (len(seen) + len(one.data) < RUNS)
            sizes.append(len(one.data))
            seen += ids_of(one.data)
            assert pager.cursor == seen[-1]
        assert (sizes, seen) == ([100, 100, 57], expected)

    async def test_pages_backwards_are_turned_round(self, session, thread_id, oldest_first):
        """So that pages and items tell the same story."""
        pager = session.runs.list(thread_id, limit=100, order="asc", before=oldest_first[150])
        seen = [id async for one in pager.pages() for id in ids_of(one.data)]
        assert seen == oldest_first[:150][::-1]

    async def test_raw_gives_the_bytes_as_sent(self, session, thread_id, oldest_first):
        """Byte for byte what stands in the pages, in order, with the cursor moving along."""
        pager = session.runs.list(thread_id, limit=100, order="asc")
        blobs = [blob async for blob in pager.raw()]
        assert ids_of(blobs) == oldest_first
        assert pager.cursor == oldest_first[-1]
        first = await session.runs._fetch_page(
            f"/threads/{thread_id}/runs", [], None, PageQuery(limit=100, order="asc", after=None, before=None)
        )
        assert b",".join(blobs[:100]) in first

    async def test_raw_pages(self, session, thread_id, oldest_first, emulator):
        """The same bytes, page by page; an empty listing has one page, and no cursor."""
        pager = session.runs.list(thread_id, limit=100, order="asc")
        pages = [one async for one in pager.raw_pages()]
        assert [len(one.data) for one in pages] == [100, 100, 57]
        assert ids_of([bytes(item.json) for one in pages for item in one.data]) == oldest_first
        assert {item.thread_id for one in pages for item in one.data} == {thread_id}
        [empty] = emulator.fill(threads=1, runs_per_thread=0)
        pager = session.runs.list(empty)
        assert [one async for one in pager.raw_pages()] == [Page(has_more=False)]
        assert pager.cursor is None

    async def test_await_gives_the_first_page(self, session, thread_id, oldest_first, emulator):
        """For one request, and the cursor stands at its end."""
        pager = session.runs.list(thread_id, limit=7, order="asc")
        first = await pager
        assert ids_of(first.data) == oldest_first[:7]
        assert first.has_more is True
        assert pager.cursor == oldest_first[6]
        await settle()
        assert len(emulator.requests) == 1

    async def test_await_on_an_empty_listing(self, session, emulator):
        """A page without items, and no cursor; with `max_items=0` nothing is even asked."""
        [empty] = emulator.fill(threads=1, runs_per_thread=0)
        pager = session.runs.list(empty)
        assert await pager == Page(has_more=False)
        assert pager.cursor is None
        emulator.requests.clear()
        assert await session.runs.list(empty, max_items=0) == Page()
        assert emulator.requests == []

    @pytest.mark.parametrize(
        ("of_list", "of_collect", "count"),
        [(None, None, 257), (None, 60, 60), (60, None, 60), (60, 5, 5), (5, 60, 5), (3, 0, 0)],
    )
    async def test_collect(self, session, thread_id, oldest_first, of_list, of_collect, count):
        """A list, bounded by the smaller of both totals, and the cursor at its end."""
        pager = session.runs.list(thread_id, limit=50, order="asc", max_items=of_list)
        runs = await pager.collect(of_collect)
        assert isinstance(runs, list)
        assert ids_of(runs) == oldest_first[:count]
        assert pager.cursor == (oldest_first[count - 1] if count else None)

    @pytest.mark.parametrize("max_items", [-1, 1.5, True, "3"])
    async def test_collect_refuses_what_is_no_count(self, session, thread_id, max_items):
        """Before anything is sent."""
        with pytest.raises(ValueError, match="max_items"):
            await session.runs.list(thread_id).collect(max_items)

    async def test_each_walk_begins_anew(self, session, thread_id, oldest_first):
        """A pager may be used again; what was handed out before does not move the start."""
        pager = session.runs.list(thread_id, order="asc", after=oldest_first[9], max_items=3)
        assert ids_of(await pager.collect()) == ids_of([run async for run in pager]) == oldest_first[10:13]


class TestCosts:
    """How many requests a walk sends, and when."""

    async def test_nothing_is_sent_until_it_is_used(self, session, thread_id, emulator):
        """Making a pager is free, and so are its walks before the first step."""
        pager = session.runs.list(thread_id)
        aiter(pager), pager.raw(), pager.pages()
        await settle()
        assert emulator.requests == []

    @pytest.mark.parametrize("walk", ["__aiter__", "raw", "pages"])
    async def test_leaving_at_the_first_item_costs_one_request(self, session, thread_id, emulator, walk):
        """Whatever is walked: items, bytes, pages."""
        await take(getattr(session.runs.list(thread_id, limit=50), walk)(), 1)
        await settle()
        assert len(emulator.requests) == 1

    async def test_the_second_page_is_asked_for_once_half_of_the_first_is_used(self, session, thread_id, emulator):
        """Not before; then from the second page on at once, and never more than one page ahead."""
        asked = []
        async for _ in session.runs.list(thread_id, limit=10, order="asc", max_items=45):
            await asyncio.sleep(0.01)
            asked.append(len(emulator.requests))
        assert asked == [1] * 5 + [2] * 5 + [3] * 10 + [4] * 10 + [5] * 15

    @pytest.mark.parametrize("last_id", [{}, {"last_id": None}], ids=["named", "not named"])
    async def test_the_third_page_is_asked_for_when_the_second_comes(self, last_id):
        """At once, also where a page does not name its last item."""
        shelf = Shelf(30, lambda page: page | last_id)
        async with aclosing(aiter(shelf.pager())) as walk:
            for _ in range(11):
                await anext(walk)
            await asyncio.sleep(0)
            assert len(shelf.queries) == 3

    async def test_the_next_request_leaves_before_a_page_is_read(self):
        """So that the server works while the page is read; of the first page nobody knows whether all is wanted."""
        shelf, asked = Shelf(40), []

        def read(data):
            asked.append(len(shelf.queries))
            return read_threads(data)

        listing = Listing(fetch=shelf.fetch, read=read, split=split_page, cut=cut_page, peek=peek_cursor)
        pager = AsyncCursorPager(listing, PageQuery(limit=10, order="asc", after=None, before=None))
        assert len(await pager.collect()) == 40
        assert asked == [1, 3, 4, 4]

    async def test_at_most_two_pages_are_under_way(self):
        """However slow the consumer is, the walk holds one page and has asked for one more."""
        shelf = Shelf(100)
        consumed = 0
        async for _ in shelf.pager():
            consumed += 1
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(shelf.queries) <= (consumed - 1) // 10 + 2
        assert consumed == 100
        assert len(shelf.queries) == 10

    @pytest.mark.parametrize(
        ("walk", "count"), [*product(["__aiter__", "raw"], [1, 6, 11, 35]), ("pages", 1), ("pages", 2)]
    )
    async def test_leaving_early_leaks_nothing(self, open_session, emulator, thread_id, count, walk, own_tasks):
        """No task and no request is left, and the session's one connection serves the next call."""
        session = await open_session(emulator, max_connections=1)
        emulator.delay = 0.02
        before = own_tasks()
        await take(getattr(session.runs.list(thread_id, limit=10), walk)(), count)
        assert own_tasks() == before
        emulator.delay = 0.0
        assert (await session.threads.retrieve(thread_id, timeout=2)).id == thread_id

    async def test_a_walk_dropped_without_closing_leaks_nothing(self, session, emulator, thread_id, own_tasks):
        """A plain `break` leaves the generator to the collector and the loop, which close it."""
        before = own_tasks()
        async for _ in session.runs.list(thread_id, limit=10):
            break
        gc.collect()
        await settle()
        assert own_tasks() == before

    async def test_cancelling_the_consumer_cancels_the_request(self, session, emulator, thread_id, own_tasks):
        """The task that walks is gone at once, and so is what it asked for."""
        emulator.delay = 30.0
        before = own_tasks()
        walking = asyncio.create_task(session.runs.list(thread_id).collect())
        await settle()
        walking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walking
        assert own_tasks() == before
        emulator.delay = 0.0

    async def test_a_prefetch_that_fails_after_the_walk_was_left_is_quiet(self, caplog):
        """No error is reported that no one asks for any more."""
        pager, _ = script(page("a", "b"), NotFoundError("gone", status=404))
        walk = aiter(pager)
        await anext(walk)
        await anext(walk)
        for _ in range(5):
            await asyncio.sleep(0)
        await walk.aclose()
        gc.collect()
        assert caplog.messages == []

    @pytest.mark.parametrize("fails", [True, False])
    async def test_a_prefetch_that_is_cancelled_is_quiet(self, caplog, fails):
        """Whether it ends as it is told to, or fails over that."""
        shelf = Shelf(30)

        async def fetch(query):
            try:
                data = await shelf.fetch(query)
                await asyncio.sleep(0 if query.after is None else 60)
            except asyncio.CancelledError:
                raise NotFoundError("gone", status=404) if fails else asyncio.CancelledError from None
            return data

        listing = Listing(fetch=fetch, read=read_threads, split=split_page, cut=cut_page, peek=peek_cursor)
        walk = aiter(AsyncCursorPager(listing, PageQuery(limit=10, order="asc", after=None, before=None)))
        for _ in range(6):
            await anext(walk)
        await settle()
        await walk.aclose()
        gc.collect()
        assert len(shelf.queries) == 2
        assert caplog.messages == []


class TestProperties:
    """Laws over a listing in memory."""

    @given(
        count=st.integers(0, 60),
        limit=st.integers(1, 20),
        cut=st.integers(0, 60),
        order=st.sampled_from(["asc", "desc"]),
    )
    def test_any_page_size_and_any_cut_give_the_same_items(self, count, limit, cut, order):
        """Walk some way, go on from the cursor with another page size: the whole, once, in order."""

        async def walk():
            shelf = Shelf(count)
            expected = shelf.ids if order == "asc" else shelf.ids[::-1]
            pager = shelf.pager(limit=limit, order=order)
            begun = await take(aiter(pager), cut) if cut else []
            rest = await shelf.pager(limit=limit % 7 + 1, order=order, after=pager.cursor).collect()
            return ids_of(begun + rest), expected

        walked, expected = asyncio.run(walk())
        assert walked == expected

    @given(count=st.integers(1, 60), limit=st.integers(1, 20), data=st.data())
    def test_backwards_is_the_reverse_of_forwards(self, count, limit, data):
        """From any point, and with any total."""
        point = data.draw(st.integers(0, count - 1))
        max_items = data.draw(st.none() | st.integers(0, 60))

        async def walk():
            shelf = Shelf(count)
            pager = shelf.pager(limit=limit, before=shelf.ids[point], max_items=max_items)
            return ids_of([item async for item in pager]), shelf.ids[:point][::-1][:max_items]

        walked, expected = asyncio.run(walk())
        assert walked == expected

    @given(count=st.integers(1, 40), limit=st.integers(1, 10), silent=st.booleans(), no_cursors=st.booleans())
    def test_what_a_server_leaves_out_changes_nothing(self, count, limit, silent, no_cursors):
        """Without `has_more` a short page ends the walk; without `last_id` the items' own ids lead on."""

        def frame(page):
            dropped = {"has_more"} if silent else set()
            dropped |= {"first_id", "last_id"} if no_cursors else set()
            return {name: value for name, value in page.items() if name not in dropped}

        async def walk():
            shelf = Shelf(count, frame)
            return ids_of(await shelf.pager(limit=limit).collect()), shelf

        walked, shelf = asyncio.run(walk())
        assert walked == shelf.ids
        assert len(shelf.queries) == (count // limit + 1 if silent else -(-count // limit))


class TestListsThatLie:
    """A walk ends when the server says so, or with an error that says what is wrong."""

    async def test_a_cursor_that_repeats_is_a_loop(self):
        """At the first repeat, with what was handed out before."""
        pager, cursors = script(page("a", "b"), page("c", "d"), page("a", "b"))
        seen = []

        async def walk():
            async for item in pager:
                seen.append(item.id)

        with pytest.raises(PaginationLoopError, match="'b', which was already used") as caught:
            await walk()
        assert seen == ["a", "b", "c", "d"]
        assert (caught.value.cursor, caught.value.partial_count) == ("b", 4)
        assert cursors == [None, "b", "d"]

    async def test_a_page_that_repeats_at_once_is_a_loop(self):
        """A server that ignores the cursor is asked twice, not for ever."""
        pager, cursors = script(page("a", "b", last_id="b"), page("a", "b", last_id="b"))
        with pytest.raises(PaginationLoopError):
            await pager.collect()
        assert cursors == [None, "b"]
        assert pager.cursor == "b"

    async def test_backwards_loops_are_seen_too(self):
        """There the first item leads on."""
        pager, cursors = script(page("y", "z"), page("y", "z"), before="zz")
        with pytest.raises(PaginationLoopError) as caught:
            await pager.collect()
        assert caught.value.cursor == "y"
        assert cursors == ["zz", "y"]

    @pytest.mark.parametrize("last_id", [None, ""])
    async def test_more_without_a_cursor_is_a_stall(self, last_id):
        """An empty page that promises more and names nothing."""
        pager, _ = script(page("a", "b"), page(last_id=last_id))
        with pytest.raises(PaginationStalledError, match="named no item to continue after") as caught:
            await pager.collect()
        assert (caught.value.cursor, caught.value.partial_count) == ("b", 2)

    async def test_an_empty_page_with_a_cursor_is_followed(self):
        """`last_id` is believed where there are no items."""
        pager, cursors = script(page("a", "b"), page(last_id="x"), page(last_id="y"), page("c", has_more=False))
        assert ids_of(await pager.collect()) == ["a", "b", "c"]
        assert cursors == [None, "b", "x", "y"]

    async def test_empty_pages_without_end_are_a_stall(self):
        """After sixteen in a row."""
        pages = [page("a", "b"), *(page(last_id=f"x{n}") for n in range(40))]
        pager, cursors = script(*pages)
        with pytest.raises(PaginationStalledError, match=f"{MAX_EMPTY_PAGES} pages in a row held nothing new"):
            await pager.collect()
        assert len(cursors) <= 2 + MAX_EMPTY_PAGES

    async def test_a_last_empty_page_ends_the_walk(self):
        """However many empty ones came before it."""
        empty = [page(last_id=f"x{n}") for n in range(MAX_EMPTY_PAGES - 1)]
        pager, _ = script(page("a", "b"), *empty, page(has_more=False))
        assert ids_of(await pager.collect()) == ["a", "b"]

    async def test_items_that_come_twice_are_dropped_and_counted(self):
        """Across pages and within one, for items, pages and bytes."""
        make = lambda: script(page("a", "b"), page("b", "c"), page("d", "d", has_more=False))  # noqa: E731
        pager, _ = make()
        assert ids_of([item async for item in pager]) == ["a", "b", "c", "d"]
        assert pager.duplicates_dropped == 2
        pager, _ = make()
        assert [ids_of(one.data) async for one in pager.pages()] == [["a", "b"], ["c"], ["d"]]
        assert pager.duplicates_dropped == 2
        pager, _ = make()
        assert ids_of([blob async for blob in pager.raw()]) == ["a", "b", "c", "d"]
        pager, _ = make()
        assert ids_of(await pager.collect()) == ["a", "b", "c", "d"]
        assert pager.duplicates_dropped == 2

    async def test_an_item_that_comes_twice_on_the_first_page(self):
        """It is dropped and counted where only that page is asked for, too."""
        pager, _ = script(page("a", "b", "a", "c"))
        assert ids_of((await pager).data) == ["a", "b", "c"]
        assert pager.duplicates_dropped == 1

    async def test_old_ids_are_forgotten_and_near_ones_are_not(self):
        """What is remembered is bounded: a very long walk does not grow."""
        shelf = Shelf(0)
        shelf.ids = [f"t{n}" for n in range(9000)]
        pager = shelf.pager(limit=100)
        assert len(await pager.collect()) == 9000
        pages = [page(*(f"t{n}" for n in range(at, at + 100))) for at in range(0, 9000, 100)]
        pages += [page("t8000", "t0", has_more=False)]
        pager, _ = script(*pages, limit=100)
        assert len(await pager.collect()) == 9001
        assert pager.duplicates_dropped == 1

    @pytest.mark.parametrize("max_items", [1, 3, 5])
    async def test_a_total_holds_where_the_server_ignores_the_limit(self, max_items):
        """A page that holds more than was asked for is cut."""
        pager, _ = script(page("a", "b", "c", "d"), page("e", "f", "g", "h"), max_items=max_items)
        assert ids_of(await pager.collect()) == ["a", "b", "c", "d", "e"][:max_items]
        assert pager.cursor == "abcde"[max_items - 1]

    @pytest.mark.parametrize("bound", ["c", "d"])
    async def test_a_bound_holds_where_the_server_ignores_it(self, bound):
        """A server that knows only `after` sends on past `before`; the walk ends there all the same."""
        pager, cursors = script(page("a", "b"), page("c", "d"), page("e", has_more=False), after="0", before=bound)
        cursors.clear()
        walked = ids_of(await pager.collect())
        assert walked == {"c": ["a", "b"], "d": ["a", "b", "c"]}[bound]

    async def test_a_last_id_that_is_not_the_last_item_is_not_believed(self):
        """The item's own id leads on; what was asked for by the wrong one is thrown away."""
        shelf = Shelf(35, lambda page: page | {"last_id": "t000" if page["last_id"] else None})
        assert ids_of(await shelf.pager().collect()) == shelf.ids
        wrong = [query for query in shelf.queries if query.after == "t000"]
        assert len(wrong) <= 1

    async def test_a_tail_that_promises_more_than_the_page_is_not_followed(self):
        """The guess is only a guess: the page itself decides, and what was asked ahead is cancelled."""
        shelf = Shelf(30)

        async def fetch(query):
            data = await shelf.fetch(query)
            return data[:-1] + b', "x": {"last_id": "t005", "has_more": true}}'

        listing = Listing(fetch=fetch, read=read_threads, split=split_page, cut=cut_page, peek=peek_cursor)
        query = PageQuery(limit=10, order="asc", after=None, before=None)
        assert ids_of(await AsyncCursorPager(listing, query).collect()) == shelf.ids
        await settle()
        assert shelf.fetching == 0


class TestLostCursors:
    """The item at the cursor may be deleted while the walk goes on."""

    async def test_goes_on_from_an_earlier_item(self):
        """Nothing lost, nothing twice."""
        shelf = Shelf(30)
        seen = []
        async for item in shelf.pager():
            seen.append(item.id)
            if item.id == "t003":
                shelf.gone |= {"t009", "t008"}
        assert seen == shelf.ids

    @pytest.mark.parametrize(
        ("query", "gone"), [({"after": "t000"}, {"t000", "t010"}), ({"before": "t029"}, {"t029", "t019"})]
    )
    async def test_goes_on_where_its_first_cursor_is_gone_as_well(self, query, gone):
        """What tells a lost cursor from a listing that is gone is the listing's beginning, not the walk's."""
        shelf = Shelf(30)
        seen = []
        async for item in shelf.pager(**query):
            seen.append(item.id)
            if len(seen) == 2:
                shelf.gone |= gone
        assert seen == (shelf.ids[1:] if "after" in query else shelf.ids[-2::-1])

    async def test_gives_up_when_all_earlier_items_are_gone(self):
        """With the cursor and the count, after a bounded number of tries."""
        shelf = Shelf(60)
        pager = shelf.pager(limit=20)

        async def walk():
            async for item in pager:
                if item.id == "t003":
                    shelf.gone |= set(shelf.ids[:20])

        with pytest.raises(CursorLostError, match="those before it are gone") as caught:
            await walk()
        assert (caught.value.cursor, caught.value.partial_count) == ("t019", 20)
        assert len(shelf.queries) == 1 + 1 + 1 + 16

    async def test_a_refusal_at_the_beginning_stays_what_it_is(self):
        """Without a first page there is no cursor that could have been lost."""
        shelf = Shelf(5)
        shelf.gone.add("t001")
        with pytest.raises(NotFoundError):
            await shelf.pager(after="t001").collect()
        assert len(shelf.queries) == 1

    async def test_a_listing_that_is_gone_is_no_lost_cursor(self):
        """Where even its beginning is refused, that refusal is raised."""
        pager, cursors = script(
            page("a", "b"), BadRequestError("no", status=400), NotFoundError("no thread", status=404)
        )
        with pytest.raises(NotFoundError, match="no thread"):
            await pager.collect()
        assert cursors == [None, "b", None]

    async def test_over_a_socket(self, session, emulator):
        """A message deleted at the cursor between two pages."""
        thread = await session.threads.create(messages=[{"role": "user", "content": str(n)} for n in range(10)])
        texts = []
        async for message in session.messages.list(thread.id, order="asc", limit=4):
            texts.append(message.text)
            if message.text == "0":
                fourth = (await session.messages.list(thread.id, order="asc", limit=4)).data[-1]
                await session.messages.delete(thread.id, fourth.id)
        assert texts == [str(n) for n in range(10)]


async def test_items_of_another_thread_are_an_error(server, scripted_session):
    """A page that holds another thread's run is about something else."""
    run = {"id": "run_1", "thread_id": "thread_2", "status": "queued"}
    server.reply({"data": [run], "has_more": False})
    with pytest.raises(IdentityMismatchError):
        await scripted_session.runs.list("thread_1").collect()


async def test_items_of_another_thread_are_allowed_on_the_callers_word(server, open_session):
    """For gateways that rewrite ids."""
    session = await open_session(server, check_identity=False)
    run = {"id": "run_1", "thread_id": "thread_2", "status": "queued"}
    server.reply({"data": [run], "has_more": False})
    assert await session.runs.list("thread_1").collect() == [Run(**run)]

"""Listings: any page size, both orders, both cursors give the same items, each once."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncruns.emulator._store import Form, Listing, Resource, Store

TIMES = st.lists(st.integers(0, 5), max_size=30)
LIMITS = st.integers(1, 7)
ORDERS = st.sampled_from(["asc", "desc"])


def listing_of(times):
    """Return a listing of resources made at these seconds, and its ids oldest first."""
    listing, store = Listing(), Store(Random(0))
    for number, time in enumerate(times):
        listing.add(Resource(f"x{number}", store.place(time), {}))
    ids = [f"x{number}" for number, _ in sorted(enumerate(times), key=lambda pair: (pair[1], pair[0]))]
    return listing, ids


@given(TIMES, LIMITS, ORDERS)
def test_forward_walk_gives_every_item_once(times, limit, order):
    """Following `after` shows all items in the requested order, and has_more tells the end."""
    listing, ids = listing_of(times)
    seen, after, more = [], None, True
    while more:
        page, more = listing.page(limit=limit, order=order, after=after)
        assert len(page) == limit or not more
        seen += [item.id for item in page]
        after = page[-1] if page else None
    assert seen == (ids if order == "asc" else ids[::-1])


@given(TIMES.filter(bool), LIMITS, ORDERS, st.data())
def test_backward_walk_gives_what_lies_before(times, limit, order, data):
    """Following `before` shows the pages that end next to the cursor, back to the first item."""
    listing, ids = listing_of(times)
    walk = ids if order == "asc" else ids[::-1]
    start = data.draw(st.integers(0, len(walk) - 1))
    seen, before, more = [], listing.get(walk[start]), True
    while more:
        page, more = listing.page(limit=limit, order=order, before=before)
        seen = [item.id for item in page] + seen
        before = page[0] if page else before
    assert seen == walk[:start]


@given(TIMES.filter(bool), LIMITS, ORDERS, st.data())
def test_both_cursors_are_bounds(times, limit, order, data):
    """`after` and `before` together give what lies strictly between, from the side of `after`."""
    listing, ids = listing_of(times)
    walk = ids if order == "asc" else ids[::-1]
    low, high = (data.draw(st.integers(0, len(walk) - 1)) for _ in range(2))
    page, more = listing.page(limit=limit, order=order, after=listing.get(walk[low]), before=listing.get(walk[high]))
    between = walk[low + 1 : high]
    assert ([item.id for item in page], more) == (between[:limit], len(between) > limit)


@given(TIMES.filter(bool), LIMITS, ORDERS)
def test_a_filter_pages_over_what_it_keeps(times, limit, order):
    """With a filter, page size and has_more count only the items kept."""
    listing, ids = listing_of(times)
    kept = [id for id in ids if int(id[1:]) % 2]
    page, more = listing.page(limit=limit, order=order, keep=lambda item: int(item.id[1:]) % 2 == 1)
    walk = kept if order == "asc" else kept[::-1]
    assert ([item.id for item in page], more) == (walk[:limit], len(kept) > limit)


@given(TIMES.filter(bool), st.data())
def test_removing_forgets_one_item(times, data):
    """Removing an item leaves all others in place."""
    listing, ids = listing_of(times)
    gone = data.draw(st.sampled_from(ids))
    listing.remove(listing.get(gone))
    assert [item.id for item in listing.items()] == [id for id in ids if id != gone]
    assert (listing.get(gone), len(listing)) == (None, len(ids) - 1)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 3, 12, 100])
async def test_walks_over_the_wire(wire, order, limit):
    """A walk by last_id over a real socket gives all runs, though most share their creation second."""
    [thread_id] = wire.emulator.fill(threads=1, runs_per_thread=12)
    seen, query, more = [], {}, True
    while more:
        page = await wire.get(f"/threads/{thread_id}/runs", limit=limit, order=order, **query)
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        seen += [run["id"] for run in page["data"]]
        query, more = {"after": page["last_id"]}, page["has_more"]
    times = [run["created_at"] for run in (await wire.get(f"/threads/{thread_id}/runs", limit=100))["data"]]
    assert len(seen) == len(set(seen)) == 12
    assert times == sorted(times, reverse=True)


async def test_runs_of_one_second_keep_their_order(wire):
    """Runs created in the same second are listed newest first by order of creation."""
    thread = await wire.thread("x")
    paths = []
    for _ in range(5):
        paths.append(await wire.run(thread))
        wire.emulator.clock.advance(0.11)
    data = (await wire.get(f"{thread}/runs"))["data"]
    assert len({run["created_at"] for run in data}) == 1
    assert [f"{thread}/runs/{run['id']}" for run in data] == paths[::-1]


async def test_an_empty_list_has_null_ids(wire):
    """An empty page names neither a first nor a last id, as real servers answer."""
    page = await wire.get(f"{await wire.thread()}/runs")
    assert page == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_unknown_cursor(wire, cursor):
    """A cursor that nobody has is an error, never the first page again."""
    reply = await wire.send("GET", f"{await wire.thread()}/runs", params={cursor: "run_x"})
    assert (reply.status, reply.error[0]) == (404, "No run found with id 'run_x'.")


def test_a_form_is_written_out_when_read():
    """A resource made from a form has the same JSON and body, and can be changed."""
    resource = Resource("x", (0, 0), Form('{"id":"%(id)s","n":%(n)d}', {"id": "x", "n": 3}))
    assert resource.json() == b'{"id":"x","n":3}'
    resource.change(n=4)
    assert (resource.json(), resource.body) == (b'{"id":"x","n":4}', {"id": "x", "n": 4})

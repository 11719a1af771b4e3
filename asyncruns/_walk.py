"""One walk of a listing, page by page: it asks ahead, and says so when it cannot come to the end. Knows no HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

import attrs

from asyncruns._arguments import Order
from asyncruns._slices import RawItem
from asyncruns.errors import (
    BadRequestError,
    CursorLostError,
    NotFoundError,
    PaginationLoopError,
    PaginationStalledError,
)
from asyncruns.models import Page

T = TypeVar("T")
U = TypeVar("U")

MAX_EMPTY_PAGES = 16
"""Empty pages in a row that are followed while the cursor still moves."""
MAX_LOST_CURSORS = 16
"""Earlier items of a page that are tried when the item at the cursor was deleted."""
_REMEMBERED_IDS = 4096


@attrs.frozen(kw_only=True)
class PageQuery:
    """Which page to ask for, in the words of the wire.

    Attributes:
        limit: Items asked for, 1 to 100.
        order: `asc` or `desc` by creation.
        after: Id that the page continues after, or None.
        before: Id that the page ends before, or None.
    """

    limit: int
    order: Order
    after: str | None
    before: str | None


Fetch = Callable[[PageQuery], Awaitable[bytes]]
Read = Callable[[bytes], tuple[Page[T], Sequence[str]]]
"""Reads a page, and the id of each of its items."""
Peek = Callable[[bytes, str], str | None]


@attrs.frozen(kw_only=True)
class Listing(Generic[T]):
    """What a pager needs of a listing.

    Attributes:
        fetch: Asks for one page and gives its bytes.
        read: Reads a page into objects.
        split: Cuts a page into the bytes of its items.
        cut: Does so and reads a little of each.
        peek: Guesses the next cursor from the last bytes of a page.
    """

    fetch: Fetch
    read: Read[T]
    split: Read[bytes]
    cut: Read[RawItem]
    peek: Peek


class Walk(Generic[U]):
    """One walk of a listing: where it stands, what it has seen, and the page under way."""

    def __init__(
        self, listing: Listing[Any], read: Read[U], query: PageQuery, max_items: int | None, *, ahead: bool = True
    ) -> None:
        self.ids: Sequence[str] = ()
        self.duplicates_dropped = 0
        self._listing = listing
        self._read = read
        self._query = query
        self._backwards = query.after is None and query.before is not None
        self._cursor = query.before if self._backwards else query.after
        self._remaining = max_items
        self._ended = max_items == 0
        self._seen_cursors = {self._cursor}
        self._recent: dict[str, None] = {}
        self._pages = 0
        self._given = 0
        self._ahead: tuple[str | None, asyncio.Task[bytes]] | None = None
        self._asks_ahead = ahead
        self._tail_is_right = ahead

    async def next(self) -> Page[U] | None:
        """Return the next page that holds something new, or None at the end."""
        empty = 0
        while not self._ended:
            limit = self._limit()
            data = await self._arrived(limit)
            self._pages += 1
            if self._pages > 1 and self._guess_ahead(data):
                await asyncio.sleep(0)  # lets the request leave before this page is read
            page, ids = self._read(data)
            del data
            self._advance(page, ids, limit)
            page = self._fresh(page, ids)
            if page.data or (self._ended and self._pages == 1):
                if self._pages > 1:
                    self.ask_ahead()
                return page
            empty += 1
            if empty == MAX_EMPTY_PAGES and not self._ended:
                raise self._stalled(f"{MAX_EMPTY_PAGES} pages in a row held nothing new")
        return None

    def ask_ahead(self) -> None:
        """Ask for the next page now, unless it is under way or there is none."""
        if self._ahead is None and not self._ended and self._asks_ahead:
            self._ask(self._cursor, self._limit())

    async def close(self) -> None:
        """Cancel the request under way and wait until it is gone."""
        if self._ahead is not None:
            _, task = self._ahead
            self._ahead = None
            task.cancel()
            await asyncio.wait([task])

    def _limit(self) -> int:
        return self._query.limit if self._remaining is None else min(self._query.limit, self._remaining)

    def _ask(self, cursor: str | None, limit: int) -> None:
        task = asyncio.create_task(self._fetch(cursor, limit))
        task.add_done_callback(_note_outcome)
        self._ahead = cursor, task

    async def _fetch(self, cursor: str | None, limit: int) -> bytes:
        query = self._query
        after, before = (query.after, cursor) if self._backwards else (cursor, query.before)
        return await self._listing.fetch(PageQuery(limit=limit, order=query.order, after=after, before=before))

    async def _arrived(self, limit: int) -> bytes:
        """Return the page at the cursor, from the request under way if there is one."""
        try:
            if self._ahead is None:
                return await self._fetch(self._cursor, limit)
            _, task = self._ahead
            data = await task
            self._ahead = None
            return data
        except (NotFoundError, BadRequestError) as error:
            self._ahead = None
            if not self._recent:
                raise
            refused = error
        return await self._from_earlier(refused, limit)

    async def _from_earlier(self, refused: NotFoundError | BadRequestError, limit: int) -> bytes:
        """Go on from an item before the one at the cursor, which may have been deleted meanwhile.

        What comes twice by that is dropped as any duplicate is. The first request asks for the listing's own
        beginning: where that is refused too, the listing is gone and not the cursor.
        """
        await self._listing.fetch(attrs.evolve(self._query, limit=1, after=None, before=None))
        for earlier in islice(reversed(self._recent), 1, MAX_LOST_CURSORS + 1):
            try:
                return await self._fetch(earlier, limit)
            except (NotFoundError, BadRequestError):
                continue
        raise CursorLostError(
            f"The listing cannot be continued: the item at its cursor and those before it are gone ({refused}).",
            cursor=self._cursor,
            partial_count=self._given,
        )

    def _guess_ahead(self, data: bytes) -> bool:
        """Ask for the page after *data* before *data* is read, if its tail names the cursor; False if not."""
        if not self._tail_is_right or (self._remaining is not None and self._remaining <= 2 * self._query.limit):
            return False
        guess = self._listing.peek(data, "first_id" if self._backwards else "last_id")
        if guess is None or guess in self._seen_cursors:
            return False
        self._ask(guess, self._limit())
        return True

    def _advance(self, page: Page[U], ids: Sequence[str], limit: int) -> None:
        """Decide from a page whether the walk ends, and else where it goes on."""
        bound = None if self._backwards else self._query.before
        more = len(page.data) >= limit if page.has_more is None else page.has_more
        if not more or bound in ids:
            self._ended = True
        else:
            self._cursor = self._next_cursor(page, ids)
            self._seen_cursors.add(self._cursor)
        if self._ahead is not None and (self._ended or self._ahead[0] != self._cursor):
            self._tail_is_right = self._ended
            self._ahead[1].cancel()
            self._ahead = None

    def _next_cursor(self, page: Page[U], ids: Sequence[str]) -> str:
        named = page.first_id if self._backwards else page.last_id
        edge = (ids[0] if self._backwards else ids[-1]) if ids else ""
        cursor = edge or named
        if not cursor:
            raise self._stalled("it promised more and named no item to continue after")
        if cursor in self._seen_cursors:
            raise PaginationLoopError(
                f"The listing goes round: the server led back to {cursor!r}, which was already used.",
                cursor=cursor,
                partial_count=self._given,
            )
        return cursor

    def _fresh(self, page: Page[U], ids: Sequence[str]) -> Page[U]:
        """Return the page in walking order, without what came before and beyond the bounds; keep its ids."""
        data = page.data
        if self._backwards:
            data, ids = data[::-1], ids[::-1]
        bound = None if self._backwards else self._query.before
        if bound in ids:
            end = ids.index(bound)
            data, ids = data[:end], ids[:end]
        if not self._recent.keys().isdisjoint(ids) or len(set(ids)) < len(ids):
            data, ids = self._without_duplicates(data, ids)
        if self._remaining is not None:
            data, ids = data[: self._remaining], ids[: self._remaining]
            self._remaining -= len(data)
            self._ended = self._ended or self._remaining == 0
        self._remember(ids)
        self.ids = ids
        self._given += len(data)
        return page if data is page.data else attrs.evolve(page, data=data)

    def _without_duplicates(self, data: Sequence[U], ids: Sequence[str]) -> tuple[tuple[U, ...], list[str]]:
        kept: dict[str, U] = {}
        for item, id in zip(data, ids, strict=True):
            if id in kept or id in self._recent:
                self.duplicates_dropped += 1
            else:
                kept[id] = item
        return tuple(kept.values()), list(kept)

    def _remember(self, ids: Sequence[str]) -> None:
        self._recent.update(dict.fromkeys(ids))
        if len(self._recent) > 2 * _REMEMBERED_IDS:
            for old in list(islice(self._recent, len(self._recent) - _REMEMBERED_IDS)):
                del self._recent[old]

    def _stalled(self, why: str) -> PaginationStalledError:
        return PaginationStalledError(
            f"The listing cannot be continued: {why}.", cursor=self._cursor, partial_count=self._given
        )


def _note_outcome(task: asyncio.Task[bytes]) -> None:
    """Look at the task's exception, so that asyncio does not report one that no walk asks for any more."""
    if not task.cancelled():
        task.exception()

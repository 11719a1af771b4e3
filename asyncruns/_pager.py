"""A listing, walked page by page as it is consumed. Knows no HTTP."""

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from itertools import islice
from typing import Generic, TypeVar

from asyncruns._arguments import check_count
from asyncruns._slices import RawItem
from asyncruns._walk import Listing, PageQuery, Read, Walk
from asyncruns.models import Page

T = TypeVar("T")
U = TypeVar("U")


class AsyncCursorPager(Generic[T]):
    """A listing, walked page by page as it is consumed. Nothing is sent until it is used.

    `async for item in pager` gives every item of every page, `pager.pages()` the pages, `pager.raw()` each item's
    bytes, `await pager` the first page, `await pager.collect()` a list. Each walk starts again from the first cursor.

    From the second page on, the next page is asked for as soon as one arrives; while the first is used, only once half
    of it is. At most two pages are in memory. Leaving a walk early cancels what is under way and leaks nothing
    (at once inside `contextlib.aclosing`, else when the generator is collected).

    A walk ends when the server says so, or, from a server that says nothing, at a page that is not full. It
    never ends silently otherwise: see the errors of `__aiter__`.

    Attributes:
        cursor: Id of the last item handed out; before that, the id the walk starts from, or None. Pass it as `after=`
            (`before=` for a walk that was given only `before=`) to go on later, in another process too.
        duplicates_dropped: Items of the walks so far that came a second time and were dropped.
    """

    def __init__(self, listing: Listing[T], query: PageQuery, max_items: int | None = None) -> None:
        self._listing = listing
        self._query = query
        self._max_items = max_items
        self.cursor = query.before if query.after is None else query.after
        self.duplicates_dropped = 0

    def __await__(self) -> Generator[object, None, Page[T]]:
        return self._first_page().__await__()

    def __aiter__(self) -> AsyncGenerator[T, None]:
        """Yield every item of the listing; the next page is fetched while the present one is used.

        Raises:
            PaginationLoopError: The server led back to a cursor already used.
            PaginationStalledError: The server promised more and gave no new cursor.
            CursorLostError: The item at the cursor is gone, and so are those before it.
            IdentityMismatchError: An item belongs to another thread or run.
            StatusError: A page was refused; the items yielded so far stay valid.
        """
        return self._items(self._listing.read)

    def raw(self) -> AsyncGenerator[bytes, None]:
        """Yield the JSON bytes of every item exactly as sent: lossless, and many times faster than objects.

        An item is JSON in UTF-8 with an `id`, and says of no other thread or run that it is theirs. No more is checked
        of it: not its other fields, how large its numbers are, whether a key is told twice, nor how deep it is nested,
        up to what Python reads at all (about 1,000 levels in 3.11, 10,000 in 3.13). Raises as `__aiter__`.
        """
        return self._items(self._listing.split)

    def pages(self) -> AsyncGenerator[Page[T], None]:
        """Yield every page, as `Page`; items that came a second time are dropped from it.

        A walk that was given only `before=` turns each page round, so that the nearest item comes first. With
        `max_items` the last page is cut. Raises as `__aiter__`.
        """
        return self._pages(self._listing.read)

    def raw_pages(self, *, ahead: bool = True) -> AsyncGenerator[Page[RawItem], None]:
        """Yield every page with its items as `RawItem`: the bytes of `raw`, and the little that is read of every one.

        Args:
            ahead: Whether the next page may be asked for while one is used. False: only when the consumer wants it.
        """
        return self._pages(self._listing.cut, ahead=ahead)

    async def _pages(self, read: Read[U], *, ahead: bool = True) -> AsyncGenerator[Page[U], None]:
        walk = self._walk(read, ahead=ahead)
        try:
            while (page := await walk.next()) is not None:
                if walk.ids:
                    self.cursor = walk.ids[-1]
                yield page
        finally:
            self.duplicates_dropped += walk.duplicates_dropped
            await walk.close()

    async def collect(self, max_items: int | None = None) -> list[T]:
        """Return the items as a list: all of them, or the first *max_items*. Raises as `__aiter__`."""
        limits = [n for n in (check_count("max_items", max_items), self._max_items) if n is not None]
        bounded = AsyncCursorPager(self._listing, self._query, min(limits, default=None))
        try:
            return [item async for item in bounded]
        finally:
            self.cursor = bounded.cursor
            self.duplicates_dropped += bounded.duplicates_dropped

    async def _first_page(self) -> Page[T]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                return page
        return Page()

    async def _items(self, read: Read[U]) -> AsyncGenerator[U, None]:
        walk = self._walk(read)
        try:
            while (page := await walk.next()) is not None:
                items = zip(page.data, walk.ids, strict=True)
                half = (len(page.data) + 1) // 2
                # Nothing of a page may live across the next await: the collector would look through it again
                # and again, which with many walks at once costs more than reading the pages.
                del page
                item: U | None = None
                for item, self.cursor in islice(items, half):
                    yield item
                walk.ask_ahead()
                for item, self.cursor in items:
                    yield item
                del item, items
        finally:
            self.duplicates_dropped += walk.duplicates_dropped
            await walk.close()

    def _walk(self, read: Read[U], *, ahead: bool = True) -> Walk[U]:
        return Walk(self._listing, read, self._query, self._max_items, ahead=ahead)

"""Walk one listing into the archive, from where it stands, and to its end."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

import attrs

from asyncruns import AsyncCursorPager, BadRequestError, CursorLostError, InvalidIdError, NotFoundError, Page
from asyncruns._slices import RawItem, read_item
from asyncruns.archive._facts import is_number, newest_first, settled
from asyncruns.archive._meeting import Meeting
from asyncruns.archive._records import Order, PageWrite, Walk, WalkState, Write
from asyncruns.archive._writer import Writer

PAGE_ITEMS = 100
_EARLIER_IDS = 16
_REFUSED = (NotFoundError, BadRequestError, InvalidIdError)  # by the server, or before anything was sent

MakePager = Callable[[Order, str | None, int | None], AsyncCursorPager[Any]]
"""Makes a pager in an order, behind a cursor, for a number of items (None: all)."""
Keep = Callable[[Page[RawItem]], Awaitable[bool]]


@attrs.define(kw_only=True)
class Walker:
    """One listing on its way into the archive.

    Attributes:
        writer: Where it goes.
        walk: Where it stands.
        pager: Makes pagers of it.
        calm: Awaited before each page; waits while everybody is to wait.
        counted: Called with how many items of a page are not in the archive for good already.
        arrived: Called with the items that came into the archive, page by page.
        beside: Gives what is to be written beside a page.
        probe: Whether to ask once more past the end.
        settles: Whether what it holds can no longer change once it was walked to the end.
        meeting: Where it meets the walk from the newest end; None: it goes alone.
        is_long: Called when more is behind the first page of a listing that was never walked before.
    """

    writer: Writer
    walk: Walk
    pager: MakePager
    calm: Callable[[], Awaitable[None]]
    counted: Callable[[int], None]
    arrived: Callable[[Sequence[RawItem]], Awaitable[None]]
    beside: Callable[[], Sequence[Write]]
    probe: bool
    settles: bool
    meeting: Meeting | None = None
    is_long: Callable[[], Awaitable[None]] | None = None
    # When the item before the next one came into being, where that is known.
    _moment: object = attrs.field(init=False, default=None)
    # Whether what is new was seen to come behind what is there.
    _is_in_order: bool = attrs.field(init=False)
    # Whether all comes once more.
    _is_again: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._is_in_order = self.walk.anchor is not None and self.walk.state in ("done", "open")
        self._is_again = self.walk.cursor is None and self.walk.position > 0

    async def to_end(self) -> None:
        """Bring all pages behind the cursor; may be called again after an error, and then goes on."""
        asked: set[str | None] = set()
        if self.walk.cursor is not None and not self._is_in_order:
            ends = await self.writer.call(lambda store: [*store.at_cursor(self.walk), *store.first(self.walk)])
            moments = [read_item(end).created_at for end in ends]
            self._is_in_order = len(moments) == 2 and _falls(moments)
            self._moment = moments[0] if moments else None
        while self.walk.cursor not in asked:
            asked.add(self.walk.cursor)
            before = self.walk.position
            await self._pages()
            if self.walk.position == before or not (self.probe or self._has_met):
                break
        if self.walk.state != self._end:
            await self._write(self._ended(self.walk))

    async def from_newest(self) -> None:
        """Bring pages from the newest end until nothing more is wanted from there; may be called again."""
        if self.meeting is not None and not self.meeting.is_over:
            await self._pages_behind("desc", self.meeting.newest.cursor, self._keep_newest)

    @property
    def _has_met(self) -> bool:
        """Whether the walk came to its meeting, and has yet to look behind it."""
        return self.meeting is not None and self.meeting.is_over and self.walk.state == "walking"

    async def _pages(self) -> None:
        cursor = self.walk.cursor
        try:
            await self._pages_behind("asc", cursor, self._keep)
        except CursorLostError:
            self._moment = None
            await self._pages_behind("asc", None, self._keep)  # What comes again by that changes nothing.
        except _REFUSED:
            if cursor is None:
                raise
            await self._pages_behind_earlier()

    async def _pages_behind_earlier(self) -> None:
        """Bring pages from the nearest item before the cursor that the server still has; that at the cursor is gone."""
        self._moment = None
        await self.pager("asc", None, 1)  # Refused too: the listing is gone and not the cursor.
        for id in await self.writer.call(lambda store: store.ids_before(self.walk, _EARLIER_IDS)):
            with suppress(*_REFUSED):
                return await self._pages_behind("asc", id, self._keep)
        return await self._pages_behind("asc", None, self._keep)

    async def _pages_behind(self, order: Order, cursor: str | None, keep: Keep) -> None:
        """Bring pages until there are no more, or *keep* says that it is enough."""
        async with aclosing(self._raw_pages(order, cursor)) as pages:
            await self.calm()
            async for page in pages:
                if page.data and await keep(page):
                    return
                await self.calm()

    def _raw_pages(self, order: Order, cursor: str | None) -> AsyncGenerator[Page[RawItem], None]:
        # Not ahead: a page that is asked for before the last one is safe would be asked for again after a crash.
        return self.pager(order, cursor, None).raw_pages(ahead=False)

    async def _keep(self, page: Page[RawItem]) -> bool:
        """Archive a page; True if the walk met the one from the newest end."""
        items = page.data
        ends, is_first = page.has_more is False and not self.probe, self.walk.cursor is None
        walk = self._behind(items, ends=ends)
        writes, met, brought = [PageWrite(walk=walk, items=items)], False, set[str]()
        if self.meeting is not None:
            brought = await self.meeting.taken(walk, items)
            met = self.meeting.is_at(items, brought) and not ends
            if met:
                walk = await self.meeting.behind(walk)
                writes.append(PageWrite(walk=walk))
        same = await self._same(items) if self._is_again else set[str]()
        await self._write(walk, *writes)
        self.counted(sum(item.id not in brought and item.id not in same for item in items))
        await self.arrived([item for item in items if item.id not in brought] if brought else items)
        if is_first and page.has_more and self.is_long is not None:
            await self.is_long()
        return met

    async def _keep_newest(self, page: Page[RawItem]) -> bool:
        """Archive what is new of a page from the newest end; True if the walks met, or this one is not sound."""
        meeting = self.meeting
        assert meeting is not None  # noqa: S101  # `from_newest` saw to it
        if meeting.is_over:
            return True
        items = page.data
        if not meeting.comes_newest_first(items):
            meeting.is_sound = False
            if meeting.newest.cursor is not None:  # No later export may trust what came of it, either.
                meeting.newest = attrs.evolve(meeting.newest, state="failed", reason="It does not come newest first.")
                await self.writer.write(PageWrite(walk=meeting.newest))
            return True
        brought = await meeting.taken(meeting.newest, items)
        fresh = [item for item in items if item.id not in brought]
        if fresh:
            meeting.newest = meeting.further(fresh)
            page_write = PageWrite(walk=meeting.newest, items=fresh)
            await self.writer.write(page_write, *self.beside())
        await meeting.written(meeting.newest)
        self.counted(len(fresh))
        await self.arrived(fresh)
        return len(fresh) < len(items)

    async def _same(self, items: Sequence[RawItem]) -> set[str]:
        """Return the ids of those *items* that the archive has just so, and that stay so."""
        lasting = [item for item in items if settled([item], self.walk)]
        return await self.writer.call(lambda store: store.same(self.walk, lasting))

    async def _write(self, walk: Walk, *writes: PageWrite) -> None:
        """Write pages and where the walk stands; its end ends the walk from the newest end, too."""
        closing: list[PageWrite] = []
        if self.meeting is not None and (self.meeting.is_over or walk.state != "walking"):
            self.meeting.is_over = True
            if self.meeting.newest.cursor is not None:
                self.meeting.newest = attrs.evolve(self.meeting.newest, state="done")
                closing.append(PageWrite(walk=self.meeting.newest))
        await self.writer.write(*(writes or [PageWrite(walk=walk)]), *closing, *self.beside())
        self.walk = walk
        if self.meeting is not None:
            await self.meeting.written(walk)

    def _behind(self, items: Sequence[RawItem], *, ends: bool) -> Walk:
        """Return where the walk stands behind these items."""
        walk = self.walk
        count = settled(items, walk)
        if walk.kind == "steps" and count < len(items):  # Of a run that ended, as it may well be.
            self.settles = False
        anchor = walk.anchor
        moments = [item.created_at for item in items]
        if is_number(self._moment):
            moments.insert(0, self._moment)
        self._moment = moments[-1]
        if _falls(moments):  # Whatever was asked for: what is new comes before all that there is.
            anchor = None
        elif anchor == walk.cursor and count:  # All so far is settled, and goes on so.
            anchor = items[count - 1].id
        backwards = moments[::-1]
        self._is_in_order = self._is_in_order or (_falls(backwards) and newest_first(backwards))
        position = walk.position + len(items)
        walk = attrs.evolve(walk, cursor=items[-1].id, anchor=anchor, position=position, state="walking", reason=None)
        return self._ended(walk) if ends else walk

    @property
    def _end(self) -> WalkState:
        return "done" if self.settles else "open"

    def _ended(self, walk: Walk) -> Walk:
        """Return *walk* at its end; a later one begins behind its anchor only where what is new comes behind that."""
        return attrs.evolve(walk, state=self._end, anchor=walk.anchor if self._is_in_order else None, reason=None)


def _falls(moments: Sequence[object]) -> bool:
    """Whether the first moment is later than the last, as far as they can be compared."""
    first, last = moments[0], moments[-1]
    return is_number(first) and is_number(last) and first > last

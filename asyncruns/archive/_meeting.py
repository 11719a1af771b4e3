"""Where two walks of one listing, from its oldest and from its newest end, meet.

The walk from the oldest end is the one that counts. That from the newest end brings a block of items and moves the
block's lower edge; once the first walk finds an item of the block it goes on behind it, with what came into being
since. Not an item of the moment at which the block ends: within a moment a server may have one order for both ends,
and the block then lacks what the first walk has not come to. If the second walk cannot be trusted or fails, the first
goes through to the end as if it were alone.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import attrs

from asyncruns._slices import RawItem
from asyncruns.archive._facts import is_number, newest_first, settled
from asyncruns.archive._records import FROM_NEWEST, Order, Walk, WalkState
from asyncruns.archive._store import Store
from asyncruns.archive._writer import Writer


@attrs.define
class Meeting:
    """What the two walks tell each other.

    Attributes:
        newest: Where the walk from the newest end stands.
        oldest_moment: When the item there came into being.
        is_sound: Whether it can be trusted: it came newest first, and did not fail.
        is_over: Whether nothing more is wanted of it.
    """

    writer: Writer
    newest: Walk
    oldest_moment: object = None
    is_sound: bool = True
    is_over: bool = False
    _coming: dict[Order, set[str]] = attrs.field(factory=lambda: {"asc": set(), "desc": set()})
    _landed: asyncio.Condition = attrs.field(factory=asyncio.Condition)

    async def taken(self, walk: Walk, items: Sequence[RawItem]) -> set[str]:
        """Say that *walk* is going to write *items*; return the ids among them that are the other walk's.

        Whoever says so must write, without the other's where it comes from the newest end.
        """
        ids = {item.id for item in items}
        if walk.order == "desc":
            coming, self._coming["desc"] = self._coming["asc"] & ids, ids
            return coming | await self._brought(walk, ids)
        self._coming["asc"] = ids
        if not ids.isdisjoint(self._coming["desc"]):
            async with self._landed:
                await self._landed.wait_for(lambda: ids.isdisjoint(self._coming["desc"]))
        return await self._brought(walk, ids) if self.newest.cursor is not None else set()

    async def written(self, walk: Walk) -> None:
        """Say that what *walk* was going to write is in the archive."""
        async with self._landed:
            self._coming[walk.order] = set()
            self._landed.notify_all()

    async def _brought(self, walk: Walk, ids: set[str]) -> set[str]:
        return await self.writer.call(partial(Store.of_other_end, walk=walk, ids=ids))

    def is_at(self, items: Sequence[RawItem], brought: set[str]) -> bool:
        """Whether the walk from the oldest end, now at *items*, met the block, of which it found those *brought*."""
        moments = [item.created_at for item in items if item.id in brought]
        return self.is_sound and not self.is_over and any(map(self._is_younger, moments))

    def _is_younger(self, moment: object) -> bool:
        return is_number(moment) and is_number(self.oldest_moment) and moment > self.oldest_moment

    async def behind(self, walk: Walk) -> Walk:
        """Return where the walk from the oldest end, now at *walk*, goes on: behind the newest item of the block."""
        self.is_over = True
        cursor = await self.writer.call(partial(Store.newest_of_block, walk=walk))
        if cursor is None:
            return walk
        # If all that *walk* brought is settled, then so is the block up to its anchor.
        anchor = (self.newest.anchor or walk.cursor) if walk.anchor == walk.cursor else walk.anchor
        return attrs.evolve(walk, cursor=cursor, anchor=anchor, position=FROM_NEWEST + 1)

    def further(self, items: Sequence[RawItem]) -> Walk:
        """Return where the walk from the newest end stands behind *items*, newest first.

        Its anchor is the newest of its items of which all older ones that it brought are settled. None: there is none.
        """
        walk = self.newest
        anchor = items[0].id if walk.cursor is None else walk.anchor
        for item in items:
            if not settled([item], walk):
                anchor = None
            elif anchor is None:
                anchor = item.id
        state: WalkState = "done" if self.is_over else "walking"
        return attrs.evolve(walk, cursor=items[-1].id, anchor=anchor, position=walk.position - len(items), state=state)

    def comes_newest_first(self, items: Sequence[RawItem]) -> bool:
        """Whether the items go on from the last ones in the order that was asked for."""
        moments = [item.created_at for item in items]
        if self.oldest_moment is not None:
            moments.insert(0, self.oldest_moment)
        self.oldest_moment = moments[-1]
        return newest_first(moments)

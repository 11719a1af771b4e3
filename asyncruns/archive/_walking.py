"""Walk one listing into the archive, from where it stands, and to its end."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import attrs
import msgspec

from asyncruns import (
    TERMINAL_STATUSES,
    AsyncCursorPager,
    BadRequestError,
    CursorLostError,
    IdentityMismatchError,
    NotFoundError,
    Page,
    SchemaError,
)
from asyncruns.archive._store import PageWrite, Walk, WalkState
from asyncruns.archive._writer import Writer

PAGE_ITEMS = 100
_EARLIER_IDS = 16


class Facts(msgspec.Struct):
    """What of an item a walk needs to know."""

    id: str
    status: Any = None
    thread_id: Any = None
    run_id: Any = None


_read_facts = msgspec.json.Decoder(Facts).decode

MakePager = Callable[[str | None, int | None], AsyncCursorPager[Any]]
"""Makes a pager behind a cursor, for a number of items (None: all)."""


@attrs.define(kw_only=True)
class Walker:
    """One listing on its way into the archive.

    Attributes:
        writer: Where it goes.
        walk: Where it stands.
        pager: Makes pagers of it.
        calm: Awaited before each page; waits while everybody is to wait.
        arrived: Called with the facts of each page that is in the archive.
        probe: Whether to ask once more past the end.
        check_identity: Whether items of another thread or run are an error.
        settles: Whether what it holds can no longer change once it was walked to the end.
    """

    writer: Writer
    walk: Walk
    pager: MakePager
    calm: Callable[[], Awaitable[None]]
    arrived: Callable[[Sequence[Facts]], Awaitable[None]]
    probe: bool = False
    check_identity: bool = True
    settles: bool = True

    async def to_end(self) -> None:
        """Bring all pages behind the cursor; may be called again after an error, and then goes on."""
        asked: set[str | None] = set()
        while self.walk.cursor not in asked:
            asked.add(self.walk.cursor)
            before = self.walk.position
            await self._pages()
            if not self.probe or self.walk.position == before:
                break
        state: WalkState = "done" if self.settles else "open"
        if self.walk.state != state:
            self.walk = attrs.evolve(self.walk, state=state, reason=None)
            await self.writer.write(PageWrite(walk=self.walk))

    async def _pages(self) -> None:
        try:
            await self._pages_behind(self.walk.cursor)
        except CursorLostError:
            await self._pages_behind(None)  # What comes again by that changes nothing.
        except (NotFoundError, BadRequestError):
            if self.walk.cursor is None:
                raise
            await self._pages_behind(await self._earlier_cursor())

    async def _earlier_cursor(self) -> str | None:
        """Return the nearest item before the cursor that the server still has; the one at the cursor is gone."""
        await self.pager(None, 1)  # Refused too: the listing is gone and not the cursor.
        for id in await self.writer.call(lambda store: store.ids_before(self.walk, _EARLIER_IDS)):
            try:
                await self.pager(id, 1)
            except (NotFoundError, BadRequestError):
                continue
            return id
        return None

    async def _pages_behind(self, cursor: str | None) -> None:
        async with aclosing(self._raw_pages(cursor)) as pages:
            await self.calm()
            async for page in pages:
                await self._keep(page, last=page.has_more is False)
                await self.calm()

    def _raw_pages(self, cursor: str | None) -> AsyncGenerator[Page[bytes], None]:
        # Not ahead: a page that is asked for before the last one is safe would be asked for again after a crash.
        return self.pager(cursor, None).raw_pages(ahead=False)

    async def _keep(self, page: Page[bytes], *, last: bool) -> None:
        facts = [self._checked(blob) for blob in page.data]
        if not facts:
            return
        ends = last and not self.probe
        walk = self._behind(facts, state=("done" if self.settles else "open") if ends else "walking")
        await self.writer.write(PageWrite(walk=walk, items=[(f.id, b) for f, b in zip(facts, page.data, strict=True)]))
        self.walk = walk
        await self.arrived(facts)

    def _behind(self, facts: Sequence[Facts], *, state: Any) -> Walk:
        """Return where the walk stands behind these items."""
        walk = self.walk
        anchor = walk.anchor
        if anchor == walk.cursor:  # Everything so far is settled: how far does that go on?
            for fact in facts:
                if not _is_settled(fact, walk):
                    break
                anchor = fact.id
        position = walk.position + len(facts)
        return attrs.evolve(walk, cursor=facts[-1].id, anchor=anchor, position=position, state=state, reason=None)

    def _checked(self, blob: bytes) -> Facts:
        try:
            facts: Facts = _read_facts(blob)
        except msgspec.DecodeError as error:
            raise SchemaError(f"An item of the listing has another shape: {error}", path="$.id") from None
        walk = self.walk
        for name, asked in (("thread_id", walk.thread_id), ("run_id", walk.run_id)):
            said = getattr(facts, name)
            if self.check_identity and (name == "thread_id" or walk.kind == "steps") and said not in (None, asked):
                raise IdentityMismatchError(
                    f"The listing of thread {walk.thread_id} holds an item of another: its {name} is {said!r}.",
                    expected=asked,
                    got=str(said),
                )
        return facts


def is_terminal(status: object) -> bool:
    """Whether a run with this status, which may be anything a server sends, will never change again."""
    return isinstance(status, str) and status in TERMINAL_STATUSES


def _is_settled(facts: Facts, walk: Walk) -> bool:
    if walk.kind == "runs":
        return is_terminal(facts.status)
    return bool(facts.status != "in_progress")

"""Which threads an export is to bring: those of a list, or all that the server lists."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial

from asyncruns import ArchiveError, InvalidIdError, Session, StatusError
from asyncruns.archive._patience import Patience
from asyncruns.archive._store import Store
from asyncruns.archive._walking import PAGE_ITEMS
from asyncruns.archive._writer import Writer

ThreadIds = Iterable[str] | AsyncIterable[str]

_STAGED_AT_ONCE = 1000
_NO_LISTING = (404, 405)


async def stage(
    writer: Writer,
    session: Session,
    thread_ids: ThreadIds | None,
    patience: Patience,
    *,
    allow_change: bool,
    probe: bool,
) -> int:
    """Take the threads into the archive, where they are not yet, and return how many there are.

    Args:
        writer: The archive.
        session: Lists the threads of the server, where none are given.
        thread_ids: The threads. None: all that the server lists.
        patience: Waits out what passes while the server lists them.
        allow_change: Whether they may be others than those that the archive was begun with.
        probe: Whether to ask the server once more past the end of its list; also if an earlier export did.

    Raises:
        ArchiveError: They are others, or none are given and the server cannot list them.
        TypeError, InvalidIdError: One of them is no text.
        AsyncRunsError: The server lists them no further.
    """
    ids: list[str] = []

    async def take(id: object) -> None:
        ids.append(_checked_id(id))
        if len(ids) == _STAGED_AT_ONCE:
            await writer.call(partial(Store.stage, ids=tuple(ids)))
            ids.clear()

    if thread_ids is None:
        listing = _Listing(session, probe=probe or (await writer.call(Store.asked)).probe)
        await patience.through(partial(listing.to_end, take), lambda: listing.count, of=listing)
    else:
        async with aclosing(_each(thread_ids)) as each:
            async for id in each:
                await take(id)
    await writer.call(partial(Store.stage, ids=ids))
    return await writer.call(partial(Store.settle, allow_change=allow_change, listed=thread_ids is None))


async def _each(thread_ids: ThreadIds) -> AsyncGenerator[object, None]:
    if isinstance(thread_ids, AsyncIterable):
        async for id in thread_ids:
            yield id
    else:
        for id in thread_ids:
            yield id


class _Listing:
    """The threads that the server lists, of which nothing but the id is read.

    Attributes:
        count: How many came.
    """

    def __init__(self, session: Session, *, probe: bool) -> None:
        self.count = 0
        self._session = session
        self._probe = probe
        self._last: str | None = None
        self._begun: set[str | None] = set()

    async def to_end(self, take: Callable[[str], Awaitable[None]]) -> None:
        """Have *take* take each thread behind the last that came."""
        threads = partial(self._session.threads.list, order="asc", limit=PAGE_ITEMS)
        while True:
            self._begun.add(self._last)
            try:
                async with aclosing(threads(after=self._last).raw_pages()) as pages:
                    async for page in pages:
                        for item in page.data:
                            await take(item.id)
                            self._last = item.id
                            self.count += 1
            except StatusError as error:
                if error.status not in _NO_LISTING or self._last is not None:
                    raise
                raise ArchiveError(
                    "The server lists no threads: say which there are (thread_ids=, --threads), or look whether "
                    f"base_url (OPENAI_BASE_URL) has its path. It answered {error}"
                ) from error
            if not self._probe or self._last in self._begun:
                return


def _checked_id(id: object) -> str:
    """Return *id* if an archive can hold it; whether it is one that a server takes shows later."""
    if not isinstance(id, str):
        raise TypeError(f"A thread id must be a string, not {type(id).__name__}.")
    try:
        id.encode()
    except UnicodeEncodeError:
        raise InvalidIdError(f"A thread id must be text; {id[:100]!a} is none.") from None
    return id

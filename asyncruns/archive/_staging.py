"""Which threads an export is to bring: those of a list, or all that the server lists."""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial

from asyncruns import InvalidIdError, Session
from asyncruns.archive._store import Store
from asyncruns.archive._walking import PAGE_ITEMS
from asyncruns.archive._writer import Writer

ThreadIds = Iterable[str] | AsyncIterable[str]

_STAGED_AT_ONCE = 1000


async def stage(writer: Writer, session: Session, thread_ids: ThreadIds | None, *, allow_change: bool) -> int:
    """Take the threads into the archive, where they are not yet, and return how many there are.

    Args:
        writer: The archive.
        session: Lists the threads of the server, where none are given.
        thread_ids: The threads. None: all that the server lists.
        allow_change: Whether they may be others than those that the archive was begun with.

    Raises:
        ArchiveError: They are others.
        TypeError, InvalidIdError: One of them is no text.
    """
    ids: list[str] = []
    async with aclosing(_each(session, thread_ids)) as each:
        async for id in each:
            ids.append(_checked_id(id))
            if len(ids) == _STAGED_AT_ONCE:
                await writer.call(partial(Store.stage, ids=ids))
                ids = []
    await writer.call(partial(Store.stage, ids=ids))
    return await writer.call(partial(Store.settle, allow_change=allow_change, listed=thread_ids is None))


async def _each(session: Session, thread_ids: ThreadIds | None) -> AsyncGenerator[object, None]:
    if thread_ids is None:
        async with aclosing(aiter(session.threads.list(order="asc", limit=PAGE_ITEMS))) as threads:
            async for thread in threads:
                yield thread.id
    elif isinstance(thread_ids, AsyncIterable):
        async for id in thread_ids:
            yield id
    else:
        for id in thread_ids:
            yield id


def _checked_id(id: object) -> str:
    """Return *id* if an archive can hold it; whether it is one that a server takes shows later."""
    if not isinstance(id, str):
        raise TypeError(f"A thread id must be a string, not {type(id).__name__}.")
    try:
        id.encode()
    except UnicodeEncodeError:
        raise InvalidIdError(f"A thread id must be text; {id[:100]!a} is none.") from None
    return id

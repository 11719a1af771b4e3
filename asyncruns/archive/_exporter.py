"""Fill an archive from a server: many walks at once, each to its end, whatever happens to the others."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import attrs

from asyncruns import (
    ArchiveError,
    AsyncCursorPager,
    AsyncRunsError,
    ConfigurationError,
    Session,
)
from asyncruns._slices import RawItem, read_item
from asyncruns.archive._facts import is_terminal
from asyncruns.archive._meeting import Meeting
from asyncruns.archive._options import Options, OptionWords, check_several
from asyncruns.archive._patience import FOR_ALL, ExportStopped, Patience, first_of
from asyncruns.archive._progress import Progress
from asyncruns.archive._records import (
    FROM_NEWEST,
    Asked,
    KnownThread,
    Order,
    PageWrite,
    ThreadState,
    ThreadWrite,
    Walk,
    Write,
)
from asyncruns.archive._schema import Kind
from asyncruns.archive._staging import ThreadIds, stage
from asyncruns.archive._store import Store
from asyncruns.archive._turns import Job, Turns
from asyncruns.archive._walking import PAGE_ITEMS, MakePager, Walker
from asyncruns.archive._writer import Writer

Arrived = Callable[[Sequence[RawItem]], Awaitable[None]]
ListPager = Callable[[str, Order, str | None, int | None], AsyncCursorPager[Any]]

_THREADS_AT_ONCE = 100
_RUNS_AT_ONCE = 1000


@attrs.define(eq=False)
class _Thread:
    """A thread on its way: what is still to be done for it, and what went wrong."""

    known: KnownThread
    open_jobs: int = 0
    listed: bool = False
    reason: str | None = None
    stored: ThreadState | None = None

    @property
    def id(self) -> str:
        return self.known.id

    def reopened(self) -> Sequence[Write]:
        """Return what makes a thread that was all brought one that is not, as long as more comes of it."""
        if self.known.state != "done" or self.stored:
            return ()
        self.stored = "listed"
        return (ThreadWrite(id=self.id, state="listed"),)


class Exporter:
    """Brings the histories of threads into an archive. It is run once; make a new one for each time.

    Args:
        session: An open session. A rate limit is its own: `Session(rate_limit=...)`.
        path: The archive. One that does not exist is made.
        options: What to bring. None: runs and steps.

    Attributes:
        progress: How far it is.
    """

    def __init__(self, session: Session, path: str | PathLike[str], options: Options | None = None) -> None:
        self.progress = Progress()
        self._session = session
        self._path = Path(path)
        self._options = options or Options()
        self._patience = Patience(self.progress)
        wanted = {"steps": self._options.steps, "messages": self._options.messages}
        self._left_out = [kind for kind, is_wanted in wanted.items() if not is_wanted]
        self._turns = Turns(self._options.concurrency, self._next_beginning)
        self._fresh: deque[KnownThread] = deque()
        self._last_fresh: int | None = 0
        self._is_begun = False
        self._unnoted: Asked | None = None  # What steps are to include, until that is written down.
        self._writer: Writer

    async def run(self, thread_ids: ThreadIds | None = None) -> Progress:
        """Bring everything that is new, and return how it went; cancelling keeps what came and can be gone on with.

        A thread that cannot be brought does not stop the others: it is counted, and its reason is kept here and in
        the archive. The next run tries it again.

        Args:
            thread_ids: The threads. None: all that the server lists, where it can; it may list more later.

        Raises:
            ArchiveLocked: Another process is filling the archive.
            ArchiveCorrupt: The file is no archive, or is damaged.
            ArchiveError: It cannot be written, or was begun with another list of threads, or none was given and the
                server lists none.
            AsyncRunsError: The server cannot be asked at all: no connection, a wrong key, no quota left.
            ConfigurationError: It was run before, or the session is not open.
            TypeError: The threads are not strings, or are one string.
        """
        check_several("thread_ids", thread_ids)
        if self._is_begun:
            raise ConfigurationError("An Exporter is run once: make a new one.")
        async with Writer(self._path) as self._writer:
            self._is_begun = True
            options = self._options
            try:
                self.progress.threads = await stage(
                    self._writer,
                    self._session,
                    thread_ids,
                    self._patience,
                    allow_change=options.allow_change,
                    probe=options.probe,
                )
            except ExportStopped as stopped:
                raise stopped.error from None
            await self._remember()
            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(self._options.concurrency):
                        workers.create_task(self._turns.work())
            except BaseExceptionGroup as group:
                raise first_of(group) from None
            if self._options.steps:
                await self._writer.call(Store.index_runs)
        return self.progress

    async def _remember(self) -> None:
        """Write down what is asked for; how steps are asked for stays as it ever was."""
        options = self._options
        asked = Asked(
            steps=options.steps,
            messages=options.messages,
            threads=options.threads,
            include=tuple(options.include) if options.steps else (),
            probe=options.probe,
        )
        asked = await self._writer.call(partial(Store.ask, asked=asked))
        self._options = attrs.evolve(options, include=asked.include, probe=asked.probe)
        self._unnoted = asked

    async def _next_beginning(self) -> Job | None:
        """Take the next thread of those that are to be brought."""
        if not self._fresh and self._last_fresh is not None:
            last, known = await self._writer.call(
                partial(Store.next_threads, after=self._last_fresh, limit=_THREADS_AT_ONCE)
            )
            self._fresh.extend(known)
            self._last_fresh = last if known else None
        return partial(self._bring, _Thread(self._fresh.popleft(), open_jobs=1)) if self._fresh else None

    async def _bring(self, thread: _Thread) -> None:
        """Walk the listings of a thread; the steps of its runs are put off for whoever has time."""
        options = self._options
        if options.threads and not thread.known.has_json:
            await self._tried(thread, partial(self._bring_itself, thread), lambda: 0)
        runs = await self._listing(thread, "runs", self._runs_pager, partial(self._runs_came, thread))
        if options.steps and thread.known.walks:
            await self._bring_steps_of_old(thread, runs.walk)
        await self._walk(thread, runs)
        self._note_listed(thread)
        if options.messages:
            await self._walk(thread, await self._listing(thread, "messages", self._messages_pager, _nothing_more))
        await self._finish_job(thread)

    async def _bring_steps_of_old(self, thread: _Thread, walk: Walk) -> None:
        """Put off the steps of the runs that earlier exports brought without, some at a time."""
        newest = thread.known.walks.get(("runs", "desc"))
        brought = partial(Store.runs_without_steps, walk=walk, newest=newest, limit=_RUNS_AT_ONCE)
        last: str | None = ""
        while last is not None:
            last, found = await self._writer.call(partial(brought, after=last))
            await self._put_off(thread, found)

    async def _bring_itself(self, thread: _Thread) -> None:
        await self._patience.calm()
        json = await self._session.threads.retrieve_raw(thread.id)
        await self._writer.write(ThreadWrite(id=thread.id, state="listed", json=json))
        thread.stored = "listed"

    async def _bring_steps(self, thread: _Thread, run_id: str, status: object) -> None:
        known = await self._writer.call(partial(Store.walk, thread_id=thread.id, kind="steps", run_id=run_id))
        walk = _begun_again(known or Walk(thread_id=thread.id, kind="steps", run_id=run_id))
        if walk.state == "open":
            walk = attrs.evolve(walk, cursor=None, anchor=None)
        pager = partial(self._steps_pager, thread.id, run_id)
        await self._walk(thread, self._walker(thread, walk, pager, self._steps_came, settles=is_terminal(status)))
        self.progress.step_listings_done += 1
        await self._finish_job(thread)

    async def _bring_newest(self, thread: _Thread, walker: Walker) -> None:
        """Walk a listing from its newest end; what goes wrong with that is left to the walk from the oldest."""
        meeting = walker.meeting
        assert meeting is not None  # noqa: S101  # it is what the walker was put off for
        try:
            of = (thread.id, "desc")  # The walk from the oldest end is tried for as long, whatever comes of this one.
            await self._patience.through(walker.from_newest, lambda: -meeting.newest.position, of=of)
        except ArchiveError:
            raise
        except AsyncRunsError:
            meeting.is_sound = False
        await self._finish_job(thread)

    async def _listing(self, thread: _Thread, kind: Kind, pager: ListPager, arrived: Arrived) -> Walker:
        """Return the walker of a listing of *thread*, which goes on where the last one broke off."""
        walks = thread.known.walks
        walk = _begun_again(walks.get((kind, "asc")) or Walk(thread_id=thread.id, kind=kind))
        walker = self._walker(thread, walk, partial(pager, thread.id), arrived)
        newest = walks.get((kind, "desc"))
        if newest is not None and newest.state == "walking":
            edge = await self._writer.call(partial(Store.at_cursor, walk=newest))
            walker.meeting = Meeting(self._writer, newest, read_item(edge[0]).created_at if edge else None)
            await self._urge_newest(thread, walker)
        elif self._options.both_ends and (kind, "asc") not in walks:
            newest = Walk(thread_id=thread.id, kind=kind, order="desc", position=FROM_NEWEST)
            walker.meeting = Meeting(self._writer, newest)
            walker.is_long = partial(self._urge_newest, thread, walker)
        return walker

    async def _urge_newest(self, thread: _Thread, walker: Walker) -> None:
        thread.open_jobs += 1
        await self._turns.urge(partial(self._bring_newest, thread, walker))

    def _walker(
        self, thread: _Thread, walk: Walk, pager: MakePager, arrived: Arrived, *, settles: bool = True
    ) -> Walker:
        def counted(count: int) -> None:
            self._patience.successes += 1
            setattr(self.progress, walk.kind, getattr(self.progress, walk.kind) + count)

        return Walker(
            writer=self._writer,
            walk=walk,
            pager=pager,
            calm=self._patience.calm,
            counted=counted,
            arrived=arrived,
            beside=thread.reopened,
            probe=self._options.probe,
            settles=settles,
        )

    async def _walk(self, thread: _Thread, walker: Walker) -> None:
        error = await self._tried(thread, walker.to_end, lambda: walker.walk.position)
        if error is not None:
            failed = attrs.evolve(walker.walk, state="failed", reason=_reason(error))
            await self._writer.write(PageWrite(walk=failed))

    async def _tried(
        self, thread: _Thread, work: Callable[[], Awaitable[None]], seen: Callable[[], int]
    ) -> AsyncRunsError | None:
        """Do *work*; what cannot be brought is held against the thread and returned."""
        try:
            await self._patience.through(work, seen, of=thread.id)
        except FOR_ALL as error:
            raise ExportStopped(error) from None
        except ArchiveError:
            raise
        except AsyncRunsError as error:
            thread.reason = thread.reason or _reason(error)
            return error
        self._patience.successes += 1
        return None

    async def _runs_came(self, thread: _Thread, items: Sequence[RawItem]) -> None:
        if len(items) < PAGE_ITEMS:
            self._note_listed(thread)
        if not self._options.steps:
            return
        wanted = [(item.id, item.status) for item in items]
        if thread.known.walks:
            ids = [item.id for item in items]
            done = await self._writer.call(partial(Store.runs_with_steps, thread_id=thread.id, among=ids))
            wanted = [(id, status) for id, status in wanted if id not in done]
        await self._put_off(thread, wanted)

    async def _steps_came(self, _: Sequence[RawItem]) -> None:
        asked, self._unnoted = self._unnoted, None
        if asked is not None:
            await self._writer.call(partial(Store.note_include, asked=asked))

    def _note_listed(self, thread: _Thread) -> None:
        self.progress.threads_listed += not thread.listed
        thread.listed = True

    async def _put_off(self, thread: _Thread, runs: Sequence[tuple[str, object]]) -> None:
        """Leave the steps of *runs* to whoever has time."""
        if not runs:
            return
        if reopened := thread.reopened():
            await self._writer.write(*reopened)
        thread.open_jobs += len(runs)
        self.progress.step_listings += len(runs)
        await self._turns.put_off([partial(self._bring_steps, thread, run_id, status) for run_id, status in runs])

    async def _finish_job(self, thread: _Thread) -> None:
        thread.open_jobs -= 1
        if thread.open_jobs:
            return
        state: ThreadState = "done"
        reason = thread.reason
        if reason is not None:
            self.progress.note_failure(thread.id, reason)
            state = "failed"
        else:
            self.progress.threads_done += 1
            if thread.known.walks and thread.known.state != "done" and self._left_out:
                standing = partial(Store.standing, thread_id=thread.id, kinds=self._left_out)
                state, reason = await self._writer.call(standing)
        if thread.stored or thread.known.state != state or state == "failed":
            self._writer.post(ThreadWrite(id=thread.id, state=state, reason=reason))

    def _runs_pager(self, thread_id: str, order: Order, after: str | None, most: int | None) -> AsyncCursorPager[Any]:
        return self._session.runs.list(thread_id, order=order, limit=_limit(most), after=after, max_items=most)

    def _messages_pager(
        self, thread_id: str, order: Order, after: str | None, most: int | None
    ) -> AsyncCursorPager[Any]:
        return self._session.messages.list(thread_id, order=order, limit=_limit(most), after=after, max_items=most)

    def _steps_pager(
        self, thread_id: str, run_id: str, order: Order, after: str | None, most: int | None
    ) -> AsyncCursorPager[Any]:
        return self._session.steps.list(
            thread_id,
            run_id,
            order=order,
            limit=_limit(most),
            after=after,
            max_items=most,
            include=self._options.include,
        )


async def export(
    session: Session, path: str | PathLike[str], thread_ids: ThreadIds | None = None, **options: Unpack[OptionWords]
) -> Progress:
    """Bring the histories of *thread_ids* into the archive at *path*; see `Exporter` and `Options`."""
    return await Exporter(session, path, Options(**options)).run(thread_ids)


def _begun_again(walk: Walk) -> Walk:
    """Return where a walk is to begin: behind what it brought that can no longer change."""
    return attrs.evolve(walk, cursor=walk.anchor)


async def _nothing_more(_: Sequence[RawItem]) -> None:
    """Nothing follows from what came."""


def _limit(most: int | None) -> int:
    return PAGE_ITEMS if most is None else most


def _reason(error: AsyncRunsError) -> str:
    return f"{type(error).__name__}: {error}"

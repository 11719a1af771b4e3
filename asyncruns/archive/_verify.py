"""Hold an archive against the server: every listing is walked again, newest first, and compared item by item."""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import attrs
import msgspec

from asyncruns import (
    ArchiveError,
    AsyncCursorPager,
    AsyncRunsError,
    Session,
)
from asyncruns._arguments import check_whole
from asyncruns.archive._patience import FOR_ALL, ExportStopped, Patience, first_of
from asyncruns.archive._progress import Progress
from asyncruns.archive._records import Asked, VerifiedWrite
from asyncruns.archive._schema import digest
from asyncruns.archive._store import Store
from asyncruns.archive._walking import PAGE_ITEMS
from asyncruns.archive._writer import Writer


@attrs.define(kw_only=True)
class Findings:
    """What a verification found, summed up.

    Attributes:
        threads: Threads walked.
        items: Items that the server showed.
        missing: Ids of items that the archive has not.
        different: Ids of items that the server shows otherwise now.
        gone: Items that the archive has and the server no longer shows.
        failures: Thread id -> why it could not be verified.
    """

    threads: int = 0
    items: int = 0
    missing: list[str] = attrs.field(factory=list)
    different: list[str] = attrs.field(factory=list)
    gone: int = 0
    failures: dict[str, str] = attrs.field(factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or different, and every thread could be walked."""
        return not (self.missing or self.different or self.failures)


async def verify(
    session: Session,
    path: str | PathLike[str],
    *,
    concurrency: int = 16,
    steps: bool = True,
) -> Findings:
    """Walk every thread of the archive again, newest first, and say what is missing or different.

    These are its runs, and what exports were ever asked for: the steps of the runs, the messages and the thread itself.

    What is compared is the JSON value: a server may write the same object with other spaces or keys in another order.
    The archive keeps what it has; it notes the findings of each thread. To have found nothing is only noted where
    nothing was left out. Runs that were not terminal when they were archived will differ until the next export.
    Exports read no thread again, nor what had come to its end, and do not look for what shows only now among older
    items: such findings stay.

    Args:
        session: An open session.
        path: The archive.
        concurrency: Threads walked at the same time.
        steps: Whether to walk the steps of the runs, if there are any.

    Raises:
        ArchiveLocked: An export is filling the archive.
        ArchiveCorrupt: The file is no archive, or is damaged.
        AsyncRunsError: The server cannot be asked at all.
        ValueError: The concurrency is no whole number from 1 on.
    """
    check_whole("concurrency", concurrency)
    where = Path(path)
    findings = Findings()
    async with Writer(where, create=False) as writer:
        asked = await writer.call(Store.asked)
        looked_for = msgspec.structs.replace(asked, steps=steps and asked.steps)
        checker = _Verifier(session, writer, findings, looked_for, is_whole=looked_for == asked)
        threads = await writer.call(Store.thread_digests)
        remaining = iter(threads.items())
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(checker.work(remaining))
        except BaseExceptionGroup as group:
            raise first_of(group) from None
        await writer.call(partial(Store.note_verified, moment=int(time.time())))
    return findings


class _Verifier:
    def __init__(self, session: Session, writer: Writer, findings: Findings, asked: Asked, *, is_whole: bool) -> None:
        self._session = session
        self._writer = writer
        self._findings = findings
        self._asked = asked
        self._is_whole = is_whole
        self._patience = Patience(Progress())

    async def work(self, threads: Iterable[tuple[str, int | None]]) -> None:
        for thread_id, known in threads:
            found = Findings(threads=1)
            try:
                await self._thread(thread_id, known, found)
            except (*FOR_ALL, ArchiveError) as error:
                raise ExportStopped(error) from None
            except AsyncRunsError as error:
                found.failures[thread_id] = f"{type(error).__name__}: {error}"
            _add(self._findings, found)
            told = _told(found)
            if told or self._is_whole:
                await self._writer.write(VerifiedWrite(id=thread_id, findings=told))

    async def _thread(self, thread_id: str, known: int | None, found: Findings) -> None:
        """Verify a thread, known by its digest."""
        if self._asked.threads:
            itself = partial(self._thread_itself, thread_id, known, found)
            await self._patience.through(itself, lambda: 0, of=itself)
        runs = partial(self._session.runs.list, thread_id)
        shown, gone = await self._listing(partial(Store.digests, kind="runs", thread_id=thread_id), runs, found)
        if self._asked.steps:
            for run_id in shown:
                steps = partial(self._session.steps.list, thread_id, run_id, include=self._asked.include)
                await self._listing(self._digests_of_steps(thread_id, run_id), steps, found)
            for run_id in gone:
                found.gone += len(await self._writer.call(self._digests_of_steps(thread_id, run_id)))
        if self._asked.messages:
            messages = partial(self._session.messages.list, thread_id)
            await self._listing(partial(Store.digests, kind="messages", thread_id=thread_id), messages, found)

    def _digests_of_steps(self, thread_id: str, run_id: str) -> Callable[[Store], dict[str, int]]:
        return partial(Store.digests, kind="steps", thread_id=thread_id, run_id=run_id)

    async def _thread_itself(self, thread_id: str, known: int | None, found: Findings) -> None:
        await self._patience.calm()
        _compare(found, thread_id, known, await self._session.threads.retrieve_raw(thread_id))
        self._patience.successes += 1

    async def _listing(
        self, digests: Callable[[Store], dict[str, int]], pager: Callable[..., AsyncCursorPager[Any]], found: Findings
    ) -> tuple[Iterable[str], Iterable[str]]:
        """Walk a listing, and return the ids that it shows and those that it shows no more."""
        known = await self._writer.call(digests)
        seen: dict[str, None] = {}

        async def walk() -> None:
            is_further = True
            while is_further:
                before, cursor = len(seen), next(reversed(seen), None) if self._asked.probe else None
                async for page in pager(order="desc", limit=PAGE_ITEMS, after=cursor).raw_pages(ahead=False):
                    self._patience.successes += 1
                    await self._patience.calm()
                    for item in page.data:
                        if item.id not in seen:
                            seen[item.id] = None
                            _compare(found, item.id, known.get(item.id), item.json)
                is_further = self._asked.probe and len(seen) > before

        await self._patience.through(walk, lambda: len(seen), of=walk)
        gone = known.keys() - seen.keys()
        found.gone += len(gone)
        return seen, gone


def _told(found: Findings) -> str:
    """Say in a few words what was found of a thread; nothing for nothing."""
    for reason in found.failures.values():
        return reason
    missing, different = len(found.missing), len(found.different)
    return f"{missing} missing, {different} different" if missing or different else ""


def _compare(found: Findings, id: str, known: int | None, blob: bytes) -> None:
    """Hold an item that the server shows against the digest of the one in the archive; None: it has none."""
    found.items += 1
    if known is None:
        found.missing.append(id)
    elif known != digest(blob):
        found.different.append(id)


def _add(findings: Findings, found: Findings) -> None:
    """Add what was found of a thread."""
    findings.threads += found.threads
    findings.items += found.items
    findings.missing += found.missing
    findings.different += found.different
    findings.gone += found.gone
    findings.failures |= found.failures

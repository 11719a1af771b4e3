"""Hold an archive against the server: every listing is walked again, newest first, and compared item by item."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
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
    AuthenticationError,
    Include,
    Session,
    StepListParams,
)
from asyncruns.archive._options import check_concurrency
from asyncruns.archive._patience import ExportStopped, Patience, first_of
from asyncruns.archive._progress import Progress
from asyncruns.archive._records import VerifiedWrite
from asyncruns.archive._schema import digest
from asyncruns.archive._store import Store
from asyncruns.archive._walking import PAGE_ITEMS
from asyncruns.archive._writer import Writer


class _Id(msgspec.Struct):
    id: str


_read_id = msgspec.json.Decoder(_Id).decode


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
    include: Sequence[Include] = (),
) -> Findings:
    """Walk every thread of the archive again, newest first, and say what is missing or different.

    These are its runs, their steps, and its messages and the thread itself if they were brought.

    What is compared is the JSON value: a server may write the same object with other spaces or keys in another order.
    The archive keeps what it has; it notes the findings of each thread. Runs that were not terminal when they were
    archived will differ until the next export.

    Args:
        session: An open session.
        path: The archive.
        concurrency: Threads walked at the same time.
        steps: Whether to walk the steps of the runs, too.
        include: What the steps were brought with, as for `export`; without it they would be others.

    Raises:
        ArchiveLocked: An export is filling the archive.
        ArchiveCorrupt: The file is no archive, or is damaged.
        AsyncRunsError: The server cannot be asked at all.
        ValueError: The concurrency is no whole number from 1 on.
    """
    check_concurrency(concurrency)
    where = Path(path)
    findings = Findings()
    async with Writer(where, create=False) as writer:
        checker = _Verifier(session, writer, findings, steps=steps, include=include)
        threads = await writer.call(Store.thread_digests)
        remaining = iter(threads.items())
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(checker.work(remaining))
        except* ExportStopped as group:
            raise first_of(group).error from None
        except* AsyncRunsError as group:
            raise first_of(group) from None
        await writer.call(partial(Store.note_verified, moment=int(time.time())))
    return findings


class _Verifier:
    def __init__(
        self, session: Session, writer: Writer, findings: Findings, *, steps: bool, include: Sequence[Include]
    ) -> None:
        self._session = session
        self._writer = writer
        self._findings = findings
        self._steps = steps
        self._step_params: StepListParams = {"order": "desc", "limit": PAGE_ITEMS}
        if include:
            self._step_params["include"] = include
        self._patience = Patience(Progress())

    async def work(self, threads: Iterable[tuple[str, int | None]]) -> None:
        for thread_id, known in threads:
            found = Findings(threads=1)
            try:
                await self._thread(thread_id, known, found)
            except (AuthenticationError, ArchiveError) as error:
                raise ExportStopped(error) from None
            except AsyncRunsError as error:
                found.failures[thread_id] = f"{type(error).__name__}: {error}"
            _add(self._findings, found)
            await self._writer.write(VerifiedWrite(id=thread_id, findings=_told(found)))

    async def _thread(self, thread_id: str, known: int | None, found: Findings) -> None:
        """Verify a thread, known by its digest."""
        if known is not None:
            await self._patience.through(partial(self._thread_itself, thread_id, known, found), lambda: 0)
        runs = partial(self._session.runs.list, thread_id, order="desc", limit=PAGE_ITEMS)
        ids = await self._listing(partial(Store.digests, kind="runs", thread_id=thread_id), runs, found)
        if self._steps:
            for run_id in ids:
                steps = partial(self._session.steps.list, thread_id, run_id, **self._step_params)
                digests = partial(Store.digests, kind="steps", thread_id=thread_id, run_id=run_id)
                await self._listing(digests, steps, found)
        if await self._writer.call(partial(Store.walk, thread_id=thread_id, kind="messages")):
            messages = partial(self._session.messages.list, thread_id, order="desc", limit=PAGE_ITEMS)
            await self._listing(partial(Store.digests, kind="messages", thread_id=thread_id), messages, found)

    async def _thread_itself(self, thread_id: str, known: int, found: Findings) -> None:
        await self._patience.calm()
        _compare(found, thread_id, known, await self._session.threads.retrieve_raw(thread_id))

    async def _listing(
        self, digests: Callable[[Store], dict[str, int]], pager: Callable[[], AsyncCursorPager[Any]], found: Findings
    ) -> list[str]:
        known = await self._writer.call(digests)
        seen: dict[str, None] = {}

        async def walk() -> None:
            async for page in pager().raw_pages(ahead=False):
                await self._patience.calm()
                for blob in page.data:
                    id = _read_id(blob).id
                    if id not in seen:
                        seen[id] = None
                        _compare(found, id, known.get(id), blob)

        await self._patience.through(walk, lambda: len(seen))
        found.gone += len(known.keys() - seen.keys())
        return list(seen)


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

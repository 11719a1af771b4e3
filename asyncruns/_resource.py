"""What the resources share: send a request, read the answer as a model, make a pager, a stream, a wait."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from math import inf
from operator import attrgetter
from typing import Any, TypeVar

from asyncruns._arguments import check_count, check_limit, check_order, include_query
from asyncruns._codec import check_told_once, decode, decode_page, encode, peek_cursor, without_bom
from asyncruns._once import creation_unknown
from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import (
    Answer,
    Request,
    check_cursor,
    check_id,
    check_identity,
    check_seconds,
    run_path,
    with_query,
)
from asyncruns._run_states import rests
from asyncruns._slices import RawItem, cut_page, read_items, split_page
from asyncruns._snapshots import Subject
from asyncruns._stream import LiveBytes, OnInterrupt, RunStream
from asyncruns._transport import Transport
from asyncruns._waiting import Deadline, RunReader, Waiter
from asyncruns._walk import Listing, PageQuery, Read
from asyncruns.errors import AsyncRunsError, ProtocolError, UnexpectedContentError
from asyncruns.models import Page, Run

T = TypeVar("T")

_LISTING_DEFAULTS: Mapping[str, Any] = {
    "limit": 100,
    "order": "desc",
    "after": None,
    "before": None,
    "max_items": None,
}

_SETTLE_SECONDS = 660.0


class Resource:
    """One kind of object of the API, over the session's transport."""

    def __init__(self, transport: Transport, *, check_identity: bool) -> None:
        self._transport = transport
        self._checks_identity = check_identity
        self._reader = RunReader(ask=self._ask_for_run, read=self._read_run)

    async def _get(self, target: str, model: type[T], timeout: float | None, **expected: str | None) -> T:
        return await self._sent(get_request(target), model, timeout, inf, **expected)

    async def _get_raw(self, target: str, model: type[T], timeout: float | None, **expected: str | None) -> bytes:
        answer = await self._transport.send(get_request(target), timeout=timeout)
        self._read(answer, model, **expected)
        return without_bom(answer.body)

    async def _post(
        self,
        target: str,
        model: type[T],
        body: Mapping[str, object],
        timeout: float | None,
        *,
        repeatable: bool = False,
        **expected: str | None,
    ) -> T:
        return await self._sent(post_request(target, body, repeatable=repeatable), model, timeout, inf, **expected)

    async def _delete(self, target: str, model: type[T], timeout: float | None, **expected: str | None) -> T:
        return await self._sent(Request(method="DELETE", target=target), model, timeout, inf, **expected)

    async def _sent(
        self, request: Request, model: type[T], timeout: float | None, by: float, **expected: str | None
    ) -> T:
        """Send *request*, and return what answers it by a moment on the loop's clock."""
        return self._read(await self._transport.send(request, timeout=timeout, by=by), model, **expected)

    def _live(
        self,
        target: str,
        body: Mapping[str, object],
        timeout: float | None,
        idle_timeout: float,
        on_interrupt: OnInterrupt,
        subject: Subject,
        is_enough: Callable[[Run], bool] = rests,
        by: float | None = None,
    ) -> RunStream:
        """Return a stream over the answer to *body*, which creates a run unless *subject* has one.

        Where the stream is gone, the run is read until *is_enough*. The answer begins *by* a moment on the loop's
        clock, and without one within the timeout.
        """
        request = post_request(target, {**body, "stream": True})
        subject.is_checked = self._checks_identity
        return RunStream(
            partial(self._opened, request, timeout, by, subject),
            partial(self._rested, is_enough),
            self._transport.redacted,
            subject=subject,
            idle_timeout=check_seconds("idle_timeout", idle_timeout),
            on_interrupt=on_interrupt,
        )

    async def _opened(self, request: Request, timeout: float | None, by: float | None, subject: Subject) -> LiveBytes:
        by = self._deadline(timeout).when if by is None else by
        try:
            return await self._transport.stream(request, timeout=timeout, by=by)
        except UnexpectedContentError:  # It says by itself that the run may have been created.
            raise
        except AsyncRunsError as error:
            unknown = None if subject.run_id else creation_unknown(error, subject.thread_id)
            if unknown is None:
                raise
            raise unknown from error

    async def _rested(self, is_enough: Callable[[Run], bool], thread_id: str, run_id: str) -> Run:
        return await self._waiter(thread_id, run_id).rest(Deadline(_SETTLE_SECONDS), is_enough)

    def _deadline(self, timeout: float | None) -> Deadline:
        return Deadline(self._transport.timeout if timeout is None else check_seconds("timeout", timeout))

    def _waiter(self, thread_id: str, run_id: str, poll_interval: float | None = None) -> Waiter:
        return Waiter(
            thread_id=check_id("thread_id", thread_id),
            run_id=check_id("run_id", run_id),
            reader=self._reader,
            interval=None if poll_interval is None else check_seconds("poll_interval", poll_interval),
            sleep=self._transport.sleep,
            random=self._transport.random,
        )

    def _ask_for_run(self, thread_id: str, run_id: str, by: float) -> Awaitable[Answer]:
        return self._transport.send(get_request(run_path(thread_id, run_id)), by=by)

    def _read_run(self, answer: Answer, thread_id: str, run_id: str) -> Run:
        return self._read(answer, Run, thread_id=thread_id, id=run_id)

    def _read(self, answer: Answer, model: type[T], **expected: str | None) -> T:
        try:
            made = decode(answer.body, model)
            check_told_once(answer.body, model)
            if self._checks_identity:
                check_identity(made, expected)
        except ProtocolError as error:
            raise self._transport.redacted(error) from None
        return made

    def _list(
        self,
        target: str,
        model: type[T],
        params: Mapping[str, Any],
        timeout: float | None,
        by: float = inf,
        **expected: str | None,
    ) -> AsyncCursorPager[T]:
        known = {**_LISTING_DEFAULTS, **params}
        query = PageQuery(
            limit=check_limit(known.pop("limit")),
            order=check_order(known.pop("order")),
            after=check_cursor("after", known.pop("after")),
            before=check_cursor("before", known.pop("before")),
        )
        max_items = check_count("max_items", known.pop("max_items"))
        rest = [pair for name, value in known.items() for pair in _query_pairs(name, value)]
        checked = expected if self._checks_identity else {}
        listing = Listing(
            fetch=partial(self._fetch_page, target, rest, timeout, by=by),
            read=self._without_key(partial(_read_page, model, checked)),
            split=self._without_key(partial(_split_page, checked)),
            cut=self._without_key(partial(_cut_page, checked)),
            peek=peek_cursor,
        )
        return AsyncCursorPager(listing, query, max_items)

    def _without_key(self, read: Read[T]) -> Read[T]:
        def read_or_tell(data: bytes) -> tuple[Page[T], Sequence[str]]:
            try:
                return read(data)
            except ProtocolError as error:
                raise self._transport.redacted(error) from None

        return read_or_tell

    async def _fetch_page(
        self,
        target: str,
        rest: Sequence[tuple[str, str]],
        timeout: float | None,
        query: PageQuery,
        by: float = inf,
    ) -> bytes:
        pairs = [("limit", str(query.limit)), ("order", query.order), ("after", query.after), ("before", query.before)]
        told = [(name, value) for name, value in pairs if value is not None]
        request = get_request(with_query(target, [*told, *rest]))
        return (await self._transport.send(request, timeout=timeout, by=by)).body


def get_request(target: str) -> Request:
    return Request(method="GET", target=target, repeatable=True)


def post_request(target: str, body: Mapping[str, object], *, repeatable: bool = False) -> Request:
    """Return the request that sends *body*. Raises as `encode`."""
    return Request(method="POST", target=target, body=encode(body), repeatable=repeatable)


def _read_page(model: type[T], expected: Mapping[str, str | None], data: bytes) -> tuple[Page[T], Sequence[str]]:
    page = decode_page(data, model)
    for name, value in expected.items():
        for item in page.data:
            if getattr(item, name) != value:
                check_identity(item, {name: value})
    return page, [item.id for item in page.data]  # type: ignore[attr-defined]


def _split_page(expected: Mapping[str, str | None], data: bytes) -> tuple[Page[bytes], Sequence[str]]:
    page, ids = split_page(data)
    usual = [f'"{name}":"{value}"'.encode() for name, value in expected.items()]
    # Where all items have them before an object of their own begins, none need be read.
    if not all(0 < blob.find(words) < blob.find(b"{", 1) for words in usual for blob in page.data):
        _check_owners(read_items(data), expected)
    return page, ids


def _cut_page(expected: Mapping[str, str | None], data: bytes) -> tuple[Page[RawItem], Sequence[str]]:
    page, ids = cut_page(data)
    _check_owners(page.data, expected)
    return page, ids


def _check_owners(items: Sequence[RawItem], expected: Mapping[str, str | None]) -> None:
    """Check of each item whose it says that it is; some servers say nothing."""
    if all(list(map(attrgetter(name), items)).count(value) == len(items) for name, value in expected.items()):
        return
    for item in items:
        told = {name: value for name, value in expected.items() if getattr(item, name) is not None}
        check_identity(item, told)


def _query_pairs(name: str, value: Any) -> list[tuple[str, str]]:
    if name == "include":
        return include_query(value)
    return [] if value is None else [(name, str(value))]

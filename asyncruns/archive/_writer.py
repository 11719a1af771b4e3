"""One thread that writes: pages of many walks go into one transaction, and each walk waits for its own."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs

from asyncruns.archive._records import PageWrite, Write
from asyncruns.archive._store import Store

T = TypeVar("T")

_ITEMS_PER_TRANSACTION = 800
_ORDERS_PER_TRANSACTION = 64


@attrs.frozen
class _Order:
    """Something to be done in the thread: writes that may share a transaction, or any other call."""

    done: "asyncio.Future[Any]"
    writes: tuple[Write, ...] = ()
    call: Callable[[Store], Any] | None = None

    @property
    def items(self) -> int:
        """How many items it brings."""
        return sum(len(write.items) for write in self.writes if isinstance(write, PageWrite))


class Writer:
    """An archive open for filling, from the event loop's side.

    A walk that awaits `write` before it asks for its next page has at most one page that is not yet written, so
    memory stays flat, and a killed export asks again for one page of each walk at most.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self._path = path
        self._create = create
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="asyncruns-archive", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._failure: BaseException | None = None
        self._is_wanted = True

    async def __aenter__(self) -> Self:
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except asyncio.CancelledError:
            self._is_wanted = False
            self._opened.add_done_callback(self._note_failure)
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self._end()
        failure = (None if self._closed.cancelled() else self._closed.exception()) or self._failure
        if failure is not None and kind is None:
            raise failure

    async def write(self, *writes: Write) -> None:
        """Return when *writes* are in the archive, all of them in one transaction.

        Raises:
            ArchiveError: They are not.
        """
        await self._given(_Order(self._loop.create_future(), writes=writes))

    def post(self, *writes: Write) -> None:
        """Have *writes* carried out, all of them in one transaction, after what was ordered before.

        What goes wrong with that is raised at the end, unless something else is.
        """
        order = _Order(self._loop.create_future(), writes=writes)
        order.done.add_done_callback(self._note_failure)
        self._orders.put(order)

    async def call(self, function: Callable[[Store], T]) -> T:
        """Return what *function* gives, called with the store in its thread."""
        result: T = await self._given(_Order(self._loop.create_future(), call=function))
        return result

    async def _given(self, order: _Order) -> Any:
        self._orders.put(order)
        return await order.done

    def _note_failure(self, done: "asyncio.Future[Any]") -> None:
        self._failure = self._failure or done.exception()

    async def _end(self) -> None:
        """Have everything carried out that was ordered, and the archive closed, even while being cancelled."""
        self._orders.put(None)
        cancelled = False
        while not self._closed.done():
            try:
                await asyncio.wait([self._closed])
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    def _work(self) -> None:
        try:
            store = Store(self._path, create=self._create, is_wanted=lambda: self._is_wanted)
        except BaseException as error:
            self._tell(self._opened, None, error)
            self._tell(self._closed, None)
            return
        self._tell(self._opened, None)
        failure: BaseException | None = None
        try:
            self._carry_out_all(store)
        finally:
            try:
                store.close()
            except BaseException as error:
                failure = error
            self._tell(self._closed, None, failure)

    def _carry_out_all(self, store: Store) -> None:
        while (order := self._orders.get()) is not None:
            batch, ended = self._batch(order)
            self._carry_out(store, batch)
            if ended:
                return

    def _batch(self, first: _Order) -> tuple[list[_Order], bool]:
        """Return *first* with what else already waits, and whether the end was among it.

        Not with all of it: while some pages are written, the walks of the others ask for their next.
        """
        batch, items = [first], first.items
        while items < _ITEMS_PER_TRANSACTION and len(batch) < _ORDERS_PER_TRANSACTION:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                break
            if order is None:
                return batch, True
            batch.append(order)
            items += order.items
        return batch, False

    def _carry_out(self, store: Store, batch: list[_Order]) -> None:
        """Carry out *batch*; what was called before something was written does not see it, for calls come first."""
        for order in batch:
            if order.call is not None:
                try:
                    self._tell(order.done, order.call(store))
                except BaseException as error:
                    self._tell(order.done, None, error)
        writing = [order for order in batch if order.call is None]
        if writing:
            self._write(store, writing)

    def _write(self, store: Store, orders: list[_Order]) -> None:
        try:
            store.apply(write for order in orders for write in order.writes)
        except BaseException as error:
            if len(orders) == 1:
                self._tell(orders[0].done, None, error)
                return
            for order in orders:  # One of them is refused: not all need be.
                self._write(store, [order])
            return
        self._in_loop(partial(_settle_all, orders))

    def _tell(self, done: "asyncio.Future[Any]", result: Any, error: BaseException | None = None) -> None:
        self._in_loop(lambda: _settle(done, result, error))

    def _in_loop(self, call: Callable[[], object]) -> None:
        # A loop that was closed without waiting for us has nobody left who listens.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _settle_all(orders: Sequence[_Order]) -> None:
    for order in orders:
        _settle(order.done, None, None)


def _settle(done: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)

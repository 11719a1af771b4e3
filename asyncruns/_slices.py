"""Pages cut into the bytes of their items, exactly as sent."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from asyncruns._codec import MALFORMED, SLICES, decode_error, decode_plain, page_struct, schema_error, without_bom
from asyncruns.models import Page

T = TypeVar("T")


class RawItem(msgspec.Struct, gc=False):
    """An item of a listing as it was sent, and the little that is read of every one.

    Attributes:
        id: Its id.
        status: What the server says, as any JSON value; None where it says nothing, or a number that no variable holds.
        created_at: The same of when it came into being.
        thread_id: The same of whose it is.
        run_id: The same of whose it is.
        json: Its bytes, exactly as sent: a slice of the page, which `bytes` copies.
    """

    id: str
    status: Any = None
    created_at: Any = None
    thread_id: Any = None
    run_id: Any = None
    json: Raw = Raw(b"")  # Written over, should a server have a field of that name.


class _Unread(msgspec.Struct, gc=False):
    id: str
    status: Raw = Raw(b"null")
    created_at: Raw = Raw(b"null")
    thread_id: Raw = Raw(b"null")
    run_id: Raw = Raw(b"null")


_ITEMS: Any = msgspec.json.Decoder(page_struct(RawItem))
_UNREAD: Any = msgspec.json.Decoder(page_struct(_Unread))
_FIRST_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*"([A-Za-z0-9._~-]+)"')
_read_item = msgspec.json.Decoder(RawItem).decode
_read_little = msgspec.json.Decoder(_Unread).decode


def split_page(data: bytes) -> tuple[Page[bytes], Sequence[str]]:
    """Cut a page into the bytes of its items, exactly as sent, and read each item's id.

    Of what lies inside the items, only the grammar of JSON and the UTF-8 are checked. Of an id told twice, the first
    counts where it stands first of all, else the last.

    Raises as `decode`.
    """
    data = without_bom(data)
    with _refusals_told(data):
        frame = _frame(data)
        blobs = tuple(map(bytes, frame.data))
        ids = _ids(blobs) or [item.id for item in read_items(data)]
    return _page(frame, blobs), ids


def cut_page(data: bytes) -> tuple[Page[RawItem], Sequence[str]]:
    """Cut a page as `split_page` does, and read a little more of each item; of what is told twice, the last counts.

    Raises as `decode`.
    """
    data = without_bom(data)
    with _refusals_told(data):
        frame = _frame(data)
    items = read_items(data)
    for item, blob in zip(items, frame.data, strict=True):
        item.json = blob
    return _page(frame, tuple(items)), [item.id for item in items]


def read_item(blob: bytes) -> RawItem:
    """Read one item that was cut out of a page; `json` stays empty.

    Raises as `decode`.
    """
    with _refusals_told(blob):
        try:
            return _read_item(blob)
        except msgspec.DecodeError:
            return _readable(_read_little(blob))


def read_items(data: bytes) -> list[RawItem]:
    """Read the little of each item of a page that `cut_page` reads; `json` stays empty.

    Raises as `decode`.
    """
    data = without_bom(data)
    with _refusals_told(data):
        try:
            items: list[RawItem] = _ITEMS.decode(data).data
        except msgspec.DecodeError:
            items = list(map(_readable, _UNREAD.decode(data).data))
    return items


@contextmanager
def _refusals_told(data: bytes) -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as error:
        raise schema_error(error, decode_plain(data)) from None
    except MALFORMED as error:
        raise decode_error(error) from None


def _frame(data: bytes) -> Any:
    if not data.isascii():
        data.decode()
    return SLICES.decode(data)


def _page(frame: Any, items: tuple[T, ...]) -> Page[T]:
    return Page(data=items, first_id=frame.first_id, last_id=frame.last_id, has_more=frame.has_more)


def _ids(blobs: Iterable[bytes]) -> list[str]:
    """Return the items' ids if all have theirs first, as most servers send it: then nothing else need be read."""
    found = list(map(_FIRST_ID.match, blobs))
    return [first[1].decode() for first in found if first] if all(found) else []


def _readable(unread: _Unread) -> RawItem:
    """Return the item without those fields that hold a number that nothing can."""
    found: dict[str, Any] = {}
    for name in ("status", "created_at", "thread_id", "run_id"):
        with suppress(msgspec.DecodeError):
            found[name] = msgspec.json.decode(getattr(unread, name))
    return RawItem(id=unread.id, **found)

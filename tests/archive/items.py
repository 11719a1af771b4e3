"""Items as the store takes them."""

from collections.abc import Iterable

from msgspec import Raw

from asyncruns._slices import RawItem


def raw_items(items: Iterable[tuple[str, bytes]]) -> list[RawItem]:
    """Make items of ids and bytes, which need not be of one mind."""
    return [RawItem(id=id, json=Raw(blob)) for id, blob in items]

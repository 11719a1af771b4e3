"""Pages: one response of a listing."""

from typing import Generic, TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """One response of a listing (API page: List runs).

    Attributes:
        data: The items, in the order asked for; 0 to 100 of them.
        first_id: Id of the first item, as the server states it. None on an empty page, and on some servers.
        last_id: Id of the last item, as the server states it. Some servers state a wrong one: the
            cursor is the last item's own id.
        has_more: Whether the server has more items. None: it did not say.
    """

    data: tuple[T, ...] = ()
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool | None = None

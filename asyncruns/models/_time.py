"""Unix time as servers send it, turned into aware datetimes."""

from datetime import UTC, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# 1e11 seconds lie in the year 5138 and 1e11 milliseconds in 1973, before any server of this protocol.
FIRST_MILLISECONDS = 1e11


@overload
def timestamp(value: float) -> datetime: ...
@overload
def timestamp(value: None) -> None: ...
@overload
def timestamp(value: float | None) -> datetime | None: ...
def timestamp(value: float | None) -> datetime | None:
    """Turn a `*_at` value of the wire into an aware UTC datetime.

    The protocol says Unix seconds; DashScope and some self-hosted servers send milliseconds in the same
    fields. A value of 1e11 or more (either sign) is read as milliseconds.

    Args:
        value: Unix seconds or milliseconds, whole or fractional. None gives None.

    Raises:
        ValueError: The value is not a number, or lies outside the years a datetime can hold.
    """
    if value is None:
        return None
    try:
        unit = timedelta(milliseconds=1) if abs(value) >= FIRST_MILLISECONDS else timedelta(seconds=1)
        return _EPOCH + value * unit
    except (OverflowError, TypeError) as error:
        raise ValueError(f"not a moment a datetime can hold: {value!r}") from error

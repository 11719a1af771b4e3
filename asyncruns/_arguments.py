"""What callers pass, held against the API's documented limits before anything is sent."""

from collections.abc import Iterable, Mapping
from sys import float_info
from typing import Any, Literal, TypeGuard

Order = Literal["asc", "desc"]

REQUEST_KEY = "request_key"
"""The metadata key under which a run carries its request key."""

_MAX_TOOLS = 20
_MAX_METADATA_PAIRS, _MAX_METADATA_KEY, _MAX_METADATA_VALUE = 16, 64, 512


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Whether *value* is a whole number from *least* on; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[float]:
    """Whether *value* is a finite number from 0 on; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= float_info.max


def is_positive(value: object) -> TypeGuard[float]:
    """Whether *value* is a finite number above 0; True is none."""
    return is_number(value) and value > 0


def check_whole(name: str, value: object, least: int = 1) -> int:
    """Return *value* if it is a whole number from *least* on, else raise `ValueError` naming *name*."""
    if not is_whole(value, least):
        raise ValueError(f"{name} must be a whole number from {least} on, not {value!r}.")
    return value


def check_params(params: Mapping[str, Any], kind: Any) -> None:
    """Hold keywords against the TypedDict *kind*, and what they give against the API's limits.

    Raises:
        TypeError: A keyword is unknown, or a required one is missing, or a tool is a function and not described.
        ValueError: There are more than 20 tools, or metadata beyond 16 pairs, keys of 64 or values of 512 characters.
    """
    unknown = params.keys() - kind.__annotations__.keys()
    if unknown:
        raise TypeError(f"unexpected keyword {min(unknown)!r}; known are {', '.join(sorted(kind.__annotations__))}")
    missing = kind.__required_keys__ - params.keys()
    if missing:
        raise TypeError(f"missing keyword {min(missing)!r}")
    tools = params.get("tools") or ()
    if callable(tools) or hasattr(tools, "tools") or any(map(callable, tools)):
        raise TypeError("tools takes descriptions of functions: write tools=Toolbox([...]).tools.")
    if len(tools) > _MAX_TOOLS:
        raise ValueError(f"tools holds more than {_MAX_TOOLS} tools.")
    _check_metadata(params.get("metadata"))


def with_request_key(metadata: Mapping[str, str] | None, request_key: str) -> dict[str, str]:
    """Return *metadata* with the request key in it. Raises `ValueError` where it does not fit."""
    keyed = {**(metadata or {}), REQUEST_KEY: check_request_key(request_key)}
    _check_metadata(keyed)
    return keyed


def check_request_key(value: object) -> str:
    """Return *value* if it can be a request key, else raise `ValueError`."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_METADATA_VALUE:
        raise ValueError(f"request_key must be a string of 1 to {_MAX_METADATA_VALUE} characters.")
    return value


def include_query(include: object) -> list[tuple[str, str]]:
    """Return the query that asks for what *include* names; raise `TypeError` unless it is None or several strings."""
    if include is None:
        return []
    names = None if isinstance(include, str) or not isinstance(include, Iterable) else list(include)
    if names is None or not all(isinstance(name, str) for name in names):
        raise TypeError("include must be a list of strings: write include=[...].")
    return [("include[]", name) for name in names]


def check_limit(value: object) -> int:
    """Return *value* if it is a page size the API takes, 1 to 100, else raise `ValueError`."""
    if not is_whole(value, 1) or value > 100:
        raise ValueError(f"limit is the page size, from 1 to 100, not {value!r}. For a total use max_items.")
    return value


def check_count(name: str, value: object) -> int | None:
    """Return *value* if it is None or a whole number from 0 on, else raise `ValueError` naming *name*."""
    if value is not None and not is_whole(value, 0):
        raise ValueError(f"{name} must be a whole number from 0 on, or None, not {value!r}.")
    return value


def check_order(value: object) -> Order:
    """Return *value* if it is an order the API takes, else raise `ValueError`."""
    if value == "asc":
        return "asc"
    if value == "desc":
        return "desc"
    raise ValueError(f"order must be 'asc' or 'desc', not {value!r}.")


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, Mapping):
        raise TypeError("metadata must be a mapping of strings to strings.")
    if len(metadata) > _MAX_METADATA_PAIRS:
        raise ValueError(f"metadata holds more than {_MAX_METADATA_PAIRS} pairs.")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError("metadata must be a mapping of strings to strings.")
        if len(key) > _MAX_METADATA_KEY or len(value) > _MAX_METADATA_VALUE:
            raise ValueError(
                f"metadata keys have at most {_MAX_METADATA_KEY} characters and values {_MAX_METADATA_VALUE}: "
                f"see {key[:_MAX_METADATA_KEY]!r}."
            )

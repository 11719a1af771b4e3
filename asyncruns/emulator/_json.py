"""Bytes to plain JSON values and back."""

import json
from typing import Any

import msgspec

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def encode(value: object) -> bytes:
    """Return *value* as compact JSON in UTF-8.

    A lone surrogate is escaped in ASCII instead of refused: aiohttp without its C extensions lets one through
    in a path that is not UTF-8, and a 404 repeats it.
    """
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def decode(text: bytes) -> Any:
    """Return the JSON value in *text*.

    Raises:
        ValueError: It is not JSON, is nested too deeply, or holds a number nobody can keep.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from None

"""JSON in and out of the emulator."""

import json

import pytest

from asyncruns.emulator._json import decode, encode


@pytest.mark.parametrize("value", [{"a": [1, None, True, "é"]}, "\udcff", {"a": "\ud800"}, 2**70])
def test_what_is_written_can_be_read(value):
    """Any value that a request can bring about becomes JSON, lone surrogates and large numbers too."""
    assert json.loads(encode(value)) == value


@pytest.mark.parametrize("text", [b"", b"NaN", b"1e999", b'"\xff"', b"[" * 100_000, b"9" * 5000])
def test_what_is_not_json_is_a_value_error(text):
    """No other exception than ValueError leaves the decoder."""
    with pytest.raises(ValueError, match=r"\w"):
        decode(text)

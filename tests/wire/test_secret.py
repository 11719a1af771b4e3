"""A key shows itself to nobody but the request that carries it."""

import base64
import copy
import html
import json
import pickle
import re
import string
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncruns import ConfigurationError
from asyncruns._secret import REDACTED, Secret

KEY = "sk-CANARY/+=%7e"
VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F))


def test_reveals_the_key():
    """The request gets what was given."""
    assert Secret(KEY).reveal() == KEY


@pytest.mark.parametrize("show", [repr, str, format, ascii, lambda s: f"{s:>30}", lambda s: f"{s!r}"])
def test_shows_a_mask(show):
    """No way of showing it shows it."""
    assert "CANARY" not in show(Secret(KEY))
    assert "***" in show(Secret(KEY))


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_is_neither_pickled_nor_copied(carry):
    """A key leaves the process in no queue and no file."""
    with pytest.raises(TypeError, match="never pickled or copied"):
        carry(Secret(KEY))


def test_has_no_dict_to_look_into():
    """`vars` finds nothing."""
    with pytest.raises(TypeError):
        vars(Secret(KEY))


@pytest.mark.parametrize(
    "value", ["", KEY + "\n", "\t" + KEY, "CANARY key", "CANARY\x00", "CANARYé", "CANARY\ud800", "CANARY\x7f"]
)
def test_refuses_a_key_that_no_header_can_carry(value):
    """The error names the setting and never holds the value, in its traceback neither."""
    with pytest.raises(ConfigurationError, match=r"^the key must be one or more visible ASCII characters") as caught:
        Secret(value, "the key")
    assert "CANARY" not in str(caught.value)
    assert "CANARY" not in "".join(map(repr, caught.value.args))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [None, b"CANARY", 5])
def test_refuses_what_is_no_string(value):
    """The error names the type and not the value."""
    with pytest.raises(ConfigurationError, match=rf"must be a string; a {type(value).__name__} was given") as caught:
        Secret(value)
    assert "CANARY" not in "".join(traceback.format_exception_only(caught.value))


@given(
    key=st.text(VISIBLE, min_size=8, max_size=60),
    before=st.text(string.ascii_letters, max_size=5),
    after=st.text(string.ascii_letters, max_size=5),
)
def test_redacted_text_holds_no_form_of_the_key(key, before, after):
    """Plain, or as JSON, HTML, a URL or base64 write it: whichever a server echoes is replaced."""
    encoded = base64.b64encode(key.encode()).decode()
    urlsafe = base64.urlsafe_b64encode(key.encode()).decode()
    written = json.dumps(key)[1:-1]
    forms = [key, written, written.replace("/", "\\/"), repr(key)[1:-1], html.escape(key)]
    forms += [quote(key, safe=""), quote(key), re.sub("%..", lambda escape: escape[0].lower(), quote(key, safe=""))]
    for form in (*forms, encoded, encoded.rstrip("="), urlsafe, urlsafe.rstrip("=")):
        shown = Secret(key).redact(f"{before} {form} {after}")
        assert form not in shown.replace(REDACTED, "")
        assert REDACTED in shown


def test_redaction_leaves_other_text_alone():
    """A text without the key is what it was."""
    assert Secret(KEY).redact("Incorrect API key provided.") == "Incorrect API key provided."

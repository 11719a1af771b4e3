"""Keep a key out of everything that is shown, logged, copied or pickled."""

import base64
import html
import json
import re
from typing import NoReturn
from urllib.parse import quote

from asyncruns.errors import ConfigurationError

REDACTED = "[redacted]"


class Secret:
    """A key that shows itself only to `reveal`.

    `repr`, `str` and `format` give a mask, and pickling or copying raises `TypeError`.
    """

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str, what: str = "api_key") -> None:
        if not isinstance(value, str):
            raise ConfigurationError(f"{what} must be a string; a {type(value).__name__} was given.")
        if not value or not all("\x21" <= char <= "\x7e" for char in value):
            raise ConfigurationError(
                f"{what} must be one or more visible ASCII characters, without spaces or line ends. "
                "(Was it read from a file with its newline?)"
            )
        self._value = value
        self._forms = tuple(sorted(_forms(value), key=len, reverse=True))

    def reveal(self) -> str:
        """Return the key itself, for a request header and nothing else."""
        return self._value

    def redact(self, text: str) -> str:
        """Return *text* with the key, however a server may write it, replaced by `[redacted]`."""
        for form in self._forms:
            text = text.replace(form, REDACTED)
        return text

    def __repr__(self) -> str:
        return "Secret('***')"

    def __format__(self, spec: str) -> str:
        return "***"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is never pickled or copied: make a new Session where it is needed.")


def _forms(value: str) -> set[str]:
    """Return what servers make of a key that they echo: plain, or as JSON, HTML, a URL or base64 write it."""
    written = json.dumps(value)[1:-1]
    quoted = {quote(value, safe=""), quote(value)}
    encoded = {encode(value.encode()).decode() for encode in (base64.b64encode, base64.urlsafe_b64encode)}
    return {
        *(value, written, written.replace("/", r"\/"), repr(value)[1:-1], html.escape(value)),
        *quoted,
        *(re.sub("%..", lambda escape: escape[0].lower(), text) for text in quoted),
        *encoded,
        *(text.rstrip("=") for text in encoded),
    }

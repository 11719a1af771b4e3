"""The rules of the wire without the wire: requests as values, ids, URLs, and what an answer means."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal
from urllib.parse import quote

import msgspec
from yarl import URL

from asyncruns import errors
from asyncruns._arguments import is_positive
from asyncruns._codec import decode_plain
from asyncruns._pacing import parse_retry_after
from asyncruns.errors import (
    ActiveRunError,
    AsyncRunsError,
    ConfigurationError,
    DecodeError,
    IdentityMismatchError,
    InvalidIdError,
    SchemaError,
    StatusError,
    UnexpectedContentError,
    UnexpectedRedirectError,
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,255}", re.ASCII)
_NAMED = "((?=[A-Za-z~-]*[0-9_])[A-Za-z0-9][A-Za-z0-9_~-]*)"  # An id as servers make them, and no word of the text.
_NEEDS_NO_QUOTES = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII).fullmatch
_ACTIVE_RUN = re.compile(rf"\bactive run\b(?: {_NAMED})?|\ba run {_NAMED} is active")
_REQUEST_ID_HEADERS = ("x-request-id", "apim-request-id", "x-ms-request-id", "request-id")
_STATUS_ERRORS: Mapping[int, type[StatusError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    422: errors.BadRequestError,
    429: errors.RateLimitError,
}
_PREVIEW = 200
_LONGEST_TEXT = 4000
_LOOKED_AT = 2**16
"""Bytes of a body in which the key is looked for before the text is cut, so that no cut goes through one."""

Redact = Callable[[str], str]


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, ready to be sent as often as the pacing allows.

    Attributes:
        method: The HTTP method.
        target: Path and query below the base URL, percent-encoded, beginning with a slash.
        body: JSON bytes, or None for no body.
        repeatable: Whether carrying it out twice is the same as once.
    """

    method: Literal["GET", "POST", "DELETE"]
    target: str
    body: bytes | None = None
    repeatable: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A complete response. Header names are matched without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Answer(status={self.status})"  # The rest is the server's, which may echo the key.


def check_id(name: str, value: object) -> str:
    """Return *value* if it may stand in a path, else raise `InvalidIdError` naming *name*.

    An id is 1 to 256 letters, digits, `.`, `_`, `~` and `-`, beginning with a letter or digit. Quoting alone would not
    do: `..` needs no quoting and climbs a path, and some proxies undo `%2F`.
    """
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    shown = repr(value)[:80] if isinstance(value, str) else type(value).__name__
    raise InvalidIdError(
        f"{name} must be an id of letters, digits, '.', '_', '~' and '-', 1 to 256 long; {shown} was given."
    )


def check_cursor(name: str, value: object) -> str | None:
    """Return *value* if it is None or can be sent as a cursor, else raise `InvalidIdError` naming *name*."""
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 512 or not value.isprintable():
        raise InvalidIdError(f"{name} must be the id of an item, as a string.")
    return value


def check_seconds(name: str, value: object) -> float:
    """Return *value* if it is a positive, finite number of seconds, else raise `ValueError` naming *name*."""
    if not is_positive(value):
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}.")
    return float(value)


def thread_path(thread_id: object) -> str:
    """Return the path of a thread. Raises `InvalidIdError`."""
    return f"/threads/{check_id('thread_id', thread_id)}"


def run_path(thread_id: object, run_id: object) -> str:
    """Return the path of a run. Raises `InvalidIdError`."""
    return f"{thread_path(thread_id)}/runs/{check_id('run_id', run_id)}"


def with_query(target: str, query: Iterable[tuple[str, str]]) -> str:
    """Add *query* to *target*, percent-encoded (brackets too: `include%5B%5D`)."""
    encoded = "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in query])
    return f"{target}?{encoded}" if encoded else target


def _quoted(text: str) -> str:
    return text if _NEEDS_NO_QUOTES(text) else quote(text, safe="")


def check_base_url(value: object, *, allow_insecure_http: bool) -> str:
    """Return the base URL without its last slash, or raise `ConfigurationError`.

    It is https, or http where the host is a loopback address (a key must not cross a network in the clear), and
    has a path at most: no user, query or fragment.
    """
    url = _address(value)
    if url is None or url.host is None:
        raise ConfigurationError("base_url must be an address such as 'https://api.openai.com/v1'.")
    if url.user is not None or url.password is not None:
        raise ConfigurationError("base_url must hold no user or password; give the key as api_key.")
    if url.raw_query_string or url.raw_fragment:
        raise ConfigurationError("base_url must hold no query or fragment; use default_query for 'api-version'.")
    if url.scheme == "http" and not (allow_insecure_http or _is_loopback(url.host)):
        raise ConfigurationError(
            "base_url is plain http to another machine, which would show the key to the network. "
            "Use https, or allow it (allow_insecure_http=True, --allow-insecure-http) if the network is your own."
        )
    return str(url).rstrip("/")


def check_proxy(value: object) -> str | None:
    """Return the URL of a proxy, or None for none; raise `ConfigurationError`, which shows no password."""
    if value is not None and _address(value) is None:
        raise ConfigurationError("proxy must be the address of an HTTP proxy, such as 'http://127.0.0.1:3128'.")
    return None if value is None else str(value)


def _address(value: object) -> URL | None:
    """Return *value* as a URL, if it is one of http or https and names a host that can be looked up."""
    try:
        url = URL(value) if isinstance(value, str) else URL()
        (url.raw_host or "").encode("idna")  # Raises where a label is empty, or longer than 63 characters.
    except ValueError:
        return None
    return url if url.scheme in ("http", "https") and url.host else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def judge(answer: Answer, *, now: float, redact: Redact) -> AsyncRunsError | None:
    """Return the error that *answer* means, or None when its body may be read as JSON.

    Args:
        answer: What came back.
        now: Unix seconds, for a `Retry-After` date without a `Date`.
        redact: Takes the key out of the server's text.
    """
    if 300 <= answer.status < 400:
        location = redact(answer.headers.get("location", ""))  # As a whole: in a host's name a key is in lower case.
        host = URL(location).host if _is_url(location) else None
        return UnexpectedRedirectError(
            f"The server answered {answer.status} and points elsewhere; redirects are not followed, "
            "because the key would go along. Set base_url to the final address.",
            status=answer.status,
            location_host=host,
        )
    if not 200 <= answer.status < 300:
        return _status_error(answer, now, redact)
    return _unusable(answer, redact)


def looks_like_json(answer: Answer) -> bool:
    """Whether the content type says JSON; some proxies send JSON as text/plain."""
    told = answer.headers.get("content-type", "")
    if told == "application/json":
        return True
    kind = told.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def content_type(headers: Mapping[str, str], redact: Redact) -> str | None:
    """Return what the server calls its answer, for an error."""
    return redact(headers.get("content-type", "")) or None


def preview(body: bytes, redact: Redact) -> str:
    """Return how *body* begins, for an error."""
    return _beginning(body, _PREVIEW, redact)


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id under which the server logged the request, for a support case; None when it names none."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)


def check_identity(model: object, expected: Mapping[str, str | None]) -> None:
    """Raise `IdentityMismatchError` unless every attribute of *model* named is as *expected* (None: not checked)."""
    for name, value in expected.items():
        if value is not None and (got := getattr(model, name)) != value:
            raise IdentityMismatchError(
                f"The server answered about another {name}. A gateway that rewrites ids needs check_identity=False.",
                expected=value,
                got=got,
            )


def _is_url(text: str) -> bool:
    try:
        return bool(URL(text).host)
    except ValueError:
        return False


def _unusable(answer: Answer, redact: Redact) -> AsyncRunsError | None:
    body = answer.body.strip()
    if not body:
        return SchemaError(f"The server answered {answer.status} without a body.", path="$")
    if looks_like_json(answer) or body[:1] == b"{":
        return None
    return UnexpectedContentError(
        "The server said yes with something other than JSON. Is base_url right, and does a proxy stand before it?",
        status=answer.status,
        content_type=content_type(answer.headers, redact),
        preview=preview(body, redact),
    )


def _status_error(answer: Answer, now: float, redact: Redact) -> StatusError:
    body = _error_body(answer.body, redact)
    code, kind, param = (_word(body.get(key), redact) for key in ("code", "type", "param"))
    message = redact(str(body.get("message") or "")) or f"HTTP status {answer.status}"
    details: dict[str, Any] = {
        "status": answer.status,
        "code": code,
        "type": kind,
        "param": param,
        "request_id": redact(request_id(answer.headers) or "") or None,
        "retry_after": parse_retry_after(answer.headers, now),
    }
    active = _ACTIVE_RUN.search(message) if answer.status == 400 else None
    if active:
        return ActiveRunError(message, run_id=active[1] or active[2], **details)
    other = errors.ServerError if answer.status >= 500 else StatusError
    return _STATUS_ERRORS.get(answer.status, other)(message, **details)


def _beginning(data: bytes, length: int, redact: Redact) -> str:
    return redact(data[:_LOOKED_AT].decode("utf-8", "replace"))[:length]


def _error_body(data: bytes, redact: Redact) -> dict[str, Any]:
    """Read the error out of any body seen in the wild: the published one, FastAPI's `detail`, text, HTML."""
    try:
        plain = decode_plain(data)
    except DecodeError:
        return {"message": _beginning(data, _LONGEST_TEXT, redact).strip()}
    if not isinstance(plain, dict):
        return {"message": _text(plain)}
    error = plain.get("error", plain.get("detail", plain))
    if isinstance(error, dict):
        return error if error.get("message") else error | {"message": str(error)}
    return {**plain, "message": _text(error)}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _word(value: object, redact: Redact) -> str | None:
    return redact(str(value)) if isinstance(value, str | int) else None

"""Everything that can go wrong, as one family under `AsyncRunsError`.

All errors survive pickle and copy with their attributes (a chained cause stays behind), hold no key and no
live handle, and show text from servers escaped and capped. The attributes keep that text as it was sent.
"""

# The names tell what happened (RunFailed, ConnectionLost) where the ending Error would add nothing.
# ruff: noqa: N818

import re
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Protocol, Required, TypedDict, Unpack

from asyncruns.models import LastError, Run, RunStatus

# C0, DEL and C1, the bidi controls, the separators at which log readers split, and lone surrogates, which no
# output stream can encode.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_TRY_AGAIN = re.compile(
    r"try again in\s+((?:[0-9]{1,9}(?:\.[0-9]{1,9})?\s?"
    r"(?:milliseconds?|seconds?|minutes?|hours?|days?|ms|[smhd])(?![a-z])\s?)+)",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"([0-9.]+)\s?(m(?:s|illi)|[smhd])", re.IGNORECASE)
NO_HELP_IN_WAITING = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of refusals that stay, though their status says that they pass."""
_SECONDS_PER_UNIT = {"ms": 0.001, "milli": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def escape_server_text(text: str, limit: int = 500) -> str:
    r"""Make text from a server safe to show in terminals and logs.

    Control characters (C0, DEL, C1), line separators, bidi controls and lone surrogates become `\x1b` or
    `\u202e`; a line break too, so that one text is one line. Everything else stays.

    Args:
        text: Any text; only as much of it is read as can be shown.
        limit: Most characters returned, 1 or more. A longer text is cut and ends in an ellipsis.
    """
    shown = _UNSAFE.sub(_escape, text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def parse_try_again(text: str) -> float | None:
    """Read the seconds out of "try again in N seconds", as servers write it into `last_error.message`.

    Understands whole and decimal numbers with a unit in words or letters, also several of them: `60 seconds`,
    `1.5s`, `120ms`, `6m0s`. Gives None when the text says nothing of the kind.
    """
    found = _TRY_AGAIN.search(text)
    if found is None:
        return None
    amounts = _AMOUNT.findall(found.group(1))
    return sum(float(number) * _SECONDS_PER_UNIT[unit.lower()] for number, unit in amounts)


class AsyncRunsError(Exception):
    """The root: everything this package raises on purpose, except for wrong arguments, is one of these.

    Attributes:
        message: What was tried, what came back and, when known, what to do. May hold text from a server,
            unescaped; `str(error)` is escaped and has at most 500 characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def _describe(self) -> str:
        return self.message

    def __str__(self) -> str:
        return escape_server_text(self._describe())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[AsyncRunsError], args: tuple[object, ...], state: Mapping[str, object]) -> AsyncRunsError:
    """Make an error again without its `__init__`, whose keywords BaseException would not remember."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(AsyncRunsError):
    """A setting is wrong, missing or unusable, found before anything was sent.

    The message names the setting; it never holds the value of a key or token, nor a part of it.
    """


class InvalidIdError(AsyncRunsError, ValueError):
    """An id cannot be put into a URL: it is empty, too long, or holds characters that no id has.

    Nothing was sent.
    """


class TransportError(AsyncRunsError):
    """No complete answer arrived. Whether the server carried the request out is known only where said.

    Attributes:
        attempts: Tries made, counted from 1; 0 when not even the first began.
        request_id: The server's name of the last request, from its headers. None: no headers arrived.
        retry_quota_exhausted: Whether another try was due but the session's retry quota forbade it.
    """

    def __init__(
        self,
        message: str,
        *,
        attempts: int = 1,
        request_id: str | None = None,
        retry_quota_exhausted: bool = False,
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.request_id = request_id
        self.retry_quota_exhausted = retry_quota_exhausted


class ConnectError(TransportError):
    """No connection came about: refused, also by a proxy, unreachable, or of an unknown name. Nothing was sent."""


class TLSError(TransportError):
    """The server's certificate or its TLS was refused. Nothing was sent, and trying again will not help."""


class ConnectionLost(TransportError):
    """The connection broke after the request was sent, or while it was, and before an answer began."""


class TruncatedBodyError(TransportError):
    """An answer began and broke off: fewer bytes than announced, or no final chunk."""


class DeadlineExceeded(TransportError, TimeoutError):
    """The call's timeout passed before a complete answer had come."""


class _StatusDetails(TypedDict, total=False):
    status: Required[int]
    code: str | None
    type: str | None
    param: str | None
    request_id: str | None
    retry_after: float | None
    retry_quota_exhausted: bool


class StatusError(AsyncRunsError):
    """The server answered with a status of 400 or above.

    Attributes:
        message: The server's own text, from whichever shape of error body it sent; else a short piece of
            the body.
        status: The HTTP status.
        code: The server's code, such as `rate_limit_exceeded`. None: it gave none.
        type: The server's kind of error, such as `invalid_request_error`. None: it gave none.
        param: The parameter it complains of. None: it gave none.
        request_id: The server's name of the request, for its support. None: it gave none.
        retry_after: Seconds it asks to wait before another try, 0 or more. None: it does not say.
        retry_quota_exhausted: Whether another try was due but the session's retry quota forbade it.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        retry_quota_exhausted: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.retry_quota_exhausted = retry_quota_exhausted

    def _describe(self) -> str:
        code = f" {self.code}" if self.code else ""
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"HTTP {self.status}{code}{request}: {self.message}"


class BadRequestError(StatusError):
    """The server found the request itself wrong: status 400 or 422."""


class ActiveRunError(BadRequestError):
    """The thread already has an active run, and takes no second run and no message until that one ends.

    Attributes:
        run_id: The active run, read out of the server's text. None: the text does not name it.
    """

    def __init__(self, message: str, *, run_id: str | None = None, **details: Unpack[_StatusDetails]) -> None:
        super().__init__(message, **details)
        self.run_id = run_id


class AuthenticationError(StatusError):
    """The key or token is missing, wrong or expired: status 401."""


class PermissionDeniedError(StatusError):
    """The key or token is good, but not for this: status 403."""


class NotFoundError(StatusError):
    """There is no such thread, run, step, message or path: status 404."""


class ConflictError(StatusError):
    """The object changed, or is being changed, by someone else: status 409."""


class RateLimitError(StatusError):
    """Too many requests or tokens, or no quota left: status 429. The request was not carried out."""

    @property
    def is_final(self) -> bool:
        """Whether waiting does not help, because the quota or the budget of the account is used up."""
        return self.code in NO_HELP_IN_WAITING


class ServerError(StatusError):
    """The server failed: status 500 or above. It may have carried the request out."""


class ProtocolError(AsyncRunsError):
    """The server said yes, and the answer cannot be used."""


class UnexpectedContentError(ProtocolError):
    """The answer is of another kind than asked for: HTML instead of JSON, JSON instead of a stream, say.

    Attributes:
        status: The HTTP status. None: not known.
        content_type: The answer's content type. None: it gave none.
        preview: The beginning of the body, at most 200 characters, escaped.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        content_type: str | None = None,
        preview: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.content_type = content_type
        self.preview = escape_server_text(preview, limit=200)

    def _describe(self) -> str:
        return f"{self.message} It begins: {self.preview}" if self.preview else self.message


class ResponseTooLargeError(ProtocolError):
    """The answer, unpacked, exceeds what the session takes; the rest of it was not read.

    Attributes:
        limit: Most bytes taken. None: not known.
    """

    def __init__(self, message: str, *, limit: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class DecodeError(ProtocolError):
    """The answer cannot be unpacked, or is not JSON, or not UTF-8, or is nested deeper than 128 levels."""


class SchemaError(ProtocolError):
    """The answer is JSON, but not the object expected: a field is missing or of the wrong type.

    Attributes:
        path: Where in the answer, as a JSON path such as `$.data[3].id`. It ends at a very large object.
    """

    def __init__(self, message: str, *, path: str = "$") -> None:
        super().__init__(message)
        self.path = path

    def _describe(self) -> str:
        return f"{self.path}: {self.message}"


class IdentityMismatchError(ProtocolError):
    """The answer is about another run, step, thread or message than the one asked for.

    A session made with `check_identity=False` does not check this.

    Attributes:
        expected: The id asked for.
        got: The id in the answer. None: it holds none.
    """

    def __init__(self, message: str, *, expected: str, got: str | None) -> None:
        super().__init__(message)
        self.expected = expected
        self.got = got

    def _describe(self) -> str:
        return f"{self.message} Expected {self.expected}, got {self.got}."


class UnexpectedRedirectError(ProtocolError):
    """The server sends the request elsewhere. Redirects are not followed, so that no key goes astray.

    Attributes:
        status: The HTTP status. None: not known.
        location_host: The host it points to; no path, no query. None: it names none.
    """

    def __init__(self, message: str, *, status: int | None = None, location_host: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.location_host = location_host


class _ListingError(ProtocolError):
    """A listing that cannot be walked to its end.

    Attributes:
        cursor: The id the walk was to continue after. None: the walk was at its beginning.
        partial_count: Items handed out before; they stay valid.
    """

    def __init__(self, message: str, *, cursor: str | None = None, partial_count: int = 0) -> None:
        super().__init__(message)
        self.cursor = cursor
        self.partial_count = partial_count


class PaginationLoopError(_ListingError):
    """The server promised more and led back to a cursor already used.

    Attributes:
        cursor: The id that came back.
        partial_count: Items handed out before; they stay valid.
    """


class PaginationStalledError(_ListingError):
    """The server promised more and gave nothing to continue after, such as an empty page.

    Attributes:
        cursor: The id the walk stands at. None: the walk was at its beginning.
        partial_count: Items handed out before; they stay valid.
    """


class CursorLostError(_ListingError):
    """The server no longer knows the cursor, because its object was deleted, and nothing near it served.

    Attributes:
        cursor: The id the walk was to continue after.
        partial_count: Items handed out before; they stay valid.
    """


class StreamInterrupted(AsyncRunsError):
    """A stream ended without an end: no `done`, no terminal run event. The run itself may go on.

    The events handed out stay valid.

    Attributes:
        run_id: The run, to read or wait for. None: the stream never named it.
        last_event: Name of the last event handed out. None: there was none.
        reason: Why, in a word: `eof`, `idle` (no event came in time) or `lost` (the connection broke). None: not known.
    """

    def __init__(
        self,
        message: str,
        *,
        run_id: str | None = None,
        last_event: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.last_event = last_event
        self.reason = reason


class StreamServerError(AsyncRunsError):
    """The server sent an `error` event in a stream that had begun well.

    Attributes:
        message: The server's own text.
        code: The server's code. None: it gave none.
        run_id: The run, which may go on. None: the stream never named it.
    """

    def __init__(self, message: str, *, code: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.run_id = run_id

    def _describe(self) -> str:
        return f"{self.code}: {self.message}" if self.code else self.message


class _Finds(Protocol):
    def find(self, thread_id: str, *, request_key: str) -> Awaitable[Run | None]: ...


class _Finder(Protocol):
    @property
    def runs(self) -> _Finds: ...


class RunCreationUnknown(AsyncRunsError):
    """A create broke off so late that the run may exist. It is not sent again.

    Where `RetryPolicy(repeat_ambiguous=True)` had it sent several times, several may exist.
    What broke is the cause (`__cause__`). With a `request_key` the thread was already searched for the run, and it was
    not there yet: `resolve` looks again. Without one, list the newest runs of the thread to find out.

    Attributes:
        thread_id: The thread. None: it was to be created by the same request.
        request_key: The key the run would carry in its metadata. None: none was given.
        request_id: The server's name of the request. None: no headers arrived.
    """

    def __init__(
        self,
        message: str,
        *,
        thread_id: str | None = None,
        request_key: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.thread_id = thread_id
        self.request_key = request_key
        self.request_id = request_id

    def resolve(self, session: _Finder) -> Awaitable[Run | None]:
        """Look again whether the run exists: `await error.resolve(session)` gives it, or None.

        Raises:
            ValueError: There was no `request_key` or no thread to look for.
        """
        if self.thread_id is None or self.request_key is None:
            raise ValueError("Without a request_key and a thread_id the run cannot be told from others.")
        return session.runs.find(self.thread_id, request_key=self.request_key)


class RunNotCompleted(AsyncRunsError):
    """A run ended other than completed; `Run.raise_for_status()` raises the class that fits.

    Attributes:
        run: The run at its end.
    """

    def __init__(self, run: Run, message: str | None = None) -> None:
        super().__init__(_tell_end(run) if message is None else message)
        self.run = run

    @property
    def last_error(self) -> LastError | None:
        """What the server says went wrong; None when it does not say."""
        return self.run.last_error

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before a new run, from "Try again in N seconds"; None when it does not say."""
        if self.run.last_error is None or self.run.last_error.message is None:
            return None
        return parse_try_again(self.run.last_error.message)


class RunFailed(RunNotCompleted):
    """The run failed: a server error, a rate limit, an invalid prompt. `last_error` says which."""


class RunExpired(RunNotCompleted):
    """The run took too long, or its tool outputs did not come in time (ten minutes, usually)."""


class RunCancelled(RunNotCompleted):
    """The run was cancelled."""


class RunIncomplete(RunNotCompleted):
    """The run reached its limit of tokens; `run.incomplete_details.reason` says which."""


_ERROR_OF_STATUS: Mapping[str, type[RunNotCompleted]] = MappingProxyType(
    {
        RunStatus.FAILED: RunFailed,
        RunStatus.EXPIRED: RunExpired,
        RunStatus.CANCELLED: RunCancelled,
        RunStatus.INCOMPLETE: RunIncomplete,
    }
)


def run_error(run: Run) -> RunNotCompleted | None:
    """Return the error that tells how *run* ended, or None when it completed or has not ended."""
    error = _ERROR_OF_STATUS.get(run.status)
    return None if error is None else error(run)


def _tell_end(run: Run) -> str:
    told = f"Run {run.id} of thread {run.thread_id} ended as {run.status}"
    details = [run.incomplete_details.reason] if run.incomplete_details else []
    if run.last_error:
        details += [run.last_error.code, run.last_error.message]
    return ": ".join([told, *filter(None, details)])


class WaitTimeout(AsyncRunsError, TimeoutError):
    """A wait's timeout passed before the run came to rest. The run itself may go on.

    Attributes:
        run: The run as last seen. None: no answer came in time.
    """

    def __init__(self, message: str, *, run: Run | None = None) -> None:
        super().__init__(message)
        self.run = run


class ArchiveError(AsyncRunsError):
    """An archive cannot be read or written."""


class ArchiveLocked(ArchiveError):
    """Another process is filling this archive."""


class ArchiveCorrupt(ArchiveError):
    """The file is damaged, or is not an archive."""

"""aiohttp tamed: its errors turned into ours, its own repetition switched off, its answers read as they come."""

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

from asyncruns._pacing import Failure, judge_status
from asyncruns._protocol import Request
from asyncruns._unpack import ENCODINGS, Unpacker
from asyncruns.errors import (
    AsyncRunsError,
    ConnectError,
    ConnectionLost,
    ProtocolError,
    TLSError,
    TruncatedBodyError,
)

_TLS_ERRORS = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError, ssl.CertificateError)
_CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError)
"""What aiohttp raises for a connection or an answer that is no good; its parser in Python has errors of its own."""
_LOST = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError)

_NO_ANSWER_YET = re.compile(rb"[\r\n]*(?:HTTP/1\.\d 1(?!01)\d\d|\Z)")
"""A head behind which another comes: 1xx, but for 101 (RFC 9110, 15.2), or the empty lines that a parser skips."""

_RECEIVED_BYTES = 124 * 1024
"""What is read from a socket at once. asyncio makes a new buffer for it each time, of 256 KiB by itself; from 128 KiB
on the C library asks the system for it, shrinks it and gives it back, for every answer, however short."""


class _Handler(ResponseHandler):
    """Refuses a head in which a line ends with a line feed alone: who reads it otherwise sees another answer in it.

    It is also connected no longer when something came that nobody asked for: aiohttp would take it for the next answer.
    """

    _head: bytes | None = None  # What has come of this answer's present head; None when the last one has.
    _head_of: object = None  # aiohttp makes a parser for each answer.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):
            transport.max_size = _RECEIVED_BYTES

    def is_connected(self) -> bool:
        return super().is_connected() and not self.should_close

    def data_received(self, data: bytes) -> None:
        if self._parser is not self._head_of:
            self._head, self._head_of = b"", self._parser
        if self._head is not None and self._has_bare_feed(self._head + data if self._head else data):
            self.close()
            self.set_exception(HttpProcessingError(message="a line feed without a carriage return"))
            return
        ResponseHandler.data_received(self, data)

    def _has_bare_feed(self, data: bytes) -> bool:
        """Look at the heads that *data* begins with; of one whose end has not come, keep what has."""
        at = 0
        while True:
            end = data.find(b"\r\n\r\n", at)
            lines = len(data) if end < 0 else end
            if data.count(b"\n", at, lines) != data.count(b"\r\n", at, lines):
                return True
            if end < 0:
                self._head = data[at:]
                return False
            if not _NO_ANSWER_YET.match(data, at, end):
                self._head = None
                return False
            at = end + 4


class Connector(aiohttp.TCPConnector):
    """Makes connections with handlers of ours."""

    def __init__(self, *, limit: int, ssl: ssl.SSLContext | bool) -> None:
        super().__init__(limit=limit, ssl=ssl)
        handler: type[ResponseHandler] = _Handler
        self._factory = partial(handler, loop=self._loop)

    async def _create_connection(self, *args: Any) -> ResponseHandler:
        """Mark whatever ends this: until the connection stands, also through a proxy, nothing of a request is sent."""
        try:
            return await super()._create_connection(*args)
        except (Exception, asyncio.CancelledError) as error:
            error._found_no_connection = True  # type: ignore[union-attr]  # noqa: SLF001
            raise


def found_no_connection(error: BaseException) -> bool:
    """Whether *error* ended a request that had no connection yet; of a session of the caller's nobody knows."""
    return hasattr(error, "_found_no_connection")


def declared_length(response: aiohttp.ClientResponse) -> int | None:
    """Return how many bytes the answer says that it has; refuse it if it says so twice, as RFC 9110 (8.6) allows."""
    lengths = response.headers.getall("content-length", ())
    if len(lengths) > 1:  # pragma: no cover  # aiohttp's parser in C refuses first, the one in Python does not
        if response._protocol is not None:  # noqa: SLF001  # with a whole body it is back in the pool already
            response._protocol.close()  # noqa: SLF001
        raise ProtocolError("The answer is not valid HTTP: it has two lengths.")
    return int(lengths[0]) if lengths else None


class _LostError(aiohttp.ClientError):
    """A connection that ended under a request; unlike aiohttp's own, it is not sent again behind our back."""


class _UnsentError(aiohttp.ClientError):
    """A request that aiohttp could not send, because of an address or a header that it was given."""


async def sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep a session of the caller's from repeating a GET by itself, so that attempts are counted in one place.

    Nothing but aiohttp's own sending is under this, so that a `ValueError` here came before that began.
    """
    try:
        return await handler(request)
    except _TLS_ERRORS + _CONNECT_ERRORS:
        raise
    except _LOST as error:
        raise _LostError(_name(error)) from None
    except ValueError as error:
        raise _UnsentError(_name(error)) from None


def failure(error: Exception, request: Request) -> Failure:
    """Turn whatever aiohttp raised into one of ours, with what it says about the next attempt."""
    where = f"{request.method} {request.target}"
    if isinstance(error, _TLS_ERRORS):
        return Failure(error=TLSError(f"{where}: no trusted connection{_reason(error)}."), began=False, transient=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        refused = ConnectError(f"{where}: no connection: the proxy answered with status {error.status}.")
        return Failure(error=refused, began=False, transient=judge_status(error.status, None, {})[1])
    if isinstance(error, _CONNECT_ERRORS) or found_no_connection(error):
        return Failure(error=ConnectError(f"{where}: no connection{_reason(error)}."), began=False, transient=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        cut = TruncatedBodyError(f"{where}: the answer was cut short.")
        return Failure(error=cut, began=True, transient=True)
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError):
        broken: AsyncRunsError = ProtocolError(f"{where}: the answer is not valid HTTP ({_name(error)}).")
        return Failure(error=broken, began=True, transient=False)
    if isinstance(error, _UnsentError):
        unsent = ConnectError(f"{where}: nothing was sent: see your http session's headers and proxy ({error}).")
        return Failure(error=unsent, began=False, transient=False)
    if isinstance(error, ValueError):
        return Failure(error=ProtocolError(f"{where}: {_name(error)}."), began=False, transient=False)
    is_lost = isinstance(error, (_LostError, *_LOST))
    told = str(error) if isinstance(error, _LostError) else _name(error)
    lost = ConnectionLost(f"{where}: the connection ended before the answer came ({told}).")
    return Failure(error=lost, began=True, transient=True, at_once=is_lost)


class LiveAnswer:
    """An answer that is still coming: its bytes, unpacked, as they come. Whoever is cancelled in it may go on."""

    def __init__(self, response: aiohttp.ClientResponse, request: Request, on_close: Callable[[], None]) -> None:
        self._response: aiohttp.ClientResponse | None = response
        # Without length or chunks, aiohttp takes a reset of the connection for the end; its protocol knows better.
        is_framed = "content-length" in response.headers or "transfer-encoding" in response.headers
        self._unframed = None if is_framed else response._protocol  # noqa: SLF001  # an ended answer names no connection
        self._on_close = on_close
        self._where = f"{request.method} {request.target}"
        self._unpacker = Unpacker(response.headers.get("content-encoding", "").strip().lower())
        self._pieces: Iterator[bytes] = iter(())
        self._given = 0  # Of these pieces.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._given > 1:
                await asyncio.sleep(0)  # Few bytes may unpack to thousands of pieces.
            for piece in self._pieces:
                self._given += 1
                return piece
            self._pieces, self._given = self._unpacker.feed(await self._arrived()), 0

    async def _arrived(self) -> bytes:
        try:
            data = b"" if self._response is None else await self._response.content.readany()
        except BROKEN as error:
            lost = ConnectionLost(f"{self._where}: the stream was lost ({_name(error)}).")
        except RuntimeError:
            if self._is_connected:
                raise
            lost = ConnectionLost(f"{self._where}: the connection ended while nobody read.")
        else:
            if data:
                return data
            if self._unframed is None or not isinstance(self._unframed.exception(), aiohttp.ClientOSError):
                raise StopAsyncIteration
            lost = ConnectionLost(f"{self._where}: the connection was reset.")
        raise lost

    @property
    def _is_connected(self) -> bool:
        connection = None if self._response is None else self._response.connection
        return connection is not None and connection.transport is not None and not connection.transport.is_closing()

    def close(self) -> None:
        """Close the connection, unless the answer has ended and given it back."""
        if self._response is not None:
            self._response.close()
            self._response = None
            self._on_close()

    def __del__(self) -> None:
        self.close()


def is_live(response: aiohttp.ClientResponse) -> bool:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return response.status == 200 and response.content_type == "text/event-stream" and encoding in ENCODINGS


def _reason(error: Exception) -> str:
    """Say where the connection was to go and why there is none, in words of our own and of the system."""
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    where = f" to {host}:{port}" if host is not None else ""
    inner = getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    if isinstance(inner, ssl.SSLError):
        told = "the other side speaks no TLS" if inner.reason in _NO_TLS else (inner.reason or "").lower()
    elif isinstance(inner, socket.gaierror):
        told = "the name is not known"
    else:
        told = os.strerror(number).lower() if isinstance(number, int) and number > 0 else ""
    return f"{where}: {told} ({_name(error)})" if told else f"{where}: {_name(error)}"


def _name(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return f"{type(error).__name__}, errno {number}" if isinstance(number, int) else type(error).__name__

"""Requests over aiohttp: one request with its retries under one deadline, and nothing of aiohttp's let out."""

import asyncio
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import aiohttp
import attrs
from yarl import URL

from asyncruns._codec import is_cut_short
from asyncruns._pacing import Failure, RetryPolicy, RetryQuota, judge_status, next_wait
from asyncruns._protocol import Answer, Request, judge, looks_like_json, request_id
from asyncruns._rate_limit import RateLimit
from asyncruns._secret import Secret
from asyncruns._unpack import ENCODINGS, Unpacker
from asyncruns.errors import (
    AsyncRunsError,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    DecodeError,
    ProtocolError,
    ResponseTooLargeError,
    StatusError,
    TLSError,
    TransportError,
    TruncatedBodyError,
    UnexpectedContentError,
)

logger = logging.getLogger("asyncruns")
ErrorT = TypeVar("ErrorT", bound=AsyncRunsError)

MAX_ERROR_BYTES = 2**20
"""Decoded bytes of an error's body that are read at most."""

_ACCEPT: tuple[dict[str, str], dict[str, str]] = ({}, {"Accept": "text/event-stream"})
_JSON_BODY: tuple[dict[str, str], dict[str, str]] = ({}, {"Content-Type": "application/json"})
_CONNECT_SECONDS = 10.0
_READ_BYTES = 2**18
_RENEW_BEFORE = 60.0
_REMEMBERED_TOKENS = 4
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
_TLS_ERRORS = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError, ssl.CertificateError)
_CONNECT_ERRORS = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_LOST = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionResetError)


@runtime_checkable
class AccessToken(Protocol):
    """A token that knows its end, such as azure-identity's.

    Attributes:
        token: The bearer token.
        expires_on: Unix seconds. It is asked for anew a minute before.
    """

    @property
    def token(self) -> str: ...
    @property
    def expires_on(self) -> float: ...


TokenProvider = Callable[[], Awaitable[str | AccessToken]]
"""Gives a bearer token. A plain string is kept until the server answers 401, an `AccessToken` until it expires."""


class Credentials:
    """The key for each request: one that was given, or one from a provider, asked once for many callers."""

    def __init__(self, source: str | TokenProvider, *, header: str = "Authorization", prefix: str = "Bearer ") -> None:
        self._provider = None if isinstance(source, str) else source
        self._secret = Secret(source) if isinstance(source, str) else None
        self._header, self._prefix = header, prefix
        self._given = deque([self._secret] if self._secret else [], maxlen=_REMEMBERED_TOKENS)
        self._expires_on: float | None = None
        self._asking = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        """Whether asking again may give another key."""
        return self._provider is not None

    async def current(self, now: float) -> Secret:
        """Return the key, from the provider if there is none yet or the old one ends within a minute of *now*."""
        if self._secret is not None and not self._ends(now):
            return self._secret
        async with self._asking:
            if self._secret is None or self._ends(now):
                self._secret = await self._ask()
            return self._secret

    def forget(self, refused: Secret) -> None:
        """Drop *refused*, unless another caller has already replaced it."""
        if self._secret is refused:
            self._secret = None

    def header(self, secret: Secret) -> dict[str, str]:
        """Return the request header that shows *secret* to the server."""
        return {self._header: f"{self._prefix}{secret.reveal()}"}

    def redact(self, text: str) -> str:
        """Return *text* without the key, also where that was replaced meanwhile."""
        for secret in self._given:
            text = secret.redact(text)
        return text

    def _ends(self, now: float) -> bool:
        return self._expires_on is not None and now >= self._expires_on - _RENEW_BEFORE

    async def _ask(self) -> Secret:
        assert self._provider is not None  # noqa: S101  # a given key never ends and is never forgotten
        token = await self._provider()
        if isinstance(token, AccessToken):
            self._expires_on = float(token.expires_on)
            token = token.token
        else:
            self._expires_on = None
        self._given.append(Secret(token, "the token provider's token"))
        return self._given[-1]


@attrs.frozen(kw_only=True)
class Settings:
    """What a transport needs to know; checked by whoever makes it."""

    base_url: str
    credentials: Credentials
    headers: Mapping[str, str]
    query: str
    timeout: float
    retry: RetryPolicy
    rate_limit: RateLimit | None = attrs.field(default=None, kw_only=True)
    max_connections: int
    max_response_bytes: int
    ssl_context: ssl.SSLContext | None = None
    proxy: str | None = attrs.field(default=None, repr=False)
    trace_configs: Sequence[aiohttp.TraceConfig] = ()
    http: aiohttp.ClientSession | None = None
    rate_limit: RateLimit | None = None


class Transport:
    """Keeps the connections and sends requests.

    Attributes:
        sleep: Waits between attempts; tests replace it.
        random: Gives a number from 0 up to 1; tests replace it.
        now: Unix seconds; tests replace it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._quota = RetryQuota()
        self._http: aiohttp.ClientSession | None = None
        self._told_content_type = False
        self.sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
        self.random: Callable[[], float] = random.random
        self.now: Callable[[], float] = time.time

    @property
    def timeout(self) -> float:
        """Seconds for one call, unless it names its own."""
        return self._settings.timeout

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._http = settings.http or aiohttp.ClientSession(
            connector=_Connector(limit=settings.max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BYTES,
            headers=settings.headers,
            trace_configs=list(settings.trace_configs),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        http, self._http = self._http, None
        if http is not None and http is not self._settings.http:
            await http.close()

    async def send(self, request: Request, *, timeout: float | None = None) -> Answer:
        """Send *request* until it succeeds or the pacing gives up, and return the whole answer.

        A request that is not repeatable is sent again only when the failure proves that the server never began it.

        Args:
            request: What to send; never changed, so it may be reused.
            timeout: Seconds for all attempts, the waits between them and the body. None: the session's own.

        Raises:
            TransportError: No complete answer arrived. (No aiohttp error is chained: its request info holds the key.)
            StatusError: The last answer had a status of 400 or above.
            ProtocolError: It said yes with something that cannot be used.
        """
        outcome = await self._call(request, timeout, live=False)
        assert isinstance(outcome, Answer)  # noqa: S101  # only a live call is answered otherwise
        return outcome

    @asynccontextmanager
    async def stream(
        self, request: Request, *, timeout: float | None = None
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Send *request* as `send` does, and give the bytes of the stream that answers it as they come.

        The timeout ends when the answer begins. The bytes raise `TransportError` where the stream is cut or lost.
        Leaving the block closes the connection, unless the stream came to its end.

        Raises:
            UnexpectedContentError: The server said yes with something other than a stream of events.
            TransportError, StatusError, ProtocolError: As `send`.
        """
        outcome = await self._call(request, timeout, live=True)
        assert isinstance(outcome, _LiveAnswer)  # noqa: S101  # a complete answer was an error
        try:
            yield outcome
        finally:
            outcome.close()

    async def _call(self, request: Request, timeout: float | None, *, live: bool) -> "Answer | _LiveAnswer":
        seconds = self._settings.timeout if timeout is None else check_seconds("timeout", timeout)
        await self._take_turn()
        deadline = asyncio.get_running_loop().time() + seconds
        call = _Call(live=live)
        try:
            async with asyncio.timeout_at(deadline) as scope:
                return await self._attempts(request, deadline, call)
        except TimeoutError:
            if not scope.expired():
                raise
        raise DeadlineExceeded(
            f"{request.method} {request.target} had no complete answer in {seconds:g} seconds.",
            attempts=call.attempts,
            request_id=self._request_id(call),
        )

    def redacted(self, error: ErrorT) -> ErrorT:
        """Return *error* without the key, should the server have echoed it, and without the frames that saw it."""
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, self._settings.credentials.redact(value))
        error.args = (error.message,)
        return error.with_traceback(None)

    async def _attempts(self, request: Request, deadline: float, call: "_Call") -> "Answer | _LiveAnswer":
        loop = asyncio.get_running_loop()
        credentials, may_renew = self._settings.credentials, self._settings.credentials.renewable
        while True:
            secret = await credentials.current(self.now())
            call.attempts, call.headers = call.attempts + 1, {}
            outcome = await self._attempt(request, secret, call)
            self._note_limits(outcome, call)
            if not isinstance(outcome, Failure):
                self._quota.give_back(call.attempts - 1)
                return outcome
            if may_renew and isinstance(outcome.error, AuthenticationError):
                may_renew = False
                credentials.forget(secret)
                call.attempts -= 1  # The same attempt, with a key that the server may still take.
                continue
            wait = next_wait(
                outcome,
                attempt=call.attempts,
                repeatable=request.repeatable,
                policy=self._settings.retry,
                remaining=deadline - loop.time(),
                random=self.random,
            )
            if wait is None:
                raise self._told(outcome.error, call)
            if not self._quota.take():
                raise self._told(_without_quota(outcome.error), call)
            logger.info("%s %s: attempt %d failed, next in %.2f s", request.method, request.target, call.attempts, wait)
            await self.sleep(wait)
            await self._take_turn()

    async def _take_turn(self) -> None:
        if self._settings.rate_limit is not None:
            await self._settings.rate_limit.turn()

    def _note_limits(self, outcome: "Answer | _LiveAnswer | Failure", call: "_Call") -> None:
        if self._settings.rate_limit is not None and call.headers:
            error = outcome.error if isinstance(outcome, Failure) else None
            status = error.status if isinstance(error, StatusError) else 200
            self._settings.rate_limit.note(status, call.headers, self.now())

    async def _attempt(self, request: Request, secret: Secret, call: "_Call") -> "Answer | _LiveAnswer | Failure":
        response = None
        try:
            response = await self._ask(request, secret, _ACCEPT[call.live])
            call.headers = response.headers
            _check_length(response)
            if call.live and _is_live(response):
                live, response = _LiveAnswer(response, request), None
                return live
            body = await self._read(response)
        except asyncio.CancelledError as cancelled:
            raise cancelled.with_traceback(None)  # noqa: B904  # aiohttp's frames hold the key
        except DecodeError as error:
            return Failure(error=error, began=True, transient=True, max_attempts=2)
        except TruncatedBodyError as error:
            return Failure(error=error, began=True, transient=True)
        except AsyncRunsError as error:
            return Failure(error=error, began=True, transient=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error, request)
        finally:
            if response is not None:
                response.release()
        answer = Answer(status=response.status, headers=response.headers, body=body)
        return self._judged(answer, request, call)

    def _ask(self, request: Request, secret: Secret, accept: Mapping[str, str]) -> Awaitable[aiohttp.ClientResponse]:
        settings, http = self._settings, self._open_http()
        return http.request(
            request.method,
            URL(f"{settings.base_url}{_joined(request.target, settings.query)}", encoded=True),
            data=request.body,
            headers={
                **(settings.headers if http is settings.http else {}),
                **accept,
                **_JSON_BODY[request.body is not None],
                **settings.credentials.header(secret),
            },
            allow_redirects=False,
            auto_decompress=False,
            timeout=_TIMEOUT,
            ssl=settings.ssl_context or True,
            proxy=settings.proxy,
            middlewares=(*http._middlewares, _sent_once),  # noqa: SLF001  # ours comes on top
        )

    def _judged(self, answer: Answer, request: Request, call: "_Call") -> Answer | Failure:
        error = judge(answer, now=self.now(), redact=self._settings.credentials.redact)
        if error is None and _ends_with_connection(answer) and is_cut_short(answer.body):
            lost = TruncatedBodyError(f"{request.method} {request.target}: the answer ends in the middle.")
            return Failure(error=lost, began=True, transient=True)
        if error is None and call.live:
            error = UnexpectedContentError(
                "A stream of events was asked for, and the server answered at once. The run may have been created.",
                status=answer.status,
                content_type=answer.headers.get("content-type"),
                preview=self._settings.credentials.redact(answer.body[:200].decode("utf-8", "replace")),
            )
        if error is None:
            self._tell_content_type(answer)
            return answer
        if not isinstance(error, StatusError):
            return Failure(error=error, began=True, transient=False)
        began, transient = judge_status(error.status, error.code, answer.headers)
        return Failure(error=error, began=began, transient=transient, retry_after=error.retry_after)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the body unpacked; of a refusal as much as can be had, for its status says enough."""
        chunks: list[bytes] = []
        try:
            if "content-encoding" not in response.headers and self._fits(response):
                return await response.read()
            await self._read_into(chunks, response)
        except (aiohttp.ClientError, OSError, ProtocolError, TruncatedBodyError):
            response.close()
            if response.status < 400:
                raise
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _fits(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the answer says beforehand that it is no larger than may be read."""
        length = response.content_length
        return length is not None and length <= self._limit(response)

    def _limit(self, response: aiohttp.ClientResponse) -> int:
        return self._settings.max_response_bytes if response.status < 400 else MAX_ERROR_BYTES

    async def _read_into(self, chunks: list[bytes], response: aiohttp.ClientResponse) -> None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise UnexpectedContentError(
                "The answer is packed in a way that was not asked for (only gzip and deflate are).",
                status=response.status,
                content_type=response.headers.get("content-type"),
                preview=f"content-encoding: {encoding[:80]}",
            )
        limit = self._limit(response)
        unpacker = Unpacker(encoding)
        size = 0
        async for data in response.content.iter_any():
            for piece in unpacker.feed(data):
                size += len(piece)
                if size > limit:
                    chunks.clear()  # The error's traceback would keep them.
                    raise ResponseTooLargeError(
                        f"The answer is larger than max_response_bytes={limit}; reading stopped there.", limit=limit
                    )
                chunks.append(piece)
        if not unpacker.is_complete:
            raise TruncatedBodyError(f"{response.method} {response.url.path}: the packed answer ends in the middle.")

    def _told(self, error: AsyncRunsError, call: "_Call") -> AsyncRunsError:
        """Write what is known of the call into *error*."""
        if isinstance(error, TransportError):
            error.attempts, error.request_id = call.attempts, self._request_id(call)
        return error

    def _request_id(self, call: "_Call") -> str | None:
        id = request_id(call.headers)
        return None if id is None else self._settings.credentials.redact(id)

    def _open_http(self) -> aiohttp.ClientSession:
        if self._http is None or self._http.closed:
            raise ConfigurationError(
                "The session is not open: use it inside 'async with asyncruns.Session() as session:'."
            )
        return self._http

    def _tell_content_type(self, answer: Answer) -> None:
        if not self._told_content_type and not looks_like_json(answer):
            self._told_content_type = True
            logger.warning("The server sends JSON under another content type; it is read all the same.")


class _LiveAnswer:
    """An answer that is still coming: its bytes, unpacked, as they come. Whoever is cancelled in it may go on."""

    def __init__(self, response: aiohttp.ClientResponse, request: Request) -> None:
        self._response = response
        self._where = f"{request.method} {request.target}"
        self._unpacker = Unpacker(response.headers.get("content-encoding", "").strip().lower())
        self._pieces: Iterator[bytes] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            for piece in self._pieces:
                return piece
            self._pieces = self._unpacker.feed(await self._arrived())

    async def _arrived(self) -> bytes:
        try:
            data = await self._response.content.readany()
        except aiohttp.ClientPayloadError:
            lost: TransportError = TruncatedBodyError(f"{self._where}: the stream was cut.")
        except (aiohttp.ClientError, OSError) as error:
            lost = ConnectionLost(f"{self._where}: the stream was lost ({_name(error)}).")
        else:
            if not data:
                raise StopAsyncIteration
            return data
        raise lost

    def close(self) -> None:
        """Close the connection, unless the answer has ended and given it back."""
        self._response.close()

    def __del__(self) -> None:
        self.close()


@attrs.define
class _Call:
    """What is known of a call under way, should it end without an answer."""

    live: bool = False
    attempts: int = 0
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)


def check_seconds(name: str, value: object) -> float:
    """Return *value* if it is a positive, finite number of seconds, else raise `ValueError` naming *name*."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}.")
    return float(value)


class _Connector(aiohttp.TCPConnector):
    """Gives out a kept connection only if nothing came on it meanwhile: aiohttp would take that for our answer."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


def _check_length(response: aiohttp.ClientResponse) -> None:
    """Refuse an answer of two lengths; aiohttp's parser in Python would choose one."""
    if len(set(response.headers.getall("content-length", ()))) > 1:
        if response._protocol is not None:  # noqa: SLF001  # with a whole body it is back in the pool already
            response._protocol.close()  # noqa: SLF001
        raise ProtocolError("The answer is not valid HTTP: it has two lengths.")


class _LostError(aiohttp.ClientError):
    """A connection that ended under a request; unlike aiohttp's own, it is not sent again behind our back."""


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET by itself, so that attempts are counted in one place."""
    try:
        return await handler(request)
    except _TLS_ERRORS + _CONNECT_ERRORS:
        raise
    except _LOST as error:
        raise _LostError(_name(error)) from None


def _failure(error: Exception, request: Request) -> Failure:
    """Turn whatever aiohttp raised into one of ours, with what it says about the next attempt."""
    where = f"{request.method} {request.target}"
    if isinstance(error, _TLS_ERRORS):
        return Failure(error=TLSError(f"{where}: no trusted connection: {_name(error)}."), began=False, transient=False)
    if isinstance(error, _CONNECT_ERRORS):
        return Failure(error=ConnectError(f"{where}: no connection: {_name(error)}."), began=False, transient=True)
    if isinstance(error, _LostError):
        lost = ConnectionLost(f"{where}: the connection ended before the answer came ({error}).")
        return Failure(error=lost, began=True, transient=True, at_once=True)
    if isinstance(error, aiohttp.ClientPayloadError):
        cut = TruncatedBodyError(f"{where}: the answer was cut short.")
        return Failure(error=cut, began=True, transient=True)
    if isinstance(error, aiohttp.ClientResponseError):
        broken: AsyncRunsError = ProtocolError(f"{where}: the answer is not valid HTTP ({_name(error)}).")
        return Failure(error=broken, began=True, transient=False)
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return Failure(error=ProtocolError(f"{where}: {_name(error)}."), began=False, transient=False)
    return Failure(error=ConnectionLost(f"{where}: {_name(error)}."), began=True, transient=True)


def _is_live(response: aiohttp.ClientResponse) -> bool:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return response.status == 200 and response.content_type == "text/event-stream" and encoding in ENCODINGS


def _without_quota(error: AsyncRunsError) -> AsyncRunsError:
    if isinstance(error, StatusError | TransportError):
        error.retry_quota_exhausted = True
    return error


def _ends_with_connection(answer: Answer) -> bool:
    return "content-length" not in answer.headers and "transfer-encoding" not in answer.headers


def _joined(target: str, query: str) -> str:
    if not query:
        return target
    return f"{target}{'&' if '?' in target else '?'}{query}"


def _name(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    return f"{type(error).__name__}, errno {number}" if isinstance(number, int) else type(error).__name__

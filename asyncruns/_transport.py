"""Requests over aiohttp: one request with its retries under one deadline, and nothing of aiohttp's let out."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, Self, runtime_checkable

import aiohttp
import attrs
from yarl import URL

from asyncruns._codec import is_cut_short
from asyncruns._pacing import Failure, RetryPolicy, RetryQuota, judge_status, next_wait
from asyncruns._protocol import Answer, Request, judge, looks_like_json
from asyncruns._secret import Secret
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

MAX_ERROR_BYTES = 2**20
"""Decoded bytes of an error's body that are read at most."""

_JSON_BODY: tuple[dict[str, str], dict[str, str]] = ({}, {"Content-Type": "application/json"})
_CONNECT_SECONDS = 10.0
_RENEW_BEFORE = 60.0
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
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
        """Return *text* without the key."""
        return text if self._secret is None else self._secret.redact(text)

    def _ends(self, now: float) -> bool:
        return self._expires_on is not None and now >= self._expires_on - _RENEW_BEFORE

    async def _ask(self) -> Secret:
        assert self._provider is not None  # noqa: S101  # a given key never ends and is never forgotten
        token = await self._provider()
        if isinstance(token, AccessToken):
            self._expires_on = float(token.expires_on)
            return Secret(token.token, "the token provider's token")
        self._expires_on = None
        return Secret(token, "the token provider's token")


@attrs.frozen(kw_only=True)
class Settings:
    """What a transport needs to know; checked by whoever makes it."""

    base_url: str
    credentials: Credentials
    headers: Mapping[str, str]
    query: str
    timeout: float
    retry: RetryPolicy
    max_connections: int
    max_response_bytes: int
    ssl_context: ssl.SSLContext | None = None
    proxy: str | None = attrs.field(default=None, repr=False)
    trace_configs: Sequence[aiohttp.TraceConfig] = ()
    http: aiohttp.ClientSession | None = None


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
            connector=aiohttp.TCPConnector(limit=settings.max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
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
        seconds = self._settings.timeout if timeout is None else check_seconds("timeout", timeout)
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline) as scope:
                return await self._attempts(request, deadline)
        except TimeoutError:
            if not scope.expired():
                raise
        raise DeadlineExceeded(f"{request.method} {request.target} had no complete answer in {seconds:g} seconds.")

    async def _attempts(self, request: Request, deadline: float) -> Answer:
        loop = asyncio.get_running_loop()
        credentials, may_renew = self._settings.credentials, self._settings.credentials.renewable
        attempt = 1
        while True:
            secret = await credentials.current(self.now())
            outcome = await self._attempt(request, secret)
            if isinstance(outcome, Answer):
                self._quota.give_back(attempt - 1)
                return outcome
            if may_renew and isinstance(outcome.error, AuthenticationError):
                may_renew = False
                credentials.forget(secret)
                continue
            wait = next_wait(
                outcome,
                attempt=attempt,
                repeatable=request.repeatable,
                policy=self._settings.retry,
                remaining=deadline - loop.time(),
                random=self.random,
            )
            if wait is None:
                raise outcome.error
            if not self._quota.take():
                raise _without_quota(outcome.error)
            logger.info("%s %s: attempt %d failed, next in %.2f s", request.method, request.target, attempt, wait)
            attempt += 1
            await self.sleep(wait)

    async def _attempt(self, request: Request, secret: Secret) -> Answer | Failure:
        settings = self._settings
        try:
            async with self._open_http().request(
                request.method,
                URL(f"{settings.base_url}{_joined(request.target, settings.query)}", encoded=True),
                data=request.body,
                headers={
                    **settings.headers,
                    **_JSON_BODY[request.body is not None],
                    **settings.credentials.header(secret),
                },
                allow_redirects=False,
                timeout=_TIMEOUT,
                ssl=settings.ssl_context or True,
                proxy=settings.proxy,
                middlewares=(*self._open_http()._middlewares, _sent_once),  # noqa: SLF001  # ours comes on top
            ) as response:
                body = await self._read(response)
        except AsyncRunsError as error:
            return Failure(error=error, began=True, transient=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failure(error, request)
        answer = Answer(status=response.status, headers=response.headers, body=body)
        return self._judged(answer, request)

    def _judged(self, answer: Answer, request: Request) -> Answer | Failure:
        error = judge(answer, now=self.now(), redact=self._settings.credentials.redact)
        if error is None and _ends_with_connection(answer) and is_cut_short(answer.body):
            lost = TruncatedBodyError(f"{request.method} {request.target}: the answer ends in the middle.")
            return Failure(error=lost, began=True, transient=True)
        if error is None:
            self._tell_content_type(answer)
            return answer
        if not isinstance(error, StatusError):
            return Failure(error=error, began=True, transient=False)
        began, transient = judge_status(error.status, error.code, answer.headers)
        return Failure(error=error, began=began, transient=transient, retry_after=error.retry_after)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            response.close()
            raise UnexpectedContentError(
                "The answer is packed in a way that was not asked for (only gzip and deflate are).",
                status=response.status,
                content_type=response.headers.get("content-type"),
                preview=f"content-encoding: {encoding[:80]}",
            )
        limit = self._settings.max_response_bytes if response.status < 400 else MAX_ERROR_BYTES
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > limit:
                response.close()
                if response.status >= 400:
                    break
                raise ResponseTooLargeError(
                    f"The answer is larger than max_response_bytes={limit}; reading stopped there."
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

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


def check_seconds(name: str, value: object) -> float:
    """Return *value* if it is a positive, finite number of seconds, else raise `ValueError` naming *name*."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a number of seconds above 0, not {value!r}.")
    return float(value)


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
        return _broken_body(error, where)
    if isinstance(error, aiohttp.ClientResponseError):
        broken: AsyncRunsError = ProtocolError(f"{where}: the answer is not valid HTTP ({_name(error)}).")
        return Failure(error=broken, began=True, transient=False)
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return Failure(error=ProtocolError(f"{where}: {_name(error)}."), began=False, transient=False)
    return Failure(error=ConnectionLost(f"{where}: {_name(error)}."), began=True, transient=True)


def _broken_body(error: aiohttp.ClientPayloadError, where: str) -> Failure:
    packed = "content-encoding" in str(error).lower() or "ContentEncodingError" in str(error)
    if packed and "complete" not in str(error).lower():
        unpacked = DecodeError(f"{where}: the packed body cannot be unpacked.")
        return Failure(error=unpacked, began=True, transient=True, max_attempts=2)
    return Failure(error=TruncatedBodyError(f"{where}: the answer was cut short."), began=True, transient=True)


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

"""Requests over aiohttp: one request with its retries under one deadline, and nothing of aiohttp's let out."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self, TypeVar
from weakref import WeakSet

import aiohttp
import attrs
from yarl import URL

from asyncruns._aiohttp import BROKEN, Connector, LiveAnswer, check_length, failure, is_live, sent_once
from asyncruns._codec import is_cut_short
from asyncruns._credentials import Credentials
from asyncruns._cutoff import Cutoff
from asyncruns._pacing import Failure, RetryPolicy, RetryQuota, judge_status, next_wait
from asyncruns._protocol import Answer, Request, check_seconds, judge, looks_like_json, request_id
from asyncruns._rate_limit import RateLimit
from asyncruns._secret import Secret
from asyncruns._unpack import ENCODINGS, Unpacker
from asyncruns.errors import (
    AsyncRunsError,
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    DecodeError,
    ProtocolError,
    ResponseTooLargeError,
    StatusError,
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
_READ_BYTES = 2**18
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0)


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
        self._has_ended = False
        self._live: WeakSet[LiveAnswer] = WeakSet()
        self._slots = asyncio.Semaphore(settings.max_connections)
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
            connector=Connector(limit=settings.max_connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BYTES,
            headers=settings.headers,
            trace_configs=list(settings.trace_configs),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        for live in list(self._live):  # aiohttp would leave their readers waiting.
            live.close()
        http, self._http, self._has_ended = self._http, None, True
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

    async def stream(self, request: Request, *, timeout: float | None = None) -> LiveAnswer:
        """Send *request* as `send` does, and return the stream that answers it: an iterator over bytes, to be closed.

        The timeout ends when the answer begins. The bytes raise `TransportError` where the stream is cut or lost.
        Closing it closes the connection, unless the stream came to its end; so does forgetting it.

        Raises:
            UnexpectedContentError: The server said yes with something other than a stream of events.
            TransportError, StatusError, ProtocolError: As `send`.
        """
        outcome = await self._call(request, timeout, live=True)
        assert isinstance(outcome, LiveAnswer)  # noqa: S101  # a complete answer was an error
        self._live.add(outcome)
        return outcome

    async def _call(self, request: Request, timeout: float | None, *, live: bool) -> "Answer | LiveAnswer":
        seconds = self._settings.timeout if timeout is None else check_seconds("timeout", timeout)
        await self._take_turn()
        deadline = asyncio.get_running_loop().time() + seconds
        call = _Call(live=live)
        with Cutoff(deadline):
            return await self._attempts(request, deadline, call)
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

    async def _attempts(self, request: Request, deadline: float, call: "_Call") -> "Answer | LiveAnswer":
        loop = asyncio.get_running_loop()
        credentials, may_renew = self._settings.credentials, self._settings.credentials.renewable
        while True:
            secret = await credentials.current(self.now())
            # A slot comes before the work: of ten thousand calls at once, all but a few wait here, and hold little.
            await self._slots.acquire()
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

    def _note_limits(self, outcome: "Answer | LiveAnswer | Failure", call: "_Call") -> None:
        if self._settings.rate_limit is not None and call.headers:
            error = outcome.error if isinstance(outcome, Failure) else None
            status = error.status if isinstance(error, StatusError) else 200
            self._settings.rate_limit.note(status, call.headers, self.now())

    async def _attempt(self, request: Request, secret: Secret, call: "_Call") -> "Answer | LiveAnswer | Failure":
        """Ask once, in a slot that was taken; it is freed at the end, or by the live answer when it is closed."""
        response, free = None, self._slots.release
        try:
            response = await self._ask(request, secret, _ACCEPT[call.live])
            call.headers = response.headers
            check_length(response)
            if call.live and is_live(response):
                live = LiveAnswer(response, request, on_close=free)
                response, free = None, _nothing
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
        except (*BROKEN, ValueError) as error:
            return failure(error, request)
        finally:
            if response is not None:
                response.release()
            free()
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
            middlewares=(*http._middlewares, sent_once),  # noqa: SLF001  # ours comes on top
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
        except (*BROKEN, ProtocolError, TruncatedBodyError):
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
            state = "closed" if self._has_ended or self._http is not None else "not open"
            raise ConfigurationError(
                f"The session is {state}: use it inside 'async with asyncruns.Session() as session:'."
            )
        return self._http

    def _tell_content_type(self, answer: Answer) -> None:
        if not self._told_content_type and not looks_like_json(answer):
            self._told_content_type = True
            logger.warning("The server sends JSON under another content type; it is read all the same.")


@attrs.define
class _Call:
    """What is known of a call under way, should it end without an answer."""

    live: bool = False
    attempts: int = 0
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)


def _nothing() -> None:
    """Do nothing: a live answer frees its slot itself."""


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

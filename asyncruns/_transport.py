"""Requests over aiohttp: one request with its retries under one deadline, and nothing of aiohttp's let out."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import inf
from typing import Any, Literal, Self, TypeVar, overload
from weakref import WeakSet

import aiohttp
import attrs
from yarl import URL

from asyncruns._aiohttp import (
    BROKEN,
    Connector,
    LiveAnswer,
    declared_length,
    failure,
    found_no_connection,
    is_live,
    sent_once,
)
from asyncruns._body import read_body
from asyncruns._call import Call
from asyncruns._codec import is_cut_short
from asyncruns._credentials import Credentials
from asyncruns._cutoff import Cutoff, Timer
from asyncruns._pacing import Failure, RetryPolicy, RetryQuota, judge_status, next_wait
from asyncruns._protocol import (
    Answer,
    Request,
    check_seconds,
    content_type,
    judge,
    looks_like_json,
    preview,
    request_id,
)
from asyncruns._rate_limit import RateLimit
from asyncruns._secret import Secret
from asyncruns.errors import (
    AsyncRunsError,
    AuthenticationError,
    ConfigurationError,
    DeadlineExceeded,
    DecodeError,
    StatusError,
    TransportError,
    TruncatedBodyError,
    UnexpectedContentError,
)

logger = logging.getLogger("asyncruns")
ErrorT = TypeVar("ErrorT", bound=AsyncRunsError)

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
    ssl_context: ssl.SSLContext | None
    proxy: str | None = attrs.field(repr=False)
    trace_configs: Sequence[aiohttp.TraceConfig]
    http: aiohttp.ClientSession | None
    rate_limit: RateLimit | None


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
        self._timer: Timer  # From when it is open.
        self._options: dict[str, Any] = {}  # Of each request, where the HTTP session is the caller's.
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
        self._timer = Timer(asyncio.get_running_loop())
        if settings.http is not None:
            self._http = settings.http
            self._options = {
                "auto_decompress": False,
                "raise_for_status": False,
                "timeout": _TIMEOUT,
                "ssl": settings.ssl_context or True,
                "proxy": settings.proxy,
                "middlewares": (*settings.http._middlewares, sent_once),  # noqa: SLF001  # ours comes on top
            }
            return self
        self._http = aiohttp.ClientSession(
            connector=Connector(limit=settings.max_connections, ssl=settings.ssl_context or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=_TIMEOUT,
            proxy=settings.proxy,
            read_bufsize=_READ_BYTES,
            headers=settings.headers,
            trace_configs=list(settings.trace_configs),
            trust_env=False,
        )
        self._http._retry_connection = False  # noqa: SLF001  # aiohttp's own switch, which its test client uses
        return self

    async def __aexit__(self, *_: object) -> None:
        for live in list(self._live):  # aiohttp would leave their readers waiting.
            live.close()
        self._timer.rest()
        http, self._http, self._has_ended = self._http, None, True
        if http is not None and http is not self._settings.http:
            await http.close()

    def send(self, request: Request, *, timeout: float | None = None, by: float = inf) -> Awaitable[Answer]:
        """Send *request* until it succeeds or the pacing gives up, and return the whole answer.

        A request that is not repeatable is sent again only when the failure proves that the server never began it.

        Args:
            request: What to send; never changed, so it may be reused.
            timeout: Seconds for all attempts, the waits between them and the body. None: the session's own. They begin
                with the first turn that the rate limit gives.
            by: A moment on the event loop's clock by which all of it ends, the wait for that turn too.

        Raises:
            TransportError: No complete answer arrived. (No aiohttp error is chained: its request info holds the key.)
            StatusError: The last answer had a status of 400 or above.
            ProtocolError: It said yes with something that cannot be used.
        """
        return self._call(request, timeout, by, live=False)

    async def stream(self, request: Request, *, timeout: float | None = None, by: float = inf) -> LiveAnswer:
        """Send *request* as `send` does, and return the stream that answers it: an iterator over bytes, to be closed.

        The time ends when the answer begins. The bytes raise `TransportError` where the stream is cut or lost.
        Closing it closes the connection, unless the stream came to its end; so does forgetting it.

        Raises:
            UnexpectedContentError: The server said yes with something other than a stream of events.
            TransportError, StatusError, ProtocolError: As `send`.
        """
        answer = await self._call(request, timeout, by, live=True)
        self._live.add(answer)
        return answer

    @overload
    async def _call(self, request: Request, timeout: float | None, by: float, *, live: Literal[False]) -> Answer: ...
    @overload
    async def _call(self, request: Request, timeout: float | None, by: float, *, live: Literal[True]) -> LiveAnswer: ...
    async def _call(self, request: Request, timeout: float | None, by: float, *, live: bool) -> "Answer | LiveAnswer":
        seconds = self._settings.timeout if timeout is None else check_seconds("timeout", timeout)
        if self._http is None:
            raise self._not_open()
        if asyncio.get_running_loop() is not self._timer.loop:  # aiohttp would say so, from frames that hold the key.
            raise ConfigurationError("The session belongs to another event loop: open a session in each.")
        rate_limit, credentials = self._settings.rate_limit, self._settings.credentials
        if rate_limit is not None:
            await _turn(rate_limit, by)
        begun = self._timer.loop.time()
        seconds = min(seconds, by - begun)
        if seconds <= 0:
            raise DeadlineExceeded("The time was up before the request; nothing was sent.", attempts=0)
        timer = self._timer if seconds == self._settings.timeout else None
        call = Call(request, live=live, when=begun + seconds, timer=timer)
        with call:
            while True:
                if (secret := credentials.held(now := self.now())) is None:
                    secret = await credentials.renewed(now)
                # A slot comes before the work: of ten thousand calls at once, all but a few wait here, and hold little.
                await self._slots.acquire()
                outcome = await self._attempt(call, secret)
                if not isinstance(outcome, Failure):
                    self._quota.give_back(call.attempts - 1)
                    return outcome
                await self._before_next(call, outcome, secret)
        raise call.too_late(seconds, self._request_id(call))

    def redacted(self, error: ErrorT) -> ErrorT:
        """Return *error* without the key, should the server have echoed it, and without the frames that saw it."""
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, self._settings.credentials.redact(value))
        error.args = (error.message,)
        return error.with_traceback(None)

    async def _before_next(self, call: Call, failed: Failure, secret: Secret) -> None:
        """Wait until the next attempt may begin; raise what the last one *failed* with where there is none."""
        credentials, told = self._settings.credentials, call.note(failed)
        if isinstance(failed.error, AuthenticationError) and credentials.renewable and not call.has_renewed:
            credentials.forget(secret)
            call.has_renewed = True
            call.attempts -= 1  # The same attempt, with a key that the server may still take.
        else:
            await self._back_off(call, failed, told)
        if self._settings.rate_limit is not None:
            await self._settings.rate_limit.turn()

    async def _back_off(self, call: Call, failed: Failure, told: AsyncRunsError) -> None:
        wait = next_wait(
            failed,
            attempt=call.attempts,
            repeatable=call.request.repeatable,
            policy=self._settings.retry,
            remaining=call.when - self._timer.loop.time(),
            random=self.random,
        )
        if wait is None:
            raise self._told(told, call)
        if not self._quota.take():
            raise self._told(_without_quota(told), call)
        method, target = call.request.method, call.request.target
        logger.info("%s %s: attempt %d failed, next in %.2f s", method, target, call.attempts, wait)
        await self.sleep(wait)

    async def _attempt(self, call: Call, secret: Secret) -> "Answer | LiveAnswer | Failure":
        """Ask once, in a slot that was taken; it is freed at the end, or by the live answer when it is closed."""
        call.begin_attempt()
        response, free = None, self._slots.release
        try:
            response = await self._ask(call.request, secret, live=call.live)
            call.headers = response.headers
            if self._settings.rate_limit is not None:
                self._settings.rate_limit.note(response.status, response.headers, self.now())
            length = declared_length(response)
            if call.live and is_live(response):
                live = LiveAnswer(response, call.request, on_close=free)
                response, free = None, _nothing
                return live
            body = await read_body(
                response, length, self._settings.max_response_bytes, self._settings.credentials.redact
            )
        except asyncio.CancelledError as cancelled:
            if found_no_connection(cancelled):
                call.note_no_connection()
            raise cancelled.with_traceback(None)  # noqa: B904  # aiohttp's frames hold the key
        except (DecodeError, TruncatedBodyError) as error:
            most = 2 if isinstance(error, DecodeError) else None
            return Failure(error=error, began=True, transient=True, max_attempts=most)
        except UnexpectedContentError as error:  # Its frames hold the header that it tells of.
            return Failure(error=error.with_traceback(None), began=True, transient=False)
        except AsyncRunsError as error:
            return Failure(error=error, began=True, transient=False)
        except (*BROKEN, ValueError) as error:
            return failure(error, call.request)
        finally:
            if response is not None and not response.closed:  # It is, once its body was read to the end.
                response.release()
            free()
        return self._judged(Answer(status=response.status, headers=response.headers, body=body), call)

    def _ask(self, request: Request, secret: Secret, *, live: bool) -> Awaitable[aiohttp.ClientResponse]:
        settings, http = self._settings, self._http
        if http is None or (http is settings.http and http.closed):
            raise self._not_open()
        headers = settings.credentials.header(secret)
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        if live:
            headers["Accept"] = "text/event-stream"
        if http is settings.http:
            headers = {**settings.headers, **headers}
        return http.request(
            request.method,
            URL(f"{settings.base_url}{_joined(request.target, settings.query)}", encoded=True),
            data=request.body,
            headers=headers,
            allow_redirects=False,
            **self._options,
        )

    def _judged(self, answer: Answer, call: Call) -> Answer | Failure:
        # What servers normally send needs no judgement.
        is_usual = answer.status == 200 and answer.body[:1] == b"{" and looks_like_json(answer)
        error = None if is_usual else judge(answer, now=self.now(), redact=self._settings.credentials.redact)
        if error is None and _ends_with_connection(answer) and is_cut_short(answer.body):
            lost = TruncatedBodyError(f"{call.request.method} {call.request.target}: the answer ends in the middle.")
            return Failure(error=lost, began=True, transient=True)
        if error is None and call.live:
            error = UnexpectedContentError(
                "A stream of events was asked for, and the server answered at once. The run may have been created.",
                status=answer.status,
                content_type=content_type(answer.headers, self._settings.credentials.redact),
                preview=preview(answer.body, self._settings.credentials.redact),
            )
        if error is None:
            if not is_usual:
                self._tell_content_type(answer)
            return answer
        if not isinstance(error, StatusError):
            return Failure(error=error, began=True, transient=False)
        began, transient = judge_status(error.status, error.code, answer.headers)
        return Failure(error=error, began=began, transient=transient, retry_after=error.retry_after)

    def _told(self, error: AsyncRunsError, call: Call) -> AsyncRunsError:
        """Write what is known of the call into *error*."""
        if isinstance(error, TransportError):
            error.attempts, error.request_id = call.attempts, self._request_id(call)
        return error

    def _request_id(self, call: Call) -> str | None:
        id = request_id(call.headers)
        return None if id is None else self._settings.credentials.redact(id)

    def _not_open(self) -> ConfigurationError:
        state = "closed" if self._has_ended or self._http is not None else "not open"
        return ConfigurationError(
            f"The session is {state}: use it inside 'async with asyncruns.Session() as session:'."
        )

    def _tell_content_type(self, answer: Answer) -> None:
        if not self._told_content_type and not looks_like_json(answer):
            self._told_content_type = True
            logger.warning("The server sends JSON under another content type; it is read all the same.")


async def _turn(rate_limit: RateLimit, by: float) -> None:
    """Return when the next request may be sent; raise `DeadlineExceeded` if that is not before *by*."""
    if by == inf:
        await rate_limit.turn()
        return
    with Cutoff(by) as cutoff:
        await rate_limit.turn()
    if cutoff.is_over:
        raise DeadlineExceeded("The rate limit gave no turn in time; nothing was sent.", attempts=0)


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

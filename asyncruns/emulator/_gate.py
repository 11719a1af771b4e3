"""What every request passes: who may ask at all, how refusals look, and the headers of each answer."""

import asyncio
import hmac
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from asyncruns.emulator._answers import Cut, LiveAnswer, hang_up, send
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._faults import PUBLISHED, Profile
from asyncruns.emulator._feed import DONE, Event
from asyncruns.emulator._json import decode, encode

_MAX_RECORDED = 100_000


def is_loopback(host: str) -> bool:
    """Return whether *host* is `localhost` or an address of the loopback interface."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(slots=True)
class Gate:
    """The middleware around all operations.

    Args:
        api_key: The one key that opens the emulator.
        delay: Seconds of latency added to each answer.
        profile: How the answers differ from the published ones.
        is_open: Whether live runs are sent; they end soon after it becomes false.
        requests: Method and path with query of each request received; the oldest half of 100,000 is dropped.
        request_count: Number of all requests received.
        refusals: How the next requests are answered, in place of carrying them out.
    """

    api_key: str
    delay: float = 0.0
    profile: Profile = PUBLISHED
    is_open: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    request_count: int = 0
    refusals: deque[Refusal] = field(default_factory=deque)

    def middleware(self) -> Middleware:
        """Return the gate in the shape that the web framework wants."""

        @web.middleware
        async def pass_gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            self._record(request)
            response = await self._answered(request, handler)
            response.headers["x-request-id"] = f"req_{secrets.token_hex(16)}"
            response.headers["openai-processing-ms"] = str(int((time.perf_counter() - began) * 1000))
            if isinstance(response, LiveAnswer):
                await self._send(request, response)
            return response

        return pass_gate

    def _record(self, request: web.Request) -> None:
        self.request_count += 1
        self.requests.append((request.method, request.path_qs))
        if len(self.requests) > _MAX_RECORDED:
            del self.requests[: _MAX_RECORDED // 2]

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        profile = self.profile
        try:
            if self.delay > 0:
                await request.read()  # What has come is carried out, whether or not the client waits for the answer.
                await asyncio.sleep(self.delay)
            self._admit(request)
            if self.refusals:
                raise self.refusals.popleft()
            return _reshaped(profile, await profile.serve(request, handler))
        except Refusal as refusal:
            response = profile.refuse(refusal)
            response.headers.update(refusal.headers)
            return response
        except Cut as cut:
            await hang_up(request, reset=cut.reset)
            return web.Response()
        except web.HTTPException as error:
            response = profile.refuse(_routing_refusal(request, error))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response

    async def _send(self, request: web.Request, live: LiveAnswer) -> None:
        """Send a live run in the profile's manner, until it ends, the client is gone, or the gate closes."""
        profile = self.profile

        async def as_shown() -> AsyncGenerator[Event]:
            async for event in live.events:
                yield _reshaped_event(profile, event)

        async def while_wanted() -> AsyncGenerator[bytes]:
            async with aclosing(as_shown()) as events, aclosing(profile.relay(events)) as chunks:
                async for chunk in chunks:
                    if not self.is_wanted(request):
                        return
                    yield chunk

        await send(request, live, while_wanted())

    def is_wanted(self, request: web.Request) -> bool:
        """Return whether more of a live run can be sent."""
        return self.is_open and request.transport is not None and not request.transport.is_closing()

    def _admit(self, request: web.Request) -> None:
        """Refuse web pages (Origin, DNS rebinding by Host) and those without the key."""
        if "Origin" in request.headers:
            raise Refusal("Requests from web pages are not allowed.", status=403, code="origin_not_allowed")
        host = request.headers.get("Host", "")
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.split(":")[0]
        if not is_loopback(name):
            raise Refusal("The Host header must name a loopback address.", status=403, code="host_not_allowed")
        self._check_key(request)

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("api-key")
        if given is None:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            given = given.strip() if scheme.lower() == "bearer" else ""
        if not given:
            raise Refusal(
                "You didn't provide an API key. Provide it in an Authorization header using Bearer auth "
                "(i.e. Authorization: Bearer YOUR_KEY).",
                status=401,
                code="invalid_api_key",
            )
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.api_key.encode()):
            raise Refusal("Incorrect API key provided.", status=401, code="invalid_api_key")


def _reshaped(profile: Profile, response: web.StreamResponse) -> web.StreamResponse:
    """Return a complete answer as the profile shows it; live ones are reshaped event by event."""
    if profile.reshape is None and profile.repage is None:
        return response
    if not isinstance(response, web.Response) or response.status != 200:
        return response
    value = decode(cast("bytes", response.body))
    if profile.reshape is not None:
        if "data" in value:
            value["data"] = [profile.reshape(item) for item in value["data"]]
        else:
            value = profile.reshape(value)
    if profile.repage is not None and "data" in value:
        value = profile.repage(value)
    response.body = encode(value)
    return response


def _reshaped_event(profile: Profile, event: Event) -> Event:
    if profile.reshape is None or profile.only_json or event == DONE:
        return event
    return Event(event.name, encode(profile.reshape(decode(event.data))))


def _routing_refusal(request: web.Request, error: web.HTTPException) -> Refusal:
    if error.status == 404:
        return Refusal(f"Invalid URL ({request.method} {request.path})", status=404)
    if error.status == 405:
        return Refusal(
            f"Not allowed to {request.method} on {request.path}. "
            "(HINT: Perhaps you meant to use a different HTTP method?)",
            status=405,
            code="method_not_supported",
        )
    return Refusal(f"The request was refused: {error.reason}.", status=error.status)

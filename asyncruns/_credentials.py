"""The key of each request: given, or from a token provider."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Protocol, runtime_checkable

from asyncruns._secret import Secret
from asyncruns.errors import ConfigurationError

_RENEW_BEFORE = 60.0
_REMEMBERED_TOKENS = 4


@runtime_checkable
class AccessToken(Protocol):
    """A token that knows its end, such as azure-identity's: any object with these attributes, for it is a protocol.

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
        if not isinstance(source, str) and not callable(source):
            raise ConfigurationError("api_key must be a string or an async function that gives one.")
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

    def held(self, now: float) -> Secret | None:
        """Return the key; None if there is none yet or it ends within a minute of *now*."""
        return None if self._expires_on is not None and now >= self._expires_on - _RENEW_BEFORE else self._secret

    async def renewed(self, now: float) -> Secret:
        """Return a new key from the provider, where none is held that is good at *now*."""
        async with self._asking:
            secret = self.held(now)
            if secret is None:
                secret = self._secret = await self._ask()
            return secret

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

    async def _ask(self) -> Secret:
        assert self._provider is not None  # noqa: S101  # a given key never ends and is never forgotten
        given: list[Any] = [self._provider()]
        if not isawaitable(given[0]):
            given.clear()  # It may be the token itself, which no frame of an error may hold.
            raise ConfigurationError(
                "The token provider must be a coroutine function, and what it gave cannot be awaited. "
                "Of azure-identity's, take the one from azure.identity.aio."
            )
        given.append(await given.pop())
        try:
            secret, self._expires_on = _read(given.pop())
        except (TypeError, ValueError, OverflowError):
            unusable = ConfigurationError("the token provider's expires_on must be a number of Unix seconds.")
        except ConfigurationError as error:
            unusable = error.with_traceback(None)
        else:
            self._given.append(secret)
            return secret
        raise unusable  # From here: no frame that saw the token hangs on it.


def _read(given: str | AccessToken) -> tuple[Secret, float | None]:
    """Return a token that was given, and when it ends, in Unix seconds."""
    what = "the token provider's token"
    if isinstance(given, AccessToken):
        return Secret(given.token, what), float(given.expires_on)
    return Secret(given, what), None

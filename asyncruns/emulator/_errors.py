"""The refusals that the published service answers with, as one exception."""

from collections.abc import Mapping
from types import MappingProxyType

from asyncruns.emulator._json import encode


class Refusal(Exception):  # noqa: N818 (it is an answer, not a failure)
    """A request that gets an error body instead of an object.

    Args:
        message: The text for people.
        status: The HTTP status.
        param: The request parameter at fault, in the notation `tools[0].type`.
        code: The word for programs.
        type: The family of the error.
        headers: What the answer's head says besides.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        type: str = "invalid_request_error",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.type = type
        self.headers = headers

    def json(self) -> bytes:
        """Return the published error body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return encode({"error": error})


def trouble(status: int, retry_after: float | None) -> Refusal:
    """Return the answer of a server that is too busy, or broken."""
    words = ("Rate limit reached.", "requests", "rate_limit_exceeded")
    message, type, code = words if status == 429 else ("The server had an error.", "server_error", None)
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return Refusal(message, status=status, code=code, type=type, headers=headers)


def not_found(kind: str, id: str) -> Refusal:
    """Return the answer about a resource nobody has stored."""
    return Refusal(f"No {kind} found with id '{id}'.", status=404)

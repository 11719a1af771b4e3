"""The refusals that the published service answers with, as one exception."""

from asyncruns.emulator._json import encode


class Refusal(Exception):  # noqa: N818 (it is an answer, not a failure)
    """A request that gets an error body instead of an object.

    Args:
        message: The text for people.
        status: The HTTP status.
        param: The request parameter at fault, in the notation `tools[0].type`.
        code: The word for programs.
        type: The family of the error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        type: str = "invalid_request_error",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.type = type

    def json(self) -> bytes:
        """Return the published error body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return encode({"error": error})


def not_found(kind: str, id: str) -> Refusal:
    """Return the answer about a resource nobody has stored."""
    return Refusal(f"No {kind} found with id '{id}'.", status=404)

"""The named moments of a write, at which tests end the process."""

from collections.abc import Callable


def _pass(name: str) -> None:
    """Go on."""


reached: Callable[[str], None] = _pass
"""Called with a moment's name whenever one is reached; tests replace it."""

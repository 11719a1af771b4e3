"""Threads: conversations that runs work on."""

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Thread:
    """A conversation (API page: The thread object).

    Attributes:
        id: Names the thread; unique on its server.
        created_at: Unix seconds (milliseconds on some servers; `timestamp` reads both). None: not stated.
        metadata: The caller's own pairs: at most 16, keys of 64 and values of 512 characters at most.
        tool_resources: What tools may read in this thread, by tool, as sent. None: nothing.
        extra: Top-level fields this version does not know, as sent.
    """

    id: str
    created_at: int | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    tool_resources: Mapping[str, object] | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ThreadDeleted:
    """The answer to deleting a thread (API page: Delete thread).

    Attributes:
        id: The thread.
        deleted: Whether it is gone.
        extra: Fields this version does not know.
    """

    id: str
    deleted: bool
    extra: Mapping[str, object] = attrs.field(factory=dict)

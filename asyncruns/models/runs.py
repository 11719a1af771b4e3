"""Runs: one execution of an assistant on a thread."""

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Self

import attrs

from ._time import timestamp
from .tools import NamedToolChoice, ResponseFormat, Tool, TruncationStrategy


class RunStatus(StrEnum):
    """The statuses the API documents (API page: The run object, `status`).

    A server may use others; `Run.status` is a plain string, and members compare equal to strings.
    """

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    REQUIRES_ACTION = "requires_action"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    FAILED = "failed"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    EXPIRED = "expired"


ENDED_AT: Mapping[str, str] = {
    RunStatus.CANCELLED: "cancelled_at",
    RunStatus.FAILED: "failed_at",
    RunStatus.COMPLETED: "completed_at",
    RunStatus.INCOMPLETE: "completed_at",
    RunStatus.EXPIRED: "expires_at",
}
"""Terminal status -> the field that says when the run came to it, as far as there is one; see `Run.duration`."""

TERMINAL_STATUSES: frozenset[str] = frozenset(ENDED_AT)
"""The statuses after which a run never changes again; `requires_action` is not one."""


@attrs.frozen(kw_only=True)
class RequiredToolCall:
    """One function call that a run waits for (API page: The run object, `required_action`).

    On the wire name and arguments stand in an inner object `function`.

    Attributes:
        id: Names the call when its output is submitted.
        name: Name of the function; empty when the call is of another type.
        arguments: The arguments as JSON text, as the model wrote it: it may be invalid.
        type: `function`, or a server's own type.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `function`.
    """

    id: str
    name: str = ""
    arguments: str = ""
    type: str = "function"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class SubmitToolOutputs:
    """The calls whose outputs must be submitted, all in one request.

    Attributes:
        tool_calls: The calls, in the order the model made them.
        extra: Fields this version does not know.
    """

    tool_calls: tuple[RequiredToolCall, ...] = ()
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class RequiredAction:
    """What a run in `requires_action` waits for (API page: The run object, `required_action`).

    Attributes:
        type: `submit_tool_outputs`, or a server's own type.
        submit_tool_outputs: The calls to answer. None when the action is of another type, which is then
            found in `extra`.
        extra: Fields this version does not know.
    """

    type: str = "submit_tool_outputs"
    submit_tool_outputs: SubmitToolOutputs | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class LastError:
    """Why a run or a run step failed (API page: The run object, `last_error`).

    Attributes:
        code: `server_error`, `rate_limit_exceeded`, `invalid_prompt`, or a server's own word such as
            Azure's `tool_user_error`. None: not stated.
        message: The server's text for people, as sent and so unescaped. None: not stated.
        extra: Fields this version does not know.
    """

    code: str | None = None
    message: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class IncompleteDetails:
    """Why a run or a message is incomplete (API pages: The run object, The message object).

    Attributes:
        reason: For a run `max_completion_tokens` or `max_prompt_tokens`; for a message `content_filter`,
            `max_tokens`, `run_cancelled`, `run_expired` or `run_failed`. None: not stated.
        extra: Fields this version does not know.
    """

    reason: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens that a run or a run step used (API page: The run object, `usage`).

    A count the server did not state is None, never 0.

    Attributes:
        prompt_tokens: Tokens read. DashScope's `input_tokens` are given here.
        completion_tokens: Tokens written. DashScope's `output_tokens` are given here.
        total_tokens: The sum, as the server states it; it is not computed here.
        prompt_token_details: More about the tokens read, such as `cached_tokens`, as sent. None: not stated.
        completion_tokens_details: More about the tokens written, such as `reasoning_tokens`, as sent. None: not
            stated.
        extra: Fields this version does not know.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_token_details: Mapping[str, object] | None = None
    completion_tokens_details: Mapping[str, object] | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Run:
    """One execution of an assistant on a thread (API page: The run object).

    Every `*_at` is Unix seconds as on the wire (milliseconds on some servers); `timestamp` reads both.
    None means that the moment has not come, or that the server did not state it.

    Attributes:
        id: Names the run; unique on its server.
        thread_id: The thread it runs on.
        status: One of `RunStatus`, or a word of the server's own.
        assistant_id: The assistant that runs. None: the server did not say.
        created_at: When the run was made.
        started_at: When it began to run.
        expires_at: When it expires, about ten minutes after its creation; servers clear it at the end,
            and some state it on an expired run as the moment it expired.
        completed_at: When it completed.
        failed_at: When it failed.
        cancelled_at: When it was cancelled.
        required_action: What it waits for. None unless the status is `requires_action`.
        last_error: Why it failed. None when nothing went wrong.
        incomplete_details: Why it is incomplete. None unless the status is `incomplete`.
        model: The model used. None: the server did not say.
        instructions: The instructions of this run. None and empty both occur for none.
        tools: The tools offered to the model, at most 20.
        tool_resources: What the tools may read, by tool, as sent. None: not stated.
        metadata: The caller's own pairs: at most 16, keys of 64 and values of 512 characters at most.
        usage: Tokens used. None until the run is terminal, and on servers that do not count.
        temperature: Sampling temperature, 0 to 2. None: the model's default.
        top_p: Nucleus sampling, 0 to 1. None: the model's default.
        reasoning_effort: How long a reasoning model thinks: `none` to `max`. None: not stated.
        max_prompt_tokens: Most prompt tokens over the whole run, 256 or more. None: no limit.
        max_completion_tokens: Most completion tokens over the whole run, 256 or more. None: no limit.
        truncation_strategy: Which messages are read. None: not stated.
        tool_choice: `none`, `auto`, `required`, or the one tool that must be called. None: not stated.
        parallel_tool_calls: Whether the model may call several tools at once. None: not stated, which
            means yes.
        response_format: `auto`, or what the answer must look like. None: not stated.
        extra: Top-level fields this version does not know, as sent.
    """

    id: str
    thread_id: str
    status: str
    assistant_id: str | None = None
    created_at: int | None = None
    started_at: int | None = None
    expires_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    cancelled_at: int | None = None
    required_action: RequiredAction | None = None
    last_error: LastError | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str | None = None
    instructions: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_resources: Mapping[str, object] | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    usage: Usage | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    max_prompt_tokens: int | None = None
    max_completion_tokens: int | None = None
    truncation_strategy: TruncationStrategy | None = None
    tool_choice: str | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: str | ResponseFormat | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def is_terminal(self) -> bool:
        """Whether the run will never change again.

        False for a status that nobody knows: waits go on then, until their timeout, and log it once.
        """
        return self.status in TERMINAL_STATUSES

    @property
    def tool_calls(self) -> tuple[RequiredToolCall, ...]:
        """The function calls the run waits for; empty when it waits for none.

        Calls of another type are left out; they are in `required_action.submit_tool_outputs`, as are old ones that some
        servers leave on a run that has moved on.
        """
        action = self.required_action
        if self.status != RunStatus.REQUIRES_ACTION or action is None or action.submit_tool_outputs is None:
            return ()
        return tuple(call for call in action.submit_tool_outputs.tool_calls if call.type == "function")

    @property
    def duration(self) -> timedelta | None:
        """How long the run ran: from `started_at` to the moment of its terminal status.

        `created_at` stands in for a missing `started_at`. The end is the `*_at` of the status;
        an expired run has none, so `expires_at` is taken, and an incomplete run is taken to end at
        `completed_at`. Never negative: seconds and milliseconds in one run may differ by the rounding.

        None when the run is not terminal, or when one of the two moments is missing or not a date.
        """
        try:
            start = timestamp(self.started_at or self.created_at)
            end = timestamp(getattr(self, ENDED_AT[self.status])) if self.is_terminal else None
        except ValueError:
            return None
        return max(end - start, timedelta(0)) if start and end else None

    def raise_for_status(self) -> Self:
        """Return this run, unless it ended other than completed.

        A run that is not terminal is returned too: nothing has gone wrong yet.

        Raises:
            RunFailed: The status is `failed`; `last_error` and `retry_after` say more.
            RunExpired: The status is `expired`.
            RunCancelled: The status is `cancelled`.
            RunIncomplete: The status is `incomplete`.
        """
        # Imported here because the errors carry runs: errors know models, not the other way round.
        from asyncruns.errors import run_error

        error = run_error(self)
        if error is not None:
            raise error
        return self

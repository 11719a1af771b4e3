"""Run steps: what a run did, message by message and tool call by tool call.

The classes are flat and made to `match` on: an inner object of the wire that only repeats the type's name
is folded into its parent. What this version does not know is kept, in `extra` or in an `Unknown...` object.
"""

from collections.abc import Mapping

import attrs

from .runs import LastError, Usage
from .tools import RankingOptions


@attrs.frozen(kw_only=True)
class CodeInterpreterLogs:
    """Text that the code interpreter wrote (API page: The run step object).

    Attributes:
        logs: The text.
        type: Always `logs`.
        extra: Fields this version does not know.
    """

    logs: str = ""
    type: str = "logs"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class CodeInterpreterImage:
    """An image that the code interpreter made (API page: The run step object).

    Attributes:
        file_id: The file that holds the image; on the wire `image.file_id`.
        type: Always `image`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `image`.
    """

    file_id: str
    type: str = "image"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownCodeInterpreterOutput:
    """An output of a type this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent, `type` included.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


CodeInterpreterOutput = CodeInterpreterLogs | CodeInterpreterImage | UnknownCodeInterpreterOutput


@attrs.frozen(kw_only=True)
class CodeInterpreterToolCall:
    """A call of the code interpreter (API page: The run step object).

    On the wire input and outputs stand in an inner object `code_interpreter`.

    Attributes:
        id: Names the call.
        input: The code that ran.
        outputs: What it gave, in order; empty while it runs.
        type: Always `code_interpreter`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `code_interpreter`.
    """

    id: str
    input: str = ""
    outputs: tuple[CodeInterpreterOutput, ...] = ()
    type: str = "code_interpreter"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FileSearchResultContent:
    """A piece of a file that file search found (API page: The run step object).

    Attributes:
        text: The piece. None: the part holds something other than text.
        type: `text`, or a server's own type.
        extra: Fields this version does not know.
    """

    text: str | None = None
    type: str = "text"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FileSearchResult:
    """A file that file search found (API page: The run step object).

    Attributes:
        file_id: The file.
        file_name: Its name. None: not stated.
        score: How well it fits, 0 to 1. None: not stated.
        content: The pieces found. Empty unless asked for with `include=`.
        extra: Fields this version does not know.
    """

    file_id: str
    file_name: str | None = None
    score: float | None = None
    content: tuple[FileSearchResultContent, ...] = ()
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FileSearchToolCall:
    """A call of file search (API page: The run step object).

    On the wire ranking_options and results stand in an inner object `file_search`.

    Attributes:
        id: Names the call.
        ranking_options: How the results were ranked. None: not stated.
        results: What was found, best first; empty while it searches, and where the server tells nothing.
        type: Always `file_search`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `file_search`.
    """

    id: str
    ranking_options: RankingOptions | None = None
    results: tuple[FileSearchResult, ...] = ()
    type: str = "file_search"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FunctionToolCall:
    """A call of one of the caller's functions (API page: The run step object).

    On the wire name, arguments and output stand in an inner object `function`.

    Attributes:
        id: Names the call.
        name: Name of the function.
        arguments: The arguments as JSON text, as the model wrote it: it may be invalid.
        output: What the caller submitted. None until then, and always on Azure, which does not repeat it.
        type: Always `function`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `function`.
    """

    id: str
    name: str
    arguments: str = ""
    output: str | None = None
    type: str = "function"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownToolCall:
    """A tool call of a type this version does not know, such as Azure's `bing_grounding`.

    Attributes:
        type: The type as sent; empty when the server sent none.
        id: Names the call. None: the server sent none.
        data: The whole object as sent, `type` and `id` included.
    """

    type: str
    id: str | None = None
    data: Mapping[str, object] = attrs.field(factory=dict)


ToolCall = CodeInterpreterToolCall | FileSearchToolCall | FunctionToolCall | UnknownToolCall


@attrs.frozen(kw_only=True)
class MessageCreationStepDetails:
    """The step wrote a message (API page: The run step object, `step_details`).

    Attributes:
        message_id: The message; on the wire `message_creation.message_id`.
        type: Always `message_creation`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `message_creation`.
    """

    message_id: str
    type: str = "message_creation"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ToolCallsStepDetails:
    """The step called tools (API page: The run step object, `step_details`).

    Attributes:
        tool_calls: The calls, in the order the model made them.
        type: Always `tool_calls`.
        extra: Fields this version does not know.
    """

    tool_calls: tuple[ToolCall, ...] = ()
    type: str = "tool_calls"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownStepDetails:
    """Details of a type this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent, `type` included.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


StepDetails = MessageCreationStepDetails | ToolCallsStepDetails | UnknownStepDetails


@attrs.frozen(kw_only=True)
class RunStep:
    """One step of a run (API page: The run step object).

    Every `*_at` is Unix seconds as on the wire (milliseconds on some servers); `timestamp` reads both.
    None means that the moment has not come, or that the server did not state it.

    Attributes:
        id: Names the step; unique on its server.
        run_id: The run it belongs to.
        thread_id: The thread of that run.
        type: `message_creation`, `tool_calls`, or a server's own word.
        status: `in_progress`, `cancelled`, `failed`, `completed`, `expired`, or a server's own word.
        step_details: What the step did; its class follows its type.
        assistant_id: The assistant that runs. None: the server did not say.
        created_at: When the step began.
        completed_at: When it completed.
        failed_at: When it failed.
        cancelled_at: When it was cancelled.
        expired_at: When it expired; real servers name the field `expires_at`, and both are given here.
        last_error: Why it failed. None when nothing went wrong.
        metadata: Pairs of strings, at most 16. Most servers send none.
        usage: Tokens used. None while the step is in progress, and on servers that do not count.
        extra: Top-level fields this version does not know, as sent.
    """

    id: str
    run_id: str
    thread_id: str
    type: str
    status: str
    step_details: StepDetails
    assistant_id: str | None = None
    created_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    cancelled_at: int | None = None
    expired_at: int | None = None
    last_error: LastError | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    usage: Usage | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)

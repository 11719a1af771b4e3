"""Events of a live run: what a stream gives, as classes to `match` on (API page: Streaming, Assistant stream events).

Match on one class (`case RunCompletedEvent(run=run)`) or on a whole kind (`case RunEvent(run=run)`). A server may send
more kinds at any time; they come as `UnknownEvent`.
"""

from collections.abc import Mapping

import attrs

from .messages import Annotation, Message
from .runs import Run
from .steps import CodeInterpreterOutput, RunStep
from .threads import Thread


@attrs.frozen(kw_only=True)
class ThreadCreatedEvent:
    """The thread was created (`thread.created`).

    Attributes:
        thread: The thread.
        name: The event's name on the wire.
    """

    thread: Thread
    name: str = "thread.created"


@attrs.frozen(kw_only=True)
class RunEvent:
    """Any event that carries the run.

    Attributes:
        run: The run as it is now.
        name: The event's name on the wire.
    """

    run: Run
    name: str


@attrs.frozen(kw_only=True)
class RunStepEvent:
    """Any event that carries a whole run step.

    Attributes:
        step: The step as it is now.
        name: The event's name on the wire.
    """

    step: RunStep
    name: str


@attrs.frozen(kw_only=True)
class MessageEvent:
    """Any event that carries a whole message.

    Attributes:
        message: The message as it is now.
        name: The event's name on the wire.
    """

    message: Message
    name: str


@attrs.frozen(kw_only=True)
class RunCreatedEvent(RunEvent):
    """The run was created (`thread.run.created`)."""

    name: str = "thread.run.created"


@attrs.frozen(kw_only=True)
class RunQueuedEvent(RunEvent):
    """The run waits for its turn (`thread.run.queued`)."""

    name: str = "thread.run.queued"


@attrs.frozen(kw_only=True)
class RunInProgressEvent(RunEvent):
    """The run began, or went on after tool outputs (`thread.run.in_progress`)."""

    name: str = "thread.run.in_progress"


@attrs.frozen(kw_only=True)
class RunRequiresActionEvent(RunEvent):
    """The run waits for tool outputs; a stream ends here (`thread.run.requires_action`)."""

    name: str = "thread.run.requires_action"


@attrs.frozen(kw_only=True)
class RunCompletedEvent(RunEvent):
    """The run completed (`thread.run.completed`)."""

    name: str = "thread.run.completed"


@attrs.frozen(kw_only=True)
class RunIncompleteEvent(RunEvent):
    """The run reached a limit of tokens (`thread.run.incomplete`)."""

    name: str = "thread.run.incomplete"


@attrs.frozen(kw_only=True)
class RunFailedEvent(RunEvent):
    """The run failed (`thread.run.failed`)."""

    name: str = "thread.run.failed"


@attrs.frozen(kw_only=True)
class RunCancellingEvent(RunEvent):
    """The run was asked to stop (`thread.run.cancelling`)."""

    name: str = "thread.run.cancelling"


@attrs.frozen(kw_only=True)
class RunCancelledEvent(RunEvent):
    """The run was cancelled (`thread.run.cancelled`)."""

    name: str = "thread.run.cancelled"


@attrs.frozen(kw_only=True)
class RunExpiredEvent(RunEvent):
    """The run expired (`thread.run.expired`)."""

    name: str = "thread.run.expired"


@attrs.frozen(kw_only=True)
class RunStepCreatedEvent(RunStepEvent):
    """A step was created (`thread.run.step.created`)."""

    name: str = "thread.run.step.created"


@attrs.frozen(kw_only=True)
class RunStepInProgressEvent(RunStepEvent):
    """A step began (`thread.run.step.in_progress`)."""

    name: str = "thread.run.step.in_progress"


@attrs.frozen(kw_only=True)
class RunStepCompletedEvent(RunStepEvent):
    """A step completed (`thread.run.step.completed`)."""

    name: str = "thread.run.step.completed"


@attrs.frozen(kw_only=True)
class RunStepFailedEvent(RunStepEvent):
    """A step failed (`thread.run.step.failed`)."""

    name: str = "thread.run.step.failed"


@attrs.frozen(kw_only=True)
class RunStepCancelledEvent(RunStepEvent):
    """A step was cancelled (`thread.run.step.cancelled`)."""

    name: str = "thread.run.step.cancelled"


@attrs.frozen(kw_only=True)
class RunStepExpiredEvent(RunStepEvent):
    """A step expired (`thread.run.step.expired`)."""

    name: str = "thread.run.step.expired"


@attrs.frozen(kw_only=True)
class MessageCreatedEvent(MessageEvent):
    """A message was created, still empty (`thread.message.created`)."""

    name: str = "thread.message.created"


@attrs.frozen(kw_only=True)
class MessageInProgressEvent(MessageEvent):
    """A message is being written (`thread.message.in_progress`)."""

    name: str = "thread.message.in_progress"


@attrs.frozen(kw_only=True)
class MessageCompletedEvent(MessageEvent):
    """A message is complete (`thread.message.completed`)."""

    name: str = "thread.message.completed"


@attrs.frozen(kw_only=True)
class MessageIncompleteEvent(MessageEvent):
    """A message ended before it was complete (`thread.message.incomplete`)."""

    name: str = "thread.message.incomplete"


@attrs.frozen(kw_only=True)
class TextDelta:
    """More text of one content part.

    Attributes:
        index: Which content part of the message, counted from 0, which is also meant where the server does not say.
        value: The text to add; empty when only annotations come.
        annotations: Annotations to add.
        type: Always `text`.
        extra: Fields this version does not know.
    """

    index: int = 0
    value: str = ""
    annotations: tuple[Annotation, ...] = ()
    type: str = "text"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class RefusalDelta:
    """More of a refusal.

    Attributes:
        index: Which content part of the message, counted from 0, which is also meant where the server does not say.
        refusal: The text to add.
        type: Always `refusal`.
        extra: Fields this version does not know.
    """

    index: int = 0
    refusal: str = ""
    type: str = "refusal"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ImageFileDelta:
    """An image that the run made.

    Attributes:
        index: Which content part of the message, counted from 0, which is also meant where the server does not say.
        file_id: The file that holds it. None: not stated yet.
        detail: How closely a model looks at it. None: not stated.
        type: Always `image_file`.
        extra: Fields this version does not know.
    """

    index: int = 0
    file_id: str | None = None
    detail: str | None = None
    type: str = "image_file"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ImageUrlDelta:
    """An image by its address.

    Attributes:
        index: Which content part of the message, counted from 0, which is also meant where the server does not say.
        url: Where it is. None: not stated yet.
        detail: How closely a model looks at it. None: not stated.
        type: Always `image_url`.
        extra: Fields this version does not know.
    """

    index: int = 0
    url: str | None = None
    detail: str | None = None
    type: str = "image_url"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownContentDelta:
    """More of a content part of a type this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


ContentDelta = TextDelta | RefusalDelta | ImageFileDelta | ImageUrlDelta | UnknownContentDelta


@attrs.frozen(kw_only=True)
class MessageDelta:
    """What was added to a message; on the wire role and content stand in an inner object `delta`.

    Attributes:
        id: The message.
        role: Who writes. None: not stated.
        content: What to add, part by part.
        extra: Fields this version does not know.
    """

    id: str
    role: str | None = None
    content: tuple[ContentDelta, ...] = ()
    extra: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def text(self) -> str:
        """The text added, of all parts; empty when none was."""
        return "".join(part.value for part in self.content if isinstance(part, TextDelta))


@attrs.frozen(kw_only=True)
class FunctionToolCallDelta:
    """More of a function call.

    Attributes:
        index: Which tool call of the step, counted from 0, which is also meant where the server does not say.
        id: Names the call; stated once. None: not stated here.
        name: Name of the function; stated once. None: not stated here.
        arguments: JSON text to add.
        output: What the caller submitted. None: nothing yet.
        type: Always `function`.
        extra: Fields this version does not know.
    """

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    output: str | None = None
    type: str = "function"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class CodeInterpreterToolCallDelta:
    """More of a call of the code interpreter.

    Attributes:
        index: Which tool call of the step, counted from 0, which is also meant where the server does not say.
        id: Names the call; stated once. None: not stated here.
        input: Code to add.
        outputs: Outputs to add.
        type: Always `code_interpreter`.
        extra: Fields this version does not know.
    """

    index: int = 0
    id: str | None = None
    input: str = ""
    outputs: tuple[CodeInterpreterOutput, ...] = ()
    type: str = "code_interpreter"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownToolCallDelta:
    """More of a tool call of another type; file search is one, whose results come with the whole step.

    Attributes:
        type: The type as sent; empty when the server sent none.
        id: Names the call. None: not stated here.
        data: The whole object as sent.
    """

    type: str
    id: str | None = None
    data: Mapping[str, object] = attrs.field(factory=dict)


ToolCallDelta = FunctionToolCallDelta | CodeInterpreterToolCallDelta | UnknownToolCallDelta


@attrs.frozen(kw_only=True)
class MessageCreationDelta:
    """The step began to write a message.

    Attributes:
        message_id: The message. None: not stated yet.
        type: Always `message_creation`.
        extra: Fields this version does not know.
    """

    message_id: str | None = None
    type: str = "message_creation"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ToolCallsDelta:
    """More of the step's tool calls.

    Attributes:
        tool_calls: What to add, call by call.
        type: Always `tool_calls`.
        extra: Fields this version does not know.
    """

    tool_calls: tuple[ToolCallDelta, ...] = ()
    type: str = "tool_calls"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownStepDetailsDelta:
    """More of details of a type this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


StepDetailsDelta = MessageCreationDelta | ToolCallsDelta | UnknownStepDetailsDelta


@attrs.frozen(kw_only=True)
class RunStepDelta:
    """What was added to a run step; on the wire the details stand in an inner object `delta`.

    Attributes:
        id: The step.
        step_details: What to add. None: nothing.
        extra: Fields this version does not know.
    """

    id: str
    step_details: StepDetailsDelta | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class MessageDeltaEvent:
    """Something was added to a message (`thread.message.delta`).

    Attributes:
        delta: What was added.
        name: The event's name on the wire.
    """

    delta: MessageDelta
    name: str = "thread.message.delta"


@attrs.frozen(kw_only=True)
class RunStepDeltaEvent:
    """Something was added to a run step (`thread.run.step.delta`).

    Attributes:
        delta: What was added.
        name: The event's name on the wire.
    """

    delta: RunStepDelta
    name: str = "thread.run.step.delta"


@attrs.frozen(kw_only=True)
class ErrorEvent:
    """The server broke the stream off (`error`). A stream raises it as `StreamServerError`.

    Attributes:
        message: The server's own text.
        code: The server's code. None: it gave none.
        name: The event's name on the wire.
    """

    message: str
    code: str | None = None
    name: str = "error"


@attrs.frozen(kw_only=True)
class DoneEvent:
    """The stream is at its end (`done`); the last event of a stream.

    Attributes:
        name: The event's name on the wire.
    """

    name: str = "done"


@attrs.frozen(kw_only=True)
class UnknownEvent:
    """An event that this version does not know.

    Attributes:
        name: The event's name on the wire.
        data: Its data: plain JSON, or the text where it is not JSON.
    """

    name: str
    data: object = None


StreamEvent = (
    ThreadCreatedEvent
    | RunEvent
    | RunStepEvent
    | RunStepDeltaEvent
    | MessageEvent
    | MessageDeltaEvent
    | ErrorEvent
    | DoneEvent
    | UnknownEvent
)

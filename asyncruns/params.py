"""The keywords of create, modify and list.

A key left out is not sent; in what is created or modified, the value None is sent as null. Where the API
takes an object (a tool, a response format), either one of our objects or a plain mapping in the wire's own
shape will do. What a method's name already says (`stream`) and what stands in the URL (ids) is not here.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Required, TypedDict

from asyncruns.models import (
    Attachment,
    MessageContent,
    NamedToolChoice,
    ResponseFormat,
    Tool,
    TruncationStrategy,
)

JSONObject = Mapping[str, object]
"""A plain mapping in the wire's own shape."""

Metadata = Mapping[str, str]
"""The caller's own pairs: at most 16, keys of at most 64 and values of at most 512 characters."""

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How long a reasoning model thinks; not every model takes every value."""

Include = Literal["step_details.tool_calls[*].file_search.results[*].content"]
"""What an answer may hold beyond the usual: the pieces of text that file search found."""


class CodeInterpreterResources(TypedDict, total=False):
    """What the code interpreter may read.

    Attributes:
        file_ids: Ids of files, at most 20.
    """

    file_ids: Sequence[str]


class VectorStoreParams(TypedDict, total=False):
    """A vector store to be made along with a thread.

    Attributes:
        file_ids: Ids of the files to put into it; at most 10,000 in stores made before November 2025, else
            100,000,000.
        chunking_strategy: `{"type": "auto"}`, or `{"type": "static", "static": {...}}` with
            `max_chunk_size_tokens` (100 to 4096) and `chunk_overlap_tokens` (at most half of it).
        metadata: The caller's own pairs.
    """

    file_ids: Sequence[str]
    chunking_strategy: JSONObject
    metadata: Metadata | None


class FileSearchResources(TypedDict, total=False):
    """What file search may read: an existing vector store or a new one.

    Attributes:
        vector_store_ids: Id of a vector store, at most 1.
        vector_stores: A store to make, at most 1. Only when creating a thread, and not with the other.
    """

    vector_store_ids: Sequence[str]
    vector_stores: Sequence[VectorStoreParams]


class ToolResources(TypedDict, total=False):
    """What the tools of a thread or run may read, by tool.

    Attributes:
        code_interpreter: Files for the code interpreter.
        file_search: A vector store for file search.
    """

    code_interpreter: CodeInterpreterResources
    file_search: FileSearchResources


class MessageCreateParams(TypedDict, total=False):
    """A message to add (API page: Create message).

    Attributes:
        role: Who speaks: `user` or `assistant`. Required.
        content: The text, or at least 1 part (text, image file, image URL). Required.
        attachments: Files, each with the tools that may read it. None: no files.
        metadata: The caller's own pairs. None: no pairs.
    """

    role: Required[Literal["user", "assistant"]]
    content: Required[str | Sequence[MessageContent | JSONObject]]
    attachments: Sequence[Attachment | JSONObject] | None
    metadata: Metadata | None


class MessageModifyParams(TypedDict, total=False):
    """What of a message can change (API page: Modify message).

    Attributes:
        metadata: The caller's own pairs, in place of those it has.
    """

    metadata: Metadata | None


class ThreadCreateParams(TypedDict, total=False):
    """A thread to make (API page: Create thread).

    Attributes:
        messages: The messages it begins with, oldest first.
        tool_resources: What tools may read in it. None: nothing.
        metadata: The caller's own pairs. None: no pairs.
    """

    messages: Sequence[MessageCreateParams]
    tool_resources: ToolResources | JSONObject | None
    metadata: Metadata | None


class ThreadModifyParams(TypedDict, total=False):
    """What of a thread can change (API page: Modify thread).

    Attributes:
        tool_resources: What tools may read in it, in place of what it has. None: nothing.
        metadata: The caller's own pairs, in place of those it has.
    """

    tool_resources: ToolResources | JSONObject | None
    metadata: Metadata | None


class _RunSettings(TypedDict, total=False):
    assistant_id: Required[str]
    model: str | None
    instructions: str | None
    tools: Sequence[Tool | JSONObject] | None
    tool_resources: ToolResources | JSONObject | None
    tool_choice: str | NamedToolChoice | JSONObject | None
    parallel_tool_calls: bool
    response_format: str | ResponseFormat | JSONObject | None
    temperature: float | None
    top_p: float | None
    max_prompt_tokens: int | None
    max_completion_tokens: int | None
    truncation_strategy: TruncationStrategy | JSONObject | None
    metadata: Metadata | None


class RunCreateParams(_RunSettings, total=False):
    """A run to make on a thread (API page: Create run).

    Whatever is left out or None is taken from the assistant, or decided by the server.

    Attributes:
        assistant_id: The assistant that runs. Required.
        model: In place of the assistant's model.
        instructions: In place of the assistant's instructions, at most 256,000 characters.
        additional_instructions: Added to the end of the instructions.
        additional_messages: Messages added to the thread before the run begins, oldest first.
        tools: In place of the assistant's tools, at most 20.
        tool_resources: What the tools may read. Azure's servers take it; OpenAI's description has it only for
            `create_and_run`.
        tool_choice: `none`, `auto`, `required`, or the one tool that must be called.
        parallel_tool_calls: Whether the model may call several tools at once. Default: True.
        response_format: `auto`, or what the answer must look like.
        temperature: Sampling temperature, 0 to 2. Default: 1. Change this or top_p, not both.
        top_p: Nucleus sampling, 0 to 1. Default: 1.
        reasoning_effort: How long a reasoning model thinks. Default: `medium`. Azure does not take it.
        max_prompt_tokens: Most prompt tokens over the whole run, 256 or more. Reaching it makes the run
            `incomplete`.
        max_completion_tokens: Most completion tokens over the whole run, 256 or more. Reaching it makes the
            run `incomplete`.
        truncation_strategy: Which messages of the thread are read.
        metadata: The caller's own pairs.
        include: Sent in the query as `include[]`. With a stream, its steps hold what is asked for.
    """

    additional_instructions: str | None
    additional_messages: Sequence[MessageCreateParams] | None
    reasoning_effort: ReasoningEffort | None
    include: Sequence[Include]


class ThreadCreateAndRunParams(_RunSettings, total=False):
    """A thread to make and a run on it, in one request (API page: Create thread and run).

    Whatever is left out or None is taken from the assistant, or decided by the server. Not here, because the
    API does not take them: `additional_instructions`, `additional_messages`, `reasoning_effort`, `include`.

    Attributes:
        assistant_id: The assistant that runs. Required.
        thread: The thread to make. Left out: an empty one.
        model: In place of the assistant's model.
        instructions: In place of the assistant's instructions, at most 256,000 characters.
        tools: In place of the assistant's tools, at most 20.
        tool_resources: What the tools may read: at most 20 files, at most 1 vector store.
        tool_choice: `none`, `auto`, `required`, or the one tool that must be called.
        parallel_tool_calls: Whether the model may call several tools at once. Default: True.
        response_format: `auto`, or what the answer must look like.
        temperature: Sampling temperature, 0 to 2. Default: 1. Change this or top_p, not both.
        top_p: Nucleus sampling, 0 to 1. Default: 1.
        max_prompt_tokens: Most prompt tokens over the whole run, 256 or more. Reaching it makes the run
            `incomplete`.
        max_completion_tokens: Most completion tokens over the whole run, 256 or more. Reaching it makes the
            run `incomplete`.
        truncation_strategy: Which messages of the thread are read.
        metadata: The caller's own pairs, for the run; the thread's are in `thread`.
    """

    thread: ThreadCreateParams


class RunModifyParams(TypedDict, total=False):
    """What of a run can change (API page: Modify run).

    Attributes:
        metadata: The caller's own pairs, in place of those it has.
    """

    metadata: Metadata | None


class ToolOutput(TypedDict, total=False):
    """The answer to one required tool call (API page: Submit tool outputs).

    All outputs of one required action go in one request.

    Attributes:
        tool_call_id: The call answered. Required here; the API lets it be left out, to no purpose.
        output: What the function gave, as text for the model to read.
    """

    tool_call_id: Required[str]
    output: str


class ListParams(TypedDict, total=False):
    """How to walk a listing (API page: List runs).

    Attributes:
        limit: Items a page holds, 1 to 100; never a total. Default: 100.
        order: By creation time: `asc` is oldest first, `desc` newest first. Default: `desc`.
        after: Cursor: the id of the item to continue after. None: from the beginning.
        before: Cursor: the id of the item to end at. Alone it makes the walk go backwards, nearest item
            first; with `after` it is a bound. None: no bound.
        max_items: Most items in all, 0 or more. None: all there are.
    """

    limit: int
    order: Literal["asc", "desc"]
    after: str | None
    before: str | None
    max_items: int | None


class StepListParams(ListParams, total=False):
    """How to walk the steps of a run (API page: List run steps).

    Attributes:
        limit: Items a page holds, 1 to 100; never a total. Default: 100.
        order: By creation time: `asc` is oldest first, `desc` newest first. Default: `desc`.
        after: Cursor: the id of the item to continue after. None: from the beginning.
        before: Cursor: the id of the item to end at. Alone it makes the walk go backwards, nearest item
            first; with `after` it is a bound. None: no bound.
        max_items: Most items in all, 0 or more. None: all there are.
        include: Sent in the query as `include[]`.
    """

    include: Sequence[Include]


class MessageListParams(ListParams, total=False):
    """How to walk the messages of a thread (API page: List messages).

    Attributes:
        limit: Items a page holds, 1 to 100; never a total. Default: 100.
        order: By creation time: `asc` is oldest first, `desc` newest first. Default: `desc`.
        after: Cursor: the id of the item to continue after. None: from the beginning.
        before: Cursor: the id of the item to end at. Alone it makes the walk go backwards, nearest item
            first; with `after` it is a bound. None: no bound.
        max_items: Most items in all, 0 or more. None: all there are.
        run_id: Only messages that this run wrote.
    """

    run_id: str

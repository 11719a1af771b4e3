"""Tools a run may use, and the settings of a run that name them.

These objects come from servers and are also made by users, as arguments of `create`. An object of a type
this version does not know becomes an `Unknown...` object that keeps everything the server sent.
"""

from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class RankingOptions:
    """How file search ranks what it finds (API page: The assistant object, `file_search.ranking_options`).

    Attributes:
        ranker: `auto` or a dated ranker such as `default_2024_08_21`. None: the server decides.
        score_threshold: Results below this score are left out, 0 to 1. None: not stated.
        extra: Fields this version does not know.
    """

    ranker: str | None = None
    score_threshold: float | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class CodeInterpreterTool:
    """The code interpreter, offered to a run (API page: The assistant object, `tools`).

    Attributes:
        type: Always `code_interpreter`.
        extra: Fields this version does not know.
    """

    type: str = "code_interpreter"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FileSearchTool:
    """File search, offered to a run (API page: The assistant object, `tools`).

    On the wire the settings stand in an inner object `file_search`.

    Attributes:
        max_num_results: Most results one search gives, 1 to 50. None: the server decides by model.
        ranking_options: How results are ranked. None: the server decides.
        type: Always `file_search`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `file_search`.
    """

    max_num_results: int | None = None
    ranking_options: RankingOptions | None = None
    type: str = "file_search"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FunctionTool:
    """A function of the caller, offered to a run (API page: The assistant object, `tools`).

    On the wire name, description, parameters and strict stand in an inner object `function`.

    Attributes:
        name: At most 64 characters: letters, digits, `_` and `-`.
        description: What the function does, for the model to read. None: nothing said.
        parameters: JSON schema of the arguments. None: the function takes none.
        strict: Whether the model must follow the schema exactly. None: not stated, which means no.
        type: Always `function`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `function`.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, object] | None = None
    strict: bool | None = None
    type: str = "function"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownTool:
    """A tool of a type this version does not know, such as Azure's `bing_grounding`.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent, `type` included.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


Tool = CodeInterpreterTool | FileSearchTool | FunctionTool | UnknownTool


@attrs.frozen(kw_only=True)
class NamedToolChoice:
    """The one tool a run must call (API page: The run object, `tool_choice`).

    The words `none`, `auto` and `required` stay plain strings in `Run.tool_choice`.

    Attributes:
        type: `function`, `code_interpreter`, `file_search`, or a server's own type.
        name: Name of the function; on the wire `function.name`. None: the type says it all.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `function`.
    """

    type: str = "function"
    name: str | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ResponseFormatText:
    """The model answers with plain text (API page: The run object, `response_format`).

    Attributes:
        type: Always `text`.
        extra: Fields this version does not know.
    """

    type: str = "text"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ResponseFormatJsonObject:
    """The model answers with any valid JSON (API page: The run object, `response_format`).

    Attributes:
        type: Always `json_object`.
        extra: Fields this version does not know.
    """

    type: str = "json_object"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ResponseFormatJsonSchema:
    """The model answers with JSON that follows a schema (API page: The run object, `response_format`).

    On the wire name, description, schema and strict stand in an inner object `json_schema`.

    Attributes:
        name: Name of the format, at most 64 characters: letters, digits, `_` and `-`.
        description: What the format is for, for the model to read. None: nothing said.
        schema: The JSON schema. None: not stated.
        strict: Whether the model must follow the schema exactly. None: not stated, which means no.
        type: Always `json_schema`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `json_schema`.
    """

    name: str
    description: str | None = None
    schema: Mapping[str, object] | None = None
    strict: bool | None = None
    type: str = "json_schema"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownResponseFormat:
    """A response format of a type this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent, `type` included.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


ResponseFormat = ResponseFormatText | ResponseFormatJsonObject | ResponseFormatJsonSchema | UnknownResponseFormat


@attrs.frozen(kw_only=True)
class TruncationStrategy:
    """Which messages of the thread a run reads (API page: The run object, `truncation_strategy`).

    Attributes:
        type: `auto` (messages in the middle are dropped until the rest fits the context) or
            `last_messages`.
        last_messages: How many of the newest messages are read, 1 or more. None unless the type is
            `last_messages`.
        extra: Fields this version does not know.
    """

    type: str = "auto"
    last_messages: int | None = None
    extra: Mapping[str, object] = attrs.field(factory=dict)

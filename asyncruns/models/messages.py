"""Messages: what users and assistants wrote into a thread.

The classes are flat and made to `match` on: an inner object of the wire that only repeats the type's name
is folded into its parent. What this version does not know is kept, in `extra` or in an `Unknown...` object.
"""

from collections.abc import Mapping

import attrs

from .runs import IncompleteDetails
from .tools import Tool


@attrs.frozen(kw_only=True)
class FileCitation:
    """A piece of the text that quotes a file (API page: The message object, `annotations`).

    Attributes:
        text: The piece of the message's text that stands for the citation.
        file_id: The file quoted; on the wire `file_citation.file_id`. None: not stated.
        quote: The words quoted. None on most servers.
        start_index: Where the piece starts in the text, in characters, counted from 0. None: not stated.
        end_index: Where it ends: the first character after it. None: not stated.
        type: Always `file_citation`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `file_citation`.
    """

    text: str = ""
    file_id: str | None = None
    quote: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    type: str = "file_citation"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class FilePath:
    """A piece of the text that names a file a tool made (API page: The message object, `annotations`).

    Attributes:
        text: The piece of the message's text that stands for the file.
        file_id: The file; on the wire `file_path.file_id`. None: not stated.
        start_index: Where the piece starts in the text, in characters, counted from 0. None: not stated.
        end_index: Where it ends: the first character after it. None: not stated.
        type: Always `file_path`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `file_path`.
    """

    text: str = ""
    file_id: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    type: str = "file_path"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UrlCitation:
    """A piece of the text that quotes a web page; Azure's servers send these.

    Attributes:
        text: The piece of the message's text that stands for the citation.
        url: The page; on the wire `url_citation.url`. None: not stated.
        title: The page's title; on the wire `url_citation.title`. None: not stated.
        start_index: Where the piece starts in the text, in characters, counted from 0. None: not stated.
        end_index: Where it ends: the first character after it. None: not stated.
        type: Always `url_citation`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `url_citation`.
    """

    text: str = ""
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    type: str = "url_citation"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownAnnotation:
    """An annotation of a type this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent, `type` included.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


Annotation = FileCitation | FilePath | UrlCitation | UnknownAnnotation


@attrs.frozen(kw_only=True)
class TextContent:
    """Text in a message (API page: The message object, `content`).

    In answers value and annotations stand in an inner object `text`; in requests `text` is the plain
    string.

    Attributes:
        value: The text.
        annotations: Pieces of it that stand for files or pages. Only servers send these.
        type: Always `text`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `text`.
    """

    value: str
    annotations: tuple[Annotation, ...] = ()
    type: str = "text"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ImageFileContent:
    """An uploaded image in a message (API page: The message object, `content`).

    On the wire file_id and detail stand in an inner object `image_file`.

    Attributes:
        file_id: The file that holds the image.
        detail: How closely the model looks: `auto`, `low` or `high`. None: not stated, which means `auto`.
        type: Always `image_file`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `image_file`.
    """

    file_id: str
    detail: str | None = None
    type: str = "image_file"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ImageUrlContent:
    """An image of the web in a message (API page: The message object, `content`).

    On the wire url and detail stand in an inner object `image_url`.

    Attributes:
        url: Where the image is.
        detail: How closely the model looks: `auto`, `low` or `high`. None: not stated, which means `auto`.
        type: Always `image_url`.
        extra: Fields this version does not know, in the wire's shape: those of the inner object stand
            under `image_url`.
    """

    url: str
    detail: str | None = None
    type: str = "image_url"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class RefusalContent:
    """The model declined to answer (API page: The message object, `content`).

    Attributes:
        refusal: What it said instead.
        type: Always `refusal`.
        extra: Fields this version does not know.
    """

    refusal: str
    type: str = "refusal"
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class UnknownContent:
    """A content part of a type, or in a shape, that this version does not know.

    Attributes:
        type: The type as sent; empty when the server sent none.
        data: The whole object as sent, `type` included.
    """

    type: str
    data: Mapping[str, object] = attrs.field(factory=dict)


MessageContent = TextContent | ImageFileContent | ImageUrlContent | RefusalContent | UnknownContent


@attrs.frozen(kw_only=True)
class Attachment:
    """A file attached to a message (API page: The message object, `attachments`).

    Attributes:
        file_id: The file. None: the server did not say.
        tools: The tools that may read it.
        extra: Fields this version does not know.
    """

    file_id: str | None = None
    tools: tuple[Tool, ...] = ()
    extra: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Message:
    """A message in a thread (API page: The message object).

    Every `*_at` is Unix seconds as on the wire (milliseconds on some servers); `timestamp` reads both.
    None means that the moment has not come, or that the server did not state it.

    Attributes:
        id: Names the message; unique on its server.
        thread_id: The thread it belongs to.
        role: `user`, `assistant`, or a server's own word.
        content: The parts, in order; empty while the assistant has written nothing.
        created_at: When the message was made.
        completed_at: When it was completed.
        incomplete_at: When it was given up.
        status: `in_progress`, `incomplete`, `completed`, or a server's own word. None: not stated.
        incomplete_details: Why it is incomplete. None unless the status is `incomplete`.
        assistant_id: The assistant that wrote it. None: a user did, or the server did not say.
        run_id: The run that wrote it. None: a user did, or the server did not say.
        attachments: Files attached, each with the tools that may read it.
        metadata: The caller's own pairs: at most 16, keys of 64 and values of 512 characters at most.
        extra: Top-level fields this version does not know, as sent.
    """

    id: str
    thread_id: str
    role: str
    content: tuple[MessageContent, ...] = ()
    created_at: int | None = None
    completed_at: int | None = None
    incomplete_at: int | None = None
    status: str | None = None
    incomplete_details: IncompleteDetails | None = None
    assistant_id: str | None = None
    run_id: str | None = None
    attachments: tuple[Attachment, ...] = ()
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    extra: Mapping[str, object] = attrs.field(factory=dict)

    @property
    def text(self) -> str:
        """The text parts joined with nothing between them; empty when there are none."""
        return "".join(part.value for part in self.content if isinstance(part, TextContent))


@attrs.frozen(kw_only=True)
class MessageDeleted:
    """The answer to deleting a message (API page: Delete message).

    Attributes:
        id: The message.
        deleted: Whether it is gone.
        extra: Fields this version does not know.
    """

    id: str
    deleted: bool
    extra: Mapping[str, object] = attrs.field(factory=dict)

"""Bytes -> server-sent events, incremental: WHATWG HTML, section 9.2.6 ("Interpreting an event stream").

The field values stay bytes: the data of this protocol is JSON, which the codec decodes, and an invalid byte is then an
error and not a replacement character.
"""

from collections.abc import Iterator

import msgspec

from asyncruns.errors import ResponseTooLargeError

MAX_LINE_BYTES = 8 * 2**20
"""A line longer than this is an error; so is the data of one event."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event of a stream.

    Attributes:
        name: The event's type; `message` where the stream names none.
        data: The data lines, joined by line feeds.
        id: The last event id, which lives on until the stream sends another; empty if it has sent none.
    """

    name: str
    data: bytes
    id: str = ""


class SSEDecoder:
    """Takes the bytes of a stream as they come, in pieces of any size, and gives the events that they complete.

    An event is given when the empty line that ends it has come; what a stream leaves unfinished at its end is never
    given. Lines end in LF, CR or CRLF, also mixed, also with the CRLF cut in two. Events without data are not given.
    `retry` is passed over: a run's stream cannot be taken up again.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max = max_line_bytes
        self._partial = bytearray()
        self._after_cr = False
        self._begun = False
        self._name = ""
        self._data: bytes | bytearray | None = None
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Take the next bytes, and yield the events that are complete now; use up one piece before feeding the next.

        Raises:
            ResponseTooLargeError: A line, or the data of one event, exceeds the limit.
        """
        for line in self._lines(chunk):
            if line:
                if len(line) > self._max:
                    raise self._too_large("A line")
                self._field(line)
                continue
            if self._data is not None:
                yield ServerSentEvent(self._name or "message", bytes(self._data), self._id)
                self._data = None
            self._name = ""
        if len(self._partial) > self._max:
            raise self._too_large("A line")

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if name == b"data":
            self._data = value if self._data is None else self._continued(self._data, value)
        elif name == b"event":
            self._name = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")

    def _continued(self, data: bytes | bytearray, value: bytes) -> bytearray:
        if len(data) + len(value) >= self._max:
            raise self._too_large("The data of one event")
        grown = data if isinstance(data, bytearray) else bytearray(data)
        grown += b"\n"
        grown += value
        return grown

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that are complete, without their ends; keep the rest for the next piece."""
        if not self._begun:
            chunk = self._without_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        if len(lines) > 1 and self._partial:
            lines[0] = bytes(self._partial + lines[0])
            self._partial.clear()
        self._partial += lines.pop()
        return lines

    def _without_bom(self, chunk: bytes) -> bytes:
        """Drop one byte order mark at the very beginning, also when it comes in pieces."""
        chunk = bytes(self._partial + chunk)
        self._partial.clear()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._partial += chunk
            return b""
        self._begun = True
        return chunk.removeprefix(_BOM)

    def _too_large(self, what: str) -> ResponseTooLargeError:
        return ResponseTooLargeError(f"{what} of the stream is longer than {self._max} bytes.", limit=self._max)

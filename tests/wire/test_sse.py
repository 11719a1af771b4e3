"""Bytes to server-sent events: the cases of WHATWG HTML, section 9.2, by name, and the law of splitting."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncruns import ResponseTooLargeError
from asyncruns._sse import MAX_LINE_BYTES, ServerSentEvent, SSEDecoder

BOM = b"\xef\xbb\xbf"


def decode(*pieces: bytes) -> list[ServerSentEvent]:
    """Return the events that *pieces* give, fed one after the other."""
    decoder = SSEDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def one_by_one(data: bytes) -> list[ServerSentEvent]:
    """Return the events that *data* gives when it comes byte by byte."""
    return decode(*(data[n : n + 1] for n in range(len(data))))


def reference_lines(data: bytes) -> list[bytes]:
    """Return the lines that have ended: in CR LF, in LF, or in CR."""
    lines, line, place = [], bytearray(), 0
    while place < len(data):
        byte = data[place]
        place += 1
        if byte == 0x0D and data[place : place + 1] == b"\n":
            place += 1
        if byte in (0x0A, 0x0D):
            lines.append(bytes(line))
            line = bytearray()
        else:
            line.append(byte)
    return lines


def reference(data: bytes) -> list[ServerSentEvent]:
    """Decode *data* slowly, step by step as sections 9.2.5 and 9.2.6 of the WHATWG text say."""
    events, data_buffer, event_type, last_id = [], b"", b"", b""
    for line in reference_lines(data[3:] if data.startswith(BOM) else data):
        if not line:
            if data_buffer:
                name = event_type.decode("utf-8", "replace") or "message"
                events.append(ServerSentEvent(name, data_buffer[:-1], last_id.decode("utf-8", "replace")))
            data_buffer, event_type = b"", b""
            continue
        if line[0] == 0x3A:
            continue
        colon = line.find(b":")
        field, value = (line, b"") if colon < 0 else (line[:colon], line[colon + 1 :])
        if colon >= 0 and value[:1] == b" ":
            value = value[1:]
        if field == b"event":
            event_type = value
        elif field == b"data":
            data_buffer += value + b"\n"
        elif field == b"id" and 0 not in value:
            last_id = value
    return events


A_THEN_B = [ServerSentEvent("a", b"1"), ServerSentEvent("b", b"2")]
CASES = {
    "LF": (b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n", A_THEN_B),
    "CR": (b"event: a\rdata: 1\r\revent: b\rdata: 2\r\r", A_THEN_B),
    "CRLF": (b"event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n", A_THEN_B),
    "mixed line ends": (b"event: a\r\ndata: 1\n\revent: b\rdata: 2\r\n\n", A_THEN_B),
    "LF CR ends two lines": (
        b"data: 1\n\rdata: 2\n\r",
        [ServerSentEvent("message", b"1"), ServerSentEvent("message", b"2")],
    ),
    "BOM": (BOM + b"data: 1\n\n", [ServerSentEvent("message", b"1")]),
    "only the first BOM": (BOM + BOM + b"data: 1\n\ndata: 2\n\n", [ServerSentEvent("message", b"2")]),
    "BOM later is no BOM": (b"\n" + BOM + b"data: 1\n\n", []),
    "comment": (b": ping\ndata: 1\n: ping\n\n:\n\n", [ServerSentEvent("message", b"1")]),
    "data in several lines": (b"data: 1\ndata:\ndata: 3\n\n", [ServerSentEvent("message", b"1\n\n3")]),
    "no data no event": (b"event: a\n\ndata: 1\n\n", [ServerSentEvent("message", b"1")]),
    "data without colon": (b"data\n\n", [ServerSentEvent("message", b"")]),
    "data without colon, twice": (b"data\ndata\n\n", [ServerSentEvent("message", b"\n")]),
    "empty data": (b"data:\n\n", [ServerSentEvent("message", b"")]),
    "event without colon": (b"event: a\nevent\ndata: 1\n\n", [ServerSentEvent("message", b"1")]),
    "unknown field": (b"dat: 1\nDATA: 1\n data: 1\ndata : 1\ndata: 2\n\n", [ServerSentEvent("message", b"2")]),
    "one leading space goes": (
        b"data:1\n\ndata:  2\n\n",
        [ServerSentEvent("message", b"1"), ServerSentEvent("message", b" 2")],
    ),
    "a tab stays": (b"data:\t1\n\n", [ServerSentEvent("message", b"\t1")]),
    "colons in the value": (b"data: a:b\n\n", [ServerSentEvent("message", b"a:b")]),
    "the last event name counts": (b"event: a\nevent: b\ndata: 2\n\n", A_THEN_B[1:]),
    "id lives on": (
        b"id: 7\ndata: 1\n\ndata: 2\n\nid\ndata: 3\n\n",
        [
            ServerSentEvent("message", b"1", "7"),
            ServerSentEvent("message", b"2", "7"),
            ServerSentEvent("message", b"3"),
        ],
    ),
    "id without data lives on": (b"id: 7\n\ndata: 1\n\n", [ServerSentEvent("message", b"1", "7")]),
    "id with NUL": (b"id: 7\nid: 8\0\ndata: 1\n\n", [ServerSentEvent("message", b"1", "7")]),
    "retry": (b"retry: 10\ndata: 1\n\nretry: 10\n\n", [ServerSentEvent("message", b"1")]),
    "U+2028 in data": (
        "data: a\u2028b\u2029c\u0085d\x0be\x0cf\n\n".encode(),
        [ServerSentEvent("message", "a\u2028b\u2029c\u0085d\x0be\x0cf".encode())],
    ),
    "UTF-8": ("event: é\ndata: 東京 🎈\n\n".encode(), [ServerSentEvent("é", "東京 🎈".encode())]),
    "invalid UTF-8 stays in data": (b"event: \xff\ndata: \xff\n\n", [ServerSentEvent("\ufffd", b"\xff")]),
    "end without an empty line": (b"data: 1\n\ndata: 2\n", [ServerSentEvent("message", b"1")]),
    "end in a line": (b"data: 1\n\ndata: 2", [ServerSentEvent("message", b"1")]),
    "empty lines only": (b"\n\r\n\r\r\n\n", []),
    "nothing": (b"", []),
    "half a BOM": (BOM[:2], []),
    "what only begins as a BOM": (BOM[:2] + b"\ndata: 1\n\n", [ServerSentEvent("message", b"1")]),
}


@pytest.mark.parametrize("name", CASES)
def test_whatwg(name: str) -> None:
    """Each case gives its events: whole, byte by byte, cut in two anywhere, and by the slow reference too."""
    data, events = CASES[name]
    assert decode(data) == events
    assert one_by_one(data) == events
    for cut in range(len(data) + 1):
        assert decode(data[:cut], b"", data[cut:]) == events, f"cut at {cut}"
    assert reference(data) == events


def test_gives_an_event_at_its_empty_line() -> None:
    """An event comes with the byte that ends it, not later: with a CR it is not held back for an LF."""
    for end in (b"\n\n", b"\r\r", b"\r\n\r"):
        decoder = SSEDecoder()
        assert list(decoder.feed(b"data: 1" + end[:-1])) == []
        assert list(decoder.feed(end[-1:])) == [ServerSentEvent("message", b"1")]


PIECE = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b":", b" ", b"data", b"data:", b"data: x", b"event: e", b"id: i", b"\0", b"retry: 1", BOM]
)
STREAM = st.lists(PIECE | st.binary(max_size=4)).map(b"".join)


@given(STREAM, st.lists(st.integers(0, 200)))
@example(b"data: 1\r\n\r\n", [8, 9, 10])
def test_any_split_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    """Any split of any bytes gives what the bytes give unsplit, and what the slow reference reads out of them."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges)]
    assert decode(*pieces) == decode(data) == one_by_one(data) == reference(data)


LIMIT = 16
AT_LIMIT = b"data: " + b"x" * 10


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("end", [b"\n", b""], ids=["ended", "unfinished"])
@pytest.mark.parametrize("start", [b"", BOM], ids=["", "bom"])
def test_line_cap(size: int, end: bytes, start: bytes) -> None:
    """A line of exactly the limit passes; one byte more is an error, ended or not, after the events before it."""

    def feed(line: bytes) -> list[ServerSentEvent]:
        data = start + b"data: 0\n\n" + line
        for place in range(0, len(data), size):
            events.extend(decoder.feed(data[place : place + size]))
        return events

    events: list[ServerSentEvent] = []
    decoder = SSEDecoder(LIMIT)
    assert feed(AT_LIMIT + end) == [ServerSentEvent("message", b"0")]
    events, decoder = [], SSEDecoder(LIMIT)
    with pytest.raises(ResponseTooLargeError, match="A line of the stream is longer than 16 bytes") as caught:
        feed(AT_LIMIT + b"x" + end)
    assert caught.value.limit == LIMIT
    assert events == [ServerSentEvent("message", b"0")]


def test_data_cap() -> None:
    """The data of one event has the same limit over all its lines, and empty lines of data count too."""
    decoder = SSEDecoder(LIMIT)
    (event,) = decoder.feed(b"data: 1234567\n" * 2 + b"data\n\n")
    assert len(event.data) == LIMIT
    for line in (b"data: 1234567\n", b"data\n"):
        decoder = SSEDecoder(LIMIT)
        with pytest.raises(ResponseTooLargeError, match="The data of one event"):
            list(decoder.feed(line * 20))


def test_a_stream_of_small_events_has_no_cap() -> None:
    """The limit is for a line and an event, not for the stream."""
    decoder = SSEDecoder(LIMIT)
    assert sum(1 for _ in range(100) for _ in decoder.feed(b": ping\ndata: 1\n\n" * 10)) == 1000


def test_the_limit_is_8_mib() -> None:
    """Unless told otherwise a line may have 8 MiB."""
    assert MAX_LINE_BYTES == 8 * 2**20
    (event,) = decode(b"data:" + b"x" * (MAX_LINE_BYTES - 5), b"\n\n")
    assert len(event.data) == MAX_LINE_BYTES - 5
    with pytest.raises(ResponseTooLargeError):
        decode(b"data:" + b"x" * (MAX_LINE_BYTES - 4))

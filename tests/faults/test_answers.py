"""Rows 16 to 21 and 33 to 44 of the fault matrix: servers that say yes and send something else."""

import asyncio
import copy
import gzip
import json
import pickle
import traceback
import zlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import pytest

from asyncruns import (
    AsyncRunsError,
    BadRequestError,
    DecodeError,
    IdentityMismatchError,
    ProtocolError,
    ResponseTooLargeError,
    Run,
    RunCreationUnknown,
    SchemaError,
    ServerError,
    Session,
    UnexpectedContentError,
    WaitTimeout,
)

from .bodies import RUN, THREAD, page, run
from .conftest import KEY, Bench, busy_time, memory_peak
from .script_server import Action, answer, chunked, flood, head, reply, say

ErrorT = TypeVar("ErrorT", bound=AsyncRunsError)
RUN_BYTES = json.dumps(run()).encode()
MIB = 2**20


def retrieve(session: Session) -> Any:
    """Return a call that reads the run."""
    return session.runs.retrieve(THREAD, RUN)


def create(session: Session) -> Any:
    """Return a call that creates a run."""
    return session.runs.create(THREAD, assistant_id="asst_1")


async def fails(bench: Bench, kind: type[ErrorT], session: Session, call: Any) -> ErrorT:
    """Return the error of exactly *kind* that *call* ends with.

    Of a create it is the cause: the server said yes, so whether there is a run is unknown.
    """
    if call is not create:
        return await bench.fails(kind, call(session))
    unknown = await bench.fails(RunCreationUnknown, call(session))
    assert (unknown.thread_id, unknown.request_key) == (THREAD, None)
    cause = unknown.__cause__
    assert type(cause) is kind
    assert str(cause) in str(unknown) or len(str(unknown)) == 500
    return cause


def with_field(name: str, value: bytes) -> bytes:
    """Return a run whose field *name* is exactly *value*."""
    return RUN_BYTES[:-1] + b', "%b": %b}' % (name.encode(), value)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_row_16_bad_packing_of_a_get(bench: Bench, encoding: str) -> None:
    """A body that cannot be unpacked is asked for once more and then is a decode error."""
    async with bench.serve(answer(b"no gzip at all", content_encoding=encoding)) as (server, session):
        await bench.fails(DecodeError, retrieve(session))
        assert server.count == 2


async def test_row_16_bad_gzip_of_a_create(bench: Bench) -> None:
    """A create whose answer cannot be unpacked is sent once."""
    async with bench.serve(answer(b"no gzip at all", content_encoding="gzip")) as (server, session):
        await fails(bench, DecodeError, session, create)
        assert server.count == 1


PACKED = {
    "gzip": gzip.compress(RUN_BYTES),
    "gzip of two members": gzip.compress(RUN_BYTES[:40]) + gzip.compress(RUN_BYTES[40:]),
    "deflate": zlib.compress(RUN_BYTES),
    "deflate without its header": zlib.compress(RUN_BYTES)[2:-4],
    "identity": RUN_BYTES,
}


@pytest.mark.parametrize("name", PACKED)
async def test_row_16_good_packing(bench: Bench, name: str) -> None:
    """Each packing that real servers use is understood, also when its bytes come one at a time."""
    bytewise = chunked(*(PACKED[name][n : n + 1] for n in range(len(PACKED[name]))))
    encoding = name.partition(" ")[0]
    script = (
        answer(PACKED[name], content_encoding=encoding),
        say(head(content_encoding=encoding.upper(), transfer_encoding="chunked") + bytewise, "keep"),
    )
    async with bench.serve(*script) as (server, session):
        assert (await retrieve(session)).id == RUN
        assert (await retrieve(session)).id == RUN
        assert (server.count, server.connections) == (2, 1)


@pytest.mark.parametrize("call", [retrieve, create])
async def test_row_17_html_with_status_200(bench: Bench, call: Any) -> None:
    """A page of HTML is an error that shows how it begins, escaped and cut."""
    html = f"<html>\x1b]0;title\x07 {KEY} \u202e" + "x" * 10_000
    async with bench.serve(answer(html, content_type="text/html; charset=utf-8")) as (server, session):
        failed = await fails(bench, UnexpectedContentError, session, call)
        assert server.count == 1
    assert failed.status == 200
    assert failed.preview.startswith("<html>\\x1b]0;title\\x07 [redacted] \\u202exxx")
    assert len(failed.preview) <= 200


async def test_row_17_preview_that_ends_within_the_key(bench: Bench) -> None:
    """A key that stands across the end of the preview leaves no piece of itself there."""
    async with bench.serve(answer("<" * 190 + KEY, content_type="text/html")) as (_, session):
        failed = await bench.fails(UnexpectedContentError, retrieve(session))
    assert "CANARY" not in failed.preview
    assert "CANARY" not in str(failed)


async def test_row_19_json_as_text(bench: Bench) -> None:
    """JSON under another content type is read, and that is logged once."""
    async with bench.serve(answer(run(), content_type="text/plain")) as (server, session):
        assert (await retrieve(session)).id == RUN
        assert (await retrieve(session)).id == RUN
        assert server.count == 2
    assert len([text for text in bench.shown if text.startswith("The server sends JSON under")]) == 1


NOT_AN_OBJECT = [b"", b" \n", b"null", b"[]", b'"x"', b"1", b"true"]


@pytest.mark.parametrize("body", NOT_AN_OBJECT)
@pytest.mark.parametrize("call", [retrieve, create])
async def test_row_20_no_object(bench: Bench, body: bytes, call: Any) -> None:
    """A 200 without an object in it is a schema error after one request, never None or a list."""
    async with bench.serve(answer(body)) as (server, session):
        failed = await fails(bench, SchemaError, session, call)
        assert server.count == 1
    assert failed.path == "$"


async def test_row_20_no_content(bench: Bench) -> None:
    """A 204 is a schema error."""
    async with bench.serve(say(head(204), "keep")) as (server, session):
        await bench.fails(SchemaError, retrieve(session))
        assert server.count == 1


@pytest.mark.parametrize("body", [{"error": {"message": "no such run"}}, {"error": "no such run"}])
@pytest.mark.parametrize("call", [retrieve, create])
async def test_row_21_error_object_with_status_200(bench: Bench, body: object, call: Any) -> None:
    """An error object under status 200 is an error with its message, never a model."""
    async with bench.serve(answer(body)) as (server, session):
        failed = await fails(bench, ProtocolError, session, call)
        assert server.count == 1
    assert "no such run" in str(failed)


async def test_row_21_error_object_that_echoes_the_key(bench: Bench) -> None:
    """The key is taken out of the text of an error under status 200 too."""
    async with bench.serve(answer({"error": {"message": f"bad key {KEY}!"}})) as (_, session):
        failed = await bench.fails(ProtocolError, retrieve(session))
    assert "bad key [redacted]!" in failed.message


def bomb(mib: int) -> bytes:
    """Return gzip that unpacks to *mib* MiB of zeros, without ever having them in memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + again * (mib - 1)


async def test_row_33_gzip_bomb(bench: Bench) -> None:
    """Half a megabyte that unpacks to 512 MiB is given up quickly, and memory does not grow with it."""
    data = bomb(512)
    assert 400_000 < len(data) < 1_000_000
    loop = asyncio.get_running_loop()
    async with bench.serve(answer(data, content_encoding="gzip")) as (server, session):
        started = loop.time()
        with memory_peak() as peak, busy_time() as busy, pytest.raises(ResponseTooLargeError) as caught:
            await retrieve(session)
        assert loop.time() - started < 1.0
        assert busy.seconds < 1.0
        assert server.count == 1
    bench.look_at(caught.value)
    held = [value for frame, _ in traceback.walk_tb(caught.tb) for value in frame.f_locals.values()]
    assert [] in held, "the error keeps alive what was read"
    assert peak.growth < 64 * MIB
    assert caught.value.limit == 32 * MIB


async def test_row_33_bomb_in_a_refusal(bench: Bench) -> None:
    """The body of a refusal is unpacked up to 1 MiB."""
    async with bench.serve(answer(bomb(256), 404, content_encoding="gzip")) as (_, session):
        with memory_peak() as peak, pytest.raises(Exception, match="404"):
            await retrieve(session)
    assert peak.growth < 32 * MIB


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "compress", "gzip;q=1"])
async def test_row_34_other_packings(bench: Bench, encoding: str) -> None:
    """A packing that was not asked for is refused unread, gzip inside gzip among them."""
    data = gzip.compress(bomb(64))
    async with bench.serve(answer(data, content_encoding=encoding)) as (server, session):
        with memory_peak() as peak:
            failed = await bench.fails(UnexpectedContentError, retrieve(session))
        assert server.count == 1
    assert peak.growth < 16 * MIB
    assert encoding in failed.preview


async def test_row_34_gzip_in_gzip_unsaid(bench: Bench) -> None:
    """Of gzip inside gzip only the layer that was announced is unpacked."""
    async with bench.serve(answer(gzip.compress(bomb(64)), content_encoding="gzip")) as (server, session):
        with memory_peak() as peak:
            await bench.fails(DecodeError, retrieve(session))
        assert server.count == 1
    assert peak.growth < 16 * MIB


async def test_row_35_endless_body(bench: Bench) -> None:
    """A body without end is given up at the limit."""
    start = head(transfer_encoding="chunked") + b'1\r\n"\r\n'
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    async with bench.serve(flood(start, piece), max_response_bytes=4 * MIB) as (server, session):
        with memory_peak() as peak:
            failed = await bench.fails(ResponseTooLargeError, retrieve(session))
        assert server.count == 1
    assert failed.limit == 4 * MIB
    assert peak.growth < 16 * MIB


DEEP = b"[" * 100_000 + b"]" * 100_000
UNREADABLE = {
    "row_36_deep": DEEP,
    "row_36_deep_objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "row_37_invalid_utf8": b'"\xff\xfe"',
    "row_37_lone_surrogate": b'"\\ud800"',
    "row_37_lone_surrogate_as_bytes": b'"\xed\xa0\x80"',
    "row_37_control_character": b'"a\x01b"',
    "row_38_nan": b"NaN",
    "row_38_infinity": b"-Infinity",
    "row_38_beyond_any_float": b"1e999",
    "row_38_long_integer": b"9" * 5000,
}
FIELDS = ["id", "created_at", "temperature", "instructions", "tools", "metadata", "response_format", "unheard_of"]


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("field", FIELDS)
async def test_rows_36_to_38_unreadable_values(bench: Bench, name: str, field: str) -> None:
    """What no JSON reader should accept is a decode error, in whichever field: typed, kept raw, or unknown."""
    body = with_field(field, UNREADABLE[name])
    async with bench.serve(answer(body)) as (server, session):
        await bench.fails(DecodeError, retrieve(session))
        await fails(bench, DecodeError, session, create)
        server.script = [answer(b'{"object": "list", "data": [%b], "has_more": false}' % body)]
        await bench.fails(DecodeError, session.runs.list(THREAD).collect())
        assert server.count == 3


@pytest.mark.parametrize("name", [name for name in UNREADABLE if "beyond" not in name and "long" not in name])
async def test_rows_36_to_38_unreadable_values_in_raw_items(bench: Bench, name: str) -> None:
    """Raw items are not looked into, and still hold nothing that is not JSON."""
    body = b'{"data": [%b], "has_more": false}' % with_field("unheard_of", UNREADABLE[name])
    async with bench.serve(answer(body)) as (server, session):
        await bench.fails(DecodeError, _gather(session.runs.list(THREAD).raw()))
        assert server.count == 1


@pytest.mark.parametrize("name", ["row_38_beyond_any_float", "row_38_long_integer", "row_39_told_twice", "row_36_deep"])
async def test_rows_36_to_39_what_raw_items_may_hold(bench: Bench, name: str) -> None:
    """Numbers of any size, keys told twice and 300 levels are JSON, and come as they were sent."""
    values = UNREADABLE | {"row_39_told_twice": b'{"a": 1, "a": 2}', "row_36_deep": b"[" * 300 + b"]" * 300}
    body = with_field("unheard_of", values[name])
    async with bench.serve(answer(b'{"data": [%b], "has_more": false}' % body)) as (server, session):
        assert await _gather(session.runs.list(THREAD).raw()) == [body]
        assert server.count == 1


async def _gather(items: AsyncIterator[bytes]) -> list[bytes]:
    return [item async for item in items]


async def test_row_36_the_129th_level(bench: Bench) -> None:
    """128 levels are read and can be copied and pickled; one more is refused at once, alone and in a page."""

    def levels(count: int) -> bytes:
        return with_field("unheard_of", b"[" * (count - 1) + b"]" * (count - 1))

    def paged(body: bytes) -> Action:
        return answer(b'{"data": [%b], "has_more": false}' % body)

    async with bench.serve(answer(levels(128)), answer(levels(129)), paged(levels(126)), paged(levels(127))) as (
        server,
        session,
    ):
        seen = await retrieve(session)
        assert pickle.loads(pickle.dumps(seen)) == copy.deepcopy(seen) == seen  # noqa: S301  # our own bytes
        await bench.fails(DecodeError, retrieve(session))
        assert len(await session.runs.list(THREAD).collect()) == 1
        await bench.fails(DecodeError, session.runs.list(THREAD).collect())
        assert server.count == 4


@pytest.mark.parametrize("status", [400, 500])
async def test_row_36_deep_refusal(bench: Bench, status: int) -> None:
    """The body of a refusal that is nested too deeply is taken for text."""
    async with bench.serve(answer(b'{"error": %b}' % DEEP, status)) as (_, session):
        failed = await bench.fails(BadRequestError if status == 400 else ServerError, retrieve(session))
    assert failed.message.startswith('{"error": [[[[')
    assert len(failed.message) <= 4000


async def test_row_36_deep_thread_as_bytes(bench: Bench) -> None:
    """The bytes of one object are given only where the object can be read."""
    deep = b'{"id": "%b", "object": "thread", "later": %b}' % (THREAD.encode(), DEEP)
    async with bench.serve(answer(deep)) as (server, session):
        await bench.fails(DecodeError, session.threads.retrieve_raw(THREAD))
        assert server.count == 1


async def test_row_37_byte_order_mark(bench: Bench) -> None:
    """A byte order mark is passed over."""
    async with bench.serve(answer(b"\xef\xbb\xbf" + RUN_BYTES)) as (server, session):
        assert (await retrieve(session)).id == RUN
        server.script = [answer(b"\xef\xbb\xbf" + json.dumps(page([run()])).encode())]
        assert len(await session.runs.list(THREAD).collect()) == 1
        assert [json.loads(blob) async for blob in session.runs.list(THREAD).raw()] == [run()]


@pytest.mark.parametrize("field", ["id", "thread_id"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_row_39_identity_told_twice(bench: Bench, field: str, is_first: bool) -> None:
    """An object that names itself twice is refused, for which name counts is anyone's guess."""
    twice = b'"%b": "other_1", ' % field.encode()
    body = b"{" + twice + RUN_BYTES[1:] if is_first else with_field(field, json.dumps(run()[field]).encode())
    async with bench.serve(answer(body)) as (server, session):
        await bench.fails(DecodeError, retrieve(session))
        assert server.count == 1


async def test_row_39_same_names_further_in(bench: Bench) -> None:
    """Ids of tool calls, or a metadata key of that name, are no second identity."""
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    action = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": calls}}
    body = run(status="requires_action", required_action=action, metadata={"id": "1", "thread_id": "2"})
    async with bench.serve(answer(body)) as (_, session):
        assert [call.id for call in (await retrieve(session)).tool_calls] == ["call_0", "call_1"]


async def test_row_39_other_field_told_twice(bench: Bench) -> None:
    """Of any other field told twice the last one counts."""
    async with bench.serve(answer(with_field("status", b'"queued"'))) as (_, session):
        assert (await retrieve(session)).status == "queued"


async def test_row_39_within_a_page(bench: Bench) -> None:
    """In pages the last of two equal keys counts, and it is held against the thread that was asked for.

    The walk of raw items goes by the first id where an item begins with it.
    """
    body = with_field("id", b'"run_last"')
    async with bench.serve(answer(b'{"data": [%b], "has_more": false}' % body)) as (server, session):
        typed, raw = session.runs.list(THREAD), session.runs.list(THREAD)
        assert [each.id for each in await typed.collect()] == ["run_last"]
        assert await _gather(raw.raw()) == [body]
        assert (typed.cursor, raw.cursor) == ("run_last", RUN)
        other = with_field("thread_id", b'"thread_other"')
        server.script = [answer(b'{"data": [%b], "has_more": false}' % other)]
        await bench.fails(IdentityMismatchError, session.runs.list(THREAD).collect())


async def test_row_39_what_a_later_key_replaced(bench: Bench) -> None:
    """A value that counts for nothing, since its key comes again, lets no error of another library out."""
    long = b'[{"type": "later", "id": %b}]' % (b"9" * 5000)
    body = RUN_BYTES[:-1] + b', "tools": %b, "tools": []}' % long
    async with bench.serve(answer(body)) as (server, session):
        await bench.fails(DecodeError, retrieve(session))
        assert server.count == 1


async def test_row_40_unknown_status(bench: Bench) -> None:
    """A status that nobody knows is kept; a wait takes it for moving, is ended by its timeout, and says so once."""
    async with bench.serve(answer(run(status="pondering"))) as (server, session):
        seen = await retrieve(session)
        assert (seen.status, seen.is_terminal) == ("pondering", False)

        async def pass_time(_: float) -> None:
            await asyncio.sleep(0.02)

        session._transport.sleep = pass_time
        failed = await bench.fails(WaitTimeout, session.runs.wait(THREAD, RUN, timeout=0.2))
        assert 2 <= server.count <= 12
    assert failed.run is not None
    assert failed.run.status == "pondering"
    assert len([text for text in bench.shown if "pondering" in text and text.startswith("Run run_1 has")]) == 1


async def test_row_40_unknown_tool(bench: Bench) -> None:
    """A tool of an unknown type is kept with its data."""
    tool = {"type": "crystal_ball", "crystal_ball": {"depth": 3}}
    async with bench.serve(answer(run(tools=[tool]))) as (_, session):
        (kept,) = (await retrieve(session)).tools
    assert (kept.type, kept.data) == ("crystal_ball", tool)


@pytest.mark.parametrize("field", ["id", "status", "thread_id"])
@pytest.mark.parametrize("call", [retrieve, create])
async def test_row_41_missing_field(bench: Bench, field: str, call: Any) -> None:
    """Without one of the fields that every server sends there is no run, and the error names the place."""
    body = {name: value for name, value in run().items() if name != field}
    async with bench.serve(answer(body)) as (server, session):
        failed = await fails(bench, SchemaError, session, call)
        assert server.count == 1
        assert failed.path == f"$.{field}"
        server.script = [answer({"object": "list", "data": [run("run_0"), body], "has_more": False})]
        failed = await bench.fails(SchemaError, session.runs.list(THREAD).collect())
    assert failed.path == f"$.data[1].{field}"


async def test_row_42_unknown_field(bench: Bench) -> None:
    """What a later version adds is kept, and in raw items to the byte."""
    odd = b'{ "a" : [1.50, "\\u00e9", null] }'
    body = with_field("unheard_of", odd)
    async with bench.serve(answer(body)) as (server, session):
        assert (await retrieve(session)).extra == {"unheard_of": {"a": [1.5, "é", None]}}
        server.script = [answer(b'{"data": [%b], "has_more": false}' % body)]
        assert [blob async for blob in session.runs.list(THREAD).raw()] == [body]


@pytest.mark.parametrize("is_missing", [True, False])
async def test_row_42_no_creation_time(bench: Bench, is_missing: bool) -> None:
    """A run without a creation time, or with null, is a run all the same."""
    body = run(created_at=None)
    if is_missing:
        del body["created_at"]
    async with bench.serve(answer(body)) as (server, session):
        assert (await retrieve(session)).created_at is None
        server.script = [answer(page([body]))]
        assert [each.created_at for each in await session.runs.list(THREAD).collect()] == [None]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"id": 7}, "$.id"),
        ({"status": None}, "$.status"),
        ({"created_at": "yesterday"}, "$.created_at"),
        ({"tools": {"type": "function"}}, "$.tools"),
        ({"last_error": "it broke"}, "$.last_error"),
        ({"metadata": ["a"]}, "$.metadata"),
        ({"usage": {"prompt_tokens": "many"}}, "$.usage.prompt_tokens"),
    ],
)
@pytest.mark.parametrize("call", [retrieve, create])
async def test_row_43_wrong_type(bench: Bench, fields: dict[str, Any], path: str, call: Any) -> None:
    """A field of the wrong type is a schema error that names the place."""
    async with bench.serve(answer(run(**fields))) as (server, session):
        failed = await fails(bench, SchemaError, session, call)
        assert server.count == 1
    assert failed.path == path


@pytest.mark.parametrize(("is_listed", "path"), [(False, "$"), (True, "$.data[0]")])
async def test_row_43_many_wrong_types(bench: Bench, is_listed: bool, path: str) -> None:
    """Half a MiB of wrong parts, packed into 700 bytes, is refused at the first: the error names the run alone."""
    wrong = run(tools=[1] * 2**18)
    body = gzip.compress(json.dumps(page([wrong]) if is_listed else wrong).encode())
    async with bench.serve(answer(body, content_encoding="gzip")) as (_, session):
        call = session.runs.list(THREAD).collect() if is_listed else retrieve(session)
        with memory_peak() as peak, busy_time() as busy, pytest.raises(SchemaError) as caught:
            await call
    assert caught.value.path == path
    assert peak.growth < 64 * MIB
    assert busy.seconds < 1


@pytest.mark.parametrize("fields", [{"id": "run_other"}, {"thread_id": "thread_other"}])
async def test_row_44_body_of_another(bench: Bench, fields: dict[str, str]) -> None:
    """An answer about another run or thread is an error that names both; a gateway's session may switch that off."""
    (name, got), *_ = fields.items()
    async with bench.serve(answer(run(**fields))) as (server, session):
        failed = await bench.fails(IdentityMismatchError, retrieve(session))
        assert (failed.expected, failed.got) == (run()[name], got)
        assert server.count == 1
        async with bench.session(server.url, check_identity=False) as trusting:
            assert isinstance(await retrieve(trusting), Run)


async def test_row_44_created_on_another_thread(bench: Bench) -> None:
    """A created run that lies on another thread is an error."""
    async with bench.serve(reply(lambda _: run(thread_id="thread_other"))) as (server, session):
        failed = await fails(bench, IdentityMismatchError, session, create)
        assert (failed.expected, failed.got) == (THREAD, "thread_other")
        assert server.count == 1

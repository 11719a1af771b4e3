"""Every operation of the protocol over a real socket, and who may ask."""

import asyncio
import io
import json

import aiohttp
import pytest

from asyncruns.emulator import Emulator


async def test_threads_live_and_die(wire):
    """A thread is created, retrieved, modified and deleted; then it and all below it are gone."""
    thread = await wire.post("/threads", {"metadata": {"a": "1"}})
    path = f"/threads/{thread['id']}"
    assert await wire.get(path) == thread
    resources = {"code_interpreter": {"file_ids": ["file-1"]}}
    changed = await wire.post(path, {"metadata": None, "tool_resources": resources})
    assert changed == {**thread, "metadata": {}, "tool_resources": resources}
    run = await wire.run(path)
    deleted = (await wire.send("DELETE", path)).value
    assert deleted == {"id": thread["id"], "object": "thread.deleted", "deleted": True}
    for below in (path, f"{path}/runs", f"{path}/messages", run, f"{run}/steps"):
        reply = await wire.send("GET", below)
        assert (reply.status, reply.error[0]) == (404, f"No thread found with id '{thread['id']}'.")


async def test_a_thread_needs_no_body(wire):
    """POST /threads without a body makes an empty thread."""
    assert (await wire.send("POST", "/threads")).value["object"] == "thread"


async def test_messages_live_and_die(wire):
    """A message is created, listed, retrieved, modified and deleted."""
    thread = await wire.thread()
    content = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}},
    ]
    attachments = [{"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}]
    request = {"role": "user", "content": content, "attachments": attachments}
    message = await wire.post(f"{thread}/messages", request)
    path = f"{thread}/messages/{message['id']}"
    assert message["content"][0]["text"] == {"value": "look", "annotations": []}
    assert (message["content"][1:], message["attachments"]) == (content[1:], attachments)
    assert await wire.get(path) == message
    changed = await wire.post(path, {"metadata": {"read": "yes"}})
    assert changed == {**message, "metadata": {"read": "yes"}}
    assert (await wire.get(f"{thread}/messages"))["data"] == [changed]
    deleted = (await wire.send("DELETE", path)).value
    assert deleted == {"id": message["id"], "object": "thread.message.deleted", "deleted": True}
    assert (await wire.send("GET", path)).status == 404


async def test_messages_of_one_run(wire):
    """The run_id filter keeps what that run wrote."""
    thread = await wire.thread("question")
    for _ in range(2):
        path = await wire.run(thread)
        wire.emulator.clock.advance(10)
    run_id = path.split("/")[-1]
    everything = (await wire.get(f"{thread}/messages"))["data"]
    filtered = (await wire.get(f"{thread}/messages", run_id=run_id))["data"]
    assert len(everything) == 3
    assert [message["run_id"] for message in filtered] == [run_id]


async def test_thread_and_run_in_one_request(wire):
    """POST /threads/runs is not taken for a thread called runs."""
    request = {
        "assistant_id": "asst_1",
        "thread": {"messages": [{"role": "user", "content": "hello"}], "metadata": {"a": "1"}},
        "tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}},
    }
    run = await wire.post("/threads/runs", request)
    thread = await wire.get(f"/threads/{run['thread_id']}")
    assert (run["object"], run["status"]) == ("thread.run", "queued")
    assert (thread["metadata"], thread["tool_resources"]) == ({"a": "1"}, request["tool_resources"])
    assert len((await wire.get(f"/threads/{run['thread_id']}/messages"))["data"]) == 1


async def test_a_run_echoes_its_request(wire):
    """A run shows the parameters it was made with, and additional ones joined to the rest."""
    path = await wire.run(
        instructions="Be brief.",
        additional_instructions="Be kind.",
        additional_messages=[{"role": "assistant", "content": "Welcome."}],
        model="gpt-4.1",
        metadata={"a": "1"},
    )
    run = await wire.get(path)
    assert (run["instructions"], run["model"]) == ("Be brief.\nBe kind.", "gpt-4.1")
    newest = (await wire.get(f"{path.split('/runs')[0]}/messages"))["data"][0]
    assert (newest["role"], newest["content"][0]["text"]["value"]) == ("assistant", "Welcome.")
    assert (await wire.post(path, {"metadata": {"b": "2"}}))["metadata"] == {"b": "2"}


@pytest.mark.parametrize(
    ("path", "kind", "id"),
    [
        ("/threads/thread_x", "thread", "thread_x"),
        ("{thread}/runs/run_x", "run", "run_x"),
        ("{thread}/messages/msg_x", "message", "msg_x"),
        ("{run}/steps/step_x", "run step", "step_x"),
        ("{thread}/runs/run_x/steps", "run", "run_x"),
        ("/threads/%C3%A9", "thread", "é"),
    ],
)
async def test_what_nobody_stored(wire, path, kind, id):
    """An unknown id is a 404 that names it."""
    run = await wire.run()
    reply = await wire.send("GET", path.format(run=run, thread=run.split("/runs")[0]))
    assert (reply.status, reply.error) == (404, (f"No {kind} found with id '{id}'.", None, None))


async def test_thread_listing_is_optional():
    """Azure lists threads; an emulator of OpenAI does not."""
    async with Emulator(has_thread_listing=False, prefix="openai") as emulator, aiohttp.ClientSession() as http:
        assert emulator.base_url.endswith("/openai")
        headers = {"api-key": emulator.api_key}
        async with http.get(f"{emulator.base_url}/threads", headers=headers) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_threads_are_listed_newest_first(wire):
    """The thread listing pages like all others."""
    paths = [await wire.thread() for _ in range(3)]
    page = await wire.get("/threads", limit=2)
    assert [f"/threads/{thread['id']}" for thread in page["data"]] == paths[:0:-1]
    assert page["has_more"] is True


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nope", 404), ("PUT", "/threads", 405)])
async def test_routes_that_do_not_exist(wire, method, path, status):
    """A wrong path or method gets a JSON error body too."""
    reply = await wire.send(method, path)
    assert reply.status == status
    assert f"{method} " in reply.error[0]


async def test_bodies_over_one_mebibyte(wire):
    """A body over the cap is refused with a JSON error body."""
    headers = {"api-key": wire.emulator.api_key, "Content-Type": "application/json"}
    reply = await wire.send("POST", "/threads", data=io.BytesIO(b" " * (1024 * 1024 + 1)), headers=headers)
    assert reply.status == 413
    assert "Too Large" in reply.error[0]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic {key}"},
        {"Authorization": "{key}"},
        {"api-key": "wrong"},
        {"api-key": ""},
        {"Authorization": "Bearer é"},
        {"api-key": "wrong", "Authorization": "Bearer {key}"},
    ],
)
async def test_no_answer_without_the_key(wire, headers):
    """Without the key, or with a wrong one, nothing is served and the key is not told."""
    key = wire.emulator.api_key
    headers = {name: value.format(key=key) for name, value in headers.items()}
    for method, path in (("GET", "/threads"), ("POST", "/threads"), ("GET", "/nope")):
        reply = await wire.send(method, path, headers=headers)
        assert (reply.status, reply.error[1:]) == (401, (None, "invalid_api_key"))
        assert key not in reply.error[0]


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer {key}"}, {"Authorization": "bearer {key}"}, {"api-key": "{key}"}]
)
async def test_the_key_opens(wire, headers):
    """Both ways to show the key are understood."""
    headers = {name: value.format(key=wire.emulator.api_key) for name, value in headers.items()}
    assert (await wire.send("GET", "/threads", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://127.0.0.1"}, "origin_not_allowed"),
        ({"Origin": "null"}, "origin_not_allowed"),
        ({"Host": "evil.example"}, "host_not_allowed"),
        ({"Host": "evil.example:80"}, "host_not_allowed"),
        ({"Host": "127.0.0.1.evil.example"}, "host_not_allowed"),
        ({"Host": "localhost.evil.example"}, "host_not_allowed"),
        ({"Host": "[::2]:80"}, "host_not_allowed"),
        ({"Host": ""}, "host_not_allowed"),
    ],
)
async def test_web_pages_are_kept_out(wire, headers, code):
    """A request from a web page (Origin) or by a rebound name (Host) is refused, key or no key."""
    key = {"Authorization": f"Bearer {wire.emulator.api_key}"}
    reply = await wire.send("GET", "/threads", headers={**key, **headers})
    assert (reply.status, reply.error[2]) == (403, code)
    assert not any(name.lower().startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "127.9.9.9", "[::1]:80"])
async def test_loopback_names_are_let_in(wire, host):
    """Every name of the loopback interface will do as Host."""
    headers = {"Host": host, "api-key": wire.emulator.api_key}
    assert (await wire.send("GET", "/threads", headers=headers)).status == 200


async def test_answers_carry_the_service_headers(wire):
    """Each answer, refusals too, has a request id of its own, a processing time and a date."""
    replies = [await wire.send("GET", path) for path in ("/threads", "/threads/x", "/nope")]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 3
    for reply in replies:
        assert int(reply.headers["openai-processing-ms"]) >= 0
        assert reply.headers["Date"]
        assert reply.headers["Content-Type"] == "application/json"


async def test_headers_that_are_not_utf8(wire):
    """Raw bytes in a header, as no client library would send them, get a JSON answer that can be read."""
    port = int(wire.emulator.base_url.split(":")[2].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = wire.emulator.api_key.encode()
    writer.write(
        b"POST /v1/threads HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\napi-key: "
        + key
        + b"\r\nContent-Type: text/\xff\r\nContent-Length: 2\r\n\r\n{}"
    )
    head, body = (await reader.read()).split(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "unsupported_content_type"

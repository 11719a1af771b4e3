"""Objects, pages and errors as some servers show them."""

import re
from typing import Any

from aiohttp import web

from asyncruns.emulator._answers import answer
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._json import encode
from asyncruns.emulator._store import Body

_PREFIX = re.compile(r"(?:thread|run|step|msg)_(?=[0-9a-f]{24}\Z)")
_SEARCH_TOOL = {"type": "bing_grounding", "bing_grounding": {"connections": [{"connection_id": "search"}]}}


def published_error(refusal: Refusal) -> web.Response:
    """Answer a refusal as published."""
    return answer(refusal.json(), status=refusal.status)


def plain_500(refusal: Refusal) -> web.Response:
    """Answer unknown ids and refused cancels like a server that has crashed."""
    if refusal.message.startswith(("No ", "Cannot cancel")):
        return crashed()
    return published_error(refusal)


def crashed() -> web.Response:
    """Return 500 in plain text, after which the connection closes."""
    response = web.Response(text="Internal Server Error", status=500)
    response.force_close()
    return response


def detail(refusal: Refusal) -> web.Response:
    """Answer a refusal with its message as the detail."""
    return answer(encode({"detail": refusal.message}), status=refusal.status)


def detail_list(refusal: Refusal) -> web.Response:
    """Answer a refusal with a list of findings."""
    place = ["body", *(refusal.param or "").split(".")]
    finding = {"type": refusal.code or "value_error", "loc": place, "msg": refusal.message}
    status = 422 if refusal.status == 400 else refusal.status
    return answer(encode({"detail": [finding]}), status=status)


def text_error(refusal: Refusal) -> web.Response:
    """Answer a refusal with its message as plain text."""
    return web.Response(text=refusal.message, status=refusal.status)


def has_more_false(page: Body) -> Body:
    """Say that nothing more remains."""
    return {**page, "has_more": False}


def bare_list(page: Body) -> Body:
    """Show the data alone, and of runs not all."""
    hidden = {"object", "created_at", "assistant_id"}
    data = [
        {name: value for name, value in item.items() if name not in hidden or item["object"] != "thread.run"}
        for item in page["data"]
    ]
    return {"data": data}


def odd_step(item: Body) -> Body:
    """Show a step with `expires_at`, and without what only newer servers have."""
    if item["object"] != "thread.run.step":
        return item
    hidden = ("expired_at", "metadata", "usage")
    return {**{name: value for name, value in item.items() if name not in hidden}, "expires_at": item["expired_at"]}


def milliseconds(item: Body) -> Body:
    """Show the creation time in milliseconds."""
    return {**item, "created_at": item["created_at"] * 1000 + 377} if "created_at" in item else item


def floats(item: Body) -> Body:
    """Show times as floats."""
    return {name: float(value) if name.endswith("_at") and value else value for name, value in item.items()}


def bare_ids(item: Any) -> Any:
    """Take the prefixes off the ids of threads, runs, steps and messages, wherever they are."""
    if isinstance(item, dict):
        return {name: bare_ids(value) for name, value in item.items()}
    if isinstance(item, list):
        return [bare_ids(value) for value in item]
    return _PREFIX.sub("", item) if isinstance(item, str) else item


def usage_missing(item: Body) -> Body:
    """Leave out the token counts."""
    return {name: value for name, value in item.items() if name != "usage"}


def nulls(item: Body) -> Body:
    """Show a run with nothing in many places, and its metadata in another."""
    if item["object"] != "thread.run":
        return item
    empty = dict.fromkeys(("model", "instructions", "tools", "metadata", "usage"))
    return {**item, **empty, "metadata_": item["metadata"]}


def usage_input_output(item: Body) -> Body:
    """Count tokens under other names."""
    usage = item.get("usage")
    if not usage:
        return item
    counts = {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]}
    return {**item, "usage": {**counts, "total_tokens": usage["total_tokens"]}}


def azure(item: Body) -> Body:
    """Show a run with a tool and an error code that the published description does not have."""
    if item["object"] != "thread.run":
        return item
    error = item["last_error"] and {**item["last_error"], "code": "tool_user_error"}
    return {**item, "tools": [*item["tools"], _SEARCH_TOOL], "tool_resources": {}, "last_error": error}


def text_list(item: Body) -> Body:
    """Show the texts of a message as lists."""
    if item["object"] != "thread.message":
        return item
    content = [{**part, "text": [part["text"]]} if part["type"] == "text" else part for part in item["content"]]
    return {**item, "content": content}

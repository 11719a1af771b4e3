"""Every recorded answer of a real server is read, and the counts are exact, so that none is left out unseen."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest

from asyncruns import errors
from asyncruns._codec import decode, decode_page, encode
from asyncruns._protocol import Answer, judge
from asyncruns._shapes import unstructure
from asyncruns._slices import split_page
from asyncruns.models import Message, MessageDeleted, Run, RunStep, Thread, ThreadDeleted

FOLDER = Path(__file__).parents[3] / "shared" / "payloads"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the recorded answers are not beside this checkout")

MODELS = {
    "thread.run": Run,
    "thread.run.step": RunStep,
    "thread": Thread,
    "thread.deleted": ThreadDeleted,
    "thread.message": Message,
    "thread.message.deleted": MessageDeleted,
}

NOT_READ = {
    "local-myla__POST_assistants_200_475f41": "an assistant: not a part of this package",
    "local-open-assistant-api__POST_assistants_200_7b4ef7": "an assistant: not a part of this package",
    "spec__schema_MessageDeltaObject": "a piece of a stream, no object by itself",
    "spec__schema_RunStepDeltaObject": "a piece of a stream, no object by itself",
}

COUNTS = {
    ("azure", "page of Run"): 1,
    ("dashscope", "Run"): 2,
    ("dashscope", "page of Run"): 1,
    ("dashscope", "page of RunStep"): 1,
    ("local-myla", "Message"): 1,
    ("local-myla", "Run"): 3,
    ("local-myla", "Thread"): 1,
    ("local-myla", "empty page"): 1,
    ("local-myla", "page of Run"): 5,
    ("local-open-assistant-api", "Message"): 1,
    ("local-open-assistant-api", "Run"): 2,
    ("local-open-assistant-api", "Thread"): 1,
    ("local-open-assistant-api", "page of Run"): 5,
    ("local-open-assistant-api", "page of RunStep"): 1,
    ("openai-dotnet", "Message"): 15,
    ("openai-dotnet", "MessageDeleted"): 2,
    ("openai-dotnet", "Run"): 36,
    ("openai-dotnet", "RunStep"): 2,
    ("openai-dotnet", "empty page"): 1,
    ("openai-dotnet", "page of Message"): 18,
    ("openai-dotnet", "page of Run"): 2,
    ("openai-dotnet", "page of RunStep"): 8,
    ("spec", "Message"): 4,
    ("spec", "MessageDeleted"): 1,
    ("spec", "Run"): 7,
    ("spec", "RunStep"): 2,
    ("spec", "Thread"): 5,
    ("spec", "ThreadDeleted"): 1,
    ("spec", "page of Message"): 1,
    ("spec", "page of Run"): 1,
    ("spec", "page of RunStep"): 1,
}
"""Server and kind -> answers with status 200."""

OBJECTS = {"Run": 88, "RunStep": 39, "Message": 57, "MessageDeleted": 3, "Thread": 7, "ThreadDeleted": 1}
"""Class -> objects in those answers, alone and in pages."""

REFUSALS = {
    "local-myla__GET_threads_thread_ID_runs_500_d364f4": (errors.ServerError, None, "Internal Server Error"),
    "local-myla__GET_threads_thread_ID_runs_run_nope_500_76714b": (errors.ServerError, None, "Internal Server Error"),
    "local-myla__POST_threads_runs_404_ac7064": (errors.NotFoundError, None, "Thread not found"),
    "local-myla__POST_threads_thread_ID_runs_run_ID_cancel_500_372f4a": (
        errors.ServerError,
        None,
        "Internal Server Error",
    ),
    "local-open-assistant-api__GET_threads_ID_runs_422_707ad2": (
        errors.BadRequestError,
        "request_validation_error",
        "[{'type': 'less_than_equal', 'loc': ('query', 'limit')",
    ),
    "local-open-assistant-api__GET_threads_ID_runs_run_nope_404_814e7a": (
        errors.NotFoundError,
        "resource_not_found",
        "run run_nope not found",
    ),
    "local-open-assistant-api__POST_threads_ID_runs_ID_cancel_400_4aab69": (
        errors.BadRequestError,
        "bad_request",
        "run 6b01388779216085c7a580fd cannot cancel",
    ),
    "local-open-assistant-api__POST_threads_runs_404_4a5cbf": (
        errors.NotFoundError,
        "resource_not_found",
        "thread runs not found",
    ),
}
"""Answer -> class, code and beginning of the message of its error."""

# What no server sends as a whole number today: each object is read once more with floats in these fields.
TIMES = ("created_at", "started_at", "expires_at", "completed_at", "failed_at", "cancelled_at", "expired_at")


@attrs.frozen
class Recorded:
    """One recorded answer."""

    name: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def server(self) -> str:
        """Which server gave it."""
        return self.name.partition("__")[0]

    @property
    def json(self) -> Any:
        """The JSON value of the body."""
        return json.loads(self.body)


@cache
def recorded() -> list[Recorded]:
    """Return every recorded answer but the streams, sorted by name."""
    answers = []
    for file in sorted(FOLDER.glob("*.json")):
        what = json.loads(file.read_bytes())
        if not file.name.endswith(".meta.json"):
            body = json.dumps(what["response_body"], ensure_ascii=False).encode()
            headers = what.get("headers", {"content-type": "application/json"})
            answers.append(Recorded(file.stem, what.get("status", 200), headers, body))
        elif (text := file.with_name(file.name.replace(".meta.json", ".txt"))).exists():
            name = file.name.removesuffix(".meta.json")
            answers.append(Recorded(name, what["status"], what["headers"], text.read_bytes()))
    return answers


def model_of(value: dict[str, Any]) -> type:
    """Return the class for an object; a server that names no kind sends runs."""
    return MODELS[value.get("object", "thread.run")]


def page_model(page: dict[str, Any]) -> type:
    """Return the class of a page's items; that of an empty page does not matter."""
    return model_of(page["data"][0]) if page["data"] else Run


def readable() -> list[Recorded]:
    """Return the answers with status 200 that are objects or pages of this package's kinds."""
    return [answer for answer in recorded() if answer.status == 200 and answer.name not in NOT_READ]


def objects() -> list[tuple[str, type, dict[str, Any]]]:
    """Return name, class and value of every object, alone or in a page."""
    found = []
    for answer in readable():
        value = answer.json
        found += [(answer.name, model_of(item), item) for item in value.get("data", [value])]
    return found


def test_every_answer_with_status_200_is_read():
    """Not one object or page of a real server is refused, and each holds as many items as were sent."""
    counts: Counter[tuple[str, str]] = Counter()
    read: Counter[str] = Counter()
    for answer in readable():
        value = answer.json
        if "data" in value:
            model = page_model(value)
            page = decode_page(answer.body, model)
            blobs, ids = split_page(answer.body)
            assert [item.id for item in page.data] == [item["id"] for item in value["data"]] == list(ids), answer.name
            assert [json.loads(blob) for blob in blobs.data] == value["data"], answer.name
            kind = f"page of {model.__name__}" if page.data else "empty page"
            read.update(type(item).__name__ for item in page.data)
        else:
            model = model_of(value)
            assert decode(answer.body, model).id == value["id"], answer.name
            kind = model.__name__
            read[kind] += 1
        counts[answer.server, kind] += 1
    print(*(f"{server:26}{kind:18}{count:4}" for (server, kind), count in sorted(counts.items())), sep="\n")
    assert counts == COUNTS
    assert read == OBJECTS


def test_what_is_not_read_is_known_by_name():
    """Each answer is read, or refused with an error, or of a kind that is not ours; none is skipped unseen."""
    names = [answer.name for answer in recorded()]
    assert set(NOT_READ) | set(REFUSALS) | {answer.name for answer in readable()} == set(names)
    assert len(names) == sum(COUNTS.values()) + len(NOT_READ) + len(REFUSALS)


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_become_the_right_error(name):
    """Each recorded refusal keeps its status, code and text, whatever shape its body has."""
    [answer] = [answer for answer in recorded() if answer.name == name]
    cls, code, message = REFUSALS[name]
    error = judge(Answer(status=answer.status, headers=answer.headers, body=answer.body), now=0.0, redact=str)
    assert type(error) is cls
    assert (error.status, error.code) == (answer.status, code)
    assert error.message.startswith(message)


def test_every_path_through_the_codec_gives_equal_objects():
    """An unknown field or a float sends the same bytes down another path, and the object is the same."""
    for name, model, value in objects():
        plain = decode(encode(value), model)
        with_more = decode(encode(value | {"later": [1]}), model)
        extra = dict(with_more.extra)
        assert extra.pop("later") == [1], name
        assert attrs.evolve(with_more, extra=extra) == plain, name
        floats = {key: float(value[key]) for key in TIMES if isinstance(value.get(key), int)}
        assert decode(encode(value | floats), model) == plain, name


def test_every_path_through_the_codec_gives_equal_pages():
    """One odd item in a page changes nothing about the others."""
    for answer in readable():
        page = answer.json
        if not page.get("data"):
            continue
        model = page_model(page)
        plain = decode_page(answer.body, model)
        first, *others = page["data"]
        with_more = decode_page(encode(page | {"data": [first | {"later": 1}, *others]}), model)
        assert with_more.data[0].extra["later"] == 1
        assert with_more.data[1:] == plain.data[1:], answer.name
        lenient = decode_page(encode(page | {"data": [first | {"created_at": 5.0}, *others]}), model)
        assert lenient.data[0] == attrs.evolve(plain.data[0], created_at=5), answer.name
        assert lenient.data[1:] == plain.data[1:], answer.name


def test_nothing_that_was_sent_is_lost():
    """Writing an object gives what was read: every field that was sent and not null is there again, unchanged."""
    for name, model, value in objects():
        made = decode(encode(value), model)
        written = unstructure(made)
        assert decode(encode(written), model) == made, name
        for key, sent in value.items():
            renamed = "expired_at" if model is RunStep and key == "expires_at" else key
            if sent in (None, [], {}) or key in ("object", "tools", "content", "attachments", "step_details", "usage"):
                continue
            assert contains(written[renamed], sent), (name, key)


def contains(written: Any, sent: Any) -> bool:
    """Return whether what was sent is in what is written, where values equal to the default may be left out."""
    if isinstance(sent, dict) and isinstance(written, dict):
        return all(contains(written[key], value) for key, value in sent.items() if key in written)
    return bool(written == sent)

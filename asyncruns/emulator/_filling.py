"""Finished histories from a seed, made quickly: each object is a form that is written out when it is read."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from asyncruns.emulator import _objects, _samples
from asyncruns.emulator._json import encode
from asyncruns.emulator._store import Body, Form, Message, Run, Step, Store, Thread

SINCE = 1_735_689_600

_QUESTIONS = (
    "What is the capital of France?",
    "Summarise the attached report.",
    "How warm is it in Lisbon today?",
    "Draw the sales of the last quarter.",
    "Which of these two contracts is cheaper?",
)
_FUNCTION = {
    "name": "get_weather",
    "description": "The weather at a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": False,
}
_TOOLS: dict[str, Body] = {
    "function": {"type": "function", "function": _FUNCTION},
    "code_interpreter": {"type": "code_interpreter"},
    "file_search": {"type": "file_search"},
}
_ASSISTANT = "asst_00000000000000000emulator"
_RATE_LIMIT = {
    "code": "rate_limit_exceeded",
    "message": "Rate limit is exceeded. Try again in 60 seconds.",
}
# Of twenty runs, so many end like this after these tool calls.
_MIX: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (7, "completed", ()),
    (3, "completed", ("function",)),
    (2, "completed", ("code_interpreter",)),
    (2, "completed", ("file_search", "function")),
    (2, "failed", ()),
    (2, "incomplete", ("code_interpreter",)),
    (1, "cancelled", ()),
    (1, "expired", ("function",)),
)


class _StepPlan(NamedTuple):
    text: str
    suffix: str
    searched: bool


@dataclass(frozen=True, slots=True)
class _Blueprint:
    """The texts of all objects of one kind of history."""

    run: str
    question: str
    steps: tuple[_StepPlan, ...]
    reply: str | None
    expires: bool


def fill(store: Store, random: Random, threads: int, runs_per_thread: int, since: int) -> list[str]:
    """Add finished histories to *store* and return the ids of their threads."""
    with _collector_paused():
        return _fill(store, random, threads, runs_per_thread, since)


def _fill(store: Store, random: Random, threads: int, runs_per_thread: int, since: int) -> list[str]:
    kinds = [_blueprint(status, tools) for weight, status, tools in _MIX for _ in range(weight)]
    form = _form_text(_objects.thread_body("<thread>", 0, {"metadata": {"origin": "emulator"}}), "<#thread_at>")
    ids = []
    for number in range(threads):
        created_at = since + 60 * number
        facts: dict[str, object] = {
            "thread": f"thread_{random.getrandbits(96):024x}",
            "thread_at": created_at,
        }
        thread = Thread(str(facts["thread"]), store.place(created_at), Form(form, facts))
        store.threads.add(thread)
        ids.append(thread.id)
        for blueprint in random.choices(kinds, k=runs_per_thread):
            _add_history(store, thread, blueprint, random, created_at)
            created_at += 30 + random.getrandbits(6) + (_objects.EXPIRY if blueprint.expires else 0)
    return ids


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep the garbage collector from rescanning what only grows: four times the speed, measured."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _add_history(store: Store, thread: Thread, blueprint: _Blueprint, random: Random, at: int) -> None:
    bits = random.getrandbits(96)
    base, prompt, words = f"{bits >> 8:022x}", 100 + (bits & 1023), 10 + (bits >> 10 & 127)
    started, seconds, count = at + 1 + (bits >> 21 & 3), 1 + (bits >> 17 & 15), max(1, len(blueprint.steps))
    moments = [started + seconds * number // count for number in range(count + 1)]
    facts: dict[str, object] = {
        "thread": thread.id,
        "base": base,
        "asked_at": at,
        "at": at + 1,
        "started_at": started,
        "expires_at": at + 1 + _objects.EXPIRY,
        "end": moments[-1],
        "prompt": prompt,
        "words": words,
        "total": prompt + words,
        "question": _QUESTIONS[bits % len(_QUESTIONS)],
    } | {f"moment{number}": moment for number, moment in enumerate(moments)}
    question_id = f"msg_{base}00"
    question = Message(question_id, store.place(at), Form(blueprint.question, facts), run_id=None)
    thread.messages.add(question)
    run = Run(thread, f"run_{base}00", store.place(at + 1), Form(blueprint.run, facts))
    thread.runs.add(run)
    for moment, (text, suffix, searched) in zip(moments, blueprint.steps, strict=False):
        step = Step(f"step_{base}{suffix}", store.place(moment), Form(text, facts), searched=searched)
        run.steps.add(step)
    if blueprint.reply is not None:
        reply = Message(f"msg_{base}01", store.place(moments[-2]), Form(blueprint.reply, facts), run_id=run.id)
        thread.messages.add(reply)


def _blueprint(status: str, tools: tuple[str, ...]) -> _Blueprint:
    run = _run(status, tools)
    question = _objects.request_message_body("msg_<base>00", "<thread>", 0, {"role": "user", "content": "<question>"})
    writes = status not in ("cancelled", "expired")
    steps = [
        _step(run, index, status, _tool_details(kind, answered=status == "completed"))
        for index, kind in enumerate(tools)
    ]
    if writes:
        steps.append(_step(run, len(tools), status, _objects.message_creation("msg_<base>01")))
    return _Blueprint(
        run=_form_text(run, "<#at>"),
        question=_form_text({**question, "completed_at": "<#asked_at>"}, "<#asked_at>"),
        steps=tuple(steps),
        reply=_form_text(_reply(run, status), f"<#moment{len(tools)}>") if writes else None,
        expires=status == "expired",
    )


def _run(status: str, tools: tuple[str, ...]) -> Body:
    request = {
        "assistant_id": _ASSISTANT,
        "instructions": "You are a helpful assistant.",
        "tools": [_TOOLS[kind] for kind in tools],
        "metadata": {"origin": "emulator"},
    }
    run = _objects.run_body("run_<base>00", "<thread>", 0, request)
    run |= {"status": status, "started_at": "<#started_at>", "usage": _USAGE}
    run["expires_at"] = "<#expires_at>" if status == "expired" else None
    if f"{status}_at" in run:
        run[f"{status}_at"] = "<#end>"
    run["last_error"] = _RATE_LIMIT if status == "failed" else None
    run["incomplete_details"] = {"reason": "max_completion_tokens"} if status == "incomplete" else None
    return run


def _tool_details(kind: str, *, answered: bool) -> Body:
    call_id = f"call_<base>{kind[:2]}"
    if kind == "code_interpreter":
        call = _samples.code_call(call_id)
    elif kind == "file_search":
        call = _samples.search_call(call_id)
    else:
        call = _samples.function_call(call_id, _FUNCTION)
        call["function"]["output"] = "18 degrees" if answered else None
    return {"type": "tool_calls", "tool_calls": [_samples.with_outcome(call)]}


def _step(run: Body, index: int, status: str, details: Body) -> _StepPlan:
    suffix = f"{index:02d}"
    step = _objects.step_body(f"step_<base>{suffix}", run, 0, details)
    is_last = details["type"] == "message_creation" or status == "expired"
    ended = status if is_last and status != "incomplete" else "completed"
    end = "<#expires_at>" if ended == "expired" else f"<#moment{index + 1}>"
    step |= {"status": ended, f"{ended}_at": end, "usage": _USAGE}
    step["last_error"] = _RATE_LIMIT if ended == "failed" else None
    searched = details["type"] == "tool_calls" and details["tool_calls"][0]["type"] == "file_search"
    return _StepPlan(_form_text(step, f"<#moment{index}>"), suffix, searched)


def _reply(run: Body, status: str) -> Body:
    reply = _objects.reply_body("msg_<base>01", run, 0)
    if status == "completed":
        reply |= {"status": "completed", "completed_at": "<#end>"}
    else:
        reason = "run_failed" if status == "failed" else "max_tokens"
        reply |= {"status": "incomplete", "incomplete_at": "<#end>", "incomplete_details": {"reason": reason}}
    return {**reply, "content": _objects.text_content("You said: <question>")}


_USAGE = {"prompt_tokens": "<#prompt>", "completion_tokens": "<#words>", "total_tokens": "<#total>"}


def _form_text(body: Body, created_at: str) -> str:
    """Return the JSON of *body* with `<name>` and `"<#name>"` made places for a text and a number."""
    text = encode({**body, "created_at": created_at}).decode().replace("%", "%%")
    return re.sub(r"<(\w+)>", r"%(\1)s", re.sub(r'"<#(\w+)>"', r"%(\1)d", text))

"""The bodies that the benchmark server sends: runs and steps as OpenAI sends them, made once."""

import json
import random
from typing import Any

PAGE_ITEMS = 100
PAGE_MARK = b"@@@@@@@@"
"""Stands in ids and texts of a template where the page's number goes: eight digits."""

_CREATED = 1_761_861_679
_INSTRUCTIONS = (
    "You are a weather assistant. Answer in the language of the question, name the unit of every figure, and ask "
    "for the place when it is missing. Use get_weather for the present, get_forecast for the coming days and "
    "get_history for the past. Never guess a figure: when a function fails, say so and offer to try again later. "
)
_NAMES = ("get_weather", "get_forecast", "get_history")


def run(id: str, thread_id: str, *, status: str = "completed", variant: str = "plain", salt: int = 0) -> dict[str, Any]:
    """Make a run as OpenAI sends it.

    Args:
        id: Its id.
        thread_id: Its thread.
        status: Its status.
        variant: `plain`; `unknown` adds two fields that no client knows; `distinct` gives each run instructions and
            tools of its own, where most threads repeat them.
        salt: Makes times, counts and metadata of runs differ.
    """
    mark = PAGE_MARK.decode()
    own = f" ({mark}/{salt})" if variant == "distinct" else ""
    made: dict[str, Any] = {
        "id": id,
        "object": "thread.run",
        "created_at": _CREATED + salt,
        "assistant_id": "asst_LtiaO4m2KzcEDhNxZLOWffZY",
        "thread_id": thread_id,
        "status": status,
        "started_at": _CREATED + salt + 1,
        "expires_at": None,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": _CREATED + salt + 9 if status == "completed" else None,
        "required_action": None,
        "last_error": None,
        "model": "gpt-4o",
        "instructions": _INSTRUCTIONS + own,
        "tools": [_tool(name, own) for name in _NAMES],
        "tool_resources": {},
        "metadata": {"conversation": f"{mark}-{salt:04d}"},
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": _usage(salt),
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    if variant == "unknown":
        made |= {"service_tier": "default", "region": {"name": "north", "zone": salt % 3}}
    return made


def step(id: str, run_id: str, thread_id: str, *, salt: int = 0) -> dict[str, Any]:
    """Make a step: every third writes a message, the others call a function or the code interpreter."""
    return {
        "id": id,
        "object": "thread.run.step",
        "created_at": _CREATED + salt,
        "run_id": run_id,
        "assistant_id": "asst_LtiaO4m2KzcEDhNxZLOWffZY",
        "thread_id": thread_id,
        "type": "message_creation" if salt % 3 == 0 else "tool_calls",
        "status": "completed",
        "cancelled_at": None,
        "completed_at": _CREATED + salt + 2,
        "expires_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": _step_details(salt),
        "usage": _usage(salt),
    }


def page(kind: str, thread_id: str, run_id: str, variant: str, *, has_more: bool) -> bytes:
    """Make the template of a page of `runs` or `steps`: 100 items, whose ids hold `PAGE_MARK`."""
    mark, chance = PAGE_MARK.decode(), random.Random(thread_id)
    word = "run" if kind == "runs" else "step"
    ids = [f"{word}_{mark}{chance.getrandbits(64):016x}" for _ in range(PAGE_ITEMS)]
    if kind == "runs":
        data = [run(id, thread_id, variant=variant, salt=salt) for salt, id in enumerate(ids)]
    else:
        data = [step(id, run_id, thread_id, salt=salt) for salt, id in enumerate(ids)]
    return dump({"object": "list", "data": data, "first_id": ids[0], "last_id": ids[-1], "has_more": has_more})


def dump(plain: object) -> bytes:
    """Write JSON without spaces."""
    return json.dumps(plain, separators=(",", ":")).encode()


def _tool(name: str, own: str) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Gives figures for a city.{own}",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "unit": {"type": "string", "enum": ["c", "f"]},
                },
                "required": ["city"],
            },
        },
    }


def _usage(salt: int) -> dict[str, Any]:
    return {
        "prompt_tokens": 100 + salt,
        "completion_tokens": 300 + salt,
        "total_tokens": 400 + 2 * salt,
        "prompt_token_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _step_details(salt: int) -> dict[str, Any]:
    if salt % 3 == 0:
        return {"type": "message_creation", "message_creation": {"message_id": f"msg_{salt:024d}"}}
    if salt % 3 == 1:
        function = {
            "name": _NAMES[salt % len(_NAMES)],
            "arguments": json.dumps({"city": f"City {salt}", "unit": "c"}),
            "output": json.dumps({"temperature": salt, "taken_at": _CREATED + salt, "wind": "light, from the west"}),
        }
        return {
            "type": "tool_calls",
            "tool_calls": [{"id": f"call_{salt:024d}", "type": "function", "function": function}],
        }
    interpreter = {
        "input": f"import statistics\nprint(statistics.mean(range({salt})))\n",
        "outputs": [{"type": "logs", "logs": f"{salt / 2}\n"}],
    }
    call = {"id": f"call_{salt:024d}", "type": "code_interpreter", "code_interpreter": interpreter}
    return {"type": "tool_calls", "tool_calls": [call]}

"""Bodies of new objects, with every field that the published description requires."""

from typing import Any

from asyncruns.emulator._store import Body

DEFAULT_MODEL = "gpt-4o"
EXPIRY = 600


def thread_body(id: str, created_at: int, request: Body) -> Body:
    """Return a new thread as asked for by a create request."""
    return {
        "id": id,
        "object": "thread",
        "created_at": created_at,
        "metadata": request.get("metadata") or {},
        "tool_resources": request.get("tool_resources") or {},
    }


def run_body(id: str, thread_id: str, created_at: int, request: Body) -> Body:
    """Return a queued run that echoes its create request."""
    return {
        "id": id,
        "object": "thread.run",
        "created_at": created_at,
        "assistant_id": request["assistant_id"],
        "thread_id": thread_id,
        "status": "queued",
        "started_at": None,
        "expires_at": created_at + EXPIRY,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": request.get("model") or DEFAULT_MODEL,
        "instructions": _instructions(request),
        "tools": request.get("tools") or [],
        "metadata": request.get("metadata") or {},
        "temperature": _given(request, "temperature", 1.0),
        "top_p": _given(request, "top_p", 1.0),
        "max_completion_tokens": request.get("max_completion_tokens"),
        "max_prompt_tokens": request.get("max_prompt_tokens"),
        "truncation_strategy": request.get("truncation_strategy") or {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": None,
        "response_format": request.get("response_format") or "auto",
        "tool_choice": request.get("tool_choice") or "auto",
        "parallel_tool_calls": request.get("parallel_tool_calls", True),
    }


def step_body(id: str, run: Body, created_at: int, details: Body) -> Body:
    """Return a step in progress of the run whose body is *run*."""
    return {
        "id": id,
        "object": "thread.run.step",
        "created_at": created_at,
        "run_id": run["id"],
        "assistant_id": run["assistant_id"],
        "thread_id": run["thread_id"],
        "type": details["type"],
        "status": "in_progress",
        "cancelled_at": None,
        "completed_at": None,
        "expired_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": details,
        "metadata": {},
        "usage": None,
    }


def request_message_body(id: str, thread_id: str, created_at: int, request: Body) -> Body:
    """Return the message that a create request asks for."""
    return {
        **_message_body(id, thread_id, created_at),
        "status": "completed",
        "completed_at": created_at,
        "role": request["role"],
        "content": _content(request["content"]),
        "attachments": request.get("attachments") or [],
        "metadata": request.get("metadata") or {},
    }


def reply_body(id: str, run: Body, created_at: int) -> Body:
    """Return the still empty message that a run begins to write."""
    return {
        **_message_body(id, run["thread_id"], created_at),
        "assistant_id": run["assistant_id"],
        "run_id": run["id"],
    }


def text_content(value: str) -> list[Body]:
    """Return message content that holds one text."""
    return [{"type": "text", "text": {"value": value, "annotations": []}}]


def message_creation(message_id: str) -> Body:
    """Return the details of a step that writes a message."""
    return {"type": "message_creation", "message_creation": {"message_id": message_id}}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return token counts and their sum."""
    total_tokens = prompt_tokens + completion_tokens
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total_tokens,
    }


def _message_body(id: str, thread_id: str, created_at: int) -> Body:
    return {
        "id": id,
        "object": "thread.message",
        "created_at": created_at,
        "thread_id": thread_id,
        "status": "in_progress",
        "incomplete_details": None,
        "completed_at": None,
        "incomplete_at": None,
        "role": "assistant",
        "content": [],
        "assistant_id": None,
        "run_id": None,
        "attachments": [],
        "metadata": {},
    }


def _content(content: str | list[Body]) -> list[Body]:
    if isinstance(content, str):
        return text_content(content)
    return [text_content(part["text"])[0] if part["type"] == "text" else part for part in content]


def _instructions(request: Body) -> str:
    parts = (request.get("instructions"), request.get("additional_instructions"))
    return "\n".join(part for part in parts if part)


def _given(request: Body, name: str, default: float) -> Any:
    value = request.get(name)
    return default if value is None else value

"""Answers that real servers give, as plain values."""

from typing import Any

THREAD, RUN = "thread_1", "run_1"


def run(id: str = RUN, **fields: Any) -> dict[str, Any]:
    """Return a run of the thread."""
    return {
        "id": id,
        "object": "thread.run",
        "created_at": 1_735_689_600,
        "thread_id": THREAD,
        "assistant_id": "asst_1",
        "status": "completed",
        **fields,
    }


def runs(*numbers: int) -> list[dict[str, Any]]:
    """Return runs of those numbers."""
    return [run(f"run_{number}") for number in numbers]


def page(data: list[dict[str, Any]], has_more: Any = False, **fields: Any) -> dict[str, Any]:
    """Return one page of a listing."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more, **fields}


def error(message: str, code: str | None = None) -> dict[str, Any]:
    """Return an error body of the published shape."""
    return {"error": {"message": message, "type": "server_error", "param": None, "code": code}}

"""The emulator is held to the published description, by a judge that shares no code with it: schemathesis.

Two places of the description cannot be met by any server and are repaired before judging: `first_id` and
`last_id` of an empty list are null at every real server, and the description has them as plain strings.
Status codes are not judged against it, because it documents none but 200 and 429.
"""

import asyncio
import json
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncruns.emulator import Emulator, ManualClock, Script

SPEC = Path(__file__).parents[2].parent / "shared" / "spec" / "openapi-threads.yaml"
if not SPEC.exists():
    pytest.skip("the published description is not beside this checkout", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis judges the conformance")
    yaml = pytest.importorskip("yaml", reason="the published description is YAML")
    requests = pytest.importorskip("requests", reason="schemathesis sends with requests")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
)

EXAMPLES = 15
CHECKS = [
    schemathesis.checks.not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LISTS = ("ListRunsResponse", "ListRunStepsResponse", "ListMessagesResponse")
STREAMED = {
    "thread": "ThreadObject",
    "thread.run": "RunObject",
    "thread.run.step": "RunStepObject",
    "thread.message": "MessageObject",
}
TOOLS = [{"type": "code_interpreter"}, {"type": "file_search"}, {"type": "function", "function": {"name": "f"}}]


def description():
    """Return the published description, repaired where it demands the impossible."""
    raw = yaml.safe_load(SPEC.read_text())
    raw["paths"] = {path: item for path, item in raw["paths"].items() if path.startswith("/threads")}
    for name in LISTS:
        for field in ("first_id", "last_id"):
            raw["components"]["schemas"][name]["properties"][field]["type"] = ["string", "null"]
    return raw


DESCRIPTION = description()
SCHEMA = schemathesis.openapi.from_dict(DESCRIPTION)
OPERATIONS = {operation.label: operation for operation in (one.ok() for one in SCHEMA.get_all_operations())}


@contextmanager
def served():
    """Serve an emulator from a loop in another thread, since schemathesis blocks its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    emulator = Emulator(clock=ManualClock())
    try:
        asyncio.run_coroutine_threadsafe(emulator.start(), loop).result()
        yield emulator
        asyncio.run_coroutine_threadsafe(emulator.stop(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class World:
    """An emulator with something behind every path parameter."""

    def __init__(self, emulator, http):
        self.emulator = emulator
        self.http = http
        http.headers["Authorization"] = f"Bearer {emulator.api_key}"
        emulator.fill(threads=3, runs_per_thread=20)

    def post(self, path, body):
        """Return the answer to a request that must succeed."""
        response = self.http.post(self.emulator.base_url + path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def fresh(self, *, waiting):
        """Return ids of a new thread, its message, and a run that rests or waits for tool outputs."""
        thread = self.post("/threads", {"messages": [{"role": "user", "content": "x"}]})
        request = {"assistant_id": "asst_1", "tools": TOOLS if waiting else []}
        run = self.post(f"/threads/{thread['id']}/runs", request)
        self.emulator.clock.advance(10)
        below = f"{self.emulator.base_url}/threads/{thread['id']}"
        steps = self.http.get(f"{below}/runs/{run['id']}/steps").json()["data"]
        messages = self.http.get(f"{below}/messages").json()["data"]
        ids = {"thread_id": thread["id"], "run_id": run["id"]}
        return {**ids, "step_id": steps[0]["id"], "message_id": messages[0]["id"]}

    def call(self, case):
        """Send the case."""
        return case.call(base_url=self.emulator.base_url, session=self.http)


@pytest.fixture(scope="module")
def world():
    """Give the module one emulator with filled histories."""
    with served() as emulator, requests.Session() as http:
        yield World(emulator, http)


def generated(operation, mode):
    """Return a decorator that runs a test over the cases of an operation, the same ones each time."""
    # schemathesis warns of what it cannot express; its warnings are no findings about the emulator.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = operation.as_strategy(generation_mode=mode)
    rules = settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: rules(given(case=cases)(test))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_generated_requests(world, label):
    """Whatever valid request is generated, on known and unknown ids: the answer fits the description."""
    operation = OPERATIONS[label]
    statuses = []

    @generated(operation, schemathesis.GenerationMode.POSITIVE)
    def check(case):
        if len(statuses) % 4:
            ids = world.fresh(waiting="submit" in label or "cancel" in label)
            case.path_parameters = {name: ids[name] for name in case.path_parameters or {}}
        (case.query or {}).pop("after", None)
        (case.query or {}).pop("before", None)
        if isinstance(case.body, dict):
            case.body.pop("stream", None)
        response = world.call(case)
        statuses.append(response.status_code)
        case.validate_response(response, checks=CHECKS)
        world.emulator.clock.advance(60)

    check()
    assert set(statuses) <= {200, 400, 404}
    # Ids of generated tool outputs are never those the run waits for.
    assert 200 in statuses or "submit_tool_outputs" in label


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", sorted(label for label in OPERATIONS if OPERATIONS[label].body))
def test_generated_wrong_requests(world, label):
    """A request that breaks the description is refused with an error body, never served and never a 500."""

    @generated(OPERATIONS[label], schemathesis.GenerationMode.NEGATIVE)
    def check(case):
        ids = world.fresh(waiting=True)
        case.path_parameters = {name: ids[name] for name in case.path_parameters or {}}
        response = world.call(case)
        case.validate_response(response, checks=[*CHECKS, negative_data_rejection])
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check()


def walk(world, path, **query):
    """Return every item of a listing, and the answers they came in."""
    responses, after = [], {}
    while after is not None:
        response = world.http.get(world.emulator.base_url + path, params={"limit": 7, **query, **after})
        responses.append(response)
        page = response.json()
        after = {"after": page["last_id"]} if page["has_more"] else None
    return [item for response in responses for item in response.json()["data"]], responses


def test_filled_histories_fit_the_description(world):
    """Runs, steps and messages of all statuses that filling makes are valid, in lists and alone."""
    [thread_id] = world.emulator.fill(threads=1, runs_per_thread=60)
    thread = f"/threads/{thread_id}"
    lists = "GET /threads/{thread_id}"
    runs, pages = walk(world, f"{thread}/runs")
    judged = [(f"{lists}/runs", page) for page in pages]
    judged += [(f"{lists}/messages", page) for page in walk(world, f"{thread}/messages")[1]]
    include = {"include[]": "step_details.tool_calls[*].file_search.results[*].content"}
    for run in runs:
        for query in ({}, include):
            _, pages = walk(world, f"{thread}/runs/{run['id']}/steps", **query)
            judged += [(f"{lists}/runs/{{run_id}}/steps", page) for page in pages]
    assert len({run["status"] for run in runs}) == 5
    for label, response in judged:
        OPERATIONS[label].validate_response(response)


@pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "expired", "cancelled"])
def test_every_state_of_a_run_fits_the_description(world, outcome):
    """At each moment of its life a run is valid, and so are its steps and messages."""
    if outcome in ("failed", "incomplete"):
        world.emulator.next_outcome(outcome)
    thread = world.post("/threads", {"messages": [{"role": "user", "content": "x"}]})["id"]
    run = world.post(f"/threads/{thread}/runs", {"assistant_id": "asst_1", "tools": TOOLS})
    path, seen = f"/threads/{thread}/runs/{run['id']}", set()
    for _ in range(12):
        run = judge(world, thread, run["id"])
        seen.add(run["status"])
        if run["status"] == "requires_action" and outcome == "cancelled":
            world.post(f"{path}/cancel", {})
        elif run["status"] == "requires_action" and outcome == "expired":
            world.emulator.clock.advance(600)
        elif run["status"] == "requires_action":
            calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
            outputs = [{"tool_call_id": call["id"], "output": "1"} for call in calls]
            world.post(f"{path}/submit_tool_outputs", {"tool_outputs": outputs})
        world.emulator.clock.advance(0.04)
    assert seen >= {"queued", "in_progress", "requires_action", outcome}


def streamed(world, path, body):
    """Return the events of a live run, as names and texts."""
    response = world.http.post(world.emulator.base_url + path, json={**body, "stream": True})
    assert response.status_code == 200
    frames = [frame.split("\ndata: ") for frame in response.text.removeprefix("event: ").split("\n\nevent: ")]
    assert frames.pop() == ["done", "[DONE]\n\n"]
    return frames


@pytest.mark.parametrize("outcome", ["completed", "failed", "incomplete", "expired"])
def test_every_streamed_object_fits_the_description(world, outcome):
    """Threads, runs, steps and messages in events are valid; deltas have no schema of their own there."""
    jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="schemathesis brings it")
    validators = {
        kind: jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", **DESCRIPTION})
        for kind, name in STREAMED.items()
    }
    assert not validators["thread.run"].is_valid({"object": "thread.run"})
    # A plain expired run calls no tools.
    rounds = {"rounds": [[("f", {})]]} if outcome == "expired" else {}
    world.emulator.script(Script(outcome=outcome, **rounds))
    events = streamed(world, "/threads/runs", {"assistant_id": "asst_1", "tools": TOOLS})
    run = json.loads(events[-1][1])
    [call] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    path = f"/threads/{run['thread_id']}/runs/{run['id']}/submit_tool_outputs"
    events += streamed(world, path, {"tool_outputs": [{"tool_call_id": call["id"], "output": "1"}]})
    judged = set()
    for name, data in events:
        body = json.loads(data)
        if not name.endswith(".delta"):
            validators[body["object"]].validate(body)
            judged.add(name)
    assert judged >= {
        "thread.created",
        "thread.run.step.created",
        "thread.run.requires_action",
        f"thread.run.{outcome}",
    }


def judge(world, thread_id, run_id):
    """Hold a run, its steps and its thread's messages to the description, and return the run."""
    below, label = f"/threads/{thread_id}", "GET /threads/{thread_id}"
    for path, operation in (
        (f"{below}/messages", f"{label}/messages"),
        (f"{below}/runs/{run_id}/steps", f"{label}/runs/{{run_id}}/steps"),
        (below, label),
        (f"{below}/runs/{run_id}", f"{label}/runs/{{run_id}}"),
    ):
        response = world.http.get(world.emulator.base_url + path)
        OPERATIONS[operation].validate_response(response)
    return response.json()

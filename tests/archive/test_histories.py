"""Exports of a server that goes on living, whole, broken off and killed, with other options each time."""

import asyncio
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from asyncruns import Session
from asyncruns.archive import Archive, _moments, export, verify

from .listings import Item, Listings

T = TypeVar("T")
THREADS = st.sampled_from(["thread_1", "thread_2"])
PLACES = st.floats(0, 1, exclude_max=True)
OPTIONS = st.fixed_dictionaries(
    {"both_ends": st.booleans(), "steps": st.booleans(), "probe": st.booleans(), "concurrency": st.integers(1, 4)}
)
ORDERS: dict[str, Callable[[list[Item]], list[Item]]] = {
    "newest first": lambda items: items[::-1],
    "newest second first": lambda items: sorted(items, key=lambda item: -item.get("created_at", 0)),
    "oldest first": list,
}
"""What `order=desc` shows; within a second, some servers have but one order."""
MOMENTS = ["after_rows", "after_cursor", "before_commit", "after_commit"]


class Histories(RuleBasedStateMachine):
    """Runs come, end and go; what an export that nothing disturbed leaves behind is what the server has."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "runs.db"
        self.chance = random.Random(0)
        self.threads: list[str] = []
        self.shown: set[bytes] = set()
        self.do(self.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do *work* on the machine's own loop."""
        return self.runner.run(asyncio.wait_for(work, 20))

    async def start(self) -> None:
        """Open the server and the client."""
        self.server = await Listings().__aenter__()
        self.session = await Session("key", self.server.base_url).__aenter__()

    async def stop(self) -> None:
        """Close both."""
        await self.session.__aexit__()
        await self.server.__aexit__()

    def teardown(self) -> None:
        """Close everything."""
        self.do(self.stop())
        self.runner.close()
        shutil.rmtree(self.folder)

    @initialize(order=st.sampled_from([*ORDERS]), counts=st.lists(st.integers(0, 14), min_size=2, max_size=2))
    def begin(self, order: str, counts: list[int]) -> None:
        """Begin with some runs, on a server with its own idea of the order from the newest end."""
        self.server.newest_first, self.is_exact = ORDERS[order], order != "newest second first"
        for thread, count in zip(("thread_1", "thread_2"), counts, strict=True):
            self.server.threads[thread] = []
            for _ in range(count):
                self.add(thread, "completed", 1)

    @rule(thread=THREADS, status=st.sampled_from(["completed", "in_progress"]), steps=st.integers(0, 4))
    def add(self, thread: str, status: str, steps: int) -> None:
        """Create a run."""
        run = self.server.add_run(thread, status, steps)
        run["created_at"] //= 3
        for step in self.server.steps[run["id"]]:
            step["status"] = status
        self.note(run, *self.server.steps[run["id"]])

    @rule(thread=THREADS, place=PLACES)
    def end(self, thread: str, place: float) -> None:
        """Have a run that is under way make one more step and end."""
        running = [run for run in self.server.threads[thread] if run["status"] == "in_progress"]
        if running:
            run = running[int(place * len(running))]
            run["status"] = "failed"
            steps = self.server.steps[run["id"]]
            steps.append({"id": f"step_{run['id']}_last", "run_id": run["id"], "thread_id": thread})
            for step in steps:
                step["status"] = "failed"
            self.note(run, *steps)

    @rule(thread=THREADS, place=PLACES)
    def delete(self, thread: str, place: float) -> None:
        """Delete a run, whatever became of it; its steps can be listed as long as somebody knows of it."""
        runs = self.server.threads[thread]
        if runs:
            del runs[int(place * len(runs))]

    def note(self, *items: Item) -> None:
        """Remember how the items are shown now."""
        self.shown |= {json.dumps(item).encode() for item in items}

    @rule(options=OPTIONS)
    def export_undisturbed(self, options: dict[str, Any]) -> None:
        """Export, and find all that the server has, as it has it, in its order."""
        progress = self.do(self.exported(options))
        assert progress.failures == {}
        assert progress.threads_done == 2
        with Archive.open(self.path) as archive:
            for thread, runs in self.server.threads.items():
                self.compare(runs, archive.raw("runs", thread_id=thread))
                for run in runs if options["steps"] else ():
                    self.compare(self.server.steps[run["id"]], archive.raw_steps(run["id"]))
        if options["steps"]:
            assert self.do(verify(self.session, self.path)).ok

    def compare(self, wanted: list[Item], found: Any) -> None:
        """Hold what was found against what the server has; what it had once may be there, too."""
        blobs = list(found)
        ids = [json.loads(blob)["id"] for blob in blobs]
        assert len(set(ids)) == len(ids)
        assert set(blobs) <= self.shown
        there = {item["id"] for item in wanted}
        came = [json.loads(blob) for id, blob in zip(ids, blobs, strict=True) if id in there]
        if not self.is_exact:
            came = sorted(came, key=ids_in_order(wanted))
        assert came == wanted

    @rule(options=OPTIONS, seed=st.integers(0, 99))
    def export_meanwhile(self, options: dict[str, Any], seed: int) -> None:
        """Export while runs come, end and go."""
        self.chance = random.Random(seed)
        self.server.on_request = self.change
        self.do(self.exported(options))
        self.server.on_request = lambda: None
        self.look()

    def change(self) -> None:
        """Change something, or nothing."""
        thread, place = self.chance.choice(["thread_1", "thread_2"]), self.chance.random()
        match self.chance.randrange(8):
            case 0:
                self.add(thread, "completed", 1)
            case 1:
                self.add(thread, "in_progress", 1)
            case 2:
                self.end(thread, place)
            case 3:
                self.delete(thread, place)

    @rule(options=OPTIONS, requests=st.integers(1, 20))
    def break_off(self, options: dict[str, Any], requests: int) -> None:
        """Cancel an export after so many requests."""
        self.do(self.broken_off(options, requests))
        self.look()

    async def broken_off(self, options: dict[str, Any], requests: int) -> None:
        remaining = Counter(requests=requests)
        exporting = asyncio.create_task(self.exported(options))

        def count() -> None:
            remaining["requests"] -= 1
            if not remaining["requests"]:
                exporting.cancel()

        self.server.on_request = count
        await asyncio.wait([exporting])
        self.server.on_request = lambda: None
        if not exporting.cancelled():
            exporting.result()

    @rule(options=OPTIONS, moment=st.sampled_from(MOMENTS), times=st.integers(1, 12))
    def kill(self, options: dict[str, Any], moment: str, times: int) -> None:
        """Have nothing of an export but what was on the disk when a moment came for so many times."""
        remaining, kept = Counter({moment: times}), dict[Path, bytes]()
        before, reached = {file: file.read_bytes() for file in self.folder.iterdir()}, _moments.reached

        def note(name: str) -> None:
            remaining[name] -= 1
            if name == moment and remaining[name] == 0:
                kept.update({file: file.read_bytes() for file in self.folder.iterdir() if file.suffix != ".db-shm"})

        _moments.reached = note
        try:
            self.do(self.exported(options))
        finally:
            _moments.reached = reached
        for file in self.folder.iterdir():
            file.unlink()
        for file, content in (kept or before).items():
            file.write_bytes(content)
        self.look()

    async def exported(self, options: dict[str, Any]) -> Any:
        """Export what there is."""
        return await export(self.session, self.path, self.server.threads, **options)

    def look(self) -> None:
        """Find nothing twice, and nothing that the server never showed."""
        if self.path.exists():
            with Archive.open(self.path) as archive:
                blobs = [*archive.raw("runs"), *archive.raw("steps")]
            assert set(blobs) <= self.shown
            ids = [json.loads(blob)["id"] for blob in blobs]
            assert len(set(ids)) == len(ids)


def ids_in_order(wanted: list[Item]) -> Callable[[Item], int]:
    """Return what sorts items as *wanted* is."""
    places = {item["id"]: place for place, item in enumerate(wanted)}
    return lambda item: places[item["id"]]


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.mark.parametrize("requests", range(2, 10))
def test_what_ended_since_is_read_again(requests: int) -> None:
    """A run that was under way when an export was cut is brought as it ended by the next, and so are its steps."""
    life = Histories()
    life.begin("newest first", [0, 0])
    for _ in range(2):
        life.add("thread_1", "in_progress", 4)
    for _ in range(5):
        life.add("thread_1", "completed", 0)
    options = {"both_ends": False, "steps": True, "probe": False, "concurrency": 1}
    life.break_off(options, requests)
    for _ in range(2):
        life.end("thread_1", 0.0)
    life.export_undisturbed(options)
    life.teardown()

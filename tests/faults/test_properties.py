"""Laws that hold whatever happens: walks of a changing listing, and the retry quota."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import asyncruns
from asyncruns import CursorLostError
from asyncruns._pacing import RetryQuota
from asyncruns._walk import MAX_LOST_CURSORS
from asyncruns.emulator import Emulator

from .bodies import run


@dataclass
class Walk:
    """One walk under way: what it found, and what has been there since it began."""

    items: AsyncGenerator[asyncruns.Run, None]
    stayed: set[str]
    found: list[str] = field(default_factory=list)
    is_over: bool = False


class WalksOfAChangingListing(RuleBasedStateMachine):
    """Runs come and go while several walks of their listing are under way, forwards and backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.walks: list[Walk] = []
        self.made = 0
        self.gone: set[str] = set()

    @initialize(count=st.integers(0, 25))
    def open(self, count: int) -> None:
        """Start the emulator with a thread of so many runs."""
        self.emulator = Emulator()
        self.runner.run(self.emulator.start())
        (thread_id,) = self.emulator.fill(threads=1, runs_per_thread=0)
        self.session = asyncruns.Session(self.emulator.api_key, self.emulator.base_url)
        self.runner.run(self.session.__aenter__())
        thread = self.emulator._store.threads.get(thread_id)
        assert thread is not None
        self.thread = thread
        for second in range(count):
            self.insert(second)

    @property
    def ids(self) -> list[str]:
        """All ids, oldest first."""
        return [each.id for each in self.thread.runs.items()]

    @rule(second=st.integers(0, 30))
    def insert(self, second: int) -> None:
        """Add a run anywhere in the order."""
        self.made += 1
        body = run(f"run_{self.made}", thread_id=self.thread.id, created_at=1_700_000_000 + second)
        self.emulator._store.add_run(self.thread, body)

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Take a run away."""
        self._delete(data.draw(st.sampled_from(self.ids)))

    @precondition(lambda self: any(walk.found for walk in self.walks))
    @rule(data=st.data(), count=st.integers(1, 4))
    def expire_cursor(self, data: st.DataObject, count: int) -> None:
        """Take away the runs that a walk has just given."""
        walk = data.draw(st.sampled_from([walk for walk in self.walks if walk.found]))
        for id in set(walk.found[-count:]) & set(self.ids):
            self._delete(id)

    @precondition(lambda self: len(self.walks) < 4)
    @rule(limit=st.integers(1, 6), order=st.sampled_from(["asc", "desc"]))
    def begin(self, limit: int, order: Any) -> None:
        """Begin a walk."""
        pager = self.session.runs.list(self.thread.id, limit=limit, order=order)
        self.walks.append(Walk(pager.__aiter__(), set(self.ids)))

    @precondition(lambda self: self.walks)
    @rule(data=st.data(), count=st.integers(1, 9))
    def go_on(self, data: st.DataObject, count: int) -> None:
        """Take some items of a walk."""
        self._advance(data.draw(st.sampled_from(self.walks)), count)

    @invariant()
    def nothing_came_twice(self) -> None:
        """No walk gives an item twice."""
        assert all(len(walk.found) == len(set(walk.found)) for walk in self.walks)

    def teardown(self) -> None:
        """Walk every walk to its end: what was there for all of it has come out."""
        if not hasattr(self, "session"):
            return
        for walk in self.walks:
            self._advance(walk, 10_000)
            assert walk.is_over
            assert walk.stayed <= set(walk.found)
        self.runner.run(self.session.__aexit__(None, None, None))
        self.runner.run(self.emulator.stop())
        self.runner.close()

    def _delete(self, id: str) -> None:
        item = self.thread.runs.get(id)
        assert item is not None
        self.thread.runs.remove(item)
        self.gone.add(id)
        for walk in self.walks:
            walk.stayed.discard(id)

    def _advance(self, walk: Walk, count: int) -> None:
        async def take() -> None:
            for _ in range(count):
                try:
                    walk.found.append((await anext(walk.items)).id)
                except StopAsyncIteration:
                    walk.is_over = True
                    return

        try:
            self.runner.run(take())
        except CursorLostError:
            # Allowed only when all that the walk could go on from is gone; then it says so instead of ending.
            assert set(walk.found[-MAX_LOST_CURSORS:]) <= self.gone
            walk.stayed = set()
            walk.is_over = True


class QuotaOverManyCalls(RuleBasedStateMachine):
    """Calls that fail or succeed after retries, as the transport books them."""

    def __init__(self) -> None:
        super().__init__()
        self.quota = RetryQuota()
        self.under_way: list[int] = []
        self.lost = 0
        self.successes = 0

    @rule()
    def begin(self) -> None:
        """A call sends its first request, which costs nothing."""
        self.under_way.append(0)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """A call wants to try again; refused, it fails."""
        number = data.draw(st.integers(0, len(self.under_way) - 1))
        if self.quota.take():
            self.under_way[number] += 1
        else:
            self.lost += self.under_way.pop(number)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """A call succeeds."""
        self.successes += 1
        self.quota.give_back(self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1))))

    @invariant()
    def tokens_stay_within_bounds(self) -> None:
        """The quota is neither overdrawn nor overfull."""
        assert 0 <= self.quota.tokens <= RetryQuota.CAPACITY

    @invariant()
    def failures_are_not_amplified(self) -> None:
        """Retries that did not help are at most ten, and one more for every five calls that succeeded."""
        retries = self.lost + sum(self.under_way)
        assert retries * RetryQuota.COST <= RetryQuota.CAPACITY + self.successes


def test_walks_of_a_changing_listing() -> None:
    """What is there for the whole of a walk comes out exactly once, whatever comes and goes meanwhile."""
    few = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(WalksOfAChangingListing, settings=few)


def test_quota_over_many_calls() -> None:
    """An outage is never amplified beyond what the quota holds."""
    run_state_machine_as_test(QuotaOverManyCalls, settings=settings(max_examples=60, stateful_step_count=60))

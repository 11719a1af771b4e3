"""What the emulator remembers: threads, runs, steps and messages, in the order that listings show them."""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator
from random import Random
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from asyncruns.emulator._json import decode, encode

Body: TypeAlias = dict[str, Any]
Order: TypeAlias = Literal["asc", "desc"]

# A run's life yields the moment of its next transition (None: only a request moves it), and is sent it.
Life: TypeAlias = Generator[float | None, float, None]


class Form(NamedTuple):
    """A body not yet written out: a JSON text with %-places and the facts that fill them."""

    text: str
    facts: dict[str, object]


class Resource:
    """One stored object: its id, its place in the order of listings, and its body.

    The JSON is kept until the body changes, so that reading again costs nothing. A resource made from a
    form is written out only when it is read.
    """

    __slots__ = ("_body", "_form", "_json", "id", "place")

    def __init__(self, id: str, place: tuple[int, int], source: Body | Form) -> None:
        self.id = id
        self.place = place
        self._json: bytes | None = None
        self._form = source if isinstance(source, Form) else None
        self._body = None if isinstance(source, Form) else source

    @property
    def body(self) -> Body:
        """The object as plain values; only `change` may alter it."""
        if self._body is None:
            self._body = decode(self.json())
        return self._body

    def json(self) -> bytes:
        """Return the object as it goes over the wire."""
        if self._json is not None:
            return self._json
        if self._form is not None:
            return (self._form.text % self._form.facts).encode()
        self._json = encode(self._body)
        return self._json

    def change(self, **fields: object) -> None:
        """Set *fields* of the body."""
        self.body.update(fields)
        self._form = self._json = None


ResourceT = TypeVar("ResourceT", bound=Resource)


class Step(Resource):
    """A run step; file search results hold their content, which only some readers ask for."""

    __slots__ = ("searched",)

    def __init__(self, id: str, place: tuple[int, int], source: Body | Form, *, searched: bool = False) -> None:
        super().__init__(id, place, source)
        self.searched = searched


class Message(Resource):
    """A message, and the id of the run that wrote it."""

    __slots__ = ("run_id",)

    def __init__(self, id: str, place: tuple[int, int], source: Body | Form, *, run_id: str | None) -> None:
        super().__init__(id, place, source)
        self.run_id = run_id


class Listing(Generic[ResourceT]):
    """Resources by id, and oldest first; equal creation times keep the order of insertion."""

    __slots__ = ("_by_id", "_items")

    def __init__(self) -> None:
        self._by_id: dict[str, ResourceT] = {}
        self._items: list[ResourceT] = []

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: ResourceT) -> None:
        """Put *item* in its place."""
        self._by_id[item.id] = item
        if self._items and item.place < self._items[-1].place:
            self._items.insert(bisect_right(self._items, item.place, key=_place), item)
        else:
            self._items.append(item)

    def get(self, id: str) -> ResourceT | None:
        """Return the resource of that id, or None."""
        return self._by_id.get(id)

    def items(self) -> list[ResourceT]:
        """Return all resources, oldest first."""
        return list(self._items)

    def remove(self, item: ResourceT) -> None:
        """Forget *item*."""
        del self._by_id[item.id]
        del self._items[bisect_left(self._items, item.place, key=_place)]

    def page(
        self,
        *,
        limit: int,
        order: Order,
        after: ResourceT | None = None,
        before: ResourceT | None = None,
        keep: Callable[[ResourceT], bool] | None = None,
    ) -> tuple[list[ResourceT], bool]:
        """Return one page in the requested order, and whether more remain in the walking direction.

        `after` walks forward from that resource. `before` alone walks backward: the page nearest to that
        resource. Both together are bounds, walked from the side of `after`.
        """
        older, newer = (after, before) if order == "asc" else (before, after)
        low = 0 if older is None else bisect_right(self._items, older.place, key=_place)
        high = len(self._items) if newer is None else bisect_left(self._items, newer.place, key=_place)
        items = self._items if keep is None else [item for item in self._items[low:high] if keep(item)]
        if keep is not None:
            low, high = 0, len(items)
        backward = before is not None and after is None
        from_old_end = (order == "asc") != backward
        data = items[low : min(high, low + limit)] if from_old_end else items[max(low, high - limit) : high]
        return (data if order == "asc" else data[::-1]), high - low > limit


# Who is told of a live run's events: the event's name, and the object or delta it is about.
Listener: TypeAlias = Callable[[str, Resource | Body], None]


class Player(Protocol):
    """What a run asks of those who play it."""

    def seconds(self, state: str, /) -> float:
        """Return seconds that the run spends in *state*."""
        ...

    def be_cancelled(self, run: "Run", /) -> Life:
        """Bring a run that is being cancelled to its end."""
        ...


class Run(Resource):
    """A run, its steps, and what is still to happen to it.

    A run moves at `due`; its status, or that of its open step, changes at `turns_at` where that is later.
    """

    __slots__ = (
        "due",
        "expires",
        "life",
        "listener",
        "open_message",
        "open_step",
        "player",
        "steps",
        "thread",
        "turns_at",
    )

    def __init__(self, thread: "Thread", id: str, place: tuple[int, int], source: Body | Form) -> None:
        super().__init__(id, place, source)
        self.thread = thread
        self.steps: Listing[Step] = Listing()
        self.life: Life | None = None
        self.player: Player | None = None
        self.listener: Listener | None = None
        self.due: float | None = None
        self.turns_at: float | None = None
        self.expires = 0.0
        self.open_step: Step | None = None
        self.open_message: Message | None = None


class Thread(Resource):
    """A thread with its runs and messages."""

    __slots__ = ("active", "messages", "runs")

    def __init__(self, id: str, place: tuple[int, int], source: Body | Form) -> None:
        super().__init__(id, place, source)
        self.runs: Listing[Run] = Listing()
        self.messages: Listing[Message] = Listing()
        self.active: Run | None = None


class Store:
    """All threads, the maker of ids, and the places that order listings.

    Args:
        random: Where ids come from; equal seeds give equal ids.
    """

    def __init__(self, random: Random) -> None:
        self.threads: Listing[Thread] = Listing()
        self._random = random
        self._sequence = itertools.count()

    def new_id(self, prefix: str) -> str:
        """Return a fresh id such as `run_5f0c...`, 24 hexadecimal digits after the prefix."""
        return f"{prefix}_{self._random.getrandbits(96):024x}"

    def place(self, created_at: int) -> tuple[int, int]:
        """Return the next place among the resources created in that second."""
        return created_at, next(self._sequence)

    def add_thread(self, body: Body) -> Thread:
        """Store a new thread."""
        thread = Thread(body["id"], self.place(body["created_at"]), body)
        self.threads.add(thread)
        return thread

    def add_run(self, thread: Thread, body: Body) -> Run:
        """Store a new run of *thread*."""
        run = Run(thread, body["id"], self.place(body["created_at"]), body)
        thread.runs.add(run)
        return run

    def add_step(self, run: Run, body: Body, *, searched: bool = False) -> Step:
        """Store a new step of *run*."""
        step = Step(body["id"], self.place(body["created_at"]), body, searched=searched)
        run.steps.add(step)
        return step

    def add_message(self, thread: Thread, body: Body) -> Message:
        """Store a new message in *thread*."""
        message = Message(body["id"], self.place(body["created_at"]), body, run_id=body["run_id"])
        thread.messages.add(message)
        return message


def _place(item: Resource) -> tuple[int, int]:
    return item.place

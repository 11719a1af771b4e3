"""What the events of a live run have told: of which run they are, and the objects that they make up. Pure: no loop."""

import attrs

from asyncruns import models as m
from asyncruns._events import Snapshot, plain_delta
from asyncruns.errors import IdentityMismatchError


@attrs.define
class Subject:
    """What a stream is about: as asked for, else as the first event that names it tells.

    Attributes:
        thread_id: The thread. None: not known yet.
        run_id: The run. None: not known yet.
        is_checked: Whether an event about another one is an error.
    """

    thread_id: str | None = None
    run_id: str | None = None
    is_checked: bool = True

    def note(self, *, thread_id: str | None = None, run_id: str | None = None) -> None:
        """Take what an event tells of both (None: nothing); raise `IdentityMismatchError` if they are others."""
        self.thread_id = self._same("thread_id", self.thread_id, thread_id)
        self.run_id = self._same("run_id", self.run_id, run_id)

    def _same(self, name: str, known: str | None, told: str | None) -> str | None:
        if known is None:
            return told
        if self.is_checked and told not in (None, known):
            raise IdentityMismatchError(
                f"The stream tells of another {name}. A gateway that rewrites ids needs check_identity=False.",
                expected=known,
                got=told,
            )
        return known


class Snapshots:
    """The objects of a live run as far as its events have told them.

    Attributes:
        subject: What the events are about.
        run: The run. None: not told yet.
        thread: The thread, if an event told that it was created.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.run: m.Run | None = None
        self.thread: m.Thread | None = None
        self._messages: dict[str, Snapshot[m.Message]] = {}
        self._steps: dict[str, Snapshot[m.RunStep]] = {}

    @property
    def messages(self) -> tuple[m.Message, ...]:
        """The messages, in the order they began."""
        return tuple(snapshot.value for snapshot in self._messages.values())

    @property
    def steps(self) -> tuple[m.RunStep, ...]:
        """The steps, in the order they began."""
        return tuple(snapshot.value for snapshot in self._steps.values())

    def note(self, event: m.StreamEvent, data: bytes) -> None:
        """Take what *event* tells, which was read from *data*.

        Raises:
            IdentityMismatchError: It is about another thread or run; nothing else is taken from it.
            SchemaError: A delta event holds no delta.
            DecodeError: A delta is nested too deeply, or a number in it is too large to be added.
        """
        match event:
            case m.RunEvent(run=run):
                self.subject.note(thread_id=run.thread_id, run_id=run.id)
                self.run = run
            case m.MessageDeltaEvent(delta=delta):
                self._message(delta.id).add(plain_delta(data))
            case m.MessageEvent(message=message):
                self.subject.note(thread_id=message.thread_id, run_id=message.run_id)
                self._message(message.id).replace(data, message)
            case m.RunStepDeltaEvent(delta=delta):
                self._step(delta.id).add(plain_delta(data))
            case m.RunStepEvent(step=step):
                self.subject.note(thread_id=step.thread_id, run_id=step.run_id)
                self._step(step.id).replace(data, step)
            case m.ThreadCreatedEvent(thread=thread):
                self.subject.note(thread_id=thread.id)
                self.thread = thread

    def _message(self, id: str) -> Snapshot[m.Message]:
        """Return the message's snapshot; one whose beginning was missed starts empty."""
        if id not in self._messages:
            base = {"id": id, "thread_id": self.subject.thread_id or "", "role": "assistant"}
            self._messages[id] = Snapshot(m.Message, base)
        return self._messages[id]

    def _step(self, id: str) -> Snapshot[m.RunStep]:
        if id not in self._steps:
            run_id, thread_id = self.subject.run_id or "", self.subject.thread_id or ""
            base = {"id": id, "run_id": run_id, "thread_id": thread_id, "type": "", "status": "in_progress"}
            self._steps[id] = Snapshot(m.RunStep, base | {"step_details": {}})
        return self._steps[id]

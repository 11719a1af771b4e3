"""The operations of the protocol, over plain values: what each one does and which object it answers with."""

from dataclasses import dataclass
from typing import NoReturn, TypeVar

from asyncruns.emulator import _objects
from asyncruns.emulator._errors import Refusal, not_found
from asyncruns.emulator._lifecycle import Lifecycle
from asyncruns.emulator._store import Body, Listener, Listing, Message, Resource, Run, Step, Store, Thread
from asyncruns.emulator._validation import PageQuery

ResourceT = TypeVar("ResourceT", bound=Resource)


@dataclass(frozen=True, slots=True)
class Api:
    """Finds, makes and changes stored objects; whatever is read is first brought up to the present."""

    store: Store
    lifecycle: Lifecycle

    def thread(self, thread_id: str) -> Thread:
        """Return the thread, its active run brought up to the present."""
        thread = self.store.threads.get(thread_id) or _refuse("thread", thread_id)
        self.lifecycle.settle(thread)
        return thread

    def run(self, thread_id: str, run_id: str) -> Run:
        """Return the run."""
        return self.thread(thread_id).runs.get(run_id) or _refuse("run", run_id)

    def step(self, thread_id: str, run_id: str, step_id: str) -> Step:
        """Return the step."""
        return self.run(thread_id, run_id).steps.get(step_id) or _refuse("run step", step_id)

    def message(self, thread_id: str, message_id: str) -> Message:
        """Return the message."""
        return self.thread(thread_id).messages.get(message_id) or _refuse("message", message_id)

    def create_thread(self, request: Body) -> Thread:
        """Make a thread, with its first messages."""
        request = {**request, "tool_resources": self._stored_resources(request.get("tool_resources"))}
        thread = self.store.add_thread(_objects.thread_body(self.store.new_id("thread"), self._now(), request))
        self._add_messages(thread, request.get("messages"))
        return thread

    def delete_thread(self, thread_id: str) -> Body:
        """Forget a thread and all that is below it."""
        self.store.threads.remove(self.thread(thread_id))
        return {"id": thread_id, "object": "thread.deleted", "deleted": True}

    def create_run(self, thread_id: str, request: Body, listener: Listener | None = None) -> Run:
        """Start a run on a thread that has no active one, after adding its additional messages.

        *listener* is told of the run's events, the first ones before this returns.
        """
        thread = self.thread(thread_id)
        if thread.active is not None:
            raise Refusal(f"Thread {thread.id} already has an active run {thread.active.id}.")
        self._add_messages(thread, request.get("additional_messages"))
        body = _objects.run_body(self.store.new_id("run"), thread.id, self._now(), request)
        run = self.store.add_run(thread, body)
        run.listener = listener
        self.lifecycle.begin(run)
        return run

    def create_thread_and_run(self, request: Body, listener: Listener | None = None) -> Run:
        """Make a thread and start a run on it; *listener* is told of both."""
        asked = dict(request.get("thread") or {})
        if request.get("tool_resources"):
            asked["tool_resources"] = request["tool_resources"]
        thread = self.create_thread(asked)
        if listener is not None:
            listener("thread.created", thread)
        return self.create_run(thread.id, request, listener)

    def cancel_run(self, thread_id: str, run_id: str) -> Run:
        """Begin to cancel a run."""
        run = self.run(thread_id, run_id)
        self.lifecycle.cancel(run)
        return run

    def submit_tool_outputs(self, thread_id: str, run_id: str, request: Body, listener: Listener | None = None) -> Run:
        """Hand a run the outputs it waits for; *listener* is told of its events from then on."""
        run = self.run(thread_id, run_id)
        self.lifecycle.submit(run, request["tool_outputs"], listener)
        return run

    def create_message(self, thread_id: str, request: Body) -> Message:
        """Add a message to a thread that has no active run."""
        thread = self.thread(thread_id)
        if thread.active is not None:
            raise Refusal(f"Can't add messages to {thread.id} while a run {thread.active.id} is active.")
        return self._add_messages(thread, [request])[0]

    def delete_message(self, thread_id: str, message_id: str) -> Body:
        """Forget a message."""
        self.thread(thread_id).messages.remove(self.message(thread_id, message_id))
        return {"id": message_id, "object": "thread.message.deleted", "deleted": True}

    def _now(self) -> int:
        return int(self.lifecycle.clock.now())

    def _add_messages(self, thread: Thread, requests: list[Body] | None) -> list[Message]:
        bodies = (
            _objects.request_message_body(self.store.new_id("msg"), thread.id, self._now(), request)
            for request in requests or []
        )
        return [self.store.add_message(thread, body) for body in bodies]

    def _stored_resources(self, resources: Body | None) -> Body | None:
        """Return tool resources as an answer shows them: vector stores asked for have become ids."""
        search = (resources or {}).get("file_search") or {}
        if "vector_stores" not in search:
            return resources
        ids = [self.store.new_id("vs") for _ in search["vector_stores"]]
        return {**(resources or {}), "file_search": {"vector_store_ids": ids}}


def modify(resource: ResourceT, request: Body) -> ResourceT:
    """Set the fields that *request* names; null empties them."""
    resource.change(**{name: value or {} for name, value in request.items()})
    return resource


def list_resources(
    listing: Listing[ResourceT], kind: str, query: PageQuery, *, run_id: str | None = None
) -> tuple[list[ResourceT], bool]:
    """Return the page that *query* asks for and whether more remain; *run_id* keeps that run's messages."""
    after, before = (None if id is None else listing.get(id) or _refuse(kind, id) for id in (query.after, query.before))
    keep = None if run_id is None else (lambda item: isinstance(item, Message) and item.run_id == run_id)
    return listing.page(limit=query.limit, order=query.order, after=after, before=before, keep=keep)


def _refuse(kind: str, id: str) -> NoReturn:
    raise not_found(kind, id)

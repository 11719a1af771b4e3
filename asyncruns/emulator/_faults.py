"""Fault profiles: servers of this protocol as they are met, each a few changes to what passes the gate."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from asyncruns.emulator import _fault_answers as answers
from asyncruns.emulator import _fault_requests as requests
from asyncruns.emulator import _fault_streams as streams
from asyncruns.emulator._errors import Refusal
from asyncruns.emulator._fault_requests import Handler
from asyncruns.emulator._feed import Event
from asyncruns.emulator._store import Body

Serve: TypeAlias = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
Refuse: TypeAlias = Callable[[Refusal], web.Response]
Reshape: TypeAlias = Callable[[Body], Body]
Relay: TypeAlias = Callable[[AsyncGenerator[Event]], AsyncGenerator[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How a server differs from the published one.

    Args:
        about: What it does, in one line.
        serve: What happens around an operation; it may change the request.
        refuse: How a refusal is answered.
        reshape: What becomes of each object, in JSON answers and, unless `only_json`, in streams.
        repage: What becomes of each page, its objects being reshaped already.
        relay: How the events of a stream go over the wire.
        only_json: Whether the objects in streams are left as they are.
    """

    about: str
    serve: Serve = requests.plainly
    refuse: Refuse = answers.published_error
    reshape: Reshape | None = None
    repage: Reshape | None = None
    relay: Relay = streams.plainly
    only_json: bool = False


PUBLISHED = Profile(about="What the published description says.")

_PROFILES: Mapping[str, Profile] = {
    "newest-first-loses": Profile(
        about="Newest-first pages cut by id and sorted by second: runs of one second are lost or come twice.",
        serve=requests.newest_first_loses,
    ),
    "has-more-false": Profile(about="has_more is false on every page.", repage=answers.has_more_false),
    "unknown-after-restarts": Profile(
        about="A listing after an unknown id starts again from its first page.", serve=requests.unknown_after_restarts
    ),
    "plain-500": Profile(
        about="Unknown ids and refused cancels get 500 as text, and the connection closes.", refuse=answers.plain_500
    ),
    "limit-unchecked": Profile(
        about="limit=0 resets the connection, and pages of more than 100 are given.", serve=requests.limit_unchecked
    ),
    "created-at-milliseconds": Profile(
        about="created_at is in milliseconds, all other times in seconds.", reshape=answers.milliseconds
    ),
    "float-timestamps": Profile(
        about="Times are floats in JSON answers and integers in streams.", reshape=answers.floats, only_json=True
    ),
    "bare-ids": Profile(
        about="Ids of threads, runs, steps and messages have no prefix.",
        serve=requests.bare_ids,
        reshape=answers.bare_ids,
        repage=answers.bare_ids,
    ),
    "usage-missing": Profile(about="Runs and steps have no usage.", reshape=answers.usage_missing),
    "nulls": Profile(
        about="model, instructions, tools and metadata of runs are null; the metadata is under metadata_.",
        reshape=answers.nulls,
    ),
    "usage-input-output": Profile(
        about="usage says input_tokens and output_tokens, as DashScope does.", reshape=answers.usage_input_output
    ),
    "stream-ignored": Profile(about="stream: true is answered with the run as JSON.", serve=requests.stream_ignored),
    "steps-odd": Profile(
        about="Lists of steps call themselves thread.run.step and have no first_id; steps have expires_at, "
        "and neither expired_at, metadata nor usage.",
        serve=requests.odd_steps_list,
        reshape=answers.odd_step,
    ),
    "bare-lists": Profile(
        about="Lists are data alone, and their runs have no object, created_at and assistant_id.",
        repage=answers.bare_list,
    ),
    "azure": Profile(
        about="Tool types and error codes outside the published ones, as Azure has them.", reshape=answers.azure
    ),
    "no-thread-and-run": Profile(
        about="POST /threads/runs is taken for a thread called runs, and not found.", serve=requests.no_thread_and_run
    ),
    "text-list": Profile(about="The text of a message is a list.", reshape=answers.text_list),
    "before-is-older": Profile(
        about="before gives what comes after that id in the listing.", serve=requests.before_is_after
    ),
    "instructions-required": Profile(
        about="A run created without instructions gets 500 as text.", serve=requests.instructions_required
    ),
    "error-detail": Profile(about='Error bodies are {"detail": "..."}.', refuse=answers.detail),
    "error-detail-list": Profile(
        about='Error bodies are {"detail": [{...}]}, and bad requests are 422.', refuse=answers.detail_list
    ),
    "error-text": Profile(about="Error bodies are plain text.", refuse=answers.text_error),
    "stream-cut": Profile(
        about="The connection is closed in the middle of an event, before the body's framing ends.",
        relay=streams.cut,
    ),
    "stream-reset": Profile(about="The connection is reset in the middle of an event.", relay=streams.reset),
    "stream-eof": Profile(about="The stream ends well formed in the middle of the run.", relay=streams.eof),
    "stream-no-done": Profile(about="The stream ends after the run's last event, without done.", relay=streams.no_done),
    "stream-half-event": Profile(
        about="The stream ends well formed in the middle of its last event.", relay=streams.half_event
    ),
    "stream-idle": Profile(
        about="In the middle of the run the stream falls silent, and stays open.", relay=streams.idle
    ),
    "stream-pings": Profile(about="From the middle of the run on nothing but comments come.", relay=streams.pings),
    "stream-error": Profile(about="An error event, as published, in place of the rest.", relay=streams.error_flat),
    "stream-error-nested": Profile(
        about='An error event with {"error": {...}} in place of the rest.', relay=streams.error_nested
    ),
    "stream-error-text": Profile(
        about="An error event with plain text in place of the rest.", relay=streams.error_text
    ),
    "stream-crlf": Profile(about="Lines of streams end with CR LF.", relay=streams.crlf),
    "stream-cr": Profile(about="Lines of streams end with CR.", relay=streams.cr),
    "stream-no-space": Profile(
        about="Lines of streams end with CR LF and have no space after the colon.", relay=streams.no_space
    ),
    "stream-bytes": Profile(about="Every byte of a stream is sent alone.", relay=streams.single_bytes),
    "stream-unknown-events": Profile(
        about="Streams have events, fields and comments that nobody has heard of.", relay=streams.unknown_events
    ),
    "stream-no-created": Profile(about="Streams have no event whose name ends in created.", relay=streams.no_created),
}

PROFILES: Mapping[str, str] = {name: profile.about for name, profile in _PROFILES.items()}


def profile_named(name: str | None) -> Profile:
    """Return the profile of that name; the published behaviour for None.

    Raises:
        ValueError: There is no such profile.
    """
    if name is None:
        return PUBLISHED
    if name not in _PROFILES:
        raise ValueError(f"a profile is one of {', '.join(_PROFILES)}, not {name!r}")
    return _PROFILES[name]

"""What an export is to bring, and how."""

from collections.abc import Sequence
from typing import TypedDict

import attrs

from asyncruns import Include
from asyncruns._arguments import check_whole


@attrs.frozen(kw_only=True)
class Options:
    """What an export is to bring, and how.

    Attributes:
        steps: Bring the steps of the runs.
        messages: Bring the messages of the threads.
        threads: Bring the threads themselves.
        include: What steps are to hold beyond the usual: the text that file search found. What an archive was once
            filled with stays asked for.
        concurrency: Requests under way at the same time.
        probe: Ask once more past the end of each listing, for servers that always say there is no more. Also stays.
        both_ends: Walk a listing that was never walked before from its oldest and its newest end at once, if it has
            more than one page. Up to twice as fast for a long thread. Only for servers whose listings are whole newest
            first, too, as the published ones are: what such a listing leaves out would be missing here. The last steps
            of a run that ends meanwhile may come with the next export only.
        allow_change: Whether the list of threads may differ from the one that the archive was begun with. Threads that
            failed, never brought anything and are no longer on it are then forgotten.
    """

    steps: bool = True
    messages: bool = False
    threads: bool = False
    include: Sequence[Include] = attrs.field(default=())
    concurrency: int = attrs.field(default=16)
    probe: bool = False
    both_ends: bool = False
    allow_change: bool = False

    @include.validator
    def _check_include(self, _: object, value: object) -> None:
        check_several("include", value)

    @concurrency.validator
    def _check_concurrency(self, _: object, value: object) -> None:
        check_whole("concurrency", value)


def check_several(name: str, value: object) -> None:
    """Raise `TypeError` if *value* is one string, whose letters would be taken for several."""
    if isinstance(value, str | bytes):
        raise TypeError(f"{name} must be several strings, not one.")


class OptionWords(TypedDict, total=False):
    """The keywords of `export`; see `Options`."""

    steps: bool
    messages: bool
    threads: bool
    include: Sequence[Include]
    concurrency: int
    probe: bool
    both_ends: bool
    allow_change: bool

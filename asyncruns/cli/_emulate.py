"""`asyncruns emulate`: the emulator as a server of its own."""

import asyncio
import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from asyncruns.cli import _output

# The names of `asyncruns.emulator.PROFILES`, which are not imported for the sake of the other commands' start.
Profile = Literal[
    "newest-first-loses",
    "has-more-false",
    "unknown-after-restarts",
    "plain-500",
    "limit-unchecked",
    "created-at-milliseconds",
    "float-timestamps",
    "bare-ids",
    "usage-missing",
    "nulls",
    "usage-input-output",
    "stream-ignored",
    "steps-odd",
    "bare-lists",
    "azure",
    "no-thread-and-run",
    "text-list",
    "before-is-older",
    "instructions-required",
    "error-detail",
    "error-detail-list",
    "error-text",
    "stream-cut",
    "stream-reset",
    "stream-eof",
    "stream-no-done",
    "stream-half-event",
    "stream-idle",
    "stream-pings",
    "stream-error",
    "stream-error-nested",
    "stream-error-text",
    "stream-crlf",
    "stream-cr",
    "stream-no-space",
    "stream-bytes",
    "stream-unknown-events",
    "stream-no-created",
]


RUNS_PER_THREAD = 50


async def emulate(
    host: str, port: int, api_key: str | None, profile: Profile | None, threads: int, *, as_json: bool
) -> None:
    """Run an emulator, filled with so many threads, and say where it is and which key it wants; until cancelled."""
    from asyncruns.emulator import Emulator

    async with Emulator(host=host, port=port, api_key=api_key, profile=profile) as emulator:
        ids = emulator.fill(threads=threads, runs_per_thread=RUNS_PER_THREAD) if threads else []
        if as_json:
            _output.write_json({"base_url": emulator.base_url, "api_key": emulator.api_key, "threads": ids})
        else:
            print(_greeting(emulator.base_url, emulator.api_key, ids))
        sys.stdout.flush()
        await asyncio.get_running_loop().create_future()


def _greeting(base_url: str, api_key: str, threads: Sequence[str]) -> str:
    holds = f"holds {len(threads)} threads, the first of them {threads[0]}," if threads else "is empty,"
    return (
        f"The emulator is listening. It {holds} and forgets everything when it stops.\n\n"
        f"  base URL  {base_url}\n"
        f"  API key   {api_key}\n\n"
        "For your shell; Session() and the asyncruns command read them:\n\n"
        f"export OPENAI_BASE_URL={shlex.quote(base_url)}\n"
        f"export OPENAI_API_KEY={shlex.quote(api_key)}\n\n"
        "Ctrl-C stops it."
    )

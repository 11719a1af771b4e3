"""What can be typed, and which function does it; errors become exit codes here."""

import asyncio
import io
import os
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter, validators

import asyncruns
from asyncruns.cli import _archive, _demo, _emulate, _reading, _watching

DONE, FAILED, WRONG_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

app = App(
    name="asyncruns",
    help="List, read and await the runs of a server that speaks the threads/runs protocol.\n\n"
    "The key is read from OPENAI_API_KEY and the server's address from OPENAI_BASE_URL. There is no option for the "
    "key: other users of the machine could see it there. To try things without a server, start with: asyncruns demo",
    version=asyncruns.__version__,
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)
runs = App(name="runs", help="The runs of a thread: list, show, watch, wait, cancel.")
steps = App(name="steps", help="The steps of a run: list.")
app.command(runs)
app.command(steps)

_SEARCH_RESULTS: Sequence[asyncruns.Include] = ("step_details.tool_calls[*].file_search.results[*].content",)
Count = Annotated[int, Parameter(validator=validators.Number(gte=0))]
Port = Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))]
Flag = Annotated[bool, Parameter(show_default=False)]
Words = Annotated[Sequence[str], Parameter(show_default=False)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command that asks a server takes.

    Attributes:
        base_url: Where the API is, with its path. Default: OPENAI_BASE_URL, else OpenAI's own.
        allow_insecure_http: Send the key over plain http to another machine, in a network of your own.
        json: Print JSON Lines, which `runs` and `steps` do into a pipe anyway.
    """

    base_url: str | None = None
    allow_insecure_http: Flag = False
    json: Flag = False

    def session(self, **options: Any) -> "asyncruns.Session":
        """Make the session that the command uses."""
        return asyncruns.Session(base_url=self.base_url, allow_insecure_http=self.allow_insecure_http, **options)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Walk:
    """How a listing is walked.

    Attributes:
        limit: Items that one request asks for, 1 to 100; never a total.
        max_items: Most items to print. Default: all there are.
        order: By creation: asc is oldest first, desc newest first.
    """

    limit: int = 100
    max_items: Count | None = None
    order: Literal["asc", "desc"] = "desc"


@app.command
async def demo(*, out: str | None = None, json: Flag = False) -> None:
    """Read thousands of runs and steps from a local server, archive them, and make a page of the archive.

    It needs no key and no network: the server is the emulator, in this process.

    Args:
        out: Folder for the archive and its page. Default: a new one among the system's temporary files.
        json: Print the figures as one JSON object instead.
    """
    await _demo.demo(out, as_json=json)


@app.command
async def emulate(
    *,
    host: str = "127.0.0.1",
    port: Port = 0,
    api_key: str | None = None,
    profile: _emulate.Profile | None = None,
    fill: Count = 0,
    json: Flag = False,
) -> None:
    """Run the emulator, a local server of the protocol, until Ctrl-C.

    It keeps everything in memory, answers this machine only, and asks for the key that it prints.

    Args:
        host: localhost or another loopback address.
        port: Where to listen; 0 takes any free port.
        api_key: The key that requests must show. Default: a random one.
        profile: Behave like a server that deviates from the published one, or breaks streams, as
            asyncruns.emulator.PROFILES says of each. Default: as published.
        fill: How many threads to make beforehand, with 50 runs each that have ended.
        json: Print base URL, key and the ids of the threads as one JSON object.
    """
    await _emulate.emulate(host, port, api_key, profile, fill, as_json=json)


@runs.command(name="list")
async def list_runs(thread: str, /, *, status: Words = (), walk: Walk = Walk(), common: Common = Common()) -> None:
    """List the runs of a thread: a table on a terminal, each run's JSON as sent on a pipe.

    Args:
        thread: Id of the thread.
        status: Print only runs with this status (repeatable). The protocol has no such filter: all are read.
        walk: How the listing is walked.
        common: What every command takes.
    """
    async with common.session() as session:
        most = None if status else walk.max_items
        pager = session.runs.list(thread, limit=walk.limit, order=walk.order, max_items=most)
        await _reading.print_runs(pager, frozenset(status), walk.max_items, as_json=common.json)


@runs.command
async def show(thread: str, run: str, /, *, common: Common = Common()) -> None:
    """Show one run as it is now: its facts on a terminal, all of it as JSON on a pipe.

    Args:
        thread: Id of the thread.
        run: Id of the run.
        common: What every command takes.
    """
    async with common.session() as session:
        _reading.print_run(await session.runs.retrieve(thread, run), as_json=common.json)


@runs.command
async def wait(
    thread: str,
    run: str,
    /,
    *,
    timeout: float = 600,
    cancel_on_timeout: Flag = False,
    common: Common = Common(),
) -> None:
    """Wait until a run has ended or requires action, and show it.

    The exit code is 1 when the run failed, expired, was cancelled or is incomplete, and when the time was up.

    Args:
        thread: Id of the thread.
        run: Id of the run.
        timeout: Seconds to wait in all.
        cancel_on_timeout: Also ask the server to cancel the run when the time is up.
        common: What every command takes.
    """
    async with common.session() as session:
        waiting = session.runs.wait(thread, run, timeout=timeout, cancel_on_timeout=cancel_on_timeout)
        ended = await _reading.while_waiting(waiting, run)
    _reading.print_run(ended, as_json=common.json)
    ended.raise_for_status()


@runs.command
async def watch(thread: str, assistant: str, /, *, message: str | None = None, common: Common = Common()) -> None:
    """Create a run and show it live: its steps and its text as they happen, each event's JSON on a pipe.

    Ctrl-C on a terminal asks whether to cancel the run; elsewhere it leaves the run going. The exit code is 1 when the
    run failed, expired, was cancelled or is incomplete.

    Args:
        thread: Id of the thread.
        assistant: Id of the assistant.
        message: What the user says before; it is added to the thread.
        common: What every command takes.
    """
    async with common.session() as session:
        ended = await _watching.watch(session, thread, assistant, message, as_json=common.json)
    ended.raise_for_status()


@runs.command
async def cancel(thread: str, run: str, /, *, common: Common = Common()) -> None:
    """Ask that a run stop, and show it.

    Args:
        thread: Id of the thread.
        run: Id of the run.
        common: What every command takes.
    """
    async with common.session() as session:
        _reading.print_run(await session.runs.cancel(thread, run), as_json=common.json)


@steps.command(name="list")
async def list_steps(thread: str, run: str, /, *, walk: Walk = Walk(), common: Common = Common()) -> None:
    """List the steps of a run: a table on a terminal, each step's JSON as sent on a pipe.

    Args:
        thread: Id of the thread.
        run: Id of the run.
        walk: How the listing is walked.
        common: What every command takes.
    """
    async with common.session() as session:
        pager = session.steps.list(thread, run, limit=walk.limit, order=walk.order, max_items=walk.max_items)
        await _reading.print_steps(pager, as_json=common.json)


@app.command
async def export(
    archive: str,
    /,
    *,
    threads: Annotated[Sequence[str], Parameter(show_default=False, allow_leading_hyphen=True)] = (),
    no_steps: Flag = False,
    messages: Flag = False,
    with_threads: Flag = False,
    search_results: Flag = False,
    concurrency: Count = 16,
    requests_per_minute: float | None = None,
    probe: Flag = False,
    both_ends: Flag = False,
    allow_change: Flag = False,
    common: Common = Common(),
) -> None:
    """Fill an archive with the histories of threads, or go on with one; run it again to bring what is new.

    Ctrl-C keeps what came. The exit code is 1 when some thread could not be brought; the others were.

    Args:
        archive: The file to fill: one SQLite file.
        threads: An id, a file with one id a line, or - for stdin (repeatable). Default: all threads that the server
            lists, if it can.
        no_steps: Leave the steps of the runs out.
        messages: Bring the messages, too.
        with_threads: Bring the threads themselves, too.
        search_results: Ask for the text that file search found, which steps then hold.
        concurrency: Requests under way at the same time.
        requests_per_minute: Most requests a minute. Default: as many as the server takes.
        probe: Ask once more past every end, for servers that always say there is no more.
        both_ends: Walk long listings from their oldest and newest ends at once, for servers whose order is sound.
        allow_change: Go on although the list of threads is not the one the archive was begun with.
        common: What every command takes.
    """
    from asyncruns.archive import Options

    ids = _archive.thread_ids(threads, archive)
    limit = asyncruns.RateLimit(requests_per_minute)
    session = common.session(rate_limit=limit, max_connections=max(100, concurrency))
    options = Options(
        steps=not no_steps,
        messages=messages,
        threads=with_threads,
        include=_SEARCH_RESULTS if search_results else (),
        concurrency=concurrency,
        probe=probe,
        both_ends=both_ends,
        allow_change=allow_change,
    )
    await _archive.export(session, limit, archive, ids, options, as_json=common.json)


@app.command
async def verify(
    archive: str,
    /,
    *,
    no_steps: Flag = False,
    concurrency: Count = 16,
    common: Common = Common(),
) -> None:
    """Walk every thread of an archive again, newest first, and say what is missing or different.

    Args:
        archive: The file.
        no_steps: Leave the steps of the runs out.
        concurrency: Threads walked at the same time.
        common: What every command takes.
    """
    await _archive.verify(common.session(), archive, concurrency, steps=not no_steps, as_json=common.json)


@app.command
def convert(archive: str, out: str, /, *, table: str = "runs", json: Flag = False) -> None:
    """Write a table of an archive to a file: .jsonl, .jsonl.zst or .parquet.

    Args:
        archive: The archive.
        out: The file to write; one that is there is replaced in the end.
        table: runs, steps, messages or threads.
        json: Print the outcome as one JSON object.
    """
    _archive.convert(archive, out, table, as_json=json)


@app.command
def report(archive: str, out: str, /, *, run: Words = (), json: Flag = False) -> None:
    """Make one page of an archive to look at, without network or script.

    Args:
        archive: The archive.
        out: The .html file to write; one that is there is replaced in the end.
        run: Id of a run to draw step by step, besides those chosen anyway (repeatable).
        json: Print the outcome as one JSON object.
    """
    _archive.report(archive, out, run, as_json=json)


def run(argv: Sequence[str]) -> int:
    """Run the command that *argv* names and return the exit code; what goes wrong is one line on stderr.

    Where the process was begun with stdout or stderr closed, what would be printed there is dropped.
    """
    with _somewhere_to_print():
        return _outcome(argv)


@contextmanager
def _somewhere_to_print() -> Iterator[None]:
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        for name in closed:
            setattr(sys, name, nowhere)
        try:
            yield
        finally:
            for name in closed:
                setattr(sys, name, None)


def _outcome(argv: Sequence[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command, bound, _ = app.parse_args(argv, exit_on_error=False, print_error=False)
        _carry_out(partial(command, *bound.args, **bound.kwargs))
        sys.stdout.flush()
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # The terminal stands behind its own "^C".
        return _end(INTERRUPTED, "interrupted")
    except _archive.Terminated:
        return _end(TERMINATED, "terminated")
    except CycloptsError as error:
        return _end(WRONG_USAGE, f"{' '.join(str(error).split())} (See: asyncruns --help)")
    except asyncruns.ConfigurationError as error:
        return _end(WRONG_USAGE, str(error))
    except BrokenPipeError:
        return _reader_left()
    except ValueError as error:
        # The library's word for an argument that it refuses before anything is sent (an invalid id is one too).
        return _end(WRONG_USAGE, str(error))
    except (asyncruns.AsyncRunsError, OSError) as error:
        return _end(FAILED, str(error))
    return DONE


def _carry_out(command: Any) -> None:
    made = command()
    if isinstance(made, Coroutine):
        asyncio.run(made)


def _end(code: int, message: str) -> int:
    print(f"asyncruns: {asyncruns.escape_server_text(message)}", file=sys.stderr)
    return code


def _reader_left() -> int:
    """Drop what is left to print, so that the interpreter does not complain of the closed pipe when it exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return FAILED

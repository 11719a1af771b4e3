"""Feed the parsers with broken bytes for a while: nothing but an `AsyncRunsError` may come out. See README.md.

With the package `atheris` installed the bytes are guided by the coverage that they reach; without it they are mutations
of the corpus in `corpus/`, chosen by a seed.
"""

import argparse
import copy
import json
import pickle
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, ParamSpec

from asyncruns import AsyncRunsError, Message, Run, RunStep, Thread
from asyncruns._codec import check_told_once, decode, decode_page
from asyncruns._events import decode_event
from asyncruns._pacing import MAX_RETRY_AFTER, parse_retry_after
from asyncruns._protocol import Answer, check_id, judge, thread_path
from asyncruns._slices import split_page
from asyncruns._sse import SSEDecoder
from asyncruns.errors import escape_server_text

CORPUS = Path(__file__).parent / "corpus"
P = ParamSpec("P")


def read_object(data: bytes) -> None:
    """Read one object of each model, which can then be copied and pickled."""
    for model in (Run, RunStep, Message, Thread):
        _refused(check_told_once, data, model)
        made = _refused(decode, data, model)
        assert made is None or copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made  # noqa: S301


def read_page(data: bytes) -> None:
    """Read a page, as objects and as slices; these any other reader of JSON can read."""
    for model in (Run, RunStep, Message):
        _refused(decode_page, data, model)
    with suppress(AsyncRunsError):
        for blob in split_page(data)[0].data:
            json.loads(blob.decode(), parse_int=str, parse_constant=_refuse)


def read_retry_after(data: bytes) -> None:
    """Read it from each of its headers."""
    text = data.decode("latin-1")
    for name in ("retry-after", "retry-after-ms", "date"):
        seconds = parse_retry_after({"retry-after": "Sat, 21 Nov 2026 10:00:00 GMT", name: text}, 1.0)
        assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


def read_error_body(data: bytes) -> None:
    """Judge an answer with each kind of status, and show the error."""
    for status in (200, 302, 400, 404, 429, 503):
        error = judge(Answer(status=status, headers={"location": "x"}, body=data), now=1.0, redact=str)
        assert status == 200 or isinstance(error, AsyncRunsError)
        assert error is None or escape_server_text(str(error)) == str(error)


def read_id(data: bytes) -> None:
    """Put it into a path, which keeps its shape."""
    text = data.decode("utf-8", "surrogateescape")
    _refused(check_id, "thread_id", text)
    filled = _refused(thread_path, thread_id=text)
    assert filled is None or str(filled).count("/") == 2


def read_stream(data: bytes) -> None:
    """Read it whole and in two pieces, with the same events."""
    whole = list(SSEDecoder().feed(data))
    decoder = SSEDecoder()
    half = len(data) // 2
    assert [*decoder.feed(data[:half]), *decoder.feed(data[half:])] == whole
    for event in whole:
        _refused(decode_event, event)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "object": read_object,
    "page": read_page,
    "retry-after": read_retry_after,
    "error-body": read_error_body,
    "id": read_id,
    "stream": read_stream,
}


def _refuse(word: str) -> None:
    raise ValueError(word)


def _refused(call: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> object:
    try:
        return call(*args, **kwargs)
    except AsyncRunsError:
        return None


def mutated(data: bytes, corpus: list[bytes], random: Random) -> bytes:
    """Return *data* after a few random changes."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randint(0, len(out))
        other = random.choice(corpus)
        piece = other[random.randint(0, len(other)) :][: random.randint(0, 20)]
        match random.randint(0, 4):
            case 0:
                out[at : at + random.randint(0, 8)] = piece
            case 1:
                out[at:at] = piece
            case 2:
                out[at : at + 1] = random.randbytes(1)
            case 3:
                out[at : at + random.randint(0, 40)] = b""
            case _:
                out[at:at] = random.choice(
                    (
                        *(b"null", b"NaN", b"1e999", b"9" * 5000, b"\\ud800", b"\xff", b"\r", b"[" * 2000),
                        *(b"[" * 140 + b"]" * 140, b'{"id":', b'"id":', b'"tools":[],', b'"thread_id":"t",'),
                    )
                )
    return bytes(out)


def main() -> None:
    """Fuzz one target, or each in turn."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, help="only this one (each in turn)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (60)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations (from the clock)")
    parser.add_argument("--atheris", action="store_true", help="guided by coverage; needs --target and the package")
    options = parser.parse_args()
    if options.atheris:
        atheris: Any = import_module("atheris")
        atheris.Setup([sys.argv[0], str(CORPUS / options.target)], TARGETS[options.target])
        atheris.Fuzz()
    names = [options.target] if options.target else list(TARGETS)
    print(f"seed {options.seed}")
    for name in names:
        random = Random(options.seed)
        corpus = [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]
        end, count = time.monotonic() + options.seconds / len(names), 0
        while time.monotonic() < end:
            data, count = mutated(random.choice(corpus), corpus, random), count + 1
            try:
                TARGETS[name](data)
            except Exception:
                print(f"{name}: broken by {data!r}")
                raise
        print(f"{name}: {count:,} inputs, nothing but refusals")


if __name__ == "__main__":
    main()

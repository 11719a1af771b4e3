"""Commands run in a thread of the test's process or as processes of their own, with nothing of the user's settings."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from asyncruns.cli import main

SETTINGS = (
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"),
    *("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stdout, ended by line feeds alone."""
        return self.out.split("\n")[:-1]


RunCommand = Callable[..., Awaitable[Outcome]]
StartCommand = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Give the test a way to run a command against a server, its stdout taken for a terminal if it wants that."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    # A dumb terminal: every escape sequence in the output is then one that a server sent.
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")

    async def run(*words: str, on: object = None, terminal: bool = False) -> Outcome:
        if on is not None:
            monkeypatch.setenv("OPENAI_API_KEY", getattr(on, "api_key", "sk-test-of-the-cli"))
            monkeypatch.setenv("OPENAI_BASE_URL", on.base_url)  # type: ignore[attr-defined]
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
        code = await asyncio.to_thread(main, words)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def process() -> StartCommand:
    """Give the test a way to start a command as a process of its own."""

    async def start(*words: str, on: object = None, **options: object) -> asyncio.subprocess.Process:
        environ = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        environ |= {"TERM": "xterm", "COLUMNS": "80", "PYTHONWARNINGS": "error"}
        if on is not None:
            environ |= {"OPENAI_API_KEY": on.api_key, "OPENAI_BASE_URL": on.base_url}  # type: ignore[attr-defined]
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "asyncruns", *words, env=environ, **{**pipes, **options}
        )

    return start

"""The entry point: what happens before any command."""

import asyncio
import os
import subprocess
import sys

import pytest

from asyncruns import __version__
from asyncruns.cli import main

INSTALL = "asyncruns: the command line needs two more packages: pip install 'asyncruns[cli]'\n"


@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_says_what_to_install(missing: str) -> None:
    """Without the packages of the extra, `python -m asyncruns` says in one line what to install, and exits with 2."""
    code = (
        f"import runpy, sys; sys.modules[{missing!r}] = None; sys.argv = ['asyncruns', 'demo'];"
        "runpy.run_module('asyncruns', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", INSTALL)


def test_says_what_to_install_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`main` returns 2 for missing packages rather than ending the process."""
    monkeypatch.delitem(sys.modules, "asyncruns.cli._app", raising=False)
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert main(["demo"]) == 2
    assert capsys.readouterr().err == INSTALL


def test_another_missing_module_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is missing for another reason is reported as what it is."""
    monkeypatch.setitem(sys.modules, "asyncruns.cli._app", None)
    with pytest.raises(ModuleNotFoundError, match="_app"):
        main(["demo"])


def test_takes_the_words_of_the_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments `main` takes those of the process; `--version` prints the version alone."""
    monkeypatch.setattr(sys, "argv", ["asyncruns", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"{__version__}\n"


def test_help_is_quick() -> None:
    """`--help` names the commands, and loads neither aiohttp nor the emulator."""
    code = (
        "import sys; from asyncruns.cli import main; code = main(['--help']);"
        "sys.exit(code or any(name in sys.modules for name in ('aiohttp', 'asyncruns.emulator')))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 0, ended.stderr
    assert all(word in ended.stdout for word in ("demo", "emulate", "runs", "steps", "OPENAI_API_KEY"))


async def test_module_and_command_are_the_same(process) -> None:
    """`python -m asyncruns` exits with the code of the command."""
    started = await process("runs", "lst")
    out, err = await asyncio.wait_for(started.communicate(), 30)
    assert (started.returncode, out) == (2, b"")
    assert err.startswith(b'asyncruns: Unknown command "lst"')
    assert err.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [(["--version"], (1,), 0), (["--version"], (0, 1, 2), 0), (["emulate", "--host", "10.0.0.1"], (2,), 2)],
)
async def test_streams_may_be_closed(process, words: list[str], closed: tuple[int, ...], code: int) -> None:
    """Begun without stdout or stderr, as services are, a command exits with its code and prints on no other."""

    def close() -> None:
        for number in closed:
            os.close(number)

    started = await process(*words, preexec_fn=close)
    assert await started.communicate() == (b"", b"")
    assert started.returncode == code


def test_streams_may_be_closed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same within a process, whose streams are left as they were."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["--version"]) == 0
    assert (sys.stdout, sys.stderr) == (None, None)

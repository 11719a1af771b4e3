"""README and docs say what is true: their Python runs, prints what they show, and leaves out no public name."""

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser

import asyncruns
import asyncruns.archive
import asyncruns.emulator
from asyncruns._messages import Messages
from asyncruns._runs import Runs
from asyncruns._steps import Steps
from asyncruns._threads import Threads

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/[!_]*.md"), *ROOT.glob("docs/[!_]*/*.md")])
TITLE = re.compile(r"# (\w+\.\w+)\n")


class Reader:
    """Follows one page as its reader would.

    Python runs block after block in one namespace, with `await` wherever it stands; what a block prints must be what
    the block of text after it shows. A block that begins with the name of a file (`# conftest.py`) is saved under it.
    """

    def __init__(self, namespace: dict[str, object], runner: asyncio.Runner, folder: Path) -> None:
        self.namespace = namespace
        self.runner = runner
        self.folder = folder
        self.printed = ""

    def python(self, example: Example) -> None:
        if not self.save(example):
            lines = "\n" * (example.line + example.parsed.line_offset)
            code = compile(
                lines + example.parsed, example.path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            with redirect_stdout(StringIO()) as output:
                made = types.FunctionType(code, self.namespace)()
                if inspect.iscoroutine(made):
                    self.runner.run(made)
            self.printed = output.getvalue()

    def save(self, example: Example) -> bool:
        title = TITLE.match(example.parsed)
        if title:
            (self.folder / title[1]).write_text(example.parsed)
        return title is not None

    def toml(self, example: Example) -> None:
        assert self.save(example)

    def text(self, example: Example) -> None:
        assert self.printed == example.parsed

    def run_saved_tests(self) -> None:
        if list(self.folder.glob("test_*.py")):
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(self.folder)]
            where = {**os.environ, "PYTEST_ADDOPTS": "", "PYTHONPATH": str(Path(asyncruns.__file__).parents[1])}
            ran = subprocess.run(command, env=where, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603  # our own pages
            assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Give a reader what the pages take as given: servers, their keys in the environment, a session and a thread."""
    with asyncio.Runner() as runner:
        emulator, azure = asyncruns.emulator.Emulator(), asyncruns.emulator.Emulator(prefix="/openai")
        runner.run(emulator.start())
        runner.run(azure.start())
        monkeypatch.setenv("OPENAI_API_KEY", emulator.api_key)
        monkeypatch.setenv("OPENAI_BASE_URL", emulator.base_url)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", azure.base_url.removesuffix("/openai"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", azure.api_key)
        monkeypatch.setenv("FOUNDRY_ENDPOINT", emulator.base_url)
        monkeypatch.setenv("FOUNDRY_TOKEN", emulator.api_key)
        monkeypatch.chdir(tmp_path)
        [thread_id] = emulator.fill(threads=1, runs_per_thread=250)
        session = asyncruns.Session()
        runner.run(session.__aenter__())
        given = {"asyncruns": asyncruns, "emulator": emulator, "session": session, "thread_id": thread_id}
        namespace = {"__name__": "__page__", **given}
        yield Reader(namespace, runner, tmp_path)
        runner.run(session.__aexit__())
        runner.run(azure.stop())
        runner.run(emulator.stop())


def relative(path: Path) -> str:
    """Return how the path reads from the top of the project."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_examples_run(page: Path, reader: Reader) -> None:
    """Every Python block of a page runs against the emulator and prints what the page shows."""
    kinds = {"python": reader.python, "text": reader.text, "toml": reader.toml}
    parsers = [CodeBlockParser(language, evaluator) for language, evaluator in kinds.items()]
    for example in Sybil(parsers=parsers).parse(page).examples():
        example.evaluate()
    reader.run_saved_tests()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file of the project."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_reference_is_complete() -> None:
    """The reference tells every public name of the package, archive and emulator, and every method of the resources."""
    documented = re.findall(
        r"^\.\. (?:auto|py:)\w+:: ([\w.:]+)", (ROOT / "docs/reference.md").read_text(), re.MULTILINE
    )
    resources = {"runs": Runs, "steps": Steps, "threads": Threads, "messages": Messages}
    expected = [f"asyncruns.{name}" for name in asyncruns.__all__]
    expected += [f"asyncruns.archive.{name}" for name in asyncruns.archive.__all__]
    expected += [f"asyncruns.emulator.{name}" for name in asyncruns.emulator.__all__]
    expected += [
        f"reference::session.{name}.{method}"
        for name, resource in resources.items()
        for method in vars(resource)
        if not method.startswith("_")
    ]
    assert sorted(set(expected) - set(documented)) == []
    assert sorted(name for name in documented if documented.count(name) > 1) == []

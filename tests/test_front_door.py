"""The front door: light to open, and everything behind it is there and documented."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import asyncruns

ROOT = Path(asyncruns.__file__).parents[1]
HEAVY = ("aiohttp", "msgspec", "cattrs", "attrs", "yarl", "asyncio", "sqlite3", "cyclopts", "rich", "openai")


def modules_after(statement):
    """Return the names of the modules that a fresh interpreter has loaded after *statement*."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in environment.items() if not name.startswith("COV")}
    show = "print(json.dumps(sorted(set(sys.modules) - before)))"
    code = f"import sys, json; before = set(sys.modules); {statement}; {show}"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment, timeout=60
    )
    return json.loads(done.stdout)


def test_importing_the_package_loads_nothing_heavy():
    """Neither a dependency nor a room of its own."""
    loaded = modules_after("import asyncruns")
    assert [name for name in loaded if name.startswith("asyncruns")] == ["asyncruns"]
    assert not {name.partition(".")[0] for name in loaded} & set(HEAVY)


def test_models_and_errors_come_without_a_network():
    """Who only handles runs loads no HTTP."""
    loaded = modules_after("import asyncruns; asyncruns.Run; asyncruns.RunFailed")
    assert "asyncruns.models" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"aiohttp", "msgspec", "cattrs", "asyncio"}
    assert "asyncruns.session" not in loaded


def test_a_session_comes_without_emulator_and_command_line():
    """Who uses a server needs no server of their own."""
    loaded = modules_after("import asyncruns; asyncruns.Session")
    assert "asyncruns.session" in loaded
    assert not [name for name in loaded if name.startswith(("asyncruns.emulator", "asyncruns.cli", "aiohttp.web_app"))]


def test_no_environment_variable_is_read_on_import():
    """A broken variable does no harm before a session is made."""
    assert modules_after("import os; os.environ['OPENAI_BASE_URL'] = 'ftp://x'; import asyncruns; asyncruns.Session")


@pytest.mark.parametrize("name", asyncruns.__all__)
def test_every_name_is_there_and_documented(name):
    """Each resolves, and what can carry a docstring has one that ends its first sentence."""
    value = getattr(asyncruns, name)
    assert getattr(asyncruns, name) is value
    if inspect.isclass(value) or inspect.isfunction(value):
        docstring = value.__doc__
        assert docstring
        assert docstring.strip().splitlines()[0].endswith((".", ":"))


def test_the_names_are_sorted_and_come_once():
    """As the linter sorts them, so that differences show."""
    assert len(set(asyncruns.__all__)) == len(asyncruns.__all__)
    assert set(asyncruns.__all__) <= set(dir(asyncruns))
    assert dir(asyncruns) == sorted(dir(asyncruns))


def test_type_checkers_see_the_same_names():
    """What is imported for them is what the front door gives."""
    source = Path(asyncruns.__file__).read_text()
    block = source[source.index("if TYPE_CHECKING:") : source.index("_ROOMS")]
    names = {
        line.strip().rstrip(",") for line in block.splitlines() if line.startswith(" " * 8) and line.strip() != ")"
    }
    assert names == set(asyncruns.__all__)


@pytest.mark.parametrize("name", ["Sesion", "_nothing", "wait"])
def test_an_unknown_name_is_an_attribute_error(name):
    """In Python's own words."""
    with pytest.raises(AttributeError, match=f"module 'asyncruns' has no attribute '{name}'"):
        getattr(asyncruns, name)


def test_the_package_is_typed():
    """Type checkers look for this file."""
    assert (ROOT / "asyncruns" / "py.typed").exists()

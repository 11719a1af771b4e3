"""How the documentation is built: `sphinx-build --fail-on-warning --nitpicky docs docs/_build`, without a network."""

import re
import sys
import types

from sphinx.application import Sphinx
from sphinx.domains.python import PyObject

import asyncruns
import asyncruns.archive
import asyncruns.emulator
from asyncruns._messages import Messages
from asyncruns._runs import Runs
from asyncruns._steps import Steps
from asyncruns._threads import Threads

project = "asyncruns"
author = copyright = "The asyncruns authors"
release = version = asyncruns.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"asyncruns {release}"

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = True
toc_object_entries_show_parents = "hide"

# Names of other projects are not looked up, because the build needs no network. Our own must all be found.
nitpick_ignore_regex = [("py:.*", r"(?!asyncruns\.).*"), ("py:class", r"asyncruns\..*\.(T|_\w+)")]

# The resources' classes are private: users meet their methods as `session.runs.create`, and so does the reference.
resources = types.SimpleNamespace(runs=Runs, steps=Steps, threads=Threads, messages=Messages)
sys.modules["reference"] = types.ModuleType("reference")
vars(sys.modules["reference"])["session"] = resources

for field in PyObject.doc_field_types:
    if field.name == "variable":
        field.label = "Attributes"

PUBLIC = {name: f"asyncruns.{name}" for name in asyncruns.__all__}
PUBLIC |= {name: f"asyncruns.archive.{name}" for name in asyncruns.archive.__all__}
PUBLIC |= {name: f"asyncruns.emulator.{name}" for name in asyncruns.emulator.__all__}
HIDDEN_SIGNATURES = (
    "asyncruns.AsyncCursorPager",
    "asyncruns.AccessToken",
    "asyncruns.RawItem",
    "asyncruns.RunStatus",
    "asyncruns.archive.Archive",
    "asyncruns.archive.Findings",
    "asyncruns.archive.Progress",
    "asyncruns.archive.ThreadRecord",
    "asyncruns.archive.Walk",
    "asyncruns.emulator.Clock",
)


def link_names(app, what, name, obj, options, lines):
    """Make links of the public names that docstrings put between backticks, and code of all else."""

    def link(match):
        target = PUBLIC.get(match[1])
        return f"``{match[1]}``" if target is None or target == name else f":py:obj:`{match[1]} <{target}>`"

    lines[:] = [re.sub(r"(?<![:`\w])`([^`]+)`(?!`)", link, line) for line in lines]


def hide_signature(app, what, name, obj, options, signature, returns):
    """Leave out signatures that nobody calls: errors are caught, TypedDicts are keywords, pagers come from lists."""
    is_keywords = isinstance(obj, type) and hasattr(obj, "__required_keys__")
    if what == "exception" or is_keywords or name in HIDDEN_SIGNATURES:
        return "", None
    return signature and signature.replace("NOTHING", "{}"), returns


def shorten_types(app, what, name, obj, options, lines):
    """Name the types of attributes as signatures do: without the modules they come from."""
    lines[:] = [re.sub(r"\b(?:\w+\.)+(?=[A-Z])", "", line) if line.startswith(":vartype") else line for line in lines]


def show_public_bases(app, name, obj, options, bases):
    """Show the public base in place of a private one."""
    bases[:] = [b.__base__ if getattr(b, "__name__", "").startswith("_") else b for b in bases]


def resolve_public(app, env, node, contnode):
    """Find a public name that a signature gives by the module it is written in."""
    target = PUBLIC.get(node.get("reftarget", "").rpartition(".")[2])
    if node.get("refdomain") != "py" or target is None:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node.get("refdoc", ""), app.builder, "obj", target, node, contnode)


def setup(app: Sphinx) -> None:
    """Connect the hooks above."""
    app.connect("autodoc-process-docstring", link_names, priority=400)
    app.connect("autodoc-process-docstring", shorten_types, priority=600)
    app.connect("autodoc-process-signature", hide_signature)
    app.connect("autodoc-process-bases", show_public_bases)
    app.connect("missing-reference", resolve_public)

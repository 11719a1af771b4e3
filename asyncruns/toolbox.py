"""Python functions as tools: their description for the model, and their calls when a run requires them."""

import asyncio
import inspect
import re
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, NoReturn, TypeVar, get_type_hints

import attrs
import cattrs
import msgspec
from cattrs.preconf.json import make_converter

from asyncruns import ConfigurationError, FunctionTool, RequiredToolCall, Run, ToolOutput
from asyncruns._arguments import is_positive, is_whole

T = TypeVar("T")

_MAX_REMEMBERED = 4096
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CallKey = tuple[str, str, str, str, str]
_ARGUMENT = re.compile(r"^\s+(\w+)(?: \([^)]*\))?: (.+)$|^\s*:param (?:\S+ )?(\w+): (.+)$")
_NO_VALUE = inspect.Parameter.empty


@attrs.frozen(kw_only=True)
class ToolReport:
    """One call of a tool, for whoever observes them.

    Attributes:
        thread_id: The thread of the run.
        run_id: The run.
        call: What the run asked for.
        output: What it was answered.
        error: What the function raised, or why it was not called. None: it returned.
        seconds: How long it took.
    """

    thread_id: str
    run_id: str
    call: RequiredToolCall
    output: str
    error: BaseException | None
    seconds: float


class Toolbox:
    """Functions that a run may call; pass `toolbox.tools` to create, and the toolbox to `runs.drive`.

    A function's name, annotations and docstring tell the model what it does and takes. Annotations may be the plain
    types, dates, `Literal`, enums, `Optional`, lists, dicts, attrs classes, dataclasses and TypedDicts, also nested.
    Parameters without a default are required. Async functions are awaited; plain ones run in a thread each, which a
    timeout cannot stop: its result is then ignored.

    Whatever goes wrong in a call (unknown tool, arguments that do not fit, an exception, a timeout) becomes an output
    that the model can read and mend. A run's call is carried out once for its id, name and arguments: asked again, also
    while it is under way, it gives the same output, within this toolbox and its last 4,096 calls. A call that nobody
    waits for any more is cancelled, and forgotten; but a plain function that has begun goes on, and its output is kept.

    Args:
        functions: The functions, each with a name of its own.
        timeout: Seconds for one call; `math.inf` for no limit.
        max_concurrency: Calls under way at the same time, over all runs that use this toolbox. A plain function that
            goes on with nobody waiting counts until it returns, or its time is up; from then on it is a thread more.
        observe: Called, and not awaited, after each call with a `ToolReport`. What it raises is not caught, and ends
            the drive.

    Raises:
        ConfigurationError: A name is not 1 to 64 letters, digits, `_` and `-`, or is given twice, a parameter cannot
            be described or read, a limit is no number above 0, or *observe* is no plain function.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]],
        *,
        timeout: float = 60.0,
        max_concurrency: int = 8,
        observe: Callable[[ToolReport], None] | None = None,
    ) -> None:
        if callable(functions) or not isinstance(functions, Iterable):
            raise ConfigurationError("Toolbox takes a list of functions: write Toolbox([...]).")
        self._tools: dict[str, _Tool] = {}
        for function in functions:
            tool = _Tool(function)
            if tool.name in self._tools:
                raise ConfigurationError(f"Two tools are named {tool.name!r}.")
            self._tools[tool.name] = tool
        if timeout != inf and not is_positive(timeout):
            raise ConfigurationError(f"timeout must be a number of seconds above 0, not {timeout!r}.")
        if not is_whole(max_concurrency, 1):
            raise ConfigurationError(f"max_concurrency must be a whole number above 0, not {max_concurrency!r}.")
        if observe is not None and (not callable(observe) or inspect.iscoroutinefunction(observe)):
            raise ConfigurationError("observe must be a plain function, since nothing awaits it.")
        self._timeout = timeout
        self._free = asyncio.Semaphore(max_concurrency)
        self._observe = observe
        self._known: OrderedDict[_CallKey, _Work] = OrderedDict()

    @property
    def tools(self) -> tuple[FunctionTool, ...]:
        """The functions as tools, for `tools=` of create."""
        return tuple(tool.description for tool in self._tools.values())

    async def outputs(self, run: Run) -> list[ToolOutput]:
        """Carry the tool calls that *run* waits for out, concurrently, and return their outputs in the same order."""
        calls = run.tool_calls
        works = [self._begun(run, call) for call in calls]
        try:
            await _finished({work.task for work in works if work.task is not None})
            return [{"tool_call_id": call.id, "output": work.result()} for call, work in zip(calls, works, strict=True)]
        finally:
            await self._left(works)

    def _begun(self, run: Run, call: RequiredToolCall) -> "_Work":
        """Return the work for *call* of *run*, which may be under way or done already."""
        key = run.thread_id, run.id, call.id, call.name, call.arguments  # Some servers number each run's calls anew.
        work = self._known.get(key)
        if work is None:
            work = self._known[key] = _Work(key)
            work.task = asyncio.ensure_future(self._called(work, run, call))
            if len(self._known) > _MAX_REMEMBERED:
                self._known.popitem(last=False)
        work.waiting += 1
        return work

    async def _left(self, works: Iterable["_Work"]) -> None:
        """Stop waiting for *works*; those for which nobody waits are cancelled and forgotten, unless they are kept."""
        cancelled = set()
        for work in works:
            work.waiting -= 1
            if not work.waiting and work.task is not None and not work.is_kept:
                work.task.cancel()
                cancelled.add(work.task)
                if self._known.get(work.key) is work:
                    del self._known[work.key]
        if cancelled:
            await asyncio.wait(cancelled)

    async def _called(self, work: "_Work", run: Run, call: RequiredToolCall) -> str:
        error: BaseException | None = None
        async with self._free:
            begun = perf_counter()
            scope = asyncio.timeout(self._timeout)
            try:
                async with scope:
                    output = await self._tool(call).call(call.arguments, work)
            except asyncio.CancelledError as caught:
                if _is_being_cancelled():
                    raise
                error, output = caught, _error("The tool was cancelled.")
            except Exception as caught:
                late = f"The tool did not answer in {self._timeout:g} seconds."
                error, output = caught, _error(late if scope.expired() else _told(caught))
            seconds = perf_counter() - begun
        if self._observe is not None:
            report = ToolReport(
                thread_id=run.thread_id, run_id=run.id, call=call, output=output, error=error, seconds=seconds
            )
            self._observe(report)
        return output

    def _tool(self, call: RequiredToolCall) -> "_Tool":
        try:
            return self._tools[call.name]
        except KeyError:
            known = ", ".join(self._tools) or "none"
            raise _BadArgumentsError(f"There is no tool {call.name!r}; the tools are: {known}.") from None


@attrs.define
class _Work:
    """A call under way or done, and how many wait for it. Thousands are kept once done, so they hold no task then."""

    key: _CallKey
    task: asyncio.Task[str] | None = None
    waiting: int = 0
    output: str = ""
    has_thread: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether there is an output, or something that cannot be stopped is at work on it."""
        task = self.task
        return self.has_thread or task is None or (task.done() and not task.cancelled() and task.exception() is None)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Return what *function* gives, called in a thread of its own: the loop's few look up host names as well."""
        threads = ThreadPoolExecutor(1, "asyncruns-tool")
        self.has_thread = True
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, copy_context().run, function)
        finally:
            self.has_thread = False
            threads.shutdown(wait=False)

    def result(self) -> str:
        """Return the output of a call that has ended, or raise the error that it ended with."""
        if self.task is not None:
            self.output, self.task = self.task.result(), None
        return self.output


async def _finished(tasks: set[asyncio.Task[str]]) -> None:
    """Wait for all *tasks*; raise the error of the first that has one."""
    if tasks:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()


class _BadArgumentsError(Exception):
    """A call that cannot be carried out; its text is written for the model."""


class _Tool:
    """One function: its description, and how to call it with JSON arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = getattr(function, "__name__", "")
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"A tool's name is 1 to 64 letters, digits, '_' and '-', not {self.name!r}.")
        self._function = function
        self._hints = _parameters(function)
        doc = inspect.getdoc(function) or ""
        self.description = FunctionTool(
            name=self.name,
            description=doc.split("\n\n")[0].replace("\n", " ").strip() or None,
            parameters=_schema(self.name, self._hints, _argument_texts(doc)),
        )

    async def call(self, arguments: str, work: _Work) -> str:
        values = self._structured(arguments)
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**values)
        else:
            result = await work.in_thread(partial(_ended, self._function, values))
            if inspect.isawaitable(result):  # A plain wrapper around an async function.
                result = await result
        if isinstance(result, str):
            result.encode()  # Raises for a lone surrogate, which could not be submitted.
            return result
        return "" if result is None else msgspec.json.encode(result).decode()

    def _structured(self, arguments: str) -> dict[str, Any]:
        try:
            plain = msgspec.json.decode(arguments or "{}")
        except msgspec.DecodeError as error:
            raise _BadArgumentsError(f"The arguments are not valid JSON: {error}.") from None
        if not isinstance(plain, dict):
            raise _BadArgumentsError("The arguments must be a JSON object.")
        problems = [f"there is no parameter {name!r}" for name in plain.keys() - self._hints.keys()]
        values = {}
        for name, (hint, default) in self._hints.items():
            if name in plain:
                try:
                    msgspec.convert(plain[name], hint)  # Strict, as the schema says; cattrs would take "no" for True.
                    values[name] = _CONVERTER.structure(plain[name], hint)
                except msgspec.ValidationError as error:
                    problems.append(f"{name}: {error}")
                except Exception as error:
                    problems += cattrs.transform_error(error, name, lambda found, _: str(found))
            elif default is _NO_VALUE:
                problems.append(f"the parameter {name!r} is missing")
        if problems:
            raise _BadArgumentsError(f"The arguments do not fit: {'; '.join(problems)}.")
        return values


def _ended(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call a plain function; no future can hold a `StopIteration`, and whoever waits for it would wait for ever."""
    try:
        return function(**values)
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration") from error


def _parameters(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return the function's parameters: name -> (annotation, default)."""
    try:
        hints, signature = get_type_hints(function), inspect.signature(function)
    except Exception as error:
        raise ConfigurationError(f"The parameters of {function!r} cannot be read: {error}") from None
    parameters = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigurationError(f"A tool takes its parameters by name; {name!r} of {function!r} is not such.")
        parameters[name] = hints.get(name, Any), parameter.default
    return parameters


def _schema(name: str, parameters: Mapping[str, tuple[Any, Any]], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON schema of the arguments, by msgspec's rules for types."""
    defaults = {key: default for key, (_, default) in parameters.items() if default is not _NO_VALUE}
    # msgspec takes no list for a default, as Python does; what it must know is only that there is one.
    columns: list[Any] = [
        (key, hint, None) if key in defaults else (key, hint) for key, (hint, _) in parameters.items()
    ]
    try:
        struct = msgspec.defstruct("Arguments", columns, kw_only=True, forbid_unknown_fields=True)
        (whole,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
        for hint, _ in parameters.values():
            _CONVERTER.get_structure_hook(hint)
        plain = msgspec.json.decode(msgspec.json.encode(defaults))
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[-1]  # msgspec tells first what its own users could do.
        raise ConfigurationError(f"The parameters of {name!r} cannot be described: {reason}") from None
    schema: dict[str, Any] = parts.pop(whole["$ref"].removeprefix("#/$defs/"))
    schema.pop("title", None)
    for key, default in plain.items():
        schema["properties"][key]["default"] = default
    for key, text in texts.items():
        if key in schema["properties"]:
            schema["properties"][key]["description"] = text
    return schema | {"$defs": parts} if parts else schema


def _argument_texts(doc: str) -> dict[str, str]:
    """Read what a docstring says of each parameter, in Google's or Sphinx's style, a line each."""
    found = filter(None, map(_ARGUMENT.match, doc.splitlines()))
    return {match[1] or match[3]: (match[2] or match[4]).strip() for match in found}


def _told(error: Exception) -> str:
    kind = type(error).__name__
    try:
        return str(error) if isinstance(error, _BadArgumentsError) else f"{kind}: {error}"
    except Exception:  # Of a function's own class, which need not be able to tell.
        return kind


def _error(text: str) -> str:
    return msgspec.json.encode({"error": text.encode(errors="backslashreplace").decode()}).decode()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _refuse(hint: Any) -> NoReturn:
    raise TypeError(f"{hint} cannot be made from JSON")


_CONVERTER = make_converter(forbid_extra_keys=True, structure_fallback_factory=_refuse)
_CONVERTER.register_structure_hook(bytes, lambda value, _: b64decode(value))

"""The programs of docs/examples, each as a process of its own over real sockets, and their page in a real browser."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Raw

import asyncruns
from asyncruns._slices import RawItem
from asyncruns.archive import export
from asyncruns.archive._records import PageWrite, Walk
from asyncruns.archive._store import Store
from asyncruns.emulator import Emulator, Script

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
CHROMIUM = shutil.which("chromium")
APPS = [
    "aiohttp_app.py",
    pytest.param(
        "fastapi_app.py",
        marks=pytest.mark.skipif(
            find_spec("fastapi") is None or find_spec("uvicorn") is None, reason="fastapi or uvicorn is not installed"
        ),
    ),
]
WORDS = [f"word{number} " for number in range(1, 21)]
Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return the first truth that *condition* gives; other processes have no event for it."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return value


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """Give the test an emulator that lives in real time."""
    async with Emulator(pace=0.05) as started:
        yield started


@pytest.fixture
async def session(emulator: Emulator) -> AsyncIterator[asyncruns.Session]:
    """Give the test a session on its emulator."""
    async with asyncruns.Session(emulator.api_key, emulator.base_url) as opened:
        yield opened


@pytest.fixture
async def start(emulator: Emulator) -> AsyncIterator[Start]:
    """Give the test a way to start programs on its emulator; what still runs after it is killed."""
    started: list[asyncio.subprocess.Process] = []
    package = str(Path(asyncruns.__file__).parents[1])

    async def start_one(program: str, *words: str, **environ: str) -> asyncio.subprocess.Process:
        settings = {"OPENAI_API_KEY": emulator.api_key, "OPENAI_BASE_URL": emulator.base_url, "ASSISTANT_ID": "asst_1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error::ResourceWarning", str(EXAMPLES / program), *words),
            env={**os.environ, "PYTHONPATH": package, **settings, **environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


class App:
    """A running app, as a browser sees it."""

    def __init__(self, base: str, process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        self.base = base
        self.process = process
        self.http = http

    async def begin(self) -> str:
        """Begin a chat and return its name."""
        async with self.http.post(f"{self.base}/chats", json={}) as response:
            assert response.status == 201
            return (await response.json())["chat"]

    @asynccontextmanager
    async def ask(self, chat: str, question: str) -> AsyncIterator[AsyncGenerator[tuple[str, Any], None]]:
        """Ask, and give the events of the answer; leaving closes the connection."""
        async with self.http.post(f"{self.base}/chats/{chat}/questions", json={"question": question}) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            async with aclosing(read_events(response)) as events:
                yield events
            response.close()

    async def stop(self) -> str:
        """Stop the app as Ctrl-C or a service manager would, and return all that it printed."""
        self.process.terminate()
        out, _ = await asyncio.wait_for(self.process.communicate(), 20)
        return out.decode()


async def read_events(response: aiohttp.ClientResponse) -> AsyncGenerator[tuple[str, Any], None]:
    """Yield name and data of each event."""
    name = ""
    async for line in response.content:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


@pytest.fixture
async def open_app(start: Start) -> AsyncIterator[Callable[[str], Awaitable[App]]]:
    """Give the test a way to start one of the apps and wait until it listens."""
    async with AsyncExitStack() as stack:

        async def open_one(program: str) -> App:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            process = await start(program, PORT=str(port))

            def listens() -> bool:
                with socket.socket() as probe:
                    return probe.connect_ex(("127.0.0.1", port)) == 0

            await until(listens)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return App(f"http://127.0.0.1:{port}", process, http)

        yield open_one


async def only_run(session: asyncruns.Session, emulator: Emulator) -> asyncruns.Run:
    """Return the one run there is on the emulator's one thread."""
    [thread] = await session.threads.list().collect()
    [run] = await session.runs.list(thread.id).collect()
    return run


@pytest.mark.parametrize("program", APPS)
async def test_app_streams_answers(program: str, open_app, emulator: Emulator, session: asyncruns.Session) -> None:
    """An app gives each text delta as an event of its own while the run goes on, and serves the page and two chats."""
    app = await open_app(program)
    async with app.http.get(app.base) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert await response.text() == (EXAMPLES / "chat.html").read_text()
    first, second = await app.begin(), await app.begin()
    for chat in (first, first, second):
        emulator.script(Script(text=WORDS, seconds={"in_progress": 0.2}))
        async with app.ask(chat, "What now?") as events:
            got = [event async for event in events]
        assert got == [*(("text", word) for word in WORDS), ("end", "completed")]
    runs = [len(await session.runs.list(thread.id).collect()) async for thread in session.threads.list(order="asc")]
    assert runs == [2, 1]
    assert "Traceback" not in await app.stop()


@pytest.mark.parametrize("program", APPS)
async def test_app_cancels_when_the_browser_leaves(
    program: str, open_app, emulator: Emulator, session: asyncruns.Session
) -> None:
    """A browser that leaves in the middle of an answer leaves no run behind, and may ask again at once."""
    app = await open_app(program)
    chat = await app.begin()
    emulator.script(Script(text=WORDS, seconds={"in_progress": 60.0}))
    async with app.ask(chat, "Something long?") as events:
        assert await anext(events) == ("text", WORDS[0])
    async with app.ask(chat, "Something else?") as events:
        assert [event async for event in events][-1] == ("end", "completed")
    [thread] = await session.threads.list().collect()
    statuses = [run.status async for run in session.runs.list(thread.id, order="asc")]
    asked = [message.text async for message in session.messages.list(thread.id, order="asc") if message.role == "user"]
    assert statuses == ["cancelled", "completed"]
    assert asked == ["Something long?", "Something else?"]
    assert "Traceback" not in await app.stop()


@pytest.mark.parametrize("program", APPS)
async def test_app_cancels_a_silent_run(program: str, open_app, emulator: Emulator, session: asyncruns.Session) -> None:
    """A browser's leaving is noticed also while there is nothing to write to it."""
    app = await open_app(program)
    chat = await app.begin()
    emulator.script(Script(seconds={"queued": 60.0}))
    async with app.ask(chat, "Anybody there?"):
        await until(lambda: any(path.endswith("/runs") for _, path in emulator.requests))
    await until(lambda: any(path.endswith("/cancel") for _, path in emulator.requests))
    assert (await only_run(session, emulator)).status in ("cancelling", "cancelled")


@pytest.mark.parametrize("program", APPS)
async def test_app_stops_in_the_middle(program: str, open_app, emulator: Emulator, session: asyncruns.Session) -> None:
    """An app that is stopped while it streams cancels the run before its session closes."""
    app = await open_app(program)
    chat = await app.begin()
    emulator.script(Script(text=WORDS, seconds={"in_progress": 60.0}))
    async with app.ask(chat, "Something long?") as events:
        await anext(events)
        await app.stop()
    assert (await only_run(session, emulator)).status in ("cancelling", "cancelled")


@pytest.mark.parametrize("program", APPS)
async def test_app_tells_trouble(program: str, open_app, emulator: Emulator) -> None:
    """A run that fails and a stream that breaks end the answer with a word for the page; an unknown chat is a 404."""
    app = await open_app(program)
    chat = await app.begin()
    emulator.next_outcome("failed")
    async with app.ask(chat, "Will it work?") as events:
        assert [event async for event in events][-1] == ("end", "failed")
    emulator.profile = "stream-eof"
    async with app.ask(chat, "And now?") as events:
        assert [event async for event in events][-1] == ("end", "unavailable")
    async with app.http.post(f"{app.base}/chats/unknown/questions", json={"question": "?"}) as response:
        assert response.status == 404


def requests(emulator: Emulator, end: str) -> list[str]:
    """Return the POST requests to paths with that end."""
    return [path for method, path in emulator.requests if method == "POST" and path.endswith(end)]


async def everything(session: asyncruns.Session) -> tuple[list[str], list[asyncruns.Run]]:
    """Return the ids of all threads, and all runs."""
    threads = [thread.id async for thread in session.threads.list()]
    return threads, [run for thread in threads for run in await session.runs.list(thread).collect()]


MOMENTS: dict[str, tuple[Callable[[str, str], bool], Callable[[list[str], list[asyncruns.Run]], bool]]] = {
    "thread": (
        lambda method, path: method == "POST" and path.endswith("/threads"),
        lambda threads, runs: len(threads) == 1,
    ),
    "create": (lambda method, path: method == "POST" and path.endswith("/runs"), lambda threads, runs: len(runs) == 1),
    "reading": (lambda method, path: method == "GET" and "/runs/run_" in path, lambda threads, runs: True),
    "outputs": (
        lambda method, path: path.endswith("/submit_tool_outputs"),
        lambda threads, runs: runs[0].status == "completed",
    ),
    "messages": (lambda method, path: method == "GET" and "/messages" in path, lambda threads, runs: True),
}
"""A moment -> which request begins it, and whether the server has carried that out."""


@pytest.mark.parametrize("moment", MOMENTS)
async def test_worker_killed_in_the_middle(
    moment: str, start: Start, emulator: Emulator, session: asyncruns.Session, tmp_path: Path
) -> None:
    """A worker killed at any moment leaves a job that the next one finishes with the same run: one on the server.

    The worker is frozen when the server has its request, and killed when the server has done what it asked and
    answered, so it knows of its own request and nothing of the outcome.
    """
    begins, is_done = MOMENTS[moment]
    emulator.script(Script(text="Twelve fifty.", rounds=[[("look_up", {"article": "pen"})]]))
    (tmp_path / "job-1.json").write_text(json.dumps({"question": "What does a pen cost?"}))
    emulator.delay = 0.2
    first = await start("worker.py", str(tmp_path))
    await until(lambda: any(begins(*request) for request in list(emulator.requests)))
    first.send_signal(signal.SIGSTOP)
    emulator.delay = 0.0
    while not is_done(*await everything(session)):  # noqa: ASYNC110  # Another process has no event for it.
        await asyncio.sleep(0.01)
    first.kill()
    await first.communicate()
    await start("worker.py", str(tmp_path))
    done = json.loads((await until(lambda: next((tmp_path / "done").glob("*.json"), None))).read_text())
    threads, [run] = await everything(session)
    assert (run.id, run.status, run.metadata) == (done["run_id"], "completed", {"request_key": "job-1"})
    assert (done["thread_id"], done["status"], done["answer"]) == (run.thread_id, "completed", "Twelve fifty.")
    assert len(requests(emulator, "/runs")) == 1
    assert len(requests(emulator, "/submit_tool_outputs")) == 1
    assert len(threads) == (2 if moment == "thread" else 1)
    assert os.listdir(tmp_path) == ["done"]


async def test_worker_does_many_jobs(start: Start, emulator: Emulator, tmp_path: Path) -> None:
    """Jobs are done at the same time; a broken one stays where it is and stops nobody, and later ones are found."""
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "empty.json").write_text('{"Question": "?"}')
    for number in range(9):
        (tmp_path / f"job-{number}.json").write_text(json.dumps({"question": f"What is {number}?"}))
    worker = await start("worker.py", str(tmp_path))
    await until(lambda: len(list((tmp_path / "done").glob("*.json"))) == 9)
    (tmp_path / "late.json").write_text(json.dumps({"question": "And this?"}))
    await until(lambda: (tmp_path / "done" / "late.json").exists())
    assert sorted(os.listdir(tmp_path)) == ["broken.json", "done", "empty.json"]
    assert len(requests(emulator, "/runs")) == 10
    assert worker.returncode is None
    worker.kill()
    out, _ = await worker.communicate()
    first, second = sorted(out.splitlines())
    assert first.startswith(b"WARNING:worker:broken.json is no job: Expecting property name")
    assert second == b"WARNING:worker:empty.json is no job: It has no question."


class Page:
    """A page in headless Chromium, driven over the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self.complaints: list[Any] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; what the page complains of meanwhile is kept."""
        self._calls += 1
        await self._socket.send_json({"id": self._calls, "method": method, "params": params})
        while (message := await self._socket.receive_json(timeout=20)).get("id") != self._calls:
            is_error = message["params"].get("type") == "error" or message["params"].get("entry", {}).get("level")
            if message["method"] == "Runtime.exceptionThrown" or is_error:
                self.complaints.append(message["params"])
        assert "error" not in message, message
        return message["result"]

    async def value(self, script: str) -> Any:
        """Return the value of an expression of JavaScript in the page."""
        result = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true in the page."""
        async with asyncio.timeout(20):
            while not await self.value(script):  # noqa: ASYNC110  # Another process has no event for it.
                await asyncio.sleep(0.02)

    async def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key."""
        key_of = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        await self.call("Input.dispatchKeyEvent", type="keyDown", **key_of)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **key_of)

    async def open(self, url: str, *, width: int = 1100, height: int = 760, scheme: str = "light") -> None:
        """Open an address in a window of that size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")
        await self.until(f"location.href.startsWith({json.dumps(url)}) && document.activeElement?.id === 'question'")


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """Give the test an empty page in a browser of its own."""
    if os.environ.get("CI") == "true":
        pytest.skip("no browser is started in CI")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    profile = tmp_path / "profile"
    quiet = ("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-gpu")
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *("--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={profile}", *quiet),
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        told = profile / "DevToolsActivePort"
        port = await until(lambda: told.exists() and told.read_text().partition("\n")[0])
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as response:
                [target] = [each for each in await response.json() if each["type"] == "page"]
            async with http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=2**25) as socket:
                opened = Page(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await opened.call(f"{domain}.enable")
                yield opened
    finally:
        browser.terminate()
        await browser.wait()


ANSWER = "(document.querySelector('.answer:last-child > div')?.textContent ?? '')"


async def test_page_shows_an_answer_as_it_comes(page: Page, open_app, emulator: Emulator) -> None:
    """The page shows the text while it is written and as text, and can be used by keyboard alone."""
    app = await open_app("aiohttp_app.py")
    await page.open(app.base)
    evil = "<img src=x onerror=document.title='owned'>"
    emulator.script(Script(text=[evil, *WORDS], seconds={"in_progress": 3.0}))
    await page.type("First line")
    await page.press("Enter", 13, "\r")
    await page.until(f"{ANSWER}.includes('word3')")
    assert "word20" not in await page.value(ANSWER)
    assert await page.value("document.querySelector('.answer').ariaBusy") == "true"
    assert await page.value("document.getElementById('button').ariaLabel") == "Stop"
    await page.until("document.getElementById('button').ariaLabel === 'Send'")
    assert await page.value(ANSWER) == evil + "".join(WORDS)
    assert await page.value("document.querySelector('.question > div').textContent") == "First line"
    assert await page.value("document.title") == "Ask the assistant"
    assert await page.value("document.activeElement.id") == "question"
    assert (await page.value("document.getElementById('state').textContent")).startswith(evil)
    assert page.complaints == []


async def test_page_stops_an_answer(page: Page, open_app, emulator: Emulator, session: asyncruns.Session) -> None:
    """Stop ends the answer in the page and cancels the run on the server; the next question is answered."""
    app = await open_app("aiohttp_app.py")
    await page.open(app.base)
    emulator.script(Script(text=WORDS, seconds={"in_progress": 60.0}))
    await page.type("Something long?")
    await page.press("Enter", 13, "\r")
    await page.until(f"{ANSWER}.includes('word1')")
    await page.value("document.getElementById('button').click()")
    await page.until("document.querySelector('.note')?.textContent === 'Stopped.'")
    await page.type("Something else?")
    await page.press("Enter", 13, "\r")
    await page.until("document.querySelectorAll('.answer').length === 2")
    await page.until(f"{ANSWER} !== '' && document.getElementById('button').ariaLabel === 'Send'")
    _, runs = await everything(session)
    assert sorted(run.status for run in runs) == ["cancelled", "completed"]
    assert page.complaints == []


async def test_page_that_is_closed_cancels_its_run(
    page: Page, open_app, emulator: Emulator, session: asyncruns.Session
) -> None:
    """Leaving the page in the middle of an answer cancels the run."""
    app = await open_app("aiohttp_app.py")
    await page.open(app.base)
    emulator.script(Script(text=WORDS, seconds={"in_progress": 60.0}))
    await page.type("Something long?")
    await page.press("Enter", 13, "\r")
    await page.until(f"{ANSWER}.includes('word1')")
    await page.call("Page.navigate", url="about:blank")
    await until(lambda: requests(emulator, "/cancel"))
    _, [run] = await everything(session)
    assert run.status in ("cancelling", "cancelled")


async def test_page_tells_trouble(page: Page, open_app, emulator: Emulator) -> None:
    """A run that fails and an app that is gone are told in words, and the page can be used further."""
    app = await open_app("aiohttp_app.py")
    await page.open(app.base)
    emulator.next_outcome("failed")
    trouble = "document.querySelectorAll('.note.trouble').length"
    await page.type("Will it work?")
    await page.press("Enter", 13, "\r")
    await page.until(f"{trouble} === 1")
    app.process.kill()
    await app.process.wait()
    await page.type("And now?")
    await page.press("Enter", 13, "\r")
    await page.until(f"{trouble} === 2")
    assert await page.value("document.getElementById('button').ariaLabel") == "Send"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1100])
async def test_page_fits(page: Page, open_app, emulator: Emulator, width: int, scheme: str) -> None:
    """At any width nothing sticks out sideways, the field to write in is in sight, and text stands out."""
    app = await open_app("aiohttp_app.py")
    await page.open(app.base, width=width, height=700, scheme=scheme)
    emulator.script(Script(text=["A long answer. " * 200, "W" * 300]))
    await page.type("A question " * 20)
    await page.press("Enter", 13, "\r")
    await page.until(f"{ANSWER}.endsWith('WWW') && document.getElementById('button').ariaLabel === 'Send'")
    assert await page.value("document.documentElement.scrollWidth") == width
    assert await page.value("log.scrollHeight - log.scrollTop - log.clientHeight < 2")
    assert await page.value("document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth")
    assert await page.value("document.getElementById('box').getBoundingClientRect().bottom") <= 700
    colors = await page.value(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('button')).color,"
        " getComputedStyle(document.querySelector('button')).backgroundColor]"
    )
    assert contrast(colors[0], colors[1]) > 7
    assert contrast(colors[2], colors[3]) > 4.5


def contrast(one: str, other: str) -> float:
    """Return the contrast of two CSS colours, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """Return the relative luminance of a CSS colour such as `rgb(1, 2, 3)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(", ")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.skipif(
    find_spec("duckdb") is None or find_spec("polars") is None or find_spec("pyarrow") is None,
    reason="duckdb, polars or pyarrow is not installed",
)
async def test_archive_read_while_it_is_filled(start: Start, tmp_path: Path) -> None:
    """The same answers come while an export holds the archive, and its tables have no generated columns yet."""
    blob = b'{"id": "run_1", "status": "completed", "model": "m", "created_at": 1, "usage": {"total_tokens": 5}}'
    with Store(tmp_path / "runs.db") as store:
        walk = Walk(thread_id="thread_1", kind="runs", position=1)
        store.apply([PageWrite(walk=walk, items=[RawItem("run_1", json=Raw(blob))])])
        program = await start("read_archive.py", str(tmp_path / "runs.db"))
        out, _ = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 0, out.decode()
    assert [line.split() for line in out.decode().splitlines()[:4:2]] == [["sqlite3"], ["DuckDB"]]
    assert [line.split() for line in out.decode().splitlines()[1:4:2]] == [["m", "completed", "1", "5"]] * 2


@pytest.mark.skipif(
    find_spec("duckdb") is None or find_spec("polars") is None or find_spec("pyarrow") is None,
    reason="duckdb, polars or pyarrow is not installed",
)
async def test_archive_read_in_three_ways(
    emulator: Emulator, session: asyncruns.Session, start: Start, tmp_path: Path
) -> None:
    """sqlite3, DuckDB and polars give the same answer about an archive, and it is what the server holds."""
    ids = emulator.fill(threads=3, runs_per_thread=40)
    await export(session, tmp_path / "runs.db", ids)
    runs = [run for id in ids async for run in session.runs.list(id)]
    program = await start("read_archive.py", str(tmp_path / "runs.db"))
    out, _ = await asyncio.wait_for(program.communicate(), 60)
    assert program.returncode == 0, out.decode()
    found: dict[str, list[tuple[str, ...]]] = {}
    rows: list[tuple[str, ...]] = []
    for line in out.decode().splitlines():
        if line.startswith(" "):
            rows.append(tuple(line.split()))
        else:
            found[line] = rows = []
    counts = Counter((run.model or "", run.status) for run in runs)
    tokens = Counter[str]()
    for run in runs:
        tokens[run.status] += run.usage.total_tokens if run.usage and run.usage.total_tokens else 0
    expected = {(model, status, str(count), str(tokens[status])) for (model, status), count in counts.items()}
    assert set(found["sqlite3"]) == expected
    assert found["sqlite3"] == found["DuckDB"] == found["polars"]
    assert {type for type, _ in found["seconds a step takes"]} == {"tool_calls", "message_creation"}

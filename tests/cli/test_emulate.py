"""The emulator as a process of its own."""

import asyncio
import contextlib
import json
import shlex
import signal
import socket
import threading

import pytest

from asyncruns import Session
from asyncruns.cli import main


async def test_serves_until_interrupted(process) -> None:
    """`emulate --json` prints where it is and its key, serves a session, and exits with 130 on Ctrl-C."""
    started = await process("emulate", "--json", "--api-key", "sk-mine", "--fill", "2")
    printed = json.loads(await asyncio.wait_for(started.stdout.readline(), 30))
    async with Session(printed["api_key"], printed["base_url"]) as session:
        thread = await session.threads.create()
        for filled in printed["threads"]:
            assert len(await session.runs.list(filled).collect()) == 50
    started.send_signal(signal.SIGINT)
    out, err = await asyncio.wait_for(started.communicate(), 30)
    assert thread.id.startswith("thread_")
    assert printed["api_key"] == "sk-mine"
    assert len(printed["threads"]) == 2
    assert (started.returncode, out, err) == (130, b"", b"asyncruns: interrupted\n")


async def test_tells_the_shell(process) -> None:
    """For people it prints lines that a shell can take, though the key has characters that a shell would read."""
    key = "sk-it's $HOME"
    started = await process("emulate", "--api-key", key, "--fill", "3")
    lines = []
    while not lines or not lines[-1].startswith("Ctrl-C"):
        lines.append((await asyncio.wait_for(started.stdout.readline(), 30)).decode())
    started.send_signal(signal.SIGINT)
    await asyncio.wait_for(started.communicate(), 30)
    exports = [shlex.split(line)[1] for line in lines if line.startswith("export ")]
    [base_url] = [line.split()[-1] for line in lines if "base URL" in line]
    assert exports == [f"OPENAI_BASE_URL={base_url}", f"OPENAI_API_KEY={key}"]
    assert base_url.startswith("http://127.0.0.1:")
    assert lines[0].startswith("The emulator is listening. It holds 3 threads, the first of them thread_")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_interrupted_here(capsys: pytest.CaptureFixture[str], form: tuple[str, ...]) -> None:
    """`main` in the process of a caller returns 130 when interrupted, and lets the caller go on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def interrupt_when_up() -> None:
        while True:
            with (
                contextlib.suppress(ConnectionRefusedError),
                socket.create_connection(("127.0.0.1", port), 30) as asking,
            ):
                asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
                asking.recv(1)  # Only a connection that the server has taken up is closed with it.
                return signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt_when_up, daemon=True).start()
    assert main(["emulate", "--port", str(port), *form]) == 130
    printed = capsys.readouterr()
    assert printed.err == "asyncruns: interrupted\n"
    assert f"http://127.0.0.1:{port}/v1" in printed.out


@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_taken_port(cli, server, form: tuple[str, ...]) -> None:
    """A port that is taken is a failure told in one line."""
    ended = await cli("emulate", "--port", str(server.port), *form)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("asyncruns: ")
    assert ended.err.count("\n") == 1

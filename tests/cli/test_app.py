"""What can be typed wrong, and which exit code it gives."""

import socket

import pytest

from asyncruns.emulator import Emulator


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("runs", "list"),
        ("runs", "list", "thread_1", "--limit", "many"),
        ("runs", "list", "thread_1", "--limit", "500"),
        ("runs", "list", "thread_1", "--max-items", "-1"),
        ("runs", "list", "thread_1", "--order", "upwards"),
        ("runs", "list", "not/an/id"),
        ("runs", "show", "thread_1"),
        ("runs", "wait", "thread_1", "run_1", "--timeout", "-1"),
        ("runs", "show", "thread_1", "run_1", "--api-key", "sk-secret"),
        ("emulate", "--port", "70000"),
        ("emulate", "--host", "192.0.2.1"),
    ],
)
async def test_wrong_usage(cli, emulator: Emulator, words: tuple[str, ...]) -> None:
    """Wrong words exit with 2 and one line on stderr, and nothing is sent."""
    ended = await cli(*words, on=emulator)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("asyncruns: ")
    assert ended.err.count("\n") == 1
    assert emulator.request_count == 0


async def test_no_key(cli) -> None:
    """Without a key a command exits with 2 and says how to come by a server to try."""
    ended = await cli("runs", "list", "thread_1")
    assert (ended.code, ended.out) == (2, "")
    assert "OPENAI_API_KEY" in ended.err
    assert "asyncruns emulate" in ended.err


async def test_plain_http_is_for_who_asks(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes over plain http to this machine only, unless the user says that the network is theirs."""

    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr("aiohttp.resolver.DefaultResolver.resolve", unknown)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    words = ("runs", "list", "thread_1", "--base-url", "http://no-such-host.invalid/v1")
    ended = await cli(*words)
    assert (ended.code, "--allow-insecure-http" in ended.err) == (2, True)
    ended = await cli(*words, "--allow-insecure-http")
    assert (ended.code, "no connection to no-such-host.invalid:80" in ended.err) == (1, True)


async def test_unusable_base_url(cli, emulator: Emulator) -> None:
    """--base-url goes before the environment, and one that cannot be used is wrong usage."""
    words = ("runs", "list", "thread_1", "--base-url")
    unusable = await cli(*words, "ftp://127.0.0.1", on=emulator)
    refused = await cli(*words, emulator.base_url + "/elsewhere", on=emulator)
    assert unusable.code == 2
    assert refused.code == 1
    assert "/elsewhere" in emulator.requests[0][1]


@pytest.mark.parametrize("words", [(), ("runs",), ("runs", "list", "--help"), ("-h",)])
async def test_help(cli, words: tuple[str, ...]) -> None:
    """Help is printed to stdout, also for a group of commands without a command, and is no failure."""
    ended = await cli(*words)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Usage: asyncruns")


async def test_unprintable_words_are_escaped(cli) -> None:
    """What was typed wrong is shown escaped."""
    ended = await cli("runs", "\x1b[31m")
    assert ended.code == 2
    assert "\x1b" not in ended.err

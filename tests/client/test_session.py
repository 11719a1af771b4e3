"""A session checks its settings when it is made, sends what they say, and cleans up after itself."""

import asyncio
import copy
import pickle
import platform
import re
import ssl
from contextlib import asynccontextmanager
from traceback import walk_tb

import aiohttp
import pytest
import trustme
from aiohttp import web

import asyncruns
from asyncruns import ConfigurationError, Session
from asyncruns.emulator import Emulator

KEY = "sk-CANARY-1234567890"
BASE = "http://127.0.0.1:9/v1"
THREAD = {"id": "thread_1", "object": "thread", "created_at": 1}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    """Let no variable of the machine's environment decide a test."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def recording_proxy():
    """Run a proxy that writes down what it is asked, passes it on, and gives the answer back."""
    seen = []

    async def pass_on(request):
        seen.append((request.method, request.raw_path, dict(request.headers)))
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                request.method,
                request.raw_path,
                headers={"Authorization": request.headers["Authorization"]},
                data=await request.read(),
            ) as answer,
        ):
            return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)

    runner = web.ServerRunner(web.Server(pass_on))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


class TestEnvironment:
    """Variables are read when a session is made."""

    async def test_gives_what_is_not_passed(self, server, monkeypatch):
        """Key, base URL, organisation and project."""
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
        server.reply(THREAD)
        async with Session() as session:
            await session.threads.retrieve("thread_1")
        headers = server.requests[0].headers
        assert headers["authorization"] == f"Bearer {KEY}"
        assert (headers["openai-organization"], headers["openai-project"]) == ("org-1", "proj_1")

    async def test_is_read_at_the_making_and_never_again(self, server, monkeypatch):
        """Not on import, and not at the first call."""
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        session = Session(base_url=server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
        monkeypatch.setenv("OPENAI_BASE_URL", BASE)
        server.reply(THREAD)
        async with session:
            await session.threads.retrieve("thread_1")
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    async def test_gives_way_to_what_is_passed(self, server, monkeypatch):
        """An empty organisation or project is not sent at all."""
        for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            monkeypatch.setenv(name, "wrong")
        server.reply(THREAD, times=2)
        async with Session(KEY, server.base_url, organization="", project="") as session:
            await session.threads.retrieve("thread_1")
        async with Session(KEY, server.base_url, organization="org-2", project="proj_2") as session:
            await session.threads.retrieve("thread_1")
        without, given = (request.headers for request in server.requests)
        assert without["authorization"] == f"Bearer {KEY}"
        assert "openai-organization" not in without
        assert "openai-project" not in without
        assert (given["openai-organization"], given["openai-project"]) == ("org-2", "proj_2")

    def test_base_url_is_openais_by_default(self):
        """As the published clients have it."""
        assert repr(Session(KEY)) == "Session(base_url='https://api.openai.com/v1')"

    def test_an_empty_base_url_in_the_environment_counts_as_none(self, monkeypatch):
        """A variable that is set to nothing is a common way to unset it."""
        monkeypatch.setenv("OPENAI_BASE_URL", "")
        assert "api.openai.com" in repr(Session(KEY))


class TestSettings:
    """What is refused when the session is made."""

    def test_no_key_names_the_emulator(self):
        """Whoever has none is told where to get going without."""
        with pytest.raises(ConfigurationError, match=r"OPENAI_API_KEY.*Emulator.*asyncruns emulate"):
            Session()

    def test_empty_key_of_the_environment_is_none(self, monkeypatch):
        """A variable that a script left empty is told as the missing key that it is."""
        monkeypatch.setenv("OPENAI_API_KEY", "")
        with pytest.raises(ConfigurationError, match="OPENAI_API_KEY, which is missing or empty"):
            Session()
        with pytest.raises(ConfigurationError, match="api_key must be"):
            Session("")

    @pytest.mark.parametrize("key", [KEY + "\n", "sk-CANARYé", "sk CANARY"])
    def test_a_key_that_no_header_can_carry(self, key, monkeypatch):
        """Passed or from the environment; its value is never shown."""
        with pytest.raises(ConfigurationError, match="api_key must be") as passed:
            Session(key)
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ConfigurationError, match="api_key must be") as from_environment:
            Session()
        assert "CANARY" not in str(passed.value) + str(from_environment.value)

    @pytest.mark.parametrize("key", [5, b"sk-CANARY", ["sk-CANARY"]])
    def test_a_key_of_another_type(self, key):
        """A string, or something that can be called."""
        with pytest.raises(ConfigurationError, match="a string or an async function") as caught:
            Session(key)
        assert "CANARY" not in str(caught.value)

    @pytest.mark.parametrize(
        "base_url", ["api.example", "http://api.example/v1", "https://a:CANARY@api.example", "https://api.example?x=1"]
    )
    def test_a_base_url_that_is_none(self, base_url, monkeypatch):
        """From wherever it comes."""
        with pytest.raises(ConfigurationError, match="base_url"):
            Session(KEY, base_url)
        monkeypatch.setenv("OPENAI_BASE_URL", base_url)
        with pytest.raises(ConfigurationError, match="base_url") as caught:
            Session(KEY)
        assert "CANARY" not in str(caught.value)

    def test_plain_http_on_the_callers_word(self):
        """For a network of one's own."""
        assert "api.example" in repr(Session(KEY, "http://api.example/v1", allow_insecure_http=True))

    @pytest.mark.parametrize("name", ["timeout", "max_connections", "max_response_bytes"])
    @pytest.mark.parametrize("value", [0, -1, True, "5", None])
    def test_a_number_that_is_none(self, name, value):
        """Each setting is named."""
        with pytest.raises(ConfigurationError, match=name):
            Session(KEY, BASE, **{name: value})

    @pytest.mark.parametrize("value", [float("inf"), float("nan"), 10**400])
    def test_a_timeout_without_end(self, value):
        """Every call has a deadline."""
        with pytest.raises(ConfigurationError, match="timeout"):
            Session(KEY, BASE, timeout=value)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Authorization": "Basic x"},
            {"api-key": "x"},
            {"HOST": "x"},
            {"Content-Length": "5"},
            {"Content-Type": "text/plain"},
            {"Transfer-Encoding": "chunked"},
            {"X A": "x"},
            {"X\r\nY": "x"},
            {"": "x"},
            {5: "x"},
        ],
    )
    def test_a_header_that_is_not_the_callers_to_set(self, headers):
        """Neither what the client sets itself nor what is no header name."""
        with pytest.raises(ConfigurationError, match="default_headers must not set"):
            Session(KEY, BASE, default_headers=headers)

    @pytest.mark.parametrize("value", ["a\r\nEvil: x", "a\x00", "é", 5, None])
    def test_a_header_value_that_no_header_can_carry(self, value):
        """No way to smuggle a second header in."""
        with pytest.raises(ConfigurationError, match="X-Team must be printable ASCII"):
            Session(KEY, BASE, default_headers={"X-Team": value})

    def test_an_organisation_that_no_header_can_carry(self):
        """The same rule."""
        with pytest.raises(ConfigurationError, match="OpenAI-Organization must be printable ASCII"):
            Session(KEY, BASE, organization="a\nb")

    @pytest.mark.parametrize(
        "proxy", ["notaurl", "", "127.0.0.1:3128", "socks5://u:CANARY@x", "http://", "http://[", 5]
    )
    def test_a_proxy_that_is_none(self, proxy):
        """It is told here and not by the first call, as if that could have been carried out; no password is shown."""
        with pytest.raises(ConfigurationError, match="proxy must be the address") as caught:
            Session(KEY, BASE, proxy=proxy)
        assert "CANARY" not in str(caught.value)

    @pytest.mark.parametrize(
        "query", [5, "abc", ["a"], {"a": "\ud800"}, {"a": None}, {"a": ["b", "c"]}, {"a": 5}, {5: "a"}]
    )
    def test_a_query_that_is_none(self, query):
        """A mapping of strings, whichever way the session is made; nothing is sent as Python shows it."""
        with pytest.raises(ConfigurationError, match="default_query must be a mapping of strings to strings"):
            Session(KEY, BASE, default_query=query)
        with pytest.raises(ConfigurationError, match="default_query must be a mapping of strings to strings"):
            Session.foundry(BASE, Provider("x"), default_query=query)
        with pytest.raises(ConfigurationError, match="default_query must be a mapping of strings to strings"):
            Session.azure_openai(BASE, api_version="v", api_key=KEY, default_query=query)

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("retry", 3, "of type RetryPolicy, or None, and not int"),
            ("rate_limit", 60, "of type RateLimit, or None, and not int"),
            ("ssl_context", "x", "of type SSLContext, or None, and not str"),
            ("http", object(), "of type ClientSession, or None, and not object"),
            ("default_headers", 5, "a mapping of strings to strings"),
            ("default_headers", [("X-Team", "red")], "a mapping of strings to strings"),
            ("trace_configs", None, r"a list of aiohttp\.TraceConfig"),
            ("trace_configs", [5], r"a list of aiohttp\.TraceConfig"),
        ],
    )
    def test_a_setting_of_another_kind(self, name, value, told):
        """It is told here and not by the first call, which would not know what to say."""
        with pytest.raises(ConfigurationError, match=f"{name} must be {told}"):
            Session(KEY, BASE, **{name: value})


class TestLife:
    """A session is entered once and closed once."""

    async def test_may_not_be_used_before_it_is_open(self):
        """The message says how to open it."""
        session = Session(KEY, BASE)
        with pytest.raises(ConfigurationError, match="not open: use it inside 'async with"):
            await session.threads.retrieve("thread_1")

    async def test_may_not_be_used_after_it_is_closed(self, emulator):
        """Nor entered again."""
        async with Session(emulator.api_key, emulator.base_url) as session:
            thread = await session.threads.create()
        with pytest.raises(ConfigurationError, match="is closed: use it inside 'async with"):
            await session.threads.retrieve(thread.id)
        with pytest.raises(ConfigurationError, match="is closed"):
            await session.runs.list(thread.id).collect()
        with pytest.raises(ConfigurationError, match="entered once"):
            async with session:
                pass

    async def test_may_not_be_entered_twice(self, session):
        """Not even while it is open."""
        with pytest.raises(ConfigurationError, match="entered once"):
            await session.__aenter__()

    async def test_leaves_no_socket(self, server):
        """Its connections are gone with it."""
        server.reply(THREAD, times=2)
        async with Session(KEY, server.base_url) as session:
            await session.threads.retrieve("thread_1")
            await session.threads.retrieve("thread_1")
            assert server.connections == 1
            assert len(server._open) == 1
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert not server._open

    @pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
    def test_is_neither_pickled_nor_copied(self, carry):
        """It holds the key and open connections."""
        with pytest.raises(TypeError, match="never pickled or copied"):
            carry(Session(KEY, BASE))

    def test_shows_no_key(self):
        """Neither itself nor what it is made of, as far as `repr` reaches; a proxy's password neither."""
        session = Session(KEY, BASE, proxy="http://user:CANARY@127.0.0.1:9")
        shown = f"{session!r} {session} {vars(session)!r} {vars(session._transport)!r} {vars(session.runs)!r}"
        assert "CANARY" not in shown
        assert repr(session) == f"Session(base_url='{BASE}')"

    async def test_the_callers_own_http_session_stays_open(self, emulator):
        """Who opens closes; and a closed one is told as such."""
        async with aiohttp.ClientSession() as http:
            async with Session(emulator.api_key, emulator.base_url, http=http) as session:
                thread = await session.threads.create()
            assert not http.closed
            async with Session(emulator.api_key, emulator.base_url, http=http) as session:
                assert (await session.threads.retrieve(thread.id)).id == thread.id
                await http.close()
                with pytest.raises(ConfigurationError, match="is closed"):
                    await session.threads.retrieve(thread.id)


class TestWhatIsSent:
    """Headers and query of each request."""

    async def test_the_headers_of_every_request(self, server, open_session):
        """The version of the API, who asks, and no more; a body has its type."""
        session = await open_session(server, api_key=KEY)
        server.reply(THREAD, times=2)
        await session.threads.retrieve("thread_1")
        await session.threads.create()
        read, create = (request.headers for request in server.requests)
        assert read["openai-beta"] == "assistants=v2"
        assert read["accept"] == "application/json"
        assert read["accept-encoding"] == "gzip, deflate"
        assert read["user-agent"] == (
            f"asyncruns/{asyncruns.__version__} aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
        )
        assert "content-type" not in read
        assert "cookie" not in read
        assert create["content-type"] == "application/json"
        assert server.requests[1].body == b"{}"

    @pytest.mark.parametrize("is_callers", [False, True])
    async def test_names_of_default_headers_have_no_case(self, server, open_session, is_callers):
        """However they are written, they stand in the place of ours and not beside them."""
        headers = {"openai-beta": "assistants=v1", "ACCEPT": "text/plain", "user-agent": "mine"}
        async with aiohttp.ClientSession() as http:
            session = await open_session(server, default_headers=headers, http=http if is_callers else None)
            names = list(session._transport._settings.headers)
            server.reply(THREAD)
            await session.threads.retrieve("thread_1")
        assert len(names) == len({name.lower() for name in names})
        for name, value in headers.items():
            assert server.requests[0].headers[name.lower()] == value

    async def test_default_headers_and_query(self, server, open_session):
        """Added to every request, before or after a query of its own, percent-encoded."""
        session = await open_session(
            server, default_headers={"X-Team": "red", "User-Agent": "mine"}, default_query={"api-version": "v 1&x"}
        )
        server.reply(THREAD)
        server.reply({"data": [], "has_more": False})
        await session.threads.retrieve("thread_1")
        await session.runs.list("thread_1")
        first, second = server.requests
        assert (first.headers["x-team"], first.headers["user-agent"]) == ("red", "mine")
        assert first.target == "/v1/threads/thread_1?api-version=v%201%26x"
        assert second.target == "/v1/threads/thread_1/runs?limit=100&order=desc&api-version=v%201%26x"

    async def test_cookies_are_not_kept(self, server, open_session):
        """A server that sets one never sees it again."""
        session = await open_session(server)
        server.reply(THREAD, headers={"Set-Cookie": "a=b"}, times=2)
        await session.threads.retrieve("thread_1")
        await session.threads.retrieve("thread_1")
        assert "cookie" not in server.requests[1].headers

    async def test_max_connections_is_a_limit(self, server, open_session):
        """Further calls wait for a free connection, and all are answered."""
        session = await open_session(server, max_connections=2)
        server.reply(THREAD, times=20)
        await asyncio.gather(*(session.threads.retrieve("thread_1") for _ in range(20)))
        assert len(server.requests) == 20
        assert server.connections == 2

    async def test_trace_configs_of_a_session_of_the_callers(self):
        """They are taken when that is made; here they would be passed over without a word."""
        async with aiohttp.ClientSession() as http:
            with pytest.raises(ConfigurationError, match="trace_configs"):
                Session(KEY, BASE, http=http, trace_configs=[aiohttp.TraceConfig()])

    async def test_trace_configs_are_called(self, emulator, open_session):
        """The hooks see each request."""
        seen = []
        trace = aiohttp.TraceConfig()

        async def begun(_session, _context, params):
            seen.append((params.method, params.url.path))

        trace.on_request_start.append(begun)
        session = await open_session(emulator, trace_configs=[trace])
        await session.threads.create()
        assert seen == [("POST", "/v1/threads")]

    async def test_a_proxy_is_used_if_named(self, emulator, open_session):
        """It gets the full address and the key."""
        async with recording_proxy() as (proxy, seen):
            session = await open_session(emulator, proxy=proxy)
            thread = await session.threads.create()
            assert (await session.threads.retrieve(thread.id)).id == thread.id
        assert [(method, target) for method, target, _ in seen] == [
            ("POST", f"{emulator.base_url}/threads"),
            ("GET", f"{emulator.base_url}/threads/{thread.id}"),
        ]

    async def test_a_proxy_of_the_environment_is_not_used(self, emulator, open_session, monkeypatch):
        """The key goes nowhere but to the base URL."""
        async with recording_proxy() as (proxy, seen):
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
                monkeypatch.setenv(name, proxy)
            session = await open_session(emulator)
            await session.threads.create()
        assert seen == []

    async def test_ssl_context_is_for_an_authority_of_ones_own(self, open_session):
        """With it the server is trusted, without it not."""
        authority = trustme.CA()
        serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(serving)
        authority.configure_trust(trusting)

        async def serve(_request):
            return web.json_response(THREAD)

        runner = web.ServerRunner(web.Server(serve))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving).start()
        base_url = f"https://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            session = await open_session(Session(KEY, base_url, ssl_context=trusting))
            assert (await session.threads.retrieve("thread_1")).id == "thread_1"
            session = await open_session(Session(KEY, base_url))
            with pytest.raises(asyncruns.TLSError, match="no trusted connection") as caught:
                await session.threads.retrieve("thread_1")
            assert caught.value.attempts == 1
        finally:
            await runner.cleanup()


class Token:
    """A token that knows its end, as azure-identity gives."""

    def __init__(self, token, expires_on):
        self.token = token
        self.expires_on = expires_on


class Provider:
    """Gives one token after the other, and counts how often it was asked."""

    def __init__(self, *tokens):
        self.tokens = list(tokens)
        self.asked = 0

    async def __call__(self):
        """Give the next token; the last one again and again."""
        self.asked += 1
        await asyncio.sleep(0.01)
        return self.tokens[min(self.asked, len(self.tokens)) - 1]


class TestTokenProviders:
    """An async function that gives the key."""

    async def test_is_asked_once_for_many_callers(self, emulator, open_session):
        """And the token is kept."""
        provider = Provider(emulator.api_key)
        session = await open_session(emulator, api_key=provider)
        await asyncio.gather(*(session.threads.create() for _ in range(20)))
        await session.threads.create()
        assert provider.asked == 1

    async def test_is_asked_again_exactly_once_after_a_401(self, emulator, open_session, naps):
        """Many callers who are refused at once ask once, and none of them counts an attempt or waits."""
        provider = Provider("expired", emulator.api_key)
        session = await open_session(emulator, api_key=provider, retry=asyncruns.RetryPolicy(max_attempts=1))
        await asyncio.gather(*(session.threads.create() for _ in range(20)))
        assert provider.asked == 2
        assert naps == []

    async def test_a_token_that_stays_refused_is_an_error(self, emulator, open_session):
        """After the second refusal; a later call tries the provider once more."""
        provider = Provider("wrong")
        session = await open_session(emulator, api_key=provider)
        with pytest.raises(asyncruns.AuthenticationError):
            await session.threads.create()
        assert (provider.asked, emulator.request_count) == (2, 2)

    async def test_a_plain_key_that_is_refused_is_an_error_at_once(self, emulator, open_session):
        """There is nobody to ask."""
        session = await open_session(emulator, api_key="wrong")
        with pytest.raises(asyncruns.AuthenticationError) as caught:
            await session.threads.create()
        assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
        assert emulator.request_count == 1

    async def test_a_token_is_renewed_a_minute_before_its_end(self, emulator, open_session):
        """Not earlier; and after that the new one's end counts."""
        provider = Provider(*(Token(emulator.api_key, end) for end in (1000.0, 5000.0, 9000.0)))
        session = await open_session(emulator, api_key=provider)
        asked = []
        for now in (0.0, 939.0, 940.0, 941.0, 4939.0, 4940.0):
            session._transport.now = lambda now=now: now
            await asyncio.gather(session.threads.create(), session.threads.create())
            asked.append(provider.asked)
        assert asked == [1, 1, 2, 2, 2, 3]

    async def test_a_token_without_an_end_may_follow_one_with(self, emulator, open_session):
        """It is then kept until it is refused."""
        provider = Provider(Token(emulator.api_key, 1000.0), emulator.api_key)
        session = await open_session(emulator, api_key=provider)
        for now in (0.0, 2000.0, 9000.0):
            session._transport.now = lambda now=now: now
            await session.threads.create()
        assert provider.asked == 2

    @pytest.mark.parametrize("token", ["", "tok\nCANARY", None, 5, Token("tok CANARY", 1e12)])
    async def test_a_token_that_no_header_can_carry(self, emulator, open_session, token):
        """The error names the provider and no value; nothing is sent."""
        session = await open_session(emulator, api_key=Provider(token))
        with pytest.raises(ConfigurationError, match="the token provider's token must be") as caught:
            await session.threads.create()
        assert "CANARY" not in str(caught.value)
        assert emulator.request_count == 0

    @pytest.mark.parametrize("token", ["tok-CANARY", Token("tok-CANARY", 1e12), None])
    async def test_a_provider_that_is_no_coroutine_function(self, emulator, open_session, token):
        """The error says where to find one, and neither it nor what hangs on it holds the token."""
        session = await open_session(emulator, api_key=lambda: token)
        with pytest.raises(ConfigurationError, match=r"must be a coroutine function.*azure\.identity\.aio") as caught:
            await session.threads.create()
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        held = [frame.f_locals for frame, _ in walk_tb(caught.tb.tb_next)]
        assert "CANARY" not in f"{caught.value} {held!r}"
        assert emulator.request_count == 0

    async def test_an_error_of_the_provider_reaches_the_caller(self, emulator, open_session):
        """It is the caller's own code; and the next call asks again."""

        async def provide():
            raise LookupError("no identity")

        session = await open_session(emulator, api_key=provide)
        for _ in range(2):
            with pytest.raises(LookupError, match="no identity"):
                await session.threads.create()
        assert emulator.request_count == 0


class TestAzure:
    """The two servers of Azure's."""

    async def test_azure_openai_with_a_key(self, open_session):
        """The key in `api-key`, the path below `/openai`, the version in the query."""
        async with Emulator(prefix="/openai") as emulator:
            endpoint = emulator.base_url.removesuffix("/openai") + "/"
            session = Session.azure_openai(endpoint, api_version="2024-05-01-preview", api_key=emulator.api_key)
            thread = await (await open_session(session)).threads.create()
            assert (await session.runs.list(thread.id)).data == ()
            assert [target for _, target in emulator.requests] == [
                "/openai/threads?api-version=2024-05-01-preview",
                f"/openai/threads/{thread.id}/runs?limit=100&order=desc&api-version=2024-05-01-preview",
            ]

    async def test_azure_openai_sends_the_key_in_its_own_header(self, server, open_session, monkeypatch):
        """And no bearer, and nothing of OpenAI's environment."""
        monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
        monkeypatch.setenv("OPENAI_BASE_URL", "https://wrong.example")
        monkeypatch.setenv("OPENAI_API_KEY", "wrong")
        endpoint = server.base_url.removesuffix("/v1")
        session = await open_session(Session.azure_openai(endpoint, api_version="v", api_key=KEY))
        server.reply(THREAD)
        await session.threads.retrieve("thread_1")
        [request] = server.requests
        assert request.target == "/openai/threads/thread_1?api-version=v"
        assert request.headers["api-key"] == KEY
        assert "authorization" not in request.headers
        assert "openai-organization" not in request.headers

    async def test_azure_openai_with_a_token_provider(self, server, open_session):
        """As a bearer."""
        provider = Provider(Token("entra-token", 1e12))
        endpoint = server.base_url.removesuffix("/v1")
        session = await open_session(Session.azure_openai(endpoint, api_version="v", token_provider=provider))
        server.reply(THREAD)
        await session.threads.retrieve("thread_1")
        assert server.requests[0].headers["authorization"] == "Bearer entra-token"

    @pytest.mark.parametrize("keys", [{}, {"api_key": KEY, "token_provider": Provider("x")}])
    def test_azure_openai_takes_one_of_both(self, keys):
        """Neither none nor two."""
        with pytest.raises(ConfigurationError, match="either api_key or token_provider"):
            Session.azure_openai("https://x.openai.azure.com", api_version="v", **keys)

    @pytest.mark.parametrize("value", [None, "", 5])
    def test_an_endpoint_or_version_that_is_none(self, value, monkeypatch):
        """No other server takes the endpoint's place and is shown the token, neither OpenAI's nor the environment's."""
        monkeypatch.setenv("OPENAI_BASE_URL", BASE)
        provider = Provider("x")
        with pytest.raises(ConfigurationError, match="endpoint must be a string that is not empty"):
            Session.foundry(value, provider)
        with pytest.raises(ConfigurationError, match="endpoint must be a string that is not empty"):
            Session.azure_openai(value, api_version="v", token_provider=provider)
        with pytest.raises(ConfigurationError, match="api_version must be a string that is not empty"):
            Session.foundry(BASE, provider, api_version=value)
        with pytest.raises(ConfigurationError, match="api_version must be a string that is not empty"):
            Session.azure_openai(BASE, api_version=value, api_key=KEY)

    @pytest.mark.parametrize("provider", [None, "", KEY, 5])
    def test_a_token_provider_that_is_none(self, provider, monkeypatch):
        """The environment's key, which is another server's, does not take its place."""
        monkeypatch.setenv("OPENAI_API_KEY", "sk-CANARY-of-another")
        with pytest.raises(ConfigurationError, match="token_provider must be an async function") as caught:
            Session.foundry(BASE, provider)
        assert "CANARY" not in str(caught.value)

    def test_azure_openai_with_a_key_that_is_none(self):
        """A key of another type is told when the session is made."""
        with pytest.raises(ConfigurationError, match="api_key must be a string"):
            Session.azure_openai(BASE, api_version="v", api_key=5)

    async def test_foundry(self, open_session):
        """A bearer from the provider, the project's path, version v1, options as for any session."""
        async with Emulator(prefix="/api/projects/p") as emulator:
            provider = Provider(Token(emulator.api_key, 1e12))
            session = Session.foundry(emulator.base_url, provider, default_query={"trace": "1"}, timeout=5.0)
            await open_session(session)
            threads = [await session.threads.create() for _ in range(3)]
            listed = await session.threads.list(order="asc").collect()
            assert [thread.id for thread in listed] == [thread.id for thread in threads]
            assert emulator.requests[0][1] == "/api/projects/p/threads?api-version=v1&trace=1"
        assert provider.asked == 1

    async def test_a_session_made_for_azure_has_the_callers_class(self):
        """Also where that is a class of the caller's own."""

        class Mine(Session):
            pass

        assert type(Mine.foundry("https://x.example/api", Provider("x"))) is Mine
        assert re.match(
            r"Mine\(base_url='https://x\.example/api'\)", repr(Mine.foundry("https://x.example/api", Provider("x")))
        )

    def test_the_callers_query_is_not_changed(self):
        """Options are read and never written."""
        query = {"trace": "1"}
        Session.foundry("https://x.example/api", Provider("x"), default_query=query)
        assert query == {"trace": "1"}

"""The session that users hold: settings checked, resources composed over one transport."""

import os
import platform
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn, Self, TypedDict, Unpack
from urllib.parse import quote, urlencode

import aiohttp

from asyncruns._arguments import check_whole
from asyncruns._credentials import Credentials, TokenProvider
from asyncruns._messages import Messages
from asyncruns._pacing import RetryPolicy
from asyncruns._protocol import check_base_url, check_proxy, check_seconds
from asyncruns._rate_limit import RateLimit
from asyncruns._runs import Runs
from asyncruns._steps import Steps
from asyncruns._threads import Threads
from asyncruns._transport import Settings, Transport
from asyncruns._version import __version__
from asyncruns.errors import ConfigurationError

OPENAI_BASE_URL = "https://api.openai.com/v1"

_NO_KEY = (
    "No API key: pass api_key=, or set OPENAI_API_KEY, which is missing or empty. "
    "To try things without a server and key of your own, start the emulator: "
    "'async with asyncruns.emulator.Emulator() as emulator' gives emulator.base_url and emulator.api_key, "
    "and so does 'python -m asyncruns emulate'."
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_RESERVED = frozenset({"authorization", "api-key", "content-length", "content-type", "host", "transfer-encoding"})


class SessionOptions(TypedDict, total=False):
    """The keywords of `Session` that its other ways of making one take too; see there."""

    default_query: Mapping[str, str] | None
    default_headers: Mapping[str, str] | None
    timeout: float
    retry: RetryPolicy | None
    rate_limit: RateLimit | None
    max_connections: int
    max_response_bytes: int
    ssl_context: ssl.SSLContext | None
    proxy: str | None
    trace_configs: Sequence[aiohttp.TraceConfig]
    allow_insecure_http: bool
    check_identity: bool
    http: aiohttp.ClientSession | None


class Session:
    """What you hold to talk with one server of the protocol; enter it once, with `async with`.

    Settings are checked here, and environment variables read here, not at the first call. A session belongs to one
    event loop, may be used by any number of tasks, and is neither copied nor pickled.

    Args:
        api_key: The key, or an async function that gives a token (see `TokenProvider`). None: `OPENAI_API_KEY`.
        base_url: Where the API is, with its path. https, or http on a loopback address. None: `OPENAI_BASE_URL`, else
            OpenAI's own.
        organization: Sent as `OpenAI-Organization`. None: `OPENAI_ORG_ID`; empty: not sent.
        project: Sent as `OpenAI-Project`. None: `OPENAI_PROJECT_ID`; empty: not sent.
        default_query: Added to the query of every request, such as `{"api-version": "v1"}`.
        default_headers: Added to the headers of every request, in the place of ours of the same name.
        timeout: Seconds for one call with its retries, the waits between them and the body.
        retry: How often and how patiently a call is tried again. None: three attempts.
        rate_limit: Most requests a minute, shared by all calls. None: no limit but the server's.
        max_connections: Connections open at the same time; further calls wait for a free one.
        max_response_bytes: Decoded bytes of one answer that are read at most.
        ssl_context: For a certificate authority of your own. None: the system's, verified.
        proxy: URL of an HTTP proxy. Proxies of the environment are not used.
        trace_configs: aiohttp's hooks for tracing. (They see headers, and so the key.) Not together with `http`.
        allow_insecure_http: Allow plain http to other machines, which shows them the key.
        check_identity: Whether an answer about another run or thread than the one asked for is an error. False is for
            gateways that rewrite ids.
        http: Your own `aiohttp.ClientSession`. It is not closed with the session, and its connection limit,
            cookies and proxies are yours to set. What a server sends on one of its resting connections is taken for the
            answer to the next call; on connections of our own that is noticed.

    Attributes:
        runs: Runs (`Runs`).
        steps: Run steps (`Steps`).
        threads: Threads (`Threads`).
        messages: Messages (`Messages`).

    Raises:
        ConfigurationError: A setting is missing or wrong.
    """

    def __init__(
        self,
        api_key: str | TokenProvider | None = None,
        base_url: str | None = None,
        *,
        organization: str | None = None,
        project: str | None = None,
        default_query: Mapping[str, str] | None = None,
        default_headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
        rate_limit: RateLimit | None = None,
        max_connections: int = 100,
        max_response_bytes: int = 32 * 2**20,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        allow_insecure_http: bool = False,
        check_identity: bool = True,
        http: aiohttp.ClientSession | None = None,
    ) -> None:
        _check_kind("retry", retry, RetryPolicy)
        _check_kind("rate_limit", rate_limit, RateLimit)
        _check_kind("ssl_context", ssl_context, ssl.SSLContext)
        _check_kind("http", http, aiohttp.ClientSession)
        if http is not None and trace_configs:
            raise ConfigurationError("trace_configs cannot be added to an http session of yours: give them to that.")
        environ = os.environ
        source = api_key if api_key is not None else environ.get("OPENAI_API_KEY") or None
        if source is None:
            raise ConfigurationError(_NO_KEY)
        self._entered = False
        self._base_url = check_base_url(
            base_url or environ.get("OPENAI_BASE_URL") or OPENAI_BASE_URL,
            allow_insecure_http=allow_insecure_http,
        )
        settings = Settings(
            base_url=self._base_url,
            credentials=_credentials(source),
            headers=_headers(
                organization if organization is not None else environ.get("OPENAI_ORG_ID"),
                project if project is not None else environ.get("OPENAI_PROJECT_ID"),
                default_headers,
            ),
            query=_query(default_query),
            timeout=_setting(check_seconds, "timeout", timeout),
            retry=RetryPolicy() if retry is None else retry,
            rate_limit=rate_limit,
            max_connections=_setting(check_whole, "max_connections", max_connections),
            max_response_bytes=_setting(check_whole, "max_response_bytes", max_response_bytes),
            ssl_context=ssl_context,
            proxy=check_proxy(proxy),
            trace_configs=_traces(trace_configs),
            http=http,
        )
        self._transport = Transport(settings)
        self.runs = Runs(self._transport, check_identity=check_identity)
        self.steps = Steps(self._transport, check_identity=check_identity)
        self.threads = Threads(self._transport, check_identity=check_identity, create_run=self.runs.create)
        self.messages = Messages(self._transport, check_identity=check_identity)

    @classmethod
    def azure_openai(
        cls,
        endpoint: str,
        *,
        api_version: str,
        api_key: str | None = None,
        token_provider: TokenProvider | None = None,
        **options: Unpack[SessionOptions],
    ) -> Self:
        """Make a session for an Azure OpenAI resource.

        Args:
            endpoint: Such as `https://NAME.openai.azure.com`; `/openai` is added.
            api_version: Sent with every request as `api-version`.
            api_key: The resource's key. Either this or a token provider.
            token_provider: Gives a Microsoft Entra token; azure-identity's `get_bearer_token_provider` (aio) is one.
            **options: As for `Session`.

        Raises:
            ConfigurationError: As for `Session`, or not exactly one of key and token provider is given.
        """
        if (api_key is None) == (token_provider is None):
            raise ConfigurationError("Session.azure_openai takes either api_key or token_provider.")
        key = token_provider if api_key is None else Credentials(api_key, header="api-key", prefix="")
        return cls._azure(f"{_text('endpoint', endpoint).rstrip('/')}/openai", api_version, key, options)

    @classmethod
    def foundry(
        cls,
        endpoint: str,
        token_provider: TokenProvider,
        *,
        api_version: str = "v1",
        **options: Unpack[SessionOptions],
    ) -> Self:
        """Make a session for a project of Azure AI Foundry Agents (classic).

        Args:
            endpoint: Such as `https://NAME.services.ai.azure.com/api/projects/PROJECT`.
            token_provider: Gives a Microsoft Entra token for the scope `https://ai.azure.com/.default`.
            api_version: Sent with every request as `api-version`.
            **options: As for `Session`.

        Raises:
            ConfigurationError: As for `Session`.
        """
        return cls._azure(_text("endpoint", endpoint), api_version, token_provider, options)

    @classmethod
    def _azure(cls, base_url: str, api_version: str, key: Any, options: SessionOptions) -> Self:
        if not isinstance(key, Credentials) and not callable(key):
            raise ConfigurationError("token_provider must be an async function that gives a token.")
        version = {"api-version": _text("api_version", api_version)}
        options["default_query"] = {**version, **_mapping("default_query", options.get("default_query"))}
        return cls(key, base_url, organization="", project="", **options)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigurationError("A session is entered once: make a new Session for another 'async with'.")
        self._entered = True
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._transport.__aexit__(*exc_info)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A session is never pickled or copied: pass its settings on and make a new one there.")


def _credentials(source: Any) -> Credentials:
    return source if isinstance(source, Credentials) else Credentials(source)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name} must be a string that is not empty.")
    return value


def _headers(organization: str | None, project: str | None, default: Mapping[str, str] | None) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "OpenAI-Beta": "assistants=v2",
        "User-Agent": f"asyncruns/{__version__} aiohttp/{aiohttp.__version__} Python/{platform.python_version()}",
    }
    if organization:
        headers["OpenAI-Organization"] = organization
    if project:
        headers["OpenAI-Project"] = project
    ours = {name.lower(): name for name in headers}
    for name, value in _mapping("default_headers", default).items():
        headers[ours.get(str(name).lower(), name)] = value
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name) or name.lower() in _RESERVED:
            raise ConfigurationError(f"default_headers must not set {str(name)[:64]!r}.")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"The header {name} must be printable ASCII.")
    return headers


def _query(default: Mapping[str, str] | None) -> str:
    query = _mapping("default_query", default)
    try:
        return urlencode({str.encode(name): str.encode(value) for name, value in query.items()}, quote_via=quote)
    except (TypeError, ValueError):
        raise ConfigurationError("default_query must be a mapping of strings to strings.") from None


def _mapping(name: str, value: Mapping[str, str] | None) -> Mapping[str, str]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a mapping of strings to strings.")
    return value or {}


def _traces(configs: object) -> tuple[aiohttp.TraceConfig, ...]:
    given = tuple(configs) if isinstance(configs, Iterable) else (configs,)
    if not all(isinstance(config, aiohttp.TraceConfig) for config in given):
        raise ConfigurationError("trace_configs must be a list of aiohttp.TraceConfig.")
    return given


def _check_kind(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be of type {kind.__name__}, or None, and not {type(value).__name__}.")


def _setting(check: Any, name: str, value: object) -> Any:
    try:
        return check(name, value)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None

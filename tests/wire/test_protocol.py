"""The rules of the wire: which ids may stand in a URL, where requests may go, and what an answer means."""

from contextlib import suppress
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from asyncruns import (
    ActiveRunError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    IdentityMismatchError,
    InvalidIdError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    Run,
    SchemaError,
    ServerError,
    StatusError,
    UnexpectedContentError,
    UnexpectedRedirectError,
)
from asyncruns._protocol import (
    Answer,
    check_base_url,
    check_cursor,
    check_id,
    check_identity,
    judge,
    looks_like_json,
    request_id,
    run_path,
    with_query,
)

BASE = "https://api.example/v1"
JSON = {"content-type": "application/json"}
NO_IDS = [
    "",
    ".",
    "..",
    "a/b",
    "../assistants",
    "a\\b",
    "x?y=z",
    "x#frag",
    "x;y",
    "%2e%2e",
    "%2F",
    "run 1",
    "run\r\nX: y",
    "run\n",
    "run\x00",
    "\ud800",
    "rün",
    "\uff11\uff12",
    "-a",
    "_a",
    "{thread_id}",
    "a" * 257,
    "a" * 20_000,
    None,
    123,
    b"run_1",
    ["run_1"],
]


def judged(status, body=b"", headers=None, redact=str):
    """Judge an answer."""
    return judge(Answer(status=status, headers=JSON if headers is None else headers, body=body), now=0.0, redact=redact)


class TestIds:
    """`check_id` and the paths: nothing but an id gets into a path."""

    @pytest.mark.parametrize(
        "value", ["run_abc123", "a", "0", "6b01388779216085c7a580fb", "a.b-c~d_e", "a" * 256, "a.."]
    )
    def test_takes_ids(self, value):
        """Ids of all servers seen, with or without a prefix."""
        assert check_id("run_id", value) == value

    @pytest.mark.parametrize("value", NO_IDS)
    def test_refuses_what_is_no_id(self, value):
        """The error names the argument, and shows no more than the beginning of what was given."""
        with pytest.raises(InvalidIdError, match=r"^run_id must be an id") as caught:
            check_id("run_id", value)
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value)) < 220

    @pytest.mark.parametrize("place", ["first", "inside", "last"])
    def test_each_character(self, place):
        """Letters, digits, and between them `.`, `_`, `~` and `-`: nothing else, and no escape of anything else."""
        before, after = {"first": ("", "x"), "inside": ("x", "x"), "last": ("x", "")}[place]
        taken = set()
        for code in [*range(0x300), 0x0660, 0x202E, 0x2028, 0xD800, 0xFF0F, 0xFF21, 0x1D7CF]:
            with suppress(InvalidIdError):
                taken.add(check_id("run_id", before + chr(code) + after)[len(before)])
        assert taken == set(ascii_letters + digits + ("" if place == "first" else "._~-"))

    @given(st.text())
    def test_any_text_is_refused_or_stays_one_segment(self, text):
        """The law: either `InvalidIdError`, or a path of exactly the expected segments on the same host."""
        try:
            target = run_path("thread_1", text)
        except InvalidIdError:
            return
        self.assert_one_segment(target, text)

    @given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,255}", fullmatch=True))
    def test_every_id_stays_one_segment(self, text):
        """So for every text that is an id."""
        self.assert_one_segment(run_path("thread_1", text), text)

    def assert_one_segment(self, target, text):
        """Hold the URL made of *target* against what was meant."""
        url = URL(BASE + target, encoded=True)
        assert url.host == "api.example"
        assert url.raw_path.split("/") == ["", "v1", "threads", "thread_1", "runs", text]
        assert not url.raw_query_string
        assert not url.raw_fragment
        assert URL(BASE + target).raw_path == url.raw_path


class TestCursors:
    """`check_cursor`: a cursor goes into the query and may be any printable text."""

    @pytest.mark.parametrize("value", [None, "run_1", "a/b", "x?y=z", "ü", "a" * 512])
    def test_takes_what_can_be_sent(self, value):
        """Servers choose their ids; quoting makes them harmless in a query."""
        assert check_cursor("after", value) == value

    @pytest.mark.parametrize("value", ["", "a" * 513, "a\r\nb", "\x00", "\ud800", 5, b"run_1"])
    def test_refuses_the_rest(self, value):
        """Nothing unprintable, nothing endless, and no other type."""
        with pytest.raises(InvalidIdError, match=r"^after must be the id of an item"):
            check_cursor("after", value)

    @given(st.text(min_size=1, max_size=80).filter(str.isprintable))
    def test_arrives_as_it_was(self, cursor):
        """Whatever the cursor holds, it is one pair of the query when it arrives."""
        url = URL(BASE + with_query("/threads", [("limit", "5"), ("after", cursor)]), encoded=True)
        assert list(url.query.items()) == [("limit", "5"), ("after", cursor)]
        assert url.path == "/v1/threads"


def test_with_query_escapes_brackets():
    """`include[]` goes over the wire as the published client sends it."""
    pairs = [("include[]", "step_details.tool_calls[*].file_search.results[*].content")]
    assert (
        with_query("/x", pairs)
        == "/x?include%5B%5D=step_details.tool_calls%5B%2A%5D.file_search.results%5B%2A%5D.content"
    )
    assert with_query("/x", []) == "/x"


class TestBaseUrl:
    """`check_base_url`: where a key may go."""

    @pytest.mark.parametrize(
        ("given", "taken"),
        [
            ("https://api.openai.com/v1", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("https://gateway.example:8443/a/b", "https://gateway.example:8443/a/b"),
            ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
            ("http://127.8.9.1", "http://127.8.9.1"),
            ("http://localhost:1/v1", "http://localhost:1/v1"),
            ("http://[::1]:1/v1", "http://[::1]:1/v1"),
            (f"https://my_host.{'a' * 63}.example.", f"https://my_host.{'a' * 63}.example."),
        ],
    )
    def test_takes(self, given, taken):
        """With TLS anywhere, without on this machine."""
        assert check_base_url(given, allow_insecure_http=False) == taken

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            (None, "must be an address"),
            (5, "must be an address"),
            ("", "must be an address"),
            ("api.openai.com/v1", "must be an address"),
            ("/v1", "must be an address"),
            ("ftp://api.example/v1", "must be an address"),
            ("https://", "must be an address"),
            ("https://api.example:port/v1", "must be an address"),
            ("https://my..host/v1", "must be an address"),
            ("https://.host/v1", "must be an address"),
            (f"https://{'a' * 64}.example/v1", "must be an address"),
            ("https://user@api.example/v1", "no user or password"),
            ("https://:CANARY@api.example/v1", "no user or password"),
            ("https://api.example/v1?api-version=v1", "no query or fragment"),
            ("https://api.example/v1#x", "no query or fragment"),
            ("http://api.example/v1", "plain http to another machine"),
            ("http://localhost.example/v1", "plain http to another machine"),
            ("http://10.0.0.1/v1", "plain http to another machine"),
            ("http://[2001:db8::1]/v1", "plain http to another machine"),
        ],
    )
    def test_refuses(self, given, why):
        """What is no address, what holds more than an address, and http across a network; no value is shown."""
        with pytest.raises(ConfigurationError, match=why) as caught:
            check_base_url(given, allow_insecure_http=False)
        assert "CANARY" not in str(caught.value)

    def test_takes_plain_http_on_the_callers_word(self):
        """For a network of one's own."""
        assert check_base_url("http://10.0.0.1/v1", allow_insecure_http=True) == "http://10.0.0.1/v1"


class TestJudge:
    """`judge`: what an answer means."""

    @pytest.mark.parametrize("headers", [JSON, {"content-type": "application/problem+json; charset=utf-8"}])
    @pytest.mark.parametrize("body", [b"{}", b"[]", b" null "])
    def test_json_is_usable(self, headers, body):
        """A 2xx with JSON is handed on; what it holds is not judged here."""
        assert judged(200, body, headers) is None

    @pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain"}])
    def test_an_object_under_another_content_type_is_usable(self, headers):
        """Some proxies send JSON as text."""
        answer = Answer(status=200, headers=headers, body=b' {"id": "x"}')
        assert judge(answer, now=0.0, redact=str) is None
        assert not looks_like_json(answer)

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"1"])
    def test_only_an_object_is(self, body):
        """Of other text nobody can tell whether it was meant as JSON."""
        assert type(judged(200, body, {"content-type": "text/plain"})) is UnexpectedContentError

    @pytest.mark.parametrize("body", [b"", b" \r\n"])
    def test_an_empty_body_is_no_object(self, body):
        """Also with status 204."""
        error = judged(204, body)
        assert type(error) is SchemaError
        assert (error.path, error.message) == ("$", "The server answered 204 without a body.")

    def test_html_is_unexpected(self):
        """A login page of a proxy is no answer; its beginning is shown, escaped, and without the key."""
        body = b"<html>\x1b[2J sk-CANARY " + b"x" * 5000
        error = judged(200, body, {"content-type": "text/html"}, lambda text: text.replace("sk-CANARY", "[redacted]"))
        assert type(error) is UnexpectedContentError
        assert (error.status, error.content_type) == (200, "text/html")
        assert error.preview.startswith("<html>\\x1b[2J [redacted] xxx")
        assert len(error.preview) <= 200
        assert "CANARY" not in str(error)

    @pytest.mark.parametrize(
        ("location", "host"),
        [
            ("https://evil.example/v1?key=CANARY", "evil.example"),
            ("/v2/threads", None),
            ("", None),
            ("http://[::1", None),
        ],
    )
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
    def test_a_redirect_is_told_and_not_followed(self, status, location, host):
        """Only the host is shown: a query may hold a secret."""
        error = judged(status, b"", {"location": location})
        assert type(error) is UnexpectedRedirectError
        assert (error.status, error.location_host) == (status, host)
        assert "CANARY" not in str(error)

    @pytest.mark.parametrize(
        ("status", "cls"),
        [
            (400, BadRequestError),
            (401, AuthenticationError),
            (402, StatusError),
            (403, PermissionDeniedError),
            (404, NotFoundError),
            (405, StatusError),
            (409, ConflictError),
            (418, StatusError),
            (422, BadRequestError),
            (429, RateLimitError),
            (499, StatusError),
            (500, ServerError),
            (502, ServerError),
            (599, ServerError),
            (102, StatusError),
        ],
    )
    def test_status_chooses_the_class(self, status, cls):
        """One map for all methods."""
        error = judged(status, b'{"error": {"message": "no", "code": "c", "type": "t", "param": "p"}}')
        assert type(error) is cls
        assert (error.status, error.message, error.code, error.type, error.param) == (status, "no", "c", "t", "p")

    @pytest.mark.parametrize(
        ("body", "message", "code"),
        [
            (b'{"error": {"message": "no", "code": "bad"}}', "no", "bad"),
            (b'{"error": {"message": "no", "code": 7, "type": null}}', "no", "7"),
            (b'{"error": {"message": "no", "code": {"a": 1}}}', "no", None),
            (b'{"error": {"code": "bad"}}', "{'code': 'bad'}", "bad"),
            (b'{"error": "no"}', "no", None),
            (b'{"error": null}', "HTTP status 400", None),
            (b'{"detail": "no"}', "no", None),
            (b'{"detail": [{"loc": ["query"], "msg": "no"}]}', "[{'loc': ['query'], 'msg': 'no'}]", None),
            (b'{"message": "no", "code": "InvalidApiKey"}', "no", "InvalidApiKey"),
            (b'{"code": "bad"}', "{'code': 'bad'}", "bad"),
            (b'["no"]', "['no']", None),
            (b'"no"', "no", None),
            (b"null", "HTTP status 400", None),
            (b"no", "no", None),
            (b" no \n", "no", None),
            (b"<html>no</html>", "<html>no</html>", None),
            (b"n\xffo", "n�o", None),
            (b"", "HTTP status 400", None),
            (b"  ", "HTTP status 400", None),
            (b"\xef\xbb\xbf" + b'{"error": {"message": "no"}}', "no", None),
            (b"[" * 100_000, None, None),
        ],
    )
    def test_reads_every_shape_of_error_body(self, body, message, code):
        """The published one, FastAPI's `detail`, a bare text, HTML, nothing at all."""
        error = judged(400, body)
        assert type(error) is BadRequestError
        assert error.code == code
        assert error.message == message if message is not None else len(error.message) == 4000

    @pytest.mark.parametrize(
        ("text", "run_id"),
        [
            ("Thread thread_x already has an active run run_y.", "run_y"),
            ("Thread thread_x already has an active run run_y", "run_y"),
            ("Can't add messages to thread_x while a run run_y is active.", "run_y"),
            ("Thread thread_x already has an active run.", None),
            ("Thread thread_x already has an active run that has to end first.", None),
            ("There is an active run in-progress on this thread", None),
            ("Thread 1 already has an active run run-y7.", "run-y7"),
            ("Thread 1 already has an active run 6b01388779216085c7a580fb.", "6b01388779216085c7a580fb"),
        ],
    )
    def test_an_active_run_is_named(self, text, run_id):
        """Both published texts, which carry no code."""
        error = judged(400, b'{"error": {"message": "%s", "code": null}}' % text.encode())
        assert type(error) is ActiveRunError
        assert (error.run_id, error.status, error.code) == (run_id, 400, None)

    @pytest.mark.parametrize("text", ["No active runs.", "The run is active no more", "a run that is active"])
    def test_other_texts_about_runs_are_no_active_run(self, text):
        """What only sounds like it stays a bad request."""
        assert type(judged(400, text.encode())) is BadRequestError

    def test_an_active_run_is_told_by_status_400_alone(self):
        """Under another status the words mean something else."""
        assert type(judged(500, b"already has an active run run_y")) is ServerError

    def test_the_key_is_taken_out_of_everything(self):
        """A server that echoes the key finds no way into an error."""
        body = b'{"error": {"message": "key KEY bad", "code": "KEY", "type": "KEY", "param": "KEY"}}'
        error = judged(401, body, redact=lambda text: text.replace("KEY", "*"))
        assert (error.message, error.code, error.type, error.param) == ("key * bad", "*", "*", "*")

    def test_headers_give_request_id_and_wait(self):
        """What a support case and a patient caller need."""
        error = judged(429, b"slow", {"x-request-id": "req_1", "retry-after": "7"})
        assert (error.request_id, error.retry_after) == ("req_1", 7.0)

    @given(status=st.integers(100, 599), body=st.binary(max_size=200))
    def test_any_answer_is_judged(self, status, body):
        """Nothing that comes back raises here, and every status of 300 and above is an error."""
        error = judged(status, body)
        assert status < 300 or error is not None


@pytest.mark.parametrize("name", ["x-request-id", "apim-request-id", "x-ms-request-id", "request-id"])
def test_request_id_is_read_from_any_servers_header(name):
    """OpenAI's, Azure's, and the plain one."""
    assert request_id({name: "req_1"}) == "req_1"


def test_request_id_may_be_missing():
    """Many servers name none."""
    assert request_id({}) is None


class TestIdentity:
    """`check_identity`: the answer is about what was asked for."""

    run = Run(id="run_1", thread_id="thread_1", status="queued")

    def test_takes_what_was_asked_for(self):
        """Equal, or not to be checked."""
        check_identity(self.run, {"id": "run_1", "thread_id": None})

    def test_refuses_another(self):
        """Both ids are told."""
        with pytest.raises(IdentityMismatchError, match=r"another thread_id") as caught:
            check_identity(self.run, {"id": "run_1", "thread_id": "thread_2"})
        assert (caught.value.expected, caught.value.got) == ("thread_2", "thread_1")

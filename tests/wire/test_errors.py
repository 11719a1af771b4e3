"""The errors: one family that travels, and shows nothing it should not."""

import copy
import inspect
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncruns import errors
from asyncruns.errors import AsyncRunsError, escape_server_text, parse_try_again
from asyncruns.models import LastError, Run

RUN = Run(
    id="run_1",
    thread_id="thread_1",
    status="failed",
    last_error=LastError(code="rate_limit_exceeded", message="Rate limit is exceeded. Try again in 60 seconds."),
)
STATUS = {
    "status": 429,
    "code": "slow_down",
    "type": "requests",
    "param": "limit",
    "request_id": "req_1",
    "retry_after": 2.5,
    "retry_quota_exhausted": True,
}
TRANSPORT = {"attempts": 3, "request_id": "req_1", "retry_quota_exhausted": True}
BIDI_CONTROLS = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
LISTING = {"cursor": "run_9", "partial_count": 200}

TREE = """
AsyncRunsError
  ConfigurationError
  InvalidIdError
  TransportError
    ConnectError
    TLSError
    ConnectionLost
    TruncatedBodyError
    DeadlineExceeded
  StatusError
    BadRequestError
      ActiveRunError
    AuthenticationError
    PermissionDeniedError
    NotFoundError
    ConflictError
    RateLimitError
    ServerError
  ProtocolError
    UnexpectedContentError
    ResponseTooLargeError
    DecodeError
    SchemaError
    IdentityMismatchError
    UnexpectedRedirectError
    _ListingError
      PaginationLoopError
      PaginationStalledError
      CursorLostError
  StreamInterrupted
  StreamServerError
  RunCreationUnknown
  RunNotCompleted
    RunFailed
    RunExpired
    RunCancelled
    RunIncomplete
  WaitTimeout
  ArchiveError
    ArchiveLocked
    ArchiveCorrupt
"""

ATTRIBUTES = {
    errors.TransportError: TRANSPORT,
    errors.StatusError: STATUS,
    errors.ActiveRunError: {**STATUS, "run_id": "run_7"},
    errors.UnexpectedContentError: {"status": 200, "content_type": "text/html", "preview": "<html>"},
    errors.ResponseTooLargeError: {"limit": 1024},
    errors.SchemaError: {"path": "$.data[3].id"},
    errors.IdentityMismatchError: {"expected": "run_1", "got": "run_2"},
    errors.UnexpectedRedirectError: {"status": 307, "location_host": "elsewhere.example"},
    errors.PaginationLoopError: LISTING,
    errors.PaginationStalledError: LISTING,
    errors.CursorLostError: LISTING,
    errors.StreamInterrupted: {"run_id": "run_1", "last_event": "thread.run.queued", "reason": "idle"},
    errors.StreamServerError: {"code": "server_error", "run_id": "run_1"},
    errors.RunCreationUnknown: {"thread_id": "thread_1", "request_key": "job-7", "request_id": "req_1"},
    errors.WaitTimeout: {"run": RUN},
}


def family(root: type = AsyncRunsError) -> list[type[AsyncRunsError]]:
    """List *root* and all classes below it that belong to the errors module."""
    below = [cls for child in root.__subclasses__() for cls in family(child)]
    return [cls for cls in [root, *below] if cls.__module__ == errors.__name__]


def attributes_of(cls: type) -> dict[str, object]:
    """Find the attributes to make *cls* with: its own, or its nearest parent's."""
    return next((ATTRIBUTES[parent] for parent in cls.__mro__ if parent in ATTRIBUTES), {})


def make(cls: type) -> AsyncRunsError:
    """Make an error with every attribute set."""
    if issubclass(cls, errors.RunNotCompleted):
        return cls(RUN)
    return cls("It broke.", **attributes_of(cls))


def draw(cls: type, depth: int = 0) -> str:
    """Draw the family below *cls*, indented as in `TREE`."""
    below = [draw(child, depth + 1) for child in cls.__subclasses__() if child in family()]
    return "".join(["  " * depth + cls.__name__ + "\n", *below])


def test_family_is_the_one_in_the_design():
    """Each class stands where users expect to catch it."""
    assert draw(AsyncRunsError) == TREE.lstrip()


def test_every_exception_of_the_module_belongs_to_the_family():
    """One root catches everything."""
    classes = inspect.getmembers(errors, inspect.isclass)
    assert {cls for _, cls in classes if issubclass(cls, BaseException)} == set(family())


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.InvalidIdError, ValueError),
        (errors.DeadlineExceeded, TimeoutError),
        (errors.WaitTimeout, TimeoutError),
    ],
)
def test_some_are_builtin_errors_too(cls, builtin):
    """Code that knows only Python's own errors catches these by them."""
    assert isinstance(make(cls), builtin)


@pytest.mark.parametrize("cls", family())
class TestEveryError:
    """What holds for all errors alike."""

    def test_holds_what_it_was_made_with(self, cls):
        """Every keyword becomes an attribute."""
        error = make(cls)
        for name, value in attributes_of(cls).items():
            assert getattr(error, name) == value

    def test_keywords_of_the_samples_are_all_there_are(self, cls):
        """The tests here leave out no keyword of a class that has its own `__init__`."""
        if cls in ATTRIBUTES:
            keywords = inspect.signature(cls).parameters.values()
            named = {one.name for one in keywords if one.kind is one.KEYWORD_ONLY}
            assert named <= set(ATTRIBUTES[cls])

    def test_survives_pickle_and_copy(self, cls):
        """All attributes, the text and later notes cross process borders; the cause stays behind."""
        error = make(cls)
        error.add_note("while exporting")
        error.__cause__ = OSError("reset")
        pickled = [
            pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
        ]
        for other in [*pickled, copy.copy(error), copy.deepcopy(error)]:
            assert type(other) is cls
            assert vars(other) == vars(error)
            assert other.args == error.args
            assert str(other) == str(error)
            assert other.__notes__ == ["while exporting"]
            assert other.__cause__ is None

    def test_copy_can_be_changed_alone(self, cls):
        """A copy shares no state with its original."""
        error = make(cls)
        other = copy.copy(error)
        other.message = "Another."
        assert error.message != "Another."

    def test_shows_control_characters_escaped(self, cls):
        """Neither `str` nor `repr` lets text from a server move the cursor or fake a line."""
        error = make(cls)
        error.message = "\x1b]0;title\x07\r\nFAKE \u202e\u2066\x9b"
        for shown in (str(error), repr(error)):
            assert not set(shown) & set("\x1b\x07\r\n\u202e\u2066\x9b")
        assert "\\x1b]0;title\\x07\\x0d\\x0aFAKE \\u202e\\u2066\\x9b" in str(error)

    def test_shows_at_most_500_characters(self, cls):
        """A whole web page as a message does not flood a log."""
        error = make(cls)
        error.message = "\x00" * 100_000
        assert len(str(error)) == 500
        assert str(error).endswith("…")

    def test_is_documented(self, cls):
        """The docstring says when it arises, and names each attribute."""
        assert cls.__doc__
        for name in ATTRIBUTES.get(cls, {}):
            assert f"{name}:" in "".join(parent.__doc__ or "" for parent in family() if issubclass(cls, parent))


def test_message_is_as_the_server_sent_it():
    """Only what is shown is escaped; programs read the true text."""
    assert errors.StatusError("a\x1bb", status=400).message == "a\x1bb"


def test_status_error_shows_status_code_and_request():
    """What a support ticket needs stands in one line, before a text that may be cut."""
    error = errors.RateLimitError("Slow down.", status=429, code="rate_limit_exceeded", request_id="req_1")
    assert str(error) == "HTTP 429 rate_limit_exceeded (request req_1): Slow down."
    assert str(errors.NotFoundError("No thread.", status=404)) == "HTTP 404: No thread."


@pytest.mark.parametrize(
    ("code", "is_final"),
    [
        (None, False),
        ("rate_limit_exceeded", False),
        ("insufficient_quota", True),
        ("billing_hard_limit_reached", True),
    ],
)
def test_rate_limit_error_says_whether_waiting_helps(code, is_final):
    """A quota that is used up comes with the status of a limit that passes; the code tells them apart."""
    assert errors.RateLimitError("Slow down.", status=429, code=code).is_final is is_final


def test_status_error_defaults():
    """What the server did not say is None."""
    error = errors.ServerError("Oops.", status=503)
    assert (error.code, error.type, error.param, error.request_id, error.retry_after) == (None,) * 5
    assert error.retry_quota_exhausted is False


def test_active_run_error_names_the_run():
    """The run in the way can be awaited or cancelled by its id."""
    error = errors.ActiveRunError("Thread thread_1 already has an active run run_7.", status=400, run_id="run_7")
    assert error.run_id == "run_7"
    assert isinstance(error, errors.BadRequestError)


def test_schema_error_shows_the_path():
    """The message begins with the place."""
    assert str(errors.SchemaError("a string is missing", path="$.status")) == "$.status: a string is missing"


def test_identity_mismatch_shows_both_ids():
    """The reader sees what was asked and what came."""
    error = errors.IdentityMismatchError("Another run.", expected="run_1", got="run_2")
    assert str(error) == "Another run. Expected run_1, got run_2."


def test_unexpected_content_shows_the_beginning_escaped_and_capped():
    """A login page is recognised by its first 200 characters, which are safe in the attribute already."""
    error = errors.UnexpectedContentError("Not JSON.", status=200, preview="<html>\x1b" + "x" * 300)
    assert error.preview.startswith("<html>\\x1bxxx")
    assert len(error.preview) == 200
    assert str(error) == f"Not JSON. It begins: {error.preview}"
    assert str(errors.UnexpectedContentError("Not JSON.")) == "Not JSON."


def test_stream_server_error_shows_the_code_if_there_is_one():
    """The code comes first."""
    assert str(errors.StreamServerError("Sorry.", code="server_error")) == "server_error: Sorry."
    assert str(errors.StreamServerError("Sorry.")) == "Sorry."


def test_run_not_completed_reads_when_to_try_again():
    """A rate limit hidden in a failed run tells how long to wait."""
    error = errors.run_error(RUN)
    assert type(error) is errors.RunFailed
    assert error.retry_after == 60.0
    assert str(error) == (
        "Run run_1 of thread thread_1 ended as failed: rate_limit_exceeded: "
        "Rate limit is exceeded. Try again in 60 seconds."
    )


@pytest.mark.parametrize("last_error", [None, LastError(), LastError(message="No.")])
def test_run_not_completed_without_a_hint(last_error):
    """No hint, no number."""
    error = errors.RunExpired(Run(id="run_1", thread_id="thread_1", status="expired", last_error=last_error))
    assert error.last_error is last_error
    assert error.retry_after is None


def test_run_not_completed_takes_a_text_of_its_own():
    """Who knows more can say more."""
    assert str(errors.RunCancelled(RUN, "Cancelled by the operator.")) == "Cancelled by the operator."


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit is exceeded. Try again in 60 seconds.", 60.0),
        ("Please try again in 20s. Visit the page.", 20.0),
        ("please TRY AGAIN IN 1.5 S", 1.5),
        ("Try again in 120ms.", 0.12),
        ("Try again in 3 milliseconds", 0.003),
        ("Try again in 6m0s.", 360.0),
        ("Try again in 1h2m3.5s", 3723.5),
        ("Try again in 1 minute 5 seconds.", 65.0),
        ("Try again in 2 hours", 7200.0),
        ("Try again in 1 day", 86400.0),
        ("Try again in 5 messages", None),
        ("Try again in a minute", None),
        ("Try again in 99999999999999999999 seconds", None),
        ("Try again later. 60 seconds.", None),
        ("", None),
    ],
)
def test_parse_try_again(text, seconds):
    """Seconds, whatever unit the server writes; None rather than a guess."""
    assert parse_try_again(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.text())
def test_parse_try_again_takes_any_text(text):
    """No text of a server makes it fail or gives a negative wait."""
    for each in (text, f"try again in {text}", f"try again in 1{text}s"):
        seconds = parse_try_again(each)
        assert seconds is None or 0 <= seconds < float("inf")


@given(st.text(st.characters()), st.integers(1, 600))
def test_escaped_text_is_safe_and_short(text, limit):
    """No control character, line separator or surrogate is left, and the text stays short."""
    shown = escape_server_text(text, limit)
    assert len(shown) <= limit
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in shown)
    assert not any(unicodedata.bidirectional(char) in BIDI_CONTROLS for char in shown)
    assert shown.encode("utf-8").decode("utf-8") == shown


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, 0x2028, 0x2029])
def test_each_unsafe_character_is_escaped(code):
    """The controls one by one, also those hypothesis may miss."""
    escaped = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    assert escape_server_text(f"a{chr(code)}b") == f"a{escaped}b"


@pytest.mark.parametrize("code", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF])
def test_each_bidi_control_and_surrogate_is_escaped(code):
    """Nothing can turn the order of the text around, or keep it from being encoded."""
    assert escape_server_text(f"a{chr(code)}b") == f"a\\u{code:04x}b"


def test_escaping_leaves_ordinary_text_alone():
    """Other scripts, emoji and backslashes pass as they are."""
    text = "Überlauf 実行 🎉 C:\\x {}"
    assert escape_server_text(text) == text


def test_escaping_cuts_only_what_is_too_long():
    """Exactly the limit passes whole; one more ends in an ellipsis."""
    assert escape_server_text("a" * 500) == "a" * 500
    assert escape_server_text("a" * 501) == "a" * 499 + "…"
    assert escape_server_text("abc", limit=1) == "…"

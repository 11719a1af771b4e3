"""When to try again, and after how long: pure functions and one small counter.

What may be sent twice is decided here and nowhere else. Clock and chance are passed in.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import attrs

from asyncruns._arguments import is_number, is_whole
from asyncruns.errors import NO_HELP_IN_WAITING, AsyncRunsError, ConfigurationError

MAX_RETRY_AFTER = 366 * 86_400.0
"""Seconds; a server that asks for more than a year is not believed."""

_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_NEVER_BEGUN = frozenset({429})


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and how patiently a call is tried again.

    Attributes:
        max_attempts: Tries in all, counted from 1; 1 means no retry.
        initial_backoff: Seconds; upper end of the random wait before the second try. It doubles with each try.
        max_backoff: Seconds; the wait never exceeds this, unless the server names a longer one.
        repeat_ambiguous: Also send again what may already have been carried out (a create answered with a 5xx,
            say). The server may then hold two runs. Off unless you ask for it.
    """

    max_attempts: int = 3
    initial_backoff: float = 0.5
    max_backoff: float = 20.0
    repeat_ambiguous: bool = False

    def __attrs_post_init__(self) -> None:
        if not is_whole(self.max_attempts, 1):
            raise ConfigurationError("retry.max_attempts must be a whole number from 1 on.")
        for name in ("initial_backoff", "max_backoff"):
            if not is_number(getattr(self, name)):
                raise ConfigurationError(f"retry.{name} must be a number of seconds from 0 on.")


class RetryQuota:
    """A session's allowance of retries, so that an outage is not amplified.

    Every retry takes five tokens of fifty, every call that succeeds gives one back and returns what its own
    retries took. With the quota empty a failing call raises at once. (The rule of the AWS SDKs' standard mode.)
    """

    __slots__ = ("_tokens",)

    CAPACITY = 50
    COST = 5

    def __init__(self) -> None:
        self._tokens = self.CAPACITY

    @property
    def tokens(self) -> int:
        """What is left, from 0 to `CAPACITY`."""
        return self._tokens

    def take(self) -> bool:
        """Take the cost of one retry; False when too little is left."""
        if self._tokens < self.COST:
            return False
        self._tokens -= self.COST
        return True

    def give_back(self, retries: int) -> None:
        """Refund a call that succeeded after *retries* retries."""
        self._tokens = min(self.CAPACITY, self._tokens + 1 + retries * self.COST)


@attrs.frozen(kw_only=True)
class Failure:
    """One failed attempt, in the terms that decide about the next.

    Attributes:
        error: What is raised if this attempt was the last.
        began: Whether the server may have begun to carry the request out.
        transient: Whether the same request may succeed later.
        at_once: Whether the next try need not wait: a kept-alive connection that was closed under the request.
        retry_after: Seconds that the server asked to wait, or None.
        max_attempts: A limit of this failure's own, below the policy's.
    """

    error: AsyncRunsError
    began: bool
    transient: bool
    at_once: bool = False
    retry_after: float | None = None
    max_attempts: int | None = None


def judge_status(status: int, code: str | None, headers: Mapping[str, str]) -> tuple[bool, bool]:
    """Say of an error status whether the server may have begun the request, and whether to try again helps.

    `x-should-retry: true` or `false`, which some servers send, overrides the second answer. A refusal that comes with
    the wish to be asked again proves nothing about the first, unless it is a 429.
    """
    transient = status in _TRANSIENT and code not in NO_HELP_IN_WAITING
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish in ("true", "false"):
        transient = wish == "true"
    began = status >= 500 or status == 408 or (wish == "true" and status not in _NEVER_BEGUN)
    return began, transient


def backoff(attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> float:
    """Return the wait in seconds after failed attempt number *attempt*, counted from 1: full jitter.

    The wait is evenly spread between 0 and the cap, which starts at `initial_backoff` and doubles each time up to
    `max_backoff`.
    """
    cap = min(policy.max_backoff, policy.initial_backoff * 2.0 ** min(attempt - 1, 60))
    return random() * cap


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read how long the server asks to wait, in seconds from 0 to `MAX_RETRY_AFTER`; None when it does not say.

    `retry-after-ms` comes first, then `Retry-After` as seconds or as an HTTP date (RFC 9110, section 10.2.3). A date is
    measured against the answer's own `Date`, so that a wrong clock on either side does no harm; *now* (Unix seconds)
    serves where there is none. Anything unreadable counts as not said; nothing is raised.
    """
    millis = _plain_number(headers.get("retry-after-ms", ""))
    if millis is not None:
        return _within_reason(millis / 1000)
    value = headers.get("retry-after", "")
    seconds = _plain_number(value)
    if seconds is not None:
        return _within_reason(seconds)
    moment = _http_date(value)
    if moment is None:
        return None
    sent = _http_date(headers.get("date", ""))
    return _within_reason(max(0.0, moment - (now if sent is None else sent)))


def next_wait(
    failure: Failure,
    *,
    attempt: int,
    repeatable: bool,
    policy: RetryPolicy,
    remaining: float,
    random: Callable[[], float],
) -> float | None:
    """Return the seconds to wait before the next attempt, or None when the failure is final.

    Args:
        failure: How attempt number *attempt* (counted from 1) ended.
        attempt: Which one it was.
        repeatable: Whether carrying the request out twice is the same as once (a read, say).
        policy: The session's settings.
        remaining: Seconds until the call's deadline. A wait that does not fit is not begun.
        random: Gives a number from 0 up to 1.
    """
    if not failure.transient or attempt >= min(policy.max_attempts, failure.max_attempts or policy.max_attempts):
        return None
    if failure.began and not (repeatable or policy.repeat_ambiguous):
        return None
    if failure.retry_after is not None:
        wait = failure.retry_after + 0.2 * random()
    elif failure.at_once and attempt == 1:
        wait = 0.0
    else:
        wait = backoff(attempt, policy, random)
    return wait if wait < remaining else None


def poll_interval(previous: float, headers: Mapping[str, str], random: Callable[[], float]) -> float:
    """Return the seconds until the next read of a run that is still moving.

    The server's `openai-poll-after-ms` is followed, within 0.05 to 60 seconds. Without it the interval grows by a
    half from *previous*, up to 10 seconds, with a random tenth added so that many waits spread out.
    """
    asked = _plain_number(headers.get("openai-poll-after-ms", ""))
    if asked is not None:
        return min(60.0, max(0.05, asked / 1000))
    return min(10.0, previous * 1.5) * (1 + 0.1 * random())


def _plain_number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _SECONDS.fullmatch(text) else None


def _within_reason(seconds: float) -> float | None:
    return seconds if seconds <= MAX_RETRY_AFTER else None


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None

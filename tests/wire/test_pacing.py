"""Retries are decided by pure functions: every rule of them as a table or a law."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from asyncruns import AsyncRunsError, ConfigurationError, RetryPolicy
from asyncruns._pacing import (
    MAX_RETRY_AFTER,
    Failure,
    RetryQuota,
    backoff,
    judge_status,
    next_wait,
    parse_retry_after,
    poll_interval,
)

NOW = 1_800_000_000.0
HEADER_NAMES = st.sampled_from(["retry-after", "retry-after-ms", "date"])


def failure(**changes):
    """Make a failure that may be tried again, but for *changes*."""
    return Failure(**{"error": AsyncRunsError("x"), "began": False, "transient": True, **changes})


def wait_after(failed, *, attempt=1, repeatable=True, policy=None, remaining=1000.0, random=0.5):
    """Return what `next_wait` says, with settings that allow a retry."""
    return next_wait(
        failed,
        attempt=attempt,
        repeatable=repeatable,
        policy=policy or RetryPolicy(),
        remaining=remaining,
        random=lambda: random,
    )


class TestRetryPolicy:
    """`RetryPolicy`: what it takes."""

    def test_defaults_are_the_documented_ones(self):
        """Three attempts, half a second doubling up to twenty, nothing ambiguous repeated."""
        assert RetryPolicy() == RetryPolicy(
            max_attempts=3, initial_backoff=0.5, max_backoff=20.0, repeat_ambiguous=False
        )

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None, math.inf])
    def test_refuses_attempts_that_are_no_count(self, value):
        """A count of attempts is a whole number from 1 on."""
        with pytest.raises(ConfigurationError, match="max_attempts"):
            RetryPolicy(max_attempts=value)

    @pytest.mark.parametrize("name", ["initial_backoff", "max_backoff"])
    @pytest.mark.parametrize("value", [-0.1, math.inf, math.nan, 10**400, True, "1", None])
    def test_refuses_backoff_that_is_no_duration(self, name, value):
        """A backoff is a finite number of seconds from 0 on."""
        with pytest.raises(ConfigurationError, match=name):
            RetryPolicy(**{name: value})


class TestRetryQuota:
    """`RetryQuota`: the session's allowance."""

    def test_is_spent_after_ten_retries(self):
        """Fifty tokens, five for each retry, and then none."""
        quota = RetryQuota()
        assert [quota.take() for _ in range(11)] == [True] * 10 + [False]
        assert quota.tokens == 0

    def test_success_returns_what_its_retries_took_and_one_more(self):
        """A call that succeeds after two retries pays for neither."""
        quota = RetryQuota()
        for _ in range(10):
            quota.take()
        quota.give_back(2)
        assert quota.tokens == 11

    @given(st.lists(st.one_of(st.none(), st.integers(0, 5))))
    def test_tokens_stay_within_bounds(self, calls):
        """Whatever happens, the quota is never below 0 nor above its capacity."""
        quota = RetryQuota()
        for call in calls:
            if call is None:
                quota.take()
            else:
                quota.give_back(call)
            assert 0 <= quota.tokens <= RetryQuota.CAPACITY


@pytest.mark.parametrize(
    ("status", "code", "wish", "began", "transient"),
    [
        (400, None, None, False, False),
        (401, None, None, False, False),
        (404, None, None, False, False),
        (409, None, None, False, False),
        (422, None, None, False, False),
        (408, None, None, True, True),
        (429, None, None, False, True),
        (429, "rate_limit_exceeded", None, False, True),
        (429, "insufficient_quota", None, False, False),
        (429, "billing_hard_limit_reached", None, False, False),
        (500, None, None, True, True),
        (501, None, None, True, False),
        (502, None, None, True, True),
        (503, None, None, True, True),
        (504, None, None, True, True),
        (409, None, " TRUE ", True, True),
        (409, None, "false", False, False),
        (429, "insufficient_quota", "true", False, True),
        (500, None, "false", True, False),
        (429, None, "perhaps", False, True),
    ],
)
def test_judge_status(status, code, wish, began, transient):
    """What a status says about the request, and `x-should-retry`, which has the last word on trying again."""
    assert judge_status(status, code, {"x-should-retry": wish} if wish else {}) == (began, transient)


@given(attempt=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_backoff_stays_between_zero_and_its_cap(attempt, random):
    """Full jitter: from 0 to a cap that doubles and never exceeds the largest backoff."""
    policy = RetryPolicy(initial_backoff=0.5, max_backoff=20.0)
    wait = backoff(attempt, policy, lambda: random)
    assert 0.0 <= wait <= min(20.0, 0.5 * 2.0 ** min(attempt - 1, 100))


def test_backoff_doubles_with_each_attempt():
    """The upper ends of the waits."""
    caps = [backoff(attempt, RetryPolicy(), lambda: 1.0) for attempt in range(1, 9)]
    assert caps == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


class TestParseRetryAfter:
    """`parse_retry_after`: any header, no exception."""

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({}, None),
            ({"retry-after": "1"}, 1.0),
            ({"retry-after": " 2.5 "}, 2.5),
            ({"retry-after": "0"}, 0.0),
            ({"retry-after": "86400"}, 86400.0),
            ({"retry-after-ms": "300"}, 0.3),
            ({"retry-after-ms": "300", "retry-after": "9"}, 0.3),
            ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
            ({"retry-after": "31622400"}, 31_622_400.0),
            ({"retry-after": "31622401"}, None),
            ({"retry-after": "999999999999"}, None),
            *(
                ({"retry-after": text}, None)
                for text in ("-5", "nan", "inf", "soon", "1e400", "", "\u0661", "1_0", "+1")
            ),
            ({"retry-after": "Fri, 31 Dec 100000 23:59:59 GMT"}, None),
            ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, None),
        ],
    )
    def test_reads(self, headers, seconds):
        """Seconds or milliseconds; anything unreadable or beyond a year counts as not said."""
        assert parse_retry_after(headers, NOW) == seconds

    @pytest.mark.parametrize(
        ("date", "seconds"),
        [
            ("Fri, 15 Jan 2027 09:00:00 GMT", 2.0),
            ("Fri, 15 Jan 2027 09:00:10 GMT", 0.0),
            ("Fri, 15 Jan 2027 09:00:00 -0000", 2.0),
        ],
    )
    def test_measures_a_date_against_the_answers_own(self, date, seconds):
        """A wrong clock on either side does no harm, and a moment that has passed is no wait."""
        headers = {"retry-after": "Fri, 15 Jan 2027 09:00:02 GMT", "date": date}
        assert parse_retry_after(headers, NOW) == seconds

    def test_measures_a_date_against_the_own_clock_if_there_is_no_other(self):
        """An answer without `Date` is measured against *now*."""
        assert parse_retry_after({"retry-after": "Fri, 15 Jan 2027 08:00:07 GMT"}, NOW) == 7.0

    @given(st.dictionaries(HEADER_NAMES, st.text()), st.floats(0, 4e9))
    def test_takes_any_text(self, headers, now):
        """Whatever stands in the headers, the answer is None or within bounds, and nothing is raised."""
        seconds = parse_retry_after(headers, now)
        assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER

    @given(
        st.dictionaries(
            HEADER_NAMES, st.from_regex(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{1,6} \d\d:\d\d:\d\d [A-Z+-]\w+")
        )
    )
    def test_takes_anything_like_a_date(self, headers):
        """So for texts that nearly are dates."""
        seconds = parse_retry_after(headers, NOW)
        assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER


class TestNextWait:
    """`next_wait`: the one place that decides."""

    def test_waits_a_part_of_the_backoff(self):
        """The ordinary case."""
        assert wait_after(failure()) == 0.25
        assert wait_after(failure(), attempt=2) == 0.5

    def test_gives_up_after_the_last_attempt(self):
        """Three attempts are three."""
        assert wait_after(failure(), attempt=3) is None

    def test_obeys_a_failures_own_limit(self):
        """Some failures are worth one more try and no second."""
        assert wait_after(failure(max_attempts=2), attempt=1) is not None
        assert wait_after(failure(max_attempts=2), attempt=2) is None

    def test_does_not_repeat_what_no_repeating_helps(self):
        """A refusal stays a refusal."""
        assert wait_after(failure(transient=False)) is None

    @pytest.mark.parametrize(
        ("began", "repeatable", "repeat_ambiguous", "again"),
        [
            (False, False, False, True),
            (True, False, False, False),
            (True, True, False, True),
            (True, False, True, True),
        ],
    )
    def test_sends_what_may_have_begun_only_if_that_does_no_harm(self, began, repeatable, repeat_ambiguous, again):
        """A create that the server may have carried out is sent again only on the caller's own word."""
        policy = RetryPolicy(repeat_ambiguous=repeat_ambiguous)
        wait = wait_after(failure(began=began), repeatable=repeatable, policy=policy)
        assert (wait is not None) is again

    def test_waits_as_long_as_the_server_asks_and_a_little(self):
        """Up to a fifth of a second is added, so that not all come back at once."""
        assert wait_after(failure(retry_after=7.0)) == 7.1

    def test_a_replay_on_a_kept_connection_does_not_wait(self):
        """Only the first time: after that something else is wrong."""
        assert wait_after(failure(at_once=True)) == 0.0
        assert wait_after(failure(at_once=True), attempt=2) == 0.5

    @pytest.mark.parametrize(("remaining", "again"), [(7.05, False), (7.1, False), (7.11, True)])
    def test_begins_no_wait_that_does_not_fit(self, remaining, again):
        """The deadline is never slept away."""
        assert (wait_after(failure(retry_after=7.0), remaining=remaining) is not None) is again

    @given(
        attempt=st.integers(1, 10),
        retry_after=st.none() | st.floats(0, MAX_RETRY_AFTER),
        at_once=st.booleans(),
        transient=st.booleans(),
        remaining=st.floats(-10, 100),
        random=st.floats(0, 1, exclude_max=True),
    )
    def test_never_repeats_an_ambiguous_create(self, attempt, retry_after, at_once, transient, remaining, random):
        """No combination of what a server says makes a create run twice."""
        failed = failure(began=True, transient=transient, retry_after=retry_after, at_once=at_once)
        assert wait_after(failed, attempt=attempt, repeatable=False, remaining=remaining, random=random) is None

    @given(remaining=st.floats(-10, 100), retry_after=st.none() | st.floats(0, 200), random=st.floats(0, 0.99))
    def test_a_wait_fits_into_the_deadline(self, remaining, retry_after, random):
        """Whatever is returned is shorter than what remains and not negative."""
        wait = wait_after(failure(retry_after=retry_after), remaining=remaining, random=random)
        assume(wait is not None)
        assert 0.0 <= wait < remaining


class TestPollInterval:
    """`poll_interval`: when a run is read again."""

    @pytest.mark.parametrize(
        ("header", "seconds"), [("1500", 1.5), ("1", 0.05), ("0", 0.05), ("99999999", 60.0), ("60000", 60.0)]
    )
    def test_follows_the_server_within_reason(self, header, seconds):
        """Never more often than twenty times a second, nor more seldom than once a minute."""
        assert poll_interval(3.0, {"openai-poll-after-ms": header}, lambda: 0.5) == seconds

    @pytest.mark.parametrize("headers", [{}, {"openai-poll-after-ms": "soon"}, {"openai-poll-after-ms": "-1"}])
    def test_grows_by_half_up_to_ten_seconds(self, headers):
        """Without a word of the server it grows, with a random tenth on top."""
        assert poll_interval(1.0, headers, lambda: 0.0) == 1.5
        assert poll_interval(1.0, headers, lambda: 1.0) == pytest.approx(1.65)
        assert poll_interval(9.0, headers, lambda: 0.0) == 10.0

    @given(st.floats(0.01, 100), st.text(), st.floats(0, 1))
    def test_stays_within_bounds(self, previous, header, random):
        """Any header, any interval before: between zero and a minute."""
        assert 0.0 < poll_interval(previous, {"openai-poll-after-ms": header}, lambda: random) <= 60.0

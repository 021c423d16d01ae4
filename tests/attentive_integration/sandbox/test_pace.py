"""The vendor's limits: calls in any sliding second, per token and endpoint class."""

import time

import pytest

from attentive_integration.sandbox.pace import LIMITS, endpoint_class

ADA = "+17705550101"


def subscribe_times(ask, company, count):
    body = {"user": {"email": "ada@example.com"}, "signUpSourceId": "1"}
    return [ask("POST", "/v1/subscriptions", body, token=f"app-{company}") for _ in range(count)]


def test_the_eleventh_subscribe_of_a_second_is_refused_and_not_accepted(sandbox, company, ask):
    answers = subscribe_times(ask, company, 12)
    assert [answer.status for answer in answers] == [202] * 10 + [429] * 2
    assert answers[0].headers["x-ratelimit-limit"] == "10"
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers[:2]] == ["9", "8"]
    assert answers[-1].headers["x-ratelimit-remaining"] == "0"
    assert len([line for line in sandbox.ledger("SUBSCRIBE") if line["company"] == company]) == 10
    # Another token, and another class of the same token, have windows of their own.
    assert subscribe_times(ask, f"{company}-other", 1)[0].status == 202
    assert ask("GET", "/v1/me", token=f"app-{company}").headers["x-ratelimit-limit"] == "150"
    time.sleep(1.05)
    assert subscribe_times(ask, company, 1)[0].status == 202


def test_the_window_slides(company, ask):
    started = time.monotonic()
    subscribe_times(ask, company, 5)
    time.sleep(max(0.0, 0.6 - (time.monotonic() - started)))
    subscribe_times(ask, company, 5)
    time.sleep(max(0.0, 1.1 - (time.monotonic() - started)))
    # The first five are out of the window, the later five are still in it.
    statuses = [answer.status for answer in subscribe_times(ask, company, 6)]
    assert statuses == [202] * 5 + [429]


def test_limits_can_be_changed_and_switched_off(sandbox, company, ask):
    try:
        sandbox.set(limits={"SUBSCRIBE": 2})
        assert [answer.status for answer in subscribe_times(ask, company, 3)] == [202, 202, 429]
        sandbox.set(limits={"SUBSCRIBE": None})
        answers = subscribe_times(ask, company, 20)
        assert {answer.status for answer in answers} == {202}
        assert "x-ratelimit-limit" not in answers[0].headers
    finally:
        sandbox.set(limits=LIMITS)
    with pytest.raises(ValueError, match="limit"):
        sandbox.set(limits={"SUBSCRIBE": "ten"})
    with pytest.raises(ValueError, match="Settings are"):
        sandbox.set(limits={"NOTHING": 1})


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/v1/subscriptions", "SUBSCRIBE"),
        ("GET", "/v1/subscriptions", "DEFAULT"),
        ("POST", "/v1/subscriptions/unsubscribe", "UNSUBSCRIBE"),
        ("POST", "/v1/subscriptions/messages", "DEFAULT"),
        ("POST", "/1/messages", "DEFAULT"),
        ("POST", "/v2/bulk/segments/members", "SEGMENTS"),
    ],
)
def test_endpoints_fall_into_classes(method, path, name):
    assert endpoint_class(method, path) == name

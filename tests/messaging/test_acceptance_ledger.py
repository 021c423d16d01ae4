"""The comparison with a ledger of what Attentive accepted finds what was doubled, lost, or never owned up to."""

import json
from pathlib import Path
from typing import Any

import pytest

from attentive_integration.phones import masked
from loyalty import audit, consent
from messaging.acceptance_ledger import compare
from messaging.models import Message
from tests.factories import make_site, make_user
from tests.messaging.sound_rows import attempt, edit, sound_message

pytestmark = pytest.mark.django_db


def line(message: Message, **fields: Any) -> str:
    return json.dumps({"kind": "MESSAGE", "to": message.to, "body": message.body, **fields})


def compared(tmp_path: Path, *lines: str) -> tuple[int, int, dict[str, dict[str, int]]]:
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(f"{text}\n" for text in lines))
    result = compare(path)
    return result.texts, result.unread, {key: names for key, names in result.violations.items() if names}


def test_a_ledger_that_agrees(tmp_path: Path) -> None:
    accepted, unknown, sending = sound_message(), sound_message("UNKNOWN"), sound_message("SENDING")
    sound_message("UNKNOWN")
    sound_message("QUEUED")
    lines = [
        line(accepted),
        line(unknown, to=unknown.to.removeprefix("+1"), phone=unknown.to),
        json.dumps({"path": "/1/messages", "status": 200, "body": {"to": sending.to, "body": sending.body}}),
        json.dumps({"kind": "SUBSCRIBE", "phone": accepted.to, "body": "none"}),
        json.dumps({"to": accepted.to, "body": accepted.body, "status": 429}),
        "",
        '{"kind": "MESSAGE", "to": "+1770',
    ]
    assert compared(tmp_path, *lines) == (3, 1, {})
    assert compared(tmp_path, line(accepted, body=f"Harbor Goods: {accepted.body}"), *lines[1:]) == (3, 1, {})


def test_a_text_accepted_twice_for_one_attempt(tmp_path: Path) -> None:
    message = sound_message()
    expected = {"I2": {"texts accepted more often than attempts allow": 2}}
    assert compared(tmp_path, *[line(message)] * 3) == (3, 0, expected)
    attempt(message, 2, outcome="ACCEPTED", resent_by=make_user(message.site))
    attempt(message, 3, outcome="UNKNOWN", resent_by=make_user(message.site))
    assert compared(tmp_path, *[line(message)] * 3) == (3, 0, {})


def test_a_test_text_of_an_activation_is_no_message(tmp_path: Path) -> None:
    message = sound_message()
    test_text = json.dumps({"kind": "MESSAGE", "to": message.to, "body": "Test from Loyalty SMS"})
    assert compared(tmp_path, line(message), test_text)[2] == {"I4": {"accepted texts of which no message says so": 1}}
    audit.record("site.test_text", site=message.site, target=masked(message.to), new={"body": "Test from Loyalty SMS"})
    assert compared(tmp_path, line(message), test_text) == (1, 0, {})


def test_an_accepted_message_without_a_line(tmp_path: Path) -> None:
    sound_message()
    sound_message(reason="RESOLVED_AS_SENT")
    event = sound_message(body="")
    edit(event.campaign, route="EVENT")
    assert compared(tmp_path) == (0, 0, {"I1": {"accepted messages without a line in the ledger": 1}})


@pytest.mark.parametrize("state", ["REFUSED", "QUEUED", "SKIPPED"])
def test_an_accepted_text_that_no_message_owns_up_to(tmp_path: Path, state: str) -> None:
    message = sound_message(state)
    found = compared(tmp_path, line(message))[2]
    assert found["I4"] == {"accepted texts of which no message says so": 1}
    assert compared(tmp_path, line(message, body="Another text"))[2]["I4"] == found["I4"]


def test_tests_to_guests_and_erased_people_are_no_breach(tmp_path: Path) -> None:
    site = make_site(guest_phones=["+17705550101"])
    consent.erase(make_site(), "+17705550102")
    consent.erase(site, "+17705550102")
    lines = [json.dumps({"to": f"+1770555010{number}", "body": "Test"}) for number in (1, 2, 3)]
    assert compared(tmp_path, *lines)[2] == {"I4": {"accepted texts of which no message says so": 1}}

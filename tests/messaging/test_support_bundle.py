"""The support bundle tells the facts, and neither the phone nor the text."""

import pytest

from messaging.models import SendAttempt
from messaging.support_bundle import support_bundle, without_phone
from tests.factories import make_member, make_message, make_site

pytestmark = pytest.mark.django_db


def test_it_holds_the_facts_and_no_phone() -> None:
    message = make_message(make_member(make_site(), phone="+17705550142"), body="Secret treat", state="UNKNOWN")
    attempt = SendAttempt.objects.create(
        message=message, number=1, fence=1, outcome="UNKNOWN", cause="READ_TIMEOUT", duration_ms=15_000,
        answer='{"to": "+17705550142", "mail": "ada@example.com"}',
    )  # fmt: skip
    bundle = support_bundle(message, [attempt], "1.2.3")
    known = (f"#{message.pk}", message.site.site_id, message.action.activity_id)
    for fact in (*known, "READ_TIMEOUT", "15000 ms", "1.2.3"):
        assert fact in bundle
    for secret in ("7705550142", "ada@example.com", "Secret treat"):
        assert secret not in bundle


@pytest.mark.parametrize("spelling", ["+17705550142", "17705550142", "7705550142", "(770) 555-0142", "770.555.0142"])
def test_a_phone_is_shortened_in_every_spelling(spelling: str) -> None:
    shown = without_phone(f"no {spelling}!", "+17705550142")
    assert shown == "no +1 ••• ••• 0142!"

"""What a run says at its end: how many messages stand where, and what is left."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from messaging import tick
from tests.factories import make_action, make_campaign, make_member, make_message, make_site

pytestmark = pytest.mark.django_db


def test_messages_are_counted_by_state_over_all_sites() -> None:
    for _ in range(2):
        member = make_member(make_site())
        campaign = make_campaign(member.site)
        for state in ("ACCEPTED", "ACCEPTED", "HELD", "QUEUED"):
            make_message(member, campaign, state=state)
        make_action(member)
        lease = timezone.now() + timedelta(minutes=1)
        make_message(member, campaign, state="SENDING", lease_until=lease)
    counts = tick.counts()
    assert {state: count for state, count in counts.items() if count} == {
        "ACCEPTED": 4, "HELD": 2, "QUEUED": 2, "SENDING": 2,
        # New actions (each message has one behind it), what is due, and what is under way.
        "left": 12 + 2 + 2,
    }  # fmt: skip


def test_states_with_many_messages_are_estimated_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "_COUNTED", 20)
    member = make_member(make_site())
    campaign = make_campaign(member.site)
    action = {"processed_at": timezone.now(), "outcome": "MATCHED"}
    for number in range(43):
        state = "REFUSED" if number < 3 else "ACCEPTED"
        make_message(member, campaign, action=make_action(member, **action), state=state)
    out = StringIO()
    call_command("run_campaigns", "--json", stdout=out)
    found = json.loads(out.getvalue().splitlines()[-1])
    # All of so few messages are in the sample, so the estimate is right.
    assert (found["ACCEPTED"], found["REFUSED"], found["left"]) == (40, 3, 0)
    monkeypatch.setattr("loyalty.capped_counts.SAMPLE", 30)
    out = StringIO()
    call_command("run_campaigns", "--json", stdout=out)
    found = json.loads(out.getvalue().splitlines()[-1])
    assert found["estimated"] == ["ACCEPTED"] and 25 <= found["ACCEPTED"] <= 43 and found["REFUSED"] == 3
    out = StringIO()
    call_command("run_campaigns", stdout=out)
    assert "≈" in out.getvalue()

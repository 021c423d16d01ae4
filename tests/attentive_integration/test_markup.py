"""The pieces of pages: what they say, and that they escape what comes from outside."""

from datetime import timedelta

from django.utils import timezone

from attentive_integration import markup
from attentive_integration.markup import STATE_LOOKS, Series, bar_chart
from loyalty.models import Consent, ExportJob, Segment, Site
from messaging.models import Campaign, Message, SendAttempt, WebhookEvent


def test_every_state_of_the_product_has_a_look() -> None:
    choices = (
        Site.State, Consent.State, ExportJob.State, Segment.Status, Campaign.State, Message.State,
        SendAttempt.Outcome, WebhookEvent.State,
    )  # fmt: skip
    assert [state for kind in choices for state in kind.values if state not in STATE_LOOKS] == []


def test_a_state_is_told_by_icon_and_word() -> None:
    pill = markup.state_pill("HELD", "Held")
    assert "pill-warn" in pill and "#pause" in pill and "Held" in pill
    assert "Brand new" in markup.state_pill("BRAND_NEW")


def test_what_comes_from_outside_is_escaped() -> None:
    assert "&lt;b&gt;" in markup.pill("<b>")
    assert "&quot;" in markup.icon("check", label='"')
    assert "<script>" not in markup.check_marks([("PASSED", "<script>")])


def test_phones_and_addresses_are_masked_unless_the_reader_may_see_them() -> None:
    assert markup.phone_text("+17705550101", whole=True) == "+1 770-555-0101"
    assert markup.phone_text("+17705550101", whole=False) == "+1 ••• ••• 0101"
    assert markup.email_text("ada@example.com", whole=False) == "a•••@example.com"
    assert markup.email_text("", whole=False) == ""


def test_times_say_how_long_ago_and_exactly_when() -> None:
    moment = timezone.now() - timedelta(hours=3)
    shown = markup.ago(moment)
    assert "3" in shown and moment.isoformat(timespec="seconds") in shown and "UTC" in shown
    assert markup.ago(None) == "–"
    assert markup.number(1_000_000) == "1,000,000"


def test_bars_stack_to_their_values_and_stay_in_the_picture() -> None:
    rows = [("Mon", {"good": 10, "bad": 5}), ("Tue", {"good": 0}), ("Wed", {"good": 20, "bad": 20})]
    chart = bar_chart("Texts", rows, [Series("good", "Good", "good"), Series("bad", "Bad", "bad")])
    assert chart.total == 55
    assert len(chart.bars) == 4
    assert all(bar["y"] >= 0 and bar["y"] + bar["height"] <= chart.height for bar in chart.bars)
    good, bad = chart.bars[2], chart.bars[3]
    assert round(good["y"] - bad["height"], 1) == bad["y"]
    assert [rule["text"] for rule in chart.rules] == ["0", "10", "20", "30", "40"]
    assert chart.table[1] == ("Tue", [0, 0])
    assert bar_chart("Nothing", [], [Series("good", "Good")]).bars == []

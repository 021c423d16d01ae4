"""The audit trail's events have words, and every one that the sources record does."""

import re

from attentive_integration.event_words import WORDS, event_words
from tests.installation import ROOT


def test_events_are_put_in_words() -> None:
    assert event_words("site.go_live") == "Site: went live"
    assert event_words("coffee.made_strong") == "Coffee: made strong"


def test_every_event_of_the_sources_has_words() -> None:
    subjects = {event.split(".")[0] for event in WORDS}
    pattern = re.compile(rf"""["']((?:{"|".join(subjects)})\.[a-z_]+)["']""")
    found = {
        event
        for room in ("attentive_integration", "loyalty", "messaging")
        for path in (ROOT / room).rglob("*.py")
        for event in pattern.findall(path.read_text())
    }
    assert found - set(WORDS) == {"members.csv"}, "the last one is the name of a file"

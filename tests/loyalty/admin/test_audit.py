"""The audit trail's page: its filter, its search, and whose entries it shows."""

import pytest

from loyalty import audit
from tests.factories import make_site, make_user

from .pages import browser, text_of

pytestmark = pytest.mark.django_db
LIST = "/admin/loyalty/auditentry/"


def test_entries_are_found_by_event_person_and_the_beginning_of_a_target() -> None:
    site, other = make_site(), make_site()
    ada = make_user(site)
    audit.record("site.paused", site=site, user=ada, target="Harbor")
    audit.record("token.set", site=site, actor="create_site", target="ATTENTIVE_APP ····1234")
    audit.record("token.set", site=other, actor="create_site", target="ATTENTIVE_APP ····5678")
    assert audit.events() == ["site.paused", "token.set"]
    client = browser(ada)
    for query, found, left_out in (
        ("?event=token.set", "····1234", "Harbor"),
        (f"?q={ada.username}", "Harbor", "····1234"),
        ("?q=site.paused", "Harbor", "····1234"),
        ("?q=ATTENTIVE", "····1234", "Harbor"),
    ):
        text = text_of(client.get(LIST + query))
        assert found in text and left_out not in text and "····5678" not in text, query


def test_a_trail_without_entries_has_no_events() -> None:
    assert audit.events() == []

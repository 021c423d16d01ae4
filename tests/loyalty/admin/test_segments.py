from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import capped_counts, consent, segments
from loyalty.models import AccessToken, AuditEntry, Consent, Member, Segment, Site, SiteMembership
from tests.factories import make_action, make_member, make_site, make_token, make_user

from .pages import MOST_QUERIES, browser, queries_of, text_of

pytestmark = pytest.mark.django_db

LIST = "/admin/loyalty/segment/"
Role = SiteMembership.Role


def add_page(site: Site) -> str:
    return f"{LIST}add/?site={site.site_id}"


def count_page(site: Site) -> str:
    return f"{LIST}count/?site={site.site_id}"


def page(segment: Segment) -> str:
    return reverse("admin:loyalty_segment_change", args=[segment.pk])


def act(segment: Segment, action: str) -> str:
    return reverse("admin:loyalty_segment_action", args=[segment.pk, action])


def form(*groups: dict[str, Any], name: str = "Gold", **more: Any) -> dict[str, Any]:
    data = {"name": name, "data_type": "Current Data", "status": "ACTIVE", "groups": str(max(len(groups), 1))}
    for number, rules in enumerate(groups):
        data |= {f"group{number}-{rule}": value for rule, value in rules.items()}
    return {**data, **more}


def subscribed(member: Member) -> Member:
    consent.hear(member.site, channel="TEXT", address=member.phone, state=Consent.State.SUBSCRIBED, source="WEBHOOK",
                 event_at=timezone.now())  # fmt: skip
    return member


@pytest.fixture
def site() -> Site:
    site = make_site(client_name="Harbor Goods")
    subscribed(make_member(site, tier="Gold", points=500, first_name="Rich"))
    make_member(site, tier="Gold", points=20, first_name="Modest")
    make_member(site, tier="Silver", points=900, first_name="Silver")
    return site


@pytest.fixture
def client(site: Site) -> Client:
    return browser(make_user(site))


def test_a_segment_is_built_from_groups_of_rules(site: Site, client: Client) -> None:
    rules = ({"tier": ["Gold"], "points_min": "100"}, {"tier": ["Silver"], "reachable": "no"})
    answer = client.post(add_page(site), form(*rules, name="Best"), follow=True)
    assert "The segment “Best” is saved" in text_of(answer)
    segment = Segment.objects.get()
    assert segment.rules == {"any": [{"tier": ["Gold"], "points_min": 100}, {"tier": ["Silver"], "reachable": False}]}
    assert AuditEntry.objects.get(event="segment.created").new == {"rules": segment.rules}
    html = client.get(page(segment)).content.decode()
    assert 'name="group1-tier"' in html and 'value="100"' in html
    client.post(page(segment), form({"points_max": "50"}, name="Best"))
    segment.refresh_from_db()
    assert segment.rules == {"points_max": 50}


def test_dates_choices_and_actions_go_there_and_back(site: Site, client: Client) -> None:
    make_action(Member.objects.first())
    rules = {
        "joined_from": "2026-01-02",
        "last_action_to": "2026-03-04",
        "opt_in_status": "YES",
        "action_types": ["109"],
    }
    client.post(add_page(site), form(rules))
    segment = Segment.objects.get()
    assert segment.rules == {**rules, "opt_in_status": ["YES"]}
    html = client.get(page(segment)).content.decode()
    assert 'value="2026-01-02"' in html and 'value="2026-03-04"' in html and "Purchase (109)" in html
    client.post(page(segment), form(rules))
    segment.refresh_from_db()
    assert segment.rules == {**rules, "opt_in_status": ["YES"]}


def test_groups_are_added_and_removed_without_a_script(site: Site, client: Client) -> None:
    added = client.post(add_page(site), form({"points_min": "7"}, add="1")).content.decode()
    assert 'name="group1-points_min"' in added and 'value="7"' in added
    removed = client.post(add_page(site), form({"points_min": "7"}, {"points_min": "8"}, remove="0")).content.decode()
    assert 'name="group1-points_min"' not in removed and 'value="8"' in removed and 'value="7"' not in removed
    assert not Segment.objects.exists()


def test_counts_are_exact_and_live(site: Site, client: Client) -> None:
    make_member(make_site(), tier="Gold", points=900)
    live = client.post(count_page(site), form({"tier": ["Gold"]}))
    text = text_of(live)
    assert "Members 2 Reachable by text 1" in text and "Rich" in text and "Silver" not in text
    assert "<html" not in live.content.decode()
    with_button = text_of(client.post(add_page(site), form({"tier": ["Gold"]}, update="1")))
    assert "Members 2 Reachable by text 1" in with_button
    assert not Segment.objects.exists()


def test_the_rule_that_removes_everybody_is_named(site: Site, client: Client) -> None:
    text = text_of(client.post(count_page(site), form({"tier": ["Gold"], "points_min": "5000"})))
    assert "Members 0" in text and "No member meets “Points from: 5000”" in text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (form({"points_min": "9", "points_max": "3"}), "lies below “Points from”"),
        (form({"points_min": "many"}), "Enter a whole number"),
        (form({"tier": ["Platinum"]}), "Select a valid choice"),
        (form({}, name=" "), "This field is required"),
        (form({}, from_date="2026-02-01", to_date="2026-01-01"), "The end lies before the beginning"),
    ],
)
def test_what_cannot_be_saved_says_why(site: Site, client: Client, data: dict[str, Any], sentence: str) -> None:
    answer = client.post(add_page(site), data)
    assert answer.status_code == 200 and sentence in text_of(answer)
    assert not Segment.objects.exists()


def test_a_name_is_unique_on_its_site(site: Site, client: Client) -> None:
    Segment.objects.create(site=make_site(), name="Gold")
    client.post(add_page(site), form({}))
    assert Segment.objects.filter(site=site).count() == 1
    assert "has a segment of this name already" in text_of(client.post(add_page(site), form({})))


def test_a_frozen_segment_keeps_its_members_and_rules(site: Site, client: Client) -> None:
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    client.get(act(segment, "freeze"))
    segment.refresh_from_db()
    assert not segment.is_frozen, "the question freezes nothing"
    assert "is frozen with 2 members" in text_of(client.post(act(segment, "freeze"), follow=True))
    make_member(site, tier="Gold")
    assert "Members 2" in text_of(client.post(count_page(site), form({}, frozen=str(segment.pk))))
    shown = text_of(client.get(page(segment)))
    assert "A frozen list" in shown and "Tier is one of Gold" in shown and "another group" not in shown
    client.post(page(segment), form({"points_min": "1"}, name="Gold 2026"))
    segment.refresh_from_db()
    assert (segment.name, segment.rules) == ("Gold 2026", {"tier": ["Gold"]})


@pytest.mark.parametrize(
    ("action", "words"),
    [("annex", "has no Annex Cloud loyalty token yet"), ("attentive", "has no Attentive app key yet")],
)
def test_pushing_without_a_token_says_what_to_do(site: Site, client: Client, action: str, words: str) -> None:
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    client.get(act(segment, action))
    assert not AuditEntry.objects.exists(), "the question pushes nothing"
    assert words in text_of(client.post(act(segment, action), follow=True))


def test_a_push_reaches_the_vendors_once_it_is_confirmed(site: Site, client: Client, sandbox: SandboxProcess) -> None:
    sandbox.configure_company(
        "harbor", site_id=site.site_id, app_key="app-key-for-tests-3", loyalty_token="loyalty-token-for-tests"
    )
    make_token(site, AccessToken.Kind.ATTENTIVE_APP, "app-key-for-tests-3")
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    text = text_of(client.post(act(segment, "attentive"), follow=True))
    assert "1 members were handed to Attentive" in text
    assert "were handed to Attentive" in text_of(client.get(page(segment)))


def test_tenants_and_roles(site: Site) -> None:
    other = make_site()
    theirs = Segment.objects.create(site=other, name="Theirs")
    mine = Segment.objects.create(site=site, name="Mine", rules={"tier": ["Gold"]})
    client = browser(make_user(site, role=Role.ADMIN))
    assert "Theirs" not in text_of(client.get(LIST))
    assert client.get(page(theirs)).status_code == 404
    assert client.post(page(theirs), form({})).status_code == 404
    assert client.post(act(theirs, "freeze")).status_code == 404
    assert client.post(count_page(other), form({})).status_code == 404
    assert client.post(count_page(site), form({}, frozen=str(theirs.pk))).status_code == 404
    assert client.get(add_page(other)).status_code == 404
    support = browser(make_user(site, role=Role.SUPPORT))
    shown = text_of(support.get(page(mine)))
    assert "Gold" in shown and "Save" not in shown
    assert support.post(page(mine), form({})).status_code == 403
    assert support.get(add_page(site)).status_code == 403
    assert support.post(act(mine, "freeze")).status_code == 403
    assert support.post(reverse("admin:loyalty_segment_delete", args=[mine.pk]), {"post": "yes"}).status_code == 403


def test_phones_in_the_samples_are_masked(site: Site, client: Client) -> None:
    phone = Member.objects.get(first_name="Rich").phone
    html = client.post(count_page(site), form({"tier": ["Gold"]})).content.decode()
    assert phone not in html and f"{phone[2:5]}-555" not in html


def test_deleting_asks_first_and_is_audited(site: Site, client: Client) -> None:
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": ["Gold"]})
    address = reverse("admin:loyalty_segment_delete", args=[segment.pk])
    client.get(address)
    assert Segment.objects.exists()
    client.post(address, {"post": "yes"})
    assert not Segment.objects.exists() and AuditEntry.objects.filter(event="segment.deleted", site=site).exists()


def test_a_person_with_several_sites_chooses_one(site: Site) -> None:
    other = make_site(client_name="Cedar Home")
    text = text_of(browser(make_user(site, other)).get(f"{LIST}add/"))
    assert "For which client?" in text and "Cedar Home" in text
    assert "Members who meet all of these rules" in text_of(browser(make_user(site)).get(f"{LIST}add/"))


def test_queries_do_not_grow_with_the_rows(site: Site, client: Client) -> None:
    segment = Segment.objects.create(site=site, name="A", rules={"tier": ["Gold"]})
    one = queries_of(client, LIST)
    builder = queries_of(client, page(segment))
    for name in ("B", "C"):
        Segment.objects.create(site=site, name=name)
        make_member(site)
    assert queries_of(client, LIST) == one <= MOST_QUERIES
    assert queries_of(client, page(segment)) == builder <= MOST_QUERIES


def test_counts_of_a_large_site_are_estimates_until_somebody_asks_for_more(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_member(make_site(), tier="Gold")
    for _ in range(60):
        make_member(site, tier="Gold")
    monkeypatch.setattr(segments, "COUNT_CAP", 50)
    monkeypatch.setattr(capped_counts, "SAMPLE", 40)
    live = client.post(count_page(site), form({"tier": ["Gold"]})).content.decode()
    assert "≈ " in live and "Estimated from a sample" in live and 'name="exact"' in live
    exact = text_of(client.post(add_page(site), form({"tier": ["Gold"]}, exact="1")))
    assert "Members 62" in exact and "≈" not in exact and "Estimated" not in exact
    assert not Segment.objects.exists()
    viewer = browser(make_user(site, role=Role.SUPPORT))
    assert 'name="exact"' not in viewer.post(count_page(site), form({"tier": ["Gold"]})).content.decode()

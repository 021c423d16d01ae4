"""What rules may say, and whom they mean."""

from datetime import UTC, datetime
from typing import Any

import pytest

from loyalty.models import Consent, Member, Segment, Site
from loyalty.segments import RulesError, members_of, validate_rules
from tests.factories import make_action, make_action_type, make_consent, make_member, make_site

pytestmark = pytest.mark.django_db


def chosen(site: Site, rules: dict[str, Any]) -> set[str]:
    """The first names of the members that the rules choose on a site."""
    return set(members_of(Segment(site=site, rules=rules)).values_list("first_name", flat=True))


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"tier": "Gold"},
        {"tier": ["Gold", "Silver"], "points_min": 0, "points_max": 0},
        {"joined_from": "2026-01-31", "joined_to": "2026-01-31"},
        {"any": [{"tier": "Gold"}, {"reachable": False}]},
        {"action_types": ["109"], "opt_in_status": "yes"},
        {"points_min": 10.0},
    ],
)
def test_usable_rules_pass(rules: dict[str, Any]) -> None:
    validate_rules(rules)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], "must be a JSON object"),
        (None, "must be a JSON object"),
        ({"tir": "Gold"}, "Unknown rule “tir”. Known are: tier, points_min"),
        ({"tier": []}, "“tier” must be a text"),
        ({"tier": 5}, "“tier” must be a text"),
        ({"tier": [" "]}, "“tier” must be a text"),
        ({"tier": "Go\x00ld"}, "cannot be stored"),
        ({"tier": "Go\ud800ld"}, "cannot be stored"),
        ({"tier": ["x"] * 201}, "1 to 200"),
        ({"points_min": "10"}, "“points_min” must be a whole number"),
        ({"points_min": True}, "“points_min” must be a whole number"),
        ({"points_min": 1.5}, "“points_min” must be a whole number"),
        ({"points_max": 2**63}, "“points_max” must be a whole number"),
        ({"points_min": float("inf")}, "“points_min” must be a whole number"),
        ({"points_min": 5, "points_max": 4}, "“points_min” lies above “points_max”"),
        ({"joined_from": "2026-13-01"}, "“joined_from” must be a day such as 2026-11-01"),
        ({"joined_from": "2026-1-1"}, "“joined_from” must be a day"),
        ({"joined_from": "20260101"}, "“joined_from” must be a day"),
        ({"joined_to": 20260101}, "“joined_to” must be a day"),
        ({"joined_to": "0001-01-01"}, "“joined_to” must be a day"),
        ({"joined_from": "2026-02-01", "joined_to": "2026-01-31"}, "“joined_from” lies above “joined_to”"),
        ({"last_action_from": "2026-02-01", "last_action_to": "2026-01-31"}, "lies above “last_action_to”"),
        ({"reachable": "true"}, "“reachable” must be true or false"),
        ({"reachable": 1}, "“reachable” must be true or false"),
        ({"opt_in_status": "MAYBE"}, "“opt_in_status” cannot be “MAYBE”. Known are: YES, NO"),
        ({"action_types": [True]}, "“action_types” must be a text"),
        ({"any": []}, "1 to 20 objects"),
        ({"any": {"tier": "Gold"}}, "1 to 20 objects"),
        ({"any": [{"tier": "Gold"}] * 21}, "1 to 20 objects"),
        ({"any": [{}]}, "at least one of these keys"),
        ({"any": ["tier"]}, "at least one of these keys"),
        ({"any": [{"any": [{"tier": "Gold"}]}]}, "cannot stand inside"),
        ({"any": [{"tier": "Gold"}], "tier": "Gold"}, "must stand alone"),
        ({"any": [{"tier": "Gold"}, {"points": 1}]}, "Unknown rule “points”"),
    ],
)
def test_unusable_rules_say_what_is_wrong(rules: Any, said: str) -> None:
    with pytest.raises(RulesError) as refused:
        validate_rules(rules)
    assert said in str(refused.value)


def test_a_flat_object_means_all_of_its_keys_and_any_joins() -> None:
    site, other = make_site(), make_site()
    for owner in (site, other):
        make_member(owner, first_name="Ada", tier="Gold", points=10)
        make_member(owner, first_name="Bob", tier="Gold", points=5)
        make_member(owner, first_name="Eve", tier="Silver", points=20)
        make_member(owner, first_name="Nix", tier="", points=None)
    assert chosen(site, {}) == {"Ada", "Bob", "Eve", "Nix"}
    assert members_of(Segment(site=site, rules={})).count() == 4
    assert chosen(site, {"tier": "Gold"}) == {"Ada", "Bob"}
    assert chosen(site, {"tier": ["Gold", "Silver"], "points_min": 10}) == {"Ada", "Eve"}
    assert chosen(site, {"points_min": 5, "points_max": 10}) == {"Ada", "Bob"}
    assert chosen(site, {"any": [{"tier": "Silver"}, {"tier": "Gold", "points_max": 5}]}) == {"Bob", "Eve"}
    assert members_of(Segment(site=other, rules={"any": [{"tier": "Silver"}, {"points_max": 5}]})).count() == 2


def test_opt_in_status_is_the_loyalty_opt_in() -> None:
    site = make_site()
    make_member(site, first_name="Ada", opt_in_status=Member.OptInStatus.YES)
    make_member(site, first_name="Bob", opt_in_status=Member.OptInStatus.NO)
    make_member(site, first_name="Eve")
    assert chosen(site, {"opt_in_status": "YES"}) == {"Ada"}
    assert chosen(site, {"opt_in_status": ["YES", "NO"]}) == {"Ada", "Bob"}


def test_days_are_whole_days_of_the_sites_zone() -> None:
    new_york, london = make_site(time_zone="America/New_York"), make_site(time_zone="Europe/London")
    moments = {
        "before": datetime(2026, 6, 1, 3, 59, 59, tzinfo=UTC),
        "first": datetime(2026, 6, 1, 4, 0, tzinfo=UTC),
        "last": datetime(2026, 6, 3, 3, 59, 59, 999_999, tzinfo=UTC),
        "after": datetime(2026, 6, 3, 4, 0, tzinfo=UTC),
    }
    for site in (new_york, london):
        for name, moment in moments.items():
            make_member(site, first_name=name, joined_at=moment)
    rules = {"joined_from": "2026-06-01", "joined_to": "2026-06-02"}
    assert chosen(new_york, rules) == {"first", "last"}
    assert chosen(london, rules) == {"before", "first"}
    assert chosen(new_york, {"joined_from": "2026-06-03"}) == {"after"}
    # The day on which the clocks go back has 25 hours.
    make_member(new_york, first_name="late", joined_at=datetime(2026, 11, 2, 4, 59, tzinfo=UTC))
    assert chosen(new_york, {"joined_from": "2026-11-01", "joined_to": "2026-11-01"}) == {"late"}


def test_last_action_is_the_newest_one() -> None:
    site, other = make_site(time_zone="UTC"), make_site(time_zone="UTC")
    ada, bob, _eve = (make_member(site, first_name=name) for name in ("Ada", "Bob", "Eve"))
    make_action(ada, occurred_at=datetime(2026, 3, 1, tzinfo=UTC))
    make_action(ada, occurred_at=datetime(2026, 5, 1, tzinfo=UTC))
    make_action(bob, occurred_at=datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    make_action(make_member(other, first_name="Zed"), occurred_at=datetime(2026, 5, 1, tzinfo=UTC))
    assert chosen(site, {"last_action_from": "2026-05-01"}) == {"Ada"}
    assert chosen(site, {"last_action_from": "2026-03-01"}) == {"Ada", "Bob"}
    assert chosen(site, {"last_action_to": "2026-03-01"}) == {"Bob"}
    assert chosen(site, {"last_action_to": "2026-12-31"}) == {"Ada", "Bob"}
    assert chosen(site, {"last_action_from": "2026-03-01", "last_action_to": "2026-04-01"}) == {"Bob"}


def test_action_types_mean_any_of_them_at_this_site() -> None:
    site, other = make_site(), make_site()
    ada, bob = make_member(site, first_name="Ada"), make_member(site, first_name="Bob")
    zed = make_member(other, first_name="Zed")
    for member, code in ((ada, "109"), (ada, "109"), (bob, "107"), (zed, "109")):
        make_action(member, action_type=make_action_type(member.site, code))
    assert chosen(site, {"action_types": ["109"]}) == chosen(site, {"action_types": 109}) == {"Ada"}
    assert members_of(Segment(site=site, rules={"action_types": ["109"]})).count() == 1
    assert chosen(site, {"action_types": ["107", "109"]}) == {"Ada", "Bob"}
    assert chosen(site, {"action_types": "999"}) == set()


def test_reachable_asks_for_text_consent_and_an_allowed_country() -> None:
    site, other = make_site(), make_site()
    for state in Consent.State.values:
        make_consent(make_member(site, first_name=state), state)
    make_member(site, first_name="nothing heard")
    jamaica = make_member(site, first_name="Jamaica", phone="+18765550123")
    make_consent(jamaica)
    mailed = make_member(site, first_name="mailed")
    make_consent(mailed, channel=Consent.Channel.EMAIL)
    # The same phone subscribed to another client's texts.
    make_consent(make_member(other, phone=mailed.phone, first_name="elsewhere"))
    assert chosen(site, {"reachable": True}) == {"SUBSCRIBED"}
    everybody = chosen(site, {})
    assert chosen(site, {"reachable": False}) == everybody - {"SUBSCRIBED"}
    assert chosen(other, {"reachable": True}) == {"elsewhere"}


def test_a_replaced_member_is_left_out() -> None:
    site = make_site()
    new = make_member(site, first_name="new")
    make_member(site, first_name="old", replaced_by=new)
    assert chosen(site, {}) == {"new"}

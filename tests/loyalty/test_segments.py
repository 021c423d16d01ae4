"""Counting, explaining, freezing and matching segments."""

import pytest

from attentive_integration.markup import number
from loyalty import capped_counts, segments
from loyalty.models import AuditEntry, Segment, SegmentMember
from loyalty.segments import Counts, counts, estimate, explain_counts, freeze, matching_ids, members_of, sample
from tests.factories import make_consent, make_member, make_site, make_user

pytestmark = pytest.mark.django_db


def test_counts_tell_everybody_and_those_who_may_be_texted() -> None:
    site, other = make_site(), make_site()
    for owner in (site, other):
        for tier in ("Gold", "Gold", "Silver"):
            make_consent(make_member(owner, tier=tier))
        make_member(owner, tier="Gold")
    assert counts(Segment(site=site, rules={"tier": "Gold"})) == Counts(total=3, reachable=2)


def test_a_sample_shows_the_newest() -> None:
    site = make_site()
    members = [make_member(site, tier="Gold") for _ in range(12)]
    make_member(make_site(), tier="Gold")
    assert sample(Segment(site=site, rules={"tier": "Gold"}), 3) == members[:8:-1]
    assert len(sample(Segment(site=site, rules={}))) == 10


def test_matching_ids_keeps_the_members_of_the_segment() -> None:
    site, other = make_site(), make_site()
    gold, silver = make_member(site, tier="Gold"), make_member(site, tier="Silver")
    foreign = make_member(other, tier="Gold")
    wanted = [gold.pk, silver.pk, foreign.pk, *range(10**6, 10**6 + 12_000)]
    assert matching_ids(Segment(site=site, rules={"tier": "Gold"}), wanted) == {gold.pk}
    assert matching_ids(Segment(site=site, rules={}), []) == set()


def test_freezing_keeps_the_list_whatever_members_do_later() -> None:
    site, other = make_site(), make_site()
    user = make_user(site)
    ada, bob = make_member(site, tier="Gold"), make_member(site, tier="Gold")
    make_member(other, tier="Gold")
    segment = Segment.objects.create(site=site, name="Gold", rules={"tier": "Gold"})
    assert freeze(segment, user) == 2
    ada.tier = "Silver"
    ada.save()
    make_member(site, tier="Gold")
    segment.refresh_from_db()
    assert segment.is_frozen and segment.rules == {"tier": "Gold"}
    assert set(members_of(segment)) == {ada, bob}
    assert freeze(segment, user) == 2
    assert AuditEntry.objects.filter(event="segment.frozen", site=site, user=user).count() == 1
    assert SegmentMember.objects.filter(segment__site=other).count() == 0
    bob.replaced_by = ada
    bob.save()
    assert counts(segment) == Counts(total=1, reachable=0)


def test_an_empty_segment_names_the_rule_that_nobody_meets() -> None:
    site = make_site()
    make_member(site, tier="Gold", points=5)
    make_member(make_site(), tier="Platinum", points=5)
    explained = explain_counts(Segment(site=site, rules={"points_min": 1, "tier": ["Platinum"]}))
    assert explained.total == 0
    assert explained.culprit is not None and explained.culprit.rule == "tier"
    assert {rule.rule: rule.alone for rule in explained.rules} == {"points_min": 1, "tier": 0}
    assert "No member meets “Tier is one of: Platinum”" in explained.sentence


def test_an_empty_segment_names_the_rule_without_which_there_would_be_members() -> None:
    site = make_site()
    make_member(site, tier="Gold", points=5, opt_in_status="YES")
    make_member(site, tier="Silver", points=500, opt_in_status="NO")
    rules = {"tier": "Gold", "points_max": 10, "opt_in_status": "NO"}
    explained = explain_counts(Segment(site=site, rules=rules))
    assert explained.culprit is not None and explained.culprit.rule == "opt_in_status"
    assert "Without “Loyalty opt-in: NO” there would be members" in explained.sentence


def test_rules_that_only_exclude_each_other_are_explained_together() -> None:
    site = make_site()
    make_member(site, tier="Gold", points=5)
    make_member(site, tier="Silver", points=500)
    explained = explain_counts(Segment(site=site, rules={"tier": "Gold", "points_min": 100}))
    assert explained.culprit is None
    assert "Each of these rules leaves nobody: Tier is one of, Points from" in explained.sentence


def test_a_segment_with_members_and_a_site_without_need_no_rule_blamed() -> None:
    site = make_site()
    assert "no members yet" in explain_counts(Segment(site=site, rules={"tier": "Gold"})).sentence
    make_member(site, tier="Gold")
    assert explain_counts(Segment(site=site, rules={"tier": "Gold"})).sentence == ""


def test_a_segment_of_a_large_site_is_estimated_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    site, other = make_site(), make_site()
    for owner in (site, other):
        for n in range(120):
            make_consent(make_member(owner, tier="Gold" if n % 2 else "Silver"))
    gold = Segment(site=site, rules={"tier": "Gold"})
    assert estimate(gold) == counts(gold) == Counts(60, 60)
    monkeypatch.setattr(segments, "COUNT_CAP", 100)
    monkeypatch.setattr(capped_counts, "SAMPLE", 90)
    guess = estimate(gold)
    assert not guess.is_exact and 40 <= guess.total <= 80 and number(guess.total).startswith("≈ ")
    assert guess.examples and {member.tier for member in guess.examples} == {"Gold"}
    assert {member.site_id for member in guess.examples} == {site.pk}
    few = estimate(Segment(site=site, rules={"tier": "Diamond"}))
    assert number(few.total).startswith("< ") and not few.examples


def test_a_frozen_list_of_a_large_site_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site()
    for n in range(30):
        make_member(site, tier="Gold" if n < 5 else "Silver")
    segment = Segment.objects.create(site=site, name="Five", rules={"tier": "Gold"})
    freeze(segment, make_user(site))
    monkeypatch.setattr(segments, "COUNT_CAP", 20)
    assert estimate(segment) == Counts(5, 0)

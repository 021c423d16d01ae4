"""Handing segments to Annex Cloud and to Attentive, over HTTP against the sandbox."""

import zlib
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from attentive_integration.sandbox.process import SandboxProcess
from loyalty import segments
from loyalty.models import AccessToken, AuditEntry, Breaker, Segment, Site
from loyalty.segments import push_to_annex_cloud, push_to_attentive
from tests.factories import make_consent, make_member, make_site, make_token, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture
def company(sandbox: SandboxProcess, settings: Any, request: pytest.FixtureRequest) -> str:
    """A company of the sandbox that no other test has seen."""
    settings.ATTENTIVE_API_URL = sandbox.url
    settings.ANNEX_CLOUD_API_URL = f"{sandbox.url}/api/3.0"
    sandbox.clear_faults()
    name = f"c{zlib.crc32(request.node.name.encode())}"
    sandbox.configure_company(name)
    return name


@pytest.fixture
def segment(company: str) -> Segment:
    """Gold of one site: two reachable with e-mail, one unreachable without; and another site with the same members."""
    site, other = make_site(), make_site()
    for owner in (site, other):
        for name in ("ada", "bob"):
            make_consent(make_member(owner, tier="Gold", email=f"{name}@example.com"))
        make_member(owner, tier="Gold")
        make_member(owner, tier="Silver", email="eve@example.com")
    make_token(site, AccessToken.Kind.LOYALTY, f"loyalty-{company}")
    make_token(site, AccessToken.Kind.ATTENTIVE_APP, f"app-{company}")
    return Segment.objects.create(site=site, name="Gold", rules={"tier": "Gold"})


def reachable_phones(site: Site) -> list[str]:
    return sorted(site.members.filter(tier="Gold").exclude(email="").values_list("phone", flat=True))


def test_annex_cloud_gets_the_e_mails_and_the_id_is_kept(sandbox: SandboxProcess, segment: Segment) -> None:
    segment.from_date, segment.to_date = date(2026, 11, 1), date(2026, 12, 31)
    segment.save()
    user = make_user(segment.site)
    pushed = push_to_annex_cloud(segment, user)
    assert (pushed.ok, pushed.sent, pushed.without_email) == (True, 2, 1)
    sent = sandbox.ledger("SEGMENT")[-1]["body"]
    assert sent == {
        "name": "Gold", "type": "Current Data", "fromDate": "2026-11-01", "toDate": "2026-12-31",
        "member": "ada@example.com,bob@example.com", "status": "ACTIVE",
        "externalId": f"{segment.site.site_id}-{segment.pk}", "externalName": "Gold",
    }  # fmt: skip
    segment.refresh_from_db()
    assert segment.annex_segment_id.isdecimal() and segment.pushed_at and segment.push_lease_until is None
    assert segment.push_result == pushed.sentence
    assert AuditEntry.objects.get(event="segment.pushed").user == user


def test_a_second_push_updates_the_same_segment(sandbox: SandboxProcess, segment: Segment) -> None:
    push_to_annex_cloud(segment)
    first = segment.annex_segment_id
    make_member(segment.site, tier="Gold", email="cleo@example.com")
    assert push_to_annex_cloud(segment).sent == 3
    assert segment.annex_segment_id == first
    assert sandbox.ledger("SEGMENT")[-1]["body"]["member"] == "ada@example.com,bob@example.com,cleo@example.com"


@pytest.mark.parametrize("fault", ["reset_after", "garbage", "delay_after"])
def test_an_unclear_creation_is_looked_up_before_another(
    sandbox: SandboxProcess, segment: Segment, settings: Any, fault: str
) -> None:
    settings.VENDOR_DEADLINE_SECONDS = 1.0
    before = len(sandbox.ledger("SEGMENT"))
    sandbox.add_fault("/api/3.0/segment", fault, method="POST", seconds=3.0)
    first = push_to_annex_cloud(segment)
    assert first.ok == (fault == "garbage")
    if not first.ok:
        assert "Push again: the segment is looked up first" in first.sentence
        assert segment.pushed_at is None and segment.push_result == first.sentence[:300]
    assert push_to_annex_cloud(segment).ok
    made = [entry["path"] for entry in sandbox.ledger("SEGMENT")[before:]]
    assert [path.rsplit("/", 1)[-1] == "segment" for path in made] == [True, False]
    assert segment.annex_segment_id == made[1].rsplit("/", 1)[-1]


def test_a_segment_deleted_at_annex_cloud_is_made_again(segment: Segment) -> None:
    Segment.objects.filter(pk=segment.pk).update(annex_segment_id="987654")
    segment.refresh_from_db()
    assert push_to_annex_cloud(segment).ok
    assert segment.annex_segment_id not in ("", "987654")


def test_a_refusal_is_kept_as_the_sentence(sandbox: SandboxProcess, segment: Segment, company: str) -> None:
    sandbox.configure_company(company, refused=["loyalty"])
    pushed = push_to_annex_cloud(segment)
    assert (
        not pushed.ok and "AC1002" in pushed.sentence and "check the loyalty token and the site ID" in pushed.sentence
    )
    assert segment.push_result == pushed.sentence[:300] and segment.annex_segment_id == ""
    assert AuditEntry.objects.filter(event="segment.push_failed", site=segment.site).count() == 1


def test_without_token_or_e_mail_nothing_is_sent(sandbox: SandboxProcess, segment: Segment) -> None:
    before = len(sandbox.ledger())
    segment.site.members.filter(tier="Gold").update(email="")
    pushed = push_to_annex_cloud(segment)
    assert (pushed.ok, pushed.without_email) == (False, 3)
    assert "No member of this segment has an e-mail address" in pushed.sentence
    AccessToken.objects.all().delete()
    assert "Activate page" in push_to_annex_cloud(segment).sentence
    assert "Activate page" in push_to_attentive(segment).sentence
    assert len(sandbox.ledger()) == before


def test_two_pushes_at_a_time_are_one(sandbox: SandboxProcess, segment: Segment) -> None:
    before = len(sandbox.ledger())
    Segment.objects.filter(pk=segment.pk).update(push_lease_until=timezone.now() + timedelta(minutes=1))
    for push in (push_to_annex_cloud, push_to_attentive):
        pushed = push(segment)
        assert not pushed.ok and "is being pushed right now" in pushed.sentence
    assert len(sandbox.ledger()) == before
    # A worker that died gives the segment back when its lease ends.
    Segment.objects.filter(pk=segment.pk).update(push_lease_until=timezone.now() - timedelta(seconds=1))
    assert push_to_attentive(segment).ok


def test_attentive_gets_the_reachable_phones(
    sandbox: SandboxProcess, segment: Segment, company: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BATCH", 1)
    segment.external_id = "gold-1"
    segment.save()
    for _ in range(2):
        pushed = push_to_attentive(segment)
        assert (pushed.ok, pushed.sent) == (True, 2)
    assert sandbox.segments(company) == {"gold-1": reachable_phones(segment.site)}
    assert segment.attentive_pushed_at and segment.attentive_push_result == pushed.sentence
    assert segment.pushed_at is None and segment.push_result == ""


def test_attentive_is_asked_again_when_it_wants_to_wait(
    sandbox: SandboxProcess, segment: Segment, company: str
) -> None:
    sandbox.add_fault("/v2/bulk/segments", "status", times=2, status=429, retry_after="0")
    assert push_to_attentive(segment).ok
    assert len(sandbox.segments(company)) == 1


def test_a_push_that_breaks_off_says_how_far_it_got_and_ends_whole_next_time(
    sandbox: SandboxProcess, segment: Segment, company: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BATCH", 1)
    monkeypatch.setattr(segments, "_LONGEST_PAUSE", 0.0)
    calls = iter([False, True])
    real = segments.AttentiveClient.add_segment_members

    def second_fails(self: Any, external_id: str, phones: list[str]) -> Any:
        if next(calls, False):
            sandbox.add_fault("/v2/bulk/segments", "status", times=1, status=400)
        return real(self, external_id, phones)

    monkeypatch.setattr(segments.AttentiveClient, "add_segment_members", second_fails)
    pushed = push_to_attentive(segment)
    assert (pushed.ok, pushed.sent) == (False, 1)
    assert "1 members were handed over, then it broke off. Push again" in pushed.sentence
    assert push_to_attentive(segment).sent == 2
    assert list(sandbox.segments(company).values()) == [reachable_phones(segment.site)]


def test_an_unclear_segment_at_attentive_is_looked_up_before_another(sandbox: SandboxProcess, segment: Segment) -> None:
    sandbox.add_fault("/v2/segments", "reset_after", method="POST")
    first = push_to_attentive(segment)
    assert not first.ok and "Push again: the segment is looked up first" in first.sentence
    before = len(sandbox.ledger("SEGMENT"))
    assert push_to_attentive(segment).ok
    assert [entry["path"] for entry in sandbox.ledger("SEGMENT")[before:]] == []


def test_a_refused_app_key_opens_the_breaker_and_is_not_tried_again_at_once(
    sandbox: SandboxProcess, segment: Segment, company: str
) -> None:
    sandbox.configure_company(company, refused=["app"])
    assert "app key was refused" in push_to_attentive(segment).sentence
    assert Breaker.objects.get(site=segment.site).opened_at is not None
    assert "refuses this site's app key at the moment" in push_to_attentive(segment).sentence

"""Undoing an import: what goes, what gets its old value back, and what is kept."""

from typing import Any

import pytest
from django.utils import timezone

from loyalty import consent, imports
from loyalty.imports.rows import ImportRefused
from loyalty.models import Consent, ImportJob, Member, MemberChange, Segment, SegmentMember, Site
from tests.factories import make_action, make_member, make_message, make_site

from .test_imports import run

pytestmark = pytest.mark.django_db

FIELDS = (
    "phone", "email", "external_id", "first_name", "tier", "points", "birth_date", "joined_at", "extended_attributes",
    "replaced_by",
)  # fmt: skip
HEADER = "phone,email,external_id,first_name,tier,points,birth_date,joined_at,Zip\n"
MAPPING: Any = {
    **{name: name for name in HEADER.strip().split(",") if name != "Zip"}, "Zip": "extended_attributes.zip",
}  # fmt: skip


def table(site: Site) -> list[tuple[Any, ...]]:
    return list(Member.objects.filter(site=site).order_by("phone").values_list(*FIELDS))


def test_undo_brings_back_the_table_as_it_was() -> None:
    site, other = make_site(), make_site()
    make_member(
        site, phone="+17705550101", email="a@example.com", points=None, birth_date="1990-12-10", external_id="M1",
        extended_attributes={"zip": "1", "shoe": 9},
    )  # fmt: skip
    make_member(site, phone="+17705550102", external_id="M2")
    make_member(other, phone="+17705550101")
    before, theirs = table(site), table(other)
    text = (
        HEADER
        + "+17705550101,b@example.com,M1,Eve,Gold,5,--,2020-01-02 10:00,30301\n"
        + "+17705550103,c@example.com,M2,New,,,,,\n"
        + "+17705550104,,,New,,,,,\n"
    )
    job = run(site, text, mapping=MAPPING)
    assert table(site) != before
    job = imports.undo_import(job)
    assert table(site) == before and table(other) == theirs
    assert (job.phase, job.state) == (ImportJob.Phase.UNDO, ImportJob.State.COMPLETE) and job.undone_at
    assert job.findings["undone"] == {"removed": 2, "restored": 1, "kept": 0}
    assert not MemberChange.objects.exists()
    with pytest.raises(ImportRefused):
        imports.undo_import(ImportJob.objects.create(site=site))


def test_members_in_use_are_kept() -> None:
    site = make_site()
    rows = [f"+177055501{n:02d}" for n in range(8)]
    job = run(site, "phone,email\n" + "".join(f"{phone},m{n}@example.com\n" for n, phone in enumerate(rows)))
    members = {member.phone: member for member in Member.objects.filter(site=site)}
    make_action(members[rows[0]])
    make_message(members[rows[1]])
    consent.opt_out(site, rows[2])
    consent.opt_out(site, "m3@example.com", channel=Consent.Channel.EMAIL)
    consent.lock_states(site.pk, [rows[4]])
    segment = Segment.objects.create(site=site, name="Frozen", is_frozen=True)
    SegmentMember.objects.create(segment=segment, member=members[rows[5]])
    run(site, f"phone,first_name\n{rows[6]},Eve\n")
    job = imports.undo_import(job)
    kept = sorted(Member.objects.filter(site=site).values_list("phone", flat=True))
    assert kept == [rows[0], rows[1], rows[2], rows[3], rows[6]]
    assert job.findings["undone"] == {"removed": 3, "restored": 0, "kept": 5}


def test_what_changed_since_stays_as_it_is() -> None:
    site = make_site()
    member = make_member(site, phone="+17705550101", first_name="Ada", tier="Silver")
    job = run(site, "phone,first_name,tier\n+17705550101,Eve,Gold\n")
    Member.objects.filter(pk=member.pk).update(tier="Platinum")
    imports.undo_import(job)
    member.refresh_from_db()
    assert (member.first_name, member.tier) == ("Ada", "Platinum")


def test_who_was_only_put_into_the_subscribe_queue_goes_too() -> None:
    site = make_site()
    job = run(site, "phone\n+17705550101\n+17705550102\n", subscribe=True)
    row = Consent.objects.get(address="+17705550102")
    row.fence, row.lease_until = 1, timezone.now()
    row.save()
    consent.step(row, Consent.State.REQUESTED, expected=[Consent.State.TO_ASK])
    imports.undo_import(job)
    assert list(Member.objects.values_list("phone", flat=True)) == ["+17705550102"]
    assert consent.state_of(site, "+17705550101") == Consent.State.UNKNOWN
    assert consent.state_of(site, "+17705550102") == Consent.State.REQUESTED


def test_an_undo_that_ran_out_of_time_is_due_and_goes_on() -> None:
    site = make_site()
    job = run(site, "phone\n+17705550101\n")
    job = imports.undo_import(job, deadline=0.0)
    assert (job.phase, job.state) == (ImportJob.Phase.UNDO, ImportJob.State.PENDING)
    assert list(imports.due_jobs()) == [job]
    assert imports.run_import(job).phase == ImportJob.Phase.UNDO
    imports.undo_import(job)
    assert not Member.objects.exists()

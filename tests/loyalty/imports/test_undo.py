"""Undoing an import: what goes, what gets its old value back, and what is kept."""

from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty import consent, imports
from loyalty.imports import run as running
from loyalty.imports.rows import ImportRefused
from loyalty.imports.undo import may_undo
from loyalty.models import Consent, ImportJob, Member, MemberChange, Segment, SegmentMember, Site
from loyalty.models.members import ERASED_MARK
from messaging.erasure import erase
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
    assert job.findings["undone"] == {"removed": 2, "restored": 2, "kept": 0}
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


# --- Loyalty IDs that moved to another phone --------------------------------------------------------------------------


def undone(job: ImportJob) -> dict[str, int]:
    counts: dict[str, int] = imports.undo_import(job).findings["undone"]
    return counts


@pytest.mark.parametrize(
    ("members", "rows", "restored"),
    [
        ([("01", "X", ""), ("02", "", "")], ["02,X"], 2),
        ([("01", "X", ""), ("02", "Y", "")], ["02,X"], 2),
        ([("01", "X", "02"), ("02", "X", "")], ["01,X"], 2),
        ([("01", "X", ""), ("02", "Y", "")], ["01,Y", "02,X"], 2),
        ([("01", "X", ""), ("02", "X", ""), ("03", "", "")], ["03,X"], 3),
    ],
    ids=["to one without", "to one with another", "back again", "swapped", "held by two"],
)
@pytest.mark.parametrize("rows_a_slice", [1, 100])
def test_an_undo_gives_a_loyalty_id_back_to_the_phone_that_had_it(
    monkeypatch: pytest.MonkeyPatch, members: Any, rows: list[str], restored: int, rows_a_slice: int
) -> None:
    monkeypatch.setattr(running, "slices", partial(running.slices, size=rows_a_slice))
    site, other = make_site(), make_site()
    for home in (site, other):
        made = {n: make_member(home, phone=f"+177055501{n}", external_id=x) for n, x, _ in members}
        for n, _, successor in members:
            made[n].replaced_by = made.get(successor)
            made[n].save()
    before, theirs = table(site), table(other)
    job = run(site, "phone,external_id\n" + "".join(f"+177055501{row}\n" for row in rows))
    assert table(site) != before and may_undo(job)
    assert undone(job) == {"removed": 0, "restored": restored, "kept": 0}
    assert table(site) == before and table(other) == theirs
    assert not MemberChange.objects.exists()


def test_a_loyalty_id_that_goes_to_and_fro_is_counted_and_undone_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "slices", partial(running.slices, size=1))
    site = make_site()
    current = make_member(site, phone="+17705550102", external_id="X")
    make_member(site, phone="+17705550101", external_id="X", replaced_by=current)
    before = table(site)
    job = run(site, "phone,external_id\n+17705550101,X\n+17705550102,X\n+17705550101,X\n+17705550103,X\n")
    assert (job.created, job.updated, job.unchanged, job.duplicate) == (1, 1, 1, 1)
    assert undone(job) == {"removed": 1, "restored": 2, "kept": 0}
    assert table(site) == before


def test_a_row_that_brings_a_replaced_member_back_counts_as_updated() -> None:
    site = make_site()
    current = make_member(site, phone="+17705550102", external_id="X")
    old = make_member(site, phone="+17705550101", external_id="X", replaced_by=current)
    text = "phone,external_id\n+17705550101,X\n"
    job = run(site, text)
    assert (job.updated, job.unchanged) == (1, 0)
    assert run(site, text).unchanged == 1
    assert undone(job) == {"removed": 0, "restored": 2, "kept": 0}
    old.refresh_from_db()
    assert old.replaced_by == current


def test_a_loyalty_id_stays_with_a_new_phone_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "slices", partial(running.slices, size=1))
    site = make_site()
    old = make_member(site, phone="+17705550101", external_id="X")
    job = run(site, "phone,external_id\n+17705550102,X\n+17705550103,X\n")
    new = Member.objects.get(phone="+17705550103")
    make_action(new)
    assert undone(job) == {"removed": 1, "restored": 0, "kept": 2}
    old.refresh_from_db()
    assert old.replaced_by == new


def test_a_loyalty_id_that_moved_on_since_stays_there() -> None:
    site = make_site()
    old = make_member(site, phone="+17705550101", external_id="X")
    middle = make_member(site, phone="+17705550102", external_id="Y")
    first = run(site, "phone,external_id\n+17705550102,X\n")
    second = run(site, "phone,external_id\n+17705550103,X\n")
    after = table(site)
    assert undone(first) == {"removed": 0, "restored": 0, "kept": 2}
    assert table(site) == after
    assert undone(second) == {"removed": 1, "restored": 1, "kept": 0}
    old.refresh_from_db()
    middle.refresh_from_db()
    assert (old.replaced_by, middle.replaced_by, middle.external_id) == (middle, None, "X")


# --- What counts as changed since -------------------------------------------------------------------------------------


def test_a_later_import_that_set_the_same_value_is_not_reverted() -> None:
    site, other = make_site(), make_site()
    members = [make_member(home, phone="+17705550101", points=1, tier="Silver") for home in (site, other)]
    first = run(site, "phone,points,tier\n+17705550101,2,Gold\n")
    run(site, "phone,points\n+17705550101,3\n")
    third = run(site, "phone,points\n+17705550101,2\n")
    theirs = run(other, "phone,points\n+17705550101,2\n")
    assert undone(first) == {"removed": 0, "restored": 0, "kept": 1}
    members[0].refresh_from_db()
    assert (members[0].points, members[0].tier) == (2, "Silver")
    assert undone(third) == undone(theirs) == {"removed": 0, "restored": 1, "kept": 0}
    assert set(Member.objects.values_list("points", flat=True)) == {3, 1}


def test_an_import_that_changed_an_old_member_in_a_later_slice_alone_can_be_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(running, "slices", partial(running.slices, size=2))
    site = make_site()
    for n in (1, 2):
        make_member(site, phone=f"+1770555010{n}", points=1)
    before = table(site)
    same = "phone,points\n+17705550101,1\n+17705550102,1\n"
    assert not may_undo(run(site, same))
    job = run(site, same + "+17705550101,99\n")
    assert (job.updated, job.unchanged) == (1, 1) and may_undo(job)
    assert undone(job) == {"removed": 0, "restored": 1, "kept": 0}
    assert table(site) == before


def test_a_member_counts_once_however_often_the_import_changed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "slices", partial(running.slices, size=2))
    monkeypatch.setattr("loyalty.imports.undo._SLICE", 2)
    site = make_site()
    for n in (1, 2):
        make_member(site, phone=f"+1770555010{n}", points=0, tier="Silver")
    before = table(site)
    rows = "".join(f"+1770555010{n},{points},Gold\n" for points in range(1, 6) for n in (1, 2))
    job = run(site, "phone,points,tier\n" + rows)
    Member.objects.filter(phone="+17705550102").update(tier="Platinum")
    assert undone(job) == {"removed": 0, "restored": 1, "kept": 1}
    assert table(site)[0] == before[0]
    assert Member.objects.get(phone="+17705550102").points == 0


def test_consent_that_is_older_than_the_import_keeps_nobody() -> None:
    site, other = make_site(), make_site()
    for home in (site, other):
        for phone in ("+17705550101", "+17705550102"):
            consent.hear(home, channel="TEXT", address=phone, state="SUBSCRIBED", source="WEBHOOK", event_at=None)
    consent.opt_out(site, "old@example.com", channel=Consent.Channel.EMAIL)
    job = run(site, "phone,email\n+17705550101,old@example.com\n+17705550102,\n+17705550103,\n", subscribe=True)
    consent.hear_many(site, [("+17705550101", None)], source="SUBSCRIBER_LIST")
    consent.opt_out(site, "+17705550102")
    consent.opt_out(other, "+17705550101")
    assert undone(job) == {"removed": 2, "restored": 0, "kept": 1}
    assert list(Member.objects.values_list("phone", flat=True)) == ["+17705550102"]
    assert consent.state_of(site, "+17705550101") == Consent.State.SUBSCRIBED


def test_an_erased_person_gets_nothing_back() -> None:
    site = make_site()
    known = make_member(site, phone="+17705550101", first_name="Ada", email="ada@example.com", points=7)
    job = run(
        site,
        "phone,first_name,email,points\n+17705550101,--,--,--\n+17705550102,Bob,,1\n+17705550103,Cy,,1\n",
    )
    for phone in ("+17705550101", "+17705550102"):
        make_message(Member.objects.get(phone=phone))
        erase(site, phone)
    assert undone(job) == {"removed": 1, "restored": 0, "kept": 2}
    known.refresh_from_db()
    assert known.is_erased and (known.first_name, known.email, known.points) == ("", "", None)
    assert len(Member.objects.all()) == 2 and not Member.objects.people().exists()


def test_old_values_that_an_erasure_left_are_not_given_back() -> None:
    site = make_site()
    known = make_member(site, phone="+17705550101", first_name="Ada")
    job = run(site, "phone,first_name\n+17705550101,--\n+17705550102,Bob\n")
    for member in Member.objects.all():
        Member.objects.filter(pk=member.pk).update(phone=f"{ERASED_MARK}{member.pk}", first_name="")
    assert undone(job) == {"removed": 0, "restored": 0, "kept": 2}
    known.refresh_from_db()
    assert known.first_name == ""


def test_an_undo_is_offered_by_one_entry_of_each_index() -> None:
    site = make_site()
    earlier = run(site, "phone\n+17705550101\n")
    nothing = run(site, "phone\n+17705550101\n")
    later = run(site, "phone,tier\n+17705550101,Gold\n")
    assert [may_undo(job) for job in (earlier, nothing, later)] == [True, False, True]
    with CaptureQueriesContext(connection) as queries:
        may_undo(nothing)
    assert len(queries) == 2 and all(query["sql"].endswith("LIMIT 1") for query in queries)

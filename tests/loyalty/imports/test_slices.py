"""Where a slice ends must not show: the same file gives the same members, counts and issues, and the check says so."""

from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from django.core.files.base import ContentFile
from hypothesis import given, settings
from hypothesis import strategies as st

from loyalty import imports
from loyalty.imports import run
from loyalty.models import ImportJob, LoyaltyAction, Member, Site
from tests.examples import examples
from tests.factories import make_member, make_site

pytestmark = pytest.mark.django_db

COUNTERS = ("read", "created", "updated", "unchanged", "duplicate", "rejected")
PHONES = [f"+1770555010{number}" for number in range(3)]
ids = st.sampled_from(["", "X", "Y", "X", "Y", "--"])
names = st.sampled_from(["", "Ada", "Grace", "--"])
rows = st.lists(st.tuples(st.sampled_from(PHONES), ids, names), min_size=1, max_size=7)
# Of two members with one loyalty ID, one has replaced the other.
known = st.lists(
    st.tuples(st.sampled_from(PHONES), st.sampled_from(["", "X", "Y", "Z"])),
    max_size=2,
    unique_by=(lambda member: member[0], lambda member: member[1] or member[0]),
)


def carried_out(site: Site, content: str, size: int, kind: str = "MEMBERS", **options: Any) -> list[Any]:
    """Check and import a file in slices of a size; return the counts and issues, once for each."""
    job = imports.start_import(site, ContentFile(content.encode()), "a.csv", kind=kind, options=options)
    imports.set_mapping(job, imports.propose_mapping(job))
    said = []
    with patch.object(run, "slices", partial(run.slices, size=size)):
        for work in (imports.check_import, imports.run_import):
            job = work(job)
            assert job.state == ImportJob.State.COMPLETE, job.error
            issues = sorted(job.issues.values_list("line", "kind", "code"))
            said.append(({name: getattr(job, name) for name in COUNTERS}, issues))
    return said


def picture(site: Site) -> list[tuple[str, str, str, bool]]:
    """Return the members, and whether each is replaced; by whom first depends on who came first."""
    members = Member.objects.filter(site=site).order_by("phone")
    return [
        (member.phone, member.external_id, member.first_name, member.replaced_by_id is not None) for member in members
    ]


@pytest.mark.parametrize("rule", ["update", "reject"])
@given(known=known, rows=rows)
@settings(max_examples=examples(15), deadline=None)
def test_the_size_of_slices_changes_nothing(
    rule: str, known: list[tuple[str, str]], rows: list[tuple[str, str, str]]
) -> None:
    content = "phone,external_id,first_name\n" + "".join(",".join(row) + "\n" for row in rows)
    found = []
    for size in (1, 3, 100):
        site = make_site()
        for phone, external_id in known:
            make_member(site, phone=phone, external_id=external_id, first_name="Bob")
        said = carried_out(site, content, size, on_conflict=rule)
        assert said[0] == said[1]
        found.append((said[1], picture(site)))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("size", [1, 100])
def test_a_phone_with_two_ids_keeps_the_first_where_others_are_rejected(size: int) -> None:
    site = make_site()
    content = f"phone,external_id,first_name\n{PHONES[0]},A,Ada\n{PHONES[0]},B,Bob\n{PHONES[0]},A,Eve\n"
    checked, imported = carried_out(site, content, size, on_conflict="reject")
    assert checked == imported
    assert imported[1] == [(3, "REJECTED", "CONFLICT"), (4, "DUPLICATE", "DUPLICATE")]
    assert picture(site) == [(PHONES[0], "A", "Eve", False)]


@pytest.mark.parametrize("size", [1, 100])
def test_an_id_that_goes_there_and_back_is_back(size: int) -> None:
    site = make_site()
    content = f"phone,external_id\n{PHONES[0]},X\n{PHONES[1]},X\n{PHONES[0]},X\n"
    carried_out(site, content, size)
    assert picture(site) == [(PHONES[0], "X", "", False), (PHONES[1], "X", "", True)]


@pytest.mark.parametrize("size", [1, 100])
def test_two_members_who_swap_their_ids_both_stay(size: int) -> None:
    site = make_site()
    for phone, external_id in zip(PHONES, "XY", strict=False):
        make_member(site, phone=phone, external_id=external_id, first_name="Bob")
    carried_out(site, f"phone,external_id\n{PHONES[0]},Y\n{PHONES[1]},X\n", size)
    assert picture(site) == [(PHONES[0], "Y", "Bob", False), (PHONES[1], "X", "Bob", False)]


def test_the_api_takes_the_items_of_a_call_one_after_the_other() -> None:
    site = make_site()
    items = [{"phone": phone, "external_id": "X"} for phone in (PHONES[0], PHONES[1], PHONES[0])]
    outcomes = imports.upsert_members(site, items, source="API")
    assert [outcome.status for outcome in outcomes] == ["created", "created", "duplicate"]
    assert picture(site) == [(PHONES[0], "X", "", False), (PHONES[1], "X", "", True)]


def test_the_check_of_actions_counts_those_that_an_earlier_slice_had() -> None:
    site, other = make_site(), make_site()
    lines = ["a1,109,{0}", "a2,109,{0}", "a1,109,{0}", "a2,110,{0}", "a1,109,{0}"]
    content = "activity_id,action,phone\n" + "".join(f"{line.format(PHONES[0])}\n" for line in lines)
    for site, size in ((make_site(), 2), (make_site(), 100)):
        checked, imported = carried_out(site, content, size, kind="ACTIONS")
        assert checked == imported
        assert imported[0] == {
            "read": 5, "created": 2, "updated": 0, "unchanged": 0, "duplicate": 2, "rejected": 1,
        }  # fmt: skip
    assert not LoyaltyAction.objects.filter(site=other).exists()


def test_a_second_import_of_a_site_waits_and_says_so() -> None:
    site, other = make_site(), make_site()
    first, second, elsewhere = (
        imports.start_import(where, ContentFile(f"phone\n{PHONES[0]}\n".encode()), "a.csv")
        for where in (site, site, other)
    )
    for job in (first, second, elsewhere):
        imports.set_mapping(job, imports.propose_mapping(job))
    said = []

    def import_the_second() -> None:
        def waiting(ahead: ImportJob) -> None:
            said.append(ahead)
            # The first one ends while the second waits.
            run.end(first, ImportJob.State.COMPLETE)

        assert imports.run_import(elsewhere, waiting=said.append).state == ImportJob.State.COMPLETE
        assert imports.run_import(second, waiting=waiting).state == ImportJob.State.COMPLETE

    run.run_phase(first, ImportJob.Phase.IMPORT, lambda _job: import_the_second())
    assert said == [first]
    assert Member.objects.filter(site=site).count() == 1


def test_an_import_that_is_cancelled_while_it_waits_ends() -> None:
    site = make_site()
    first, second = (
        imports.start_import(site, ContentFile(f"phone\n{PHONES[0]}\n".encode()), "a.csv") for _ in range(2)
    )
    for job in (first, second):
        imports.set_mapping(job, imports.propose_mapping(job))

    def import_the_second() -> None:
        job = imports.run_import(second, waiting=lambda _ahead: imports.ask_cancel(second))
        assert job.state == ImportJob.State.CANCELLED

    run.run_phase(first, ImportJob.Phase.IMPORT, lambda _job: import_the_second())
    assert not Member.objects.exists()

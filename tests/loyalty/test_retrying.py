"""Several writers of one site at the same moment: each of them ends, and nobody is lost or made twice."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.db import OperationalError, connection
from django.utils import timezone

from loyalty import imports
from loyalty.actions import record_actions
from loyalty.member_upsert import MemberUpsert
from loyalty.models import LoyaltyAction, Member, Site
from tests.factories import make_phone, make_site

pytestmark = pytest.mark.django_db(transaction=True)


def in_thread(*work: Any) -> None:
    """Run functions at the same time, each over a connection of its own that does not wait for long."""

    def run(act: Any) -> None:
        act()
        connection.close()

    threads = [threading.Thread(target=run, args=(act,)) for act in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def add_elsewhere(site: Site, phone: str) -> None:
    def add() -> None:
        with connection.cursor() as cursor:
            impatient = "SET lock_timeout = 200" if connection.vendor == "postgresql" else "PRAGMA busy_timeout = 200"
            cursor.execute(impatient)
        # The import may let nobody in between any more.
        with suppress(OperationalError):
            Member.objects.create(site=site, phone=phone)

    in_thread(add)


@pytest.fixture
def newcomers(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Phones of which one becomes a member each time between the look-up of a slice and its writing."""
    phones = iter([make_phone(number) for number in range(10)])
    match = MemberUpsert.match

    def match_and_be_late(upsert: MemberUpsert) -> Any:
        merged = match(upsert)
        add_elsewhere(Site.objects.get(pk=upsert.site_id), next(phones))
        return merged

    monkeypatch.setattr(MemberUpsert, "match", match_and_be_late)
    return phones


def test_an_import_ends_while_others_keep_adding_its_people(newcomers: Iterator[str]) -> None:
    site, other = make_site(), make_site()
    lines = "".join(f"{make_phone(number)},Ada\n" for number in range(10))
    job = imports.start_import(site, ContentFile(f"phone,first_name\n{lines}".encode()), "members.csv")
    imports.set_mapping(job, imports.propose_mapping(job))
    job = imports.run_import(job)
    assert (job.state, job.error, job.read) == ("COMPLETE", "", 10)
    assert job.created + job.updated == 10
    assert Member.objects.filter(site=site, first_name="Ada").count() == 10
    assert not Member.objects.filter(site=other).exists()


def test_two_calls_with_the_same_new_people_in_another_order_are_both_answered() -> None:
    site = make_site()
    phones = [make_phone(number) for number in range(400)]
    answers: list[list[str]] = []

    def post(name: str, order: list[str]) -> None:
        items = [
            {"activity_id": f"{name}-{phone}", "action": f"10{at % 7}", "phone": phone,
             "occurred_at": timezone.now().isoformat()}
            for at, phone in enumerate(order)
        ]  # fmt: skip
        answers.append([result.status for result in record_actions(site, items)])

    in_thread(lambda: post("up", phones), lambda: post("down", phones[::-1]), lambda: post("again", phones[::-1]))
    assert answers == [["accepted"] * 400] * 3
    assert (Member.objects.count(), LoyaltyAction.objects.count()) == (400, 1_200)

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.actions import record_actions
from loyalty.member_upsert import MemberUpsert
from loyalty.models import Member
from tests.factories import make_member, make_site

pytestmark = pytest.mark.django_db


def plan_of(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + statement)
        return "\n".join(str(row) for row in cursor.fetchall())


def test_the_holder_of_a_loyalty_id_is_found_by_its_index() -> None:
    """Reading all members for each row of a file would let its time grow with the square of its length."""
    site = make_site()
    old = make_member(site, phone="+17705550101", external_id="M1")
    upsert = MemberUpsert(site.pk, ("phone", "external_id"))
    with transaction.atomic():
        upsert.stage([2], [("+17705550102", "M1")])
        merged = upsert.match()
        with CaptureQueriesContext(connection) as queries:
            upsert.write(merged, now=timezone.now())
        (moves,) = [q["sql"] for q in queries if q["sql"].startswith("INSERT INTO import_moved")]
        if connection.vendor == "sqlite":  # PostgreSQL reads a table of one row as it likes, whatever its indexes
            assert "member_external_id" in plan_of(moves)
    old.refresh_from_db()
    assert old.replaced_by == Member.objects.get(phone="+17705550102")


def test_an_action_finds_its_member_by_an_index_on_sqlite_too() -> None:
    site = make_site()
    make_member(site, external_id="M1", email="ada@example.com")
    item = {"activity_id": "a", "action": "109", "external_id": "M1"}
    with CaptureQueriesContext(connection) as queries:
        assert record_actions(site, [item])[0].status == "accepted"
    looked_up = [q["sql"] for q in queries if '"external_id" IN' in q["sql"]]
    assert looked_up
    if connection.vendor == "sqlite":
        assert all("member_external_id" in plan_of(sql) for sql in looked_up)

"""The columns of our files as a resource of django-import-export: the same cleaning and the same sentences."""

import tablib

from loyalty.models import Member
from loyalty.resources import MemberResource
from tests.factories import make_member, make_site


def table(*rows: tuple[str, ...]) -> tablib.Dataset:
    return tablib.Dataset(*rows, headers=["phone", "first_name", "points", "birth_date"])


def test_a_small_table_is_imported_into_one_site(db: None) -> None:
    site, other = make_site(), make_site()
    make_member(site, phone="+14045550102", first_name="Grace", points=7)
    stranger = make_member(other, phone="+17705550101", first_name="Ada")
    result = MemberResource(site).import_data(
        table(("(770) 555-0101", "Ada", "1,200", "12/10/1990"), ("404-555-0102", "", "--", ""))
    )
    assert (result.totals["new"], result.totals["update"]) == (1, 1)
    found = Member.objects.filter(site=site).order_by("phone").values_list("phone", "first_name", "points")
    # A blank cell leaves the field as it is, and two dashes empty it.
    assert list(found) == [("+14045550102", "Grace", None), ("+17705550101", "Ada", 1200)]
    stranger.refresh_from_db()
    assert (stranger.first_name, stranger.points) == ("Ada", None)


def test_a_bad_cell_is_answered_in_a_sentence_and_nothing_is_written(db: None) -> None:
    result = MemberResource(make_site()).import_data(table(("call me", "Ada", "", ""), ("770-555-0101", "", "", "")))
    (error,) = [error for row in result.rows for error in row.errors]
    assert str(error.error) == "The phone has letters or no digits. Enter it in digits, with country code."
    assert not Member.objects.exists()

import pytest

from loyalty import member_search
from loyalty.models import Member, Site
from tests.factories import make_member, make_site

pytestmark = pytest.mark.django_db


@pytest.fixture
def site() -> Site:
    site = make_site()
    make_member(site, phone="+17705550101", email="ada@example.com", external_id="L-77", first_name="Ada",
                last_name="Lovelace")  # fmt: skip
    make_member(site, phone="+447700900123", email="mcd@example.com", external_id="7705550101", first_name="Hamish",
                last_name="McDonald")  # fmt: skip
    return site


def found(site: Site, text: str, country: str = "US") -> list[str]:
    rows = member_search.search(Member.objects.filter(site=site), text, country)
    return sorted(rows.values_list("first_name", flat=True))


@pytest.mark.parametrize(
    "text",
    [
        "+17705550101",
        "1 (770) 555-0101",
        "770.555.0101",
        "+1 770 555 0101",
        "00 1 770 555 0101",
        "７７０５５５０１０１",
    ],
)
def test_a_phone_is_found_in_any_spelling(site: Site, text: str) -> None:
    assert "Ada" in found(site, text)


def test_a_number_may_also_be_a_loyalty_id(site: Site) -> None:
    assert found(site, "7705550101") == ["Ada", "Hamish"]


def test_the_country_decides_what_a_national_number_is(site: Site) -> None:
    assert found(site, "770 555 0101", "CA") == ["Ada"]
    assert found(site, "770 555 0101", "GB") == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ADA@example.com", ["Ada"]),
        ("L-77", ["Ada"]),
        ("l-77", []),
        ("love", ["Ada"]),
        ("LOVE", ["Ada"]),
        ("ada lov", ["Ada"]),
        ("Lov, Ad", ["Ada"]),
        ("McD", ["Hamish"]),
        ("ace", []),
        ("%", []),
        ("", ["Ada", "Hamish"]),
        ("a\x00b", []),
    ],
)
def test_other_names_of_a_member(site: Site, text: str, names: list[str]) -> None:
    assert found(site, text) == names


def test_our_own_number_finds_one_member(site: Site) -> None:
    ada = Member.objects.get(first_name="Ada")
    assert found(site, f"#{ada.pk}") == ["Ada"]


def test_no_search_reads_the_whole_table(site: Site) -> None:
    for text in ("770-555-0101", "ada@example.com", "L-77", "Lov", "Ada Lov"):
        sql = str(member_search.search(Member.objects.all(), text).query).upper()
        assert "%L" not in sql.replace("LIKE L", "") and "LIKE %" not in sql


def test_tiers_are_those_of_the_site_alone(site: Site) -> None:
    other = make_site()
    for tier in ("Gold", "Bronze", "Gold", ""):
        make_member(site, tier=tier)
    make_member(other, tier="Platinum")
    assert member_search.tiers_of(site) == ["Bronze", "Gold"]
    assert member_search.tiers_of(make_site()) == []

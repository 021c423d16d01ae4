"""Who may be texted, over several sites at once and by country."""

import pytest

from loyalty.models import Consent, Member
from loyalty.reach import reachable
from tests.factories import make_consent, make_member, make_site

pytestmark = pytest.mark.django_db

PHONES = {
    "US": "+17705550101",
    "CA": "+14165550102",
    "JM": "+18765550103",
    "GB": "+447400555010",
    "JE": "+447797555010",
    "FR": "+33612345678",
}


@pytest.mark.parametrize("countries", [["US", "CA", "GB"], ["US"], ["CA", "JM"], ["GB"], ["JE", "FR"], []])
def test_only_phones_of_allowed_countries_are_reachable(countries: list[str]) -> None:
    site, other = make_site(allowed_countries=countries), make_site(allowed_countries=list(PHONES))
    for owner in (site, other):
        for country, phone in PHONES.items():
            make_consent(make_member(owner, phone=phone, first_name=country))
    members = Member.objects.filter(site=site)
    assert sorted(reachable(members, site).values_list("first_name", flat=True)) == sorted(countries)
    assert sorted(reachable(members).values_list("first_name", flat=True)) == sorted(countries)
    assert reachable(Member.objects.all()).count() == len(countries) + len(PHONES)


def test_each_site_has_its_own_consent() -> None:
    here, there = make_site(), make_site()
    mine, theirs = make_member(here, phone=PHONES["US"]), make_member(there, phone=PHONES["US"])
    make_consent(mine)
    make_consent(theirs, Consent.State.UNSUBSCRIBED)
    assert list(reachable(Member.objects.all())) == [mine]

"""Which countries' numbers begin how: what `phones.country_of` says of one valid number, as prefixes and patterns that
a database can test on a million of them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import phonenumbers
from phonenumbers import PhoneMetadata

from attentive_integration.phones import NANP_COUNTRIES, country_of

_KINDS = (
    "mobile", "fixed_line", "personal_number", "voip", "toll_free", "premium_rate", "shared_cost", "pager", "uan",
    "voicemail",
)  # fmt: skip
_AREAS = [str(area) for area in range(200, 1000)]


@dataclass(frozen=True)
class Numbers:
    """The valid E.164 numbers that begin with `prefix`, narrowed down by at most one of the rest.

    `areas` and `not_areas` are the three digits after +1; `pattern` is a regular expression over the whole number, in
    the syntax that Python and PostgreSQL share.
    """

    prefix: str
    areas: tuple[str, ...] = ()
    not_areas: tuple[str, ...] = ()
    pattern: str = ""


def numbers_of(countries: Collection[str]) -> list[Numbers]:
    """Return the numbers of these countries (two-letter codes); codes that no telephone plan has are left out."""
    wanted = set(countries)
    calling_codes = {phonenumbers.country_code_for_region(country) for country in wanted} - {0}
    return [_of_calling_code(code, wanted) for code in sorted(calling_codes)]


def _of_calling_code(code: int, wanted: set[str]) -> Numbers:
    sharing = phonenumbers.region_codes_for_country_code(code)
    inside = [country for country in sharing if country in wanted]
    if len(inside) == len(sharing):
        return Numbers(f"+{code}")
    if code == 1:
        areas = tuple(area for area in _AREAS if _country_of_area(area) in wanted)
        not_areas = tuple(area for area in _AREAS if _country_of_area(area) not in wanted)
        return Numbers("+1", areas=areas) if len(areas) < len(not_areas) else Numbers("+1", not_areas=not_areas)
    # The library asks the first of the sharing countries first, so a number in its plan is no other's.
    first = f"(?!{_plan(sharing[:1])}$)" if sharing[0] not in wanted else ""
    return Numbers(f"+{code}", pattern=rf"^\+{code}{first}{_plan(inside)}$")


@cache
def _country_of_area(area: str) -> str:
    """Return the country of a North American area code; within one, the exchange never changes it."""
    for country in sorted(NANP_COUNTRIES - {"US", "CA"}):
        plan = PhoneMetadata.metadata_for_region(country)
        digits = plan.leading_digits if plan else None
        if digits and re.match(digits, area):
            return country
    return "CA" if country_of(f"+1{area}5550100") == "CA" else "US"


def _plan(countries: Collection[str]) -> str:
    """Return the pattern of the countries' national numbers, of all kinds: the library counts each as the country's."""
    plans = [PhoneMetadata.metadata_for_region(country) for country in countries]
    kinds = [getattr(plan, kind) for plan in plans for kind in _KINDS]
    patterns = {kind.national_number_pattern for kind in kinds if kind and kind.national_number_pattern}
    return f"(?:{'|'.join(sorted(patterns))})"

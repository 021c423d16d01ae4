"""What the database tests on a number is what phonenumbers says of it."""

import random
import re

import phonenumbers
import pytest

from attentive_integration.phone_countries import Numbers, numbers_of
from attentive_integration.phones import country_of

CHOICES = [
    ("US", "CA", "GB"),
    ("US",),
    ("CA",),
    ("US", "CA"),
    ("US", "PR", "DO", "JM"),
    ("GB",),
    ("JE",),
    ("GB", "GG", "IM", "JE"),
    ("AU", "NO", "IT"),
    ("KZ", "CX", "VA", "SJ"),
    (),
    ("ZZ",),
]


def holds(numbers: Numbers, phone: str) -> bool:
    """Test a number as the database does."""
    return (
        phone.startswith(numbers.prefix)
        and (not numbers.areas or phone[2:5] in numbers.areas)
        and phone[2:5] not in numbers.not_areas
        and (not numbers.pattern or re.search(numbers.pattern, phone) is not None)
    )


@pytest.fixture(scope="module")
def phones() -> list[str]:
    """Valid numbers: an example of every country and kind, and random ones of the two plans that countries share."""
    dice = random.Random(20261125)
    texts = [f"+1{dice.randrange(2_000_000_000, 9_999_999_999)}" for _ in range(6_000)]
    texts += [f"+44{dice.choice('17')}{dice.randrange(10**9):09d}" for _ in range(6_000)]
    for country in phonenumbers.SUPPORTED_REGIONS:
        for kind in (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE):
            example = phonenumbers.example_number_for_type(country, kind)
            if example is not None:
                texts.append(phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164))
    return [text for text in texts if phonenumbers.is_valid_number(phonenumbers.parse(text))]


@pytest.mark.parametrize("countries", CHOICES)
def test_exactly_the_numbers_of_these_countries_are_meant(countries: tuple[str, ...], phones: list[str]) -> None:
    meant = numbers_of(countries)
    wrong = [phone for phone in phones if any(holds(one, phone) for one in meant) != (country_of(phone) in countries)]
    assert wrong == [] and len(phones) > 5_000


def test_a_whole_plan_is_a_prefix_alone() -> None:
    assert numbers_of(["GB", "GG", "IM", "JE"]) == [Numbers("+44")]
    assert numbers_of(["FR"]) == [Numbers("+33")]

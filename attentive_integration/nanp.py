"""Writes nanp.json, the data of the phone fast path: `python -m attentive_integration.nanp` (about a minute).

Run it after changing the pinned version of phonenumbers; a test fails until it has been run.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path

import phonenumbers
from phonenumbers import PhoneNumber, geocoder

DATA_FILE = Path(__file__).parent / "nanp.json"
# The library decides by prefix; these lines cover each way in which the last four digits could matter.
_LINES = ("0000", "0100", "1234", "2345", "5555", "6789", "8901", "9999")
STATES = {
    "Alabama": "AL", "Alaska": "AK", "Arizona": "AZ", "Arkansas": "AR", "California": "CA", "Colorado": "CO",
    "Connecticut": "CT", "Delaware": "DE", "Washington D.C.": "DC", "Florida": "FL", "Georgia": "GA", "Hawaii": "HI",
    "Idaho": "ID", "Illinois": "IL", "Indiana": "IN", "Iowa": "IA", "Kansas": "KS", "Kentucky": "KY", "Louisiana": "LA",
    "Maine": "ME", "Maryland": "MD", "Massachusetts": "MA", "Michigan": "MI", "Minnesota": "MN", "Mississippi": "MS",
    "Missouri": "MO", "Montana": "MT", "Nebraska": "NE", "Nevada": "NV", "New Hampshire": "NH", "New Jersey": "NJ",
    "New Mexico": "NM", "New York": "NY", "North Carolina": "NC", "North Dakota": "ND", "Ohio": "OH", "Oklahoma": "OK",
    "Oregon": "OR", "Pennsylvania": "PA", "Rhode Island": "RI", "South Carolina": "SC", "South Dakota": "SD",
    "Tennessee": "TN", "Texas": "TX", "Utah": "UT", "Vermont": "VT", "Virginia": "VA", "Washington State": "WA",
    "Washington": "WA", "West Virginia": "WV", "Wisconsin": "WI", "Wyoming": "WY",
}  # fmt: skip


def _number(area: int, exchange: int, line: str) -> PhoneNumber:
    return PhoneNumber(country_code=1, national_number=int(f"{area}{exchange}{line}"))


def whole_country(area: int, lines: tuple[str, ...] = _LINES) -> str | None:
    """Return the country of an area code of which the library accepts every exchange as that country's, else None."""
    countries: set[str | None] = set()
    for exchange in range(200, 1000):
        for line in lines:
            number = _number(area, exchange, line)
            countries.add(phonenumbers.region_code_for_number(number) if phonenumbers.is_valid_number(number) else None)
            if len(countries) > 1 or None in countries:
                return None
    return countries.pop()


def state(area: int) -> str | None:
    """Return the US state of an area code: the one that nearly all its descriptions name, else None.

    Nearly, because single exchanges are described wrongly (one of New Jersey's 201 as New York).
    """
    found: Counter[str] = Counter()
    for exchange in range(200, 1000):
        number = _number(area, exchange, "0100")
        if phonenumbers.is_valid_number(number) and phonenumbers.region_code_for_number(number) == "US":
            place = geocoder.description_for_number(number, "en")
            last = place.rsplit(", ", 1)[-1]
            found[STATES.get(place) or (last if last in STATES.values() else "")] += 1
    del found[""]
    name, count = max(found.items(), key=lambda item: item[1], default=("", 0))
    return name if count and count >= 0.95 * found.total() else None


def country_names() -> dict[str, str]:
    """Return the English name of every country that the library knows."""
    names = {}
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        example = phonenumbers.example_number(region)
        name = geocoder.country_name_for_number(example, "en") if example else ""
        if name:
            names[region] = name
    return names


def main() -> None:
    whole: dict[str, list[str]] = defaultdict(list)
    states: dict[str, list[str]] = defaultdict(list)
    for area in range(200, 1000):
        if country := whole_country(area):
            whole[country].append(str(area))
        if name := state(area):
            states[name].append(str(area))
    data = {
        "phonenumbers": phonenumbers.__version__,
        "nanp": " ".join(sorted(phonenumbers.region_codes_for_country_code(1))),
        "whole": {country: " ".join(areas) for country, areas in sorted(whole.items())},
        "states": {name: " ".join(areas) for name, areas in sorted(states.items())},
        "countries": country_names(),
    }
    DATA_FILE.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

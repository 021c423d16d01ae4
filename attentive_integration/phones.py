"""Phone numbers. phonenumbers is the authority; a fast path for North America only ever agrees with it.

The fast path needs an area code of which the library accepts every number. Those, their countries and their states
stand in nanp.json, written by `python -m attentive_integration.nanp` for the pinned version of the library.
"""

import re
import unicodedata
from collections.abc import Collection
from json import loads
from pathlib import Path

import phonenumbers
from django.utils.translation import gettext as _
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberFormat, ValidationResult
from phonenumbers import timezone as phone_time_zones

_DATA = loads((Path(__file__).parent / "nanp.json").read_text())
_COUNTRY_NAMES: dict[str, str] = _DATA["countries"]
_AREA_COUNTRY: dict[str, str] = {area: country for country, areas in _DATA["whole"].items() for area in areas.split()}
_AREA_STATE: dict[str, str] = {area: state for state, areas in _DATA["states"].items() for area in areas.split()}
NANP_COUNTRIES = frozenset(_DATA["nanp"].split())

_SEPARATOR = r"[ .-]?"
_NANP = re.compile(rf"(?:1{_SEPARATOR})?\(?([2-9]\d\d)\)?{_SEPARATOR}([2-9]\d\d){_SEPARATOR}(\d{{4}})", re.ASCII)
_NANP_PLUS = re.compile(rf"\+1{_SEPARATOR}\(?([2-9]\d\d)\)?{_SEPARATOR}([2-9]\d\d){_SEPARATOR}(\d{{4}})", re.ASCII)
E164 = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
_EXPONENT = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]?\d{1,3}", re.ASCII)
_DECIMAL = re.compile(r"\+?\d{7,15}[.,]0{1,2}", re.ASCII)
_EXTENSION = re.compile(r"(?i)\d[\s,;.-]*(?:;?ext(?:ension|n)?\b[.=: ]*|x\.? ?|#) ?\d{1,9}#?\s*")


class PhoneError(ValueError):
    """A phone that cannot be used. `code` is one word for counting, `sentence` says what to do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    def __reduce__(self) -> tuple[type["PhoneError"], tuple[str, str]]:
        return PhoneError, (self.code, self.sentence)


def to_e164(raw: str, country: str = "US", allowed: Collection[str] = ("US", "CA", "GB")) -> str:
    """Return the phone in E.164, such as +17705550101.

    `country` (ISO 3166, two letters) is assumed where the phone names none; `allowed` are the countries that may be
    texted. Takes full-width digits, spaces, dots, dashes, parentheses, and the prefixes +, 00 and 011. Raises
    PhoneError with the code EMPTY, SPREADSHEET_EXPONENT, SPREADSHEET_DECIMAL, EXTENSION, NOT_A_NUMBER, TOO_SHORT,
    TOO_LONG, INVALID or COUNTRY_NOT_ALLOWED.
    """
    match = (_NANP_PLUS if country not in NANP_COUNTRIES or raw[:1] == "+" else _NANP).fullmatch(raw)
    if match is not None:
        area, exchange, line = match.groups()
        if _AREA_COUNTRY.get(area) in allowed:
            return f"+1{area}{exchange}{line}"
    number = _parse(raw, country)
    region = phonenumbers.region_code_for_number(number) or ""
    if region not in allowed:
        raise _country_refused(region, allowed)
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def spellings(query: str, country: str = "US") -> str | None:
    """Return the E.164 number that a search box or a webhook means by any spelling, of any country; else None."""
    text = _tidy(query)
    if E164.fullmatch(text):
        return text
    try:
        return phonenumbers.format_number(_parse(text, country), PhoneNumberFormat.E164)
    except PhoneError:
        return None


def country_of(e164: str) -> str:
    """Return the two-letter country of a number in E.164; empty when the library knows none."""
    if e164.startswith("+1") and (country := _AREA_COUNTRY.get(e164[2:5])) and len(e164) == 12:
        return country
    number = _known(e164)
    return (phonenumbers.region_code_for_number(number) or "") if number else ""


def is_country(code: object) -> bool:
    """Say whether this is the two-letter code of a country that has phones, in capitals."""
    return isinstance(code, str) and code in phonenumbers.SUPPORTED_REGIONS


def country_name(code: str) -> str:
    """Return the English name of a two-letter country, or the code when it has none."""
    return _COUNTRY_NAMES.get(code, code)


def time_zones(e164: str) -> tuple[str, ...]:
    """Return every time zone in which the number may be, by its prefix; empty when nothing is known."""
    number = _known(e164)
    zones = phone_time_zones.time_zones_for_number(number) if number else ()
    return tuple(zone for zone in zones if zone != phone_time_zones.UNKNOWN_TIMEZONE)


def state_of(e164: str) -> str | None:
    """Return the two-letter US state of the number's area code; None when the area code tells no single one."""
    return _AREA_STATE.get(e164[2:5]) if e164.startswith("+1") and len(e164) == 12 else None


def grouped(e164: str) -> str:
    """Return the number spaced for reading, such as +1 770-555-0101; what is no number comes back as it is."""
    number = _known(e164)
    return phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL) if number else e164


def masked(e164: str) -> str:
    """Return the country code and the last four digits, such as +1 ••• ••• 0101."""
    number = _known(e164)
    if number is None:
        return f"••• {e164[-4:]}" if len(e164) > 8 else "•••" if e164 else ""
    return f"+{number.country_code} ••• ••• {e164[-4:]}"


# --- The library's way ------------------------------------------------------------------------------------------------


def _known(e164: str) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(e164)
    except NumberParseException:
        return None


def _tidy(raw: str) -> str:
    """Return the text with full-width signs made plain, without invisible characters and a leading apostrophe."""
    text = unicodedata.normalize("NFKC", raw[:200])
    text = "".join(" " if char.isspace() else char for char in text if unicodedata.category(char) not in ("Cf", "Cc"))
    return text.strip().removeprefix("'").removeprefix("tel:").strip()


def _parse(raw: str, country: str) -> PhoneNumber:
    """Return the valid number that the text means, or raise PhoneError."""
    text = _tidy(raw)
    if not text:
        raise PhoneError("EMPTY", _("The phone is empty. Enter the member's mobile number."))
    _refuse_damage(text)
    digits = sum(char.isdigit() for char in text)
    if text.startswith("00"):
        text = f"+{text[2:]}"
    try:
        number = phonenumbers.parse(text, country)
    except NumberParseException as error:
        raise _unparsable(error, digits) from error
    if number.extension:
        raise _has_extension()
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible in (ValidationResult.TOO_SHORT, ValidationResult.IS_POSSIBLE_LOCAL_ONLY):
        raise _too_short(digits)
    if possible == ValidationResult.TOO_LONG:
        raise _too_long(digits)
    if not phonenumbers.is_valid_number(number):
        raise PhoneError("INVALID", _("No country has such a phone number. Check its digits and its country code."))
    return number


def _refuse_damage(text: str) -> None:
    """Raise for what the library would read as a number although it is none, or another one."""
    if _EXPONENT.fullmatch(text):
        raise PhoneError(
            "SPREADSHEET_EXPONENT",
            _(
                "A spreadsheet has cut the digits of this phone (it looks like 1.77056E+10), and they cannot be "
                "recovered. Export the list again, or format the column as Text before saving."
            ),
        )
    if _DECIMAL.fullmatch(text):
        raise PhoneError(
            "SPREADSHEET_DECIMAL",
            _(
                "A spreadsheet has turned this phone into a decimal number. Format the column as Text and export it "
                "again."
            ),
        )
    if _EXTENSION.search(text):
        raise _has_extension()
    if any(char.isalpha() for char in text) or not any(char.isdigit() for char in text):
        raise PhoneError(
            "NOT_A_NUMBER", _("The phone has letters or no digits. Enter it in digits, with country code.")
        )


def _has_extension() -> PhoneError:
    return PhoneError("EXTENSION", _("The phone has an extension, which texts cannot reach. Use the mobile number."))


def _too_short(digits: int) -> PhoneError:
    return PhoneError(
        "TOO_SHORT", _("The phone is too short: it has %(digits)s digits. Add the missing ones.") % {"digits": digits}
    )


def _too_long(digits: int) -> PhoneError:
    return PhoneError(
        "TOO_LONG",
        _("The phone is too long: it has %(digits)s digits. Enter one number, with + before a foreign country code.")
        % {"digits": digits},
    )


def _unparsable(error: NumberParseException, digits: int) -> PhoneError:
    if error.error_type == NumberParseException.TOO_LONG:
        return _too_long(digits)
    if error.error_type in (NumberParseException.TOO_SHORT_NSN, NumberParseException.TOO_SHORT_AFTER_IDD):
        return _too_short(digits)
    if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
        return PhoneError("INVALID", _("The phone begins with a country code that does not exist. Check its digits."))
    return PhoneError("NOT_A_NUMBER", _("This is no phone number. Enter it in digits, with country code."))


def _country_refused(region: str, allowed: Collection[str]) -> PhoneError:
    sentence = _("The phone is a number of %(country)s; this site texts %(allowed)s only. Use a number from there.") % {
        "country": country_name(region) if region else _("no single country"),
        "allowed": ", ".join(country_name(code) for code in allowed) or _("no country"),
    }
    return PhoneError("COUNTRY_NOT_ALLOWED", sentence)

"""Asks Attentive whether people may be texted. Asking changes nothing, there or here."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext as _

from attentive_integration import phones, rate_limit
from attentive_integration.http import ErrorKind, VendorError
from loyalty import tokens
from loyalty.models import AccessToken, Site

# People in one request of a browser: each is a call, and the page waits for all of them.
MOST_AT_ONCE = 50


@dataclass(frozen=True)
class Answer:
    """Attentive's word on one phone: `may_be_texted` is None when there was none, and the sentence says why."""

    phone: str
    may_be_texted: bool | None
    sentence: str


def ask(site: Site, wanted: Iterable[str]) -> list[Answer]:
    """Ask for each phone (E.164), one after the other at the vendor's pace; a refused token ends the asking."""
    try:
        client = tokens.attentive_client(site)
    except tokens.TokenUnusable as missing:
        return [Answer(phone, None, str(missing)) for phone in wanted]
    # The pace that all calls with this key share, in every process.
    secret = tokens.token_secret(site, AccessToken.Kind.ATTENTIVE_APP) or ""
    answers: list[Answer] = []
    refused = ""
    for phone in wanted:
        if refused:
            answers.append(Answer(phone, None, refused))
            continue
        try:
            rate_limit.acquire(*tokens.pace(secret))
            eligible = client.get_lists(phone=phone).is_eligible("MARKETING", "TEXT")
        except VendorError as error:
            refused = error.sentence if error.kind == ErrorKind.CREDENTIALS else ""
            answers.append(Answer(phone, None, error.sentence))
        else:
            answers.append(Answer(phone, eligible, _words(phone, eligible)))
    return answers


def _words(phone: str, eligible: bool) -> str:
    if eligible:
        return _("Attentive may text this phone: the person is subscribed.")
    return _(
        "Attentive does not text %(phone)s yet (eligibility for marketing texts: no). They have not subscribed, have "
        "not answered Y, or have opted out."
    ) % {"phone": phones.masked(phone)}

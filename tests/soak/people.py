"""Sites that are connected to the sandbox, with many people who may be texted."""

import json
from pathlib import Path
from typing import Any

from attentive_integration import nanp
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import consent
from loyalty.models import AccessToken, ConsentEvent, Member, Site
from tests.factories import make_sign_up_source, make_site, make_token

_AREA_CODES: list[str] = json.loads(Path(nanp.DATA_FILE).read_text())["whole"]["US"].split()
_SLICE = 1_000


def phone(number: int) -> str:
    """Return one of some 30,000 reserved fictional numbers (555-0100 to 555-0199 of each area code)."""
    return f"+1{_AREA_CODES[number // 100 % len(_AREA_CODES)]}55501{number % 100:02d}"


def connected_site(
    sandbox: SandboxProcess, company: str, *, members: int, subscribed: int | None = None, **fields: Any
) -> Site:
    """Make a LIVE site with all its tokens and members, the first `subscribed` of them (all) here and at Attentive."""
    site = make_site(**{"client_name": company.title(), **fields})
    make_token(site, AccessToken.Kind.ATTENTIVE_APP, f"app-{company}")
    make_token(site, AccessToken.Kind.ATTENTIVE_LEGACY, f"legacy-{company}")
    make_token(site, AccessToken.Kind.LOYALTY, f"loyalty-{company}")
    make_token(site, AccessToken.Kind.WEBHOOK_SIGNING, f"signing-{company}")
    make_sign_up_source(site)
    phones = [phone(number) for number in range(members)]
    for start in range(0, members, _SLICE):
        some = phones[start : start + _SLICE]
        Member.objects.bulk_create(
            Member(site=site, phone=number, external_id=f"M{start + place}", first_name="Ada")
            for place, number in enumerate(some)
        )
    joined = phones[:subscribed]
    for start in range(0, len(joined), _SLICE):
        some = joined[start : start + _SLICE]
        consent.hear_many(site, [(number, None) for number in some], source=ConsentEvent.Source.SUBSCRIBER_LIST)
        sandbox.add_subscribers(company, some)
    sandbox.configure_company(company)
    return site

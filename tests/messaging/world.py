"""A client site that is connected to the sandbox, with people who may be texted."""

import itertools
from typing import Any

from attentive_integration.sandbox.process import SandboxProcess
from loyalty.models import AccessToken, Consent, Member, Site
from messaging.models import Message
from tests.factories import make_consent, make_member, make_site, make_token

_companies = itertools.count(1)


def state_of(message: Message) -> tuple[str, str]:
    """Return the state and the reason of a message as they stand now."""
    message.refresh_from_db()
    return message.state, message.reason


class World:
    """One site and its company at the sandbox."""

    def __init__(self, sandbox: SandboxProcess, **fields: Any) -> None:
        self.sandbox = sandbox
        self.company = f"company{next(_companies)}"
        self.site: Site = make_site(**fields)
        make_token(self.site, AccessToken.Kind.ATTENTIVE_APP, f"app-{self.company}")
        make_token(self.site, AccessToken.Kind.ATTENTIVE_LEGACY, f"legacy-{self.company}")
        sandbox.configure_company(self.company)

    def subscriber(self, **fields: Any) -> Member:
        """Make a member who is subscribed here and at Attentive."""
        member = make_member(self.site, **fields)
        make_consent(member, Consent.State.SUBSCRIBED)
        self.sandbox.add_subscribers(self.company, [member.phone])
        return member

    def texts(self) -> list[tuple[str, str]]:
        """Return (phone, body) of every text that Attentive accepted for this company, in order."""
        return [
            (record["to"], record["body"])
            for record in self.sandbox.ledger("MESSAGE")
            if record["company"] == self.company
        ]

    def events(self) -> list[dict[str, Any]]:
        return [record for record in self.sandbox.ledger("EVENT") if record["company"] == self.company]

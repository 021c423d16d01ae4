"""How a rule is written down: method, path, token family, and the function that answers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attentive_integration.phones import E164
from attentive_integration.sandbox.http_server import BadRequest, Reply, Request
from attentive_integration.sandbox.state import Company, State, TokenKind, now_ms


class Refused(Exception):
    """A request that a vendor refuses, with the status and the body of the answer."""

    def __init__(self, status: int, body: str | dict[str, Any]) -> None:
        super().__init__(str(body))
        self.status = status
        self.body = {"message": body} if isinstance(body, str) else body


@dataclass(slots=True)
class Call:
    """A request of a known company to one rule; `part` is what the path names, such as an id."""

    state: State
    company: Company
    request: Request
    part: str = ""

    def object(self) -> dict[str, Any]:
        """Return the body; raises BadRequest when it is no JSON object."""
        data = self.request.json()
        if not isinstance(data, dict):
            raise BadRequest("The body must be a JSON object.")
        return data

    def record(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return a ledger record of this request."""
        return {
            "kind": kind,
            "at": now_ms(),
            "company": self.company.key,
            "method": self.request.method,
            "path": self.request.path,
            "dropped": False,
            **fields,
        }


Rule = Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `writes` needs an app with the Write permission."""

    method: str
    pattern: re.Pattern[str]
    kind: TokenKind
    rule: Rule
    writes: bool


def route(method: str, path: str, kind: TokenKind, rule: Rule) -> Route:
    """Describe an endpoint; `{}` in the path stands for the part that the call names."""
    pattern = re.compile(re.escape(path).replace(r"\{\}", "([^/]+)"))
    return Route(method, pattern, kind, rule, kind is TokenKind.APP and method != "GET")


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, str] | None:
    """Return the route of a request and the part that its path names. Raises Refused 405 for another method."""
    known = False
    for candidate in routes:
        if match := candidate.pattern.fullmatch(path):
            if candidate.method == method:
                return candidate, match[1] if match.groups() else ""
            known = True
    if known:
        raise Refused(405, "Method not allowed")
    return None


def text_of(data: dict[str, Any], name: str) -> str:
    """Return a field that is a string or missing; anything else is refused."""
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"{name} must be a string")
    return value or ""


def addresses_of(user: Any) -> list[str]:
    """Return the phone and the e-mail of a user object; at least one, the phone in E.164."""
    if not isinstance(user, dict):
        raise Refused(400, "user is required")
    phone, email = text_of(user, "phone"), text_of(user, "email")
    if not phone and not email:
        raise Refused(400, "Either a phone or an email is required")
    if phone and not E164.fullmatch(phone):
        raise Refused(400, "Invalid phone number: phone must be in E.164 format")
    if email and ("@" not in email or " " in email):
        raise Refused(400, "Invalid email")
    return [address for address in (phone, email) if address]

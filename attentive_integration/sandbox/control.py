"""The control API under /sandbox/, and the page that shows the phones. It is for tests and people, not for the product.

POST bodies are JSON and must say so in Content-Type, so that no foreign web page can send them.
"""

import base64
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attentive_integration import phones
from attentive_integration.sandbox import people
from attentive_integration.sandbox.deliveries import check_url
from attentive_integration.sandbox.faults import DOWN, KINDS, FaultError
from attentive_integration.sandbox.http_server import BadRequest, Reply, Request
from attentive_integration.sandbox.routes import Refused
from attentive_integration.sandbox.state import (
    MARKETING,
    PENDING,
    SUBSCRIBED,
    SUBSCRIPTION_TYPES,
    UNSUBSCRIBED,
    Company,
    Subscriber,
    TokenKind,
    Webhook,
    now_ms,
)

if TYPE_CHECKING:
    from attentive_integration.sandbox.application import Sandbox

SHOWN_PHONES = 24
_PAGE = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/sandbox/page/sandbox.css": ("sandbox.css", "text/css; charset=utf-8"),
    "/sandbox/page/sandbox.js": ("sandbox.js", "text/javascript; charset=utf-8"),
    "/sandbox/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_COMPANY_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "domain": str,
    "contact_email": str,
    "site_id": str,
    "double_opt_in": bool,
    "read_only": bool,
    "sms_sent": bool,
    "sign_up_sources": dict,
}
_TOKEN_FIELDS = {
    "app_key": TokenKind.APP,
    "legacy_token": TokenKind.LEGACY,
    "loyalty_token": TokenKind.LOYALTY,
}
_WEBHOOK_FIELDS: dict[str, type | tuple[type, ...]] = {
    "webhook_url": str,
    "webhook_signing_key": str,
    "webhook_events": list,
    "webhook_jitter_seconds": (int, float),
    "webhook_replay": (int, float),
}
# The webhook that is set up in Attentive's screens, not by its API.
_UNIVERSAL = "universal"


class Control:
    """Answers the page and the control API of one sandbox."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox
        self._state = sandbox.state

    async def handle(self, request: Request) -> Reply:
        try:
            if request.method == "POST" and not _is_json(request):
                raise Refused(415, "Send Content-Type: application/json.")
            return await self._answer(request)
        except Refused as refusal:
            return Reply(refusal.status, refusal.body)
        except (BadRequest, FaultError, ValueError) as error:
            return Reply(400, {"message": str(error)})

    async def _answer(self, request: Request) -> Reply:
        match (request.method, request.path.strip("/").split("/")):
            case "GET", _ if request.path in _FILES:
                name, kind = _FILES[request.path]
                return Reply(200, (_PAGE / name).read_bytes(), {"Content-Type": kind, **_PAGE_HEADERS})
            case "GET", ["sandbox", "state"]:
                return Reply(200, self.state())
            case "GET", ["sandbox", "screens"]:
                return Reply(200, self._screens(request))
            case "GET", ["sandbox", "ledger"]:
                wanted = request.query.get("kind", "")
                lines = [line for line in self._sandbox.ledger.recent if wanted in ("", line["kind"])]
                return Reply(200, {"count": self._sandbox.ledger.count, "records": lines})
            case "GET", ["sandbox", "jobs", name]:
                return self._job_file(name.removesuffix(".jsonl"))
            case "POST", ["sandbox", "settings"]:
                return self._set(_object(request))
            case "POST", ["sandbox", "faults"]:
                return self._add_fault(_object(request))
            case "DELETE", ["sandbox", "faults", *number]:
                return await self._remove_faults(number)
            case "GET", ["sandbox", "companies", key, "phones"]:
                people_of = self._state.company(key).subscribers.values()
                return Reply(200, {person.address: _person(person) for person in people_of})
            case "GET", ["sandbox", "companies", key, "segments"]:
                members_of = self._state.company(key).segment_members.items()
                return Reply(200, {external_id: sorted(members) for external_id, members in members_of})
            case "POST", ["sandbox", "companies", key]:
                return self._configure(self._state.company(key), _object(request))
            case "POST", ["sandbox", "companies", key, "subscribers"]:
                return self._add_subscribers(self._state.company(key), _object(request))
            case "POST", ["sandbox", "companies", key, "phones", phone, "replies"]:
                return await self._reply(self._state.company(key), phone, _object(request))
        raise Refused(404, "The sandbox has no such address.")

    # --- What there is ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything but the screens."""
        sandbox = self._sandbox
        return {
            "version": self._state.version,
            "accepted": sandbox.ledger.count,
            "refused_by_pace": sandbox.pace.refused,
            "settings": {
                "duplicate_seconds": self._state.duplicate_seconds,
                "refuse_duplicates": self._state.refuse_duplicates,
                "limits": sandbox.pace.limits,
            },
            "faults": sandbox.faults.as_json(),
            "fault_kinds": KINDS,
            "companies": [_company(company) for company in self._state.companies.values()],
        }

    def _screens(self, request: Request) -> dict[str, Any]:
        """Return the state with the latest screens; only the version when the caller has that one already."""
        if request.query.get("version") == str(self._state.version):
            return {"version": self._state.version}
        wanted = request.query.get("company", "")
        places = [place for place in reversed(self._state.recent) if wanted in ("", place[0])]
        screens = []
        for key, address in places[:SHOWN_PHONES]:
            company = self._state.companies[key]
            person = company.subscribers[address]
            screens.append({"company": key, "name": company.name, "address": address, **_person(person)})
        return {**self.state(), "screens": screens, "more": max(0, len(places) - SHOWN_PHONES)}

    def _job_file(self, number: str) -> Reply:
        if (job := self._state.jobs.get(number)) is None:
            raise Refused(404, "There is no such job.")
        lines = "".join(f"{dumps(line)}\n" for line in job.lines)
        return Reply(200, lines.encode(), {"Content-Type": "application/jsonl"})

    # --- What can be changed ------------------------------------------------------------------------------------------

    def _configure(self, company: Company, fields: dict[str, Any]) -> Reply:
        known = {**_COMPANY_FIELDS, **dict.fromkeys(_TOKEN_FIELDS, str), **_WEBHOOK_FIELDS, "refused": list}
        for name, value in fields.items():
            if name not in known:
                raise ValueError(f"A company has no {name}.")
            if not isinstance(value, known[name]):
                raise ValueError(f"{name} of a company is of another type.")
        for name in _COMPANY_FIELDS.keys() & fields:
            setattr(company, name, fields[name])
        for name, kind in _TOKEN_FIELDS.items():
            company.tokens[kind] = fields.get(name) or company.tokens[kind]
        if "refused" in fields:
            if not all(kind in list(TokenKind) for kind in fields["refused"]):
                raise ValueError("refused is a list of app, legacy and loyalty.")
            company.refused = {TokenKind(kind) for kind in fields["refused"]}
        self._state.register(company)
        self._set_webhook(company, fields)
        self._state.version += 1
        return Reply(200, _company(company))

    def _set_webhook(self, company: Company, fields: dict[str, Any]) -> None:
        company.deliveries.jitter_seconds = fields.get("webhook_jitter_seconds", company.deliveries.jitter_seconds)
        company.deliveries.replay = fields.get("webhook_replay", company.deliveries.replay)
        webhook = company.webhooks.pop(_UNIVERSAL, None) or Webhook(_UNIVERSAL, "", f"signing-{company.key}")
        if fields.get("webhook_url"):
            check_url(fields["webhook_url"])
        webhook.url = fields.get("webhook_url", webhook.url)
        webhook.signing_key = fields.get("webhook_signing_key", webhook.signing_key)
        webhook.events = fields.get("webhook_events", webhook.events)
        if webhook.url:
            company.webhooks[_UNIVERSAL] = webhook

    def _add_subscribers(self, company: Company, fields: dict[str, Any]) -> Reply:
        """Make people subscribers without a text and without a webhook, as if they had joined long ago."""
        kind, status = fields.get("type", MARKETING), fields.get("status", SUBSCRIBED)
        if kind not in SUBSCRIPTION_TYPES or status not in (SUBSCRIBED, PENDING, UNSUBSCRIBED):
            raise ValueError("type and status are words such as MARKETING and SUBSCRIBED.")
        addresses = fields.get("phones")
        if not isinstance(addresses, list):
            raise ValueError("phones is a list.")
        for address in addresses:
            if not isinstance(address, str) or not (phones.E164.fullmatch(address) or "@" in address):
                raise ValueError("Each phone is in E.164, such as +17705550101.")
        for address in addresses:
            self._state.subscriber(company, address).subscriptions[kind] = status
        self._state.version += 1
        return Reply(200, {"count": len(addresses)})

    async def _reply(self, company: Company, phone: str, fields: dict[str, Any]) -> Reply:
        """Take what a person answers on the phone; a STOP or Y goes into the ledger before it is answered."""
        words = fields.get("text")
        if phone not in company.subscribers or not isinstance(words, str) or not words.strip():
            raise ValueError("Only a phone that the company knows can answer, and not with an empty text.")
        meaning = people.reply(self._state, company, phone, words)
        record = {"kind": f"REPLY_{meaning}", "at": now_ms(), "company": company.key, "phone": phone, "body": words}
        await self._sandbox.ledger.write(record)
        return Reply(200, {"meaning": meaning, **_person(company.subscribers[phone])})

    def _set(self, fields: dict[str, Any]) -> Reply:
        state, pace = self._state, self._sandbox.pace
        limits = fields.get("limits", {})
        seconds = fields.get("duplicate_seconds", state.duplicate_seconds)
        unknown = set(fields) - {"limits", "duplicate_seconds", "refuse_duplicates"}
        if unknown or not isinstance(limits, dict) or not limits.keys() <= pace.limits.keys():
            raise ValueError("Settings are duplicate_seconds, refuse_duplicates, and limits by endpoint class.")
        if not all(limit is None or (isinstance(limit, int) and limit >= 0) for limit in limits.values()):
            raise ValueError("A limit is a number of calls a second, or null for none.")
        if not isinstance(seconds, int | float) or seconds < 0:
            raise ValueError("duplicate_seconds is a number of seconds; 0 switches the suppression off.")
        pace.limits.update(limits)
        state.duplicate_seconds = seconds
        state.refuse_duplicates = bool(fields.get("refuse_duplicates", state.refuse_duplicates))
        state.version += 1
        return Reply(200, self.state()["settings"])

    def _add_fault(self, order: dict[str, Any]) -> Reply:
        fault = self._sandbox.faults.add(order)
        if fault.kind == DOWN:
            self._sandbox.go_down(fault)
        self._state.version += 1
        return Reply(200, asdict(fault))

    async def _remove_faults(self, number: list[str]) -> Reply:
        if number:
            self._sandbox.faults.remove(int(number[0]))
        else:
            self._sandbox.faults.clear()
        await self._sandbox.settle_down()
        self._state.version += 1
        return Reply(200, {"faults": self._sandbox.faults.as_json()})


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _object(request: Request) -> dict[str, Any]:
    data = request.json()
    if not isinstance(data, dict):
        raise ValueError("The body is a JSON object.")
    return data


def _company(company: Company) -> dict[str, Any]:
    """Return a company as the page and tests see it; its tokens open nothing but this sandbox."""
    bundle = {"site_id": company.site_id, "loyaltyToken": company.tokens[TokenKind.LOYALTY]}
    webhook = company.webhooks.get(_UNIVERSAL)
    return {
        "key": company.key,
        "name": company.name,
        "domain": company.domain,
        "company_id": company.company_id,
        "site_id": company.site_id,
        "double_opt_in": company.double_opt_in,
        "read_only": company.read_only,
        "refused": sorted(company.refused),
        "tokens": dict(company.tokens),
        "access_token": base64.b64encode(dumps(bundle).encode()).decode() if company.site_id else "",
        "webhook_url": webhook.url if webhook else "",
        "webhook_signing_key": webhook.signing_key if webhook else "",
        "webhooks": company.deliveries.as_json(),
        "people": len(company.subscribers),
        "counters": company.counters,
        "segments": {key: len(members) for key, members in company.segment_members.items()},
    }


def _person(person: Subscriber) -> dict[str, Any]:
    return {
        "shown": phones.grouped(person.address),
        "subscriptions": dict(person.subscriptions),
        "attributes": person.attributes,
        "screen": [asdict(bubble) for bubble in person.screen],
    }

"""Attentive's rules: accounts, subscriptions, texts, events, attributes, webhooks, privacy."""

import random
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from attentive_integration import phones
from attentive_integration.sandbox import people
from attentive_integration.sandbox.deliveries import check_url
from attentive_integration.sandbox.http_server import Reply
from attentive_integration.sandbox.routes import Call, Refused, addresses_of, route, text_of
from attentive_integration.sandbox.state import (
    EMAIL,
    MARKETING,
    SUBSCRIPTION_TYPES,
    TEXT,
    TRANSACTIONAL,
    Side,
    Subscriber,
    TokenKind,
    Webhook,
)

# Numbers of the United States, Canada and the United Kingdom.
TEXTED_PREFIXES = ("+1", "+44")
STARTS_NO_JOURNEY_AFTER = timedelta(hours=12)
_EVENT_TYPE_REFUSES = re.compile(r"[\"'(){}\[\]\\|,]")
_EVENT_KEY_REFUSES = re.compile(r"[\"{}\[\]\\|]")
_EVENT_KEYS = 200
_ADDRESSES = {"phone", "email"}


def me(call: Call) -> Reply:
    company = call.company
    return Reply(
        200,
        {
            "applicationName": f"{company.name} loyalty",
            "attentiveDomainName": company.domain,
            "companyName": company.name,
            "contactEmail": company.contact_email,
            "companyId": company.company_id,
        },
    )


# --- Subscriptions ----------------------------------------------------------------------------------------------------


def subscribe(call: Call) -> Reply:
    """202 for each address of the user. Somebody who is subscribed already is texted that, as the real one does."""
    data = call.object()
    addresses = addresses_of(data.get("user"))
    kind = _subscription_type(call, data)
    single_opt_in = data.get("singleOptIn", False)
    if not isinstance(single_opt_in, bool):
        raise Refused(400, "singleOptIn must be a boolean")
    answers = []
    for address in addresses:
        status = people.subscribe(call.state, call.company, address, kind, single_opt_in=single_opt_in)
        call.company.count(f"subscribe {status}")
        answers.append({"subscription": _subscription(kind, address), "subscriptionCreationStatus": status})
    record = call.record("SUBSCRIBE", phone=_phone(addresses), body=data, statuses=_statuses(answers))
    return Reply(202, {"user": data["user"], "subscriptionResponses": answers}, record=record)


def _subscription_type(call: Call, data: dict[str, Any]) -> str:
    """Return what is subscribed to: either the sign-up source says it, or the locale with the type, never both."""
    source, locale, kind = text_of(data, "signUpSourceId"), data.get("locale"), text_of(data, "subscriptionType")
    if kind and kind not in (MARKETING, TRANSACTIONAL):
        raise Refused(400, "subscriptionType must be MARKETING or TRANSACTIONAL")
    if source and locale is not None:
        raise Refused(
            400,
            "Found both a locale and a sign up source id. Requests must have exclusively one of the two.",
        )
    if source:
        known = call.company.sign_up_sources
        if source not in known if known else not (source.isascii() and source.isdigit()):
            raise Refused(400, "No sign up source was found for the given sign up source id.")
        return known.get(source) or kind or MARKETING
    if not isinstance(locale, dict):
        raise Refused(400, "A sign up source id, or a locale and a subscription type, is required.")
    if not kind:
        raise Refused(400, "subscriptionType is required with a locale")
    language, country = text_of(locale, "language"), text_of(locale, "country")
    if not (re.fullmatch(r"[a-z]{2}", language) and re.fullmatch(r"[A-Z]{2}", country)):
        raise Refused(400, "locale must have a language such as en and a country such as US")
    return kind


def eligibility(call: Call) -> Reply:
    """What may be sent to a person, in no particular order; a person whom Attentive does not know has no entries."""
    entries = []
    for address in addresses_of(call.request.query):
        if (person := call.company.subscribers.get(address)) is not None:
            entries += [
                {
                    "subscription": _subscription(kind, address),
                    "eligibility": {"isEligible": person.is_subscribed(kind)},
                }
                for kind in SUBSCRIPTION_TYPES
            ]
    random.shuffle(entries)
    return Reply(200, {"subscriptionEligibilities": entries})


def unsubscribe(call: Call) -> Reply:
    """202 for each subscription named, or for all when none is. The goodbye text comes even to who had left before."""
    data = call.object()
    addresses = addresses_of(data.get("user"))
    wanted = _wanted(data.get("subscriptions"))
    language = _goodbye_language(data.get("notification"))
    if not any(address in call.company.subscribers for address in addresses):
        raise Refused(404, "No such user")
    answers = []
    for address in addresses:
        channel = TEXT if address.startswith("+") else EMAIL
        types = [kind for kind, where in wanted if where == channel]
        if types and address in call.company.subscribers:
            words = people.unsubscribe(call.state, call.company, address, types, language=language)
            answers += [
                {"subscription": {"type": kind, "channel": channel}, "subscriptionUnsubscribeStatus": word}
                for kind, word in words.items()
            ]
    record = call.record("UNSUBSCRIBE", phone=_phone(addresses), body=data, statuses=_statuses(answers))
    return Reply(202, {"user": data["user"], "subscriptionResponses": answers}, record=record)


def _wanted(subscriptions: Any) -> list[tuple[str, str]]:
    """Return the (type, channel) pairs to end; a request without any means all of them."""
    if subscriptions is None or subscriptions == []:
        return [(kind, channel) for kind in SUBSCRIPTION_TYPES for channel in (TEXT, EMAIL)]
    pairs = [
        (text_of(entry, "type"), text_of(entry, "channel")) if isinstance(entry, dict) else ("", "")
        for entry in (subscriptions if isinstance(subscriptions, list) else [None])
    ]
    if any(kind not in SUBSCRIPTION_TYPES or channel not in (TEXT, EMAIL) for kind, channel in pairs):
        raise Refused(400, "Each subscription needs a type and a channel")
    return pairs


def _goodbye_language(notification: Any) -> str | None:
    """Return the language of the goodbye text; None when the request switches it off."""
    if notification is not None and not isinstance(notification, dict):
        raise Refused(400, "notification must be an object")
    settings = notification or {}
    language, disabled = settings.get("language", "en-US"), settings.get("disabled", False)
    if language not in ("en-US", "fr-CA") or not isinstance(disabled, bool):
        raise Refused(400, "notification has a language, en-US or fr-CA, and a boolean disabled")
    return None if disabled else language


def _subscription(kind: str, address: str) -> dict[str, str]:
    return {"type": kind, "channel": TEXT if address.startswith("+") else EMAIL}


def _phone(addresses: list[str]) -> str:
    return next((address for address in addresses if address.startswith("+")), "")


def _statuses(answers: list[dict[str, Any]]) -> list[str]:
    return [value for answer in answers for name, value in answer.items() if name != "subscription"]


# --- Texts ------------------------------------------------------------------------------------------------------------


def legacy_message(call: Call) -> Reply:
    """POST /1/messages. A body with a brace, and a repeat within the window, are answered 200 and never sent."""
    data = call.object()
    if data.get("type") != TRANSACTIONAL:
        raise Refused(400, "type is required and must be TRANSACTIONAL")
    return Reply(200, {}, record=_message(call, data))


def document_message(call: Call) -> Reply:
    """POST /v1/subscriptions/messages, the path of the integration document: the same without a type."""
    data = call.object()
    record = _message(call, data)
    answer = {
        "type": "v1",
        "to": record["to"],
        "body": record["body"],
        "skipFatigue": "false",
        "createShortLink": "false",
        "addSubscriber": "false",
    }
    return Reply(200, answer, record=record)


def _message(call: Call, data: dict[str, Any]) -> dict[str, Any]:
    """Text a subscriber, and return the record for the ledger."""
    state, company = call.state, call.company
    to, body, media_url = text_of(data, "to"), text_of(data, "body"), text_of(data, "mediaUrl")
    text_of(data, "link")
    phone = to if phones.E164.fullmatch(to) else phones.spellings(to)
    if not phone or not phone.startswith(TEXTED_PREFIXES):
        raise Refused(400, "Invalid phone number")
    if not body.strip():
        raise Refused(400, "body is required")
    person = company.subscribers.get(phone)
    if person is None or not person.is_subscribed(MARKETING, TRANSACTIONAL):
        company.count("texts refused: no subscriber")
        raise Refused(400, "The phone number does not match a subscriber")
    why = "BRACES" if "{" in body or "}" in body else "DUPLICATE" if _is_duplicate(call, phone, body) else ""
    if why == "DUPLICATE" and state.refuse_duplicates:
        company.count("texts refused: duplicate")
        raise Refused(400, "Duplicate message")
    if why:
        company.count(f"texts dropped: {why.lower()}")
        state.show(company, person, Side.NOTE, body, why=why)
    else:
        people.text(state, company, person, body, kind=TRANSACTIONAL, media_url=media_url)
    return call.record("MESSAGE", to=phone, phone=phone, body=body, dropped=bool(why), why=why)


def _is_duplicate(call: Call, phone: str, body: str) -> bool:
    """Say whether the same text went to the same phone within the window, and remember this one."""
    latest, now = call.company.latest_texts, time.monotonic()
    window = call.state.duplicate_seconds
    while latest and next(iter(latest.values())) <= now - window:
        latest.popitem(last=False)
    if (phone, body) in latest:
        return True
    if window > 0:
        latest[phone, body] = now
    return False


# --- Events and attributes --------------------------------------------------------------------------------------------


def custom_event(call: Call) -> Reply:
    """POST /v1/events/custom. It shows as a note on the phone; an event older than 12 hours starts no journey."""
    data = call.object()
    kind, occurred_at = text_of(data, "type"), text_of(data, "occurredAt")
    if not kind or _EVENT_TYPE_REFUSES.search(kind):
        raise Refused(400, "type is required and must not have quotes, brackets, backslashes, bars or commas")
    properties = data.get("properties", {})
    if not isinstance(properties, dict) or len(properties) > _EVENT_KEYS:
        raise Refused(400, "properties must be an object of at most 200 keys")
    if any(_EVENT_KEY_REFUSES.search(key) for key in properties):
        raise Refused(400, "A key of properties has a quote, bracket, backslash or bar")
    person = _event_user(call, data.get("user"))
    late = bool(occurred_at) and datetime.now(UTC) - _moment(occurred_at) > STARTS_NO_JOURNEY_AFTER
    address = person.address if person else ""
    record = call.record(
        "EVENT",
        phone=address if address.startswith("+") else "",
        type=kind,
        event_id=text_of(data, "externalEventId"),
        body=data,
        dropped=late,
        why="LATE" if late else "",
    )
    call.company.events.append(record)
    call.company.count("events late" if late else "events")
    if person is not None:
        shown = ", ".join(f"{name}: {value}" for name, value in properties.items())
        call.state.show(
            call.company, person, Side.NOTE, f"{kind} ({shown})" if shown else kind, why="LATE" if late else "EVENT"
        )
    return Reply(200, record=record)


def _event_user(call: Call, user: Any) -> Subscriber | None:
    """Return the person of an event, a new one when unknown; None where only external identifiers are given."""
    if isinstance(user, dict) and isinstance(user.get("externalIdentifiers"), dict) and not user.keys() & _ADDRESSES:
        return None
    return call.state.subscriber(call.company, addresses_of(user)[0])


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(400, "occurredAt must be an RFC 3339 time") from None
    if moment.tzinfo is None:
        raise Refused(400, "occurredAt needs an offset")
    return moment


def set_attributes(call: Call) -> Reply:
    """POST /v1/attributes/custom: scalars only."""
    data = call.object()
    properties = data.get("properties")
    if not isinstance(properties, dict):
        raise Refused(400, "properties must be an object")
    if any(isinstance(value, list | dict) for value in properties.values()) or any(
        len(key) > 200 for key in properties
    ):
        raise Refused(400, "Attributes are scalars with names of at most 200 characters")
    addresses = addresses_of(data.get("user"))
    for address in addresses:
        call.state.subscriber(call.company, address).attributes.update(properties)
    return Reply(200, record=call.record("ATTRIBUTES", phone=_phone(addresses), body=data))


def get_attributes(call: Call) -> Reply:
    addresses = addresses_of(call.request.query)
    if len(addresses) > 1:
        raise Refused(400, "Give either a phone or an email")
    person = call.company.subscribers.get(addresses[0])
    if person is None:
        raise Refused(404, "No such user")
    return Reply(200, [{"name": name, "value": str(value)} for name, value in person.attributes.items()])


# --- Webhooks ---------------------------------------------------------------------------------------------------------


def list_webhooks(call: Call) -> Reply:
    hooks = [{**_shown(hook), "companyId": call.company.company_id} for hook in call.company.webhooks.values()]
    return Reply(200, {"webhooks": hooks})


def create_webhook(call: Call) -> Reply:
    """POST /v1/webhooks. The signing key is never in the answer: staff copy it from the app's page."""
    data = call.object()
    hook = Webhook(str(call.state.number()), _hook_url(data), f"signing-{call.company.key}", _hook_events(data))
    call.company.webhooks[hook.id] = hook
    return Reply(201, _shown(hook), record=call.record("WEBHOOK", phone="", body=data))


def change_webhook(call: Call) -> Reply:
    hook = _hook(call)
    data = call.object()
    hook.url, hook.events = _hook_url(data), _hook_events(data)
    hook.disabled_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S") if data.get("disabled") is True else None
    return Reply(200, _shown(hook), record=call.record("WEBHOOK", phone="", body=data))


def delete_webhook(call: Call) -> Reply:
    del call.company.webhooks[_hook(call).id]
    return Reply(204, record=call.record("WEBHOOK", phone="", body=None))


def _hook(call: Call) -> Webhook:
    if (hook := call.company.webhooks.get(call.part)) is None:
        raise Refused(404, "No such webhook")
    return hook


def _hook_url(data: dict[str, Any]) -> str:
    url = text_of(data, "url")
    try:
        check_url(url)
    except ValueError:
        raise Refused(400, "url is not valid") from None
    parts = urlsplit(url)
    # The real one wants https; a product under test runs on this machine without it.
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise Refused(400, "url must be an https address")
    return url


def _hook_events(data: dict[str, Any]) -> list[str]:
    events = data.get("events")
    if not isinstance(events, list) or not events or not all(isinstance(event, str) for event in events):
        raise Refused(400, "events must be a list of event types")
    return events


def _shown(hook: Webhook) -> dict[str, Any]:
    shown = {"id": hook.id, "url": hook.url, "events": hook.events, "type": "SUBSCRIPTION"}
    return {**shown, "disabledAt": hook.disabled_at} if hook.disabled_at else shown


# --- Privacy ----------------------------------------------------------------------------------------------------------


def delete_request(call: Call) -> Reply:
    """POST /v1/privacy/delete-request: the person is forgotten at once (the real one takes up to 30 days)."""
    data = call.object()
    phone, email, client = (text_of(data, name) for name in ("subjectPhone", "subjectEmail", "clientUserId"))
    if not (phone or email or client):
        raise Refused(400, {"error": "Must either specify subjectEmail, subjectPhone or clientUserId"})
    for address in (phone, email):
        call.company.subscribers.pop(address, None)
        call.state.recent.pop((call.company.key, address), None)
    call.state.version += 1
    number = str(call.state.number())
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    answer = {"id": number, "processed": True, "type": "DELETE", "requestDateTime": now}
    answer |= {"subjectPhone": f"+*****{phone[-4:]}"} if phone else {}
    answer |= {"subjectEmail": f"{email[:1]}**@{email.rpartition('@')[2]}"} if email else {}
    answer |= {"requestMsg": message} if (message := text_of(data, "requestMsg")) else {}
    call.company.delete_requests[number] = answer
    return Reply(200, answer, record=call.record("DELETE_REQUEST", phone=phone, body=data))


def get_delete_request(call: Call) -> Reply:
    if (found := call.company.delete_requests.get(call.part)) is None:
        raise Refused(404, {"error": "No such request"})
    return Reply(200, found)


ROUTES = (
    route("GET", "/v1/me", TokenKind.APP, me),
    route("GET", "/v2/me", TokenKind.APP, me),
    route("POST", "/v1/subscriptions", TokenKind.APP, subscribe),
    route("GET", "/v1/subscriptions", TokenKind.APP, eligibility),
    route("POST", "/v1/subscriptions/unsubscribe", TokenKind.APP, unsubscribe),
    route("POST", "/1/messages", TokenKind.LEGACY, legacy_message),
    route("POST", "/v1/subscriptions/messages", TokenKind.LEGACY, document_message),
    route("POST", "/v1/events/custom", TokenKind.APP, custom_event),
    route("POST", "/v1/attributes/custom", TokenKind.APP, set_attributes),
    route("GET", "/v1/attributes/custom", TokenKind.APP, get_attributes),
    route("GET", "/v1/webhooks", TokenKind.APP, list_webhooks),
    route("POST", "/v1/webhooks", TokenKind.APP, create_webhook),
    route("PUT", "/v1/webhooks/{}", TokenKind.APP, change_webhook),
    route("DELETE", "/v1/webhooks/{}", TokenKind.APP, delete_webhook),
    route("POST", "/v1/privacy/delete-request", TokenKind.APP, delete_request),
    route("GET", "/v1/privacy/delete-request/{}", TokenKind.APP, get_delete_request),
)

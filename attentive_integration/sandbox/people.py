"""What happens to a person: texts, joining, leaving, answering; each with the webhook that Attentive would send."""

from collections.abc import Iterable
from typing import Any

from attentive_integration.sandbox.state import (
    EMAIL,
    MARKETING,
    PENDING,
    SUBSCRIBED,
    SUBSCRIPTION_TYPES,
    TEXT,
    UNSUBSCRIBED,
    Company,
    Side,
    State,
    Subscriber,
    now_ms,
)

_GOODBYE = {
    "en-US": "You are unsubscribed and will get no more texts. Reply HELP for help.",
    "fr-CA": "Vous êtes désabonné(e) et ne recevrez plus de textos. Répondez AIDE pour de l'aide.",
}
_STOP_WORDS = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})


def text(state: State, company: Company, subscriber: Subscriber, words: str, *, kind: str, media_url: str = "") -> None:
    """Text a person: the company's name stands before the words, as Attentive does it."""
    whole = f"{company.name}: {words}"
    state.show(company, subscriber, Side.BRAND, whole, media_url=media_url)
    company.count("texts")
    if company.sms_sent:
        message = {"id": str(state.number()), "type": kind, "name": "", "text": whole, "channel": TEXT, "subject": None}
        notify(company, "sms.sent", subscriber, message=message)


def subscribe(state: State, company: Company, address: str, kind: str, *, single_opt_in: bool) -> str:
    """Subscribe an address and return the vendor's word for it. Somebody who has joined already is texted again."""
    subscriber = state.subscriber(company, address)
    before = subscriber.subscriptions.get(kind)
    asks_for_y = company.double_opt_in and not single_opt_in and subscriber.channel == TEXT
    if before == SUBSCRIBED:
        if subscriber.channel == TEXT:
            company.count("already_subscribed_texts")
            text(state, company, subscriber, "You are already subscribed. Reply STOP to unsubscribe.", kind=kind)
        return "PREVIOUSLY_CREATED"
    if asks_for_y:
        subscriber.subscriptions[kind] = PENDING
        text(state, company, subscriber, "Reply Y to get our texts. Msg & data rates may apply.", kind=kind)
    else:
        _join(state, company, subscriber, kind)
    return "PREVIOUSLY_CREATED" if before == PENDING else "NEWLY_CREATED"


def unsubscribe(
    state: State, company: Company, address: str, types: Iterable[str], *, language: str | None
) -> dict[str, str]:
    """End subscriptions of an address; `language` None leaves the goodbye text out. Returns the word for each type."""
    subscriber = state.subscriber(company, address)
    words = {kind: _leave(company, subscriber, kind) for kind in types}
    if language and subscriber.channel == TEXT:
        if set(words.values()) == {"PREVIOUSLY_UNSUBSCRIBED"}:
            company.count("already_unsubscribed_texts")
        text(state, company, subscriber, _GOODBYE[language], kind=MARKETING)
    return words


def reply(state: State, company: Company, phone: str, words: str) -> str:
    """Take what a person types on the phone: STOP and its like, Y, or anything else. Returns STOP, Y or OTHER."""
    subscriber = state.subscriber(company, phone)
    state.show(company, subscriber, Side.PERSON, words)
    notify(
        company, "sms.inbound_message", subscriber, message={"type": "TYPE_CONVERSATION", "text": words, "to_phone": ""}
    )
    word = words.strip().upper()
    if word in _STOP_WORDS:
        unsubscribe(state, company, phone, SUBSCRIPTION_TYPES, language="en-US")
        return "STOP"
    if word in ("Y", "YES"):
        waiting = [kind for kind, status in subscriber.subscriptions.items() if status == PENDING]
        for kind in waiting:
            _join(state, company, subscriber, kind)
        return "Y"
    return "OTHER"


def _join(state: State, company: Company, subscriber: Subscriber, kind: str) -> None:
    subscriber.subscriptions[kind] = SUBSCRIBED
    state.version += 1
    if subscriber.channel == TEXT:
        text(state, company, subscriber, "Welcome! Reply STOP to unsubscribe, HELP for help.", kind=kind)
    notify(company, _word(subscriber, "subscribed"), subscriber, subscription={"type": kind}, creative=_CREATIVE)


def _leave(company: Company, subscriber: Subscriber, kind: str) -> str:
    if subscriber.subscriptions.get(kind) not in (SUBSCRIBED, PENDING):
        return "PREVIOUSLY_UNSUBSCRIBED"
    subscriber.subscriptions[kind] = UNSUBSCRIBED
    notify(company, _word(subscriber, "unsubscribed"), subscriber, subscription={"type": kind})
    return "NEWLY_UNSUBSCRIBED"


_CREATIVE = {"name": "API", "type": "API", "subtype": "API"}


def _word(subscriber: Subscriber, what: str) -> str:
    return f"email.{what}" if subscriber.channel == EMAIL else f"sms.{what}"


def notify(company: Company, event: str, subscriber: Subscriber, **parts: Any) -> None:
    """Tell every webhook of the company that listens to this event."""
    for webhook in company.webhooks.values():
        if webhook.disabled_at or (webhook.events and event not in webhook.events):
            continue
        address = {"phone" if subscriber.channel == TEXT else "email": subscriber.address}
        envelope = {
            "type": event,
            "timestamp": now_ms(),
            "company": {"display_name": company.name, "company_id": company.company_id},
            "subscriber": {"external_id": subscriber.external_id, **address},
            **parts,
        }
        company.deliveries.send(webhook.url, webhook.signing_key, envelope)

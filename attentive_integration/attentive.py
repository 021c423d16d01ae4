"""Attentive's API: one method per endpoint, typed results, VendorError for every failure.

Five methods carry the library functions of the Attentive SMS integration document: addOrUpdateContact, getLists,
unsubscribeUser and messages here, segmentSubscibe in annex_cloud.py. Phones go in as E.164 throughout.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables

from attentive_integration.http import Answer, ErrorKind, VendorError, call, vendor_message
from attentive_integration.phones import E164

LEGACY_MESSAGE_PATH = "/1/messages"
DOCUMENT_MESSAGE_PATH = "/v1/subscriptions/messages"
MESSAGE_PATHS = (LEGACY_MESSAGE_PATH, DOCUMENT_MESSAGE_PATH)
# Members in one request of the bulk segment endpoints.
SEGMENT_BATCH = 10_000
EVENT_TYPE_REFUSES = frozenset("\"'(){}[]\\|,")
EVENT_KEY_REFUSES = frozenset('"{}[]\\|')
EVENT_KEYS = 200


@dataclass(frozen=True)
class Account:
    """Whose key it is, as Attentive reports it; a field that is not reported is empty."""

    application_name: str
    domain: str
    company_name: str
    contact_email: str
    company_id: str


@dataclass(frozen=True)
class SubscriptionResult:
    """What became of one subscription, in the vendor's words, unknown ones included."""

    type: str
    channel: str
    status: str


@dataclass(frozen=True)
class Eligibility:
    """Whether one kind of message may be sent to a person on one channel."""

    type: str
    channel: str
    is_eligible: bool


@dataclass(frozen=True)
class Eligibilities:
    """All that Attentive says about a person; empty for a person it does not know."""

    entries: tuple[Eligibility, ...] = ()

    def is_eligible(self, type: str = "MARKETING", channel: str = "TEXT") -> bool:
        """Say whether that type may be sent on that channel. False when Attentive does not mention it."""
        return any(entry.is_eligible for entry in self.entries if (entry.type, entry.channel) == (type, channel))


@dataclass(frozen=True)
class Receipt:
    """An accepted message. Attentive gives no id for it, so the answer is all there is."""

    answer: Answer


@dataclass(frozen=True)
class Segment:
    """A segment at Attentive."""

    external_id: str
    name: str
    description: str


@dataclass(frozen=True)
class BulkJob:
    """An accepted bulk request. COMPLETED does not mean that every row succeeded: the file at `url` tells."""

    job_id: str
    status: str = ""
    total_records: int | None = None
    url: str = field(default="", repr=False)


class AttentiveClient:
    """Attentive, seen with one site's tokens.

    `app_key` is the key of the site's Attentive app, `legacy_token` the separate token that messages need. `base_url`
    has no version path (default: ATTENTIVE_API_URL); `message_path` is one of MESSAGE_PATHS.
    """

    def __init__(
        self,
        *,
        app_key: str = "",
        legacy_token: str = "",
        base_url: str | None = None,
        message_path: str = LEGACY_MESSAGE_PATH,
    ) -> None:
        if message_path not in MESSAGE_PATHS:
            raise ValueError(f"The message path must be one of {', '.join(MESSAGE_PATHS)}.")
        self._app_key = app_key
        self._legacy_token = legacy_token
        self._base_url = (base_url or settings.ATTENTIVE_API_URL).rstrip("/")
        self._message_path = message_path

    def __repr__(self) -> str:
        return f"AttentiveClient({self._base_url})"

    # --- Account ------------------------------------------------------------------------------------------------------

    def me(self) -> Account:
        """Return whose app key this is. https://docs.attentive.com/openapi/reference/operation/getMe/"""
        answer = self._read("/v1/me")
        data = _object(answer.data)
        return Account(
            application_name=_text(data.get("applicationName")),
            domain=_text(data.get("attentiveDomainName")),
            company_name=_text(data.get("companyName")),
            contact_email=_text(data.get("contactEmail")),
            company_id=_text(data.get("companyId")),
        )

    # --- Subscriptions ------------------------------------------------------------------------------------------------

    def add_or_update_contact(
        self,
        *,
        phone: str | None = None,
        email: str | None = None,
        sign_up_source_id: str | None = None,
        locale: tuple[str, str] | None = None,
        subscription_type: str | None = None,
        single_opt_in: bool | None = None,
    ) -> list[SubscriptionResult]:
        """Subscribe a person (addOrUpdateContact). Texts somebody who is subscribed already: ask get_lists first.

        Give exactly one of `sign_up_source_id` and `locale`, a pair such as ("en", "US"), which also needs the
        `subscription_type`; else ValueError. Success means accepted, not yet textable: a person may have to answer Y.
        An answer that cannot be read is a success with an empty list.
        https://docs.attentive.com/openapi/reference/operation/addSubscriptions/
        """
        if bool(sign_up_source_id) == bool(locale):
            raise ValueError("Give either a sign-up source ID or a locale, and not both.")
        if locale and not subscription_type:
            raise ValueError("A locale needs a subscription type.")
        body: dict[str, Any] = {"user": _user(phone, email)}
        if sign_up_source_id:
            body["signUpSourceId"] = sign_up_source_id
        if locale:
            body["locale"] = {"language": locale[0], "country": locale[1]}
        if subscription_type:
            body["subscriptionType"] = subscription_type
        if single_opt_in is not None:
            body["singleOptIn"] = single_opt_in
        with _told_of_one_person():
            answer = self._with_app_key(
                "POST", "/v1/subscriptions", json=body, side_effect=True, on_400=_subscribe_refused
            )
        return _results(answer.data, "subscriptionCreationStatus")

    def get_lists(self, *, phone: str | None = None, email: str | None = None) -> Eligibilities:
        """Return what may be sent to a person (getLists). A person unknown to Attentive has no entries.

        https://docs.attentive.com/openapi/reference/operation/getSubscriptions/
        """
        try:
            answer = self._read("/v1/subscriptions", _user(phone, email))
        except VendorError as error:
            if _is_unknown_person(error):
                return Eligibilities()
            raise
        return Eligibilities(
            tuple(
                Eligibility(
                    _text(_object(entry.get("subscription")).get("type")),
                    _text(_object(entry.get("subscription")).get("channel")),
                    _object(entry.get("eligibility")).get("isEligible") is True,
                )
                for entry in _objects(_object(answer.data).get("subscriptionEligibilities"))
            )
        )

    def unsubscribe_user(
        self,
        *,
        phone: str | None = None,
        email: str | None = None,
        subscriptions: Sequence[tuple[str, str]] = (("MARKETING", "TEXT"),),
        notify: bool = True,
        language: str | None = None,
    ) -> list[SubscriptionResult]:
        """Unsubscribe a person (unsubscribeUser) from the given (type, channel) pairs and from nothing else.

        With `notify` Attentive texts a confirmation, even to somebody who had left before. `language` is en-US or
        fr-CA. A person unknown to Attentive counts as done: the list is empty.
        https://docs.attentive.com/openapi/reference/operation/unsubscribeSubscriptions/
        """
        if not subscriptions:
            raise ValueError("Name the subscriptions to end: without them Attentive would end all of them.")
        body: dict[str, Any] = {
            "user": _user(phone, email),
            "subscriptions": [{"type": type_, "channel": channel} for type_, channel in subscriptions],
        }
        notification = {} if notify else {"disabled": True}
        if language:
            notification["language"] = language  # type: ignore[assignment]
        if notification:
            body["notification"] = notification
        try:
            answer = self._with_app_key("POST", "/v1/subscriptions/unsubscribe", json=body, side_effect=True)
        except VendorError as error:
            if _is_unknown_person(error):
                return []
            raise
        return _results(answer.data, "subscriptionUnsubscribeStatus")

    # --- Texts --------------------------------------------------------------------------------------------------------

    def messages(self, *, to: str, body: str, link: str | None = None, media_url: str | None = None) -> Receipt:
        """Text one opted-in person (messages), with the legacy token.

        Attentive puts the client's name before the body. A body with a brace would be dropped without an error, so it
        is a ValueError, as an empty one is. `link` and `media_url` exist on /1/messages alone.
        https://docs.attentive.com/pages/api-reference/transactional-messages-api/
        """
        if not body.strip():
            raise ValueError("The message is empty.")
        if "{" in body or "}" in body:
            raise ValueError("The message has a brace, and Attentive drops such texts without an error.")
        payload = {"to": _e164(to), "body": body}
        if self._message_path == LEGACY_MESSAGE_PATH:
            payload["type"] = "TRANSACTIONAL"
            payload |= {name: value for name, value in (("link", link), ("mediaUrl", media_url)) if value}
        elif link or media_url:
            raise ValueError(f"A link or picture can be sent on {LEGACY_MESSAGE_PATH} only.")
        explain = partial(_explain, token_refused=_legacy_token_refused, on_400=_message_refused)
        return Receipt(
            self._call("POST", self._message_path, self._legacy_token, explain, json=payload, side_effect=True)
        )

    def custom_event(
        self,
        *,
        type: str,
        phone: str,
        properties: Mapping[str, str | int | float | bool],
        external_event_id: str,
        occurred_at: datetime,
    ) -> Answer:
        """Report an event that starts a journey built in Attentive. An event older than 12 hours is kept but starts
        none.

        `occurred_at` must be aware. ValueError for the characters and sizes that Attentive refuses.
        https://docs.attentive.com/openapi/reference/operation/postCustomEvents/
        """
        if not type.strip() or EVENT_TYPE_REFUSES & set(type):
            raise ValueError("The event type is empty or has a quote, bracket, backslash, bar or comma.")
        if len(properties) > EVENT_KEYS or any(EVENT_KEY_REFUSES & set(key) for key in properties):
            raise ValueError(
                "There are more than 200 properties, or one has a quote, bracket, backslash or bar in its name."
            )
        if occurred_at.tzinfo is None:
            raise ValueError("The time of the event needs a time zone.")
        body = {
            "type": type,
            "user": {"phone": _e164(phone)},
            "properties": dict(properties),
            "externalEventId": external_event_id,
            "occurredAt": occurred_at.isoformat(),
        }
        with _told_of_one_person():
            return self._with_app_key("POST", "/v1/events/custom", json=body, side_effect=True)

    # --- Segments (v2, open beta) -------------------------------------------------------------------------------------

    def create_segment(self, name: str, description: str | None = None, external_id: str | None = None) -> Segment:
        """Create an empty segment: name ≤ 240 characters, description 2 to 500, external id ≤ 255.

        https://docs.attentive.com/reference/createsegment
        """
        body = {"name": name, "description": description, "externalId": external_id}
        body = {key: value for key, value in body.items() if value}
        answer = self._with_app_key("POST", "/v2/segments", json=body, side_effect=True)
        return _segment(_object(answer.data)) if answer.data else Segment(external_id or "", name, description or "")

    def find_segment(self, external_id: str) -> Segment | None:
        """Return the segment with that external id, or None. https://docs.attentive.com/reference/getsegments"""
        answer = self._read("/v2/segments", {"externalId": external_id})
        found = (_segment(entry) for entry in _objects(_object(answer.data).get("segments")))
        return next((segment for segment in found if segment.external_id == external_id), None)

    def add_segment_members(self, external_id: str, phones: Iterable[str]) -> BulkJob:
        """Add 1 to 10,000 phones to a segment. https://docs.attentive.com/reference/postbulksegmentmembers"""
        return self._bulk("POST", external_id, phones)

    def remove_segment_members(self, external_id: str, phones: Iterable[str]) -> BulkJob:
        """Take 1 to 10,000 phones out of a segment. https://docs.attentive.com/reference/deletebulksegmentmembers"""
        return self._bulk("DELETE", external_id, phones)

    def bulk_job(self, job_id: str) -> BulkJob:
        """Return how far a bulk request is. https://docs.attentive.com/reference/getbulkjobstatus"""
        data = _object(self._read(f"/v2/bulk/job/{quote(job_id, safe='')}").data)
        total = data.get("totalRecords")
        return BulkJob(
            job_id=_text(data.get("bulkJobId")) or job_id,
            status=_text(data.get("status")),
            total_records=total if isinstance(total, int) else None,
            url=_text(data.get("url")),
        )

    # --- Privacy ------------------------------------------------------------------------------------------------------

    def delete_request(self, *, phone: str | None = None, email: str | None = None, reason: str = "") -> str:
        """Ask Attentive to erase a person, which it does within 30 days; return the id of the request.

        https://docs.attentive.com/openapi/reference/operation/addDeleteRequest/
        """
        user = _user(phone, email)
        body = {"subjectPhone": user.get("phone"), "subjectEmail": user.get("email"), "requestMsg": reason}
        body = {key: value for key, value in body.items() if value}
        # Asking twice for the same erasure erases once, so an open outcome may be repeated.
        answer = self._with_app_key("POST", "/v1/privacy/delete-request", json=body, side_effect=False)
        return _text(_object(answer.data).get("id"))

    # --- Plumbing -----------------------------------------------------------------------------------------------------

    def _read(self, path: str, params: dict[str, str] | None = None) -> Answer:
        # urlencode writes + as %2B; a bare + would reach Attentive as a space.
        return self._with_app_key("GET", f"{path}?{urlencode(params)}" if params else path, side_effect=False)

    def _bulk(self, method: str, external_id: str, phones: Iterable[str]) -> BulkJob:
        members = [{"phone": _e164(phone)} for phone in phones]
        if not 1 <= len(members) <= SEGMENT_BATCH:
            raise ValueError(f"Give 1 to {SEGMENT_BATCH} phones at a time.")
        # Adding or removing the same members again changes nothing, so an open outcome may be repeated.
        body = {"externalId": external_id, "members": members}
        answer = self._with_app_key(method, "/v2/bulk/segments/members", json=body, side_effect=False)
        return BulkJob(_text(_object(answer.data).get("batchJobId")))

    def _with_app_key(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        side_effect: bool,
        on_400: Callable[[str], str] | None = None,
    ) -> Answer:
        explain = partial(_explain, token_refused=_app_key_refused, on_400=on_400)
        return self._call(method, path, self._app_key, explain, json=json, side_effect=side_effect)

    @sensitive_variables()
    def _call(
        self,
        method: str,
        path: str,
        token: str,
        explain: Callable[[VendorError], str],
        *,
        json: Any = None,
        side_effect: bool,
    ) -> Answer:
        try:
            return call(
                method, self._base_url + path, token=token, json=json, side_effect=side_effect, vendor="Attentive"
            )
        except VendorError as error:
            error.sentence = explain(error)
            raise


# --- Sentences --------------------------------------------------------------------------------------------------------


def _explain(
    error: VendorError, *, token_refused: Callable[[VendorError], str], on_400: Callable[[str], str] | None
) -> str:
    """Return a sentence that knows what was asked for; the general one where nothing more is known."""
    if error.status in (401, 403) or error.cause in ("NO_TOKEN", "BAD_TOKEN"):
        return token_refused(error)
    if error.status == 400 and on_400:
        return on_400(_detail(error))
    return error.sentence


def _detail(error: VendorError) -> str:
    words = vendor_message(error.data, error.answer)
    return " ".join(["", _("Attentive says:"), words]) if words else ""


def _app_key_refused(error: VendorError) -> str:
    if error.cause == "NO_TOKEN":
        return _(
            "The app key is missing. In Attentive open the Integrations tab, choose Create App, give it Write "
            "permission, and enter the key that is shown."
        )
    if error.cause == "BAD_TOKEN":
        return _("The app key has a space, a line break or a foreign letter in it. Copy it again from Attentive.")
    return _(
        "The app key was refused (%(status)s). Either it was regenerated in Attentive, or the app lacks the Write "
        "permission. In Attentive open Integrations, your app, Permissions, and set Write; then enter the key, which "
        "is shown only once."
    ) % {"status": error.status}


def _legacy_token_refused(error: VendorError) -> str:
    if error.cause == "NO_TOKEN":
        return _(
            "The legacy token is missing, and messages need one. Write to legacyapi@attentivemobile.com, ask for a "
            "legacy token for this client, and enter it here."
        )
    if error.cause == "BAD_TOKEN":
        return _("The legacy token has a space, a line break or a foreign letter in it. Copy it again from the e-mail.")
    return _(
        "Attentive refused the message token (%(status)s Invalid API token). Messages need a legacy token, which must "
        "be activated; the key of the app does not work here. Write to legacyapi@attentivemobile.com, ask for a legacy "
        "token for this client, and enter it here."
    ) % {"status": error.status}


def _subscribe_refused(detail: str) -> str:
    return (
        _(
            "Attentive refused the subscription (400). Mostly the sign-up source ID is missing or wrong: in Attentive "
            "open the Subscribers tab (newer screens: Sign-up Units), copy the ID of your sign-up flow, and enter it "
            "here."
        )
        + detail
    )


def _message_refused(detail: str) -> str:
    return (
        _(
            "Attentive did not take the message (400). The phone is invalid or not an opted-in subscriber of this "
            "client; only opted-in people can be texted. Check the member's subscription."
        )
        + detail
    )


# --- Reading and writing JSON -----------------------------------------------------------------------------------------


def _e164(phone: str) -> str:
    if not E164.fullmatch(phone):
        raise ValueError("The phone must be in E.164, such as +17705550101.")
    return phone


def _user(phone: str | None, email: str | None) -> dict[str, str]:
    if not phone and not email:
        raise ValueError("Give a phone or an e-mail address.")
    return {**({"phone": _e164(phone)} if phone else {}), **({"email": email} if email else {})}


def _is_unknown_person(error: VendorError) -> bool:
    """Say whether a 404 speaks of the person. One with an HTML page comes from a wrong address, and stays an error."""
    return error.status == 404 and (not error.answer or isinstance(error.data, dict))


@contextmanager
def _told_of_one_person() -> Iterator[None]:
    """Take a 404 that speaks of the person for a refusal of this one request: the key and the address are good."""
    try:
        yield
    except VendorError as error:
        if _is_unknown_person(error):
            error.kind = ErrorKind.REFUSED
            error.sentence = _(
                "Attentive did not find the person, or the sign-up source (404).%(detail)s Other people are not "
                "affected. Check the phone, and the sign-up source ID when members are asked to subscribe."
            ) % {"detail": _detail(error)}
        raise


def _results(data: Any, status_key: str) -> list[SubscriptionResult]:
    return [
        SubscriptionResult(
            _text(_object(entry.get("subscription")).get("type")),
            _text(_object(entry.get("subscription")).get("channel")),
            _text(entry.get(status_key)),
        )
        for entry in _objects(_object(data).get("subscriptionResponses"))
    ]


def _segment(data: dict[str, Any]) -> Segment:
    return Segment(_text(data.get("externalId")), _text(data.get("name")), _text(data.get("description")))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""

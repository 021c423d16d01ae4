"""What proves an activation on a real phone: subscribing a colleague, and a test text. Guest phones only, on request.

The site may still be a draft. A colleague who has opted out is not texted either.
"""

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.attentive import AttentiveClient
from attentive_integration.http import ErrorKind, VendorError
from attentive_integration.phones import masked
from loyalty import audit, breakers, consent, tokens
from loyalty.connection import ActivationRefused, Check, Code, Task, TaskState, note
from loyalty.models import AccessToken, AuditEntry, Consent, ConsentEvent, Site
from loyalty.models.scope import Someone

Kind = AccessToken.Kind
State = Consent.State
Source = ConsentEvent.Source
# What the audit trail calls a test text of an activation, and one of a campaign's text.
TEST_TEXT, CAMPAIGN_TEST_TEXT = "site.test_text", "campaign.test_text"
# Two presses of the button within this time are one.
_PAUSE = timedelta(seconds=30)


def _guest(site: Site, phone: str) -> str:
    if phone not in site.guest_phones:
        raise ActivationRefused(_("This is not one of the site's guest phones. Add it to them first."))
    if consent.state_of(site, phone) in (State.UNSUBSCRIBED, State.BLOCKED) or consent.hidden_addresses(site, [phone]):
        raise ActivationRefused(
            _("%(phone)s has opted out and is not texted. Text START from it, or choose another guest phone.")
            % {"phone": masked(phone)}
        )
    return phone


def subscribe_guest(site: Site, phone: str, *, by: Someone = None) -> str:
    """Subscribe one guest phone with the site's sign-up source, and return what came of it.

    Eligibility is asked first, and somebody who may be texted is not subscribed again: Attentive would text them so.
    Raises `ActivationRefused` with cause and remedy.
    """
    _guest(site, phone)
    source = site.sign_up_sources.filter(is_default=True).first() or site.sign_up_sources.first()
    app_key = tokens.token_secret(site, Kind.ATTENTIVE_APP)
    if source is None or not app_key:
        raise ActivationRefused(_("Subscribing needs the sign-up source ID and the app key. Enter both first."))
    client = AttentiveClient(app_key=app_key)
    if _is_textable(site, client, phone, by):
        return _("%(phone)s is subscribed already, so nothing was sent.") % {"phone": masked(phone)}
    with transaction.atomic():
        if consent.lock_states(site.pk, [phone])[phone] not in (State.UNKNOWN, State.TO_ASK):
            return _("%(phone)s was asked before. Answer Y on the phone, then send the test text.") % {
                "phone": masked(phone)
            }
        consent.hear(
            site, channel="TEXT", address=phone, state=State.REQUESTED, source=Source.SUBSCRIBE_CALL, event_at=None,
            by=by, evidence=_("Asked from the Activate page, as a guest phone."),
        )  # fmt: skip
        Consent.objects.filter(site=site, channel="TEXT", address=phone).update(requested_at=timezone.now())
        audit.record("site.guest_subscribed", site=site, user=by, target=masked(phone))
    try:
        _wait(site, Kind.ATTENTIVE_APP, "SUBSCRIBE")
        client.add_or_update_contact(phone=phone, sign_up_source_id=source.sign_up_source_id)
    except VendorError as error:
        _after_refusal(site, phone, error, by)
        raise ActivationRefused(error.sentence) from None
    words = _("Attentive took the sign-up source ID: a colleague's phone was subscribed with it.")
    note(site, Check(Task.SIGN_UP_SOURCE, TaskState.PASSED, words, source.sign_up_source_id), by=by)
    if _is_textable(site, client, phone, by):
        return _("%(phone)s is subscribed.") % {"phone": masked(phone)}
    return _("%(phone)s was asked to subscribe. If a text comes, answer Y.") % {"phone": masked(phone)}


def _is_textable(site: Site, client: AttentiveClient, phone: str, by: Someone) -> bool:
    try:
        _wait(site, Kind.ATTENTIVE_APP, "DEFAULT")
        textable = client.get_lists(phone=phone).is_eligible()
    except VendorError as error:
        raise ActivationRefused(error.sentence) from None
    if textable:
        consent.hear(
            site, channel="TEXT", address=phone, state=State.SUBSCRIBED, source=Source.ELIGIBILITY, event_at=None,
            by=by, evidence=_("Attentive answered that this phone may be texted."),
        )  # fmt: skip
    return textable


def _after_refusal(site: Site, phone: str, error: VendorError, by: Someone) -> None:
    """Put a failed subscription where it belongs: on the sign-up source, or on the app key."""
    if error.kind != ErrorKind.UNKNOWN:
        consent.hear(
            site, channel="TEXT", address=phone, state=State.UNKNOWN, source=Source.SUBSCRIBE_CALL, event_at=None,
            by=by, evidence=error.sentence,
        )  # fmt: skip
    if error.kind == ErrorKind.REFUSED:
        note(site, Check(Task.SIGN_UP_SOURCE, TaskState.FAILED, error.sentence, code=Code.REFUSED), by=by)
    elif error.kind == ErrorKind.CREDENTIALS:
        note(site, Check(Task.ATTENTIVE_APP, TaskState.FAILED, error.sentence, code=Code.REFUSED), by=by)


def send_test_text(site: Site, phone: str, *, by: Someone = None) -> Check:
    """Send one text to a guest phone with the legacy token, and return how that task stands now.

    The attempt is committed before the call. Raises `ActivationRefused` when it cannot be tried.
    """
    _guest(site, phone)
    secret = tokens.token_secret(site, Kind.ATTENTIVE_LEGACY)
    if not secret:
        raise ActivationRefused(_("A test text needs the legacy token. Enter it first."))
    now = timezone.now()
    body = _("Test from Loyalty SMS: the connection of %(client)s works. %(time)s") % {
        "client": site.client_name, "time": now.astimezone(ZoneInfo(site.time_zone)).strftime("%H:%M:%S"),
    }  # fmt: skip
    body = body.replace("{", "(").replace("}", ")")
    _begin(site, phone, body, now, by)
    client = AttentiveClient(legacy_token=secret, message_path=site.message_path)
    try:
        _wait(site, Kind.ATTENTIVE_LEGACY, "DEFAULT")
        client.messages(to=phone, body=body)
    except VendorError as error:
        check = _of_text(site, phone, error)
    else:
        breakers.record_success(site, Kind.ATTENTIVE_LEGACY)
        words = _("Attentive accepted a test text to %(phone)s.") % {"phone": masked(phone)}
        check = Check(Task.ATTENTIVE_LEGACY, TaskState.PASSED, words)
    AccessToken.objects.filter(site=site, kind=Kind.ATTENTIVE_LEGACY, slot="CURRENT", revoked_at=None).update(
        last_used_at=now, last_result=check.sentence[:300]
    )
    return note(site, check, by=by, texted_at=now.isoformat())


def _begin(site: Site, phone: str, body: str, now: datetime, by: Someone) -> None:
    """Note that this text is about to leave; refuses a second one that follows too closely.

    A test text is no `Message`: the audit trail is its log.
    """
    with transaction.atomic():
        row = Site.objects.select_for_update().get(pk=site.pk)
        kept: dict[str, Any] = row.checks.get(Task.ATTENTIVE_LEGACY) or {}
        if kept.get("texted_at") and now - datetime.fromisoformat(kept["texted_at"]) < _PAUSE:
            raise ActivationRefused(
                _("A test text left less than %(seconds)d seconds ago. Look at the phone, then try again.")
                % {"seconds": _PAUSE.seconds}
            )
        row.checks = {**row.checks, Task.ATTENTIVE_LEGACY: {**kept, "texted_at": now.isoformat()}}
        row.save(update_fields=["checks"])
        audit.record(TEST_TEXT, site=row, user=by, target=masked(phone), new={"body": body})


def sent_test_texts() -> set[tuple[str, str]]:
    """Return every test text that may have gone out, of all sites, as (masked phone, body)."""
    entries = AuditEntry.objects.filter(event__in=[TEST_TEXT, CAMPAIGN_TEST_TEXT]).values_list("target", "new")
    return {(target, new["body"]) for target, new in entries if isinstance(new, dict)}


def _of_text(site: Site, phone: str, error: VendorError) -> Check:
    if error.kind == ErrorKind.UNKNOWN:
        words = _(
            "It is not known whether the test text went out: Attentive took it but did not answer. Look at the phone: "
            "if it arrived, say so; if not, send it again."
        )
        return Check(Task.ATTENTIVE_LEGACY, TaskState.TO_DO, words, code=Code.UNCLEAR)
    if error.kind == ErrorKind.REFUSED:
        words = _("Attentive does not know %(phone)s as a subscriber of %(client)s. Subscribe it first.") % {
            "phone": masked(phone), "client": site.client_name,
        }  # fmt: skip
        return Check(Task.ATTENTIVE_LEGACY, TaskState.TO_DO, f"{words} {error.sentence}", code=Code.UNMATCHED)
    if error.kind == ErrorKind.CREDENTIALS:
        breakers.record_failure(site, Kind.ATTENTIVE_LEGACY, error)
        return Check(Task.ATTENTIVE_LEGACY, TaskState.FAILED, error.sentence, code=Code.REFUSED)
    return Check(Task.ATTENTIVE_LEGACY, TaskState.TO_DO, error.sentence, code=Code.UNREACHABLE)


def confirm_test_text(site: Site, *, by: Someone = None) -> Check:
    """A person says that the test text arrived, after an answer that left it open."""
    kept = site.checks.get(Task.ATTENTIVE_LEGACY) or {}
    if kept.get("code") != Code.UNCLEAR:
        raise ActivationRefused(_("There is no test text whose outcome is open. Send one first."))
    audit.record("site.test_text_confirmed", site=site, user=by)
    words = _("A colleague saw the test text on the phone.")
    check = Check(Task.ATTENTIVE_LEGACY, TaskState.PASSED, words)
    return note(site, check, by=by, texted_at=kept["texted_at"])


def _wait(site: Site, kind: str, endpoint: str) -> None:
    secret = tokens.token_secret(site, kind) or ""
    rate_limit.acquire(*tokens.pace(secret, endpoint))

"""The link by which a client enters the keys of its site: made and withdrawn by staff, used without an account.

What is entered goes the way of the Activate page: tested first, stored unless it is refused. A key that is in use is
never replaced: the new one waits as the next token until staff promote it.
"""

import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty import audit, connection, tokens
from loyalty.connection import ActivationRefused, Check, Code, Task, TaskState, Trial
from loyalty.models import AccessToken, ClientLink, Site
from loyalty.models.scope import Outsider, Someone, known_user

Key = ClientLink.Key
End = ClientLink.End
Outcome = ClientLink.Outcome
Slot = AccessToken.Slot
VALID_FOR = timedelta(days=7)


class LinkClosed(Exception):
    """The link does not work any more: used up, expired, or ended by staff."""


# --- For staff --------------------------------------------------------------------------------------------------------


def missing(site: Site) -> set[str]:
    """Return the keys that the site lacks and the client can give; a legacy token that we asked for comes to us."""
    there = set(AccessToken.objects.filter(site=site, revoked_at=None).values_list("kind", flat=True))
    if site.sign_up_sources.exists():
        there.add(Key.SIGN_UP_SOURCE)
    if site.legacy_token_requested_at:
        there.add(Key.ATTENTIVE_LEGACY)
    return set(Key.values) - there


def cannot_ask(site: Site) -> set[str]:
    """Return the keys that the client cannot give now: a next token waits already, or there is a sign-up source."""
    waiting = set(AccessToken.objects.filter(site=site, slot=Slot.NEXT, revoked_at=None).values_list("kind", flat=True))
    return waiting | ({Key.SIGN_UP_SOURCE} if site.sign_up_sources.exists() else set())


def latest(site: Site) -> ClientLink | None:
    """Return the link that was made last, open or not."""
    return ClientLink.objects.filter(site=site).select_related("made_by").order_by("-made_at", "-pk").first()


def standing(link: ClientLink) -> tuple[str, str]:
    """Return how a link stands: (code, word)."""
    if link.end:
        return link.end, link.get_end_display()
    if link.expires_at <= timezone.now():
        return "EXPIRED", _("Expired")
    if not link.is_open:
        return "TRIED_OUT", _("Closed after too many tries")
    return ("OPENED", _("Opened by the client")) if link.opened_at else ("WAITING", _("Waiting for the client"))


def make(site: Site, keys: Collection[str], *, by: Someone = None) -> tuple[ClientLink, str]:
    """Make a link that asks for these keys, and return it with its address, which is known this once.

    An earlier link of the site ends. Raises `ActivationRefused` when no key is chosen that can be asked for.
    """
    asked = [key for key in Key.values if key in set(keys) - cannot_ask(site)]
    if not asked:
        raise ActivationRefused(_("Choose at least one key that the client is to enter."))
    token = f"link_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        Site.objects.select_for_update(no_key=True).get(pk=site.pk)
        _open(site).update(ended_at=timezone.now(), end=End.REPLACED)
        link = ClientLink.objects.create(
            site=site, token_hash=tokens.hash_of(token), asked=asked, made_by=known_user(by),
            expires_at=timezone.now() + VALID_FOR,
        )  # fmt: skip
        audit.record("site.client_link_made", site=site, user=by, new=asked)
    return link, settings.PUBLIC_URL + reverse("client-link", args=[token])


def withdraw(site: Site, *, by: Someone = None) -> bool:
    """End the site's link; tells whether there was one."""
    with transaction.atomic():
        Site.objects.select_for_update(no_key=True).get(pk=site.pk)
        ended = _open(site).update(ended_at=timezone.now(), end=End.WITHDRAWN)
        if ended:
            audit.record("site.client_link_withdrawn", site=site, user=by)
    return bool(ended)


def _open(site: Site) -> Any:
    return ClientLink.objects.filter(site=site, ended_at=None)


# --- For the client ---------------------------------------------------------------------------------------------------


def find(token: str) -> ClientLink | None:
    """Return the link of this token, open or not."""
    return ClientLink.objects.select_related("site", "made_by").filter(token_hash=tokens.hash_of(token)).first()


def note_opened(link: ClientLink) -> None:
    """Remember when the link was first opened; opening uses nothing up, since mail scanners open links too."""
    if link.opened_at is None:
        ClientLink.objects.filter(pk=link.pk, opened_at=None).update(opened_at=timezone.now())


def asked_by(link: ClientLink) -> str:
    """Return the name of the person who made the link."""
    return (link.made_by.get_full_name() or link.made_by.get_username()) if link.made_by else _("Annex Cloud")


def enter(link: ClientLink, key: str, text: str) -> str:
    """Test a key that the client entered, store it unless it is refused, and return its Outcome.

    `link.entered` then says in words what was found. The last key that is given ends the link. Raises `LinkClosed`.
    """
    may_try = ClientLink.objects.filter(pk=link.pk, attempts__lt=ClientLink.MOST_ATTEMPTS)
    if not link.is_open or not may_try.update(attempts=F("attempts") + 1):
        raise LinkClosed
    site, by = link.site, _client(link)
    # The vendors are asked before any row is locked.
    if key == Key.SIGN_UP_SOURCE:
        found: Trial | Check = _enter_source(site, text, by)
    else:
        found = connection.try_token(site, AccessToken.Kind(key), text)
    with transaction.atomic():
        site = Site.objects.select_for_update(no_key=True).get(pk=site.pk)
        row = ClientLink.objects.select_for_update().get(pk=link.pk)
        if row.is_over:
            raise LinkClosed
        if row.outcome(key) == Outcome.GIVEN:
            return Outcome.GIVEN
        entry = _entry(found) if isinstance(found, Check) else _store(site, row, found, by)
        row.entered = {**row.entered, key: entry}
        if row.is_complete:
            row.ended_at, row.end = timezone.now(), End.FINISHED
        row.save(update_fields=["entered", "ended_at", "end"])
        audit.record("token.entered_by_client", site=site, user=by, target=str(Key(key).label), new=entry["outcome"])
    is_new_app_key = key == Key.ATTENTIVE_APP and (entry["outcome"], entry["slot"]) == (Outcome.GIVEN, Slot.CURRENT)
    if is_new_app_key and site.sign_up_sources.exists():
        connection.test_again(site, Task.SIGN_UP_SOURCE, by=by)
    link.entered, link.ended_at, link.end = row.entered, row.ended_at, row.end
    return str(entry["outcome"])


def finish(link: ClientLink) -> None:
    """The client has entered what it could: the link ends. Once it has ended, nothing changes."""
    with transaction.atomic():
        Site.objects.select_for_update(no_key=True).get(pk=link.site_id)
        if ClientLink.objects.filter(pk=link.pk, ended_at=None).update(ended_at=timezone.now(), end=End.FINISHED):
            audit.record("site.client_link_finished", site=link.site, user=_client(link))


def _client(link: ClientLink) -> Outsider:
    who = link.made_by.get_username() if link.made_by else "–"
    return Outsider(_("Client, by the link of %(who)s") % {"who": who})


def _enter_source(site: Site, text: str, by: Outsider) -> Check:
    if site.sign_up_sources.exists():
        words = _("There is a sign-up source already. Whoever sent you this link can add another one.")
        return Check(Task.SIGN_UP_SOURCE, TaskState.FAILED, words, code=Code.MALFORMED)
    check = connection.enter_sign_up_source(site, text, by=by)
    if check.code == Code.MALFORMED:
        return check
    # The call only shows that subscriptions can be asked about; a failure is the app key's, and staff see it.
    return Check(check.kind, check.state, _("The ID is kept."), code=Code.NOT_PROVEN)


def _store(site: Site, link: ClientLink, trial: Trial, by: Outsider) -> dict[str, Any]:
    """Store a tested token: at once where no key is in use, else as the next one.

    A key that this link brought and that was never proven is not in use yet: the client may correct it.
    """
    kind = trial.kind
    ours = (link.entered.get(kind) or {}).get("token")
    current, following = tokens.active(site, kind), tokens.active(site, kind, Slot.NEXT)
    proven = (site.checks.get(kind) or {}).get("state") == TaskState.PASSED
    slot = Slot.CURRENT if current is None or (current.pk == ours and not proven) else Slot.NEXT
    if slot == Slot.NEXT and following is not None and following.pk != ours:
        words = _("Another key waits to be taken into use. Ask whoever sent you this link.")
        return _entry(Check(kind, TaskState.FAILED, words, code=Code.MALFORMED))
    try:
        check = (connection.keep if slot == Slot.CURRENT else connection.keep_next)(site, trial, by=by)
    except ValueError as impossible:
        check = Check(kind, TaskState.FAILED, str(impossible), code=Code.MALFORMED)
    token = tokens.active(site, kind, slot)
    # Of a refused one nothing is stored; what this link brought before is still ours to correct.
    return _entry(check, slot, token.pk if token and check.code not in connection.NOT_KEPT else ours)


def _entry(check: Check, slot: str = "", token: int | None = None) -> dict[str, Any]:
    if check.code in connection.NOT_KEPT:
        outcome = Outcome.REFUSED
    elif check.passed or check.code == Code.NOT_PROVEN:
        outcome = Outcome.GIVEN
    else:
        outcome = Outcome.TO_CONFIRM
    return {
        "outcome": outcome, "at": timezone.now().isoformat(), "sentence": check.sentence, "account": check.account,
        "code": check.code, "slot": slot, "token": token,
    }  # fmt: skip

"""Activates Attentive for a site: the task list, what stands in the way, and the site's way to LIVE and back.

`connection.py` tests the values as they are entered, `guest_tests.py` does what reaches a colleague's phone.
"""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration.phones import PhoneError, to_e164
from loyalty import audit, connection
from loyalty.connection import LEGACY_TEAM, ActivationRefused, Check, Task, TaskState, stored, test_again
from loyalty.models import AccessToken, Site
from loyalty.models.scope import Someone, known_user

Kind = AccessToken.Kind
# How many colleagues' phones a site may list.
MAX_GUESTS = 5


# --- How the tasks stand ----------------------------------------------------------------------------------------------


def tasks(site: Site, kinds: set[str] | None = None) -> list[Check]:
    """Return every task of the site in order, from what was found before; asks no vendor.

    `kinds` are those of the site's current tokens, where the caller has read them already.
    """
    current = AccessToken.objects.filter(site=site, slot="CURRENT", revoked_at=None)
    present = set(current.values_list("kind", flat=True)) if kinds is None else kinds
    has_source = site.sign_up_sources.exists()
    return [
        stored(site, Task.LOYALTY, there=Kind.LOYALTY in present),
        stored(site, Task.SIGN_UP_SOURCE, there=has_source),
        stored(site, Task.ATTENTIVE_APP, there=Kind.ATTENTIVE_APP in present),
        _legacy_task(site, there=Kind.ATTENTIVE_LEGACY in present),
        Check(Task.GUESTS, TaskState.PASSED if site.guest_phones else TaskState.TO_DO),
    ]


def _legacy_task(site: Site, *, there: bool) -> Check:
    check = stored(site, Task.ATTENTIVE_LEGACY, there=there)
    if not there and check.state == TaskState.TO_DO and site.legacy_token_requested_at:
        return Check(check.kind, TaskState.WAITING, at=site.legacy_token_requested_at)
    return check


def standing(site: Site) -> tuple[str, str]:
    """Return how the site stands in one word: (code, word), from the row alone.

    Its state, or FAILING when a check found a refusal, or WAITING when a draft waits for its legacy token.
    """
    if any((found or {}).get("state") == TaskState.FAILED for found in site.checks.values()):
        return "FAILING", _("Failing")
    legacy = (site.checks.get(Task.ATTENTIVE_LEGACY) or {}).get("state")
    if site.state == Site.State.DRAFT and site.legacy_token_requested_at and legacy != TaskState.PASSED:
        return "WAITING", _("Waiting")
    return site.state, site.get_state_display()


def marks(site: Site) -> list[tuple[Task, str]]:
    """Return each task with its state as the row alone tells it; for lists, where `tasks` would ask too much."""
    found = {task: (site.checks.get(task) or {}).get("state") or TaskState.TO_DO for task in Task}
    if found[Task.ATTENTIVE_LEGACY] == TaskState.TO_DO and site.legacy_token_requested_at:
        found[Task.ATTENTIVE_LEGACY] = TaskState.WAITING
    found[Task.GUESTS] = TaskState.PASSED if site.guest_phones else TaskState.TO_DO
    return list(found.items())


def looks_green(site: Site) -> bool:
    """Tell from the row alone whether the site may go live; `go_live` looks closer."""
    return all(state == TaskState.PASSED for _task, state in marks(site))


def blockers(site: Site, checks: list[Check] | None = None) -> list[str]:
    """Return what stands in the way of going live, a sentence each; empty when the site may go live."""
    sentences = {
        Task.LOYALTY: _("The access to Annex Cloud is not proven. Enter the site's access token."),
        Task.SIGN_UP_SOURCE: _("Attentive needs a sign-up source ID. Enter the ID of the client's sign-up flow."),
        Task.ATTENTIVE_APP: _("The Attentive app key is not proven. Enter the key of the client's app."),
        Task.ATTENTIVE_LEGACY: _(
            "The legacy token is not proven. Enter it, and send a test text to the phone of a colleague."
        ),
        Task.GUESTS: _("There is no guest phone. Add the mobile number of a colleague for the test text."),
    }
    return [sentences[Task(check.kind)] for check in checks or tasks(site) if not check.passed]


# --- 4 Legacy token ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mail:
    """A drafted e-mail: nothing is sent by us."""

    to: str
    subject: str
    body: str

    @property
    def address(self) -> str:
        """The mailto: address that opens it in the reader's mail program."""
        return f"mailto:{self.to}?{urlencode({'subject': self.subject, 'body': self.body}, quote_via=quote)}"


def draft_request(site: Site) -> Mail:
    """Return the e-mail that asks Attentive's legacy team for a token, or reminds them; in English, which they read."""
    facts = {"client": site.client_name, "domain": site.company_domain or "–", "company": site.company_name or "–"}
    body = (
        "Hello,\n\nplease activate the Legacy API for our client %(client)s, and send us a legacy token for "
        "transactional messages.\n\nClient: %(client)s\nCompany in Attentive: %(company)s\nDomain: %(domain)s\n"
        "Used for: transactional texts of the client's loyalty program, sent by Annex Cloud\n\nThank you"
    )
    subject = "Legacy API token for %(client)s"
    if site.legacy_token_requested_at:
        subject = "Reminder: Legacy API token for %(client)s"
    return Mail(LEGACY_TEAM, subject % facts, body % facts)


def request_legacy_token(site: Site, by: Someone = None) -> None:
    """Mark the token as asked for, with date and person; asking again moves neither."""
    with transaction.atomic():
        row = Site.objects.select_for_update().get(pk=site.pk)
        if row.legacy_token_requested_at is None:
            row.legacy_token_requested_at, row.legacy_token_requested_by = timezone.now(), known_user(by)
            row.save(update_fields=["legacy_token_requested_at", "legacy_token_requested_by"])
            audit.record("site.legacy_token_requested", site=row, user=by)
    site.refresh_from_db(fields=["legacy_token_requested_at", "legacy_token_requested_by"])


# --- 5 Guest phones, webhook ------------------------------------------------------------------------------------------


def enter_guest_phones(site: Site, raw: str, *, by: Someone = None) -> list[str]:
    """Replace the guest phones by these (separated by line breaks, commas or semicolons); at most five.

    Raises `ActivationRefused` with a sentence for what is no phone.
    """
    phones: list[str] = []
    for text in re.split(r"[\n,;]", raw):
        if not text.strip():
            continue
        try:
            phones.append(to_e164(text.strip(), site.default_country, site.allowed_countries))
        except PhoneError as error:
            raise ActivationRefused(f"“{text.strip()[:40]}”: {error.sentence}") from None
    phones = list(dict.fromkeys(phones))
    if len(phones) > MAX_GUESTS:
        raise ActivationRefused(_("At most %(most)d guest phones are possible.") % {"most": MAX_GUESTS})
    before = len(site.guest_phones)
    site.guest_phones = phones
    site.save(update_fields=["guest_phones"])
    # Numbers only: phones stand in no history.
    audit.record("site.guest_phones", site=site, user=by, old=before, new=len(phones))
    return phones


def enter_webhook_key(site: Site, text: str, *, by: Someone = None) -> None:
    """Keep the signing key of the client's webhook; a request that it signs proves it."""
    trial = connection.try_token(site, Kind.WEBHOOK_SIGNING, text)
    if trial.check.code in connection.NOT_KEPT:
        raise ActivationRefused(trial.check.sentence)
    connection.keep(site, trial, by=by)


def webhook_url(site: Site) -> str:
    """Return the address that the client's webhook in Attentive calls."""
    return settings.PUBLIC_URL + reverse("attentive-webhook", args=[site.uuid])


# --- Checking again ---------------------------------------------------------------------------------------------------


def check(site: Site, kind: str, by: Someone = None) -> Check:
    """Check one task again with what is stored, and keep the result. Texts nobody."""
    if kind == Task.GUESTS:
        return tasks(site)[-1]
    return test_again(site, Task(kind), by=by)


def check_site(site: Site, by: Someone = None) -> list[Check]:
    """Check every task of the site again, without a side effect at the vendors."""
    return [check(site, task, by) for task in Task]


# --- The site's state -------------------------------------------------------------------------------------------------


def go_live(site: Site, by: Someone = None) -> None:
    """DRAFT or TEST → LIVE; raises `ActivationRefused` with what is missing."""
    if missing := blockers(site):
        raise ActivationRefused(" ".join(missing))
    _move(site, Site.State.LIVE, "site.go_live", by, leaving=(Site.State.DRAFT, Site.State.TEST))


def enter_test(site: Site, by: Someone = None) -> None:
    """Any state → TEST: only guest phones are texted; raises `ActivationRefused` when there is none."""
    if not site.guest_phones:
        raise ActivationRefused(_("Test mode texts guest phones only, and there is none. Add a colleague's number."))
    _move(site, Site.State.TEST, "site.enter_test", by)


def pause(site: Site, by: Someone = None) -> None:
    """LIVE → PAUSED: what becomes due waits, until it expires."""
    _move(site, Site.State.PAUSED, "site.pause", by, leaving=(Site.State.LIVE,))


def resume(site: Site, by: Someone = None) -> None:
    """PAUSED → LIVE: what waited goes out, if it has not expired."""
    _move(site, Site.State.LIVE, "site.resume", by, leaving=(Site.State.PAUSED,))


def deactivate(site: Site, by: Someone = None) -> None:
    """Any state → DRAFT: nobody is texted, and what happens from now on never will be. Tokens and data stay."""
    _move(site, Site.State.DRAFT, "site.deactivate", by)


def _move(site: Site, to: str, event: str, by: Someone, leaving: tuple[str, ...] | None = None) -> None:
    """Change the state once, however often it is asked for."""
    with transaction.atomic():
        row = Site.objects.select_for_update().get(pk=site.pk)
        if row.state != to:
            if leaving is not None and row.state not in leaving:
                raise ActivationRefused(
                    _("%(site)s is in the state “%(state)s”, from which this is not possible. Reload the page.")
                    % {"site": row.client_name, "state": row.get_state_display()}
                )
            before, row.state = row.state, to
            if to == Site.State.DRAFT:
                row.activated_at = None
            elif row.activated_at is None:
                row.activated_at = timezone.now()
            row.save(update_fields=["state", "activated_at"])
            audit.record(event, site=row, user=by, old=before, new=to)
    site.state, site.activated_at = row.state, row.activated_at

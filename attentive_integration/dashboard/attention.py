"""What needs a person now, most pressing first: the list at the top of Home."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attentive_integration.markup import number
from attentive_integration.models import Heartbeat
from loyalty.connection import Task, TaskState
from loyalty.models import Breaker, ImportJob, Site
from messaging.overview import Queue

_SILENT_AFTER = timedelta(minutes=2)
_STUCK_AFTER = timedelta(minutes=5)
_LEGACY_AFTER = timedelta(days=3)
# A site with many troubles is told of by its first ones; its own page has all.
_MOST = 12


@dataclass(frozen=True)
class Item:
    """One thing to do: tone (bad, warn, info), what, why, and where to do it."""

    tone: str
    icon: str
    title: str
    text: str
    url: str = ""
    action: str = ""


def address(name: str, *args: Any, **query: Any) -> str:
    """Return the address of a page of the dashboard, with a query."""
    found = reverse(f"admin:{name}", args=args)
    return f"{found}?{urlencode(query)}" if query else found


def items(
    sites: list[Site],
    breakers: list[Breaker],
    imports: list[ImportJob],
    waiting: dict[str, Queue],
    heartbeats: dict[str, Heartbeat],
    without_token: dict[int, int],
    now: datetime,
    site_query: dict[str, str],
) -> list[Item]:
    """Return what needs a person, from rows that the page has read already.

    `without_token` has for each site how many texts wait for a token that nobody has entered.
    """
    found: list[Item] = [*_processes(heartbeats, waiting, now)]
    for breaker in breakers:
        found.append(
            Item(
                "bad", "lock", _("%(client)s: the %(token)s is held") % {
                    "client": breaker.site.client_name, "token": breaker.get_token_kind_display(),
                },
                breaker.sentence, address("loyalty_site_activate", breaker.site_id), _("Mend it"),
            )
        )  # fmt: skip
    for site in sites:
        if count := without_token.get(site.pk):
            found.append(_token_missing(site, count))
    held = {breaker.site_id for breaker in breakers}
    for site in sites:
        found += _of_site(site, now, is_held=site.pk in held)
    found += _messages(waiting, site_query)
    for job in imports:
        found.append(_import(job))
    return sorted(found, key=lambda item: ("bad", "warn", "info").index(item.tone))[:_MOST]


def _processes(heartbeats: dict[str, Heartbeat], waiting: dict[str, Queue], now: datetime) -> list[Item]:
    found = []
    worker = heartbeats.get("worker")
    if settings.REDIS_URL and (worker is None or now - worker.beat_at > _SILENT_AFTER):
        found.append(
            Item(
                "bad", "system", _("No worker has answered for 2 minutes"),
                _("Imports and messages wait; nothing is lost. Start: celery -A attentive_integration worker"),
                address("system"), _("System"),
            )
        )  # fmt: skip
    oldest = [queue.oldest for name in ("actions", "messages") if (queue := waiting[name]).oldest]
    if oldest and now - min(oldest) > _STUCK_AFTER:
        found.append(
            Item(
                "bad", "clock", _("Messages wait longer than 5 minutes"),
                _("The oldest waits since %(when)s. Look whether run_campaigns or the workers run.")
                % {"when": timezone.localtime(min(oldest)).strftime("%H:%M")},
                address("system"), _("System"),
            )
        )  # fmt: skip
    return found


def _of_site(site: Site, now: datetime, *, is_held: bool) -> list[Item]:
    found = []
    activate = address("loyalty_site_activate", site.pk)
    for task in Task:
        check = site.checks.get(task) or {}
        if check.get("state") == TaskState.FAILED and not is_held:
            title = _("%(client)s: %(task)s failed") % {"client": site.client_name, "task": task.label}
            found.append(Item("bad", "warning", title, check.get("sentence", ""), activate, _("Mend it")))
    if site.asking_paused_at and site.state != Site.State.DRAFT:
        title = _("%(client)s: the subscribe queue is paused") % {"client": site.client_name}
        queue = address("loyalty_consent_queue", site=site.site_id)
        words = _("Nobody is asked to subscribe until somebody resumes it; texts go on.")
        found.append(Item("info", "pause", title, words, queue, _("Open")))
    asked_at = site.legacy_token_requested_at
    legacy = (site.checks.get(Task.ATTENTIVE_LEGACY) or {}).get("state")
    if asked_at and now - asked_at > _LEGACY_AFTER and site.state == Site.State.DRAFT and legacy != TaskState.PASSED:
        days = (now - asked_at).days
        title = ngettext(
            "%(client)s waits %(days)d day for its legacy token", "%(client)s waits %(days)d days for its legacy token",
            days,
        ) % {"client": site.client_name, "days": days}  # fmt: skip
        found.append(
            Item("warn", "clock", title, _("Remind Attentive's legacy team."), activate, _("Draft a reminder"))
        )
    return found


def _token_missing(site: Site, count: int) -> Item:
    title = ngettext(
        "%(count)s text waits for the legacy token of %(client)s",
        "%(count)s texts wait for the legacy token of %(client)s",
        count,
    ) % {"count": number(count), "client": site.client_name}  # fmt: skip
    expiry = _("They are held until they expire, mostly for 72 hours, and are then skipped.")
    if site.legacy_token_requested_at is None:
        return Item(
            "bad", "lock", title, _("It was not asked for yet.") + " " + expiry,
            address("loyalty_site_activate", site.pk) + "#attentive-legacy", _("Draft the e-mail"),
        )  # fmt: skip
    asked = _("Asked for on %(day)s by %(user)s.") % {
        "day": date_format(timezone.localtime(site.legacy_token_requested_at), "DATE_FORMAT"),
        "user": site.legacy_token_requested_by or "–",
    }
    return Item(
        "bad", "lock", title, f"{asked} {expiry}",
        address("loyalty_site_activate", site.pk) + "#attentive-legacy", _("Draft a reminder"),
    )  # fmt: skip


def _messages(waiting: dict[str, Queue], site_query: dict[str, str]) -> list[Item]:
    found = []
    if count := waiting["unknown"].count:
        title = ngettext(
            "Of %(count)s text it is not known whether it went out",
            "Of %(count)s texts it is not known whether they went out",
            count,
        ) % {"count": number(count)}
        text = _("They are never sent again by themselves. Treat them as sent, or send them again.")
        link = address("messaging_message_changelist", state="UNKNOWN", period="all", **site_query)
        found.append(Item("warn", "question", title, text, link, _("Decide")))
    if count := waiting["held"].count:
        title = ngettext("%(count)s text is held", "%(count)s texts are held", count) % {"count": number(count)}
        text = _("They go out when their cause is mended, if they have not expired by then.")
        link = address("messaging_message_changelist", state="HELD", period="all", **site_query)
        found.append(Item("warn", "pause", title, text, link, _("See why")))
    return found


def _import(job: ImportJob) -> Item:
    link = address("loyalty_importjob_change", job.pk)
    if job.state == ImportJob.State.FAILED:
        return Item(
            "bad", "import", _("Import of %(file)s failed") % {"file": job.file_name}, job.error, link, _("Open")
        )
    title = ngettext(
        "%(file)s: %(count)d row was rejected", "%(file)s: %(count)d rows were rejected", job.rejected
    ) % {"file": job.file_name, "count": job.rejected}  # fmt: skip
    return Item("info", "import", title, _("Mend the file of rejected rows and import it again."), link, _("Open"))

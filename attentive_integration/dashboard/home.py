"""Home: what needs a person now, then what became of the messages, what waits, and what runs."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.dashboard import attention
from attentive_integration.dashboard.attention import address
from attentive_integration.markup import BarChart, Series, ago, bar_chart, number, state_pill
from attentive_integration.models import Heartbeat
from loyalty import activation
from loyalty.models import AccessToken, AuditEntry, Breaker, Consent, ImportJob, Site
from loyalty.models.scope import known_user
from loyalty.permissions import Right, can, chosen_site
from messaging import reasons
from messaging.overview import GROUPS, Outcomes, Queue, outcomes, queues, waiting_for_token

# What staff call the groups of states, their tone and their icon.
WORDS: dict[str, tuple[Any, str, str]] = {
    "accepted": (gettext_lazy("Accepted"), "good", "check"),
    "waiting": (gettext_lazy("On their way"), "info", "send"),
    "held": (gettext_lazy("Held"), "warn", "pause"),
    "unknown": (gettext_lazy("Not known"), "warn", "question"),
    "refused": (gettext_lazy("Refused"), "bad", "cross"),
    "skipped": (gettext_lazy("Skipped"), "calm", "skip"),
}
_STATES = dict(GROUPS)
# A site list longer than this is for the Sites page; Home counts and warns from the first ones.
_SITES = 500


def home(dashboard: Any, request: HttpRequest) -> TemplateResponse:
    now = timezone.now()
    site = chosen_site(request)
    scope = Site.objects.visible_to(request.user)
    if site is not None:
        scope = scope.filter(pk=site.pk)
    sites = list(scope.select_related("legacy_token_requested_by")[:_SITES])
    query = {"site": site.site_id} if site else {}
    found = outcomes(scope.order_by(), now)
    waiting = queues(scope.order_by(), now)
    breakers = list(Breaker.objects.filter(site__in=scope, opened_at__isnull=False).select_related("site")[:10])
    jobs = _jobs(scope, now)
    context = {
        **dashboard.each_context(request),
        "title": _("Home"),
        "is_home": True,
        "sites": sites,
        "attention": attention.items(
            sites,
            breakers,
            [job for job in jobs if _is_trouble(job)],
            waiting,
            _heartbeats(),
            waiting_for_token(scope.order_by()),
            now,
            query,
        ),
        "stats": _stats(found, query),
        "chart": outcome_chart(found),
        "week": number(sum(found.last_week.values())),
        "reasons": top_reasons(found, query),
        "standings": _standings(sites, query),
        "queues": queue_rows(waiting, query, held_up=_cannot_ask(sites, breakers)),
        "running": [job for job in jobs if job.state in ("PENDING", "RUNNING")],
        "recent": AuditEntry.objects.filter(user=known_user(request.user)).select_related("site")[:6],
        "may_add": can(request.user, None, Right.ACTIVATE),
        "members_import": address("loyalty_importjob_add", **query),
    }
    return TemplateResponse(request, "admin/index.html", context)


def _heartbeats() -> dict[str, Heartbeat]:
    return {row.name: row for row in Heartbeat.objects.all()[:50]}


def _jobs(scope: Any, now: Any) -> list[ImportJob]:
    """Return the imports that run, and those of the last day that failed or rejected rows."""
    recent = Q(ended_at__gte=now - timedelta(hours=24)) & (Q(state="FAILED") | Q(rejected__gt=0))
    wanted = ImportJob.objects.filter(Q(state__in=["PENDING", "RUNNING"]) | recent, site__in=scope)
    return list(wanted.select_related("site").order_by("-created_at")[:10])


def _is_trouble(job: ImportJob) -> bool:
    return job.state in (ImportJob.State.FAILED, ImportJob.State.COMPLETE)


def _stats(found: Outcomes, query: dict[str, str]) -> list[dict[str, Any]]:
    stats = []
    for key, (word, tone, icon_name) in WORDS.items():
        states = _STATES[key]
        # The message log shows the last 24 hours unless it is asked for more.
        lookup = {"state": states[0]} if len(states) == 1 else {"state__in": ",".join(states)}
        stats.append(
            {
                "label": str(word), "value": found.last_day[key], "tone": tone, "icon": icon_name,
                "url": address("messaging_message_changelist", **lookup, **query),
                "note": _("%(count)s in 7 days") % {"count": number(found.last_week[key])},
            }
        )  # fmt: skip
    return stats


def outcome_chart(found: Outcomes) -> BarChart:
    """Return the messages of the week, a stacked bar per day."""
    series = [Series(key, str(word), tone) for key, (word, tone, _icon) in WORDS.items() if found.last_week[key]]
    # Two groups share the amber tone; the second takes the brand's.
    series = [Series(one.key, one.label, "brand" if one.key == "unknown" else one.tone) for one in series]
    rows = [(date_format(start, "D j"), counts) for start, counts in found.days]
    return bar_chart(_("Messages per day"), rows, series or [Series("accepted", str(WORDS["accepted"][0]), "good")])


def top_reasons(found: Outcomes, query: dict[str, str]) -> list[dict[str, Any]]:
    """Return the five commonest reasons why messages of the week did not go out (yet)."""
    by_reason: Counter[str] = Counter()
    for (_state, reason), count in found.reasons.items():
        by_reason[reason] += count
    most = max(by_reason.values(), default=1)
    return [
        {
            "title": reasons.explain(reason).title, "remedy": reasons.explain(reason).remedy, "count": count,
            "most": most, "url": address("messaging_message_changelist", reason=reason, period="7d", **query),
        }
        for reason, count in by_reason.most_common(5)
    ]  # fmt: skip


def _standings(sites: list[Site], query: dict[str, str]) -> list[dict[str, Any]]:
    counted: Counter[tuple[str, str]] = Counter(activation.standing(site) for site in sites)
    order = ["FAILING", "WAITING", "DRAFT", "TEST", "PAUSED", "LIVE"]
    return [
        {
            "pill": state_pill(code, word), "count": count,
            "url": address("loyalty_site_changelist", state="DRAFT" if code == "WAITING" else code, **query),
        }
        for (code, word), count in sorted(counted.items(), key=lambda item: order.index(item[0][0]))
    ]  # fmt: skip


def _cannot_ask(sites: list[Site], breakers: list[Breaker]) -> list[str]:
    """Return the clients whose members wait to be asked and cannot be: a refused app key, a draft, a pause."""
    refused = {one.site_id for one in breakers if one.token_kind == AccessToken.Kind.ATTENTIVE_APP}
    still = (Site.State.DRAFT, Site.State.PAUSED)
    stuck = [site for site in sites if site.pk in refused or site.state in still or site.asking_paused_at]
    waiting = Consent.objects.filter(site__in=stuck, channel=Consent.Channel.TEXT, state=Consent.State.TO_ASK)
    found = set(Site.objects.filter(pk__in=waiting.values("site")).values_list("pk", flat=True)) if stuck else set()
    return [site.client_name for site in stuck if site.pk in found]


def queue_rows(
    waiting: dict[str, Queue], query: dict[str, str], *, held_up: Sequence[str] = (), asking_paused: bool = False
) -> list[dict[str, Any]]:
    """Return what waits, in words, with its age and, for subscriptions, how long it will take.

    `held_up` names the clients for which no time can be promised.
    """
    words = {
        "actions": (_("Actions to match"), ""),
        "messages": (
            _("Texts due now"),
            address("messaging_message_changelist", state="QUEUED", period="all", **query),
        ),
        "to_ask": (
            _("Members to ask to subscribe"),
            address("loyalty_consent_changelist", state="TO_ASK", **query),
        ),
        "webhooks": (_("Webhooks to work on"), ""),
    }
    rows = []
    for name, (label, link) in words.items():
        queue = waiting[name]
        note: str = ago(queue.oldest, "")
        if name == "to_ask" and queue.count:
            note = _("paused") if asking_paused else duration(queue.count / settings.RATE_LIMITS["SUBSCRIBE"])
            if held_up:
                note = _("not while %(clients)s cannot be asked: its key is refused, or it is paused or a draft") % {
                    "clients": ", ".join(held_up[:3])
                }
        rows.append({"label": label, "count": queue.count, "note": note, "url": link})
    return rows


def duration(seconds: float) -> str:
    """Return a time to wait in words, such as "ready in about 28 hours"."""
    if seconds < 90:
        return _("ready in a minute or so")
    if seconds < 5400:
        return _("ready in about %(minutes)d minutes") % {"minutes": round(seconds / 60)}
    return _("ready in about %(hours)d hours, per site") % {"hours": round(seconds / 3600)}

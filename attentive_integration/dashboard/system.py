"""System: do the processes live, what waits, what runs when, how much of the vendors' limits is used."""

import platform
from datetime import timedelta
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attentive_integration import health
from attentive_integration.dashboard.home import queue_rows
from attentive_integration.heartbeats import TICK
from attentive_integration.markup import ago, state_pill
from attentive_integration.models import Heartbeat, RateLimit
from attentive_integration.wake import wake
from loyalty import reconciliation, tokens
from loyalty.models import AccessToken, Breaker
from loyalty.permissions import Right, can, sites_where
from messaging.overview import queues

# What the checks of /readyz look at, in words.
_WORDS = {
    "database": lambda: (_("Database"), "database"),
    "migrations": lambda: (_("Migrations"), "history"),
    "broker": lambda: (_("Broker"), "link"),
    "worker": lambda: (_("Worker"), "system"),
    "beat": lambda: (_("Schedule (beat)"), "calendar"),
    "queue": lambda: (_("Waiting work"), "clock"),
}

# What beat orders, by its name in the settings.
_WORK = {
    "send what is due": gettext_lazy("Send what is due"),
    "ask waiting members": gettext_lazy("Ask waiting members"),
    "go on with imports": gettext_lazy("Go on with imports"),
    "carry out exports": gettext_lazy("Carry out exports"),
    "look for unheard opt-outs": gettext_lazy("Look for unheard opt-outs"),
    "heartbeat": gettext_lazy("Heartbeat"),
}
# A kind of work with the task or command beneath.
_NAMED = "{}<br><code>{}</code>"
_CALLS = {
    "SUBSCRIBE": gettext_lazy("subscribing"),
    "UNSUBSCRIBE": gettext_lazy("unsubscribing"),
    "ANNEX_CLOUD": gettext_lazy("calls to Annex Cloud"),
    "DEFAULT": gettext_lazy("all other calls"),
}


def system(dashboard: Any, request: HttpRequest) -> HttpResponse:
    if not can(request.user, None, Right.SYSTEM):
        raise PermissionDenied
    now = timezone.now()
    scope = sites_where(request.user, Right.SYSTEM).order_by()
    heartbeats = list(Heartbeat.objects.order_by("name")[:50])
    context = {
        **dashboard.each_context(request),
        "title": _("System"),
        "checks": _checks(heartbeats),
        "queues": queue_rows(queues(scope, now), {}),
        "schedule_headers": [_("Work"), _("When"), _("Last run"), _("Result"), _("Next"), _("Run it")],
        "schedule": _schedule(request, heartbeats),
        "heartbeats": heartbeats,
        "limits": _limits(scope),
        "breakers": list(Breaker.objects.filter(site__in=scope, opened_at__isnull=False).select_related("site")[:50]),
        "facts": _facts(),
    }
    return TemplateResponse(request, "admin/system.html", context)


def _checks(heartbeats: list[Heartbeat]) -> list[dict[str, Any]]:
    checks = []
    for name, result in health.results(heartbeats).items():
        label, icon_name = _WORDS[name]() if name in _WORDS else (name, "info")
        unused = result.get("state") == "not used"
        age = result.get("age_seconds")
        note = result.get("error", "")
        if age is not None:
            words = _("oldest: %(age)d s") if name == "queue" else _("%(age)d s ago")
            note = words % {"age": age}
        checks.append(
            {
                "label": label, "icon": icon_name, "note": note, "ok": result["ok"], "unused": unused,
                "tone": "bad" if not result["ok"] else "calm" if unused else "good",
                "word": _("Failed") if not result["ok"] else _("Not used") if unused else _("Works"),
            }
        )  # fmt: skip
    return checks


def _schedule(request: HttpRequest, heartbeats: list[Heartbeat]) -> list[list[Any]]:
    """Return what beat orders: how often, when it ran last and how that ended, when it runs next."""
    rows: list[list[Any]] = []
    signs = {row.name: row for row in heartbeats}
    for name, entry in settings.CELERY_BEAT_SCHEDULE.items():
        seconds = entry["schedule"]
        every = (
            ngettext("every %(count)d second", "every %(count)d seconds", int(seconds)) % {"count": int(seconds)}
            if isinstance(seconds, int | float)
            else str(seconds)
        )
        sign = signs.get(str(entry["task"]))
        upcoming = sign.beat_at + timedelta(seconds=seconds) if sign and isinstance(seconds, int | float) else None
        work = format_html(_NAMED, _WORK.get(name, name), entry["task"])
        rows.append(
            [
                work,
                every,
                *_last_run(sign),
                ago(upcoming, _("when beat runs")),
                _run_button(request, str(entry["task"])),
            ]
        )
    work = format_html(_NAMED, _("Send what is due, by cron"), "manage.py run_campaigns")
    rows.append([work, _("as your cron says"), *_last_run(signs.get(TICK)), "–", "–"])
    return rows


def _run_button(request: HttpRequest, task: str) -> Any:
    """Return the button that wakes a task now; without a broker nobody would hear it."""
    if not settings.REDIS_URL:
        return "–"
    form = (
        '<form method="post" action="{}"><input type="hidden" name="csrfmiddlewaretoken" value="{}">'
        '<button class="button-small" name="task" value="{}">{}</button></form>'
    )
    return format_html(form, reverse("admin:system_run"), get_token(request), task, _("Run now"))


def run_now(dashboard: Any, request: HttpRequest) -> HttpResponse:
    """Wake one of the scheduled tasks at once."""
    if not can(request.user, None, Right.SYSTEM):
        raise PermissionDenied
    tasks = {str(entry["task"]) for entry in settings.CELERY_BEAT_SCHEDULE.values()}
    if request.method != "POST" or request.POST.get("task") not in tasks:
        raise Http404
    wake(request.POST["task"])
    messages.success(request, _("A worker was told. The result stands here a moment later."))
    return HttpResponseRedirect(reverse("admin:system"))


def _last_run(sign: Heartbeat | None) -> list[Any]:
    if sign is None:
        return [_("never"), state_pill("TO_DO", _("Not run yet"))]
    done = state_pill("DONE", _("Done")) if sign.detail.get("ok", True) else state_pill("FAILED", _("Failed"))
    return [ago(sign.beat_at), done]


def _limits(scope: Any) -> list[list[Any]]:
    """Return how each site's tokens stand with the vendors' limits: calls a second, and whether a pause was asked."""
    current = AccessToken.objects.filter(site__in=scope, slot=AccessToken.Slot.CURRENT, revoked_at=None)
    names = tokens.by_pace_name(current.exclude(kind=AccessToken.Kind.INGEST).select_related("site")[:2_000])
    now = timezone.now()
    rows = []
    for limit in RateLimit.objects.order_by("-next_slot_at")[:200]:
        name, _colon, endpoint = limit.key.partition(":")
        if name not in names:
            continue
        token = names[name]
        most = settings.RATE_LIMITS.get(endpoint, reconciliation.PACE)
        blocked = limit.blocked_until is not None and limit.blocked_until > now
        busy = limit.next_slot_at > now - timedelta(seconds=1)
        state = (
            state_pill("PAUSED", _("Pause asked for")) if blocked
            else state_pill("RUNNING", _("In use")) if busy else state_pill("IGNORED", _("Idle"))
        )  # fmt: skip
        rows.append(
            [
                token.site.client_name,
                f"{token.get_kind_display()} · {_CALLS.get(endpoint, endpoint.replace('_', ' ').lower())}",
                most,
                ago(limit.next_slot_at),
                state,
            ]
        )
    return rows[:50]


def _facts() -> list[tuple[str, str]]:
    return [
        (_("Product"), settings.VERSION),
        (_("Django"), django.get_version()),
        (_("Python"), platform.python_version()),
        (_("Database"), f"{connection.display_name} {'.'.join(map(str, _database_version()))}"),
        (_("Size of the database"), filesizeformat(_database_bytes())),
        (_("Attentive"), settings.ATTENTIVE_API_URL),
        (_("Annex Cloud"), settings.ANNEX_CLOUD_API_URL),
        (_("Public address"), settings.PUBLIC_URL),
    ]


def _database_version() -> tuple[int, ...]:
    return connection.get_database_version()


def _database_bytes() -> int:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    path = Path(str(connection.settings_dict["NAME"]))
    return path.stat().st_size if path.is_file() else 0

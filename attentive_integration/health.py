"""Two addresses for whoever watches the installation: does the process live, and can it do its work?"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Min, OuterRef, Subquery
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from attentive_integration import heartbeats
from attentive_integration.models import Heartbeat
from loyalty.models import LoyaltyAction, Site
from messaging.models import Message

# Seconds after which a silent worker or beat counts as gone, and after which waiting work counts as stuck.
_SILENT = {heartbeats.WORKER: 90, heartbeats.BEAT: 90}
_STUCK = 900
_BROKER_SECONDS = 1


class _Failed(Exception):
    """A check did not pass; `str()` says why, without hosts, names or keys."""


def _database() -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return {}


def _migrations() -> dict[str, Any]:
    executor = MigrationExecutor(connection)
    if waiting := len(executor.migration_plan(executor.loader.graph.leaf_nodes())):
        words = ngettext("%(count)d migration is not applied.", "%(count)d migrations are not applied.", waiting)
        raise _Failed(" ".join([words % {"count": waiting}, _("Run: manage.py migrate")]))
    return {}


def _broker() -> dict[str, Any]:
    if not settings.REDIS_URL:
        return {"state": "not used"}
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=_BROKER_SECONDS, socket_connect_timeout=_BROKER_SECONDS
        ) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError):
        raise _Failed(_("The broker does not answer. Messages still go out by run_campaigns.")) from None
    return {}


def _alive(name: str, ages: Callable[[], dict[str, float]]) -> dict[str, Any]:
    if not settings.REDIS_URL:
        return {"state": "not used"}
    age = ages().get(name)
    if age is None:
        raise _Failed(_("No %(process)s has shown itself yet. Start one.") % {"process": name})
    if age > _SILENT[name]:
        raise _Failed(_("The last sign of a %(process)s is %(age)d s old.") % {"process": name, "age": age})
    return {"age_seconds": round(age, 1)}


def _queue() -> dict[str, Any]:
    """How long the oldest work has waited that could have been done: a new action, or a message that is due."""
    now = timezone.now()
    # Each of them is the first row of an index, of messages one for each site.
    action = LoyaltyAction.objects.filter(processed_at=None).order_by("id").values("recorded_at")[:1]
    waiting = Message.objects.filter(site=OuterRef("pk"), state=Message.State.QUEUED, due_at__lte=now)
    message = Subquery(waiting.order_by("due_at").values("due_at")[:1])
    oldest = Site.objects.aggregate(action=Min(Subquery(action)), message=Min(message)).values()
    age = max(((now - moment).total_seconds() for moment in oldest if moment), default=0.0)
    if age > _STUCK:
        raise _Failed(
            _("The oldest waiting work is %(age)d s old. Look whether run_campaigns or the workers run.") % {"age": age}
        )
    return {"age_seconds": round(age, 1)}


def results(signs: Iterable[Heartbeat] | None = None) -> dict[str, dict[str, Any]]:
    """Return what each check found: `ok`, and an `error`, an `age_seconds` or a `state`.

    `signs` are the heartbeats, where the caller has read them.
    """
    ages = cache(lambda: heartbeats.ages(signs))
    all_checks: dict[str, Callable[[], dict[str, Any]]] = {
        "database": _database,
        "migrations": _migrations,
        "broker": _broker,
        "worker": lambda: _alive(heartbeats.WORKER, ages),
        "beat": lambda: _alive(heartbeats.BEAT, ages),
        "queue": _queue,
    }
    checks: dict[str, dict[str, Any]] = {}
    for name, check in all_checks.items():
        try:
            checks[name] = {"ok": True, **check()}
        except _Failed as failure:
            checks[name] = {"ok": False, "error": str(failure)}
        except (DatabaseError, InterfaceError):
            checks[name] = {"ok": False, "error": _("The database does not answer.")}
    return checks


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """200 as long as this process answers; touches nothing else."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when all that the work needs is there, else 503 with the names of the checks that failed, and why."""
    checks = results()
    failed = [name for name, result in checks.items() if not result["ok"]]
    body = {"status": "unavailable" if failed else "ok", "failed": failed, "checks": checks}
    return JsonResponse(body, status=503 if failed else 200)

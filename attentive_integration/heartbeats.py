"""Signs of life of the processes behind the web: written by their tasks, read by `GET /readyz` and the dashboard.

One small task that beat orders every few seconds shows both: that beat publishes and that a worker runs.
"""

from datetime import timedelta

from django.utils import timezone

from attentive_integration.models import Heartbeat

WORKER, BEAT, TICK = "worker", "beat", "tick"
# More than one sign in this time says nothing new.
_OFTEN_ENOUGH = timedelta(seconds=5)


def show_alive(name: str) -> None:
    """Note that this kind of process is alive now; cheap enough to call in every task."""
    now = timezone.now()
    row, is_new = Heartbeat.objects.get_or_create(name=name, defaults={"beat_at": now})
    if not is_new and row.beat_at < now - _OFTEN_ENOUGH:
        Heartbeat.objects.filter(pk=row.pk).update(beat_at=now)


def seconds_since(name: str) -> float | None:
    """Return how long ago this kind of process last showed that it is alive; None when it never did."""
    beat_at = Heartbeat.objects.filter(name=name).values_list("beat_at", flat=True).first()
    return max(0.0, (timezone.now() - beat_at).total_seconds()) if beat_at else None

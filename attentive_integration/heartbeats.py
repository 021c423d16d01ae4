"""Signs of life of the processes behind the web: written by their tasks, read by `GET /readyz` and the dashboard.

One small task that beat orders every few seconds shows both: that beat publishes and that a worker runs.
"""

from collections.abc import Iterable
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


def ages(rows: Iterable[Heartbeat] | None = None) -> dict[str, float]:
    """Return how many seconds ago each kind of process showed that it is alive, from rows that were read already."""
    now = timezone.now()
    known = Heartbeat.objects.all()[:50] if rows is None else rows
    return {row.name: max(0.0, (now - row.beat_at).total_seconds()) for row in known}

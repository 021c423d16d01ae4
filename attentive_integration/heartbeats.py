"""Signs of life of the processes behind the web: written by their tasks, read by `GET /readyz` and the dashboard.

One small task that beat orders every few seconds shows both: that beat publishes and that a worker runs.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.utils import timezone

from attentive_integration.models import Heartbeat

WORKER, BEAT, TICK = "worker", "beat", "tick"
# More than one sign in this time says nothing new.
_OFTEN_ENOUGH = timedelta(seconds=5)


def show_alive(name: str, *, ok: bool = True) -> None:
    """Note that this kind of process is alive, and whether its work succeeds; cheap enough to call in every task."""
    now, detail = timezone.now(), {"ok": ok}
    row, is_new = Heartbeat.objects.get_or_create(name=name, defaults={"beat_at": now, "detail": detail})
    if not is_new and (row.beat_at < now - _OFTEN_ENOUGH or row.detail != detail):
        Heartbeat.objects.filter(pk=row.pk).update(beat_at=now, detail=detail)


@contextmanager
def shown(name: str) -> Iterator[None]:
    """Note when a scheduled task ran and how it ended. Decorates the task's function."""
    try:
        yield
    except Exception:
        show_alive(name, ok=False)
        raise
    show_alive(name)


def ages(rows: Iterable[Heartbeat] | None = None) -> dict[str, float]:
    """Return how many seconds ago each kind of process showed that it is alive, from rows that were read already."""
    now = timezone.now()
    known = Heartbeat.objects.all()[:50] if rows is None else rows
    return {row.name: max(0.0, (now - row.beat_at).total_seconds()) for row in known}

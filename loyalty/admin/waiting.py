"""How long people wait, in words: spans of time, and workers that do not answer."""

from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attentive_integration.models import Heartbeat

_SILENT = timedelta(minutes=1)


def duration(seconds: float) -> str:
    """Return a span of time in words, rounded as a person would."""
    if seconds < 90:
        n = max(1, round(seconds))
        return ngettext("%(n)s second", "%(n)s seconds", n) % {"n": n}
    if seconds < 5400:
        n = round(seconds / 60)
        return ngettext("%(n)s minute", "%(n)s minutes", n) % {"n": n}
    n = round(seconds / 3600)
    return ngettext("%(n)s hour", "%(n)s hours", n) % {"n": n}


def worker_silence() -> str:
    """Return for how long no worker has answered, in words; empty when one is alive."""
    beat_at = Heartbeat.objects.filter(name="worker").values_list("beat_at", flat=True).first()
    if beat_at is None:
        return _("a long time")
    silent = timezone.now() - beat_at
    return duration(silent.total_seconds()) if silent > _SILENT else ""

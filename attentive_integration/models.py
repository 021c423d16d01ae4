"""Two small tables that every process shares: the vendors' rate limits and the processes' heartbeats."""

from django.db import models


class RateLimit(models.Model):
    """The next free slot of one (token, endpoint class); `rate_limit.py` hands the slots out."""

    key = models.CharField(max_length=80, unique=True)
    next_slot_at = models.DateTimeField()
    blocked_until = models.DateTimeField(null=True, blank=True)
    # The calls a second that slots are handed out for, and since when: older calls kept to another limit.
    limit = models.PositiveIntegerField(null=True, blank=True)
    limit_since = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.key


class Heartbeat(models.Model):
    """When a process (a worker, beat, a tick) last showed that it is alive."""

    name = models.CharField(max_length=80, unique=True)
    beat_at = models.DateTimeField()
    detail = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return self.name

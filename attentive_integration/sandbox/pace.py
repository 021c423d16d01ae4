"""Attentive's rate limits: calls in any sliding second, per token and endpoint class."""

import time
from collections import deque
from dataclasses import dataclass

LIMITS: dict[str, int | None] = {"SUBSCRIBE": 10, "UNSUBSCRIBE": 5, "SEGMENTS": 100, "DEFAULT": 150}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call is within the limit, with the numbers for its headers; a limit of None is switched off."""

    allowed: bool
    limit: int | None = None
    remaining: int = 0

    def headers(self) -> dict[str, str]:
        if self.limit is None:
            return {}
        return {"x-ratelimit-limit": str(self.limit), "x-ratelimit-remaining": str(self.remaining)}


def endpoint_class(method: str, path: str) -> str:
    """Return the class whose limit a call counts against."""
    if path == "/v1/subscriptions" and method == "POST":
        return "SUBSCRIBE"
    if path == "/v1/subscriptions/unsubscribe":
        return "UNSUBSCRIBE"
    if path.startswith(("/v2/segments", "/v2/bulk/")):
        return "SEGMENTS"
    return "DEFAULT"


class Pace:
    """Counts the calls of the last second. Refused calls do not count."""

    def __init__(self) -> None:
        self.limits = dict(LIMITS)
        self.refused = 0
        self._calls: dict[tuple[str, str], deque[float]] = {}

    def take(self, token: str, kind: str) -> Verdict:
        """Count one call of a token and class, unless the class's limit is used up."""
        limit = self.limits[kind]
        if limit is None:
            return Verdict(True)
        calls = self._calls.setdefault((token, kind), deque())
        now = time.monotonic()
        while calls and calls[0] <= now - 1:
            calls.popleft()
        if len(calls) >= limit:
            self.refused += 1
            return Verdict(False, limit)
        calls.append(now)
        return Verdict(True, limit, limit - len(calls))

"""Writes what became of a call: the message's next state, and its attempt's record.

Every write carries the fence of the lease under which the call was made. Whoever lost the lease writes nothing.
"""

import random
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from attentive_integration.crash import crash_point
from attentive_integration.http import Answer, ErrorKind, VendorError
from messaging.models import Message, SendAttempt
from messaging.queue import CALL_LEASE
from messaging.reasons import Code

State = Message.State
Outcome = SendAttempt.Outcome

# The cause of an attempt that was given up before the call, because its slot had passed.
LATE_SLOT = "LATE_SLOT"
# Pauses before another try (seconds): they double from the first to the last, and are spread at random.
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 900.0


@dataclass(frozen=True)
class Call:
    """One call that was made at `began_at`, or whose slot was too late to make it (neither answer nor error)."""

    message: Message
    began_at: datetime
    answer: Answer | None = None
    error: VendorError | None = None


class Verdict(NamedTuple):
    """What a call means for its message and its attempt."""

    state: Message.State
    reason: str
    outcome: SendAttempt.Outcome
    # Seconds until the next try, for a message that goes back to the queue.
    pause: float = 0.0


def verdict(call: Call) -> Verdict:
    """Return what the call means; the meaning of each failure stands in `attentive_integration.http.RULES`."""
    error = call.error
    if error is None:
        if call.answer is None:
            return Verdict(State.QUEUED, "", Outcome.RETRY)
        return Verdict(State.ACCEPTED, "", Outcome.ACCEPTED)
    if error.kind == ErrorKind.REFUSED:
        return Verdict(State.REFUSED, Code.REFUSED, Outcome.REFUSED)
    if error.kind == ErrorKind.CREDENTIALS:
        return Verdict(State.HELD, Code.TOKEN_REFUSED, Outcome.RETRY)
    if error.kind == ErrorKind.UNKNOWN:
        return Verdict(State.UNKNOWN, Code.NO_ANSWER, Outcome.UNKNOWN)
    reason = Code.RATE_LIMITED if error.status == 429 else Code.RETRYING
    return Verdict(State.QUEUED, reason, Outcome.RETRY, _pause(call.message.attempt_count, error.retry_after))


def _pause(attempts: int, retry_after: float | None) -> float:
    """Return the seconds to wait after so many attempts: what the vendor asked for, or a doubling pause with jitter."""
    longest = min(_LAST_PAUSE, _FIRST_PAUSE * 2 ** min(attempts, 12))
    wished = retry_after if retry_after is not None else 0.0
    return max(wished, _FIRST_PAUSE / 2) + random.uniform(0, longest)  # noqa: S311 - spreads load, guards nothing


def record_patiently(calls: list[Call]) -> None:
    """Write the outcomes, and outlast a restart of the database: an answer that is lost makes its message UNKNOWN."""
    give_up_at = time.monotonic() + CALL_LEASE.total_seconds()
    while True:
        try:
            record(calls)
            return
        except (OperationalError, InterfaceError):
            if time.monotonic() > give_up_at:
                raise
            connection.close()
            time.sleep(0.5)


def record(calls: list[Call]) -> None:
    """Write the outcomes of many calls in one transaction."""
    verdicts = {call.message.pk: verdict(call) for call in calls}
    with transaction.atomic():
        rows = Message.objects.select_for_update().filter(pk__in=verdicts, state=State.SENDING).order_by("pk")
        fences = dict(rows.values_list("pk", "fence"))
        mine = [call for call in calls if fences.get(call.message.pk) == call.message.fence]
        _update_messages(mine, verdicts)
        crash_point("outcome_half_written")
        _update_attempts(mine, verdicts)


def _update_messages(calls: list[Call], verdicts: dict[int, Verdict]) -> None:
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    now = timezone.now()
    for call in calls:
        found = verdicts[call.message.pk]
        if found.pause:
            # Each waits for its own time, so that a crowd does not come back as one.
            due_at = now + timedelta(seconds=found.pause)
            Message.objects.filter(pk=call.message.pk).update(due_at=due_at)
        alike[found.state, found.reason].append(call.message.pk)
    for (state, reason), pks in alike.items():
        may_have_reached = state in (State.ACCEPTED, State.UNKNOWN)
        forgotten = {} if may_have_reached else {"sent_at": None}
        Message.objects.filter(pk__in=pks).update(
            state=state, reason=reason, lease_until=None, updated_at=Now(), **forgotten
        )


def _update_attempts(calls: list[Call], verdicts: dict[int, Verdict]) -> None:
    as_stored = connection.ops.adapt_datetimefield_value
    ended_at = as_stored(timezone.now())
    statement = (
        "UPDATE messaging_sendattempt SET outcome = %s, cause = %s, http_status = %s, duration_ms = %s, answer = %s, "
        "called_at = %s, ended_at = %s WHERE message_id = %s AND number = %s"
    )
    values = []
    for call in calls:
        answer, error = call.answer, call.error
        cause = error.cause if error else "" if answer else LATE_SLOT
        status = error.status if error else answer.status if answer else None
        duration = error.duration_ms if error else answer.duration_ms if answer else None
        words = error.answer if error else answer.text if answer else ""
        outcome = verdicts[call.message.pk].outcome.value
        called_at = as_stored(call.began_at) if error or answer else None
        key = call.message.pk, call.message.attempt_count
        values.append((outcome, cause, status, duration, words, called_at, ended_at, *key))
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)

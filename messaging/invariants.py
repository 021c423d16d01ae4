"""What must always hold, counted in the database: I1 to I12. Every check is one statement, so memory stays flat.

A statement sees one state of the database, so the checks may run beside live work. The comparison with a ledger of
accepted requests (`acceptance_ledger.py`) spans several, and belongs to a quiet moment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Window
from django.db.models.expressions import Value
from django.db.models.functions import Coalesce, Lag, NullIf
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from attentive_integration import rate_limit
from attentive_integration.secrets import SecretUnreadable
from loyalty.models import (
    AccessToken,
    Consent,
    ConsentEvent,
    ExportJob,
    ImportIssue,
    ImportJob,
    LoyaltyAction,
    Member,
    SegmentMember,
)
from messaging.models import Campaign, Message, SendAttempt, WebhookEvent

M, A, C = Message.State, SendAttempt.Outcome, Consent.State
# Sweepers free what is overdue within seconds, the CRON job within a minute; later than this nobody did.
_OVERDUE = timedelta(minutes=10)
_WEBHOOK_OVERDUE = timedelta(hours=1)
# Clocks of several hosts differ a little, and a token that was replaced is still used for a moment beside the new one.
_NEARLY_A_SECOND = timedelta(seconds=0.9)
_HAND_OVER = timedelta(seconds=5)
_MAY_HAVE_ARRIVED = (A.OPEN, A.ACCEPTED, A.UNKNOWN)
_OUT = (C.UNSUBSCRIBED, C.BLOCKED, C.ERASED)


@dataclass(frozen=True)
class Invariant:
    """One law that can be checked. `checks` names what a violation is; each counts its violations."""

    title: str | Promise
    checks: Mapping[str, Callable[[], int]]


def _attempts(**conditions: Any) -> Exists:
    return Exists(SendAttempt.objects.filter(message=OuterRef("pk"), **conditions))


# --- I1: nothing lost -------------------------------------------------------------------------------------------------


def matched_actions_without_message() -> int:
    matched = LoyaltyAction.objects.filter(outcome=LoyaltyAction.Outcome.MATCHED)
    return matched.exclude(Exists(Message.objects.filter(action=OuterRef("pk")))).count()


def messages_of_actions_that_matched_nothing() -> int:
    return Message.objects.exclude(action__outcome=LoyaltyAction.Outcome.MATCHED).count()


def actions_processed_without_outcome() -> int:
    return LoyaltyAction.objects.filter(
        Q(processed_at__isnull=False, outcome="") | (Q(processed_at=None) & ~Q(outcome=""))
    ).count()


def messages_in_no_known_state() -> int:
    return Message.objects.exclude(state__in=M.values).count()


# --- I2: nobody gets the same text twice ------------------------------------------------------------------------------


def messages_twice_for_one_action() -> int:
    pairs = Message.objects.order_by().values("campaign", "action").annotate(rows=Count("pk"))
    return pairs.filter(rows__gt=1).count()


def messages_sent_twice_by_nobody() -> int:
    """A further attempt after one that may have arrived needs a person's name."""
    earlier = SendAttempt.objects.filter(
        message=OuterRef("message"), number__lt=OuterRef("number"), outcome__in=_MAY_HAVE_ARRIVED
    )
    return SendAttempt.objects.filter(resent_by=None, number__gt=1).filter(Exists(earlier)).count()


def messages_sent_and_still_to_send() -> int:
    """A message with an accepted attempt may not be due, held, or called not sent."""
    sent = Message.objects.exclude(state__in=[M.ACCEPTED, M.SENDING, M.CLAIMED])
    # What a person sends again carries their name.
    return sent.filter(_attempts(outcome=A.ACCEPTED), resent_by=None).count()


def messages_sent_without_attempt() -> int:
    """The attempt is committed before the request leaves."""
    gone = Message.objects.filter(state__in=[M.SENDING, M.ACCEPTED, M.UNKNOWN])
    return gone.exclude(_attempts(outcome__in=_MAY_HAVE_ARRIVED)).count()


# --- I3: opt-out wins -------------------------------------------------------------------------------------------------


def opt_outs_followed_by_a_text() -> int:
    """Opt-outs after whose record an attempt began, before the person was heard to subscribe again."""
    outs = ConsentEvent.objects.filter(consent__channel=Consent.Channel.TEXT, to_state__in=_OUT)
    outs = outs.exclude(from_state__in=_OUT)
    back = ConsentEvent.objects.filter(
        consent=OuterRef("consent"), recorded_at__gte=OuterRef("recorded_at"), pk__gt=OuterRef("pk")
    ).exclude(to_state__in=_OUT)
    outs = outs.annotate(back_at=Subquery(back.order_by("recorded_at", "pk").values("recorded_at")[:1]))
    attempts = SendAttempt.objects.filter(
        message__site=OuterRef("consent__site"),
        message__to=OuterRef("consent__address"),
        started_at__gt=OuterRef("recorded_at"),
    )
    before_the_return = attempts.filter(started_at__lt=OuterRef("back_at"))
    return outs.filter(Q(Exists(before_the_return)) | Q(Q(back_at=None), Exists(attempts))).count()


# --- I4: what is unknown is seen --------------------------------------------------------------------------------------


def open_attempts_of_messages_not_sending() -> int:
    return SendAttempt.objects.filter(outcome=A.OPEN).exclude(message__state=M.SENDING).count()


def messages_sending_without_open_attempt() -> int:
    return Message.objects.filter(state=M.SENDING).exclude(_attempts(outcome=A.OPEN)).count()


def unknown_attempts_that_ended_as_not_sent() -> int:
    """Nobody may quietly call not sent what may have been sent."""
    quiet = Message.objects.filter(state__in=[M.REFUSED, M.SKIPPED, M.EXPIRED, M.CANCELLED])
    return quiet.filter(_attempts(outcome=A.UNKNOWN), resent_by=None).count()


# --- I5: consent follows the time of events ---------------------------------------------------------------------------


def consents_that_differ_from_their_ledger() -> int:
    last = ConsentEvent.objects.filter(consent=OuterRef("pk")).order_by("-recorded_at", "-pk").values("to_state")[:1]
    rows = Consent.objects.annotate(ledger_state=Coalesce(Subquery(last), Value(C.UNKNOWN.value)))
    return rows.exclude(state=F("ledger_state")).count()


def ledger_lines_out_of_sequence() -> int:
    lines = ConsentEvent.objects.order_by().annotate(
        previous=Window(Lag("to_state"), partition_by=F("consent"), order_by=[F("recorded_at").asc(), F("pk").asc()])
    )
    return lines.filter(previous__isnull=False).exclude(previous=F("from_state")).count()


def subscriptions_over_a_later_opt_out() -> int:
    """The strongest opt-out of the ledger against a row that says SUBSCRIBED: later, as late, or both without time."""
    said_out = ConsentEvent.objects.annotate(claim=Coalesce(NullIf("heard", Value("")), "to_state")).filter(
        consent=OuterRef("pk"), claim=C.UNSUBSCRIBED
    )
    dated = said_out.filter(event_at__isnull=False)
    stands = Consent.objects.filter(state=C.SUBSCRIBED)
    return stands.filter(
        Q(Q(event_at__isnull=False), Exists(dated.filter(event_at__gte=OuterRef("event_at"))))
        | Q(Q(event_at=None), Exists(said_out))
    ).count()


def opt_outs_undone_without_a_webhook() -> int:
    undone = ConsentEvent.objects.filter(from_state__in=[C.UNSUBSCRIBED, C.ERASED])
    return undone.exclude(to_state__in=_OUT).exclude(source=ConsentEvent.Source.WEBHOOK).count()


# --- I6: the vendor's limits ------------------------------------------------------------------------------------------
#
# Texts, events and subscriptions say when their calls left. Other calls leave no time behind; `make bench` and
# `make soak` measure all of them at the receiving end.


def _faster_than_allowed(endpoint: str, rows: QuerySet[Any], moment: str, site: str, *kind: str) -> int:
    """Count the rows whose moment lies within a second of the one `limit` rows before, at the same site.

    The limit is today's, and calls from before it was in force are not judged by it.
    """
    limit = settings.RATE_LIMITS[endpoint]
    if since := rate_limit.in_force_since(endpoint, limit):
        rows = rows.filter(**{f"{moment}__gte": since})
    replaced = AccessToken.objects.filter(
        site=OuterRef(site), revoked_at__range=(OuterRef(moment) - _HAND_OVER, OuterRef(moment))
    )
    rows = rows.order_by().filter(**{f"{moment}__isnull": False}).exclude(Exists(replaced))
    earlier = Window(Lag(moment, limit), partition_by=[F(site), *map(F, kind)], order_by=F(moment).asc())
    return rows.annotate(earlier=earlier).filter(**{f"{moment}__lt": F("earlier") + _NEARLY_A_SECOND}).count()


def texts_beyond_the_limit() -> int:
    attempts = SendAttempt.objects.all()
    return _faster_than_allowed("DEFAULT", attempts, "called_at", "message__site", "message__campaign__route")


def subscriptions_beyond_the_limit() -> int:
    return _faster_than_allowed("SUBSCRIBE", Consent.objects.all(), "requested_at", "site")


# --- I7, I8: files ----------------------------------------------------------------------------------------------------


def imports_that_do_not_add_up() -> int:
    jobs = ImportJob.objects.filter(phase=ImportJob.Phase.IMPORT)
    return jobs.exclude(read=F("created") + F("updated") + F("unchanged") + F("duplicate") + F("rejected")).count()


def imports_without_their_rejects() -> int:
    done = ImportJob.objects.filter(state=ImportJob.State.COMPLETE, phase=ImportJob.Phase.IMPORT)
    # Without a file, its page makes one of the rows that are kept.
    kept = ImportIssue.objects.filter(job=OuterRef("pk"), kind=ImportIssue.Kind.REJECTED)
    return done.filter(~Exists(kept), rejected__gt=0, rejects_file="").count()


def exports_without_manifest() -> int:
    return ExportJob.objects.filter(state=ExportJob.State.COMPLETE, manifest={}).count()


def exports_offered_before_they_are_whole() -> int:
    return ExportJob.objects.exclude(state=ExportJob.State.COMPLETE).exclude(file="").count()


# --- I9, I10: sites and secrets ---------------------------------------------------------------------------------------


def _crossing(rows: QuerySet[Any], *paths: str) -> Callable[[], int]:
    """Return a count of the rows whose site differs from the site at the end of one of the paths."""

    def count() -> int:
        crossed = Q()
        for path in paths:
            crossed |= Q(**{f"{path.split('__')[0]}__isnull": False}) & ~Q(site=F(path))
        return rows.filter(crossed).count()

    return count


def messages_of_another_campaigns_version() -> int:
    return Message.objects.exclude(version__campaign=F("campaign")).count()


def messages_to_another_member_than_acted() -> int:
    return Message.objects.exclude(action__member=F("member")).count()


def segments_with_members_of_another_site() -> int:
    return SegmentMember.objects.exclude(member__site=F("segment__site")).count()


def secrets_that_do_not_open() -> int:
    """Each sealed secret is bound to its site and kind, so one that was moved between rows does not open."""
    wrong = 0
    rows = AccessToken.objects.select_related("site").exclude(sealed_secret="")
    for token in rows.iterator(chunk_size=500):
        try:
            token.reveal()
        except SecretUnreadable:
            wrong += 1
    return wrong


def ingest_keys_kept_in_the_open() -> int:
    keys = AccessToken.objects.filter(kind=AccessToken.Kind.INGEST)
    return keys.exclude(sealed_secret="", secret_hash__regex=r"^[0-9a-f]{64}$").count()


# --- I11, I12: progress and counters ----------------------------------------------------------------------------------


def messages_nobody_owns() -> int:
    overdue = timezone.now() - _OVERDUE
    return Message.objects.filter(state__in=[M.CLAIMED, M.SENDING], lease_until__lt=overdue).count()


def jobs_nobody_owns() -> int:
    overdue = timezone.now() - _OVERDUE
    imports = ImportJob.objects.filter(state=ImportJob.State.RUNNING, lease_until__lt=overdue)
    exports = ExportJob.objects.filter(state=ExportJob.State.RUNNING, lease_until__lt=overdue)
    return imports.count() + exports.count()


def webhooks_nobody_works_on() -> int:
    overdue = timezone.now() - _WEBHOOK_OVERDUE
    return WebhookEvent.objects.filter(state=WebhookEvent.State.RECEIVED, received_at__lt=overdue).count()


def messages_with_a_wrong_count_of_attempts() -> int:
    counted = SendAttempt.objects.filter(message=OuterRef("pk")).order_by().values("message").annotate(n=Count("pk"))
    rows = Message.objects.annotate(attempts_made=Coalesce(Subquery(counted.values("n")), 0))
    return rows.exclude(attempt_count=F("attempts_made")).count()


def messages_confirmed_and_not_accepted() -> int:
    return Message.objects.filter(confirmed_at__isnull=False).exclude(state=M.ACCEPTED).count()


INVARIANTS: dict[str, Invariant] = {
    "I1": Invariant(
        _("Nothing lost"),
        {
            "matched actions without a message": matched_actions_without_message,
            "messages of actions that matched nothing": messages_of_actions_that_matched_nothing,
            "processed actions without an outcome": actions_processed_without_outcome,
            "messages in no known state": messages_in_no_known_state,
        },
    ),
    "I2": Invariant(
        _("Nobody gets the same text twice"),
        {
            "pairs of campaign and action with several messages": messages_twice_for_one_action,
            "attempts after one that may have arrived, ordered by nobody": messages_sent_twice_by_nobody,
            "messages that were accepted and are called not sent": messages_sent_and_still_to_send,
            "messages sent without an attempt": messages_sent_without_attempt,
        },
    ),
    "I3": Invariant(_("Opt-out wins"), {"opt-outs followed by a text": opt_outs_followed_by_a_text}),
    "I4": Invariant(
        _("What is not known is shown"),
        {
            "open attempts of messages that are not sending": open_attempts_of_messages_not_sending,
            "messages sending without an open attempt": messages_sending_without_open_attempt,
            "unclear attempts of messages called not sent": unknown_attempts_that_ended_as_not_sent,
        },
    ),
    "I5": Invariant(
        _("Consent follows the time of events"),
        {
            "consents that differ from their ledger": consents_that_differ_from_their_ledger,
            "ledger lines out of sequence": ledger_lines_out_of_sequence,
            "subscriptions over a later opt-out": subscriptions_over_a_later_opt_out,
            "opt-outs undone without a webhook": opt_outs_undone_without_a_webhook,
        },
    ),
    "I6": Invariant(
        _("The vendor's limits hold"),
        {
            "texts and events beyond the limit of a second": texts_beyond_the_limit,
            "subscriptions beyond the limit of a second": subscriptions_beyond_the_limit,
        },
    ),
    "I7": Invariant(
        _("Every row of a file is accounted for"),
        {
            "imports whose counters do not add up": imports_that_do_not_add_up,
            "imports with rejected rows and no file of them": imports_without_their_rejects,
        },
    ),
    "I8": Invariant(
        _("Files are whole or absent"),
        {
            "complete exports without a manifest": exports_without_manifest,
            "files of exports that are not complete": exports_offered_before_they_are_whole,
        },
    ),
    "I9": Invariant(
        _("Sites never meet"),
        {
            "messages that cross sites": _crossing(
                Message.objects.all(), "member__site", "campaign__site", "action__site"
            ),
            "messages from another campaign's version": messages_of_another_campaigns_version,
            "messages to another member than acted": messages_to_another_member_than_acted,
            "actions that cross sites": _crossing(LoyaltyAction.objects.all(), "member__site", "action_type__site"),
            "campaigns that cross sites": _crossing(Campaign.objects.all(), "action_type__site", "segment__site"),
            "members that cross sites": _crossing(Member.objects.all(), "replaced_by__site", "created_by_import__site"),
            "exports that cross sites": _crossing(ExportJob.objects.all(), "segment__site"),
            "frozen segments with members of another site": segments_with_members_of_another_site,
        },
    ),
    "I10": Invariant(
        _("Secrets stay sealed"),
        {
            "stored tokens that do not open in their row": secrets_that_do_not_open,
            "ingest keys kept otherwise than as a hash": ingest_keys_kept_in_the_open,
        },
    ),
    "I11": Invariant(
        _("Work goes on by itself"),
        {
            "messages whose lease ended and nobody freed": messages_nobody_owns,
            "imports and exports whose worker is gone": jobs_nobody_owns,
            "webhooks nobody worked on": webhooks_nobody_works_on,
        },
    ),
    "I12": Invariant(
        _("Counters tell the truth"),
        {
            "messages with a wrong count of attempts": messages_with_a_wrong_count_of_attempts,
            "messages confirmed and not accepted": messages_confirmed_and_not_accepted,
        },
    ),
}


def violations() -> dict[str, dict[str, int]]:
    """Run every check; return for each invariant what is violated, and how often. Nothing found leaves it empty."""
    return {
        key: {name: count for name, check in invariant.checks.items() if (count := check())}
        for key, invariant in INVARIANTS.items()
    }


def states() -> dict[str, int]:
    """Return how many messages are in each state, states without any included."""
    counted = Message.objects.order_by().values_list("state").annotate(rows=Count("pk"))
    return {**dict.fromkeys(M.values, 0), **dict(counted)}

"""Segments: the members that rules or a frozen list choose, how many they are, and handing them to both vendors."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import rate_limit
from attentive_integration.annex_cloud import AnnexCloudClient
from attentive_integration.attentive import SEGMENT_BATCH, AttentiveClient
from attentive_integration.http import ErrorKind, VendorError
from loyalty import audit, breakers, tokens
from loyalty.capped_counts import COUNT_CAP, Sample, capped_count, ends_of, values_of
from loyalty.models import AccessToken, Member, Segment, SegmentMember, Site
from loyalty.models.scope import Someone
from loyalty.reach import reachable
from loyalty.segment_rules import KEYS, RulesError, all_of, condition, groups, validate_rules

__all__ = [
    "Counts",
    "Explanation",
    "PushResult",
    "RuleCount",
    "RulesError",
    "counts",
    "estimate",
    "explain_counts",
    "freeze",
    "matching_ids",
    "members_of",
    "push_to_annex_cloud",
    "push_to_attentive",
    "reachable",
    "sample",
    "validate_rules",
]

# Member ids in one query, below SQLite's limit of variables.
_IDS = 5_000
_EXAMPLES = 10
# Annex Cloud takes all members in one request.
MAX_EMAILS = 250_000
_PUSH_LEASE = timedelta(minutes=2)
_TRIES = 3
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Counts:
    """How many members a segment has, and how many of them may be texted; `examples` are some of them."""

    total: int
    reachable: int
    examples: tuple[Member, ...] = field(default=(), compare=False)
    is_exact: bool = True


@dataclass(frozen=True)
class RuleCount:
    """One rule of an empty segment: how many members meet it alone, and whether the others have members without it."""

    group: int
    rule: str
    value: Any
    alone: int
    others_have_members: bool


@dataclass(frozen=True)
class Explanation:
    """Why a segment is empty. `culprit` is the rule that removes everybody, where it is a single one."""

    total: int
    rules: tuple[RuleCount, ...] = ()
    culprit: RuleCount | None = None
    sentence: str = ""


def members_of(segment: Segment) -> QuerySet[Member]:
    """Return the members of a segment, saved or not; those whom a newer phone replaced are left out.

    Raises `RulesError` for rules that cannot be used.
    """
    return everybody_of(segment).filter(replaced_by=None)


def everybody_of(segment: Segment) -> QuerySet[Member]:
    """Return the members of a segment together with those who would be, had no newer phone replaced them."""
    people = Member.objects.people().filter(site_id=segment.site_id)
    if segment.is_frozen:
        return people.filter(Exists(SegmentMember.objects.filter(segment=segment.pk, member=OuterRef("pk"))))
    return people.filter(condition(segment.rules, segment.site))


def _current_members(segment: Segment) -> QuerySet[Member]:
    return Member.objects.people().filter(site_id=segment.site_id, replaced_by=None)


def matching_ids(segment: Segment, member_ids: Collection[int]) -> set[int]:
    """Return those of the member ids that belong to the segment."""
    wanted, found = list(member_ids), set[int]()
    for start in range(0, len(wanted), _IDS):
        members = members_of(segment).filter(pk__in=wanted[start : start + _IDS])
        found.update(members.values_list("pk", flat=True))
    return found


def counts(segment: Segment) -> Counts:
    """Count a segment exactly: all of its members, and the reachable ones. Takes seconds at a million members."""
    members = members_of(segment)
    total = members.count()
    return Counts(total, reachable(members, segment.site).count(), tuple(sample(segment)) if total else ())


def estimate(segment: Segment) -> Counts:
    """Count a frozen segment, or one of a site, with up to COUNT_CAP members; else estimate it from a sample."""
    people = _current_members(segment)
    if capped_count(members_of(segment) if segment.is_frozen else people) <= COUNT_CAP:
        return counts(segment)
    drawn = Sample.between(**values_of(ends_of(people, Site.objects.filter(pk=segment.site_id))))
    members = members_of(segment).filter(pk__in=drawn.pks)
    hits = set(members.values_list("pk", flat=True))
    textable = reachable(people.filter(pk__in=hits), segment.site).count()
    examples = Member.objects.filter(pk__in=sorted(hits)[-_EXAMPLES:]).order_by("-pk")
    return Counts(drawn.estimate(len(hits)), drawn.estimate(textable), tuple(examples), is_exact=False)


def sample(segment: Segment, n: int = _EXAMPLES) -> list[Member]:
    """Return up to n members, the newest first."""
    return list(members_of(segment).order_by("-pk")[:n])


def explain_counts(segment: Segment) -> Explanation:
    """Tell why a segment is empty: which single rule removes everybody. A segment with members needs no explanation."""
    total = members_of(segment).count()
    if total or segment.is_frozen:
        return Explanation(total)
    members = _current_members(segment)
    if not members.exists():
        return Explanation(0, sentence=_("The site has no members yet. Import them first."))
    joined = groups(segment.rules)
    rules = tuple(_count_rule(segment, number, group, name) for number, group in enumerate(joined) for name in group)
    culprits = [rule for rule in rules if rule.alone == 0] or [rule for rule in rules if rule.others_have_members]
    culprit = culprits[0] if len(culprits) == 1 else None
    return Explanation(0, rules, culprit, _explain(culprit, culprits))


def _count_rule(segment: Segment, number: int, group: dict[str, Any], name: str) -> RuleCount:
    members = _current_members(segment)
    others = {key: value for key, value in group.items() if key != name}
    alone: Q = all_of({name: group[name]}, segment.site)
    return RuleCount(
        number,
        name,
        group[name],
        members.filter(alone).count(),
        members.filter(all_of(others, segment.site)).exists(),
    )


def _explain(culprit: RuleCount | None, culprits: list[RuleCount]) -> str:
    if culprit is not None and culprit.alone == 0:
        return _("No member meets “%(rule)s: %(value)s”. Change or remove this rule.") % {
            "rule": KEYS[culprit.rule].label,
            "value": _shown(culprit.value),
        }
    if culprit is not None:
        return _("Without “%(rule)s: %(value)s” there would be members; with it there is none. Widen this rule.") % {
            "rule": KEYS[culprit.rule].label,
            "value": _shown(culprit.value),
        }
    if culprits:
        names = ", ".join(dict.fromkeys(str(KEYS[rule.rule].label) for rule in culprits))
        return _("Each of these rules leaves nobody: %(rules)s. Widen one after the other.") % {"rules": names}
    return _("Each rule has members, but nobody meets all of them together. Remove some rules.")


def _shown(value: Any) -> str:
    return ", ".join(str(entry) for entry in value) if isinstance(value, list) else str(value)


@transaction.atomic
def freeze(segment: Segment, by: Someone = None) -> int:
    """Keep the members that the segment has now as a list, whatever they do later; return how many.

    The rules stay on the segment, as the record of how the list came about. A frozen segment stays as it is.
    """
    locked = Segment.objects.select_for_update().get(pk=segment.pk)
    if not locked.is_frozen:
        chosen = members_of(segment).order_by().annotate(segment_key=Value(segment.pk)).values_list("segment_key", "pk")
        sql, parameters = chosen.query.sql_with_params()
        table = connection.ops.quote_name(SegmentMember._meta.db_table)
        SegmentMember.objects.filter(segment=segment).delete()
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} (segment_id, member_id) {sql}", parameters)
        Segment.objects.filter(pk=segment.pk).update(is_frozen=True)
        segment.is_frozen = True
        audit.record("segment.frozen", site=segment.site, user=by, target=segment.name)
    return SegmentMember.objects.filter(segment=segment).count()


# --- Pushing to the vendors -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PushResult:
    """What came of handing a segment to a vendor: `sent` members, and those who have no e-mail to be known by."""

    ok: bool
    sentence: str
    sent: int = 0
    without_email: int = 0


def push_to_annex_cloud(segment: Segment, by: Someone = None) -> PushResult:
    """Make or update the segment at Annex Cloud (segmentSubscibe), which knows members by their e-mail address.

    The segment's own dates, else a year from the day it was made. A segment that may exist there already is looked up
    before one is made, so that pushing again never makes it twice. The result is kept on the segment.
    """
    return _push(segment, by, "Annex Cloud", _to_annex_cloud, result="push_result", at="pushed_at")


def push_to_attentive(segment: Segment, by: Someone = None) -> PushResult:
    """Hand the reachable members to Attentive's segment of the same external ID, which is made when it is missing.

    Members who left the segment since an earlier push stay in it at Attentive: what was sent is not remembered. The
    file upload replaces the whole list. The result is kept on the segment.
    """
    return _push(segment, by, "Attentive", _to_attentive, result="attentive_push_result", at="attentive_pushed_at")


def _push(
    segment: Segment, by: Someone, vendor: str, send: Callable[[Segment], PushResult], *, result: str, at: str
) -> PushResult:
    """Claim the segment, push it, and write down what came of it."""
    if not _claim(segment):
        return PushResult(False, _("This segment is being pushed right now. Wait a moment and look again."))
    try:
        pushed = send(segment)
    except (tokens.TokenUnusable, RulesError) as error:
        pushed = PushResult(False, str(error))
    except VendorError as error:
        sentence = error.sentence
        if error.kind == ErrorKind.UNKNOWN:
            again = _("Push again: the segment is looked up first, so it is not made twice.")
            sentence = f"{sentence} {again}"
        pushed = PushResult(False, sentence)
    finally:
        Segment.objects.filter(pk=segment.pk).update(push_lease_until=None)
    fields = {result: pushed.sentence[:300]} | ({at: timezone.now()} if pushed.ok else {})
    Segment.objects.filter(pk=segment.pk).update(**fields)
    segment.refresh_from_db()
    audit.record(
        "segment.pushed" if pushed.ok else "segment.push_failed",
        site=segment.site, user=by, target=f"{segment.name} → {vendor}", new=pushed.sentence,
    )  # fmt: skip
    return pushed


def _claim(segment: Segment) -> bool:
    now = timezone.now()
    free = Q(push_lease_until=None) | Q(push_lease_until__lt=now)
    return Segment.objects.filter(free, pk=segment.pk).update(push_lease_until=now + _PUSH_LEASE) == 1


def _external_id(segment: Segment) -> str:
    """Return the id under which both vendors know the segment; made once and kept."""
    if not segment.external_id:
        segment.external_id = f"{segment.site.site_id}-{segment.pk}"
        Segment.objects.filter(pk=segment.pk).update(external_id=segment.external_id)
    return segment.external_id


def _to_annex_cloud(segment: Segment) -> PushResult:
    client = tokens.annex_cloud_client(segment.site)
    members = members_of(segment)
    with_email = members.exclude(email="")
    without_email = members.count() - with_email.count()
    addresses = with_email.order_by("email").values_list("email", flat=True).distinct()[: MAX_EMAILS + 1]
    # A comma separates addresses at Annex Cloud, so one that has it cannot be written.
    emails = [email for email in addresses if "," not in email]
    if not emails:
        return PushResult(
            False,
            _("No member of this segment has an e-mail address, by which Annex Cloud knows members. Nothing was sent."),
            without_email=without_email,
        )
    if len(emails) > MAX_EMAILS:
        return PushResult(
            False,
            _("The segment has more than %(limit)d members, too many for Annex Cloud's one request. Narrow its rules.")
            % {"limit": MAX_EMAILS},
            without_email=without_email,
        )
    started = segment.from_date or segment.created_at.astimezone(ZoneInfo(segment.site.time_zone)).date()
    details: dict[str, Any] = {
        "name": segment.name,
        "type": segment.data_type,
        "from_date": started,
        "to_date": segment.to_date or started + timedelta(days=365),
        "members": emails,
        "status": segment.status,
        "external_id": _external_id(segment),
        "external_name": segment.external_name or segment.name,
    }
    segment.annex_segment_id = _written_to_annex_cloud(segment, client, details)
    Segment.objects.filter(pk=segment.pk).update(annex_segment_id=segment.annex_segment_id)
    return PushResult(
        True,
        _("Annex Cloud has the segment with %(sent)d members; %(without)d have no e-mail address and are not in it.")
        % {"sent": len(emails), "without": without_email},
        sent=len(emails),
        without_email=without_email,
    )


def _written_to_annex_cloud(segment: Segment, client: AnnexCloudClient, details: dict[str, Any]) -> str:
    """Update the segment, or make it where there is none; return its id there."""
    known = segment.annex_segment_id or _found_at_annex_cloud(segment, client)
    if known:
        try:
            _pace_annex_cloud(segment)
            return client.update_segment(known, **details).segment_id or known
        except VendorError as error:
            # It was deleted there; its name is free again.
            if not segment.annex_segment_id or not _is_no_data(error):
                raise
    _pace_annex_cloud(segment)
    made = client.segment_subscribe(**details).segment_id
    # An answer that could not be read does not say the id; the list does.
    return made or _found_at_annex_cloud(segment, client)


def _found_at_annex_cloud(segment: Segment, client: AnnexCloudClient) -> str:
    """Return the id of the segment with our external ID, else of our name; empty when there is none."""
    _pace_annex_cloud(segment)
    try:
        rows = client.list_segments()
    except VendorError as error:
        if _is_no_data(error):
            return ""
        raise
    for keys, wanted in ((("externalId",), _external_id(segment)), (("segmentName", "name"), segment.name)):
        for row in rows:
            if any(row.get(key) == wanted for key in keys):
                return str(row.get("segmentId") or row.get("id") or "")
    return ""


def _is_no_data(error: VendorError) -> bool:
    return "AC1005" in (error.cause, error.data.get("errorCode") if isinstance(error.data, dict) else None)


def _pace_annex_cloud(segment: Segment) -> None:
    secret = tokens.token_secret(segment.site, AccessToken.Kind.LOYALTY) or ""
    rate_limit.acquire(*tokens.pace(secret, "ANNEX_CLOUD"))


def _to_attentive(segment: Segment) -> PushResult:
    site, app = segment.site, AccessToken.Kind.ATTENTIVE_APP
    if breakers.is_open(site.pk, app) and not breakers.may_probe(site, app, timezone.now()):
        return PushResult(
            False, _("Attentive refuses this site's app key at the moment. See the site's Activate page.")
        )
    client = tokens.attentive_client(site)
    external_id = _external_id(segment)
    sent = 0
    try:
        found = _at_attentive(segment, partial(client.find_segment, external_id))
        if found is None:
            _make_at_attentive(segment, client)
        for phones in _batches(segment):
            _at_attentive(segment, partial(client.add_segment_members, external_id, phones))
            sent += len(phones)
            Segment.objects.filter(pk=segment.pk).update(push_lease_until=timezone.now() + _PUSH_LEASE)
    except VendorError as error:
        breakers.record_failure(site, app, error)
        if not sent:
            raise
        broken = _("%(sent)d members were handed over, then it broke off. Push again; nobody is added twice.")
        return PushResult(False, f"{error.sentence} {broken % {'sent': sent}}", sent=sent)
    breakers.record_success(site, app)
    return PushResult(
        True,
        _("%(sent)d members were handed to Attentive, which adds them within minutes. Those who left stay in it there.")
        % {"sent": sent},
        sent=sent,
    )


def _make_at_attentive(segment: Segment, client: AttentiveClient) -> None:
    name = (segment.external_name or segment.name)[:240]
    description = _("Loyalty members of %(site)s") % {"site": segment.site.client_name}
    _pace_attentive(segment)
    client.create_segment(name, description, _external_id(segment))


def _batches(segment: Segment) -> Iterator[list[str]]:
    """Return the reachable phones, as many at a time as one request takes; no cursor stays open between the calls."""
    members = reachable(members_of(segment), segment.site).order_by("pk").values_list("pk", "phone")
    last = 0
    while rows := list(members.filter(pk__gt=last)[:SEGMENT_BATCH]):
        last = rows[-1][0]
        yield [phone for _pk, phone in rows]


def _at_attentive(segment: Segment, call: Callable[[], Any]) -> Any:
    """Make a call that may be repeated, at the token's pace, and again some times when Attentive asks to wait."""
    for tries_left in range(_TRIES - 1, -1, -1):
        try:
            _pace_attentive(segment)
            return call()
        except VendorError as error:
            if error.kind != ErrorKind.RETRY or not tries_left:
                raise
            time.sleep(min(error.retry_after if error.retry_after is not None else 2.0, _LONGEST_PAUSE))
    return None


def _pace_attentive(segment: Segment) -> None:
    secret = tokens.token_secret(segment.site, AccessToken.Kind.ATTENTIVE_APP) or ""
    rate_limit.acquire(*tokens.pace(secret))

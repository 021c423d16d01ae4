"""Fills an empty PostgreSQL database by SQL with what three months of two clients leave behind.

Nearly all is of the first client. Told by the number of members M and of messages N: N actions, 0.77 N attempts, 0.9 M
consents with their ledger, N / 10 webhook events, M / 5 changes by imports, and as many entries of the audit trail.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, models

from loyalty.models import (
    ActionType,
    AuditEntry,
    Consent,
    ConsentEvent,
    ExportJob,
    ImportJob,
    LoyaltyAction,
    Member,
    MemberChange,
    Segment,
    SignUpSource,
    Site,
)
from messaging.models import Campaign, CampaignVersion, Message, SendAttempt, WebhookEvent

# Every so manieth member, with all that is theirs, is of the second client.
_OF_THE_SECOND = 67
_JOBS = 300
_CAMPAIGNS = 8
_DAYS = 90
# The tables that grow without end; pages must not read them from end to end.
LARGE = (Member, Consent, ConsentEvent, LoyaltyAction, Message, SendAttempt, WebhookEvent, MemberChange, AuditEntry)


def seed(members: int, messages: int) -> tuple[Site, Site]:
    """Fill the database; returns the large site and the small one."""
    sites = _site("1000001", "Harbor Goods"), _site("1000002", "Pine Books")
    with connection.cursor() as cursor:
        # Foreign keys are right by construction, and checking each costs more than all the rest.
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("SET maintenance_work_mem = '512MB'")
        with _without_indexes():
            _seed_people(members, *sites)
            _seed_texts(members, messages)
            _seed_side_tables(members, messages)
        cursor.execute("RESET session_replication_role")
        cursor.execute("RESET maintenance_work_mem")
        cursor.execute("VACUUM ANALYZE")
    return sites


def _site(site_id: str, name: str) -> Site:
    site = Site.objects.create(
        site_id=site_id, client_name=name, state=Site.State.LIVE, activated_at="2020-01-01T00:00Z", quiet_hours=None,
        caps=[],
    )  # fmt: skip
    kinds = [
        ActionType(site=site, code=str(109 + number), name=f"Action {number}", pk=site.pk * 100 + number)
        for number in range(_CAMPAIGNS)
    ]
    ActionType.objects.bulk_create(kinds)
    for kind in kinds:
        campaign = Campaign.objects.create(
            pk=kind.pk, site=site, name=f"Thanks {kind.code}", action_type=kind, state=Campaign.State.LIVE,
            went_live_at="2020-01-01T00:00Z",
        )  # fmt: skip
        campaign.version = CampaignVersion.objects.create(
            pk=kind.pk, campaign=campaign, number=1, body="Thanks {{ first_name|there }}, you have {{ points }} points."
        )
        campaign.save()
    SignUpSource.objects.create(site=site, sign_up_source_id="253001", is_default=True)
    rules: list[tuple[str, dict[str, Any]]] = [
        ("Everybody", {}),
        ("Gold", {"tier": ["Gold"]}),
        ("Rich", {"points_min": 4_990}),
        ("Reachable Gold", {"tier": ["Gold"], "points_min": 1_000, "reachable": True}),
        ("Lately active", {"last_action_from": "2026-01-01", "joined_to": "2026-01-01"}),
        ("Nobody", {"tier": ["Diamond"]}),
    ]
    Segment.objects.bulk_create(Segment(site=site, name=name, rules=rule) for name, rule in rules)
    return site


def _seed_people(members: int, large: Site, small: Site) -> None:
    site = f"CASE WHEN i % {_OF_THE_SECOND} = 0 THEN {small.pk} ELSE {large.pk} END"
    _insert(
        ImportJob, _JOBS, site_id=site, state="'COMPLETE'", phase="'IMPORT'", file_name="'members-' || i || '.csv'",
        created="10", read="12", rejected="2", ended_at="now() - i * interval '1 day'",
        created_at="now() - i * interval '1 day'",
    )  # fmt: skip
    _insert(
        ExportJob, _JOBS, site_id=site, state="'COMPLETE'", rows="1000", created_at="now() - i * interval '1 day'",
        ended_at="now() - i * interval '1 day'",
    )  # fmt: skip
    _insert(
        Member, members, site_id=site, phone=_PHONE, email="'member' || i || '@example.com'", external_id="'M' || i",
        first_name="initcap(translate(substr(md5((i * 31)::text), 1, 3), '0123456789', 'ghijklmnop'))",
        last_name="initcap(translate(substr(md5(i::text), 1, 6), '0123456789', 'ghijklmnop'))",
        tier="(ARRAY['Gold','Silver','Bronze'])[1 + i % 3]", points="(i * 7919) % 5000", opt_in_status="'YES'",
        joined_at="now() - (i % 700) * interval '1 day'", created_by_import_id=f"1 + i % {_JOBS}",
    )  # fmt: skip
    state = (
        "CASE WHEN i * 7919 % 100 < 60 THEN 'SUBSCRIBED' WHEN i * 7919 % 100 < 70 THEN 'TO_ASK'"
        " WHEN i * 7919 % 100 < 72 THEN 'REQUESTED' WHEN i * 7919 % 100 < 80 THEN 'UNSUBSCRIBED' ELSE 'UNKNOWN' END"
    )
    _insert(
        Consent, members, where="i % 10 <> 0", site_id=site, address=_PHONE, state=state,
        event_at="now() - (i % 700) * interval '1 day'",
    )  # fmt: skip
    _insert(
        ConsentEvent, members, where="i % 10 <> 0", consent_id="i", from_state="'UNKNOWN'", to_state=state,
        source="'SUBSCRIBER_LIST'", event_at="now() - (i % 700) * interval '1 day'",
        recorded_at="now() - (i % 700) * interval '1 day'",
    )  # fmt: skip


def _seed_texts(members: int, messages: int) -> None:
    # One member in use by a test, say, has a hundredth of a percent of all actions.
    member = f"CASE WHEN i % 10000 = 0 THEN 1 ELSE 1 + i * 7919 % {members} END"
    at = f"now() - ({messages} - i) * interval '{_DAYS} days' / {messages}"
    of_member = "loyalty_member m ON m.id = member_id"
    kind = f"m.site_id * 100 + i % {_CAMPAIGNS}"
    numbered = f"(SELECT i, {member} AS member_id FROM generate_series(1, {messages}::bigint) i) g JOIN {of_member}"
    _insert(
        LoyaltyAction, numbered, site_id="m.site_id", member_id="m.id", action_type_id=kind,
        activity_id="'A' || lpad(i::text, 9, '0')", points="i % 5000", digest="md5(i::text)", occurred_at=at,
        recorded_at=at, processed_at=at, outcome="'MATCHED'",
    )  # fmt: skip
    state = (
        f"CASE WHEN i > {messages} - 2000 THEN 'QUEUED' WHEN i > {messages} - 4000 THEN 'HELD'"
        " WHEN i % 5000 = 0 THEN 'UNKNOWN' WHEN i % 100 < 73 THEN 'ACCEPTED' WHEN i % 100 < 76 THEN 'REFUSED'"
        " WHEN i % 100 < 95 THEN 'SKIPPED' WHEN i % 100 < 99 THEN 'EXPIRED' ELSE 'CANCELLED' END"
    )
    reason = (
        f"CASE WHEN i > {messages} - 2000 THEN 'QUIET_HOURS' WHEN i > {messages} - 4000 THEN 'SITE_PAUSED'"
        " WHEN i % 5000 = 0 THEN 'NO_ANSWER' WHEN i % 100 < 73 THEN '' WHEN i % 100 < 76 THEN 'REFUSED'"
        " WHEN i % 100 < 85 THEN 'NOT_SUBSCRIBED' WHEN i % 100 < 90 THEN 'OPTED_OUT'"
        " WHEN i % 100 < 95 THEN 'FREQUENCY_CAP' WHEN i % 100 < 99 THEN 'EXPIRED' ELSE '' END"
    )
    was_sent = f"i <= {messages} - 4000 AND (i % 100 < 76 OR i % 5000 = 0)"
    _insert(
        Message, numbered, site_id="m.site_id", member_id="m.id", campaign_id=kind, version_id=kind, action_id="i",
        to="m.phone", body="'Thanks ' || m.first_name || ', you have ' || i % 5000 || ' points.'", state=state,
        reason=reason, due_at=f"CASE WHEN i > {messages} - 2000 THEN now() + interval '5 hours' ELSE {at} END",
        expires_at=f"{at} + interval '72 hours'", created_at=at, updated_at=at,
        attempt_count=f"CASE WHEN {was_sent} THEN 1 ELSE 0 END", sent_at=f"CASE WHEN {was_sent} THEN {at} END",
    )  # fmt: skip
    _insert(
        SendAttempt, messages, where=was_sent, message_id="i", number="1", fence="1", started_at=at, ended_at=at,
        outcome="CASE WHEN i % 5000 = 0 THEN 'UNKNOWN' WHEN i % 100 < 73 THEN 'ACCEPTED' ELSE 'REFUSED' END",
        http_status="CASE WHEN i % 5000 = 0 THEN NULL WHEN i % 100 < 73 THEN 200 ELSE 400 END", duration_ms="80",
    )  # fmt: skip


def _seed_side_tables(members: int, messages: int) -> None:
    first, second = Site.objects.order_by("site_id").values_list("pk", flat=True)
    site = f"CASE WHEN i % {_OF_THE_SECOND} = 0 THEN {second} ELSE {first} END"
    events = messages // 10
    at = f"now() - ({events} - i) * interval '{_DAYS} days' / {events}"
    _insert(
        WebhookEvent, events, site_id=site, digest="md5(i::text)", type="'sms.sent'", event_at=at, received_at=at,
        body="""'{"type": "sms.sent", "subscriber": {"phone": "' || i || '"}}'""", state="'DONE'",
    )  # fmt: skip
    _insert(
        MemberChange, members // 5, job_id=f"1 + i % {_JOBS}", member_id=f"1 + i * 7919 % {members}",
        changes="""'{"tier": ["Silver", "Gold"]}'""",
    )  # fmt: skip
    entries = members // 5
    _insert(
        AuditEntry, entries, site_id=site, actor="'person' || i % 20",
        event="(ARRAY['member.unsubscribed','import.started','segment.changed','token.set','site.changed'])[1 + i % 5]",
        target="'target ' || i", at=f"now() - ({entries} - i) * interval '{_DAYS} days' / {entries}",
    )  # fmt: skip


_PHONE = (
    "'+1' || (ARRAY['770','404','212','312','415','206','617','305'])[1 + i % 8] || lpad((2000000 + i)::text, 7, '0')"
)


def _insert(model: type[models.Model], source: int | str, /, *, where: str = "TRUE", **columns: str) -> None:
    """Insert a row for each `i` of the source or up to it; columns that are not given get the model's defaults."""
    if isinstance(source, int):
        source = f"generate_series(1, {source}::bigint) i"
    columns = {"id": "i", **columns}
    for field in model._meta.concrete_fields:
        if field.column not in columns and not field.null:
            columns[field.column] = _default(field)
    table, names = model._meta.db_table, ", ".join(f'"{name}"' for name in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {', '.join(columns.values())} FROM {source} WHERE {where}"
        )
        cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")


def _default(field: Any) -> str:
    if isinstance(field, models.DateTimeField):
        return "now()"
    if isinstance(field, models.UUIDField):
        return "gen_random_uuid()"
    if isinstance(field, models.JSONField):
        return "'[]'" if field.get_default() == [] else "'{}'"
    value = field.get_default()
    return str(value) if isinstance(value, int) else f"'{value or ''}'"


@contextmanager
def _without_indexes() -> Iterator[None]:
    """Take the plain indexes of the large tables away, and make them anew at the end: a row at a time they are slow."""
    tables = [model._meta.db_table for model in LARGE]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND NOT EXISTS"
            " (SELECT FROM pg_constraint WHERE conindid = format('%%I', indexname)::regclass)",
            [tables],
        )
        indexes = cursor.fetchall()
        for name, _definition in indexes:
            cursor.execute(f'DROP INDEX "{name}"')
        yield
        for _name, definition in indexes:
            cursor.execute(definition)

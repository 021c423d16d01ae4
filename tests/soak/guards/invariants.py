"""The checks of `verify_invariants`, each of which is a guard too: one that counts nothing must be missed."""

import re
from pathlib import Path

from tests.soak.guards.mutation import Mutation

_FILE = "messaging/invariants.py"
_TESTS = "tests/messaging/test_invariants.py::"
_LEDGER = "tests/messaging/test_acceptance_ledger.py::"
_BREACH = _TESTS + "test_each_breach_is_counted_where_it_belongs"
_SOUND = _TESTS + "test_sound_rows_violate_nothing"
_ORDERED = _TESTS + "test_what_people_order_is_no_breach"
_RETURN = _TESTS + "test_a_text_between_a_return_and_the_next_opt_out_is_no_breach"
_PACE = _TESTS + "test_a_pace_that_is_kept_is_no_breach"
_TIME = _TESTS + "test_work_is_given_some_time_to_be_freed"
# Only the unique key could be broken by it, and that is a guard of its own.
_WITHOUT_BREACH = "messages_twice_for_one_action"

_source = (Path(__file__).resolve().parents[3] / _FILE).read_text()
_checks = [name for name in re.findall(r"^def (\w+)\(\) -> int:\n", _source, re.M) if name != _WITHOUT_BREACH]


def _part(what: str, old: str, new: str, test: str) -> Mutation:
    return Mutation(f"a check's part: {what}", _FILE, old, new, test)


MUTATIONS = (
    *(
        Mutation(
            f"the check of {name.replace('_', ' ')}", _FILE,
            f"def {name}() -> int:\n", f"def {name}() -> int:\n    return 0\n", _BREACH,
        )
        for name in _checks
    ),
    _part("actions that were processed", 'Q(processed_at__isnull=False, outcome="") | ', "", _BREACH),
    _part("actions that were not", ' | (Q(processed_at=None) & ~Q(outcome=""))', "", _BREACH),
    _part("of attempts, those before", 'number__lt=OuterRef("number")', 'number__gt=OuterRef("number")', _BREACH),
    _part(
        "calls from before a limit", "if since := rate_limit.in_force_since(endpoint, limit):", "if since := None:",
        _TESTS + "test_a_limit_that_was_lowered_judges_only_what_came_after",
    ),
    _part("further attempts may be ordered", "filter(resent_by=None, number__gt=1)", "filter(number__gt=1)", _ORDERED),
    _part("what may be unclear has an attempt", "(A.OPEN, A.ACCEPTED, A.UNKNOWN)", "(A.OPEN, A.ACCEPTED)", _SOUND),
    _part(
        "blocks are opt-outs", "_OUT = (C.UNSUBSCRIBED, C.BLOCKED, C.ERASED)",
        "_OUT = (C.UNSUBSCRIBED, C.ERASED)", _BREACH,
    ),
    _part("texts before a return", "Q(Exists(before_the_return)) | ", "", _BREACH),
    _part("texts where nobody returned", " | Q(Q(back_at=None), Exists(attempts))", "", _BREACH),
    _part("texts of the same site", '        message__site=OuterRef("consent__site"),\n', "", _RETURN),
    _part("texts after a return", 'attempts.filter(started_at__lt=OuterRef("back_at"))', "attempts", _RETURN),
    _part("every state that says not sent", "[M.REFUSED, M.SKIPPED, M.EXPIRED, M.CANCELLED]", "[M.EXPIRED]", _BREACH),
    _part(
        "what was ordered may end so", "filter(_attempts(outcome=A.UNKNOWN), resent_by=None)",
        "filter(_attempts(outcome=A.UNKNOWN))", _ORDERED,
    ),
    _part("rows without a ledger", "Coalesce(Subquery(last), Value(C.UNKNOWN.value))", "Subquery(last)", _BREACH),
    _part("what a fact claimed", 'Coalesce(NullIf("heard", Value("")), "to_state")', 'F("to_state")', _BREACH),
    _part("what a fact made of the row", 'Coalesce(NullIf("heard", Value("")), "to_state")', 'F("heard")', _BREACH),
    _part(
        "a tie goes to the opt-out", 'event_at__gte=OuterRef("event_at")',
        'event_at__gt=OuterRef("event_at")', _BREACH,
    ),
    _part("facts without times", "        | Q(Q(event_at=None), Exists(said_out))\n", "", _BREACH),
    _part("erasures are undone by webhooks alone", "[C.UNSUBSCRIBED, C.ERASED]", "[C.UNSUBSCRIBED]", _BREACH),
    _part("the limit itself", "Lag(moment, limit)", "Lag(moment, 2 * limit)", _BREACH),
    _part("each site has a pace of its own", "partition_by=[F(site), *map(F, kind)], ", "", _PACE),
    _part("a replaced token has a pace of its own", ".exclude(Exists(replaced))", "", _PACE),
    _part(
        "one site of a message's member", '"member__site", "campaign__site", "action__site"',
        '"campaign__site", "action__site"', _BREACH,
    ),
    _part(
        "one site of a message's campaign", '"member__site", "campaign__site", "action__site"',
        '"member__site", "action__site"', _BREACH,
    ),
    _part(
        "one site of a message's action", '"member__site", "campaign__site", "action__site"',
        '"member__site", "campaign__site"', _BREACH,
    ),
    _part("one site of an action's member", '"member__site", "action_type__site"', '"action_type__site"', _BREACH),
    _part("one site of an action's kind", '"member__site", "action_type__site"', '"member__site"', _BREACH),
    _part("one site of a campaign's segment", '"action_type__site", "segment__site"', '"action_type__site"', _BREACH),
    _part("one site of a campaign's kind", '"action_type__site", "segment__site"', '"segment__site"', _BREACH),
    _part(
        "one site of a member's successor", '"replaced_by__site", "created_by_import__site"',
        '"created_by_import__site"', _BREACH,
    ),
    _part(
        "one site of a member's import", '"replaced_by__site", "created_by_import__site"',
        '"replaced_by__site"', _BREACH,
    ),
    _part(
        "one site of an export's segment", 'ExportJob.objects.all(), "segment__site"',
        'ExportJob.objects.none(), "segment__site"', _BREACH,
    ),
    _part("no ingest key is sealed", 'exclude(sealed_secret="", secret_hash', "exclude(secret_hash", _BREACH),
    _part("an ingest key is a hash", r'secret_hash__regex=r"^[0-9a-f]{64}$"', 'secret_hash__regex=r"."', _BREACH),
    _part(
        "claims that nobody owns", "state__in=[M.CLAIMED, M.SENDING], lease",
        "state__in=[M.SENDING], lease", _BREACH,
    ),
    _part("imports that nobody owns", "return imports.count() + exports.count()", "return exports.count()", _BREACH),
    _part("exports that nobody owns", "return imports.count() + exports.count()", "return imports.count()", _BREACH),
    _part("work is given some time", "_OVERDUE = timedelta(minutes=10)", "_OVERDUE = timedelta(0)", _TIME),
    _part(
        "webhooks are given some time", "_WEBHOOK_OVERDUE = timedelta(hours=1)",
        "_WEBHOOK_OVERDUE = timedelta(0)", _TIME,
    ),
    # --- The comparison with a ledger ---------------------------------------------------------------------------------
    Mutation(
        "texts accepted more often than attempts allow", "messaging/acceptance_ledger.py",
        "SELECT sum(g.times - t.attempts) FROM ", "SELECT 0 * sum(g.times - t.attempts) FROM ",
        _LEDGER + "test_a_text_accepted_twice_for_one_attempt",
    ),
    Mutation(
        "accepted messages without a line", "messaging/acceptance_ledger.py",
        "SELECT sum(t.accepted - coalesce(g.times, 0)) FROM (",
        "SELECT 0 * sum(t.accepted - coalesce(g.times, 0)) FROM (", _LEDGER + "test_an_accepted_message_without_a_line",
    ),
    Mutation(
        "accepted texts of which no message says so", "messaging/acceptance_ledger.py",
        "WHERE m.{to} = g.phone AND m.{body} = g.body AND (", "WHERE TRUE OR (",
        _LEDGER + "test_an_accepted_text_that_no_message_owns_up_to",
    ),
)  # fmt: skip

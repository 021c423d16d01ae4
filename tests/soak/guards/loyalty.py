"""Guards of consent, of asking once, of files, and of what keeps tenants and strangers out."""

from tests.soak.guards.mutation import Mutation

_CONSENT = "tests/loyalty/test_consent.py::"
_SUBSCRIBE = "tests/loyalty/test_subscriptions.py::"
_UNSUBSCRIBE = "tests/loyalty/test_unsubscribing.py::"
_API = "tests/loyalty/test_api.py::"
_IMPORTS = "tests/loyalty/imports/test_imports.py::"
_UNDO = "tests/loyalty/imports/test_undo.py::"
_STORED = "tests/loyalty/imports/test_stored_files.py::"
_FILES = "tests/loyalty/exports/test_files.py::"
_SEGMENT_FILES = "tests/loyalty/exports/test_segment_files.py::"
_EXPORTS = "tests/loyalty/exports/test_exports.py::"
_PERMISSIONS = "tests/loyalty/test_permissions.py::"
_LOOK = "tests/messaging/test_last_look.py::"
_MEMBER_PAGES = "tests/loyalty/admin/test_members.py::"
_ORDERS = _CONSENT + "test_all_720_orders_of_six_facts_end_the_same"

MUTATIONS = (
    # --- Consent ------------------------------------------------------------------------------------------------------
    Mutation(
        "a tie goes to the opt-out", "loyalty/consent.py",
        "return newer or event_at == consent.event_at", "return newer", _ORDERS,
    ),
    Mutation(
        "an older fact never overwrites a newer one", "loyalty/consent.py",
        "(consent.event_at is None or event_at > consent.event_at)", "True", _ORDERS,
    ),
    Mutation(
        "a fact without a time never beats one that has it", "loyalty/consent.py",
        "newer = event_at is not None and (", "newer = event_at is None or (", _ORDERS,
    ),
    Mutation(
        "only a webhook brings back who opted out", "loyalty/consent.py",
        "return newer and source == Source.WEBHOOK\n        return True", "return newer\n        return True",
        _CONSENT + "test_only_a_webhook_brings_back_who_opted_out",
    ),
    Mutation(
        "a block holds", "loyalty/consent.py",
        "    if consent.state == State.BLOCKED:\n        return False\n", "",
        _CONSENT + "test_a_block_holds_against_everything_until_it_is_lifted",
    ),
    Mutation(
        "only the person comes back from an erasure", "loyalty/consent.py",
        "return state == State.SUBSCRIBED and source == Source.WEBHOOK and newer",
        "return state == State.SUBSCRIBED and newer", _CONSENT + "test_only_the_person_comes_back_from_an_erasure",
    ),
    Mutation(
        "asking never undoes a decision", "loyalty/consent.py",
        "return consent.state in (State.UNKNOWN, State.TO_ASK)", "return True",
        _CONSENT + "test_only_a_webhook_brings_back_who_opted_out",
    ),
    Mutation(
        "a time far ahead is no time", "loyalty/consent.py",
        "return now if state == State.UNSUBSCRIBED else None", "return event_at",
        _CONSENT + "test_a_time_far_ahead_is_no_time",
    ),
    Mutation(
        "staff's opt-out is dated after all that was heard", "loyalty/consent.py",
        "event_at = max(now, consent.event_at or now)", "event_at = now",
        _CONSENT + "test_a_local_opt_out_wins_over_a_clock_that_runs_ahead",
    ),
    Mutation(
        "a STOP that was heard during a block holds after it", "loyalty/consent.py",
        "            _apply_what_was_heard(consent)\n", "            pass\n",
        _CONSENT + "test_lifting_a_block_leaves_what_was_heard",
    ),
    Mutation(
        "an erasure does not undo a block", "loyalty/consent.py",
        "elif before == State.ERASED and state == State.SUBSCRIBED and _is_blocked_by_ledger(consent):", "elif False:",
        _CONSENT + "test_an_erasure_does_not_undo_a_block",
    ),
    Mutation(
        "an erased address is kept as a hash alone", "loyalty/consent.py",
        'consent.address, consent.detail = suppression_hash(site, address), ""', 'consent.detail = ""',
        _CONSENT + "test_an_erased_address_is_known_by_its_hash_alone",
    ),
    Mutation(
        "the lock that an opt-out takes", "loyalty/consent.py",
        "rows = Consent.objects.select_for_update().filter(site=site, channel=channel, address__in=names)",
        "rows = Consent.objects.filter(site=site, channel=channel, address__in=names)",
        _CONSENT + "test_two_facts_at_the_same_moment_are_heard_one_after_the_other", postgresql=True,
    ),
    Mutation(
        "the lock that the last look takes", "loyalty/consent.py",
        "return dict(rows.select_for_update().order_by(", "return dict(rows.order_by(",
        _LOOK + "test_an_opt_out_waits_for_a_look_under_way_and_a_look_for_an_opt_out", postgresql=True,
    ),
    Mutation(
        "a list raises nobody who is hidden", "loyalty/consent.py",
        "for phone, at in facts if phone not in hidden}", "for phone, at in facts}",
        _CONSENT + "test_a_list_raises_only_those_of_whom_nothing_stronger_is_known",
    ),
    Mutation(
        "only who is unknown is put into the subscribe queue", "loyalty/consent.py",
        "unknown = [phone for phone, state in states.items() if state == State.UNKNOWN]", "unknown = list(states)",
        _CONSENT + "test_marking_to_ask_takes_the_unknown_alone",
    ),
    Mutation(
        "one row of consent for each address", "loyalty/models/members.py",
        'fields=["site", "channel", "address"]', 'fields=["id", "channel", "address"]',
        _CONSENT + "test_an_address_has_one_row_at_a_site",
    ),
    # --- Asking once --------------------------------------------------------------------------------------------------
    Mutation(
        "nobody is asked who may be texted already", "loyalty/subscriptions.py",
        'return eligibilities.is_eligible("MARKETING", "TEXT")', "return False",
        _SUBSCRIBE + "test_whoever_may_be_texted_already_is_not_asked",
    ),
    Mutation(
        "the claim before somebody is asked", "loyalty/subscriptions.py",
        "            if _mark_requested(row, slot):\n", "            if True:\n",
        _SUBSCRIBE + "test_with_double_opt_in_a_person_is_asked_once_and_waited_for",
    ),
    Mutation(
        "whoever lost the claim does not ask", "loyalty/subscriptions.py",
        "            if _mark_requested(row, slot):\n", "            if _mark_requested(row, slot) or True:\n",
        _SUBSCRIBE + "test_an_opt_out_between_eligibility_and_asking_is_obeyed",
    ),
    Mutation(
        "the fence of a step in the subscribe queue", "loyalty/consent.py",
        "filter(pk=row.pk, fence=row.fence, state__in=expected)", "filter(pk=row.pk, state__in=expected)",
        _CONSENT + "test_a_step_needs_the_claim_and_the_state_that_it_starts_from",
    ),
    Mutation(
        "the state that a step in the subscribe queue starts from", "loyalty/consent.py",
        "filter(pk=row.pk, fence=row.fence, state__in=expected)", "filter(pk=row.pk, fence=row.fence)",
        _CONSENT + "test_a_step_needs_the_claim_and_the_state_that_it_starts_from",
    ),
    Mutation(
        "an unclear answer is not asked again", "loyalty/subscriptions.py",
        "if error.kind == ErrorKind.UNKNOWN:\n        # Attentive", "if False:\n        # Attentive",
        _SUBSCRIBE + "test_an_unclear_answer_is_cleared_up_by_eligibility_and_not_by_asking_again",
    ),
    Mutation(
        "test mode asks guests only", "loyalty/subscriptions.py",
        "return rows.filter(address__in=site.guest_phones) if site.state == Site.State.TEST else rows", "return rows",
        _SUBSCRIBE + "test_test_mode_asks_guests_only",
    ),
    Mutation(
        "a stop ends asking that is under way", "loyalty/subscriptions.py",
        " and not stops.is_stopped(self.site.pk)", "", _SUBSCRIBE + "test_a_pause_or_a_stop_takes_effect_at_once",
    ),
    Mutation(
        "a pause of the site ends asking that is under way", "loyalty/subscriptions.py",
        "may_be_asked = self.site.state in (Site.State.TEST, Site.State.LIVE) and not", "may_be_asked = not",
        _SUBSCRIBE + "test_a_pause_or_a_stop_takes_effect_at_once",
    ),
    Mutation(
        "a pause of the queue ends asking that is under way", "loyalty/subscriptions.py",
        "may_be_asked and self.site.asking_paused_at is None", "may_be_asked",
        _SUBSCRIBE + "test_a_pause_or_a_stop_takes_effect_at_once",
    ),
    Mutation(
        "a pause counts for those who were looked up already", "loyalty/subscriptions.py",
        "if not found or self._may_go_on() else 0", "if True else 0",
        _SUBSCRIBE + "test_nobody_is_asked_who_was_looked_up_before_a_pause",
    ),
    Mutation(
        "a pause of the queue lets no asking begin", "loyalty/subscriptions.py",
        "    if site.asking_paused_at is not None:\n", "    if False:\n",
        _SUBSCRIBE + "test_the_queue_of_one_site_is_paused_alone",
    ),
    Mutation(
        "nobody is asked whose slot has passed", "loyalty/subscriptions.py",
        "        if reservation.is_late(slot):\n", "        if False:\n",
        _SUBSCRIBE + "test_a_person_whose_slot_has_passed_is_asked_at_another",
    ),
    Mutation(
        "a stop lets no asking begin", "loyalty/subscriptions.py",
        "    if stops.is_stopped(site.pk):\n", "    if False:\n",
        _SUBSCRIBE + "test_a_site_that_is_not_ready_says_what_is_missing",
    ),
    Mutation(
        "asking pauses when the vendor says so", "loyalty/subscriptions.py",
        "    if error.status == 429:\n", "    if False:\n",
        _SUBSCRIBE + "test_a_vendor_that_wants_a_pause_gets_it_from_every_process",
    ),
    Mutation(
        "Attentive is told once that somebody left", "loyalty/unsubscribing.py",
        "if is_erased or _attentive_knows(row):", "if is_erased:",
        _UNSUBSCRIBE + "test_staff_take_a_person_out_here_and_at_attentive_once",
    ),
    Mutation(
        "the claim before Attentive is told", "loyalty/unsubscribing.py",
        "        _report(site, row, address)\n    crash_point", "        pass\n    crash_point",
        _UNSUBSCRIBE + "test_two_clicks_at_the_same_moment_tell_attentive_once",
    ),
    Mutation(
        "nothing is told of an erased person", "loyalty/unsubscribing.py",
        "if is_erased or _attentive_knows(row):", "if _attentive_knows(row):",
        _UNSUBSCRIBE + "test_erased_and_blocked_people",
    ),
    # --- Actions and the inbound API ----------------------------------------------------------------------------------
    Mutation(
        "the token of the inbound API is compared", "loyalty/api.py",
        "return bundle.site_id == site_id and any(proven)",
        "return bundle.site_id == site_id", _API + "test_only_the_sites_own_credentials_open_it",
    ),
    Mutation(
        "the site in an access token is compared", "loyalty/api.py",
        "bundle.site_id == site_id and any(proven)", "any(proven)",
        _API + "test_only_the_sites_own_credentials_open_it",
    ),
    Mutation(
        "an ingest key is compared", "loyalty/tokens.py",
        "return sum(hmac.compare_digest(digest, row.secret_hash) for row in known if row.kind == Kind.INGEST) > 0",
        "return any(row.kind == Kind.INGEST for row in known)",
        _API + "test_only_the_sites_own_credentials_open_it",
    ),
    Mutation(
        "a token is its site's alone", "loyalty/tokens.py",
        "filter(site__site_id=site_id, kind__in=kinds", "filter(kind__in=kinds",
        _API + "test_only_the_sites_own_credentials_open_it",
    ),
    Mutation(
        "a revoked ingest key opens nothing", "loyalty/tokens.py",
        "kind__in=kinds, revoked_at=None)", "kind__in=kinds)", _API + "test_only_the_sites_own_credentials_open_it",
    ),
    Mutation(
        "a revoked signing key proves nothing", "loyalty/tokens.py",
        "kind__in=kinds, revoked_at=None)", "kind__in=kinds)",
        "tests/messaging/test_webhooks.py::test_a_revoked_key_proves_nothing",
    ),
    Mutation(
        "the same activity again is a duplicate", "loyalty/actions.py",
        "    fresh = _without_known(site, [replace(item) for item in items], results)\n",
        "    fresh = [replace(item) for item in items]\n",
        _API + "test_an_action_makes_its_member_and_its_type_and_is_recorded_once",
    ),
    Mutation(
        "a repeated transaction is alone with its site", "loyalty/retrying.py",
        "    if alone:", "    if False:",
        "tests/loyalty/test_retrying.py::test_an_import_ends_while_others_keep_adding_its_people", postgresql=True,
    ),
    Mutation(
        "one action for each activity of a site", "loyalty/models/actions.py",
        'fields=["site", "activity_id"]', 'fields=["id", "activity_id"]',
        _API + "test_two_requests_at_the_same_moment_record_one_action", postgresql=True,
    ),
    Mutation(
        "another action with the same activity is a conflict", "loyalty/actions.py",
        "if first.digest != item.digest:", "if False:", _API + "test_an_array_is_answered_item_by_item_and_in_order",
    ),
    Mutation(
        "another request's action with the same activity is a conflict", "loyalty/actions.py",
        "same=known[item.activity_id] == item.digest", "same=True",
        _API + "test_two_requests_at_the_same_moment_record_one_action", postgresql=True,
    ),
    Mutation(
        "of two requests with one activity the second looks again", "loyalty/retrying.py",
        "suppress(IntegrityError, OperationalError)", "suppress(OperationalError)",
        _API + "test_two_requests_at_the_same_moment_record_one_action", postgresql=True,
    ),
    Mutation(
        "an erased person's actions are not recorded", "loyalty/actions.py",
        "if item.phone in erased:", "if False:",
        _API + "test_an_erased_person_is_not_recorded_again",
    ),
    Mutation(
        "history is never matched", "loyalty/actions.py",
        "if history else {}", "if False else {}", _API + "test_history_is_never_matched",
    ),
    Mutation(
        "imported actions are history unless somebody says so", "loyalty/imports/work.py",
        'history=not self.job.options.get("trigger")', "history=False",
        _IMPORTS + "test_actions_are_history_unless_they_shall_trigger",
    ),
    # --- Imports ------------------------------------------------------------------------------------------------------
    Mutation(
        "an import asks nobody unless somebody says so", "loyalty/imports/work.py",
        'if self.job.options.get("subscribe") and merged.created:', "if merged.created:",
        _IMPORTS + "test_new_members_are_marked_to_ask_only_when_wanted",
    ),
    Mutation(
        "erased people are not imported again", "loyalty/imports/work.py",
        "    if not erased:\n", "    if True:\n",
        _IMPORTS + "test_erased_people_are_not_imported_again_and_blocked_ones_stay_blocked",
    ),
    Mutation(
        "every row read is counted", "loyalty/imports/run.py",
        "mine.read += len(piece.rows)", "mine.read += len(prepared.cleaned.rows)",
        _IMPORTS + "test_rejected_rows_come_back_with_line_and_reason_and_import_once_mended",
    ),
    Mutation(
        "every rejected and repeated row is counted", "loyalty/imports/work.py",
        "        counts.update(duplicate=kinds[Kind.DUPLICATE], rejected=kinds[Kind.REJECTED])\n", "",
        _IMPORTS + "test_repeats_in_a_file_are_counted_and_the_later_row_wins",
    ),
    Mutation(
        "a rejected row comes back with its cells", "loyalty/imports/run.py",
        "cells=list(issue.cells),", "cells=[],",
        _IMPORTS + "test_rejected_rows_come_back_with_line_and_reason_and_import_once_mended",
    ),
    Mutation(
        "the fence of an import", "loyalty/imports/run.py",
        "select_for_update().filter(pk=job.pk, fence=job.fence, state=State.RUNNING)",
        "select_for_update().filter(pk=job.pk, state=State.RUNNING)",
        "tests/loyalty/imports/test_steps.py::test_whoever_lost_an_import_writes_nothing",
    ),
    Mutation(
        "an import goes on after the last slice", "loyalty/imports/run.py",
        "if prepared.piece.offset <= done:", "if False:",
        "tests/loyalty/imports/test_steps.py::test_an_import_whose_worker_died_goes_on_after_its_last_slice",
    ),
    Mutation(
        "imports of one site do not overlap", "loyalty/imports/run.py",
        "(phase != Phase.CHECK and job_ahead(job) is not None)", "False",
        "tests/loyalty/imports/test_steps.py::test_two_imports_of_one_site_do_not_overlap",
    ),
    Mutation(
        "an import finds members of its own site alone", "loyalty/member_upsert.py",
        'condition = f"{alias}.site_id + 0 = {self.site_id} AND {condition}"', "condition = condition",
        _IMPORTS + "test_members_are_created_and_come_again_unchanged",
    ),
    Mutation(
        "an undo keeps members in use", "loyalty/imports/undo.py",
        "free = [member.pk for member in members if member.pk not in used]", "free = [member.pk for member in members]",
        _UNDO + "test_members_in_use_are_kept",
    ),
    Mutation(
        "an undo keeps what changed since", "loyalty/imports/undo.py",
        "stands = _stored(name, getattr(member, column)) == _stored(name, _value(name, new))", "stands = True",
        _UNDO + "test_what_changed_since_stays_as_it_is",
    ),
    Mutation(
        "an undo keeps what a later import has set, even to the same value", "loyalty/imports/undo.py",
        "if stands and since.get((member.pk, name), 0) < change.pk:", "if stands:",
        _UNDO + "test_a_later_import_that_set_the_same_value_is_not_reverted",
    ),
    Mutation(
        "an undo gives an erased person nothing back", "loyalty/imports/undo.py",
        "if not change.changes or member.is_erased:", "if not change.changes:",
        _UNDO + "test_old_values_that_an_erasure_left_are_not_given_back",
    ),
    Mutation(
        "an undo keeps an erased person's empty row", "loyalty/imports/undo.py",
        "used = {member.pk for member in members if member.is_erased}", "used: set[int] = set()",
        _UNDO + "test_old_values_that_an_erasure_left_are_not_given_back",
    ),
    Mutation(
        "consent older than an import keeps nobody", "loyalty/imports/undo.py",
        "ConsentEvent.objects.filter(recorded_at__gte=job.started_at or job.created_at)", "ConsentEvent.objects.all()",
        _UNDO + "test_consent_that_is_older_than_the_import_keeps_nobody",
    ),
    Mutation(
        "a loyalty ID has one current member after an undo", "loyalty/imports/undo.py",
        "if current is not None and current.external_id == member.external_id:", "if False:",
        _UNDO + "test_a_loyalty_id_that_moved_on_since_stays_there",
    ),
    Mutation(
        "a member who leaves passes its loyalty ID on", "loyalty/imports/undo.py",
        "    _pass_on({member.pk: member.replaced_by_id for member in members if member.pk not in used})\n", "",
        _UNDO + "test_a_loyalty_id_stays_with_a_new_phone_that_is_in_use",
    ),
    Mutation(
        "an import keeps the loyalty IDs that it moved", "loyalty/member_upsert.py",
        "if self.job_id is not None and (revives or cursor.rowcount):", "if False:",
        _UNDO + "test_an_undo_gives_a_loyalty_id_back_to_the_phone_that_had_it",
    ),
    Mutation(
        "a member who is brought back counts as updated", "loyalty/member_upsert.py",
        '_UPDATED = "changed OR returns"', '_UPDATED = "changed"',
        _UNDO + "test_a_row_that_brings_a_replaced_member_back_counts_as_updated",
    ),
    Mutation(
        "an erasure forgets the old values that imports keep", "messaging/erasure.py",
        "        MemberChange.objects.filter(member=person).update(changes={})\n", "",
        "tests/messaging/test_erasure.py::test_nothing_of_a_person_is_left_in_any_table",
    ),
    Mutation(
        "an erasure forgets the rows that imports keep", "messaging/erasure.py",
        "    rows.update(cells=[])\n", "",
        "tests/messaging/test_erasure.py::test_nothing_of_a_person_is_left_in_any_table",
    ),
    Mutation(
        "an erasure leaves the rows of other sites' imports", "messaging/erasure.py",
        'ImportIssue.objects.filter(job__site=site, cells__iregex="|".join(traces))',
        'ImportIssue.objects.filter(cells__iregex="|".join(traces))',
        "tests/messaging/test_erasure.py::test_the_same_person_at_another_site_stays",
    ),
    # --- Files --------------------------------------------------------------------------------------------------------
    Mutation(
        "a cell that would run as a formula is defused", "loyalty/spreadsheets.py",
        "    if cell.lstrip(_BEFORE_FORMULA)[:1] in _FORMULA and not", "    if False and not",
        "tests/loyalty/test_spreadsheets.py",
    ),
    Mutation(
        "a cell of a list for people is defused strictly", "loyalty/spreadsheets.py",
        "    if cell[:1] in WATCHED and (", "    if False and (", "tests/loyalty/test_spreadsheets.py",
    ),
    Mutation(
        "rejected cells are defused", "loyalty/imports/rejects.py",
        "kept = [defuse(cell) for", "kept = [cell for",
        _IMPORTS + "test_rejected_rows_come_back_with_line_and_reason_and_import_once_mended",
    ),
    Mutation(
        "a wrong choice of encoding is refused", "loyalty/imports/sniffing.py",
        'if any("\\0" in line for line in sample):', "if False:",
        "tests/loyalty/imports/test_files.py::test_a_wrong_choice_is_refused_and_changes_nothing",
    ),
    Mutation(
        "a last row that is a person is taken", "loyalty/imports/ending.py",
        " and not any(map(_may_be_phone, addresses))", "",
        "tests/loyalty/imports/test_files.py::test_a_last_row_with_a_phone_is_a_person",
    ),
    Mutation(
        "a client's own columns come back", "loyalty/imports/rejects.py",
        "return list(columns[-2:]) if is_ours else []", "return list(columns[-2:])",
        "tests/loyalty/imports/test_files.py::test_columns_that_have_our_names_are_ours_only_with_what_we_write",
    ),
    Mutation(
        "a full disk keeps nothing of an upload", "loyalty/imports/files.py",
        "        delete_stored(name)\n        raise\n", "        raise\n",
        _STORED + "test_a_full_disk_refuses_an_upload_and_keeps_nothing_of_it",
    ),
    Mutation(
        "the rejects of a check go", "loyalty/imports/steps.py",
        "        delete_stored(rejects_file)\n", "        pass\n",
        _STORED + "test_the_rejects_of_a_check_go_when_the_import_begins",
    ),
    Mutation(
        "import files go after their time", "loyalty/imports/files.py",
        "if _is_older(name, before) and not", "if False and not",
        _STORED + "test_the_rejects_of_a_dry_run_are_kept_for_a_week",
    ),
    Mutation(
        "the files of an import under way stay", "loyalty/imports/files.py",
        "working = Q(state=State.RUNNING) | Q(state=State.PENDING) & ~Q(phase=Phase.MAPPING)", "working = Q(pk=None)",
        _STORED + "test_files_go_a_week_after_the_end_and_the_import_stays",
    ),
    Mutation(
        "figures of a check are not shown as written", "loyalty/imports/steps.py",
        "    if from_the_start and phase != Phase.UNDO:\n", "    if False:\n",
        "tests/loyalty/admin/test_imports.py::test_an_import_cancelled_before_it_began_shows_nothing_as_written",
    ),
    Mutation(
        "what a killed export left goes", "loyalty/exports/files.py",
        "                shutil.rmtree(left, ignore_errors=True)\n", "                pass\n",
        _FILES + "test_what_a_killed_export_left_goes_and_a_living_one_stays",
    ),
    Mutation(
        "an export under way is not cleaned up", "loyalty/exports/files.py",
        "fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB)", "fcntl.LOCK_UN",
        _FILES + "test_what_a_killed_export_left_goes_and_a_living_one_stays",
    ),
    Mutation(
        "replaced members are left out of a segment's files", "loyalty/exports/segment_files.py",
        "WHEN member.replaced_by_id IS NOT NULL THEN", "WHEN FALSE THEN",
        _SEGMENT_FILES + "test_who_was_replaced_is_accounted_for",
    ),
    Mutation(
        "column names of rejects are defused", "loyalty/imports/rejects.py",
        "[*map(defuse, columns), *added", "[*columns, *added",
        _IMPORTS + "test_rejected_rows_come_back_with_line_and_reason_and_import_once_mended",
    ),
    Mutation(
        "exported cells are defused", "loyalty/exports/files.py",
        'return "" if value is None else defuse_strictly(str(value))', 'return "" if value is None else str(value)',
        _FILES + "test_rows_come_back_as_they_were",
    ),
    Mutation(
        "cells of a downloaded selection are defused", "loyalty/admin/members.py",
        "[defuse_strictly(str(cell)) for cell in row]", "[str(cell) for cell in row]",
        _MEMBER_PAGES + "test_a_small_selection_is_downloaded_as_a_safe_spreadsheet",
    ),
    Mutation(
        "nothing but phones reaches Attentive's files", "loyalty/exports/segment_files.py",
        "valid = [phone for phone in phones if _E164_LINE.fullmatch(phone)]", "valid = phones",
        _SEGMENT_FILES + "test_a_stored_phone_that_is_none_never_reaches_attentive",
    ),
    Mutation(
        "only who may be texted is in Attentive's files", "loyalty/exports/segment_files.py",
        "CASE WHEN state = '{_REACHABLE}' THEN", "CASE WHEN state <> 'BLOCKED' THEN",
        _SEGMENT_FILES + "test_the_attentive_form_has_a_header_and_reachable_phones_byte_for_byte",
    ),
    Mutation(
        "only allowed countries are in Attentive's files", "loyalty/exports/segment_files.py",
        "WHEN NOT member.allowed THEN '{_COUNTRY}' ELSE COALESCE",
        "WHEN FALSE THEN '{_COUNTRY}' ELSE COALESCE",
        _SEGMENT_FILES + "test_the_attentive_form_has_a_header_and_reachable_phones_byte_for_byte",
    ),
    Mutation(
        "a file's consent is its own site's", "loyalty/exports/segment_files.py",
        "ON consent.site_id = %s AND consent.channel", "ON %s IS NOT NULL AND consent.channel", _SEGMENT_FILES[:-2],
    ),
    Mutation(
        "what went wrong leaves nothing behind", "loyalty/exports/files.py",
        "shutil.rmtree(hidden, ignore_errors=True)", "pass", _FILES + "test_whatever_goes_wrong_leaves_nothing",
    ),
    Mutation(
        "no manifest lists files that are being replaced", "loyalty/exports/files.py",
        "        (self.folder / MANIFEST).unlink(missing_ok=True)\n", "",
        _FILES + "test_while_files_are_replaced_no_manifest_lists_them",
    ),
    Mutation(
        "parts of a longer earlier export leave", "loyalty/exports/files.py",
        "            path.unlink()\n", "            pass\n",
        _SEGMENT_FILES + "test_a_shorter_export_takes_the_place_of_a_longer_one",
    ),
    Mutation(
        "a full storage keeps no partial file", "loyalty/exports/__init__.py",
        "        _discard(storage, wanted)\n", "", _EXPORTS + "test_a_full_storage_keeps_no_partial_file",
    ),
    Mutation(
        "the fence of an export", "loyalty/exports/__init__.py",
        "return ExportJob.objects.filter(pk=job.pk, fence=job.fence, state=State.RUNNING)",
        "return ExportJob.objects.filter(pk=job.pk, state=State.RUNNING)",
        _EXPORTS + "test_a_worker_that_lost_its_lease_leaves_the_job_to_the_one_that_has_it",
    ),
    # --- Tenants ------------------------------------------------------------------------------------------------------
    Mutation(
        "the one rule that keeps tenants apart", "loyalty/models/scope.py",
        'return self.filter(**{f"{prefix}pk__in" if prefix else "pk__in": sites})', "return self",
        "tests/test_foundation.py::test_a_user_sees_the_rows_of_their_sites_only",
    ),
    Mutation(
        "a right on one site is none on another", "loyalty/permissions.py",
        "return role is not None and _has(user, role, right)",
        "return any(_has(user, role, right) for role in roles.values())",
        _PERMISSIONS + "test_each_role_has_its_rights_on_its_own_site_alone",
    ),
    Mutation(
        "only one's own site can be chosen", "loyalty/permissions.py",
        "site = Site.objects.visible_to(request.user).filter(site_id=name)", "site = Site.objects.filter(site_id=name)",
        _PERMISSIONS + "test_the_chosen_site_is_one_of_ours_or_a_404",
    ),
    Mutation(
        "the rows of every page", "loyalty/admin/base.py",
        "rows = super().get_queryset(request).visible_to(request.user)", "rows = super().get_queryset(request)",
        _MEMBER_PAGES + "test_the_list_shows_only_members_of_ones_own_sites",
    ),
    Mutation(
        "the rows of a choice", "loyalty/admin/base.py",
        "            rows = rows.visible_to(request.user)\n", "",
        "tests/loyalty/admin/test_base.py::test_choices_are_rows_of_the_users_sites_alone",
    ),
    Mutation(
        "the right to see a row", "loyalty/admin/base.py",
        "        if not self.has_view_permission(request, row):\n", "        if False:\n",
        "tests/loyalty/admin/test_base.py::test_a_row_of_others_does_not_exist_and_one_without_the_right_is_refused",
    ),
    Mutation(
        "the right to take a file", "loyalty/admin/exports.py",
        "        if not self.allows(request, Right.EXPORT, job):\n", "        if False:\n",
        "tests/loyalty/admin/test_exports.py::test_the_file_is_refused_to_everybody_else",
    ),
    Mutation(
        "the sites of a new export", "loyalty/admin/exports.py",
        "for one in Site.objects.visible_to(request.user)[:200] if can(request.user, one, Right.EXPORT)]",
        "for one in Site.objects.all()[:200]]",
        "tests/loyalty/admin/test_exports.py::test_a_new_export_offers_only_sites_that_one_may_export",
    ),
    Mutation(
        "the imports that members can be narrowed to", "loyalty/admin/members.py",
        "jobs = ImportJob.objects.visible_to(request.user).filter", "jobs = ImportJob.objects.filter",
        _MEMBER_PAGES + "test_the_import_filter_names_no_file_of_another_tenant",
    ),
    Mutation(
        "the rows of the subscribe queues", "loyalty/admin/consents.py",
        "scope = Site.objects.filter(pk__in=site_pks(request))", "scope = Site.objects.all()",
        "tests/loyalty/admin/test_consents.py::test_the_queues_of_all_of_ones_sites",
    ),
    Mutation(
        "the sites on which somebody has a right", "loyalty/permissions.py",
        "for pk, role in roles_of(user).items() if _has(user, role, Right(what))]", "for pk in roles_of(user)]",
        _PERMISSIONS + "test_roles_on_two_sites_do_not_add_up",
    ),
    # --- Activation ---------------------------------------------------------------------------------------------------
    Mutation(
        "a site goes live only when green", "loyalty/activation.py",
        "    if missing := blockers(site):\n", "    if missing := []:\n",
        "tests/loyalty/test_activation.py::test_a_site_goes_live_only_when_green",
    ),
)  # fmt: skip

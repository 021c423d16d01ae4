"""Guards of matching, of the last look, of calls and their outcomes, of texts, and of the checks of the invariants."""

from tests.soak.guards.mutation import Mutation

_TRIGGERS = "tests/messaging/test_triggers.py::"
_QUEUE = "tests/messaging/test_queue.py::"
_LOOK = "tests/messaging/test_last_look.py::"
_DISPATCH = "tests/messaging/test_dispatch.py::"
_DECISIONS = "tests/messaging/test_decisions.py::"
_WEBHOOKS = "tests/messaging/test_webhooks.py::"
_TEXT = "tests/messaging/test_text.py::"
_GUESTS = "tests/messaging/test_guest_texts.py::"
_ERASURE = "tests/messaging/test_erasure.py::"
_PAGES = "tests/messaging/admin/test_pages.py::"

MUTATIONS = (
    # --- One message for each action and campaign ---------------------------------------------------------------------
    Mutation(
        "slots are for those who may be texted", "messaging/dispatch.py",
        "        if lane.sifts:\n", "        if False:\n",
        _DISPATCH + "test_slots_are_not_spent_on_people_who_may_not_be_texted",
    ),
    Mutation(
        "a fault of our own leaves a call's outcome open", "messaging/dispatch.py",
        "except Exception as fault:", "except KeyError as fault:",
        _DISPATCH + "test_a_call_that_breaks_off_in_our_own_code_leaves_its_outcome_open",
    ),
    Mutation(
        "one message for each campaign and action", "messaging/models.py",
        'fields=["campaign", "action"]', 'fields=["id", "action"]',
        _TRIGGERS + "test_an_action_that_is_matched_again_makes_no_second_message",
    ),
    Mutation(
        "what was matched is not matched again", "messaging/triggers.py",
        ".filter(processed_at=None)", ".all()", _TRIGGERS + "test_what_went_by_unmatched_is_never_texted_later",
    ),
    Mutation(
        "the lock on actions that are being matched", "messaging/triggers.py",
        'LoyaltyAction.objects.select_for_update(skip_locked=True, of=("self",)).filter',
        "LoyaltyAction.objects.filter", _TRIGGERS + "test_two_processes_never_match_the_same_action", postgresql=True,
    ),
    Mutation(
        "actions from before the campaign or the site went live", "messaging/triggers.py",
        "if action.occurred_at < max(site.activated_at, campaign.went_live_at):", "if False:",
        _TRIGGERS + "test_why_an_action_becomes_a_message_or_not",
    ),
    Mutation(
        "actions that are too old", "messaging/triggers.py",
        "if action.occurred_at + lifetime(campaign) <= now:", "if False:",
        _TRIGGERS + "test_why_an_action_becomes_a_message_or_not",
    ),
    Mutation(
        "actions of a draft", "messaging/triggers.py",
        "if action.site.state != Site.State.DRAFT:", "if True:",
        _TRIGGERS + "test_why_an_action_becomes_a_message_or_not",
    ),
    Mutation(
        "campaigns that are not live", "messaging/triggers.py",
        "        state__in=[Campaign.State.LIVE, Campaign.State.PAUSED],\n", "",
        _TRIGGERS + "test_why_an_action_becomes_a_message_or_not",
    ),
    Mutation(
        "campaigns of other sites", "messaging/triggers.py",
        "return self.by_type.get((action.site_id, action.action_type_id), [])",
        "return [one for key in self.by_type if key[1] == action.action_type_id for one in self.by_type[key]]",
        _TRIGGERS + "test_a_campaign_never_speaks_of_an_action_at_another_site",
    ),
    Mutation(
        "the segment of a campaign", "messaging/triggers.py",
        "if miss is None and not candidates.includes(campaign, action):", "if False:",
        _TRIGGERS + "test_a_segment_chooses_whom_a_campaign_speaks_to",
    ),
    Mutation(
        "test mode when a message is made", "messaging/triggers.py",
        "    if site.state == Site.State.TEST and member.phone not in site.guest_phones:\n", "    if False:\n",
        _TRIGGERS + "test_test_mode_skips_everybody_but_guests",
    ),
    Mutation(
        "a shadow campaign sends nothing", "messaging/triggers.py",
        "if campaign.is_shadow and not reason:", "if False:",
        _TRIGGERS + "test_a_shadow_campaign_shows_the_text_and_sends_nothing",
    ),
    # --- Leases and fences --------------------------------------------------------------------------------------------
    Mutation(
        "a claim takes what is queued alone", "messaging/queue.py",
        "return Message.objects.filter(state=State.QUEUED, due_at__lte=Now())",
        "return Message.objects.filter(state__in=[State.QUEUED, State.CLAIMED, State.UNKNOWN], due_at__lte=Now())",
        _DISPATCH + "test_what_is_unknown_is_never_tried_again",
    ),
    Mutation(
        "the lock of a claim", "messaging/queue.py",
        'free = rows.select_for_update(skip_locked=True, of=("self",)).order_by("due_at")',
        'free = rows.order_by("due_at")', _QUEUE + "test_two_workers_never_claim_the_same_text", postgresql=True,
    ),
    Mutation(
        "a claim moves the fence", "messaging/queue.py",
        'lease_until=Now() + CLAIM_LEASE, fence=F("fence") + 1\n        )\n        crash_point("before_claim',
        'lease_until=Now() + CLAIM_LEASE\n        )\n        crash_point("before_claim',
        _QUEUE + "test_whoever_lost_the_lease_does_not_begin",
    ),
    Mutation(
        "the fence of what is given back", "messaging/queue.py",
        "mine = Message.objects.filter(pk=message.pk, fence=message.fence, state=State.CLAIMED)",
        "mine = Message.objects.filter(pk=message.pk, state=State.CLAIMED)",
        _QUEUE + "test_whoever_lost_the_lease_gives_nothing_back",
    ),
    Mutation(
        "only a claim is given back", "messaging/queue.py",
        "mine = Message.objects.filter(pk=message.pk, fence=message.fence, state=State.CLAIMED)",
        "mine = Message.objects.filter(pk=message.pk, fence=message.fence)",
        _QUEUE + "test_what_was_decided_after_a_lost_lease_stands",
    ),
    Mutation(
        "a lease that ended before the attempt: due again", "messaging/queue.py",
        "changed = lost.filter(state=State.CLAIMED).update(", "changed = lost.filter(state=State.HELD).update(",
        _QUEUE + "test_a_claim_that_died_is_due_again_and_a_call_that_died_is_unknown",
    ),
    Mutation(
        "a lease that ended after the attempt: UNKNOWN", "messaging/queue.py",
        "state=State.UNKNOWN, reason=Code.LEASE_LOST", "state=State.QUEUED, reason=Code.LEASE_LOST",
        _QUEUE + "test_a_claim_that_died_is_due_again_and_a_call_that_died_is_unknown",
    ),
    Mutation(
        "a lease that has not ended is left alone", "messaging/queue.py",
        "lost = Message.objects.filter(lease_until__lt=Now())", "lost = Message.objects.exclude(lease_until=None)",
        _QUEUE + "test_a_claim_that_died_is_due_again_and_a_call_that_died_is_unknown",
    ),
    Mutation(
        "the fence of the last look", "messaging/last_look.py",
        "if fences.get(message.pk) == message.fence]", "if message.pk in fences]",
        _QUEUE + "test_whoever_lost_the_lease_does_not_begin",
    ),
    Mutation(
        "the last look begins what is claimed alone", "messaging/last_look.py",
        "pk__in=[message.pk for message in claimed], state=State.CLAIMED\n",
        "pk__in=[message.pk for message in claimed]\n", _QUEUE + "test_what_was_decided_after_a_lost_lease_stands",
    ),
    Mutation(
        "the fence of an outcome", "messaging/outcomes.py",
        "mine = [call for call in calls if fences.get(call.message.pk) == call.message.fence]", "mine = list(calls)",
        _QUEUE + "test_a_call_that_was_lost_does_not_speak_for_the_next_one",
    ),
    Mutation(
        "an outcome is written over SENDING alone", "messaging/outcomes.py",
        "filter(pk__in=verdicts, state=State.SENDING)", "filter(pk__in=verdicts)",
        _QUEUE + "test_a_claim_that_died_is_due_again_and_a_call_that_died_is_unknown",
    ),
    Mutation(
        "attempts are committed before the call", "messaging/dispatch.py",
        "        messages = last_look.begin(lane.site.pk, claimed[:taken])\n", "        messages = claimed[:taken]\n",
        _DISPATCH + "test_only_subscribers_are_texted",
    ),
    Mutation(
        "one attempt of each number", "messaging/models.py",
        'fields=["message", "number"]', 'fields=["id", "number"]', _LOOK + "test_an_attempt_is_written_down_once",
    ),
    Mutation(
        "a text whose slot has passed is not sent", "messaging/dispatch.py",
        "    if reservation.is_late(slot):\n", "    if False:\n",
        _DISPATCH + "test_a_text_whose_slot_has_passed_waits_for_another",
    ),
    Mutation(
        "UNKNOWN is never retried by itself", "messaging/outcomes.py",
        "return Verdict(State.UNKNOWN, Code.NO_ANSWER, Outcome.UNKNOWN)",
        "return Verdict(State.QUEUED, Code.NO_ANSWER, Outcome.UNKNOWN)",
        _DISPATCH + "test_what_is_unknown_is_never_tried_again",
    ),
    Mutation(
        "what is not known counts towards caps", "messaging/outcomes.py",
        "may_have_reached = state in (State.ACCEPTED, State.UNKNOWN)", "may_have_reached = state == State.ACCEPTED",
        _DISPATCH + "test_what_came_back_decides_what_becomes_of_the_message",
    ),
    Mutation(
        "sending pauses when the vendor says so", "messaging/dispatch.py",
        "            if call.error.status == 429:\n", "            if False:\n",
        _DISPATCH + "test_a_vendor_that_wants_a_pause_gets_it_from_every_process",
    ),
    Mutation(
        "what waits while its token is refused", "messaging/queue.py",
        "        _hold(_of_token(State.QUEUED, breaker.site_id, breaker.token_kind), reason)\n", "        pass\n",
        _DISPATCH + "test_a_refused_token_holds_its_site_and_no_other",
    ),
    Mutation(
        "a refused token is not tried on and on", "loyalty/breakers.py",
        "if error.kind != ErrorKind.CREDENTIALS:", "if True:",
        _DISPATCH + "test_a_refused_token_holds_its_site_and_no_other",
    ),
    # --- The last look ------------------------------------------------------------------------------------------------
    Mutation(
        "consent is read again", "messaging/last_look.py",
        "if consent_state != Consent.State.SUBSCRIBED:", "if False:",
        _LOOK + "test_a_stop_between_claim_and_call_is_obeyed",
    ),
    Mutation(
        "test mode at the last look", "messaging/last_look.py",
        "if site.state == Site.State.TEST and message.to not in site.guest_phones:", "if False:",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "expiry at the last look", "messaging/last_look.py",
        "    if message.expires_at <= now:\n", "    if False:\n",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "expiry of what waits", "messaging/queue.py",
        "        changed += over.update(state=State.EXPIRED, updated_at=Now())\n", "",
        _DISPATCH + "test_what_is_held_too_long_expires",
    ),
    Mutation(
        "a paused site at the last look", "messaging/last_look.py",
        "    if site.state == Site.State.PAUSED:\n", "    if False:\n",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "a draft at the last look", "messaging/last_look.py",
        "    if site.state == Site.State.DRAFT:\n", "    if False:\n",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "a paused campaign at the last look", "messaging/last_look.py",
        "    if campaign.state == Campaign.State.PAUSED:\n", "    if False:\n",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "a campaign that is not live at the last look", "messaging/last_look.py",
        "    if campaign.state != Campaign.State.LIVE:\n", "    if False:\n",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "a member with a newer phone at the last look", "messaging/last_look.py",
        "if message.member.replaced_by_id is not None:", "if False:",
        _DISPATCH + "test_a_member_with_a_new_phone_is_not_texted_on_the_old_one",
    ),
    Mutation(
        "the allowed countries at the last look", "messaging/last_look.py",
        "if phones.country_of(message.to) not in site.allowed_countries:", "if False:",
        _LOOK + "test_what_changed_since_the_claim_is_seen",
    ),
    Mutation(
        "stops at the last look", "messaging/last_look.py",
        "        if refusal is None and stopped:\n", "        if False:\n",
        _DISPATCH + "test_stopping_everything_holds_until_somebody_resumes",
    ),
    Mutation(
        "a stop of all sites is a stop of each", "loyalty/stops.py",
        "filter(Q(site=None) | Q(site_id=site_id), ended_at=None)", "filter(site_id=site_id, ended_at=None)",
        _DISPATCH + "test_stopping_everything_holds_until_somebody_resumes",
    ),
    Mutation(
        "quiet hours at the last look", "messaging/last_look.py",
        "        if allowed_at > now:\n", "        if False:\n", _DISPATCH + "test_quiet_hours_put_off_or_cancel",
    ),
    Mutation(
        "caps at the last look", "messaging/last_look.py",
        "elif _is_over_a_cap(site, recent[message.to], now):", "elif False:",
        _DISPATCH + "test_caps_count_over_all_campaigns_of_the_site",
    ),
    Mutation(
        "caps within one look", "messaging/last_look.py",
        "            recent[message.to].append(now)\n", "",
        _DISPATCH + "test_caps_count_over_all_campaigns_of_the_site",
    ),
    Mutation(
        "first recipients at the last look", "messaging/last_look.py",
        "elif (room := canary_room[campaign.pk]) is not None and room == 0:",
        "elif (room := canary_room[campaign.pk]) is not None and False:",
        _DISPATCH + "test_a_canary_waits_after_its_first_recipients",
    ),
    Mutation(
        "first recipients within one look", "messaging/last_look.py",
        "canary_room[campaign.pk] = None if room is None else room - 1", "canary_room[campaign.pk] = room",
        _DISPATCH + "test_a_canary_waits_after_its_first_recipients",
    ),
    Mutation(
        "two processes do not hand out the same first recipients", "messaging/canary.py",
        "    Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)\n", "",
        _LOOK + "test_two_workers_share_the_room_of_a_canary", postgresql=True,
    ),
    # --- Hours --------------------------------------------------------------------------------------------------------
    Mutation(
        "the windows of states", "messaging/quiet_hours.py",
        "    for state in rules.states:\n", "    for state in ():\n",
        "tests/messaging/test_quiet_hours.py::test_the_windows_of_law_narrow_the_sites_hours",
    ),
    Mutation(
        "the federal window", "messaging/quiet_hours.py",
        "    if rules.federal:\n", "    if False:\n",
        "tests/messaging/test_quiet_hours.py::test_the_windows_of_law_narrow_the_sites_hours",
    ),
    Mutation(
        "a moment must be allowed in every zone", "messaging/quiet_hours.py",
        "    for zone in zones:\n", "    for zone in zones[:1]:\n",
        "tests/messaging/test_quiet_hours.py::test_the_evening_of_a_split_state_ends_with_its_eastern_zone",
    ),
    # --- Texts --------------------------------------------------------------------------------------------------------
    Mutation(
        "no brace is saved", "messaging/text.py",
        "    if brace := _BRACE.search(fixed):\n", "    if brace := None:\n",
        _TEXT + "test_a_bad_text_is_refused_in_a_sentence",
    ),
    Mutation(
        "no unknown placeholder is saved", "messaging/text.py",
        "        if not is_known(name):\n            raise", "        if False:\n            raise",
        _TEXT + "test_a_bad_text_is_refused_in_a_sentence",
    ),
    Mutation(
        "what cannot be sent is not saved", "messaging/campaigns.py",
        "    if problems := content_problems(campaign, content):\n", "    if problems := {}:\n",
        "tests/messaging/test_campaigns.py::test_what_could_not_be_sent_is_not_saved",
    ),
    Mutation(
        "no text with a brace is made", "messaging/text.py",
        "    if _BRACE.search(text):\n", "    if False:\n", _TEXT + "test_a_brace_from_any_side_is_refused",
    ),
    Mutation(
        "no value with a brace is taken", "messaging/text.py",
        "        if _BRACE.search(value):\n", "        if False:\n", _TEXT + "test_a_brace_from_any_side_is_refused",
    ),
    Mutation(
        "a missing value makes no text", "messaging/text.py",
        "                faults.setdefault(Code.MISSING_VALUE, name)\n", "", _TEXT + "test_a_missing_value_is_named",
    ),
    # --- People decide, webhooks tell ---------------------------------------------------------------------------------
    Mutation(
        "only what is not known or refused is sent again", "messaging/decisions.py",
        "_MAY_BE_RESENT = (State.UNKNOWN, State.REFUSED)",
        "_MAY_BE_RESENT = (State.UNKNOWN, State.REFUSED, State.ACCEPTED)",
        _DECISIONS + "test_treating_as_sent_settles_and_sends_nothing",
    ),
    Mutation(
        "whoever sent again is named on the attempt", "messaging/last_look.py",
        "resent_by_id=message.resent_by_id", "resent_by_id=None",
        _DECISIONS + "test_a_text_that_is_sent_again_carries_the_name_of_who_ordered_it",
    ),
    Mutation(
        "the lock of a decision", "messaging/decisions.py",
        'rows = Message.objects.select_for_update(of=("self",)).filter', "rows = Message.objects.filter",
        _DECISIONS + "test_two_clicks_at_the_same_moment_are_one_order", postgresql=True,
    ),
    Mutation(
        "a webhook without a proof changes nothing", "messaging/views.py",
        "        if not verify(keys, body, request.headers.get(SIGNATURE_HEADER)):\n", "        if False:\n",
        _WEBHOOKS + "test_what_is_not_proven_is_refused_and_changes_nothing",
    ),
    Mutation(
        "the same bytes have one effect", "messaging/webhooks.py",
        "    if not is_new:\n        return row\n", "", _WEBHOOKS + "test_hundreds_of_replays_have_one_effect",
    ),
    Mutation(
        "the same bytes are stored once", "messaging/models.py",
        'fields=["site", "digest"]', 'fields=["id", "digest"]',
        _WEBHOOKS + "test_equal_requests_at_the_same_moment_have_one_effect", postgresql=True,
    ),
    Mutation(
        "one event confirms one text", "messaging/webhooks.py",
        "state=message.state, fence=message.fence, confirmed_at=None)", "state=message.state, fence=message.fence)",
        _WEBHOOKS + "test_two_workers_never_confirm_the_same_text", postgresql=True,
    ),
    Mutation(
        "an event confirms texts of its own site alone", "messaging/webhooks.py",
        "        message__site=site, message__to", "        message__to",
        _WEBHOOKS + "test_another_text_phone_or_site_confirms_nothing",
    ),
    Mutation(
        "an event about a call under way waits", "messaging/webhooks.py",
        "        if message.state in _UNDER_WAY:\n", "        if False:\n",
        _WEBHOOKS + "test_an_event_about_a_call_under_way_waits_and_holds_up_nobody",
    ),
    Mutation(
        "only a subscription for our kind of text counts", "messaging/webhooks.py",
        "    if opts_in and not _is_for_our_texts(site, event.subscription_type):\n", "    if False:\n",
        _WEBHOOKS + "test_only_a_subscription_for_our_kind_of_text_counts",
    ),
    Mutation(
        "test texts go to guests alone", "messaging/guest_texts.py",
        "    if phone not in site.guest_phones:\n", "    if False:\n", _GUESTS + "test_nobody_else_gets_one",
    ),
    Mutation(
        "a double click sends one test text", "messaging/guest_texts.py",
        "    if earlier.filter(new__campaign=campaign.name).exists():\n", "    if False:\n",
        _GUESTS + "test_a_double_click_sends_one_text",
    ),
    Mutation(
        "what waits for an erased person is cancelled", "messaging/erasure.py",
        "_STILL_OPEN = (Message.State.QUEUED, Message.State.HELD, Message.State.CLAIMED)", "_STILL_OPEN = ()",
        _ERASURE + "test_the_books_still_add_up",
    ),
    Mutation(
        "an erasure stays within its site", "messaging/erasure.py",
        "theirs = Message.objects.filter(Q(member__in=people) | Q(to__in=phones), site=site)",
        "theirs = Message.objects.filter(Q(member__in=people) | Q(to__in=phones))",
        _ERASURE + "test_the_same_person_at_another_site_stays",
    ),
    # --- Tenants ------------------------------------------------------------------------------------------------------
    Mutation(
        "the rows of the logs", "loyalty/admin/logs.py",
        "sites = Site.objects.visible_to(request.user).values", "sites = Site.objects.values",
        _PAGES + "test_lists_show_the_own_tenant_alone",
    ),
    Mutation(
        "the campaigns that messages can be narrowed to", "messaging/admin/messages.py",
        "campaigns = Campaign.objects.visible_to(request.user)", "campaigns = Campaign.objects.all()",
        _PAGES + "test_lists_show_the_own_tenant_alone",
    ),
    Mutation(
        "the stops that are shown", "messaging/admin/stops.py",
        "        sites = Site.objects.visible_to(request.user)\n", "        sites = Site.objects.all()\n",
        "tests/messaging/admin/test_stops.py::test_another_tenants_stop_is_not_shown",
    ),
    Mutation(
        "only one's own site is stopped", "messaging/admin/stops.py",
        "            site = Site.objects.visible_to(request.user).filter", "            site = Site.objects.filter",
        _PAGES + "test_a_page_of_another_tenant_does_not_exist",
    ),
)  # fmt: skip

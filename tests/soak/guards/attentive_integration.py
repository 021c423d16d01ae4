"""Guards of the calls to the vendors, of their pace, of webhooks' proof, and of pages that show several sites."""

from tests.soak.guards.mutation import Mutation

_HTTP = "tests/attentive_integration/test_http.py::"
_DEADLINE = "tests/attentive_integration/test_deadline.py::"
_PACE = "tests/attentive_integration/test_rate_limit.py::"
_PROOF = "tests/attentive_integration/test_webhooks.py::"
_PAGES = "tests/attentive_integration/dashboard/test_pages.py::"
_ATTENTIVE = "tests/attentive_integration/test_attentive.py"
_STATUSES = _HTTP + "test_each_status_is_classified_for_both_sorts_of_call"
_BROKEN = _HTTP + "test_a_broken_answer_leaves_the_outcome_open_and_is_not_repeated"

MUTATIONS = (
    # --- What a failure means -----------------------------------------------------------------------------------------
    Mutation(
        "a 5xx after sending is UNKNOWN", "attentive_integration/http.py",
        '"HTTP_5XX": Rule(_UNKNOWN,', '"HTTP_5XX": Rule(_RETRY,', _STATUSES,
    ),
    Mutation(
        "a timeout after sending is UNKNOWN", "attentive_integration/http.py",
        '"READ_TIMEOUT": Rule(_UNKNOWN,', '"READ_TIMEOUT": Rule(_RETRY,',
        _HTTP + "test_no_answer_until_the_deadline_leaves_the_outcome_open",
    ),
    Mutation(
        "a reset after sending is UNKNOWN", "attentive_integration/http.py",
        '"RESET": Rule(_UNKNOWN,', '"RESET": Rule(_RETRY,', _BROKEN,
    ),
    Mutation(
        "a connection closed after sending is UNKNOWN", "attentive_integration/http.py",
        '"DISCONNECTED": Rule(_UNKNOWN,', '"DISCONNECTED": Rule(_RETRY,', _BROKEN,
    ),
    Mutation(
        "an answer that cannot be read is UNKNOWN", "attentive_integration/http.py",
        '"BROKEN_ANSWER": Rule(_UNKNOWN,', '"BROKEN_ANSWER": Rule(_RETRY,', _BROKEN,
    ),
    Mutation(
        "the note that a byte of the request has left", "attentive_integration/deadline.py",
        "            running.sent = True\n", "", _BROKEN,
    ),
    Mutation(
        "no redirect is an answer", "attentive_integration/http.py",
        "if 300 <= status < 400:", "if False:", _HTTP + "test_redirects_are_not_followed",
    ),
    Mutation(
        "the deadline of reading, byte by byte", "attentive_integration/deadline.py",
        "        self._inner.settimeout(running.seconds_left())\n        count", "        count",
        _DEADLINE + "test_headers_dripped_byte_by_byte_do_not_stretch_the_deadline",
    ),
    Mutation(
        "the deadline of sending, piece by piece", "attentive_integration/deadline.py",
        "            self._inner.settimeout(running.seconds_left())\n            running.sent",
        "            running.sent", _DEADLINE + "test_a_server_that_reads_slowly_does_not_stretch_the_deadline",
    ),
    Mutation(
        "the deadline of a look-up", "attentive_integration/deadline.py",
        "found.get(timeout=running.seconds_left())", "found.get(timeout=60)",
        _DEADLINE + "test_a_look_up_that_hangs_ends_at_the_deadline",
    ),
    Mutation(
        "connections that retire while idle", "attentive_integration/deadline.py",
        "return time.monotonic() - connection.sock.used_at < IDLE_SECONDS  #", "return True  #",
        _DEADLINE + "test_an_idle_connection_retires",
    ),
    Mutation(
        "a connection with unread bytes is not used again", "attentive_integration/http.py",
        "    if size > limit:\n", "    if False:\n",
        _HTTP + "test_no_more_is_read_than_the_cap_and_the_connection_is_not_used_again",
    ),
    Mutation(
        "reading no further than the cap", "attentive_integration/http.py",
        "while size <= limit and (piece := response.raw.read(min(16_384, limit + 1 - size)",
        "while size <= 100 * limit and (piece := response.raw.read(min(16_384, 100 * limit + 1 - size)",
        _HTTP + "test_no_more_is_read_than_the_cap_and_the_connection_is_not_used_again",
    ),
    Mutation(
        "bodies that are not inflated", "attentive_integration/http.py",
        "decode_content=False", "decode_content=True",
        _HTTP + "test_a_compressed_body_that_nobody_asked_for_stays_unread",
    ),
    Mutation(
        "a token that cannot be one is never sent", "attentive_integration/http.py",
        'if not (token.isascii() and token.isprintable()) or " " in token:', "if False:",
        _HTTP + "test_a_token_that_cannot_be_one_is_never_sent",
    ),
    Mutation(
        "tokens that are taken out of kept answers", "attentive_integration/http.py",
        'text = text.replace(spelling, "[removed]")', "pass",
        _HTTP + "test_tokens_and_control_characters_do_not_reach_the_kept_answer",
    ),
    Mutation(
        "a pool of its own for each forked worker", "attentive_integration/http.py",
        "os.register_at_fork(after_in_child=_after_fork)\n", "",
        _DEADLINE + "test_a_forked_process_does_not_share_connections",
    ),
    # --- What is sent -------------------------------------------------------------------------------------------------
    Mutation(
        "no text with a brace leaves", "attentive_integration/attentive.py",
        'if "{" in body or "}" in body:', "if False:", _ATTENTIVE,
    ),
    Mutation(
        "unsubscribing names what ends", "attentive_integration/attentive.py",
        "        if not subscriptions:\n", "        if False:\n", _ATTENTIVE,
    ),
    Mutation(
        "an answer that does not say yes means no", "attentive_integration/attentive.py",
        'get("isEligible") is True', 'get("isEligible") is not False', _ATTENTIVE,
    ),
    # --- Pace ---------------------------------------------------------------------------------------------------------
    Mutation(
        "slots that are too late are dropped", "attentive_integration/rate_limit.py",
        "return time.monotonic() > slot + self.tolerance", "return False",
        _PACE + "test_a_late_slot_is_dropped_unless_the_second_before_was_idle_and_the_block_is_small",
    ),
    Mutation(
        "a frozen process begins no call, where no pace is kept either", "attentive_integration/rate_limit.py",
        "[time.monotonic()] * count, LATEST_START)", "[time.monotonic()] * count, 1e9)",
        _PACE + "test_without_a_limit_too_a_process_that_was_frozen_makes_no_call",
    ),
    Mutation(
        "slots lie as far apart as the limit asks", "attentive_integration/rate_limit.py",
        "spacing = 1 / (limit * _SHARE)", "spacing = 1 / (limit * 1.2)",
        _PACE + "test_blocks_handed_to_several_processes_keep_the_limit_in_any_sliding_second",
    ),
    Mutation(
        "the lock of a pace", "attentive_integration/rate_limit.py",
        "rows = RateLimit.objects.select_for_update().filter(key=key)", "rows = RateLimit.objects.filter(key=key)",
        _PACE + "test_two_processes_never_get_the_same_slot", postgresql=True,
    ),
    Mutation(
        "a pause that the vendor asked for", "attentive_integration/rate_limit.py",
        "free = max(row.next_slot_at, row.blocked_until or row.next_slot_at)", "free = row.next_slot_at",
        _PACE + "test_a_block_stops_the_key_and_no_other",
    ),
    Mutation(
        "a pause is never made shorter", "attentive_integration/rate_limit.py",
        "row.blocked_until = max(until, row.blocked_until or until)", "row.blocked_until = until",
        _PACE + "test_a_block_stops_the_key_and_no_other",
    ),
    # --- Proof and secrets --------------------------------------------------------------------------------------------
    Mutation(
        "the signature is compared", "attentive_integration/webhooks.py",
        "proven |= hmac.compare_digest(expected, signature)", "proven |= len(expected) == len(signature)",
        _PROOF + "test_anything_else_proves_nothing",
    ),
    Mutation(
        "without a key nothing is proven", "attentive_integration/webhooks.py",
        "        if key:\n", "        if True:\n", _PROOF + "test_without_a_key_nothing_is_proven",
    ),
    Mutation(
        "a time before all webhooks is no time", "attentive_integration/webhooks.py",
        "return moment if moment >= _EARLIEST else None", "return moment", _PROOF + "test_a_time_is_read_or_none",
    ),
    Mutation(
        "a secret is bound to its site and kind", "attentive_integration/secrets.py",
        "if sealed_context != context:", "if False:",
        "tests/test_foundation.py::test_a_sealed_token_opens_only_in_its_own_row",
    ),
    # --- Tenants ------------------------------------------------------------------------------------------------------
    Mutation(
        "the sites of Home", "attentive_integration/dashboard/home.py",
        "scope = Site.objects.visible_to(request.user)", "scope = Site.objects.all()",
        _PAGES + "test_home_tells_nothing_of_other_tenants_troubles",
    ),
    Mutation(
        "the counts in the sidebar", "attentive_integration/dashboard/__init__.py",
        "scope = Site.objects.visible_to(request.user).order_by()", "scope = Site.objects.order_by()",
        _PAGES + "test_home_tells_nothing_of_other_tenants_troubles",
    ),
    *(
        Mutation(
            f"the {name} that a search finds", "attentive_integration/dashboard/search.py",
            f"{name} = {model}.objects.visible_to(request.user)", f"{name} = {model}.objects.all()",
            _PAGES + "test_search_never_leaves_the_users_sites",
        )
        for name, model in (
            ("members", "Member"), ("messages", "Message"), ("consents", "Consent"), ("sites", "Site"),
        )
    ),
    Mutation(
        "only one's own members can be erased", "attentive_integration/dashboard/erasing.py",
        "member = Member.objects.visible_to(request.user).select", "member = Member.objects.select",
        "tests/loyalty/admin/test_members.py::test_erasing_asks_first_and_is_for_admins",
    ),
)  # fmt: skip

"""Guards of the link by which a client enters keys: it opens one form, for a time, and replaces no key in use."""

from tests.soak.guards.mutation import Mutation

_LINKS = "tests/loyalty/test_client_links.py::"
_PAGE = "tests/loyalty/test_views.py::"
_FILE = "loyalty/client_links.py"

MUTATIONS = (
    Mutation(
        "a client replaces no key in use", _FILE,
        "slot = Slot.CURRENT if current is None or (current.pk == ours and not proven) else Slot.NEXT",
        "slot = Slot.CURRENT", _LINKS + "test_a_key_in_use_stays_in_use_and_the_new_one_waits",
    ),
    Mutation(
        "a client corrects no key that was proven since", _FILE,
        "(current.pk == ours and not proven)", "(current.pk == ours)",
        _LINKS + "test_the_client_may_correct_a_key_of_another_account_until_staff_keep_it",
    ),
    Mutation(
        "a client pushes out no next token of staff", _FILE,
        "if slot == Slot.NEXT and following is not None and following.pk != ours:", "if following and not slot:",
        _LINKS + "test_a_next_token_of_staff_is_not_pushed_out",
    ),
    Mutation(
        "a client changes no sign-up source of staff", _FILE,
        "    if site.sign_up_sources.exists():\n        words", "    if not site:\n        words",
        _LINKS + "test_a_sign_up_source_of_staff_stays_the_default",
    ),
    Mutation(
        "a key that a client gave stays", _FILE,
        "if row.outcome(key) == Outcome.GIVEN:", "if row.is_over:",
        _LINKS + "test_a_key_that_was_given_is_not_replaced_by_a_second_press",
    ),
    Mutation(
        "a client's link that ends during a test stores nothing", _FILE,
        "        if row.is_over:\n            raise LinkClosed\n", "",
        _LINKS + "test_a_link_that_ends_while_a_key_is_tested_stores_nothing",
    ),
    Mutation(
        "a client's link is tried a limited number of times", _FILE,
        'if not link.is_open or not may_try.update(attempts=F("attempts") + 1):', "if not link.is_open:",
        _LINKS + "test_a_link_is_over_when_its_time_is_up_or_too_much_was_tried",
    ),
    Mutation(
        "a client's link expires", "loyalty/models/sites.py",
        "return self.ended_at is not None or self.expires_at <= timezone.now()", "return self.ended_at is not None",
        _LINKS + "test_a_link_is_over_when_its_time_is_up_or_too_much_was_tried",
    ),
    Mutation(
        "a client's new link ends the old one", _FILE,
        "return ClientLink.objects.filter(site=site, ended_at=None)", "return ClientLink.objects.none()",
        _LINKS + "test_a_new_link_ends_the_old_one_of_its_site_alone",
    ),
    Mutation(
        "a link of one client ends none of another's", _FILE,
        "return ClientLink.objects.filter(site=site, ended_at=None)", "return ClientLink.objects.filter(ended_at=None)",
        _LINKS + "test_a_new_link_ends_the_old_one_of_its_site_alone",
    ),
    Mutation(
        "a client's link that is over opens no page", "loyalty/views.py",
        "if link is None or not link.is_open:", "if link is None:",
        _PAGE + "test_every_link_that_does_not_work_says_the_same",
    ),
    Mutation(
        "a client enters only what was asked for", "loyalty/views.py",
        "if key not in link.asked:", "if key not in Key.values:",
        _PAGE + "test_a_wrong_key_is_explained_and_a_right_one_says_whose_it_is",
    ),
    Mutation(
        "the address of a client's link is in no Referer", "loyalty/views.py",
        'answer["Referrer-Policy"] = "strict-origin"', "pass",
        _PAGE + "test_the_address_does_not_leak_and_nothing_is_kept_in_a_cache",
    ),
    Mutation(
        "the address of a client's link is in no log", "attentive_integration/masking.py",
        r"|\blink_[\w-]{40,}", "", _PAGE + "test_no_log_of_ours_holds_the_token",
    ),
    Mutation(
        "who may not activate a site makes no client's link", "loyalty/admin/client_link.py",
        "if not can(request.user, site, Right.ACTIVATE):", "if not site:",
        "tests/loyalty/admin/test_client_link.py::test_only_who_may_activate_this_site_makes_and_withdraws_its_link",
    ),
)  # fmt: skip

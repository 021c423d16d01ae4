"""Activation against the sandbox over real HTTP: what is entered wrong, what is said about it, and the way to live."""

from collections.abc import Iterator
from typing import Any

import pytest

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.sandbox.process import SandboxProcess
from loyalty import activation, connection, guest_tests, tokens
from loyalty.connection import ActivationRefused, Check, Code, TaskState
from loyalty.models import AccessToken, AuditEntry, Breaker, Consent, Site
from tests.factories import make_site, make_token, make_user

pytestmark = pytest.mark.django_db

Kind = AccessToken.Kind
GUEST = "+17705550101"
STRANGER = "+17705550199"


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
def sandbox(running: SandboxProcess, settings: Any) -> SandboxProcess:
    settings.ATTENTIVE_API_URL = running.url
    settings.ANNEX_CLOUD_API_URL = f"{running.url}/api/3.0"
    running.clear_faults()
    running.configure_company("harbor", double_opt_in=False, read_only=False, refused=[], sign_up_sources={})
    return running


def draft(**fields: Any) -> Site:
    defaults = {"client_name": "Harbor Goods", "state": Site.State.DRAFT, "activated_at": None, "guest_phones": [GUEST]}
    return make_site(**{**defaults, **fields})


def text_count(sandbox: SandboxProcess, company: str = "harbor") -> int:
    return sum(len(sandbox.texts(company, phone)) for phone in sandbox.phones(company))


# --- Access to Annex Cloud --------------------------------------------------------------------------------------------


def test_an_access_token_and_a_loyalty_token_both_open_annex_cloud(sandbox: SandboxProcess) -> None:
    site = draft()
    whole = connection.enter_access(site, encode_access_token(site.site_id, "loyalty-harbor"))
    assert whole.passed, whole
    assert tokens.token_secret(site, Kind.LOYALTY) == "loyalty-harbor"
    assert connection.enter_access(draft(), " loyalty-harbor\n").passed


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (encode_access_token("7777777", "loyalty-harbor"), Code.OTHER_SITE, "for site 7777777"),
        ("eyJub3QgYmFzZTY0%%%", Code.MALFORMED, "not base64"),
        ("eyJzaXRlX2lkIjoi", Code.MALFORMED, "no JSON"),
        ("some words", Code.MALFORMED, "not base64"),
        ("", Code.MALFORMED, "empty"),
        ("mistyped-token", Code.REFUSED, "loyalty token"),
        ("loyalty-revoked", Code.REFUSED, "AC1002"),
    ],
)
def test_a_wrong_access_token_is_explained_and_not_stored(
    sandbox: SandboxProcess, text: str, code: str, words: str
) -> None:
    site = draft()
    check = connection.enter_access(site, text)
    assert (check.state, check.code) == (TaskState.FAILED, code)
    assert words in check.sentence
    assert tokens.active(site, Kind.LOYALTY) is None


def test_a_refused_token_does_not_push_out_one_that_works(sandbox: SandboxProcess) -> None:
    site = draft()
    connection.enter_access(site, "loyalty-harbor")
    check = connection.enter_access(site, "loyalty-revoked")
    assert "still in use" in check.sentence
    assert tokens.token_secret(site, Kind.LOYALTY) == "loyalty-harbor"


# --- App key ----------------------------------------------------------------------------------------------------------


def test_the_app_key_shows_whose_account_it_is(sandbox: SandboxProcess) -> None:
    site = draft()
    check = connection.enter_app_key(site, "app-harbor")
    assert check.passed
    assert check.account == "Harbor (harbor), app Harbor loyalty"
    site.refresh_from_db()
    assert (site.company_name, site.company_domain) == ("Harbor", "harbor")
    assert site.checks["ATTENTIVE_APP"]["account"] == check.account
    assert tokens.active(site, Kind.ATTENTIVE_APP).last_used_at is not None  # type: ignore[union-attr]


def test_a_key_of_another_client_counts_only_when_a_person_keeps_it(sandbox: SandboxProcess) -> None:
    site, person = draft(), make_user()
    check = connection.enter_app_key(site, "app-bluebird")
    assert (check.state, check.code) == (TaskState.FAILED, Code.OTHER_CLIENT)
    assert "belongs to “Bluebird”, not to “Harbor Goods”" in check.sentence
    assert connection.keep_account(site, by=person).passed
    assert activation.check(site, "ATTENTIVE_APP").passed
    assert AuditEntry.objects.filter(event="site.account_kept", user=person, site=site).exists()


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("app-revoked", Code.REFUSED, "Write permission"),
        ("legacy-harbor", Code.REFUSED, "legacy token does not work here"),
        (encode_access_token("1", "loyalty-harbor"), Code.MIXED_UP, "Annex Cloud's access token"),
        ("app harbor", Code.REFUSED, "space"),
    ],
)
def test_a_wrong_app_key_is_explained_and_not_stored(sandbox: SandboxProcess, text: str, code: str, words: str) -> None:
    site = draft()
    check = connection.enter_app_key(site, text)
    assert (check.state, check.code) == (TaskState.FAILED, code)
    assert words in check.sentence
    assert tokens.active(site, Kind.ATTENTIVE_APP) is None


def test_a_loyalty_token_in_the_field_of_the_app_key_is_recognised(sandbox: SandboxProcess) -> None:
    site = draft()
    connection.enter_access(site, "loyalty-harbor")
    check = connection.enter_app_key(site, "loyalty-harbor")
    assert check.code == Code.MIXED_UP
    assert "This is the Annex Cloud loyalty token" in check.sentence


def test_an_unreachable_vendor_keeps_the_key_and_says_so(sandbox: SandboxProcess, settings: Any) -> None:
    settings.ATTENTIVE_API_URL = "http://127.0.0.1:9"
    site = draft()
    check = connection.enter_app_key(site, "app-harbor")
    assert check.code == Code.UNREACHABLE
    assert tokens.token_secret(site, Kind.ATTENTIVE_APP) == "app-harbor"
    settings.ATTENTIVE_API_URL = sandbox.url
    assert activation.check(site, "ATTENTIVE_APP").passed


def test_a_check_that_passes_closes_the_breaker(sandbox: SandboxProcess) -> None:
    site = draft()
    make_token(site, Kind.ATTENTIVE_APP, "app-harbor")
    Breaker.objects.create(site=site, token_kind=Kind.ATTENTIVE_APP, failures=3)
    activation.check(site, "ATTENTIVE_APP")
    assert Breaker.objects.get(site=site).failures == 0


# --- Sign-up source ---------------------------------------------------------------------------------------------------


def test_the_sign_up_source_is_kept_until_the_app_key_comes_and_then_tested(sandbox: SandboxProcess) -> None:
    site = draft()
    assert connection.enter_sign_up_source(site, "132109").code == Code.NOT_PROVEN
    assert connection.enter_sign_up_source(site, "API").code == Code.MALFORMED
    connection.enter_app_key(site, "app-harbor")
    assert {check.kind: check.state for check in activation.tasks(site)}["SIGN_UP_SOURCE"] == TaskState.PASSED
    assert [source.sign_up_source_id for source in site.sign_up_sources.filter(is_default=True)] == ["132109"]


def test_subscribing_a_guest_proves_the_source_and_happens_once(sandbox: SandboxProcess) -> None:
    site = draft()
    connection.enter_app_key(site, "app-harbor")
    connection.enter_sign_up_source(site, "132109")
    before = len(sandbox.ledger("SUBSCRIBE"))
    assert "is subscribed." in guest_tests.subscribe_guest(site, GUEST)
    assert "already" in guest_tests.subscribe_guest(site, GUEST)
    assert len(sandbox.ledger("SUBSCRIBE")) == before + 1
    assert Consent.objects.get(site=site, address=GUEST).state == Consent.State.SUBSCRIBED
    with pytest.raises(ActivationRefused, match="not one of the site's guest phones"):
        guest_tests.subscribe_guest(site, STRANGER)


def test_a_wrong_source_id_and_a_missing_write_permission_are_told_apart(sandbox: SandboxProcess) -> None:
    sandbox.configure_company("cedar", sign_up_sources={"132109": "MARKETING"})
    site = draft(client_name="Cedar")
    connection.enter_app_key(site, "app-cedar")
    connection.enter_sign_up_source(site, "999999")
    with pytest.raises(ActivationRefused, match="Subscribers tab"):
        guest_tests.subscribe_guest(site, GUEST)
    assert site.checks["SIGN_UP_SOURCE"]["state"] == TaskState.FAILED
    other = draft(client_name="Readonly")
    connection.enter_app_key(other, "app-readonly")
    connection.enter_sign_up_source(other, "132109")
    with pytest.raises(ActivationRefused, match="Write permission"):
        guest_tests.subscribe_guest(other, GUEST)
    assert other.checks["ATTENTIVE_APP"]["state"] == TaskState.FAILED
    assert Consent.objects.get(site=other, address=GUEST).state == Consent.State.UNKNOWN


# --- Legacy token -----------------------------------------------------------------------------------------------------


def test_the_request_for_a_legacy_token_is_drafted_and_noted_once(sandbox: SandboxProcess) -> None:
    site, person = draft(), make_user()
    mail = activation.draft_request(site)
    assert mail.to == "legacyapi@attentivemobile.com"
    assert "Harbor Goods" in mail.body
    assert mail.address.startswith("mailto:legacyapi@attentivemobile.com?subject=Legacy%20API%20token")
    activation.request_legacy_token(site, person)
    asked_at = site.legacy_token_requested_at
    activation.request_legacy_token(site, make_user())
    assert (site.legacy_token_requested_at, site.legacy_token_requested_by) == (asked_at, person)
    assert activation.tasks(site)[3].state == TaskState.WAITING
    assert activation.draft_request(site).subject.startswith("Reminder")


def test_an_app_key_in_the_legacy_field_is_recognised(sandbox: SandboxProcess) -> None:
    site = draft()
    connection.enter_app_key(site, "app-harbor")
    for key in ("app-harbor", "app-cedar"):
        check = connection.enter_legacy_token(site, key)
        assert check.code == Code.MIXED_UP
        assert "legacyapi@attentivemobile.com" in check.sentence
    assert tokens.active(site, Kind.ATTENTIVE_LEGACY) is None


def test_only_a_text_to_a_guest_proves_the_legacy_token(sandbox: SandboxProcess) -> None:
    site = draft()
    sandbox.add_subscribers("harbor", [GUEST])
    assert connection.enter_legacy_token(site, "legacy-harbor").code == Code.NOT_PROVEN
    before = text_count(sandbox)
    assert guest_tests.send_test_text(site, GUEST).passed
    assert text_count(sandbox) == before + 1
    assert activation.check(site, "ATTENTIVE_LEGACY").passed
    # The vendor's books show a text of which no message says anything; the audit trail does.
    body = sandbox.ledger("MESSAGE")[-1]["body"]
    assert ("+1 ••• ••• 0101", body) in guest_tests.sent_test_texts()
    # A second press of the button is the same press.
    with pytest.raises(ActivationRefused, match="seconds ago"):
        guest_tests.send_test_text(site, GUEST)
    assert text_count(sandbox) == before + 1


@pytest.mark.parametrize(
    ("company", "phone_known", "state", "code", "words"),
    [
        ("revoked", True, TaskState.FAILED, Code.REFUSED, "legacyapi@attentivemobile.com"),
        ("delta", False, TaskState.TO_DO, Code.UNMATCHED, "Subscribe it first"),
    ],
)
def test_a_test_text_that_is_refused_says_why(
    sandbox: SandboxProcess, company: str, phone_known: bool, state: str, code: str, words: str
) -> None:
    site = draft()
    connection.enter_legacy_token(site, f"legacy-{company}")
    check: Check = guest_tests.send_test_text(site, GUEST)
    assert (check.state, check.code) == (state, code)
    assert words in check.sentence


def test_a_test_text_of_unknown_outcome_is_settled_by_a_person(sandbox: SandboxProcess) -> None:
    site, person = draft(), make_user()
    sandbox.add_subscribers("harbor", [GUEST])
    sandbox.add_fault("/1/messages", "reset_after")
    connection.enter_legacy_token(site, "legacy-harbor")
    assert guest_tests.send_test_text(site, GUEST).code == Code.UNCLEAR
    assert guest_tests.confirm_test_text(site, by=person).passed
    with pytest.raises(ActivationRefused):
        guest_tests.confirm_test_text(site, by=person)


def test_a_guest_who_opted_out_is_not_texted(sandbox: SandboxProcess) -> None:
    site = draft()
    connection.enter_legacy_token(site, "legacy-harbor")
    Consent.objects.create(site=site, address=GUEST, state=Consent.State.UNSUBSCRIBED)
    with pytest.raises(ActivationRefused, match="opted out"):
        guest_tests.send_test_text(site, GUEST)


# --- Rotation ---------------------------------------------------------------------------------------------------------


def test_a_next_token_is_tested_promoted_and_rolled_back(sandbox: SandboxProcess) -> None:
    site = draft()
    connection.enter_app_key(site, "app-harbor")
    tokens.set_token(site, Kind.ATTENTIVE_APP, "app-revoked", slot="NEXT")
    assert connection.test_next(site, Kind.ATTENTIVE_APP).state == TaskState.FAILED
    assert activation.check(site, "ATTENTIVE_APP").passed
    tokens.promote(site, Kind.ATTENTIVE_APP)
    assert not activation.check(site, "ATTENTIVE_APP").passed
    tokens.roll_back(site, Kind.ATTENTIVE_APP)
    assert activation.check(site, "ATTENTIVE_APP").passed
    with pytest.raises(ActivationRefused):
        connection.test_next(site, Kind.ATTENTIVE_APP)


# --- The way to live --------------------------------------------------------------------------------------------------


def activate(site: Site, sandbox: SandboxProcess) -> None:
    sandbox.add_subscribers("harbor", [GUEST])
    connection.enter_access(site, "loyalty-harbor")
    connection.enter_sign_up_source(site, "132109")
    connection.enter_app_key(site, "app-harbor")
    connection.enter_legacy_token(site, "legacy-harbor")
    guest_tests.send_test_text(site, GUEST)


def test_a_site_goes_live_only_when_green(sandbox: SandboxProcess) -> None:
    site, person = draft(guest_phones=[]), make_user()
    assert len(activation.blockers(site)) == 5
    with pytest.raises(ActivationRefused, match="guest phone"):
        activation.enter_test(site, person)
    with pytest.raises(ActivationRefused):
        activation.go_live(site, person)
    assert activation.enter_guest_phones(site, "(770) 555-0101\n+1 770 555 0101") == [GUEST]
    with pytest.raises(ActivationRefused, match="letters"):
        activation.enter_guest_phones(site, "a colleague")
    activate(site, sandbox)
    assert activation.blockers(site) == []
    assert all(check.passed for check in activation.check_site(site))
    activation.enter_test(site, person)
    first = site.activated_at
    assert site.state == Site.State.TEST
    activation.go_live(site, person)
    activation.go_live(site, person)
    activation.pause(site, person)
    activation.resume(site, person)
    site.refresh_from_db()
    assert (site.state, site.activated_at) == (Site.State.LIVE, first)
    activation.deactivate(site, person)
    assert site.activated_at is None
    events = list(AuditEntry.objects.filter(site=site, event__startswith="site.").values_list("event", flat=True))
    for event in ("site.enter_test", "site.go_live", "site.pause", "site.resume", "site.deactivate"):
        assert events.count(event) == 1
    with pytest.raises(ActivationRefused, match="Draft"):
        activation.pause(site, person)


def test_a_value_that_is_taken_away_takes_its_task_back(sandbox: SandboxProcess) -> None:
    site = draft()
    activate(site, sandbox)
    tokens.revoke(site, Kind.ATTENTIVE_LEGACY)
    assert activation.blockers(site) == [
        "The legacy token is not proven. Enter it, and send a test text to the phone of a colleague."
    ]


def test_nothing_that_is_checked_or_moved_texts_anybody(sandbox: SandboxProcess) -> None:
    site = draft()
    activate(site, sandbox)
    before = text_count(sandbox), len(sandbox.ledger("SUBSCRIBE"))
    activation.check_site(site)
    for step in (activation.enter_test, activation.go_live, activation.pause, activation.resume, activation.deactivate):
        step(site)
    assert (text_count(sandbox), len(sandbox.ledger("SUBSCRIBE"))) == before


def test_no_secret_reaches_checks_or_audit(sandbox: SandboxProcess) -> None:
    site = draft()
    activate(site, sandbox)
    kept = str(site.checks) + str(list(AuditEntry.objects.values_list("target", "old", "new")))
    for secret in ("loyalty-harbor", "app-harbor", "legacy-harbor", GUEST):
        assert secret not in kept


def test_company_names_are_compared_by_their_letters() -> None:
    assert connection.is_same_company("Harbor Goods, Inc.", "harbor goods")
    assert connection.is_same_company("Café Bleu", "Cafe Bleu")
    assert not connection.is_same_company("Bluebird", "Harbor Goods")
    assert not connection.is_same_company("", "Harbor Goods")

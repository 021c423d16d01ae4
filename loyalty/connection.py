"""The values that connect a site to both vendors: each is tested as it is entered, and kept unless it is refused.

No test here texts anybody or changes anything at a vendor. Results are kept in `Site.checks`; every failure is a
sentence with its cause and its remedy. `activation.py` puts them into the order of a task list.
"""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import TextChoices
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration import rate_limit
from attentive_integration.annex_cloud import AccessTokenError, AnnexCloudClient, decode_access_token
from attentive_integration.attentive import Account, AttentiveClient
from attentive_integration.http import ErrorKind, VendorError
from loyalty import audit, breakers, tokens
from loyalty.models import AccessToken, SignUpSource, Site
from loyalty.models.scope import Someone

Kind = AccessToken.Kind
LEGACY_TEAM = "legacyapi@attentivemobile.com"
# Asked about when a site has no guest phone yet: a number reserved for fiction, which is nobody's.
_NOBODY = "+12025550100"


class Task(TextChoices):
    """The tasks on the way to live, in order; the names are the keys of `Site.checks`."""

    LOYALTY = "LOYALTY", gettext_lazy("Access to Annex Cloud")
    SIGN_UP_SOURCE = "SIGN_UP_SOURCE", gettext_lazy("Sign-up source")
    ATTENTIVE_APP = "ATTENTIVE_APP", gettext_lazy("Attentive app key")
    ATTENTIVE_LEGACY = "ATTENTIVE_LEGACY", gettext_lazy("Legacy token")
    GUESTS = "GUESTS", gettext_lazy("Guest phones")


class TaskState(TextChoices):
    TO_DO = "TO_DO", gettext_lazy("To do")
    WAITING = "WAITING", gettext_lazy("Waiting for Attentive")
    PASSED = "PASSED", gettext_lazy("Passed")
    FAILED = "FAILED", gettext_lazy("Failed")


class Code(StrEnum):
    """What went wrong with a check, so that the page can put the right button beside the sentence."""

    MISSING = "MISSING"
    MALFORMED = "MALFORMED"
    OTHER_SITE = "OTHER_SITE"
    OTHER_CLIENT = "OTHER_CLIENT"
    MIXED_UP = "MIXED_UP"
    REFUSED = "REFUSED"
    UNREACHABLE = "UNREACHABLE"
    NOT_PROVEN = "NOT_PROVEN"
    UNCLEAR = "UNCLEAR"
    UNMATCHED = "UNMATCHED"


# What is wrong with a token that is not stored: a refused one must not push out one that works.
NOT_KEPT = (Code.REFUSED, Code.MALFORMED, Code.MIXED_UP, Code.OTHER_SITE)


class ActivationRefused(Exception):
    """Something cannot be done now; `str()` is a sentence with the remedy."""


@dataclass(frozen=True)
class Check:
    """How a task stands. `account` says whose key it is; `code` is empty when nothing is wrong."""

    kind: str
    state: str
    sentence: str = ""
    account: str = ""
    code: str = ""
    at: datetime | None = None

    @property
    def passed(self) -> bool:
        return self.state == TaskState.PASSED


@dataclass(frozen=True)
class Trial:
    """How a token stood its test, before it is stored. `account` is set where Attentive said whose key it is."""

    kind: Kind
    check: Check
    secret: str = field(repr=False)
    account: Account | None = None


def note(site: Site, check: Check, *, by: Someone, **more: Any) -> Check:
    """Keep the result of a check in the site and the audit trail, and return it."""
    now = timezone.now()
    with transaction.atomic():
        row = Site.objects.select_for_update().get(pk=site.pk)
        before = (row.checks.get(check.kind) or {}).get("state", "")
        kept = {
            "state": check.state, "at": now.isoformat(), "sentence": check.sentence, "account": check.account,
            "code": check.code, **more,
        }  # fmt: skip
        row.checks = {**row.checks, check.kind: kept}
        row.last_check_at = now
        row.save(update_fields=["checks", "last_check_at"])
        if before != check.state:
            audit.record("site.check", site=row, user=by, target=check.kind, old=before or None, new=str(check.state))
    site.checks, site.last_check_at = row.checks, row.last_check_at
    return Check(check.kind, check.state, check.sentence, check.account, check.code, now)


def _failed(task: Task, code: Code, sentence: str) -> Check:
    return Check(task, TaskState.FAILED, sentence, code=code)


def _of_error(task: Task, error: VendorError) -> Check:
    refused = error.kind in (ErrorKind.CREDENTIALS, ErrorKind.REFUSED)
    return _failed(task, Code.REFUSED if refused else Code.UNREACHABLE, error.sentence)


def stored(site: Site, task: Task, *, there: bool) -> Check:
    """Return what the last check of a task found; `there` says whether its value is still there."""
    found = site.checks.get(task) or {}
    state = found.get("state") or TaskState.TO_DO
    if not there and state == TaskState.PASSED:
        state, found = TaskState.TO_DO, {}
    at = parse_datetime(found["at"]) if found.get("at") else None
    return Check(task, state, found.get("sentence", ""), found.get("account", ""), found.get("code", ""), at)


# --- Testing a token, and storing it afterwards -----------------------------------------------------------------------


def try_token(site: Site, kind: Kind, text: str) -> Trial:
    """Test a token that was entered, as far as that is possible without a side effect; stores nothing."""
    if kind == Kind.WEBHOOK_SIGNING:
        return _try_webhook_key(site, text)
    attempt = {Kind.LOYALTY: _try_access, Kind.ATTENTIVE_APP: _try_app_key, Kind.ATTENTIVE_LEGACY: _try_legacy_token}
    return attempt[kind](site, text)


def keep(site: Site, trial: Trial, *, by: Someone = None) -> Check:
    """Store a tested token as the one in use, unless it was refused, and note how its test went.

    Raises `ValueError` with a sentence when the text cannot be a token at all.
    """
    kind, check = trial.kind, trial.check
    if check.code in NOT_KEPT:
        if tokens.active(site, kind) is not None:
            kept = _("%(sentence)s The token that stood here before is still in use.") % {"sentence": check.sentence}
            check = Check(check.kind, check.state, kept, check.account, check.code)
    else:
        tokens.set_token(site, kind, trial.secret, by=by)
        if check.code != Code.NOT_PROVEN:
            _used(site, kind, check)
        if check.passed and trial.account:
            _remember(site, trial.account)
    return note(site, check, by=by) if kind in Task.values else check


def keep_next(site: Site, trial: Trial, *, by: Someone = None) -> Check:
    """Store a tested token beside the one in use, unless it was refused; nothing changes until staff promote it."""
    if trial.check.code not in NOT_KEPT:
        row = tokens.set_token(site, trial.kind, trial.secret, by=by, slot=AccessToken.Slot.NEXT)
        AccessToken.objects.filter(pk=row.pk).update(last_result=trial.check.sentence[:300])
    return trial.check


# --- 1 Access to Annex Cloud ------------------------------------------------------------------------------------------


def enter_access(site: Site, text: str, *, by: Someone = None) -> Check:
    """Take an access token (base64 of the loyalty token and the site ID) or the loyalty token alone, and test it.

    A token that is refused, or that is for another site, is not stored.
    """
    return keep(site, _try_access(site, text), by=by)


def _try_access(site: Site, text: str) -> Trial:
    text = text.strip()
    secret, misread = text, ""
    try:
        bundle = decode_access_token(text)
    except AccessTokenError as error:
        if _looks_like_access_token(text):
            return Trial(Kind.LOYALTY, _failed(Task.LOYALTY, Code.MALFORMED, error.sentence), text)
        misread = error.sentence
    else:
        if bundle.site_id != site.site_id:
            sentence = _(
                "This access token is for site %(theirs)s, not for %(ours)s. Copy the token of %(client)s, or correct "
                "the site ID in the site's settings."
            ) % {"theirs": bundle.site_id[:64], "ours": site.site_id, "client": site.client_name}
            return Trial(Kind.LOYALTY, _failed(Task.LOYALTY, Code.OTHER_SITE, sentence), text)
        secret = bundle.loyalty_token
    if mixed := mixed_up(site, Kind.LOYALTY, secret):
        return Trial(Kind.LOYALTY, _failed(Task.LOYALTY, Code.MIXED_UP, mixed), secret)
    check = _ask_annex_cloud(site, secret)
    if check.code == Code.REFUSED and misread:
        both = _("%(misread)s Annex Cloud did not accept it as a loyalty token either. %(answer)s")
        check = _failed(Task.LOYALTY, Code.REFUSED, both % {"misread": misread, "answer": check.sentence})
    return Trial(Kind.LOYALTY, check, secret)


def _looks_like_access_token(text: str) -> bool:
    """Base64 of a JSON object begins with "eyJ" or, with a space or line break in it, "ew" or "eyA"."""
    return text.startswith(("eyJ", "ew0", "ewo", "eyA", "{")) or any(char.isspace() for char in text) or not text


def _ask_annex_cloud(site: Site, secret: str) -> Check:
    try:
        rate_limit.acquire(*tokens.pace(secret, "ANNEX_CLOUD"))
        segments = AnnexCloudClient(site.site_id, secret).list_segments("all")
    except VendorError as error:
        return _of_error(Task.LOYALTY, error)
    account = _("Site %(id)s, %(count)d segments") % {"id": site.site_id, "count": len(segments)}
    return Check(Task.LOYALTY, TaskState.PASSED, _("Annex Cloud accepted the token."), account)


def _used(site: Site, kind: Kind, check: Check) -> Check:
    """Note on the token itself how its test went."""
    AccessToken.objects.filter(site=site, kind=kind, slot="CURRENT", revoked_at=None).update(
        last_used_at=timezone.now(), last_result=check.sentence[:300]
    )
    if check.passed:
        breakers.record_success(site, kind)
    return check


def mixed_up(site: Site, kind: Kind, secret: str) -> str:
    """Return a sentence when the text is a token that belongs into another field; else nothing."""
    if kind != Kind.LOYALTY:
        try:
            decode_access_token(secret)
        except AccessTokenError:
            pass
        else:
            return _(
                "This is Annex Cloud's access token, not the %(kind)s. Enter it under “Access to Annex Cloud”."
            ) % {"kind": kind.label}
    for row in AccessToken.objects.select_related("site").filter(site=site, revoked_at=None).exclude(kind=kind):
        try:
            same = bool(row.sealed_secret) and tokens.reveal(row) == secret
        except tokens.TokenUnusable:
            continue
        if not same:
            continue
        if kind == Kind.ATTENTIVE_LEGACY and row.kind == Kind.ATTENTIVE_APP:
            return _app_key_is_no_legacy_token(site)
        return _("This is the %(other)s, not the %(kind)s. Copy the right one, and enter it here.") % {
            "other": row.get_kind_display(), "kind": kind.label,
        }  # fmt: skip
    return ""


# --- 2 Sign-up source -------------------------------------------------------------------------------------------------


def enter_sign_up_source(site: Site, source_id: str, *, name: str = "", by: Someone = None) -> Check:
    """Make this the site's default sign-up source, and test it as far as that is possible without a side effect."""
    source_id = source_id.strip()
    try:
        SignUpSource._meta.get_field("sign_up_source_id").clean(source_id, None)
    except ValidationError:
        # What was entered is not quoted: it may be a key that belongs elsewhere.
        sentence = _(
            "This is no sign-up source ID: that has digits only. In Attentive open the Subscribers tab and copy the ID "
            "of your sign-up flow from the Sign-up method table (newer screens: Sign-up Units, ID)."
        )
        return note(site, _failed(Task.SIGN_UP_SOURCE, Code.MALFORMED, sentence), by=by)
    with transaction.atomic():
        site.sign_up_sources.filter(is_default=True).exclude(sign_up_source_id=source_id).update(is_default=False)
        fields = {"is_default": True, **({"name": name} if name else {})}
        site.sign_up_sources.update_or_create(sign_up_source_id=source_id, defaults=fields)
        audit.record("site.sign_up_source", site=site, user=by, target=source_id)
    return note(site, _check_source(site), by=by)


def _check_source(site: Site) -> Check:
    source = site.sign_up_sources.filter(is_default=True).first() or site.sign_up_sources.first()
    if source is None:
        return Check(
            Task.SIGN_UP_SOURCE,
            TaskState.TO_DO,
            _(
                "Attentive needs a sign-up source ID. In Attentive open the Subscribers tab and copy the ID of your "
                "sign-up flow (newer screens: Sign-up Units, ID). If there is none, create a sign-up flow."
            ),
            code=Code.MISSING,
        )
    app_key = tokens.token_secret(site, Kind.ATTENTIVE_APP)
    if not app_key:
        words = _("The ID is kept. It is tested as soon as the app key is there.")
        return Check(Task.SIGN_UP_SOURCE, TaskState.TO_DO, words, source.sign_up_source_id, Code.NOT_PROVEN)
    try:
        rate_limit.acquire(*tokens.pace(app_key))
        AttentiveClient(app_key=app_key).get_lists(phone=(site.guest_phones or [_NOBODY])[0])
    except VendorError as error:
        return _of_error(Task.SIGN_UP_SOURCE, error)
    words = _(
        "Attentive answers about subscriptions. Whether the ID is the right one shows when a colleague's phone is "
        "subscribed with it."
    )
    return Check(Task.SIGN_UP_SOURCE, TaskState.PASSED, words, source.sign_up_source_id)


# --- 3 App key --------------------------------------------------------------------------------------------------------


def enter_app_key(site: Site, text: str, *, by: Someone = None) -> Check:
    """Test the key of the client's Attentive app, and keep it unless it is refused.

    A key of another company is kept but does not count until a person says that it is right (`keep_account`).
    """
    result = keep(site, _try_app_key(site, text), by=by)
    if result.passed and site.sign_up_sources.exists():
        note(site, _check_source(site), by=by)
    return result


def _try_app_key(site: Site, text: str) -> Trial:
    secret = text.strip()
    if mixed := mixed_up(site, Kind.ATTENTIVE_APP, secret):
        return Trial(Kind.ATTENTIVE_APP, _failed(Task.ATTENTIVE_APP, Code.MIXED_UP, mixed), secret)
    check, account = _ask_whose_key(site, secret)
    return Trial(Kind.ATTENTIVE_APP, check, secret, account)


def _ask_whose_key(site: Site, secret: str) -> tuple[Check, Account | None]:
    try:
        account = _account_of(secret)
    except VendorError as error:
        failed = _of_error(Task.ATTENTIVE_APP, error)
        if error.status in (401, 403):
            hint = _("%(sentence)s A legacy token does not work here: that one belongs to “Legacy token”.")
            failed = _failed(Task.ATTENTIVE_APP, Code.REFUSED, hint % {"sentence": failed.sentence})
        return failed, None
    if not (account.company_name or account.domain):
        sentence = _(
            "Attentive did not say whose key this is. Test it again; if that stays so, ask Attentive's support."
        )
        return _failed(Task.ATTENTIVE_APP, Code.UNREACHABLE, sentence), None
    words = _in_words(account)
    # A company that a person said is right stays right, whatever its name.
    kept = bool(account.company_id) and (site.company_id, site.company_name) == (
        account.company_id, account.company_name,
    )  # fmt: skip
    if kept or is_same_company(account.company_name, site.client_name):
        return Check(Task.ATTENTIVE_APP, TaskState.PASSED, _("Connected."), words), account
    sentence = _(
        "This key belongs to “%(company)s”, not to “%(site)s”. Check that it was copied from the right Attentive "
        "account. If both are the same client, keep it."
    ) % {"company": account.company_name or account.domain or _("an unnamed company"), "site": site.client_name}
    return Check(Task.ATTENTIVE_APP, TaskState.FAILED, sentence, words, Code.OTHER_CLIENT), account


def _account_of(secret: str) -> Account:
    """Ask Attentive whose app key this is, at the key's pace; raises `VendorError`."""
    rate_limit.acquire(*tokens.pace(secret))
    return AttentiveClient(app_key=secret).me()


def _in_words(account: Account) -> str:
    return _("%(company)s (%(domain)s), app %(app)s") % {
        "company": account.company_name or _("an unnamed company"),
        "domain": account.domain or "–",
        "app": account.application_name or "–",
    }


def _remember(site: Site, account: Account) -> None:
    site.company_name, site.company_domain = account.company_name[:200], account.domain[:200]
    site.company_id = account.company_id[:100]
    site.save(update_fields=["company_name", "company_domain", "company_id"])


def is_same_company(company: str, client: str) -> bool:
    """Tell whether two names may mean the same client: one contains the other, letters and digits alone."""
    ours, theirs = (_plain(name) for name in (client, company))
    return bool(ours and theirs) and (ours in theirs or theirs in ours)


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKD", name).casefold()
    return re.sub(r"[\W_]", "", "".join(char for char in folded if not unicodedata.combining(char)))


def keep_account(site: Site, *, by: Someone = None) -> Check:
    """A person says that the key of another company name is right; the company is remembered."""
    secret = tokens.token_secret(site, Kind.ATTENTIVE_APP)
    if not secret:
        raise ActivationRefused(_("There is no app key to keep. Enter it first."))
    try:
        account = _account_of(secret)
    except VendorError as error:
        return note(site, _of_error(Task.ATTENTIVE_APP, error), by=by)
    _remember(site, account)
    audit.record("site.account_kept", site=site, user=by, target=account.company_name)
    result = note(site, Check(Task.ATTENTIVE_APP, TaskState.PASSED, _("Connected."), _in_words(account)), by=by)
    if site.sign_up_sources.exists():
        note(site, _check_source(site), by=by)
    return result


# --- Legacy token ----------------------------------------------------------------------------------------------------


def enter_legacy_token(site: Site, text: str, *, by: Someone = None) -> Check:
    """Keep the legacy token; only a text to a phone can prove it. The key of an app is recognised and refused."""
    return keep(site, _try_legacy_token(site, text), by=by)


def _try_legacy_token(site: Site, text: str) -> Trial:
    secret = text.strip()
    sentence = mixed_up(site, Kind.ATTENTIVE_LEGACY, secret) or _is_an_app_key(site, secret)
    check = _failed(Task.ATTENTIVE_LEGACY, Code.MIXED_UP, sentence) if sentence else _not_proven()
    return Trial(Kind.ATTENTIVE_LEGACY, check, secret)


def _not_proven() -> Check:
    words = _("The token is kept. Send a test text to a guest phone: nothing else proves a legacy token.")
    return Check(Task.ATTENTIVE_LEGACY, TaskState.TO_DO, words, code=Code.NOT_PROVEN)


def _is_an_app_key(site: Site, secret: str) -> str:
    try:
        _account_of(secret)
    except VendorError:
        return ""
    return _app_key_is_no_legacy_token(site)


def _app_key_is_no_legacy_token(site: Site) -> str:
    return _(
        "This is the key of an app, and messages need a legacy token. Write to %(mail)s, ask for a legacy token for "
        "%(client)s, and enter it here."
    ) % {"mail": LEGACY_TEAM, "client": site.client_name}


def _check_legacy(site: Site) -> Check:
    secret = tokens.token_secret(site, Kind.ATTENTIVE_LEGACY)
    if not secret:
        words = _("Messages need a legacy token. Write to %(mail)s and ask for one.") % {"mail": LEGACY_TEAM}
        return Check(Task.ATTENTIVE_LEGACY, TaskState.TO_DO, words, code=Code.MISSING)
    before = stored(site, Task.ATTENTIVE_LEGACY, there=True)
    return before if before.state != TaskState.TO_DO else _not_proven()


# --- Webhook signing key ----------------------------------------------------------------------------------------------


def _try_webhook_key(site: Site, text: str) -> Trial:
    """Only a request that comes in can prove this one; a token that belongs elsewhere is recognised."""
    secret, kind = text.strip(), Kind.WEBHOOK_SIGNING
    if not secret:
        sentence = _("The signing key is empty. Copy it from the webhook's page in Attentive.")
        return Trial(kind, Check(kind, TaskState.FAILED, sentence, code=Code.MALFORMED), secret)
    if mixed := mixed_up(site, kind, secret):
        return Trial(kind, Check(kind, TaskState.FAILED, mixed, code=Code.MIXED_UP), secret)
    words = _("The signing key is kept. The first webhook that it signs proves it.")
    return Trial(kind, Check(kind, TaskState.TO_DO, words, code=Code.NOT_PROVEN), secret)


# --- Testing again ----------------------------------------------------------------------------------------------------


def test_again(site: Site, task: Task, *, by: Someone = None) -> Check:
    """Test the stored value of one task (not GUESTS), and keep the result."""
    try:
        return _test_stored(site, task, by=by)
    except tokens.TokenUnusable as error:
        return note(site, _failed(task, Code.MISSING, str(error)), by=by)


def _test_stored(site: Site, task: Task, *, by: Someone) -> Check:
    if task == Task.SIGN_UP_SOURCE:
        return note(site, _check_source(site), by=by)
    if task == Task.ATTENTIVE_LEGACY:
        kept = (site.checks.get(task) or {}).get("texted_at")
        return note(site, _check_legacy(site), by=by, **({"texted_at": kept} if kept else {}))
    kind = Kind(task)
    secret = tokens.token_secret(site, kind)
    if not secret:
        words = _("There is no %(kind)s yet. Enter it here.") % {"kind": kind.label}
        return note(site, Check(task, TaskState.TO_DO, words, code=Code.MISSING), by=by)
    return note(site, _used(site, kind, _ask(site, kind, secret)), by=by)


def _ask(site: Site, kind: Kind, secret: str) -> Check:
    return _ask_annex_cloud(site, secret) if kind == Kind.LOYALTY else _ask_whose_key(site, secret)[0]


def test_next(site: Site, kind: str, *, by: Someone = None) -> Check:
    """Test the token that waits in the NEXT slot, without using it for anything else; raises `ActivationRefused`.

    Only a text can prove a legacy token, and only a request that comes in can prove an inbound key; for these the
    sentence says so.
    """
    row = tokens.active(site, kind, AccessToken.Slot.NEXT)
    if row is None:
        raise ActivationRefused(_("There is no next token to test. Add it first."))
    secret = tokens.reveal(row)
    if sentence := mixed_up(site, Kind(kind), secret):
        check = Check(kind, TaskState.FAILED, sentence, code=Code.MIXED_UP)
    elif kind in (Kind.LOYALTY, Kind.ATTENTIVE_APP):
        check = _ask(site, Kind(kind), secret)
    elif kind == Kind.ATTENTIVE_LEGACY and (sentence := _is_an_app_key(site, secret)):
        check = Check(kind, TaskState.FAILED, sentence, code=Code.MIXED_UP)
    else:
        words = _("Nothing speaks against it. It is proven when it is used: promote it, and roll back if it fails.")
        check = Check(kind, TaskState.TO_DO, words, code=Code.NOT_PROVEN)
    AccessToken.objects.filter(pk=row.pk).update(last_used_at=timezone.now(), last_result=check.sentence[:300])
    audit.record("token.tested", site=site, user=by, target=row.get_kind_display(), new=str(check.state))
    return check

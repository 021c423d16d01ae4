"""A client site, who may work on it, its tokens and its sign-up sources."""

import uuid
import zoneinfo
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from attentive_integration.secrets import seal, unseal

from .scope import SiteScopedQuerySet


def default_quiet_hours() -> dict[str, str]:
    """No text between these times of the recipient's day; state windows narrow it further."""
    return {"start": "20:00", "end": "09:00"}


def default_caps() -> list[dict[str, int]]:
    """At most one text in 8 hours and three in 24 hours per member, over all campaigns."""
    return [{"hours": 8, "messages": 1}, {"hours": 24, "messages": 3}]


def default_countries() -> list[str]:
    """Attentive texts the United States, Canada and the United Kingdom."""
    return ["US", "CA", "GB"]


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(
            _("“%(name)s” is not a time zone. Use a name such as America/New_York."), params={"name": name}
        )


class Site(models.Model):
    """One client's loyalty program, connected (or being connected) to one Attentive account.

    DRAFT → TEST → LIVE ⇄ PAUSED. In TEST only `guest_phones` are texted; a DRAFT site texts nobody.
    """

    class State(models.TextChoices):
        DRAFT = "DRAFT", _("Draft")
        TEST = "TEST", _("Test mode")
        LIVE = "LIVE", _("Live")
        PAUSED = "PAUSED", _("Paused")

    class MessagePath(models.TextChoices):
        LEGACY = "/1/messages", _("/1/messages (transactional messages)")
        SUBSCRIPTIONS = "/v1/subscriptions/messages", _("/v1/subscriptions/messages (integration document)")

    site_path = ""

    client_name = models.CharField(_("client name"), max_length=200)
    site_id = models.CharField(
        _("site ID"),
        max_length=64,
        unique=True,
        help_text=_("Annex Cloud's number for this client."),
        validators=[RegexValidator(r"^[A-Za-z0-9_.-]+$", _("A site ID has letters, digits, “_”, “.” and “-” only."))],
    )
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.DRAFT)
    # When the site left DRAFT: what members did before is never texted.
    activated_at = models.DateTimeField(null=True, blank=True, editable=False)
    company_name = models.CharField(_("company at Attentive"), max_length=200, blank=True)
    company_domain = models.CharField(_("domain at Attentive"), max_length=200, blank=True)
    company_id = models.CharField(_("company ID at Attentive"), max_length=100, blank=True)
    default_country = models.CharField(_("default country"), max_length=2, default="US")
    allowed_countries = models.JSONField(_("allowed countries"), default=default_countries)
    time_zone = models.CharField(
        _("time zone"), max_length=64, default="America/New_York", validators=[validate_time_zone]
    )
    # {"start": "20:00", "end": "09:00"} in the recipient's time; null = no quiet hours at all, state windows included.
    quiet_hours = models.JSONField(_("quiet hours"), null=True, blank=True, default=default_quiet_hours)
    # [{"hours": 8, "messages": 1}, …]; an empty list = no caps.
    caps = models.JSONField(_("frequency caps"), blank=True, default=default_caps)
    message_path = models.CharField(
        _("message path"), max_length=40, choices=MessagePath.choices, default=MessagePath.LEGACY
    )
    guest_phones = models.JSONField(_("guest phones"), default=list, blank=True)
    sms_prefix = models.CharField(
        _("SMS prefix"), max_length=60, blank=True, help_text=_("What Attentive puts before every text.")
    )
    subscribe_email = models.BooleanField(
        _("send the e-mail too when subscribing"),
        default=False,
        help_text=_("Off: a subscription is asked for the phone alone."),
    )
    # Staff's pause of the subscribe queue alone: texts go on, nobody is asked.
    asking_paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    legacy_token_requested_at = models.DateTimeField(null=True, blank=True)
    legacy_token_requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    last_check_at = models.DateTimeField(null=True, blank=True, editable=False)
    # When a signed webhook was last heard, to the minute; silence means that opt-outs may be missed.
    last_webhook_at = models.DateTimeField(null=True, blank=True, editable=False)
    # {"LOYALTY": {"state": "PASSED" | "FAILED", "at": "…", "sentence": "…", "account": "…"}, …}
    checks = models.JSONField(default=dict, blank=True, editable=False)
    notes = models.TextField(_("notes"), blank=True)
    sealed_suppression_key = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("site")
        verbose_name_plural = _("sites")
        ordering: ClassVar = ["client_name", "pk"]
        permissions: ClassVar = [
            ("activate_site", gettext_noop("Can activate, pause and take sites live")),
            ("view_pii", gettext_noop("Can see whole phones and e-mail addresses")),
            ("import_subscribers", gettext_noop("Can import a list of subscribers exported from Attentive")),
        ]

    def __str__(self) -> str:
        return f"{self.client_name} ({self.site_id})"


class SiteMembership(models.Model):
    """A user's role on a site; without one the site does not exist for that user."""

    class Role(models.TextChoices):
        SUPPORT = "SUPPORT", _("Support")
        MANAGER = "MANAGER", _("Integration manager")
        DEVELOPER = "DEVELOPER", _("Developer")
        ADMIN = "ADMIN", _("Admin")

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="site_memberships")
    site = models.ForeignKey(Site, models.CASCADE, related_name="memberships")
    role = models.CharField(_("role"), max_length=10, choices=Role.choices, default=Role.SUPPORT)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("role")
        verbose_name_plural = _("roles")
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "site"], name="one_role_per_user_and_site")]

    def __str__(self) -> str:
        return f"{self.user} · {self.site} · {self.get_role_display()}"


class AccessToken(models.Model):
    """A secret of a site. It can be set and used, and never read again in any page.

    The Annex Cloud access token is not stored: it is computed from the LOYALTY token and the site ID. INGEST keys are
    ours; only their hash is stored. Inbound kinds (LOYALTY, WEBHOOK_SIGNING, INGEST) are accepted in both slots.
    """

    class Kind(models.TextChoices):
        LOYALTY = "LOYALTY", _("Annex Cloud loyalty token")
        ATTENTIVE_APP = "ATTENTIVE_APP", _("Attentive app key")
        ATTENTIVE_LEGACY = "ATTENTIVE_LEGACY", _("Attentive legacy token")
        WEBHOOK_SIGNING = "WEBHOOK_SIGNING", _("Attentive webhook signing key")
        INGEST = "INGEST", _("Ingest key")

    class Slot(models.TextChoices):
        CURRENT = "CURRENT", _("Current")
        NEXT = "NEXT", _("Next")

    site = models.ForeignKey(Site, models.CASCADE, related_name="access_tokens")
    kind = models.CharField(_("kind"), max_length=20, choices=Kind.choices)
    slot = models.CharField(_("slot"), max_length=8, choices=Slot.choices, default=Slot.CURRENT)
    sealed_secret = models.TextField(blank=True, editable=False)
    secret_hash = models.CharField(max_length=64, blank=True, editable=False, db_index=True)
    last_four = models.CharField(max_length=4, blank=True, editable=False)
    set_at = models.DateTimeField(editable=False)
    set_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_result = models.CharField(max_length=300, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["site", "kind", "slot"],
                condition=models.Q(revoked_at=None),
                name="one_token_per_site_kind_and_slot",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ····{self.last_four}"

    def _context(self) -> str:
        return f"site:{self.site.uuid}:{self.kind}"

    def store(self, secret: str) -> None:
        """Seal the secret into this row (unsaved) and remember its last four characters."""
        self.sealed_secret = seal(secret, context=self._context())
        self.last_four = secret[-4:] if len(secret) >= 12 else ""

    def reveal(self) -> str:
        """Return the secret for a call to the vendor; raises `SecretUnreadable`."""
        return unseal(self.sealed_secret, context=self._context())


class SignUpSource(models.Model):
    """A sign-up flow made in Attentive (Subscribers tab; newer screens: Sign-up Units → ID)."""

    class Type(models.TextChoices):
        MARKETING = "MARKETING", _("Marketing")
        TRANSACTIONAL = "TRANSACTIONAL", _("Transactional")

    site = models.ForeignKey(Site, models.CASCADE, related_name="sign_up_sources")
    sign_up_source_id = models.CharField(
        _("sign-up source ID"),
        max_length=40,
        validators=[RegexValidator(r"^[0-9]+$", _("A sign-up source ID has digits only."))],
    )
    name = models.CharField(_("name"), max_length=200, blank=True)
    type = models.CharField(_("type"), max_length=15, choices=Type.choices, default=Type.MARKETING)
    is_default = models.BooleanField(_("default"), default=False)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "sign_up_source_id"], name="sign_up_source_once_per_site"),
            models.UniqueConstraint(
                fields=["site"], condition=models.Q(is_default=True), name="one_default_sign_up_source_per_site"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.sign_up_source_id} {self.name}".strip()


class ClientLink(models.Model):
    """A link by which the client, who has no account, enters keys of its site. Only its token's hash is kept.

    It works until it expires, until everything asked for is given or the client says so, or until staff end it. A
    site has one at a time.
    """

    class Key(models.TextChoices):
        """What can be asked for; named as in `AccessToken.Kind`, beside which the sign-up source is no secret."""

        LOYALTY = "LOYALTY", _("Access to Annex Cloud")
        ATTENTIVE_APP = "ATTENTIVE_APP", _("Attentive app key")
        SIGN_UP_SOURCE = "SIGN_UP_SOURCE", _("Sign-up source ID")
        WEBHOOK_SIGNING = "WEBHOOK_SIGNING", _("Attentive webhook signing key")
        ATTENTIVE_LEGACY = "ATTENTIVE_LEGACY", _("Attentive legacy token")

    class Outcome(models.TextChoices):
        """How an entered key stands. TO_CONFIRM: it is stored, and the client may still enter another one."""

        GIVEN = "GIVEN", _("Given")
        TO_CONFIRM = "TO_CONFIRM", _("Kept, to be confirmed")
        REFUSED = "REFUSED", _("Refused")

    class End(models.TextChoices):
        FINISHED = "FINISHED", _("Finished")
        WITHDRAWN = "WITHDRAWN", _("Withdrawn")
        REPLACED = "REPLACED", _("Replaced by a new link")

    MOST_ATTEMPTS = 100

    site = models.ForeignKey(Site, models.CASCADE, related_name="client_links")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    # Values of Key.
    asked = models.JSONField(default=list)
    # {"ATTENTIVE_APP": {"outcome": "GIVEN", "at": "…", "sentence": "…", "account": "…", "code": "", "slot": "CURRENT",
    # "token": 7}, …}: what was entered last; `token` is the stored row's number.
    entered = models.JSONField(default=dict)
    # Keys that were entered, the refused ones included: nobody may try keys at the vendors without end.
    attempts = models.PositiveIntegerField(default=0)
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    made_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end = models.CharField(max_length=10, choices=End.choices, blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["site"], condition=models.Q(ended_at=None), name="one_client_link_per_site_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.site} · {self.made_at:%Y-%m-%d}"

    @property
    def is_open(self) -> bool:
        """Whether keys can be entered now."""
        return not self.is_over and self.attempts < self.MOST_ATTEMPTS

    @property
    def is_over(self) -> bool:
        """Whether somebody ended the link, or its time is up."""
        return self.ended_at is not None or self.expires_at <= timezone.now()

    def outcome(self, key: str) -> str:
        """Return how a key stands, an Outcome; empty while nothing was entered."""
        return str((self.entered.get(key) or {}).get("outcome", ""))

    @property
    def is_complete(self) -> bool:
        """Whether everything that was asked for is given."""
        return all(self.outcome(key) == self.Outcome.GIVEN for key in self.asked)


class Breaker(models.Model):
    """Holds the calls made with one kind of token of one site, after refusals of the token or repeated failures.

    While open, rows wait (HELD) and one call each five minutes probes whether the vendor answers again.
    """

    site = models.ForeignKey(Site, models.CASCADE, related_name="breakers")
    token_kind = models.CharField(max_length=20, choices=AccessToken.Kind.choices)
    opened_at = models.DateTimeField(null=True, blank=True)
    sentence = models.TextField(blank=True)
    failures = models.PositiveIntegerField(default=0)
    probe_at = models.DateTimeField(null=True, blank=True)
    alerted_at = models.DateTimeField(null=True, blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "token_kind"], name="one_breaker_per_site_and_token_kind")
        ]

    def __str__(self) -> str:
        return f"{self.site} · {self.get_token_kind_display()}"


class SendingStop(models.Model):
    """Staff's emergency brake: while it stands, nothing is sent and nobody is asked, for one site or for all.

    An ended stop stays as a record. `site` empty means every site.
    """

    site = models.ForeignKey(Site, models.CASCADE, null=True, blank=True, related_name="sending_stops")
    note = models.CharField(_("why"), max_length=300, blank=True)
    stopped_at = models.DateTimeField(auto_now_add=True)
    stopped_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["site"], condition=models.Q(ended_at=None), name="one_stop_per_site_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return str(self.site) if self.site_id else str(_("All sites"))


class AuditEntry(models.Model):
    """Who did what, append-only. Secrets are recorded as "changed", never by value."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    site = models.ForeignKey(Site, models.SET_NULL, null=True, blank=True, related_name="audit_entries")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    # The person or command in words, which survives the deletion of the user.
    actor = models.CharField(max_length=150, blank=True)
    event = models.CharField(max_length=60)
    target = models.CharField(max_length=200, blank=True)
    old = models.JSONField(null=True, blank=True)
    new = models.JSONField(null=True, blank=True)
    source_ip = models.GenericIPAddressField(null=True, blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-at", "-pk"]
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        indexes: ClassVar = [
            # What the page filters by and searches for.
            models.Index(fields=["event", "-at"], name="audit_event"),
            models.Index(fields=["actor", "-at"], name="audit_actor"),
            models.Index(fields=["target"], name="audit_target", opclasses=["varchar_pattern_ops"]),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.target}".strip()

"""Members of a loyalty program, and the consent of addresses."""

from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .scope import SiteScopedQuerySet
from .sites import Site

# What stands before our own number where an erased person had their phone.
ERASED_MARK = "#"


class MemberQuerySet(SiteScopedQuerySet):
    def people(self) -> Self:
        """Leave out the empty rows of erased people."""
        return self.exclude(phone__startswith=ERASED_MARK)


class Member(models.Model):
    """A member of a site's loyalty program; the mobile number is the identity."""

    class OptInStatus(models.TextChoices):
        YES = "YES", _("Yes")
        NO = "NO", _("No")

    # The unique constraints below lead with the site, so the key needs no index of its own.
    site = models.ForeignKey(Site, models.CASCADE, related_name="members", db_index=False)
    phone = models.CharField(_("phone"), max_length=16, help_text=_("E.164, for instance +17705550101"))
    email = models.CharField(_("e-mail"), max_length=254, blank=True)
    external_id = models.CharField(_("loyalty ID"), max_length=128, blank=True)
    first_name = models.CharField(_("first name"), max_length=100, blank=True)
    last_name = models.CharField(_("last name"), max_length=100, blank=True)
    tier = models.CharField(_("tier"), max_length=60, blank=True)
    points = models.BigIntegerField(_("points"), null=True, blank=True)
    birth_date = models.DateField(_("birth date"), null=True, blank=True)
    # The loyalty program's opt-in: a fact for rules. Only SMS consent decides whether a text may be sent.
    opt_in_status = models.CharField(_("loyalty opt-in"), max_length=3, choices=OptInStatus.choices, blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, blank=True)
    state = models.CharField(_("state of residence"), max_length=2, blank=True)
    extended_attributes = models.JSONField(_("extended attributes"), default=dict, blank=True)
    joined_at = models.DateTimeField(_("joined"), default=timezone.now)
    replaced_by = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="replaces")
    # Whoever inserts a member of an import holds the job locked. Checking it again for each row would only cost time.
    created_by_import = models.ForeignKey(
        "loyalty.ImportJob", models.SET_NULL, null=True, blank=True, related_name="created_members",
        db_constraint=False,
    )  # fmt: skip
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now)

    objects = MemberQuerySet.as_manager()

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "phone"], name="one_member_per_site_and_phone")
        ]
        indexes: ClassVar = [
            # Search by one identifier, whatever the site.
            models.Index(fields=["phone"], name="member_phone"),
            models.Index(fields=["email"], name="member_email", condition=~models.Q(email="")),
            models.Index(fields=["external_id"], name="member_external_id", condition=~models.Q(external_id="")),
            # The member list of a site, newest first, and its tier filter.
            models.Index(fields=["site", "-id"], name="member_site_newest"),
            models.Index(fields=["site", "tier"], name="member_site_tier"),
            # Search by the beginning of a name; these classes of operators serve LIKE 'Ada%' in any collation.
            models.Index(fields=["last_name"], name="member_last_name", opclasses=["varchar_pattern_ops"]),
            models.Index(fields=["first_name"], name="member_first_name", opclasses=["varchar_pattern_ops"]),
        ]

    def __str__(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or f"#{self.pk}"

    @property
    def is_erased(self) -> bool:
        """Whether this is the empty row of an erased person, which stays because the message log points to it."""
        return self.phone.startswith(ERASED_MARK)


class Consent(models.Model):
    """Whether an address of a site may be texted or mailed; written only by `loyalty/consent.py`.

    UNKNOWN → TO_ASK → REQUESTED → SUBSCRIBED → UNSUBSCRIBED, and BLOCKED, ERASED. Opt-out wins: an older event never
    overwrites a newer one, a tie goes to the opt-out. The address need not be a member's: a STOP from a number that
    was never imported is kept. ERASED rows hold a keyed hash instead of the address.
    """

    class Channel(models.TextChoices):
        TEXT = "TEXT", _("Text")
        EMAIL = "EMAIL", _("E-mail")

    class State(models.TextChoices):
        UNKNOWN = "UNKNOWN", _("Unknown")
        TO_ASK = "TO_ASK", _("To ask")
        REQUESTED = "REQUESTED", _("Requested")
        SUBSCRIBED = "SUBSCRIBED", _("Subscribed")
        UNSUBSCRIBED = "UNSUBSCRIBED", _("Unsubscribed")
        BLOCKED = "BLOCKED", _("Blocked")
        ERASED = "ERASED", _("Erased")

    site = models.ForeignKey(Site, models.CASCADE, related_name="consents", db_index=False)
    channel = models.CharField(_("channel"), max_length=5, choices=Channel.choices, default=Channel.TEXT)
    address = models.CharField(_("address"), max_length=254)
    state = models.CharField(_("state"), max_length=12, choices=State.choices, default=State.UNKNOWN)
    # When the person opted in or out, by the clock of whoever saw it; null = not known, and then any dated fact wins.
    event_at = models.DateTimeField(null=True, blank=True)
    # When a subscription was asked for, when eligibility was last read, and who is working on the row until when.
    requested_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    fence = models.PositiveIntegerField(default=0)
    detail = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("address")
        verbose_name_plural = _("addresses")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "channel", "address"], name="one_consent_per_site_channel_address")
        ]
        indexes: ClassVar = [
            # The subscribe queue, oldest first; it is counted by its index alone.
            models.Index(
                fields=["site", "id"],
                name="consent_text_to_ask",
                condition=models.Q(channel="TEXT", state="TO_ASK"),
            ),
            # Of these, who is asked again later, soonest first.
            models.Index(
                fields=["site", "due_at"], name="consent_tried_again", condition=models.Q(due_at__isnull=False)
            ),
            models.Index(
                fields=["site", "checked_at"], name="consent_requested", condition=models.Q(state="REQUESTED")
            ),
            # The consent list of a site, newest first, and its state filter.
            models.Index(fields=["site", "-id"], name="consent_site_newest"),
            models.Index(fields=["site", "state", "-id"], name="consent_site_state"),
            # An opt-out "everywhere" looks the address up over all sites.
            models.Index(fields=["address"], name="consent_address"),
        ]

    def __str__(self) -> str:
        return f"{self.get_channel_display()}: {self.get_state_display()}"


class ConsentEvent(models.Model):
    """One line of the consent ledger, append-only: also what was heard and did not change the state."""

    class Source(models.TextChoices):
        WEBHOOK = "WEBHOOK", _("Attentive webhook")
        ELIGIBILITY = "ELIGIBILITY", _("Eligibility at Attentive")
        SUBSCRIBE_CALL = "SUBSCRIBE_CALL", _("Subscription asked for")
        UNSUBSCRIBE_CALL = "UNSUBSCRIBE_CALL", _("Unsubscribed at Attentive")
        SUBSCRIBER_LIST = "SUBSCRIBER_LIST", _("List exported from Attentive")
        IMPORT = "IMPORT", _("Member import")
        API = "API", _("API")
        STAFF = "STAFF", _("Staff")
        ERASURE = "ERASURE", _("Erasure")

    site_path = "consent__site"

    consent = models.ForeignKey(Consent, models.CASCADE, related_name="events")
    from_state = models.CharField(max_length=12, choices=Consent.State.choices)
    to_state = models.CharField(max_length=12, choices=Consent.State.choices)
    # The state that the fact claimed, where it did not become the row's: an older opt-in, a STOP of a blocked person.
    heard = models.CharField(max_length=12, choices=Consent.State.choices, blank=True)
    source = models.CharField(max_length=20, choices=Source.choices)
    event_at = models.DateTimeField(null=True, blank=True)
    recorded_at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    evidence = models.TextField(blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["recorded_at", "pk"]

    def __str__(self) -> str:
        return f"{self.from_state} → {self.to_state}"

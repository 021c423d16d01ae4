"""Campaigns, and the messages they become."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from loyalty.models import ActionType, LoyaltyAction, Member, Segment, Site
from loyalty.models.scope import SiteScopedQuerySet


class Campaign(models.Model):
    """Turns one kind of action into a text. DRAFT → REVIEW → LIVE ⇄ PAUSED.

    What is sent stands in `CampaignVersion`; an edit makes a new version, and a message keeps the one it was made from.
    """

    class State(models.TextChoices):
        DRAFT = "DRAFT", _("Draft")
        REVIEW = "REVIEW", _("In review")
        LIVE = "LIVE", _("Live")
        PAUSED = "PAUSED", _("Paused")

    class Route(models.TextChoices):
        MESSAGE = "MESSAGE", _("Text by the messages API (legacy token)")
        EVENT = "EVENT", _("Custom event that starts an Attentive journey (app key)")

    class QuietPolicy(models.TextChoices):
        DELAY = "DELAY", _("Wait until quiet hours end")
        CANCEL = "CANCEL", _("Do not send")

    site = models.ForeignKey(Site, models.CASCADE, related_name="campaigns")
    name = models.CharField(_("name"), max_length=200)
    action_type = models.ForeignKey(ActionType, models.PROTECT, related_name="campaigns", verbose_name=_("action"))
    segment = models.ForeignKey(Segment, models.PROTECT, null=True, blank=True, related_name="campaigns")
    route = models.CharField(_("route"), max_length=7, choices=Route.choices, default=Route.MESSAGE)
    state = models.CharField(_("state"), max_length=6, choices=State.choices, default=State.DRAFT)
    went_live_at = models.DateTimeField(null=True, blank=True, editable=False)
    starts_at = models.DateTimeField(_("starts"), null=True, blank=True)
    ends_at = models.DateTimeField(_("ends"), null=True, blank=True)
    expiry_hours = models.PositiveIntegerField(_("expires after (hours)"), default=72)
    quiet_policy = models.CharField(
        _("in quiet hours"), max_length=6, choices=QuietPolicy.choices, default=QuietPolicy.DELAY
    )
    priority = models.PositiveSmallIntegerField(
        _("priority"), default=0, help_text=_("Its texts overtake what has waited this many minutes.")
    )
    # A shadow campaign runs on live actions and sends nothing: its messages show what would have been sent.
    is_shadow = models.BooleanField(
        _("shadow"), default=False, help_text=_("Runs on live actions, shows the texts, and sends nothing.")
    )
    # A canary texts its first recipients and waits for their reaction before it goes on by itself.
    canary_size = models.PositiveSmallIntegerField(
        _("first recipients"), default=0, help_text=_("Texts so many first, and goes on only if all is well. 0 = off.")
    )
    canary_passed_at = models.DateTimeField(null=True, blank=True, editable=False)
    version = models.ForeignKey(
        "CampaignVersion", models.PROTECT, null=True, blank=True, related_name="+", editable=False
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "name"], name="one_campaign_per_site_and_name")
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.starts_at and self.ends_at and self.ends_at <= self.starts_at:
            raise ValidationError({"ends_at": _("The end must come after the start.")})
        if self.expiry_hours == 0:
            raise ValidationError({"expiry_hours": _("A text needs at least one hour to leave.")})


class CampaignVersion(models.Model):
    """What a campaign says, as it stood at one time; never edited."""

    site_path = "campaign__site"

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    body = models.TextField(_("text"), blank=True)
    link = models.URLField(_("link"), max_length=1024, blank=True)
    media_url = models.URLField(_("picture"), max_length=1024, blank=True)
    # The custom event's type on the EVENT route.
    event_type = models.CharField(_("event type"), max_length=100, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["campaign", "number"], name="one_version_per_campaign_and_number")
        ]

    def __str__(self) -> str:
        return f"v{self.number}"


class Message(models.Model):
    """One text to one member for one action: the outbox and the log in one.

    QUEUED → CLAIMED → SENDING → ACCEPTED | REFUSED | UNKNOWN; QUEUED or HELD → SKIPPED | EXPIRED | CANCELLED.
    CLAIMED falls back to QUEUED when its lease runs out, SENDING becomes UNKNOWN. ACCEPTED means that Attentive took
    it, not that a phone showed it. UNKNOWN is never retried by itself.
    """

    class State(models.TextChoices):
        QUEUED = "QUEUED", _("Queued")
        HELD = "HELD", _("Held")
        CLAIMED = "CLAIMED", _("Claimed")
        SENDING = "SENDING", _("Sending")
        ACCEPTED = "ACCEPTED", _("Accepted")
        REFUSED = "REFUSED", _("Refused")
        SKIPPED = "SKIPPED", _("Skipped")
        EXPIRED = "EXPIRED", _("Expired")
        UNKNOWN = "UNKNOWN", _("Not known")
        CANCELLED = "CANCELLED", _("Cancelled")

    site = models.ForeignKey(Site, models.CASCADE, related_name="messages", db_index=False)
    member = models.ForeignKey(Member, models.CASCADE, related_name="messages", db_index=False)
    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="messages", db_index=False)
    version = models.ForeignKey(CampaignVersion, models.PROTECT, related_name="messages", db_index=False)
    action = models.ForeignKey(LoyaltyAction, models.PROTECT, related_name="messages")
    to = models.CharField(_("to"), max_length=16)
    body = models.TextField(_("text"), blank=True)
    # On the EVENT route: the id that Attentive may use to tell a repeat.
    external_event_id = models.UUIDField(default=uuid.uuid4, editable=False)
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.QUEUED)
    # Why: a code in UPPER_CASE, explained to staff by `messaging/reasons.py`.
    reason = models.CharField(_("reason"), max_length=40, blank=True)
    due_at = models.DateTimeField(_("due"))
    expires_at = models.DateTimeField(_("expires"))
    lease_until = models.DateTimeField(null=True, blank=True)
    fence = models.PositiveIntegerField(default=0)
    attempt_count = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(_("created"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now)
    # When a call began that may have reached the person; caps count it.
    sent_at = models.DateTimeField(null=True, blank=True)
    # Who asked for the next attempt, when it is a person's decision to send again.
    resent_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    # A verified `sms.sent` webhook upgrades ACCEPTED and resolves UNKNOWN.
    confirmed_at = models.DateTimeField(null=True, blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["campaign", "action"], name="one_message_per_campaign_and_action"),
            models.CheckConstraint(
                condition=~models.Q(state__in=["CLAIMED", "SENDING"]) | models.Q(lease_until__isnull=False),
                name="work_has_a_lease",
            ),
        ]
        indexes: ClassVar = [
            # What is due, per site, oldest first.
            models.Index(fields=["site", "due_at"], name="message_due", condition=models.Q(state="QUEUED")),
            # SQLite uses a partial index where its condition follows from the query; from a list of states none does.
            models.Index(fields=["lease_until"], name="message_lease", condition=models.Q(lease_until__isnull=False)),
            models.Index(fields=["site", "reason"], name="message_held", condition=models.Q(state="HELD")),
            models.Index(fields=["expires_at"], name="message_queued_expiring", condition=models.Q(state="QUEUED")),
            models.Index(fields=["expires_at"], name="message_held_expiring", condition=models.Q(state="HELD")),
            # What is tried again, soonest first.
            models.Index(
                fields=["due_at"], name="message_retried", condition=models.Q(state="QUEUED", attempt_count__gt=0)
            ),
            models.Index(fields=["site"], name="message_unknown", condition=models.Q(state="UNKNOWN")),
            # The log, newest first; a person's texts; caps; the sms.sent webhook.
            models.Index(fields=["site", "-created_at"], name="message_site_newest"),
            models.Index(fields=["member", "-created_at"], name="message_of_member"),
            models.Index(fields=["site", "to", "-sent_at"], name="message_to"),
            models.Index(fields=["site", "state", "-created_at"], name="message_site_state"),
            models.Index(fields=["site", "campaign", "state", "-created_at"], name="message_site_campaign"),
            models.Index(
                fields=["site", "reason", "state", "-created_at"],
                name="message_site_reason",
                condition=~models.Q(reason=""),
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.pk}"


class SendAttempt(models.Model):
    """One call to Attentive for a message; committed before the request leaves."""

    class Outcome(models.TextChoices):
        OPEN = "OPEN", pgettext_lazy("attempt", "Open")
        ACCEPTED = "ACCEPTED", _("Accepted")
        REFUSED = "REFUSED", _("Refused")
        RETRY = "RETRY", _("Not sent, tried again later")
        UNKNOWN = "UNKNOWN", _("Not known")

    site_path = "message__site"

    message = models.ForeignKey(Message, models.CASCADE, related_name="attempts", db_index=False)
    number = models.PositiveSmallIntegerField()
    fence = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    # When the request left: at its slot, a moment after the attempt was committed. Empty when it never did.
    called_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=8, choices=Outcome.choices, default=Outcome.OPEN)
    cause = models.CharField(max_length=40, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    duration_ms = models.PositiveIntegerField(null=True, blank=True)
    answer = models.TextField(blank=True)
    resent_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["message", "number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["message", "number"], name="one_attempt_per_message_and_number")
        ]

    def __str__(self) -> str:
        return f"{self.message_id}/{self.number}"


class WebhookEvent(models.Model):
    """A request that Attentive signed, stored before it is answered; the same bytes are stored once per site."""

    class State(models.TextChoices):
        RECEIVED = "RECEIVED", _("Received")
        DONE = "DONE", _("Done")
        IGNORED = "IGNORED", _("Ignored")
        FAILED = "FAILED", _("Failed")

    site = models.ForeignKey(Site, models.CASCADE, related_name="webhook_events", db_index=False)
    digest = models.CharField(max_length=64)
    body = models.TextField()
    type = models.CharField(max_length=80, blank=True)
    event_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.RECEIVED)
    error = models.TextField(blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        ordering: ClassVar = ["-received_at", "-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "digest"], name="webhook_once_per_site_and_bytes")
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], name="webhook_unprocessed", condition=models.Q(state="RECEIVED")),
            models.Index(fields=["site", "-received_at"], name="webhook_site_newest"),
            models.Index(fields=["site", "state", "-received_at"], name="webhook_site_state"),
        ]

    def __str__(self) -> str:
        return f"{self.type} #{self.pk}"

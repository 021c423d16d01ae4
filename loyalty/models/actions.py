"""What members do in the loyalty program."""

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .members import Member
from .scope import SiteScopedQuerySet
from .sites import Site


class ActionType(models.Model):
    """A kind of action of one site; Annex Cloud's action ids are configured per site."""

    site = models.ForeignKey(Site, models.CASCADE, related_name="action_types", db_index=False)
    code = models.CharField(_("action ID"), max_length=60)
    name = models.CharField(_("name"), max_length=120, blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "code"], name="one_action_type_per_site_and_code")
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.code})" if self.name else self.code


class LoyaltyAction(models.Model):
    """A fact: a member did something. Never edited; `processed_at` and `outcome` are set once, by the tick.

    `processed_at` empty means that campaigns have not been matched yet.
    """

    class Outcome(models.TextChoices):
        MATCHED = "MATCHED", _("Became a message")
        NO_CAMPAIGN = "NO_CAMPAIGN", _("No campaign for this action")
        NOT_IN_SEGMENT = "NOT_IN_SEGMENT", _("Member is not in the campaign's segment")
        OUTSIDE_WINDOW = "OUTSIDE_WINDOW", _("Outside the campaign's window")
        BEFORE_LIVE = "BEFORE_LIVE", _("Happened before the site or the campaign went live")
        TOO_OLD = "TOO_OLD", _("Older than the campaign's expiry")
        SITE_DRAFT = "SITE_DRAFT", _("The site is a draft")
        HISTORY = "HISTORY", _("Imported as history")

    site = models.ForeignKey(Site, models.CASCADE, related_name="actions", db_index=False)
    member = models.ForeignKey(Member, models.CASCADE, related_name="actions", db_index=False)
    action_type = models.ForeignKey(ActionType, models.PROTECT, related_name="actions")
    activity_id = models.CharField(_("activity ID"), max_length=128)
    points = models.BigIntegerField(_("points after the action"), null=True, blank=True)
    points_delta = models.BigIntegerField(_("change of points"), null=True, blank=True)
    data = models.JSONField(_("data"), default=dict, blank=True)
    # SHA-256 of the normalised item, so that a repeat is told from a conflict.
    digest = models.CharField(max_length=64, editable=False)
    occurred_at = models.DateTimeField(_("occurred"))
    recorded_at = models.DateTimeField(_("recorded"), default=timezone.now)
    processed_at = models.DateTimeField(_("processed"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome.choices, blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("loyalty action")
        verbose_name_plural = _("loyalty actions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["site", "activity_id"], name="one_action_per_site_and_activity_id")
        ]
        indexes: ClassVar = [
            # The tick reads only what is new, whatever lies behind it.
            models.Index(fields=["id"], name="action_unprocessed", condition=models.Q(processed_at=None)),
            # A member's story, and segments by last action.
            models.Index(fields=["member", "-occurred_at"], name="action_of_member"),
            models.Index(fields=["site", "-recorded_at"], name="action_site_newest"),
            models.Index(
                fields=["site", "outcome", "-recorded_at"], name="action_site_outcome", condition=~models.Q(outcome="")
            ),
        ]

    def __str__(self) -> str:
        return self.activity_id

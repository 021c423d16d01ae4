"""Segments: rules over members, or a frozen list."""

from typing import ClassVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from .members import Member
from .scope import SiteScopedQuerySet
from .sites import Site


class Segment(models.Model):
    """A choice of members, exported for Attentive and pushed to Annex Cloud.

    `rules`: a flat object means all of its keys; `{"any": [{…}, {…}]}` joins several. A frozen segment keeps the list
    of members it had when it was frozen.
    """

    class DataType(models.TextChoices):
        CURRENT = "Current Data", _("Current Data")
        PAST = "Past Data", _("Past Data")

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE", _("Active")
        INACTIVE = "INACTIVE", _("Inactive")

    site = models.ForeignKey(Site, models.CASCADE, related_name="segments")
    name = models.CharField(_("name"), max_length=200)
    rules = models.JSONField(_("rules"), default=dict, blank=True)
    is_frozen = models.BooleanField(_("frozen"), default=False)
    data_type = models.CharField(_("type"), max_length=12, choices=DataType.choices, default=DataType.CURRENT)
    from_date = models.DateField(_("from"), null=True, blank=True)
    to_date = models.DateField(_("to"), null=True, blank=True)
    status = models.CharField(_("status"), max_length=8, choices=Status.choices, default=Status.ACTIVE)
    external_id = models.CharField(_("external ID"), max_length=255, blank=True)
    external_name = models.CharField(_("external name"), max_length=240, blank=True)
    annex_segment_id = models.CharField(_("segment ID at Annex Cloud"), max_length=40, blank=True, editable=False)
    pushed_at = models.DateTimeField(null=True, blank=True, editable=False)
    push_result = models.CharField(max_length=300, blank=True, editable=False)
    attentive_pushed_at = models.DateTimeField(null=True, blank=True, editable=False)
    attentive_push_result = models.CharField(max_length=300, blank=True, editable=False)
    # Whoever pushes the segment has it until then; two pushes at a time would make it twice at the vendor.
    push_lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        verbose_name = _("segment")
        verbose_name_plural = _("segments")
        constraints: ClassVar = [models.UniqueConstraint(fields=["site", "name"], name="one_segment_per_site_and_name")]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.from_date and self.to_date and self.from_date > self.to_date:
            raise ValidationError({"to_date": _("The end lies before the beginning.")})


class SegmentMember(models.Model):
    """A member of a frozen segment."""

    site_path = "segment__site"

    segment = models.ForeignKey(Segment, models.CASCADE, related_name="frozen_members", db_index=False)
    member = models.ForeignKey(Member, models.CASCADE, related_name="+")

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["segment", "member"], name="member_once_per_frozen_segment")
        ]

    def __str__(self) -> str:
        return f"{self.segment_id}:{self.member_id}"

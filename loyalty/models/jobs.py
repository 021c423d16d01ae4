"""Long work that staff start and watch: imports and exports."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from .members import Member
from .scope import SiteScopedQuerySet
from .segments import Segment
from .sites import Site


class Job(models.Model):
    """What both kinds share. PENDING → RUNNING → COMPLETE | FAILED | CANCELLED; a lost worker's lease runs out."""

    class State(models.TextChoices):
        PENDING = "PENDING", _("Waiting")
        RUNNING = "RUNNING", _("Running")
        COMPLETE = "COMPLETE", _("Complete")
        FAILED = "FAILED", _("Failed")
        CANCELLED = "CANCELLED", _("Cancelled")

    site = models.ForeignKey(Site, models.CASCADE, related_name="%(class)ss")
    state = models.CharField(_("state"), max_length=9, choices=State.choices, default=State.PENDING)
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    cancel_asked_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    fence = models.PositiveIntegerField(default=0)
    error = models.TextField(_("error"), blank=True)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        abstract = True


class ImportJob(Job):
    """An uploaded file on its way into the database, slice by slice; a killed job goes on where it stopped."""

    class Kind(models.TextChoices):
        MEMBERS = "MEMBERS", _("Members")
        SUBSCRIBERS = "SUBSCRIBERS", _("Subscribers from Attentive")
        ACTIONS = "ACTIONS", _("Actions")

    class Phase(models.TextChoices):
        MAPPING = "MAPPING", _("Match columns")
        CHECK = "CHECK", _("Check")
        IMPORT = "IMPORT", _("Import")
        UNDO = "UNDO", _("Undo")

    kind = models.CharField(_("kind"), max_length=11, choices=Kind.choices, default=Kind.MEMBERS)
    phase = models.CharField(_("phase"), max_length=7, choices=Phase.choices, default=Phase.MAPPING)
    file = models.FileField(upload_to="imports/%Y/%m/")
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64, blank=True, db_index=True)
    size = models.BigIntegerField(default=0)
    # What was detected or chosen: encoding, delimiter, header row; and column → field.
    dialect = models.JSONField(default=dict, blank=True)
    mapping = models.JSONField(default=dict, blank=True)
    options = models.JSONField(default=dict, blank=True)
    # Counters: read = created + updated + unchanged + duplicate + rejected.
    read = models.BigIntegerField(default=0)
    created = models.BigIntegerField(default=0)
    updated = models.BigIntegerField(default=0)
    unchanged = models.BigIntegerField(default=0)
    duplicate = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)
    bytes_done = models.BigIntegerField(default=0)
    # Where the next slice begins, and what the pipeline must remember until then.
    checkpoint = models.JSONField(default=dict, blank=True)
    # Reasons with counts and examples, for the grouped error list.
    findings = models.JSONField(default=dict, blank=True)
    rejects_file = models.FileField(upload_to="rejects/%Y/%m/", blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("import")
        verbose_name_plural = _("imports")

    def __str__(self) -> str:
        return f"{self.file_name} ({self.get_state_display()})"


class ExportJob(Job):
    """A segment, a member list or a message log on its way into files that are whole or absent."""

    class Kind(models.TextChoices):
        SEGMENT = "SEGMENT", _("Segment")
        MEMBERS = "MEMBERS", _("Members")
        MESSAGES = "MESSAGES", _("Messages")

    class Format(models.TextChoices):
        ATTENTIVE = "ATTENTIVE", _("Attentive (CSV with header)")
        SFTP = "SFTP", _("Attentive SFTP (no header)")
        SPREADSHEET = "SPREADSHEET", _("Spreadsheet")

    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices, default=Kind.SEGMENT)
    format = models.CharField(_("format"), max_length=11, choices=Format.choices, default=Format.ATTENTIVE)
    segment = models.ForeignKey(Segment, models.SET_NULL, null=True, blank=True, related_name="exports")
    options = models.JSONField(default=dict, blank=True)
    file = models.FileField(upload_to="exports/%Y/%m/", blank=True)
    # Files with rows and SHA-256, and who was left out and why.
    manifest = models.JSONField(default=dict, blank=True)
    rows = models.BigIntegerField(default=0)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at"]
        verbose_name = _("export")
        verbose_name_plural = _("exports")

    def __str__(self) -> str:
        return f"{self.get_kind_display()} · {self.get_format_display()}"


class MemberChange(models.Model):
    """What an import changed in a member that stood there before, kept so that it can be undone."""

    site_path = "job__site"

    job = models.ForeignKey(ImportJob, models.CASCADE, related_name="changes")
    member = models.ForeignKey(Member, models.CASCADE, related_name="+")
    # Field → [old, new], of `replaced_by` the keys. Empty where nothing may be given back, as of an erased person.
    changes = models.JSONField()

    objects = SiteScopedQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.job_id}:{self.member_id}"


class ImportIssue(models.Model):
    """A row of a file that staff must look at: rejected, or taken with a remark."""

    class Kind(models.TextChoices):
        REJECTED = "REJECTED", _("Rejected")
        DUPLICATE = "DUPLICATE", pgettext_lazy("row", "Duplicate")
        CONFLICT = "CONFLICT", _("Conflict")

    site_path = "job__site"

    job = models.ForeignKey(ImportJob, models.CASCADE, related_name="issues", db_index=False)
    kind = models.CharField(_("kind"), max_length=9, choices=Kind.choices)
    line = models.PositiveBigIntegerField(_("line"))
    field = models.CharField(_("field"), max_length=220, blank=True)
    code = models.CharField(_("code"), max_length=40)
    reason = models.TextField(_("reason"))
    # The cells as they stand in the file.
    cells = models.JSONField(default=list)

    objects = SiteScopedQuerySet.as_manager()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["job", "kind", "id"], name="issue_of_job")]

    def __str__(self) -> str:
        return f"{self.line}: {self.code}"

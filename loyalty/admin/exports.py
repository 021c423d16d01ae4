"""Exports: what was written, by whom, and the files; the steps of uploading a list to Attentive stand beside them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attentive_integration.markup import ago, number, pill, pill_for_state
from attentive_integration.wake import wake
from loyalty import audit, exports
from loyalty.admin.base import ActionRefused, ObjectAction, SiteScopedAdmin
from loyalty.admin.waiting import worker_silence
from loyalty.exports.files import ROWS_PER_FILE
from loyalty.exports.segment_files import DEFAULT_HEADER
from loyalty.member_search import tiers_of
from loyalty.models import ExportJob, Member, Segment, Site
from loyalty.permissions import Right, can, chosen_site

State, Kind, Format = ExportJob.State, ExportJob.Kind, ExportJob.Format
_EXPORT_TASK = "messaging.tasks.export_due"
# Why somebody is not in the file, as the manifest counts it.
LEFT_OUT = {
    "NOT_SUBSCRIBED": gettext_lazy("Not subscribed to texts"),
    "NOT_ANSWERED": gettext_lazy("Asked, and has not answered yet"),
    "UNSUBSCRIBED": gettext_lazy("Opted out"),
    "BLOCKED": gettext_lazy("Blocked by staff"),
    "REPLACED": gettext_lazy("Replaced by a newer phone of the same loyalty ID"),
    "COUNTRY": gettext_lazy("Phone of a country that this site does not text"),
    "INVALID_PHONE": gettext_lazy("Not a usable phone"),
}


def is_working(job: ExportJob) -> bool:
    return job.state in (State.PENDING, State.RUNNING)


def is_expired(job: ExportJob) -> bool:
    return bool(job.expires_at and job.expires_at <= timezone.now())


def has_file(job: ExportJob) -> bool:
    """Tell whether the file can be downloaded."""
    return job.state == State.COMPLETE and bool(job.file) and not is_expired(job)


class SegmentExportForm(forms.Form):
    """A segment as a file."""

    segment = forms.ModelChoiceField(Segment.objects.none(), label=gettext_lazy("Segment"))
    format = forms.ChoiceField(
        label=gettext_lazy("File for"),
        choices=[
            (Format.ATTENTIVE.value, gettext_lazy("Attentive, by hand: one column of phones with a header")),
            (Format.SFTP.value, gettext_lazy("Attentive by SFTP: phone and segment name, no header")),
            (Format.SPREADSHEET.value, gettext_lazy("A spreadsheet: all members, with why each may be texted or not")),
        ],
        widget=forms.RadioSelect,
        initial=Format.ATTENTIVE.value,
    )
    header = forms.CharField(
        label=gettext_lazy("Name of the column"),
        max_length=60,
        required=False,
        initial=DEFAULT_HEADER,
        help_text=gettext_lazy("In the file for Attentive. Attentive asks which column holds the phones."),
    )

    def __init__(self, *args: Any, site: Site, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["segment"].queryset = Segment.objects.filter(site=site).order_by("name")  # type: ignore[attr-defined]

    def wanted(self) -> dict[str, Any]:
        """Return what `start_export` takes."""
        header = self.cleaned_data["header"].strip()
        own = self.cleaned_data["format"] == Format.ATTENTIVE and header and header != DEFAULT_HEADER
        return {
            "kind": Kind.SEGMENT, "segment": self.cleaned_data["segment"], "format": self.cleaned_data["format"],
            "options": {"header": header} if own else {},
        }  # fmt: skip


class MemberExportForm(forms.Form):
    """The member list of a site as a spreadsheet."""

    tier = forms.ChoiceField(label=gettext_lazy("Tier"), required=False)

    def __init__(self, *args: Any, site: Site, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tiers = [(tier, tier) for tier in tiers_of(site)]
        self.fields["tier"].choices = [("", _("All tiers")), *tiers]  # type: ignore[attr-defined]

    def wanted(self) -> dict[str, Any]:
        """Return what `start_export` takes."""
        tier = self.cleaned_data["tier"]
        return {"kind": Kind.MEMBERS, "options": {"rules": {"tier": [tier]}} if tier else {}}


@admin.register(ExportJob)
class ExportJobAdmin(SiteScopedAdmin):
    list_display = ("what", "format", "state_shown", "rows_shown", "site_shown", "by", "when", "until")
    list_filter = ("kind", "state")
    list_select_related = object_related = ("site", "created_by", "segment")
    sortable_by = ()
    ordering = ("-pk",)
    view_right = Right.VIEW
    add_label = gettext_lazy("New export")
    add_right = Right.EXPORT
    lead = gettext_lazy("Files for Attentive and for spreadsheets. They are kept for seven days; the history stays.")
    empty_icon = "export"
    empty_title = gettext_lazy("No export yet")
    empty_text = gettext_lazy("Export a segment as a file to upload in Attentive, or the member list as a spreadsheet.")
    object_actions: ClassVar[Sequence[ObjectAction]] = (
        ObjectAction(
            "cancel",
            gettext_lazy("Cancel"),
            Right.EXPORT,
            run="cancel",
            icon="stop",
            when=lambda job: is_working(job) and not job.cancel_asked_at,
        ),
        ObjectAction(
            "repeat",
            gettext_lazy("Export again"),
            Right.EXPORT,
            run="repeat",
            icon="refresh",
            when=lambda job: not is_working(job) and (job.kind != Kind.SEGMENT or job.segment_id is not None),
        ),
        ObjectAction(
            "delete-file",
            gettext_lazy("Delete the file"),
            Right.EXPORT,
            run="delete_file",
            icon="trash",
            when=has_file,
            confirm=gettext_lazy("The file is deleted now instead of later. The line in the history stays."),
        ),
    )

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"loyalty_exportjob_{name}")

        return [
            page("<int:object_id>/progress/", self.progress_view, "progress"),
            page("<int:object_id>/download/", self.download_view, "download"),
            *super().get_urls(),
        ]

    # --- History --------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("what"))
    def what(self, job: ExportJob) -> str:
        return title_of(job)

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, job: ExportJob) -> SafeString:
        return state_pill_of(job)

    @admin.display(description=gettext_lazy("rows"))
    def rows_shown(self, job: ExportJob) -> str:
        return number(job.rows) if job.state == State.COMPLETE else "–"

    @admin.display(description=gettext_lazy("by"))
    def by(self, job: ExportJob) -> str:
        return job.created_by.get_username() if job.created_by else "–"

    @admin.display(description=gettext_lazy("when"))
    def when(self, job: ExportJob) -> SafeString:
        return ago(job.created_at)

    @admin.display(description=gettext_lazy("kept until"))
    def until(self, job: ExportJob) -> SafeString | str:
        return ago(job.expires_at) if has_file(job) else "–"

    # --- A new export ---------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        site = chosen_site(request)
        if site is None:
            sites = [one for one in Site.objects.visible_to(request.user)[:200] if can(request.user, one, Right.EXPORT)]
            context = self.frame(request, _("New export"), sites=sites, kind=request.GET.get("kind", ""))
            return TemplateResponse(request, "admin/loyalty/choose_site.html", context)
        is_members = request.GET.get("kind") == Kind.MEMBERS
        initial = {key: request.GET[key] for key in ("segment", "tier") if key in request.GET}
        form_class = MemberExportForm if is_members else SegmentExportForm
        form: Any = form_class(request.POST or None, site=site, initial=initial)
        if request.method == "POST" and form.is_valid():
            try:
                with transaction.atomic():
                    job = exports.start_export(site, by=request.user, **form.wanted())
                    transaction.on_commit(partial(wake, _EXPORT_TASK))
                return HttpResponseRedirect(self._address(request, job))
            except exports.ExportRefused as refusal:
                form.add_error(None, str(refusal))
        tabs = [
            {"label": label, "url": f"?{urlencode({'site': site.site_id, 'kind': kind})}", "current": current}
            for label, kind, current in (
                (_("Segment"), Kind.SEGMENT.value, not is_members),
                (_("Member list"), Kind.MEMBERS.value, is_members),
            )
        ]
        context = self.frame(
            request, _("New export"), form=form, tabs=tabs, tabs_label=_("What to export"), is_members=is_members,
            has_segments=is_members or form.fields["segment"].queryset.exists(),
        )  # fmt: skip
        return TemplateResponse(request, "admin/loyalty/exportjob/new.html", context)

    def _address(self, request: HttpRequest, job: ExportJob) -> str:
        site = chosen_site(request)
        return self.object_url(job) + (f"?{urlencode({'site': site.site_id})}" if site else "")

    # --- One export -----------------------------------------------------------------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        job: ExportJob = self.get_row(request, object_id)
        manifest = job.manifest or {}
        may_download = has_file(job) and self.allows(request, Right.EXPORT, job)
        files = manifest.get("files", [])
        context = self.frame(
            request,
            title_of(job),
            job=job,
            pill=state_pill_of(job),
            working=is_working(job),
            progress=progress_of(job),
            silence=worker_silence() if job.state == State.PENDING else "",
            may_download=may_download,
            is_expired=job.state == State.COMPLETE and not has_file(job),
            object_actions=self.buttons(request, job),
            files=[
                (file["name"], number(file["rows"]), filesizeformat(file["bytes"]), _code(file["sha256"]))
                for file in files
            ],
            file_headers=(_("File"), (_("Rows"), "number"), (_("Size"), "number"), _("SHA-256")),
            size=len(files),
            rows_per_file=ROWS_PER_FILE,
            left_out=[(LEFT_OUT.get(code, code), n) for code, n in manifest.get("left_out", {}).items()],
            total=manifest.get("total"),
            reachable=manifest.get("reachable"),
            downloads=exports.downloads_of(job),
            steps=upload_steps(job) if may_download else [],
        )
        return TemplateResponse(request, "admin/loyalty/exportjob/change_form.html", context)

    def progress_view(self, request: HttpRequest, object_id: int) -> JsonResponse:
        job: ExportJob = self.get_row(request, object_id)
        answer = JsonResponse({**progress_of(job), "finished": not is_working(job)})
        answer["Cache-Control"] = "no-store"
        return answer

    def download_view(self, request: HttpRequest, object_id: int) -> HttpResponse | FileResponse:
        """The file itself. Login, site and right are asked each time; nothing else leads to the files."""
        job: ExportJob = self.get_row(request, object_id)
        if not self.allows(request, Right.EXPORT, job):
            raise PermissionDenied
        if request.method not in ("GET", "HEAD"):
            raise Http404
        try:
            file, name = exports.open_download(job, request.user)
        except exports.ExportRefused as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(self._address(request, job))
        kind = "application/zip" if name.endswith(".zip") else "text/csv; charset=utf-8"
        answer = FileResponse(file, as_attachment=True, filename=name, content_type=kind)
        answer["Cache-Control"] = "no-store"
        return answer

    def cancel(self, request: HttpRequest, job: ExportJob) -> str:
        exports.ask_cancel(job, request.user)
        return _("The export ends within seconds; no file is kept.")

    def repeat(self, request: HttpRequest, job: ExportJob) -> HttpResponse:
        try:
            with transaction.atomic():
                again = exports.start_export(
                    job.site,
                    kind=job.kind,
                    format=job.format,
                    segment=job.segment,
                    options=job.options,
                    by=request.user,
                )
                transaction.on_commit(partial(wake, _EXPORT_TASK))
        except exports.ExportRefused as refusal:
            raise ActionRefused(str(refusal)) from None
        return HttpResponseRedirect(self._address(request, again))

    def delete_file(self, request: HttpRequest, job: ExportJob) -> str:
        ExportJob.objects.filter(pk=job.pk).update(expires_at=timezone.now())
        exports.delete_expired()
        audit.record("export.deleted", site=job.site, request=request, target=f"{title_of(job)} (#{job.pk})")
        return _("The file is deleted.")


def _code(text: str) -> SafeString:
    return format_html('<code class="small">{}</code>', text)


def title_of(job: ExportJob) -> str:
    """Return what an export holds, in words."""
    if job.kind == Kind.SEGMENT:
        return job.segment.name if job.segment else _("A deleted segment")
    return _("Message log") if job.kind == Kind.MESSAGES else _("Member list")


def state_pill_of(job: ExportJob) -> SafeString:
    """Return the pill of an export; one whose file is gone says so."""
    if job.state == State.COMPLETE and not has_file(job):
        return pill(_("Expired"), "calm", "clock")
    return pill_for_state(job)


def progress_of(job: ExportJob) -> dict[str, Any]:
    """Return how far an export is, measured by the site's members; for a message log there is no measure."""
    if job.state == State.PENDING:
        return {"done": 0, "total": 1, "text": _("Waiting for a worker…")}
    if not is_working(job):
        return {"done": job.rows, "total": max(job.rows, 1), "text": ""}
    total = Member.objects.filter(site=job.site_id).count() if job.kind != Kind.MESSAGES else 0
    text = ngettext("%(n)s row written", "%(n)s rows written", job.rows) % {"n": number(job.rows)}
    if job.cancel_asked_at:
        text += " · " + _("being cancelled")
    return {"done": min(job.rows, total), "total": max(total, 1), "text": text}


def upload_steps(job: ExportJob) -> list[str]:
    """Return what to do in Attentive with the file, step by step; nothing for a spreadsheet."""
    if job.format == Format.ATTENTIVE and job.kind == Kind.SEGMENT:
        return [
            _("Download the file here; unpack it first if it is a .zip."),
            _("Sign in at ui.attentivemobile.com/signin and open the client's segments."),
            _("Create a segment from an uploaded list, and choose the file."),
            _("Name the segment and match the column “%(header)s” with Phone.")
            % {"header": (job.manifest or {}).get("header") or DEFAULT_HEADER},
            _("Save. Attentive ignores phones that are not subscribed there."),
        ]
    if job.format == Format.SFTP:
        return [
            _("Download the files here; unpack them first if they come as a .zip. Keep their names."),
            _("Put them into the upload folder of the SFTP account that Attentive gave the client."),
            _("Attentive takes them in within the day; the second column names the segment."),
        ]
    return []

"""The import wizard: upload, match columns, check, run, result, undo; and the history of imports."""

import csv
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.markup import ago, number
from attentive_integration.wake import wake
from loyalty import audit, imports
from loyalty.admin import import_pages as pages
from loyalty.admin.base import ActionRefused, ObjectAction, SiteScopedAdmin
from loyalty.admin.import_forms import ConflictForm, DialectForm, SubscribeForm, UploadForm
from loyalty.admin.waiting import duration, worker_silence
from loyalty.imports.files import not_stored, reason_of
from loyalty.imports.rejects import write_issues
from loyalty.imports.rows import Dialect, ImportRefused
from loyalty.imports.steps import (
    ask_again,
    ask_check,
    ask_import,
    ask_undo,
    change_dialect,
    imported_before,
    look_ahead,
    sample_of,
)
from loyalty.imports.undo import may_undo
from loyalty.models import ImportIssue, ImportJob, Site
from loyalty.permissions import Right, can, chosen_site, sites_where

State, Phase, Kind = ImportJob.State, ImportJob.Phase, ImportJob.Kind
_KIND_WORDS = {
    Kind.MEMBERS: (
        gettext_lazy("Members"),
        gettext_lazy(
            "Creates and updates members. The phone tells who is who; a blank cell leaves a field as it is, -- empties "
            "it. Nobody is texted or subscribed."
        ),
    ),
    Kind.SUBSCRIBERS: (
        gettext_lazy("Subscribers from Attentive"),
        gettext_lazy(
            "A list exported from Attentive: each phone in it counts as subscribed, unless the person opted out here. "
            "Nobody is texted, and no member is made."
        ),
    ),
    Kind.ACTIONS: (
        gettext_lazy("Actions"),
        gettext_lazy("What members did in the loyalty program, as history: it fills stories and segments."),
    ),
}


@admin.register(ImportJob)
class ImportJobAdmin(SiteScopedAdmin):
    list_display = ("name", "kind", "state_shown", "rows_shown", "rejected_shown", "site_shown", "by", "when", "took")
    list_filter = ("kind", "state")
    search_fields = ("file_name__istartswith",)
    search_help_text = gettext_lazy("Beginning of the file's name")
    list_select_related = object_related = ("site", "created_by")
    sortable_by = ()
    ordering = ("-pk",)
    add_label = gettext_lazy("Import a file")
    add_right = Right.IMPORT
    lead = gettext_lazy("Every file that was imported. Open one to go on with it, to get its rejects, or to undo it.")
    empty_icon = "import"
    empty_title = gettext_lazy("No import yet")
    empty_text = gettext_lazy(
        "Upload a list of members. Columns are matched and everything is checked before it is written."
    )
    object_actions: ClassVar[Sequence[ObjectAction]] = (
        ObjectAction(
            "cancel",
            gettext_lazy("Cancel"),
            Right.IMPORT,
            run="cancel",
            icon="stop",
            when=lambda job: pages.is_working(job) and job.phase != Phase.UNDO and not job.cancel_asked_at,
        ),
        ObjectAction(
            "continue",
            gettext_lazy("Go on"),
            Right.IMPORT,
            run="go_on",
            icon="play",
            tone="primary",
            when=lambda job: (
                job.phase == Phase.IMPORT and job.state in (State.CANCELLED, State.FAILED) and not job.undone_at
            ),
        ),
        ObjectAction(
            "undo",
            gettext_lazy("Undo"),
            Right.IMPORT,
            run="undo",
            icon="history",
            confirm=gettext_lazy(
                "Members that this import created are removed, but those who have since got actions, messages or "
                "consent. What it changed gets its old value back, unless it has been changed since."
            ),
            when=may_undo,
        ),
        ObjectAction(
            "discard",
            gettext_lazy("Discard"),
            Right.IMPORT,
            run="discard",
            icon="trash",
            confirm=gettext_lazy("The uploaded file is deleted. Nothing of it was imported."),
            when=lambda job: job.phase in (Phase.MAPPING, Phase.CHECK) and not pages.is_working(job),
        ),
    )

    def may_work_on(self, request: HttpRequest, site: Site | int | None, kind: str) -> bool:
        """Tell whether the user may import files of this kind; a subscriber list raises consent and needs more."""
        right = Right.IMPORT_SUBSCRIBERS if kind == Kind.SUBSCRIBERS else Right.IMPORT
        return can(request.user, site, Right.IMPORT) and can(request.user, site, right)

    def sees_values(self, request: HttpRequest, job: ImportJob) -> bool:
        """Whoever uploaded the file knows what is in it; others see values by their permission."""
        return job.created_by_id == request.user.pk or self.allows(request, Right.PII, job)

    def _job_to_work_on(self, request: HttpRequest, object_id: str) -> ImportJob:
        job: ImportJob = self.get_row(request, object_id)
        if not self.may_work_on(request, job.site, job.kind):
            raise PermissionDenied
        return job

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"loyalty_importjob_{name}")

        return [
            page("sample/<str:kind>/", self.sample_view, "sample"),
            page("<int:object_id>/match/", self.match_view, "match"),
            page("<int:object_id>/match/check/", self.look_view, "look"),
            page("<int:object_id>/dialect/", self.dialect_view, "dialect"),
            page("<int:object_id>/import/", self.import_view, "import"),
            page("<int:object_id>/progress/", self.progress_view, "progress"),
            page("<int:object_id>/rows/<slug:what>/", self.rows_view, "rows"),
            *super().get_urls(),
        ]

    # --- History --------------------------------------------------------------------------------------------------

    @admin.display(description=gettext_lazy("file"))
    def name(self, job: ImportJob) -> str:
        return job.file_name

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, job: ImportJob) -> SafeString:
        return pages.state_shown(job)

    @admin.display(description=gettext_lazy("rows"))
    def rows_shown(self, job: ImportJob) -> str:
        return number(job.read) if job.phase != Phase.MAPPING else "–"

    @admin.display(description=gettext_lazy("rejected"))
    def rejected_shown(self, job: ImportJob) -> str:
        return number(job.rejected) if job.phase != Phase.MAPPING else "–"

    @admin.display(description=gettext_lazy("by"))
    def by(self, job: ImportJob) -> str:
        return job.created_by.get_username() if job.created_by else "–"

    @admin.display(description=gettext_lazy("when"))
    def when(self, job: ImportJob) -> SafeString:
        return ago(job.created_at)

    @admin.display(description=gettext_lazy("took"))
    def took(self, job: ImportJob) -> str:
        if job.started_at is None or job.ended_at is None:
            return "–"
        return duration((job.ended_at - job.started_at).total_seconds())

    # --- 1 Upload -------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        kind = request.GET.get("kind", Kind.MEMBERS.value)
        if kind not in Kind.values:
            raise Http404
        site = chosen_site(request)
        if not self.may_work_on(request, site, kind):
            raise PermissionDenied
        right = Right.IMPORT_SUBSCRIBERS if kind == Kind.SUBSCRIBERS else Right.IMPORT
        sites = sites_where(request.user, Right.IMPORT) & sites_where(request.user, right)
        form = UploadForm(
            request.POST or None,
            request.FILES or None,
            kind=kind,
            sites=sites,
            may_trigger=can(request.user, site, Right.CAMPAIGN),
            initial={"site": site or (sites.get() if sites.count() == 1 else None)},
        )
        if why := getattr(request, "upload_error", "") if request.method == "POST" else "":
            form.fields["file"].error_messages["required"] = not_stored(why)
        wants_json = "application/json" in request.headers.get("Accept", "")
        if request.method == "POST" and form.is_valid() and (job := self._uploaded(request, form, kind)):
            address = self.object_url(job) + self._query(request)
            return JsonResponse({"url": address}) if wants_json else HttpResponseRedirect(address)
        if request.method == "POST" and wants_json:
            return JsonResponse({"errors": [error for errors in form.errors.values() for error in errors]})
        title, lead = _KIND_WORDS[Kind(kind)]
        context = self.frame(
            request,
            _("Import"),
            form=form,
            kind=kind,
            lead=lead,
            kind_title=title,
            steps=pages.steps_of(None),
            tabs=self._kind_tabs(request, site, kind),
            tabs_label=_("Kind of file"),
            sample_url=self.page_of("sample", kind),
        )
        return TemplateResponse(request, "admin/loyalty/importjob/upload.html", context)

    def _kind_tabs(self, request: HttpRequest, site: Site | None, kind: str) -> list[dict[str, Any]]:
        query = {"site": site.site_id} if site else {}
        return [
            {"label": title, "url": f"?{urlencode({**query, 'kind': one.value})}", "current": one == kind}
            for one, (title, _lead) in _KIND_WORDS.items()
            if self.may_work_on(request, site, one)
        ]

    def _query(self, request: HttpRequest) -> str:
        site = chosen_site(request)
        return f"?{urlencode({'site': site.site_id})}" if site else ""

    def _uploaded(self, request: HttpRequest, form: UploadForm, kind: str) -> ImportJob | None:
        """Return the job of an uploaded file, None (and why in the form) when it is no list."""
        site, file, options = form.cleaned_data["site"], form.cleaned_data["file"], form.options()
        if not self.may_work_on(request, site, kind):
            raise PermissionDenied
        if options.get("trigger") and not can(request.user, site, Right.CAMPAIGN):
            raise PermissionDenied
        try:
            job = imports.start_import(site, file, file.name, kind=kind, by=request.user, options=options)
        except ImportRefused as refusal:
            form.add_error("file", str(refusal))
            return None
        # Kept as proposed, so that the page shows what the check would take.
        ImportJob.objects.filter(pk=job.pk).update(mapping=imports.propose_mapping(job))
        return job

    def sample_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        if kind not in Kind.values or not self.has_view_permission(request):
            raise Http404
        name, rows = sample_of(kind)
        answer = HttpResponse(content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="{name}"'
        csv.writer(answer).writerows(rows)
        return answer

    # --- The page of one import: what it shows follows from how far it is -----------------------------------------

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        job: ImportJob = self.get_row(request, object_id)
        if job.phase == Phase.MAPPING:
            return self._match_page(request, job, job.mapping)
        working = pages.is_working(job)
        context = self._context(request, job) | {
            "working": working,
            "counters": pages.counters_of(job),
            "findings": pages.findings_of(job, whole=self.sees_values(request, job)),
            "suspicious": job.findings.get("suspicious", []),
            "may_import": self.may_work_on(request, job.site, job.kind),
            "has_duplicates": job.duplicate > 0,
        }
        if working:
            ahead = imports.job_ahead(job) if job.phase == Phase.IMPORT else None
            context["progress"] = pages.progress_of(job, ahead)
            context["silence"] = worker_silence() if job.state == State.PENDING else ""
        if job.phase == Phase.CHECK:
            # What the import will write: a duplicate is one row, and unchanged members stay as they are.
            context["usable"] = job.created + job.updated
            context["nothing_new"] = job.unchanged > 0
            context["form"] = SubscribeForm()
            context["hours"] = pages.subscribe_hours(job.created) if job.created else ""
            return TemplateResponse(request, "admin/loyalty/importjob/check.html", context)
        context["undone"] = {"removed": 0, "restored": 0, "kept": 0} | job.findings.get("undone", {})
        context["took"] = self.took(job)
        context["subscribes"] = bool(job.options.get("subscribe"))
        return TemplateResponse(request, "admin/loyalty/importjob/result.html", context)

    def _context(self, request: HttpRequest, job: ImportJob) -> dict[str, Any]:
        may_work = self.may_work_on(request, job.site, job.kind)
        return self.frame(
            request,
            job.file_name,
            job=job,
            pill=pages.state_shown(job),
            steps=pages.steps_of(job),
            dialect=pages.dialect_words(job),
            remarks=Dialect.from_json(job.dialect).remarks,
            object_actions=self.buttons(request, job) if may_work else [],
            may_work=may_work,
            kind_title=_KIND_WORDS[Kind(job.kind)][0],
        )

    def progress_view(self, request: HttpRequest, object_id: int) -> JsonResponse:
        job: ImportJob = self.get_row(request, object_id)
        ahead = imports.job_ahead(job) if job.phase == Phase.IMPORT and job.state == State.PENDING else None
        answer = JsonResponse(pages.progress_of(job, ahead).as_json(job))
        answer["Cache-Control"] = "no-store"
        return answer

    # --- 2 Match columns ------------------------------------------------------------------------------------------

    def match_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        job = self._job_to_work_on(request, str(object_id))
        if job.phase in (Phase.IMPORT, Phase.UNDO) or pages.is_working(job):
            return HttpResponseRedirect(self.object_url(job))
        if request.method != "POST":
            return self._match_page(request, job, job.mapping)
        mapping = self._posted_mapping(request, job)
        conflict = ConflictForm(request.POST) if job.kind == Kind.MEMBERS else None
        if "check" not in request.POST or (conflict is not None and not conflict.is_valid()):
            return self._match_page(request, job, mapping, conflict=conflict)
        try:
            with transaction.atomic():
                if conflict is not None:
                    job.options = {**job.options, "on_conflict": conflict.cleaned_data["on_conflict"]}
                    job.save(update_fields=["options"])
                imports.set_mapping(job, mapping)
                ask_check(job)
                transaction.on_commit(partial(wake, "loyalty.tasks.import_check", job.pk))
        except ImportRefused as refusal:
            return self._match_page(request, job, mapping, conflict=conflict, error=str(refusal))
        return HttpResponseRedirect(self.object_url(job) + self._query(request))

    def look_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """The check of the first rows alone, for the script that asks after each change."""
        job = self._job_to_work_on(request, str(object_id))
        if request.method != "POST":
            raise Http404
        context = self._look(request, job, self._posted_mapping(request, job))
        return TemplateResponse(request, "admin/loyalty/importjob/look.html", context)

    def _posted_mapping(self, request: HttpRequest, job: ImportJob) -> dict[str, str]:
        columns = Dialect.from_json(job.dialect).columns
        posted = {name: request.POST.get(f"column-{n}", "")[:300] for n, name in enumerate(columns)}
        return {name: field for name, field in posted.items() if field}

    def _look(self, request: HttpRequest, job: ImportJob, mapping: dict[str, str]) -> dict[str, Any]:
        whole = self.sees_values(request, job)
        try:
            look = look_ahead(job, mapping)
        except ImportRefused as refusal:
            return {"look_error": str(refusal)}
        return {
            "look": look,
            "look_headers": (
                _("File column"), _("Field"), (_("Good"), "number"), (_("Blank"), "number"),
                (_("Not usable"), "number"), _("What to do"),
            ),
            "look_rows": pages.look_rows(job, look, whole=whole),
            "columns": pages.mapping_rows(job, look, whole=whole),
        }  # fmt: skip

    def _match_page(
        self,
        request: HttpRequest,
        job: ImportJob,
        mapping: dict[str, str],
        *,
        conflict: ConflictForm | None = None,
        error: str = "",
    ) -> HttpResponse:
        dialect = Dialect.from_json(job.dialect)
        initial = {
            "encoding": dialect.encoding, "delimiter": dialect.delimiter, "has_header": dialect.has_header,
            "has_summary": dialect.summary_line is not None,
        }  # fmt: skip
        if conflict is None and job.kind == Kind.MEMBERS:
            conflict = ConflictForm({"on_conflict": job.options.get("on_conflict", "update")})
        context = self._context(request, job) | self._look(request, job, mapping)
        context |= {
            "error": error,
            "conflict": conflict,
            "dialect_form": DialectForm(initial=initial),
            "before": imported_before(job),
            "steps": [{**step, "current": n == 1, "done": n < 1} for n, step in enumerate(context["steps"])],
        }
        return TemplateResponse(request, "admin/loyalty/importjob/match.html", context)

    def dialect_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        job = self._job_to_work_on(request, str(object_id))
        form = DialectForm(request.POST)
        if request.method == "POST" and form.is_valid():
            try:
                change_dialect(job, **form.cleaned_data)
                ImportJob.objects.filter(pk=job.pk).update(mapping=imports.propose_mapping(job))
            except ImportRefused as refusal:
                messages.error(request, str(refusal))
        return HttpResponseRedirect(self.object_url(job) + self._query(request))

    # --- 3 and 4 Import -------------------------------------------------------------------------------------------

    def import_view(self, request: HttpRequest, object_id: int) -> HttpResponse:
        job = self._job_to_work_on(request, str(object_id))
        if request.method != "POST":
            return HttpResponseRedirect(self.object_url(job))
        options = {}
        if job.kind == Kind.MEMBERS:
            options["subscribe"] = bool(request.POST.get("subscribe"))
            if options["subscribe"] and not self.allows(request, Right.SUBSCRIBE, job):
                raise PermissionDenied
        try:
            with transaction.atomic():
                ask_import(job, options)
                audit.record("import.asked", site=job.site, request=request, target=job.file_name, new=options or None)
                transaction.on_commit(partial(wake, "loyalty.tasks.import_run", job.pk))
        except ImportRefused as refusal:
            messages.error(request, str(refusal))
        return HttpResponseRedirect(self.object_url(job) + self._query(request))

    def action_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        self._job_to_work_on(request, object_id)
        return super().action_view(request, object_id, action)

    def cancel(self, request: HttpRequest, job: ImportJob) -> str:
        imports.ask_cancel(job)
        audit.record("import.cancel_asked", site=job.site, request=request, target=job.file_name)
        if job.state == State.CANCELLED:
            return _("The import is cancelled.")
        return _("The import ends within seconds. What was written until then is kept.")

    def go_on(self, request: HttpRequest, job: ImportJob) -> str:
        try:
            ask_again(job)
        except ImportRefused as refusal:
            raise ActionRefused(str(refusal)) from None
        transaction.on_commit(partial(wake, "loyalty.tasks.import_run", job.pk))
        audit.record("import.asked", site=job.site, request=request, target=job.file_name)
        return _("The import goes on where it stopped.")

    def undo(self, request: HttpRequest, job: ImportJob) -> str:
        try:
            ask_undo(job)
        except ImportRefused as refusal:
            raise ActionRefused(str(refusal)) from None
        transaction.on_commit(partial(wake, "loyalty.tasks.import_undo", job.pk))
        audit.record("import.undo_asked", site=job.site, request=request, target=job.file_name)
        return _("The import is being undone.")

    def discard(self, request: HttpRequest, job: ImportJob) -> HttpResponse:
        audit.record("import.discarded", site=job.site, request=request, target=job.file_name)
        imports.discard(job)
        messages.success(request, _("The file is discarded; nothing of it was imported."))
        return HttpResponseRedirect(self.page_of("changelist"))

    # --- Downloads ------------------------------------------------------------------------------------------------

    def rows_view(self, request: HttpRequest, object_id: int, what: str) -> HttpResponse | FileResponse:
        """Rows of the file with line and reason: the rejected ones, or the repeated ones."""
        job = self._job_to_work_on(request, str(object_id))
        kinds = {"rejected": ImportIssue.Kind.REJECTED, "duplicates": ImportIssue.Kind.DUPLICATE}
        if what not in kinds or pages.is_working(job):
            raise Http404
        rows = job.issues.filter(kind=kinds[what]).order_by("pk")
        if not rows.exists():
            raise Http404
        try:
            file = _file_of(job, rows)
        except OSError as error:
            refusal = _("The file could not be made: %(why)s. Make room on the server and download it again.")
            messages.error(request, refusal % {"why": reason_of(error)})
            return HttpResponseRedirect(self.object_url(job) + self._query(request))
        audit.record("import.downloaded", site=job.site, request=request, target=f"{job.file_name}: {what}")
        stem = job.file_name.rpartition(".")[0] or job.file_name
        answer = FileResponse(open(file.name, "rb"), as_attachment=True, filename=f"{stem}-{what}.csv")  # noqa: SIM115
        file.close()
        answer["Content-Type"] = "text/csv; charset=utf-8"
        answer["Cache-Control"] = "no-store"
        return answer


def _file_of(job: ImportJob, rows: Any) -> Any:
    """Return the rows in a file in the system's temporary folder: gone when it is closed, whatever its size."""
    file = tempfile.NamedTemporaryFile("w+", encoding="utf-8-sig", newline="")  # noqa: SIM115
    try:
        write_issues(file, job, rows)
        file.flush()
    except OSError:
        # Closing tries to write once more.
        with suppress(OSError):
            file.close()
        raise
    return file

"""What every admin page of site-owned rows shares: one scoping rule, one permission rule, POST-only actions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from loyalty.capped_counts import CappedPaginator
from loyalty.models.scope import SiteScopedQuerySet
from loyalty.permissions import Right, can, chosen_site

# Of the admin's scripts our pages need this one; jQuery and what stands on it weigh more than a page of ours.
LIST_SCRIPTS = forms.Media(js=["admin/js/actions.js"])


class SiteChangeList(ChangeList):
    """A change list for which `site` in the query is the chosen site, not a filter on a column.

    Marks each row of a site with `sees_pii`, whether the reader may see its phones and addresses whole, and with
    `names_site`, whether the list has rows of several sites.
    """

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        for row in rows:
            if hasattr(row, "site_id"):
                row.sees_pii = can(request.user, row.site_id, Right.PII)
                row.names_site = chosen_site(request) is None
        self.result_list = rows

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        wanted = super().get_filters_params(params)
        wanted.pop("site", None)
        return wanted

    def url_for_result(self, result: Model) -> str:
        address = self.model_admin.object_url(result)  # type: ignore[attr-defined]
        site = self.params.get("site")
        return f"{address}?{urlencode({'site': site})}" if site else address


@dataclass(frozen=True)
class ObjectAction:
    """A button on an object's page. It changes something, so it is a POST; `confirm` is asked on a page before it.

    `run` names a method of the admin, `(request, row) -> sentence | HttpResponse | None`. `when` hides the button. A
    `confirm` whose words depend on the row is a function of it. `tone` is "", "primary" or "danger".
    """

    name: str
    label: str | Promise
    right: Right
    run: str
    confirm: str | Promise | Callable[[Any], str] = ""
    icon: str = ""
    tone: str = ""
    when: Callable[[Any], bool] = lambda row: True


class ActionRefused(Exception):
    """An object action cannot be done; `str()` is the sentence that staff see."""


class SiteScopedAdmin(admin.ModelAdmin):
    """A ModelAdmin for rows of a site (`site_path` of the model).

    Rows, choices and autocompletes are those of the user's sites, and of the chosen site when the address has
    `?site=`; a row of another site is a 404. Each `…_right` is asked on the row's site; None means nobody.
    """

    view_right: ClassVar[Right] = Right.VIEW
    add_right: ClassVar[Right | None] = None
    change_right: ClassVar[Right | None] = None
    delete_right: ClassVar[Right | None] = None
    object_actions: ClassVar[Sequence[ObjectAction]] = ()
    # What a row's own page shows of other tables; read together with the row.
    object_related: ClassVar[Sequence[str]] = ("site",)

    list_per_page = 50
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = CappedPaginator
    save_on_top = False
    actions_on_bottom = False

    # The heading of the list and the words on its add button, where the model's own names will not do.
    list_title: str | Promise = ""
    add_label: str | Promise = ""
    # What an empty list says; a page overrides the texts.
    empty_title: str | Promise = ""
    empty_text: str | Promise = ""
    empty_icon = "info"
    lead: str | Promise = ""

    @property
    def media(self) -> forms.Media:
        return LIST_SCRIPTS

    # --- Rows -----------------------------------------------------------------------------------------------------

    @property
    def _site_path(self) -> str:
        return str(getattr(self.model, "site_path", "site"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).visible_to(request.user)  # type: ignore[attr-defined]
        site = chosen_site(request)
        if site is not None:
            rows = rows.filter(**{self._site_path or "pk": site.pk})
        return rows

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row with `object_related`; None when there is none of this number, or it is another tenant's."""
        try:
            rows = self.get_queryset(request).filter(pk=object_id)
        except ValueError:
            return None
        return (rows.select_related(*self.object_related) if self.object_related else rows).first()

    def site_pk_of(self, row: Any) -> int:
        """Return the primary key of the row's site."""
        if not self._site_path:
            return int(row.pk)
        *parents, last = self._site_path.split("__")
        for parent in parents:
            row = getattr(row, parent)
        return int(getattr(row, f"{last}_id"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SiteChangeList

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Leave the site's column out where a site is chosen: it would say the same in every row."""
        columns = super().get_list_display(request)
        return [column for column in columns if column != "site_shown" or chosen_site(request) is None]

    @admin.display(description=gettext_lazy("site"))
    def site_shown(self, row: Any) -> str:
        return str(row.site.client_name)

    def object_url(self, row: Any) -> str:
        """Return the page that a row of the list leads to."""
        return self.page_of("change", row.pk)

    def page_of(self, name: str, *args: Any) -> str:
        """Return the address of one of this admin's pages."""
        return reverse(f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{name}", args=args)

    def get_row(self, request: HttpRequest, pk: Any) -> Any:
        """Return the row, or raise 404 when it does not exist or is another tenant's, 403 without the right."""
        row = self.get_object(request, str(pk))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404

    # --- Choices --------------------------------------------------------------------------------------------------

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Leave out the admin's links that add and change the chosen row in a window of their own."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    def formfield_for_foreignkey(self, db_field: ForeignKey, request: HttpRequest, **kwargs: Any) -> Any:
        model = db_field.remote_field.model
        rows = model._default_manager.all()
        if "queryset" not in kwargs and isinstance(rows, SiteScopedQuerySet):
            rows = rows.visible_to(request.user)
            site = chosen_site(request)
            if site is not None:
                rows = rows.filter(**{getattr(model, "site_path", "site") or "pk": site.pk})
            kwargs["queryset"] = rows
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_changeform_initial_data(request)
        initial.pop("site", None)
        site = chosen_site(request)
        return {**initial, "site": site.pk} if site else initial

    # --- Permissions ----------------------------------------------------------------------------------------------

    def allows(self, request: HttpRequest, right: Right | None, row: Any = None) -> bool:
        """Tell whether the user has the right on the row's site, or on the chosen one, or (neither) on any."""
        if right is None:
            return False
        return can(request.user, self.site_pk_of(row) if row is not None else chosen_site(request), right)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return can(request.user, None, self.view_right)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.view_right, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.allows(request, self.add_right)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.change_right, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.allows(request, self.delete_right, obj)

    # --- Pages ----------------------------------------------------------------------------------------------------

    @property
    def plural(self) -> str:
        """What the rows are called, as a heading."""
        return str(self.list_title) or str(self.opts.verbose_name_plural).capitalize()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        context = {
            "list_title": self.plural,
            "title": self.plural,
            "add_label": self.add_label,
            "lead": self.lead,
            "empty_title": self.empty_title,
            "empty_text": self.empty_text,
            "empty_icon": self.empty_icon,
        }
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def frame(self, request: HttpRequest, title: str, row: Any = None, **more: Any) -> dict[str, Any]:
        """Return the context of a page of this admin: the frame, the way back to the list, the row."""
        query = f"?{urlencode({'site': site.site_id})}" if (site := chosen_site(request)) else ""
        crumbs = [(self.plural, self.page_of("changelist") + query)]
        if row is not None and str(row) != title:
            crumbs.append((str(row), self.object_url(row) + query))
        return {
            **self.admin_site.each_context(request), "opts": self.opts, "title": title, "breadcrumbs": crumbs,
            "original": row, **more,
        }  # fmt: skip

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        context: dict[str, Any] = {
            "breadcrumbs": [(self.plural, self.page_of("changelist"))],
            "show_save_and_add_another": False,
        }
        if not object_id and self.add_label:
            context["title"] = self.add_label
        row = self.get_object(request, object_id) if object_id else None
        if row is not None:
            context |= {"object_actions": self.buttons(request, row), "page_title": str(row), "title": str(row)}
        return super().changeform_view(request, object_id, form_url, {**context, **(extra_context or {})})

    # --- Object actions -------------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_action"
        view = self.admin_site.admin_view(self.action_view)
        return [path("<path:object_id>/do/<slug:action>/", view, name=name), *super().get_urls()]

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, Any]]:
        """Return the object actions that this user may do on this row now."""
        return [
            {
                "label": one.label, "icon": one.icon, "tone": one.tone, "confirm": one.confirm,
                "url": self.page_of("action", row.pk, one.name), "name": one.name,
            }
            for one in self.object_actions
            if self.allows(request, one.right, row) and one.when(row)
        ]  # fmt: skip

    def action_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        row = self.get_row(request, object_id)
        one = next((known for known in self.object_actions if known.name == action), None)
        if one is None:
            raise Http404
        if not self.allows(request, one.right, row):
            raise PermissionDenied
        if request.method != "POST":
            question = one.confirm(row) if callable(one.confirm) else one.confirm
            context = self.frame(
                request, str(one.label), row, action=one, question=question, back_url=self.object_url(row)
            )
            return TemplateResponse(request, "admin/confirm_action.html", context)
        if not one.when(row):
            messages.warning(request, _("This cannot be done any more: the page was out of date. Nothing was changed."))
            return HttpResponseRedirect(self.object_url(row))
        try:
            answer = getattr(self, one.run)(request, row)
        except ActionRefused as refusal:
            messages.error(request, str(refusal))
            return HttpResponseRedirect(self.object_url(row))
        if isinstance(answer, HttpResponse):
            return answer
        if answer:
            messages.success(request, answer)
        return HttpResponseRedirect(self.object_url(row))

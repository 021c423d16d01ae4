"""A site's set-up as a file, and a new site from such a file or from another site. Secrets never travel."""

import json
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from loyalty import audit
from loyalty.models import Site, SiteMembership
from loyalty.permissions import Right, can, roles_of, sites_where
from messaging.site_spec import SpecError, create_site, describe_site

# A set-up with a thousand campaigns is far below this.
_FILE_BYTES = 1_048_576


def export(dashboard: Any, request: HttpRequest, object_id: int) -> HttpResponse:
    """Download the set-up of a site, in the form that `create_site` takes."""
    site: Site = dashboard.get_model_admin(Site).get_row(request, object_id)
    if not can(request.user, site, Right.ACTIVATE):
        raise PermissionDenied
    audit.record("site.exported", site=site, request=request)
    # Guest phones are people's numbers: each site enters its own.
    described = {name: value for name, value in describe_site(site).items() if name != "guest_phones"}
    answer = HttpResponse(json.dumps(described, indent=2, ensure_ascii=False), content_type="application/json")
    answer["Content-Disposition"] = f'attachment; filename="site-{site.site_id}.json"'
    return answer


class SetUpForm(forms.Form):
    """Where the set-up comes from, and whose it becomes."""

    file = forms.FileField(
        required=False,
        label=gettext_lazy("Set-up file"),
        help_text=gettext_lazy("JSON, as “Export set-up” makes it and create_site takes it."),
    )
    source = forms.ModelChoiceField(
        queryset=Site.objects.none(), required=False, to_field_name="site_id", label=gettext_lazy("Or clone a site")
    )
    client_name = forms.CharField(max_length=200, label=gettext_lazy("Client name of the new site"))
    site_id = forms.CharField(max_length=64, label=gettext_lazy("Site ID of the new site"))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if bool(data.get("file")) == bool(data.get("source")):
            raise forms.ValidationError(_("Choose either a file or a site to clone."))
        if data.get("source"):
            data["spec"] = describe_site(data["source"])
        else:
            data["spec"] = self._read(data["file"])
        return data

    def _read(self, file: Any) -> dict[str, Any]:
        if file.size > _FILE_BYTES:
            raise forms.ValidationError(
                _("The file is larger than 1 MB. A set-up is much smaller: choose another file.")
            )
        try:
            spec = json.loads(file.read())
        except (ValueError, RecursionError):
            raise forms.ValidationError(
                _("The file is no JSON. Choose a file that “Export set-up” has made.")
            ) from None
        if not isinstance(spec, dict):
            raise forms.ValidationError(_("The file holds no site. Choose a file that “Export set-up” has made."))
        return spec


def setup(dashboard: Any, request: HttpRequest) -> HttpResponse:
    """Make a draft from a file or from another site."""
    if not can(request.user, None, Right.ACTIVATE):
        raise PermissionDenied
    admin = dashboard.get_model_admin(Site)
    form = SetUpForm(
        request.POST or None, request.FILES or None, initial={"source": request.GET.get("source")}, label_suffix=""
    )
    form.fields["source"].queryset = sites_where(request.user, Right.ACTIVATE)  # type: ignore[attr-defined]
    if request.method == "POST" and form.is_valid():
        try:
            site = _create(request, form.cleaned_data)
        except SpecError as error:
            form.add_error(None, str(error))
        else:
            messages.success(
                request, _("%(client)s is added as a draft. Enter its tokens.") % {"client": site.client_name}
            )
            return HttpResponseRedirect(admin.page_of("activate", site.pk))
    context = {**admin.frame(request, _("A site from a set-up")), "form": form}
    return TemplateResponse(request, "admin/loyalty/site/setup.html", context)


@transaction.atomic
def _create(request: HttpRequest, data: dict[str, Any]) -> Site:
    # A page never goes live without checks, and guest phones are not handed on.
    spec = {
        **data["spec"], "client_name": data["client_name"], "site_id": data["site_id"], "state": "DRAFT",
        "company_name": "", "company_domain": "", "guest_phones": [],
    }  # fmt: skip
    create_site(spec, by=request.user, actor=request.user.get_username())
    site = Site.objects.get(site_id=data["site_id"])
    if not request.user.is_superuser:
        order = list(SiteMembership.Role.values)
        role = max(roles_of(request.user).values(), key=order.index)
        SiteMembership.objects.create(user=request.user, site=site, role=role)  # type: ignore[misc]
    return site

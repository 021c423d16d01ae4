"""Forgetting a person on request: asked on a page before it, since nothing brings the person back."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from loyalty.models import Member
from loyalty.permissions import Right, can
from messaging.erasure import Erasure, erase


def erase_member(dashboard: Any, request: HttpRequest, object_id: int) -> HttpResponse:
    member = Member.objects.visible_to(request.user).select_related("site").filter(pk=object_id).first()
    if member is None or member.is_erased:
        raise Http404
    if not can(request.user, member.site, Right.ERASE):
        raise PermissionDenied
    if request.method == "POST":
        _tell(request, erase(member.site, member.phone, by=request.user))
        members = reverse("admin:loyalty_member_changelist")
        return HttpResponseRedirect(f"{members}?{urlencode({'site': member.site.site_id})}")
    page = reverse("admin:loyalty_member_change", args=[member.pk])
    context = {
        **dashboard.each_context(request),
        "title": _("Erase"),
        "breadcrumbs": [(_("Members"), reverse("admin:loyalty_member_changelist")), (str(member), page)],
        "action": {"label": _("Erase %(name)s for good") % {"name": member}, "tone": "danger"},
        "question": _(
            "Name, addresses, points, attributes and the words of every text are deleted at %(site)s; that actions "
            "and texts happened stays in the books, without the person. Attentive is asked to delete the person too. "
            "Imports do not bring them back, and this cannot be undone."
        )
        % {"site": member.site.client_name},
        "back_url": page,
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)


def _tell(request: HttpRequest, done: Erasure) -> None:
    """Say what was forgotten, and what somebody still has to do by hand."""
    messages.success(
        request,
        _("The person is erased: %(addresses)d addresses, %(messages)d texts, %(actions)d actions.")
        % {"addresses": done.addresses, "messages": done.messages, "actions": done.actions},
    )
    if done.attentive != "done":
        messages.warning(request, _("Attentive was not asked to delete the person: %(why)s") % {"why": done.sentence})
    if done.files:
        messages.warning(
            request,
            _("%(count)d stored files of imports and exports may still hold the person. Delete those that do.")
            % {"count": len(done.files)},
        )

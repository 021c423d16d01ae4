"""The demo console: fire a loyalty action and watch it become a text on the sandbox's phone screen."""

import uuid

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from attentive_integration.http import VendorError, call
from loyalty.models import ActionType, Consent, Member, Site
from loyalty.tokens import access_token
from messaging.models import Campaign, Message

from .login import user_of


@require_GET
def log_in(request: HttpRequest, code: str, token: str) -> HttpResponse:
    """Open a session for the one-time link that the demo printed."""
    user = user_of(code, token)
    if user is None:
        messages.error(
            request,
            _("This log-in link was used already or is too old. Start the demo again, and it prints a new one."),
        )
        return redirect("admin:login")
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("demo_console")


@staff_member_required
@require_GET
def console(request: HttpRequest) -> HttpResponse:
    """Show the form that fires an action, the last messages, and the way to the phones."""
    sites = Site.objects.visible_to(request.user).filter(state=Site.State.LIVE)
    campaigns = Campaign.objects.filter(site__in=sites, state=Campaign.State.LIVE).select_related("site", "action_type")
    textable = Consent.objects.filter(
        site__in=sites, channel=Consent.Channel.TEXT, state=Consent.State.SUBSCRIBED
    ).values("address")
    members = Member.objects.filter(site__in=sites, phone__in=textable).select_related("site").order_by("site", "pk")
    context = {
        **admin.site.each_context(request),
        "title": _("Demo console"),
        "campaigns": campaigns,
        "members": members[:25],
        "recent": Message.objects.filter(site__in=sites).select_related("member", "campaign").order_by("-id")[:8],
        "fired": request.GET.get("fired", ""),
        "sandbox_url": settings.ATTENTIVE_API_URL,
    }
    return render(request, "demo/console.html", context)


@staff_member_required
@require_POST
def fire(request: HttpRequest) -> HttpResponse:
    """Send an action to our own API over HTTP, as Annex Cloud would, and come back."""
    member = get_object_or_404(Member.objects.visible_to(request.user), pk=request.POST.get("member"))
    action_type = get_object_or_404(ActionType, pk=request.POST.get("action_type"), site=member.site)
    activity_id = f"demo-{uuid.uuid4()}"
    item = {
        "activity_id": activity_id,
        "action": action_type.code,
        "phone": member.phone,
        "points": (member.points or 0) + 25,
        "points_delta": 25,
        "occurred_at": timezone.now().isoformat(),
    }
    url = settings.PUBLIC_URL + reverse("api-1:actions", args=[member.site.site_id])
    try:
        call("POST", url, token=access_token(member.site) or "", json=item, side_effect=True)
    except VendorError as error:
        messages.error(request, error.sentence)
        return redirect("demo_console")
    messages.success(request, _("The action was accepted. The text appears on the phone within seconds."))
    return redirect(f"{reverse('demo_console')}?fired={activity_id}")

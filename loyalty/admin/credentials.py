"""The Credentials page of a site: rotate safely. A stored token is never shown; a new ingest key is, once."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from loyalty import activation, connection, tokens
from loyalty.connection import ActivationRefused, Task, TaskState
from loyalty.models import AccessToken, Site
from loyalty.permissions import Right, can

if TYPE_CHECKING:
    from loyalty.admin.sites import SiteAdmin

Kind = AccessToken.Kind
Slot = AccessToken.Slot


def page(admin: "SiteAdmin", request: HttpRequest, site: Site) -> HttpResponse:
    """Show every kind of token with its two slots; a POST does one step of a rotation."""
    fresh_key = ""
    if request.method == "POST":
        if not can(request.user, site, Right.ROTATE):
            raise PermissionDenied
        fresh_key = _carry_out(request, site)
        if not fresh_key:
            return HttpResponseRedirect(admin.page_of("credentials", site.pk))
    context = {
        **admin.site_frame(request, site, "credentials", _("Credentials")),
        "cards": _cards(site),
        "may_rotate": can(request.user, site, Right.ROTATE),
        "fresh_key": fresh_key,
        "webhook_url": activation.webhook_url(site),
    }
    return TemplateResponse(request, "admin/loyalty/site/credentials.html", context)


def _cards(site: Site) -> list[dict[str, Any]]:
    rows = AccessToken.objects.filter(site=site).select_related("set_by").order_by("-set_at")
    since = timezone.now() - timedelta(hours=24)
    cards: dict[str, dict[str, Any]] = {
        kind: {"kind": kind, "label": kind.label, "hint": _hint(kind), "is_inbound": kind == Kind.INGEST}
        for kind in Kind
    }
    for row in rows:
        card = cards[row.kind]
        if row.revoked_at is None:
            card[row.slot.lower()] = row
        elif row.revoked_at >= since and row.sealed_secret and "previous" not in card:
            card["previous"] = row
    return list(cards.values())


def _hint(kind: Kind) -> str:
    return {
        Kind.LOYALTY: _("Signs calls to Annex Cloud; with the site ID it makes the access token, which is computed."),
        Kind.ATTENTIVE_APP: _("Subscriptions, eligibility, events and segments at Attentive."),
        Kind.ATTENTIVE_LEGACY: _("Messages at Attentive. Only a text proves it."),
        Kind.WEBHOOK_SIGNING: _("Proves that a webhook comes from Attentive. Both slots are accepted."),
        Kind.INGEST: _("Lets another system send actions and members here. Both slots are accepted."),
    }[kind]


def _carry_out(request: HttpRequest, site: Site) -> str:
    """Do one step and tell the result; returns a new ingest key, which is shown this once."""
    data, user = request.POST, request.user
    if data.get("kind") not in Kind.values:
        raise Http404
    kind = Kind(data["kind"])
    slot = Slot.NEXT if data.get("slot") == Slot.NEXT else Slot.CURRENT
    try:
        match data.get("do"):
            case "add":
                tokens.set_token(site, kind, data.get("secret", ""), by=user, slot=Slot.NEXT)
                messages.success(request, _("The next token is kept. Test it, then promote it."))
            case "test":
                check = connection.test_next(site, kind, by=user)
                level = messages.ERROR if check.state == TaskState.FAILED else messages.SUCCESS
                messages.add_message(request, level, f"{kind.label}: {check.sentence} {check.account}".strip())
            case "promote":
                tokens.promote(site, kind, by=user)
                messages.success(request, _("Promoted. For 24 hours you can roll back to the token before."))
                _check_again(request, site, kind)
            case "roll-back":
                tokens.roll_back(site, kind, by=user)
                messages.success(request, _("Rolled back: the token before is in use again."))
                _check_again(request, site, kind)
            case "revoke":
                tokens.revoke(site, kind, by=user, slot=slot)
                messages.success(request, _("Revoked."))
            case "new-ingest-key":
                current = tokens.active(site, Kind.INGEST)
                return tokens.new_ingest_key(site, by=user, slot=Slot.NEXT if current else Slot.CURRENT)
            case _other:
                raise Http404
    except (tokens.TokenUnusable, ActivationRefused, ValueError) as refusal:
        messages.error(request, str(refusal))
    return ""


def _check_again(request: HttpRequest, site: Site, kind: Kind) -> None:
    """A changed token may be another one: look at once."""
    if kind not in Task.values:
        return
    if kind == Kind.ATTENTIVE_LEGACY:
        site.checks = {**site.checks, kind: {}}
    check = activation.check(site, kind, request.user)
    if check.state == TaskState.FAILED:
        messages.error(request, f"{kind.label}: {check.sentence}")

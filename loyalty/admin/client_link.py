"""The page on which staff make a link for the client to enter keys, and what they see of the last one."""

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from loyalty import client_links
from loyalty.client_links import Key, Outcome
from loyalty.connection import ActivationRefused
from loyalty.models import AccessToken, ClientLink, Site
from loyalty.permissions import Right, can

if TYPE_CHECKING:
    from loyalty.admin.sites import SiteAdmin


def page(admin: "SiteAdmin", request: HttpRequest, site: Site) -> HttpResponse:
    """Choose the keys; a POST makes the link, whose address is shown this once, or withdraws the one there is."""
    if not can(request.user, site, Right.ACTIVATE):
        raise PermissionDenied
    fresh_link = ""
    if request.method == "POST":
        match request.POST.get("do"):
            case "make":
                try:
                    _link, fresh_link = client_links.make(site, request.POST.getlist("key"), by=request.user)
                except ActivationRefused as refusal:
                    messages.error(request, str(refusal))
            case "withdraw":
                if client_links.withdraw(site, by=request.user):
                    messages.success(request, _("The link is withdrawn: it does not work any more."))
                return HttpResponseRedirect(admin.page_of("activate", site.pk) + "#client-link")
            case _other:
                raise Http404
    context = {
        **admin.site_frame(request, site, "activate", _("Ask the client for the keys")),
        **status(site),
        "choices": _choices(site),
        "fresh_link": fresh_link,
    }
    return TemplateResponse(request, "admin/loyalty/site/ask_client.html", context)


def status(site: Site) -> dict[str, Any]:
    """Return the context of `client_link.html`: how the last link stands, and each key that it asks for."""
    link = client_links.latest(site)
    if link is None:
        return {"link": None, "link_open": False}
    state, word = client_links.standing(link)
    return {
        "link": link,
        "link_open": link.is_open,
        "link_state": state,
        "link_word": word,
        "link_keys": [_key(link, key) for key in link.asked],
    }


def _key(link: ClientLink, key: str) -> dict[str, Any]:
    entry = link.entered.get(key) or {}
    outcome = link.outcome(key)
    return {
        "label": Key(key).label,
        "outcome": outcome,
        "word": Outcome(outcome).label if outcome else _("Not given"),
        "at": parse_datetime(entry["at"]) if entry else None,
        "account": entry.get("account", ""),
        "waits": entry.get("slot") == AccessToken.Slot.NEXT and outcome != Outcome.REFUSED,
    }


def _choices(site: Site) -> list[dict[str, Any]]:
    missing, closed = client_links.missing(site), client_links.cannot_ask(site)
    stored = set(AccessToken.objects.filter(site=site, slot="CURRENT", revoked_at=None).values_list("kind", flat=True))

    def note(key: str) -> str:
        if key == Key.SIGN_UP_SOURCE and key in closed:
            return _("There is one already. You can add others on the Activate page.")
        if key in closed:
            return _("A next token waits already. Promote or discard it on the Credentials page first.")
        if key in stored:
            return _("There is one in use. What the client enters waits as the next token until it is promoted.")
        if key == Key.ATTENTIVE_LEGACY and key not in missing:
            return _("You have asked Attentive's legacy team for it.")
        return ""

    return [
        {"key": key, "label": Key(key).label, "ticked": key in missing, "closed": key in closed, "note": note(key)}
        for key in Key.values
    ]

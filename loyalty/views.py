"""The page on which a client, who has no account, enters the keys that a link asks for. It shows nothing else."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from loyalty import activation, client_links
from loyalty.client_links import Key, LinkClosed, Outcome
from loyalty.connection import LEGACY_TEAM, Code
from loyalty.models import ClientLink

_ATTENTIVE_LOG_IN = "https://ui.attentivemobile.com/signin"


@never_cache
@sensitive_post_parameters("secret")
@require_http_methods(["GET", "HEAD", "POST"])
def client_link(request: HttpRequest, token: str) -> HttpResponse:
    """Show what is asked for; a POST enters one key (`key`, `secret`) or says that the client has `finish`ed.

    Whoever holds the link may enter keys, and only that. A link that is unknown (404) or over (410) is told the same.
    """
    link = client_links.find(token)
    if link is None or not link.is_open:
        return _page(request, "closed", 404 if link is None else 410)
    if request.method == "POST" or not (request.method == "HEAD" or request.user.is_authenticated):
        client_links.note_opened(link)
    if request.method == "POST":
        try:
            return _take(request, link)
        except LinkClosed:
            return _page(request, "closed", 410)
    return _page(request, "keys", **_shown(link))


def _take(request: HttpRequest, link: ClientLink) -> HttpResponse:
    key = request.POST.get("key", "")
    if request.POST.get("do") == "finish":
        client_links.finish(link)
        return _page(request, "done", **_shown(link))
    if key not in link.asked:
        return HttpResponseRedirect(request.path)
    client_links.enter(link, key, request.POST.get("secret", ""))
    if link.ended_at:
        return _page(request, "done", **_shown(link))
    return HttpResponseRedirect(f"{request.path}#{key.lower().replace('_', '-')}")


def _page(request: HttpRequest, name: str, status: int = 200, **context: Any) -> HttpResponse:
    frame = {
        "site_header": admin.site.site_header,
        "site_title": admin.site.site_title,
        "environment_label": settings.ENVIRONMENT_LABEL,
    }
    answer = TemplateResponse(request, f"client_link/{name}.html", {**frame, **context}, status=status)
    # The address holds the token: our host alone in the Referer, for our own files too. Without any, the browser would
    # send "Origin: null" with the forms, which the protection against forged requests refuses.
    answer["Referrer-Policy"] = "strict-origin"
    return answer


def _shown(link: ClientLink) -> dict[str, Any]:
    """Return what the client sees: the names, the time, and each key with how it stands. No stored value."""
    return {
        "link": link,
        "site": link.site,
        "who": client_links.asked_by(link),
        "attentive_log_in": _ATTENTIVE_LOG_IN,
        "legacy_team": LEGACY_TEAM,
        "keys": [_key(link, key) for key in link.asked],
        "given": sum(link.outcome(key) == Outcome.GIVEN for key in link.asked),
        "webhook_url": activation.webhook_url(link.site) if Key.WEBHOOK_SIGNING in link.asked else "",
    }


def _key(link: ClientLink, key: str) -> dict[str, Any]:
    entry = link.entered.get(key) or {}
    outcome = entry.get("outcome", "")
    return {
        "key": key,
        "anchor": key.lower().replace("_", "-"),
        "label": Key(key).label,
        "outcome": outcome,
        "word": Outcome(outcome).label if outcome else _("To do"),
        "tone": {Outcome.GIVEN: "good", Outcome.REFUSED: "bad", Outcome.TO_CONFIRM: "warn"}.get(outcome, ""),
        "sentence": _words(link, key, entry) if entry else "",
    }


def _words(link: ClientLink, key: str, entry: dict[str, Any]) -> str:
    """Return what was found, for the client: where staff's sentence has a remedy that only staff can use, another."""
    words = str(entry["sentence"])
    if key == Key.ATTENTIVE_APP and entry["outcome"] == Outcome.GIVEN:
        words = _("Connected to %(account)s.")
    elif key == Key.ATTENTIVE_LEGACY and entry["outcome"] == Outcome.GIVEN:
        words = _("The token is kept. %(who)s proves it with a test text.")
    elif entry["code"] == Code.OTHER_CLIENT:
        words = _(
            "This key belongs to another account than expected: %(account)s. If it was copied from the wrong account, "
            "enter the right one here. If it is right, leave it: %(who)s confirms it."
        )
    elif entry["code"] == Code.OTHER_SITE:
        words = _(
            "This access token is for another site, not for %(site)s. Copy the token of %(client)s, and enter it here."
        )
    elif entry["code"] == Code.UNREACHABLE:
        words = _(
            "The key is kept, but it could not be tested now. Enter it once more in a few minutes, or leave it: "
            "%(who)s tests it."
        )
    else:
        return words
    return words % {
        "account": entry["account"], "who": client_links.asked_by(link),
        "client": link.site.client_name, "site": link.site.site_id,
    }  # fmt: skip

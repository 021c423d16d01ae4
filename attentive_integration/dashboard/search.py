"""Search everywhere: a phone in any spelling, an e-mail, a loyalty ID, the number of a message, a client or a page.

Every look-up is an exact match on an index, so that it takes as long with ten million members as with ten; clients are
few, and found by the beginning of their name.
"""

import re
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from attentive_integration.dashboard.attention import address
from attentive_integration.markup import ago, email_text, phone_text, pill_for_state
from attentive_integration.phones import spellings
from loyalty.models import Consent, Member, Site
from loyalty.permissions import Right, can, chosen_site
from messaging.models import Message

# More than this many hits of one kind are not a find.
_MOST = 25


def search(dashboard: Any, request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").strip()[:254]
    members, messages, consents, sites = _find(request, text) if text else ([], [], [], [])
    hits = [
        *(address("loyalty_member_change", member.pk) for member in members),
        *(address("messaging_message_change", message.pk) for message in messages),
        *(address("loyalty_site_overview", site.pk) for site in sites),
    ]
    if len(hits) == 1 and hits[0] and not consents:
        return HttpResponseRedirect(hits[0])
    frame = dashboard.each_context(request)
    pages = _pages(frame["navigation"], text)
    if len(pages) == 1 and not hits and not consents:
        return HttpResponseRedirect(pages[0]["url"])
    context = {
        **frame,
        "title": _("Search"),
        "global_query": text,
        "text": text,
        "found": bool(members or messages or consents or sites or pages),
        "pages": pages,
        "sites": sites,
        "member_rows": _member_rows(request, members),
        "message_rows": _message_rows(request, messages),
        "consent_rows": [
            [phone_text(row.address, whole=_sees(request, row.site_id)), row.site.client_name, pill_for_state(row)]
            for row in consents
        ],
    }
    return TemplateResponse(request, "admin/search.html", context)


def _pages(navigation: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the pages of the sidebar whose name begins like this."""
    words = text.lower()
    entries = [entry for group in navigation for entry in group["entries"]]
    return [entry for entry in entries if len(words) > 1 and str(entry["label"]).lower().startswith(words)]


def _sees(request: HttpRequest, site_pk: int) -> bool:
    return can(request.user, site_pk, Right.PII)


def _find(request: HttpRequest, text: str) -> tuple[list[Member], list[Message], list[Consent], list[Site]]:
    site = chosen_site(request)
    members = Member.objects.visible_to(request.user).select_related("site")
    messages = Message.objects.visible_to(request.user).select_related("site", "member", "campaign")
    consents = Consent.objects.visible_to(request.user).select_related("site")
    sites = Site.objects.visible_to(request.user)
    if site is not None:
        members, messages, consents = members.filter(site=site), messages.filter(site=site), consents.filter(site=site)
    if "@" in text:
        return list(members.filter(email=text.lower()).exclude(email="")[:_MOST]), [], [], []
    number = re.fullmatch(r"#?(\d{1,18})", text)
    phone = spellings(text, site.default_country if site else "US")
    found = list(members.filter(external_id=text).exclude(external_id="")[:_MOST])
    strangers: list[Consent] = []
    if phone:
        by_phone = list(members.filter(phone=phone)[:_MOST])
        found += [member for member in by_phone if member not in found]
        # A STOP from a number that was never imported has no member, and is found all the same.
        known = {member.site_id for member in by_phone}
        rows = consents.filter(address=phone, channel=Consent.Channel.TEXT)[:_MOST]
        strangers = [row for row in rows if row.site_id not in known]
    texts = list(messages.filter(pk=int(number[1]))) if number and (text.startswith("#") or not phone) else []
    return found, texts, strangers, list(sites.filter(Q(site_id=text) | Q(client_name__istartswith=text))[:_MOST])


def _member_rows(request: HttpRequest, members: list[Member]) -> list[dict[str, Any]]:
    rows = []
    for member in members:
        whole = _sees(request, member.site_id)
        rows.append(
            {
                "url": address("loyalty_member_change", member.pk), "name": str(member),
                "phone": phone_text(member.phone, whole=whole), "email": email_text(member.email, whole=whole),
                "external_id": member.external_id, "site": member.site.client_name, "tier": member.tier,
                "messages": address("messaging_message_changelist", member__id__exact=member.pk, period="all"),
            }
        )  # fmt: skip
    return rows


def _message_rows(request: HttpRequest, messages: list[Message]) -> list[dict[str, Any]]:
    return [
        {
            "url": address("messaging_message_change", message.pk), "title": f"#{message.pk}",
            "pill": pill_for_state(message), "campaign": message.campaign.name, "site": message.site.client_name,
            "phone": phone_text(message.to, whole=_sees(request, message.site_id)), "at": ago(message.created_at),
        }
        for message in messages
    ]  # fmt: skip

"""What the pages of a campaign show: previews and parts, readiness, versions with their differences, shadow report."""

import difflib
import re
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import Any

from django.db.models import Exists, Q, Subquery
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attentive_integration import markup, pictures
from loyalty.models import AccessToken, Breaker, Consent, SendingStop, Site
from messaging import campaigns, previews, text
from messaging.forms import CampaignForm
from messaging.models import Campaign, CampaignVersion, Message
from messaging.previews import Audience, Preview
from messaging.queue import TOKEN_OF_ROUTE
from messaging.reasons import Code, explain

_VERSIONS_LISTED = 40
SHADOW_DAYS = 14
# The shadow report reads no more messages than this, the newest.
SHADOW_CAP = 5_000
_SHADOW_SAMPLES = 8


# --- The editor -------------------------------------------------------------------------------------------------------


def editor_parts(campaign: Campaign, form: CampaignForm) -> dict[str, Any]:
    """Return what stands beside the editor's form."""
    audience = Audience(campaign)
    return {
        **preview_parts(campaign, form, audience),
        "placeholders": [*text.KNOWN, *(f"data.{key}" for key in audience.data_keys)],
        "quiet_hours": quiet_hours_words(campaign.site),
        "caps": caps_words(campaign.site),
        "settings_url": reverse("admin:loyalty_site_change", args=[campaign.site_id]),
        "segments_url": reverse("admin:loyalty_segment_changelist"),
        "is_running": campaign.state in campaigns.RUNNING,
    }


def preview_parts(campaign: Campaign, form: CampaignForm, audience: Audience) -> dict[str, Any]:
    """Return the preview of what stands in the form, saved or not; the campaign carries the form's settings."""
    body = _value(form, "body")
    words = _value(form, "preview_for")
    site = campaign.site
    chosen = previews.find_member(site, words)
    content = {name: _value(form, name) for name in campaigns.CONTENT_FIELDS}
    shown = previews.previews(campaign, body, audience, chosen)
    return {
        "is_event": campaign.route == Campaign.Route.EVENT,
        "problems": list(campaigns.content_problems(campaign, content).values()),
        "previews": [_bubble(campaign, preview) for preview in shown],
        "missing_member": words if words and chosen is None else "",
        "counter": _counter(body, site),
        "culprits": text.parts(body).culprits,
        "has_picture": bool(content["media_url"]),
        "reach": audience.reach,
    }


def look_at_picture(form: CampaignForm) -> dict[str, str]:
    """Fetch the picture whose address stands in the form, saved or not, and say what Attentive will make of it."""
    try:
        picture = pictures.look_at(_value(form, "media_url"))
    except pictures.PictureError as error:
        return {"tone": "bad", "text": str(error)}
    words = _("It is there: a %(kind)s of %(size)d KB. Attentive takes up to 500 KB.")
    return {"tone": "good", "text": words % {"kind": picture.kind, "size": max(1, picture.size // 1000)}}


def _value(form: CampaignForm, name: str) -> str:
    return str(form[name].value() or "").replace("\r\n", "\n").strip()


def _counter(body: str, site: Site) -> dict[str, Any]:
    """Return the size of the text as it is written and at its longest."""
    plain, longest = text.parts(body, site.sms_prefix), text.parts(text.worst_case(body), site.sms_prefix)
    return {"now": in_words(plain), "longest": in_words(longest), "is_over": longest.count > text.MAX_PARTS}


def in_words(parts: text.Parts) -> str:
    """Say how many parts a text takes, in which alphabet, and how much room is left."""
    return ngettext(
        "%(n)d SMS part · %(units)d units in %(encoding)s, %(left)d left",
        "%(n)d SMS parts · %(units)d units in %(encoding)s, %(left)d left in the last",
        parts.count,
    ) % {"n": parts.count, "units": parts.units, "encoding": parts.encoding, "left": parts.left}


def _bubble(campaign: Campaign, preview: Preview) -> dict[str, Any]:
    prefix, body = previews.prefixed(campaign.site, preview.text)
    placeholder = "{{ " + preview.detail + " }}" if preview.detail else ""
    return {
        "member": preview.member,
        "is_chosen": preview.is_chosen,
        "prefix": prefix,
        "body": body,
        "size": in_words(preview.parts),
        "reason": explain(preview.reason, placeholder=placeholder) if preview.reason else None,
    }


def quiet_hours_words(site: Site) -> str:
    """Say when a site texts nobody."""
    if site.quiet_hours is None:
        return _("None: the site texts at any hour, whatever the member's state allows.")
    return (
        _("%(start)s to %(end)s where the member is, and outside the hours of the member's state.") % site.quiet_hours
    )


def caps_words(site: Site) -> str:
    """Say how many texts a person may get from a site."""
    if not site.caps:
        return _("None")
    return ", ".join(
        ngettext("%(n)d text in %(hours)d hours", "%(n)d texts in %(hours)d hours", cap["messages"])
        % {"n": cap["messages"], "hours": cap["hours"]}
        for cap in site.caps
    )


# --- Readiness --------------------------------------------------------------------------------------------------------


def readiness(campaign: Campaign) -> list[dict[str, Any]]:
    """Return what a look before going live finds: {tone, icon, title, text, url}, the troubles first."""
    site, kind = campaign.site, TOKEN_OF_ROUTE[campaign.route]
    token = AccessToken.objects.filter(site=site, kind=kind, slot=AccessToken.Slot.CURRENT, revoked_at=None)
    facts: Any = Site.objects.filter(pk=site.pk).values(
        token=Subquery(token.values("last_four")[:1]),
        held=Subquery(
            Breaker.objects.filter(site=site, token_kind=kind, opened_at__isnull=False).values("sentence")[:1]
        ),
        stopped=Exists(SendingStop.objects.filter(Q(site=None) | Q(site=site), ended_at=None)),
    )
    known = facts.get()
    found = [_content_line(campaign), _site_line(site), _token_line(campaign, known["token"], known["held"])]
    if known["stopped"]:
        url = reverse("admin:loyalty_sendingstop_changelist")
        found.append(_line("bad", _("Sending is stopped"), _("Texts are held until somebody resumes sending."), url))
    if campaign.is_shadow:
        found.append(_line("info", _("Shadow mode is on"), _("The campaign shows its texts and sends nothing.")))
    order = ("bad", "warn", "info", "good")
    return sorted(found, key=lambda line: order.index(line["tone"]))


def _line(tone: str, title: str, words: str, url: str = "") -> dict[str, Any]:
    icon = {"good": "check", "warn": "warning", "bad": "cross", "info": "info"}[tone]
    return {"tone": tone, "icon": icon, "title": title, "text": words, "url": url}


def _content_line(campaign: Campaign) -> dict[str, Any]:
    problems = campaigns.content_problems(campaign, campaigns.content_of(campaign.version))
    if problems:
        return _line("bad", _("The text cannot be sent"), " ".join(problems.values()))
    if campaign.route == Campaign.Route.EVENT:
        return _line("good", _("The event can be sent"), _("Attentive's journey decides what is texted."))
    longest = text.parts(text.worst_case(campaign.version.body if campaign.version else ""), campaign.site.sms_prefix)
    return _line("good", _("The text can be sent"), _("At its longest: %(size)s.") % {"size": in_words(longest)})


def _site_line(site: Site) -> dict[str, Any]:
    url = reverse("admin:loyalty_site_change", args=[site.pk])
    if site.state == Site.State.LIVE:
        return _line("good", _("The site is live"), _("Members who subscribed are texted."))
    if site.state == Site.State.TEST:
        return _line("warn", _("The site is in test mode"), _("Only its guest phones are texted."), url)
    if site.state == Site.State.PAUSED:
        return _line("warn", _("The site is paused"), _("Texts are held until it is resumed."), url)
    return _line("warn", _("The site is a draft"), _("It texts nobody before it is activated."), url)


def _token_line(campaign: Campaign, last_four: str | None, held: str | None) -> dict[str, Any]:
    kind = AccessToken.Kind(TOKEN_OF_ROUTE[campaign.route])
    url = reverse("admin:loyalty_site_change", args=[campaign.site_id])
    if last_four is None:
        return _line("bad", _("A token is missing"), explain(Code.TOKEN_MISSING).cause, url)
    if held is not None:
        return _line("bad", _("Attentive refuses the token, or does not answer"), held, url)
    return _line("good", _("The token is there"), f"{kind.label} ····{last_four}")


# --- Versions ---------------------------------------------------------------------------------------------------------


def version_rows(campaign: Campaign) -> list[dict[str, Any]]:
    """Return the newest versions, each with what it changed against the one before it."""
    versions = list(
        CampaignVersion.objects.filter(campaign=campaign)
        .select_related("created_by")
        .order_by("-number")[: _VERSIONS_LISTED + 1]
    )
    rows = []
    for version, before in zip(versions, [*versions[1:], None], strict=True):
        rows.append(
            {
                "version": version,
                "is_current": version.pk == campaign.version_id,
                "words": word_diff(before.body if before else version.body, version.body),
                "others": _other_changes(version, before),
            }
        )
    return rows[:_VERSIONS_LISTED]


def word_diff(old: str, new: str) -> list[tuple[str, str]]:
    """Return pieces (“same”, “gone” or “new”, words) that lead from the old text to the new one."""
    before, after = re.findall(r"\s+|\S+", old), re.findall(r"\s+|\S+", new)
    pieces: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(before[a:b])))
            continue
        if b > a:
            pieces.append(("gone", "".join(before[a:b])))
        if d > c:
            pieces.append(("new", "".join(after[c:d])))
    return pieces


def _other_changes(version: CampaignVersion, before: CampaignVersion | None) -> list[dict[str, str]]:
    labels = {"link": _("Link"), "media_url": _("Picture"), "event_type": _("Event type")}
    return [
        {"label": label, "old": getattr(before, name) if before else "", "new": getattr(version, name)}
        for name, label in labels.items()
        if getattr(version, name) != (getattr(before, name) if before else "")
    ]


# --- Shadow report ----------------------------------------------------------------------------------------------------


def shadow_report(campaign: Campaign) -> dict[str, Any]:
    """Return per day what the campaign made in shadow mode, by today's consent, with parts and reasons."""
    since = timezone.now() - timedelta(days=SHADOW_DAYS)
    # By the newest actions: their index is the campaign's own, however much else the site sends.
    made = Message.objects.filter(campaign=campaign).order_by("-action")
    newest = list(made.only("created_at", "to", "body", "reason", "state")[: SHADOW_CAP + 1])
    taken = [message for message in newest[:SHADOW_CAP] if message.created_at >= since]
    shadowed = [message for message in taken if message.reason == Code.SHADOW]
    textable = _textable(campaign.site_id, {message.to for message in shadowed})
    days: dict[date, Counter[str]] = defaultdict(Counter)
    for message in taken:
        day = days[timezone.localdate(message.created_at)]
        if message.reason != Code.SHADOW:
            day["others"] += bool(message.reason)
            continue
        day["texts" if message.to in textable else "unsubscribed"] += 1
        if message.to in textable:
            day["parts"] += text.parts(message.body, campaign.site.sms_prefix).count
    reasons = Counter(message.reason for message in taken if message.reason and message.reason != Code.SHADOW)
    rows = [
        (date_format(day, "SHORT_DATE_FORMAT"), counts)
        for day, counts in sorted(days.items(), key=lambda pair: pair[0])
    ]
    return {
        "has_shadow": bool(shadowed),
        "is_capped": len(newest) > SHADOW_CAP,
        "cap": SHADOW_CAP,
        "days": SHADOW_DAYS,
        "chart": markup.bar_chart(
            _("Texts in shadow mode"),
            rows,
            [
                markup.Series("texts", _("Would be texted"), "brand"),
                markup.Series("unsubscribed", _("Not subscribed"), "calm"),
                markup.Series("others", _("Other reasons"), "warn"),
            ],
        ),
        "headers": [
            _("Day"), (_("Would be texted"), "number"), (_("SMS parts"), "number"), (_("Not subscribed"), "number"),
            (_("Other reasons"), "number"),
        ],
        "table": [
            [day, *(markup.number(counts[name]) for name in ("texts", "parts", "unsubscribed", "others"))]
            for day, counts in reversed(rows)
        ],
        "totals": sum((counts for _day, counts in rows), Counter()),
        "reasons": [(explain(code).title, count) for code, count in reasons.most_common()],
        "samples": [
            (message, *previews.prefixed(campaign.site, message.body)) for message in shadowed[:_SHADOW_SAMPLES]
        ],
    }  # fmt: skip


def _textable(site_id: int, phones: set[str]) -> set[str]:
    rows = Consent.objects.filter(
        site=site_id, channel=Consent.Channel.TEXT, state=Consent.State.SUBSCRIBED, address__in=phones
    )
    return set(rows.values_list("address", flat=True))

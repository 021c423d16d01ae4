"""One person's story: imported, consent with its evidence, what they did, and the texts they got or did not get."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.markup import STATE_LOOKS, number, pill_for_state
from loyalty import consent
from loyalty.admin.consents import ledger_entry
from loyalty.models import Consent, ConsentEvent, Member, MemberChange
from loyalty.resources import MemberResource

# Entries that the page shows, and rows that are read of each kind for them.
MOST = 60
# What an import can change besides the columns of a file.
_OTHER_LABELS = {
    "extended_attributes": gettext_lazy("extended attributes"), "replaced_by": gettext_lazy("current phone"),
}  # fmt: skip


@dataclass(frozen=True)
class Story:
    """What a member's page tells: consent per channel, and entries for `partials/timeline.html`, newest first."""

    text_state: str
    channels: list[dict[str, Any]]
    entries: list[dict[str, Any]]
    has_more: bool = False
    older_phones: list[Member] = field(default_factory=list)


def story_of(member: Member, *, whole: bool) -> Story:
    """Tell a member's story; `whole` is whether the reader may see whole addresses and what texts said."""
    addresses = [(Consent.Channel.TEXT, member.phone)]
    if member.email:
        addresses.append((Consent.Channel.EMAIL, member.email.lower()))
    rows = list(Consent.objects.filter(_any_of(addresses), site=member.site_id))
    events = list(
        ConsentEvent.objects.filter(consent__in=rows)
        .select_related("by", "consent")
        .order_by("-recorded_at", "-pk")[: MOST + 1]
    )
    by_channel = {row.channel: row for row in rows}
    text_state = (
        by_channel[Consent.Channel.TEXT].state
        if Consent.Channel.TEXT in by_channel
        else consent.state_of(member.site, member.phone)
    )
    latest: dict[int, ConsentEvent] = {}
    for event in events:
        if not event.heard:
            latest.setdefault(event.consent_id, event)
    channels = []
    for channel, _address in addresses:
        row = by_channel.get(channel)
        decided = latest.get(row.pk) if row else None
        channels.append(
            {
                "name": Consent.Channel(channel).label,
                "state": row.state if row else Consent.State.UNKNOWN.value,
                "row": row,
                "since": (decided.event_at or decided.recorded_at) if decided else None,
                "source": decided.get_source_display() if decided else "",
                "url": reverse("admin:loyalty_consent_change", args=[row.pk]) if row else "",
            }
        )
    entries = [*_consent_entries(events), *_action_entries(member), *_message_entries(member, whole=whole)]
    entries.extend(_import_entries(member))
    entries.extend(_birth_entries(member))
    entries.sort(key=lambda entry: entry["at"], reverse=True)
    return Story(
        text_state=text_state,
        channels=channels,
        entries=entries[:MOST],
        has_more=len(entries) > MOST,
        older_phones=list(member.replaces.order_by("-pk")[:5]),
    )


def _any_of(addresses: list[tuple[Any, str]]) -> Q:
    condition = Q()
    for channel, address in addresses:
        condition |= Q(channel=channel, address=address)
    return condition


def _consent_entries(events: list[ConsentEvent]) -> Iterator[dict[str, Any]]:
    for event in events:
        entry = ledger_entry(event)
        yield {**entry, "title": f"{event.consent.get_channel_display()}: {entry['title']}"}


def _action_entries(member: Member) -> Iterator[dict[str, Any]]:
    for action in member.actions.select_related("action_type").order_by("-occurred_at")[: MOST + 1]:
        words = [_("activity %(id)s") % {"id": action.activity_id}]
        if action.points_delta is not None:
            words.append(_("%(change)s points") % {"change": _signed(action.points_delta)})
        if action.points is not None:
            words.append(_("balance %(points)s") % {"points": number(action.points)})
        if action.processed_at is None:
            words.append(_("not looked at by the campaigns yet"))
        elif action.outcome and action.outcome != "MATCHED":
            words.append(str(action.get_outcome_display()))
        yield _entry("info", "star", str(action.action_type), " · ".join(words), action.occurred_at)


def _message_entries(member: Member, *, whole: bool) -> Iterator[dict[str, Any]]:
    """The texts come by the reverse relation: what a text is, the rooms above know."""
    for message in member.messages.select_related("campaign").order_by("-created_at")[: MOST + 1]:
        tone, icon = STATE_LOOKS.get(message.state, ("calm", "message"))
        text = render_to_string("admin/loyalty/member/message_line.html", {"message": message, "whole": whole})
        title = _("Text: %(campaign)s") % {"campaign": message.campaign}
        at = message.sent_at or message.created_at
        entry = _entry(tone, "message", title, text, at)
        entry["pill"] = pill_for_state(message)
        entry["url"] = reverse("admin:messaging_message_change", args=[message.pk])
        yield entry


def _import_entries(member: Member) -> Iterator[dict[str, Any]]:
    """Which fields later imports changed in the member."""
    changes = MemberChange.objects.filter(member=member).select_related("job").order_by("-pk")[: MOST + 1]
    for change in changes:
        labels = [_field_label(name) for name in change.changes]
        title = _("Changed by the import of %(file)s") % {"file": change.job.file_name}
        entry = _entry("calm", "import", title, ", ".join(labels), change.job.ended_at or change.job.created_at)
        entry["url"] = reverse("admin:loyalty_importjob_change", args=[change.job_id])
        yield entry


def _field_label(name: str) -> str:
    column = MemberResource.fields.get(name)
    return str(column.label if column else _OTHER_LABELS[name])


def _birth_entries(member: Member) -> Iterator[dict[str, Any]]:
    job = member.created_by_import
    if job is not None:
        title = _("Imported from %(file)s") % {"file": job.file_name}
        entry = _entry("calm", "import", title, _("import #%(pk)s") % {"pk": job.pk}, member.created_at)
        yield {**entry, "url": reverse("admin:loyalty_importjob_change", args=[job.pk])}
    else:
        yield _entry("calm", "user", _("Became known to us"), "", member.created_at)


def _entry(tone: str, icon: str, title: str, text: str, at: datetime) -> dict[str, Any]:
    return {"tone": tone, "icon": icon, "title": title, "text": text, "at": at, "pill": "", "url": ""}


def _signed(value: int) -> str:
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{number(abs(value))}"

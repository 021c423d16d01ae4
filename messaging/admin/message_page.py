"""What the page of one message shows: its state with cause and remedy, its attempts, its story."""

from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from attentive_integration import markup, phones
from messaging import text
from messaging.models import Message, SendAttempt
from messaging.previews import prefixed
from messaging.support_bundle import support_bundle, without_phone
from messaging.why import reason_of

State = Message.State

_TONES = {
    SendAttempt.Outcome.ACCEPTED: "good",
    SendAttempt.Outcome.REFUSED: "bad",
    SendAttempt.Outcome.UNKNOWN: "warn",
    SendAttempt.Outcome.RETRY: "warn",
    SendAttempt.Outcome.OPEN: "info",
}


def message_page(message: Message, *, whole: bool, raw: bool, tab: str) -> dict[str, Any]:
    """Return the page's context. `whole` shows the phone in full, `raw` the vendor's answers as they came."""
    attempts: list[Any] = list(message.attempts.select_related("resent_by").order_by("number"))
    for attempt in attempts:
        attempt.shown_answer = attempt.answer if raw and whole else without_phone(attempt.answer, message.to)
    reason = reason_of(message, phone=markup.phone_text(message.to, whole=whole))
    tab = tab if tab in ("latest", "timeline") else "latest"
    prefix, body = prefixed(message.site, message.body)
    parts = text.parts(message.body, message.site.sms_prefix) if message.body else None
    return {
        "message": message,
        "attempts": attempts,
        "newest_first": attempts[::-1],
        "reason": reason,
        "tone": markup.STATE_LOOKS[message.state][0],
        "prefix": prefix,
        "body": body,
        "parts": parts,
        "sees_pii": whole,
        "phone_masked": phones.masked(message.to),
        "next_try_at": message.due_at if message.state == State.QUEUED and message.due_at > timezone.now() else None,
        "waits": message.state in (State.QUEUED, State.HELD, State.CLAIMED, State.SENDING),
        "tab": tab,
        "tabs": [
            {"label": _("Latest"), "url": "?tab=latest", "icon": "message", "current": tab == "latest"},
            {"label": _("Timeline"), "url": "?tab=timeline", "icon": "history", "current": tab == "timeline"},
        ],
        "tabs_label": _("Views of the message"),
        "entries": _story(message, attempts),
        "bundle": support_bundle(message, attempts, settings.VERSION),
    }


def _story(message: Message, attempts: list[Any]) -> list[dict[str, Any]]:
    """Return the message's story for partials/timeline.html, newest first."""
    action = message.action
    story = [
        {
            "icon": "star", "tone": "info", "title": _("Loyalty action %(action)s") % {"action": action.action_type},
            "text": action.activity_id, "at": action.occurred_at,
        },
        {
            "icon": "message", "tone": "info", "title": _("Message made"), "at": message.created_at,
            "text": _("%(campaign)s, version %(number)d")
            % {"campaign": message.campaign.name, "number": message.version.number},
        },
    ]  # fmt: skip
    for attempt in attempts:
        entry_text = " · ".join(
            str(word)
            for word in (
                f"HTTP {attempt.http_status}" if attempt.http_status else "",
                attempt.cause,
                _("%(n)d ms") % {"n": attempt.duration_ms} if attempt.duration_ms is not None else "",
                _("asked for by %(user)s") % {"user": attempt.resent_by} if attempt.resent_by else "",
            )
            if word
        )
        story.append(
            {
                "icon": "send", "tone": _TONES.get(attempt.outcome, ""), "at": attempt.started_at, "text": entry_text,
                "title": _("Attempt %(number)d: %(outcome)s")
                % {"number": attempt.number, "outcome": attempt.get_outcome_display()},
            }
        )  # fmt: skip
    if message.confirmed_at:
        story.append(
            {
                "icon": "webhook", "tone": "good", "title": _("Attentive reported it as sent"), "text": "sms.sent",
                "at": message.confirmed_at,
            }
        )  # fmt: skip
    tone, icon = markup.STATE_LOOKS[message.state]
    story.append(
        {"icon": icon, "tone": tone, "title": message.get_state_display(), "text": "", "at": message.updated_at}
    )
    return sorted(story, key=lambda entry: entry["at"], reverse=True)

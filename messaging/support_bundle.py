"""What support hands to a developer or to Attentive about one message: facts in plain text, without secrets."""

import re
from datetime import datetime

from attentive_integration.masking import mask
from attentive_integration.phones import masked
from messaging.models import Message, SendAttempt


def support_bundle(message: Message, attempts: list[SendAttempt], version: str) -> str:
    """Return the facts of a message in lines of text; the phone masked, the text and the tokens left out.

    In English whatever the reader's language: it is read by others. Times are UTC.
    """
    lines = [
        f"Message      #{message.pk}",
        f"Site         {message.site.site_id} {message.site.client_name} ({message.site.state})",
        f"Campaign     {message.campaign.pk} {message.campaign.name} {message.version} ({message.campaign.state})",
        f"Route        {message.campaign.route} {message.site.message_path}",
        f"Action       {message.action.activity_id} of {message.action.action_type.code}",
        f"To           {masked(message.to)}",
        f"State        {message.state} {message.reason}".rstrip(),
        f"Created      {_at(message.created_at)}",
        f"Due          {_at(message.due_at)}",
        f"Expires      {_at(message.expires_at)}",
        f"Changed      {_at(message.updated_at)}",
        f"Confirmed    {_at(message.confirmed_at)}",
        f"Event id     {message.external_event_id}",
        f"Attempts     {len(attempts)}",
    ]
    for attempt in attempts:
        lines.append(
            f"  {attempt.number}  {_at(attempt.started_at)}  {attempt.outcome}  HTTP {attempt.http_status or '-'}  "
            f"{attempt.duration_ms if attempt.duration_ms is not None else '-'} ms  {attempt.cause}".rstrip()
        )
        if attempt.answer:
            lines.append(f"     {' '.join(without_phone(attempt.answer, message.to).split())[:300]}")
    return "\n".join([*lines, f"Version      {version}"])


def without_phone(answer: str, phone: str) -> str:
    """Return a vendor's answer with the phone (E.164) shortened in every spelling, and other addresses too."""
    spelled = r"[ .()-]*".join(re.escape(digit) for digit in phone[-10:])
    return mask(re.sub(rf"(?:\+?\d{{1,3}}[ .-]*)?\(?{spelled}", masked(phone), answer))


def _at(moment: datetime | None) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else "-"

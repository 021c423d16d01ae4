"""`{% load reasons %}`: the words of a message's reason, for pages of rooms that do not know messages."""

from django import template

from messaging.reasons import explain

register = template.Library()


@register.filter
def reason_title(code: str) -> str:
    """Return the title of a reason code; empty for none."""
    return explain(code).title if code else ""

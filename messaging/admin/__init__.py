"""The admin pages of campaigns, messages, actions, webhooks and stops; one module per page family."""

from . import actions, campaigns, messages, stops, webhook_events

__all__ = ["actions", "campaigns", "messages", "stops", "webhook_events"]

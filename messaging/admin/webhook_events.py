"""What Attentive reported: every signed webhook, its meaning, and (for developers) its raw body."""

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration import markup
from loyalty.admin.logs import LogAdmin
from loyalty.permissions import Right, can
from messaging.admin.lists import PeriodFilter
from messaging.models import WebhookEvent


class ReceivedFilter(PeriodFilter):
    """When the event was received."""

    title = gettext_lazy("received")
    column = "received_at"


@admin.register(WebhookEvent)
class WebhookEventAdmin(LogAdmin):
    list_display = ("type_shown", "state_shown", "error_shown", "site_shown", "event_shown", "received_shown")
    list_filter = ("state", ReceivedFilter)
    list_select_related = ("site",)
    lead = gettext_lazy("What Attentive reported. An opt-out takes effect before its webhook is answered.")
    empty_icon = "webhook"
    empty_title = gettext_lazy("No webhook in this period")
    empty_text = gettext_lazy(
        "Attentive calls the site's webhook address when somebody subscribes, opts out, or was texted. The address and "
        "the steps stand on the site's Activate page."
    )

    @admin.display(description=gettext_lazy("event"))
    def type_shown(self, event: WebhookEvent) -> str:
        return event.type or _("Not readable")

    @admin.display(description=gettext_lazy("state"))
    def state_shown(self, event: WebhookEvent) -> SafeString:
        return markup.pill_for_state(event)

    @admin.display(description=gettext_lazy("remark"))
    def error_shown(self, event: WebhookEvent) -> str:
        return Truncator(event.error).chars(80) or "–"

    @admin.display(description=gettext_lazy("happened"))
    def event_shown(self, event: WebhookEvent) -> SafeString:
        return markup.ago(event.event_at)

    @admin.display(description=gettext_lazy("received"))
    def received_shown(self, event: WebhookEvent) -> SafeString:
        return markup.ago(event.received_at)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        event = self.get_row(request, object_id)
        context = self.frame(
            request, _("Webhook %(number)s") % {"number": f"#{event.pk}"},
            event=event, body=_pretty(event.body), sees_raw=can(request.user, event.site_id, Right.RAW),
        )  # fmt: skip
        return TemplateResponse(request, "admin/messaging/webhook_event.html", context)


def _pretty(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return body

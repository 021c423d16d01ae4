"""The Activate page of a site: a task list; each value is tested as it is entered, each failure has its remedy."""

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from attentive_integration.phones import grouped, masked
from loyalty import activation, connection, guest_tests, tokens
from loyalty.admin import client_link
from loyalty.connection import ActivationRefused, Check, Code, Task, TaskState
from loyalty.models import AccessToken, Site
from loyalty.permissions import Right, can

if TYPE_CHECKING:
    from loyalty.admin.sites import SiteAdmin

ATTENTIVE_LOG_IN = "https://ui.attentivemobile.com/signin"
_TONES = {TaskState.PASSED: "good", TaskState.FAILED: "bad", TaskState.WAITING: "warn", TaskState.TO_DO: ""}


def page(admin: "SiteAdmin", request: HttpRequest, site: Site) -> HttpResponse:
    """Show the task list; a POST carries out one `do` and comes back to its task."""
    if request.method == "POST":
        if not can(request.user, site, Right.ACTIVATE):
            raise PermissionDenied
        task = _carry_out(request, site)
        return HttpResponseRedirect(f"{admin.page_of('activate', site.pk)}#{task.lower().replace('_', '-')}")
    current = {row.kind: row for row in AccessToken.objects.filter(site=site, slot="CURRENT", revoked_at=None)}
    checks = {check.kind: check for check in activation.tasks(site, set(current))}
    whole = can(request.user, site, Right.PII)
    context = {
        **admin.site_frame(request, site, "activate", _("Activate")),
        **client_link.status(site),
        "tasks": _tasks(checks),
        "passed": sum(check.passed for check in checks.values()),
        "blockers": activation.blockers(site, list(checks.values())),
        "guests": [(phone, grouped(phone) if whole else masked(phone)) for phone in site.guest_phones],
        "guest_text": "\n".join(grouped(phone) for phone in site.guest_phones) if whole else "",
        "max_guests": activation.MAX_GUESTS,
        "sources": list(site.sign_up_sources.order_by("-is_default", "pk")),
        "tokens": current,
        "mail": activation.draft_request(site),
        "webhook_url": activation.webhook_url(site),
        "attentive_log_in": ATTENTIVE_LOG_IN,
        "button": {button["name"]: button for button in admin.buttons(request, site)},
    }
    return TemplateResponse(request, "admin/loyalty/site/activate.html", context)


def _tasks(checks: dict[str, Check]) -> dict[str, dict[str, Any]]:
    """Return each task with what its box shows; the first that is not done is open, and every failed one."""
    first = next((kind for kind, check in checks.items() if not check.passed), None)
    return {
        kind: {
            "check": check,
            "anchor": kind.lower().replace("_", "-"),
            "title": Task(kind).label,
            "word": TaskState(check.state).label,
            "tone": _TONES[TaskState(check.state)],
            "open": kind == first or check.state == TaskState.FAILED or check.code == Code.UNCLEAR,
        }
        for kind, check in checks.items()
    }


def _carry_out(request: HttpRequest, site: Site) -> str:
    """Do what the form asks for, tell the result, and return the task that it belongs to."""
    data, user = request.POST, request.user
    do = data.get("do", "")
    secret = data.get("secret", "")
    try:
        match do:
            case "access":
                _tell(request, connection.enter_access(site, secret, by=user))
                return Task.LOYALTY
            case "source":
                name = data.get("name", "").strip()[:200]
                _tell(request, connection.enter_sign_up_source(site, data.get("source_id", ""), name=name, by=user))
                return Task.SIGN_UP_SOURCE
            case "app":
                _tell(request, connection.enter_app_key(site, secret, by=user))
                return Task.ATTENTIVE_APP
            case "keep":
                _tell(request, connection.keep_account(site, by=user))
                return Task.ATTENTIVE_APP
            case "request":
                activation.request_legacy_token(site, user)
                messages.success(request, _("Marked as requested. The site shows how long the token is awaited."))
                return Task.ATTENTIVE_LEGACY
            case "legacy":
                _tell(request, connection.enter_legacy_token(site, secret, by=user))
                return Task.ATTENTIVE_LEGACY
            case "arrived":
                _tell(request, guest_tests.confirm_test_text(site, by=user))
                return Task.ATTENTIVE_LEGACY
            case "guests":
                phones = activation.enter_guest_phones(site, data.get("phones", ""), by=user)
                kept = ngettext("%(count)d guest phone is kept.", "%(count)d guest phones are kept.", len(phones))
                messages.success(request, kept % {"count": len(phones)})
                return Task.GUESTS
            case "subscribe":
                messages.success(request, guest_tests.subscribe_guest(site, _phone(request, site), by=user))
                return Task.GUESTS
            case "text":
                _tell(request, guest_tests.send_test_text(site, _phone(request, site), by=user))
                return Task.GUESTS
            case "webhook":
                activation.enter_webhook_key(site, secret, by=user)
                messages.success(request, _("The signing key is kept. The first webhook that it signs proves it."))
                return "WEBHOOK"
            case "check":
                task = data.get("task", "")
                if task not in Task.values:
                    raise Http404
                _tell(request, activation.check(site, task, user))
                return task
    except (ActivationRefused, tokens.TokenUnusable) as refusal:
        messages.error(request, str(refusal))
        return {"guests": Task.GUESTS, "subscribe": Task.GUESTS, "text": Task.GUESTS, "webhook": "WEBHOOK"}.get(
            do, Task.ATTENTIVE_APP
        )
    except ValueError as empty:
        messages.error(request, str(empty))
        return Task.ATTENTIVE_LEGACY
    raise Http404


def _phone(request: HttpRequest, site: Site) -> str:
    """Return the guest phone that was chosen: by its place in the list, since a page may show it masked."""
    try:
        return str(site.guest_phones[int(request.POST.get("guest", "0"))])
    except (ValueError, IndexError):
        raise ActivationRefused(_("Choose one of the guest phones, or add one first.")) from None


def _tell(request: HttpRequest, check: Check) -> None:
    """Say how a check went, in the words that stay on the task too."""
    label = Task(check.kind).label
    sentence = " ".join(part for part in (check.sentence, check.account) if part)
    level = {TaskState.PASSED: messages.SUCCESS, TaskState.FAILED: messages.ERROR}.get(
        TaskState(check.state), messages.WARNING if check.code not in ("", Code.NOT_PROVEN) else messages.INFO
    )
    messages.add_message(request, level, f"{label}: {sentence}")

"""The forms of a site: adding it with all its values at once, and its settings."""

import re
from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attentive_integration.annex_cloud import AccessTokenError, decode_access_token
from loyalty.models import Site

COUNTRIES = (
    ("US", gettext_lazy("United States")),
    ("CA", gettext_lazy("Canada")),
    ("GB", gettext_lazy("United Kingdom")),
)
# The zones of the countries that Attentive texts; a site in another one keeps it.
ZONES = (
    "America/New_York", "America/Detroit", "America/Indiana/Indianapolis", "America/Chicago", "America/Denver",
    "America/Phoenix", "America/Los_Angeles", "America/Anchorage", "Pacific/Honolulu", "America/Puerto_Rico",
    "America/Halifax", "America/St_Johns", "America/Toronto", "America/Winnipeg", "America/Regina",
    "America/Edmonton", "America/Vancouver", "Europe/London", "UTC",
)  # fmt: skip


class SecretField(forms.CharField):
    """A token on its way in: never shown again, not even after an error, and never offered by the browser."""

    def __init__(self, **kwargs: Any) -> None:
        attributes = {"autocomplete": "off", "spellcheck": "false", "class": "mono"}
        kwargs.setdefault("required", False)
        kwargs.setdefault("widget", forms.PasswordInput(attrs=attributes, render_value=False))
        super().__init__(strip=True, **kwargs)


class AddSiteForm(forms.ModelForm):
    """A new site. Every value beside the name is optional: what is given is tested at once."""

    access_token = SecretField(
        label=gettext_lazy("Access token or loyalty token"),
        help_text=gettext_lazy("From Annex Cloud. An access token holds the site ID, so that field may stay empty."),
    )
    sign_up_source_id = forms.CharField(
        required=False,
        label=gettext_lazy("Sign-up source ID"),
        help_text=gettext_lazy("Attentive, Subscribers tab (newer screens: Sign-up Units), ID."),
    )
    app_key = SecretField(
        label=gettext_lazy("App key"),
        help_text=gettext_lazy("Attentive, Integrations tab, Create App, Write permission; the key is shown once."),
    )
    legacy_token = SecretField(
        label=gettext_lazy("Legacy token"),
        help_text=gettext_lazy("Sent by Attentive's legacy team. Leave it empty if it is still to be asked for."),
    )
    guest_phones = forms.CharField(
        required=False,
        label=gettext_lazy("Guest phone"),
        help_text=gettext_lazy("The mobile number of a colleague, for the test text."),
    )

    class Meta:
        model = Site
        fields = ("client_name", "site_id", "default_country", "time_zone")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        self.fields["site_id"].required = False
        self.fields["default_country"] = forms.ChoiceField(
            choices=COUNTRIES, label=_("Default country"), help_text=_("Assumed for phones without a country code.")
        )
        self.fields["time_zone"] = forms.ChoiceField(choices=[(zone, zone) for zone in ZONES], label=_("Time zone"))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not data.get("site_id") and "site_id" not in self.errors:
            try:
                data["site_id"] = decode_access_token(data.get("access_token") or "").site_id
            except AccessTokenError:
                self.add_error("site_id", _("Enter the site ID, or an access token, which holds it."))
            else:
                if Site.objects.filter(site_id=data["site_id"]).exists():
                    self.add_error("site_id", _("There is a site with this ID already."))
        return data


class SiteSettingsForm(forms.ModelForm):
    """What staff set about a site; tokens and guest phones have pages of their own."""

    allowed_countries = forms.MultipleChoiceField(
        choices=COUNTRIES,
        widget=forms.CheckboxSelectMultiple,
        label=gettext_lazy("Allowed countries"),
        help_text=gettext_lazy("Phones of other countries are rejected on import and never texted."),
    )
    quiet_from = forms.TimeField(
        required=False,
        label=gettext_lazy("Quiet from"),
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        help_text=gettext_lazy(
            "In the recipient's time. Some states narrow it further. Empty both times for no quiet hours at all, the "
            "states' included."
        ),
    )
    quiet_until = forms.TimeField(
        required=False,
        label=gettext_lazy("Quiet until"),
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
    )
    caps_text = forms.CharField(
        required=False,
        label=gettext_lazy("Frequency caps"),
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("One a line: texts / hours, such as “1 / 8”, per member over all campaigns."),
    )

    class Meta:
        model = Site
        fields = (
            "client_name", "site_id", "default_country", "allowed_countries", "time_zone", "message_path", "sms_prefix",
            "subscribe_email", "notes",
        )  # fmt: skip
        widgets: ClassVar = {"notes": forms.Textarea(attrs={"rows": 4})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)
        site = self.instance
        # A user who may only look gets no fields.
        if "time_zone" in self.fields:
            zones = [*ZONES, *([site.time_zone] if site.time_zone not in ZONES else [])]
            self.fields["time_zone"] = forms.ChoiceField(choices=[(zone, zone) for zone in zones], label=_("Time zone"))
            self.fields["default_country"] = forms.ChoiceField(choices=COUNTRIES, label=_("Default country"))
        hours = site.quiet_hours or {}
        self.initial["quiet_from"], self.initial["quiet_until"] = hours.get("start"), hours.get("end")
        self.initial["caps_text"] = "\n".join(f"{cap['messages']} / {cap['hours']}" for cap in site.caps)

    def clean_caps_text(self) -> list[dict[str, int]]:
        caps = []
        for line in self.cleaned_data["caps_text"].splitlines():
            if not line.strip():
                continue
            match = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", line)
            if match is None or not int(match[1]) or not int(match[2]):
                raise forms.ValidationError(
                    _("“%(line)s” is no cap. Write texts / hours, such as 1 / 8.") % {"line": line.strip()[:40]}
                )
            caps.append({"hours": int(match[2]), "messages": int(match[1])})
        return caps

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        start, end = data.get("quiet_from"), data.get("quiet_until")
        if bool(start) != bool(end):
            self.add_error("quiet_until", _("Give both times, or neither."))
        elif start and start == end:
            self.add_error("quiet_until", _("Quiet hours need two different times."))
        return data

    def save(self, commit: bool = True) -> Any:
        site = self.instance
        start, end = self.cleaned_data.get("quiet_from"), self.cleaned_data.get("quiet_until")
        site.quiet_hours = {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"} if start and end else None
        site.caps = self.cleaned_data.get("caps_text", site.caps)
        return super().save(commit)

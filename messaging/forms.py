"""The forms of the campaign pages."""

from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext_lazy as _

from loyalty.models import ActionType, Segment, Site
from messaging import campaigns
from messaging.models import Campaign


class CampaignForm(forms.ModelForm):
    """A campaign's settings and content in one form. Choices are those of the campaign's site."""

    body = forms.CharField(
        label=_("Text"), required=False, max_length=3_000, strip=False,
        widget=forms.Textarea(attrs={"rows": 5, "data-placeholder-target": ""}),
    )  # fmt: skip
    link = forms.URLField(
        label=_("Shortened link"), required=False, max_length=1024, assume_scheme="https",
        help_text=_("Only a link that Attentive has made for you. An address for the reader stands in the text."),
    )  # fmt: skip
    media_url = forms.URLField(
        label=_("Picture"), required=False, max_length=1024, assume_scheme="https",
        help_text=_("https, gif, png or jpg, under 500 KB. A picture makes the text an MMS."),
    )  # fmt: skip
    event_type = forms.CharField(
        label=_("Event type"), required=False, max_length=100,
        help_text=_("The name of the custom event in Attentive. Empty: the campaign's name."),
    )  # fmt: skip
    preview_for = forms.CharField(
        label=_("Show it for"), required=False, max_length=254,
        help_text=_("A member's phone in any spelling, e-mail address or loyalty ID. Is not saved."),
    )  # fmt: skip
    # The version that the writer had before them, so that nobody overwrites what a colleague saved meanwhile.
    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Campaign
        fields: ClassVar = list(campaigns.SETTING_FIELDS)
        widgets: ClassVar = {
            "starts_at": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
            "ends_at": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        }
        help_texts: ClassVar = {
            "segment": _("Only members of this segment are texted. Empty: every member."),
            "starts_at": _("Actions before are not texted. Empty: from going live."),
            "ends_at": _("Actions from this time on are not texted."),
            "expiry_hours": _("What could not leave within so many hours of the action is not sent any more."),
        }
        labels: ClassVar = {"is_shadow": _("Shadow mode"), "segment": _("Segment")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        site = self.instance.site
        self._choices("action_type", ActionType.objects.filter(site=site).order_by("name", "code"))
        self._choices("segment", Segment.objects.filter(site=site).order_by("name"))
        self.fields["segment"].empty_label = _("Every member")  # type: ignore[attr-defined]
        self.fields["expiry_hours"].min_value = 1  # type: ignore[attr-defined]
        for name, value in campaigns.content_of(self.instance.version).items():
            self.initial.setdefault(name, value)
        self.initial.setdefault("seen_version", self.instance.version.number if self.instance.version else 0)
        if self.instance.state in campaigns.RUNNING:
            for name in campaigns.FIXED_WHEN_RUNNING:
                self.fields[name].disabled = True

    def _choices(self, name: str, rows: Any) -> None:
        self.fields[name].queryset = rows  # type: ignore[attr-defined]

    def clean_expiry_hours(self) -> int:
        hours: int = self.cleaned_data["expiry_hours"]
        longest = int(campaigns.LONGEST_EXPIRY.total_seconds() // 3600)
        if not 1 <= hours <= longest:
            raise forms.ValidationError(_("Choose between 1 and %(longest)d hours."), params={"longest": longest})
        return hours

    def clean_body(self) -> str:
        return str(self.cleaned_data["body"]).replace("\r\n", "\n").strip()

    @property
    def content(self) -> dict[str, str]:
        """The content fields as they were entered and cleaned."""
        return {name: str(self.cleaned_data.get(name) or "") for name in campaigns.CONTENT_FIELDS}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.instance.route = cleaned.get("route") or self.instance.route
        for name, sentence in campaigns.content_problems(self.instance, self.content).items():
            if name not in self.errors:
                self.add_error(name, sentence)
        return cleaned

    def is_outdated(self) -> bool:
        """Tell whether somebody else has saved a newer version of the content meanwhile."""
        seen = self.cleaned_data.get("seen_version")
        return seen is not None and self.instance.version is not None and seen != self.instance.version.number


class NewCampaignForm(forms.Form):
    """A name and an action for a campaign that starts from a text."""

    name = forms.CharField(label=_("Name"), max_length=180)
    action_type = forms.ModelChoiceField(
        ActionType.objects.none(), label=_("Action"), required=False,
        help_text=_("What members do. Annex Cloud's actions appear here once one has come in."),
    )  # fmt: skip
    new_code = forms.CharField(
        label=_("… or a new action's ID"), required=False, max_length=60,
        help_text=_("The action ID that Annex Cloud sends, when it is not in the list yet."),
    )  # fmt: skip

    def __init__(self, *args: Any, site: Site, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.site = site
        kinds = ActionType.objects.filter(site=site).order_by("name", "code")
        self.fields["action_type"].queryset = kinds  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("action_type") and not (cleaned.get("new_code") or "").strip():
            self.add_error("action_type", _("Choose the action that the text belongs to, or enter its ID."))
        return cleaned

    def kind(self) -> ActionType:
        """Return the chosen action, made when its ID is new."""
        chosen: ActionType | None = self.cleaned_data["action_type"]
        if chosen is None:
            code = self.cleaned_data["new_code"].strip()
            chosen, _is_new = ActionType.objects.get_or_create(site=self.site, code=code)
        return chosen


class GoLiveForm(forms.Form):
    """How many people are texted first."""

    canary_size = forms.IntegerField(
        label=_("First recipients"), min_value=0, max_value=10_000, initial=campaigns.CANARY_SIZE,
        help_text=_(
            "So many people are texted first. Ten minutes later the campaign goes on by itself, or stops when many of "
            "those texts were refused or many of those people opted out. 0: no trial."
        ),
    )  # fmt: skip


class GuestTextForm(forms.Form):
    """Which of the site's guest phones gets the test text, and whose values it shows."""

    phone = forms.ChoiceField(label=_("Guest phone"))
    preview_for = forms.CharField(
        label=_("With the values of"), required=False, max_length=254,
        help_text=_("A member's phone, e-mail address or loyalty ID. Empty: the longest values."),
    )  # fmt: skip

    def __init__(self, *args: Any, phones: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["phone"].choices = phones  # type: ignore[attr-defined]

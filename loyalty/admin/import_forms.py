"""The forms of an import: the upload, how the file is read, and what the import may do."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from loyalty.admin.import_pages import delimiters, encodings
from loyalty.imports.rows import MAX_BYTES
from loyalty.models import ImportJob, Site

Kind = ImportJob.Kind


class UploadForm(forms.Form):
    """A file for a site; what it is for decides what else is asked."""

    site = forms.ModelChoiceField(Site.objects.none(), label=gettext_lazy("Client site"))
    evidence = forms.CharField(
        label=gettext_lazy("Where the consent comes from"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy(
            "Kept in the consent ledger of each person, for instance: exported from Attentive on 24 November by Kim, "
            "ticket 4411."
        ),
    )
    trigger = forms.BooleanField(
        label=gettext_lazy("Let campaigns text members because of these actions"),
        required=False,
        help_text=gettext_lazy(
            "Off: the actions are history, and nobody is texted. On: each recent action counts as if it had just come "
            "in, and live campaigns text the members it concerns."
        ),
    )
    file = forms.FileField(label=gettext_lazy("File"), widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv"}))

    def __init__(self, *args: Any, kind: str, sites: Any, may_trigger: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["site"].queryset = sites  # type: ignore[attr-defined]
        if kind != Kind.SUBSCRIBERS:
            del self.fields["evidence"]
        if kind != Kind.ACTIONS or not may_trigger:
            del self.fields["trigger"]

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > MAX_BYTES:
            raise forms.ValidationError(_("The file is larger than 1 GB. Split it and import the parts."))
        return file

    def options(self) -> dict[str, Any]:
        """Return the options of the job that the form asks for."""
        return {name: self.cleaned_data[name] for name in ("evidence", "trigger") if self.cleaned_data.get(name)}


class DialectForm(forms.Form):
    """How the file is read, where what was detected is wrong."""

    encoding = forms.ChoiceField(label=gettext_lazy("Encoding"), choices=encodings)
    delimiter = forms.ChoiceField(label=gettext_lazy("Columns are separated by"), choices=delimiters)
    has_header = forms.BooleanField(label=gettext_lazy("The first row names the columns"), required=False)
    has_summary = forms.BooleanField(
        label=gettext_lazy("The last row is a summary"),
        required=False,
        help_text=gettext_lazy("A summary is left out. Untick it where the row is a person."),
    )


class ConflictForm(forms.Form):
    """What happens to a phone that another loyalty ID has already."""

    on_conflict = forms.ChoiceField(
        label=gettext_lazy("When a phone belongs to a member with another loyalty ID"),
        choices=[
            ("update", gettext_lazy("Take the file's loyalty ID, and list the row as a remark")),
            ("reject", gettext_lazy("Reject the row")),
        ],
        widget=forms.RadioSelect,
    )


class SubscribeForm(forms.Form):
    """Whether new members are asked to subscribe; off unless somebody ticks it."""

    subscribe = forms.BooleanField(label=gettext_lazy("Ask new members to subscribe to texts"), required=False)

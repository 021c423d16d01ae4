"""The segment builder as plain forms: a segment's own fields, and one form for each group of rules."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from loyalty.member_search import tiers_of
from loyalty.models import ActionType, Member, Segment, Site
from loyalty.segment_rules import ANY, KEYS, MAX_GROUPS, RulesError, groups, validate_rules

# Kinds of actions that the form offers.
_MOST_ACTIONS = 100
_POINTS: dict[str, Any] = {"localize": False, "min_value": -(10**15), "max_value": 10**15}
_SPANS = (("points_min", "points_max"), ("joined_from", "joined_to"), ("last_action_from", "last_action_to"))


class DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class SegmentForm(forms.ModelForm):
    """What a segment is called, here and at Annex Cloud."""

    class Meta:
        model = Segment
        fields = ("name", "data_type", "from_date", "to_date", "status", "external_id", "external_name")
        widgets = {"from_date": DateInput(), "to_date": DateInput()}
        help_texts = {
            "name": gettext_lazy(
                "Attentive and Annex Cloud show this name. Attentive replaces a list of the same name."
            ),
            "data_type": gettext_lazy("Annex Cloud's word: Current Data goes on from today, Past Data looks back."),
            "from_date": gettext_lazy("Left empty: the day the segment was made."),
            "to_date": gettext_lazy("Left empty: a year later."),
            "external_id": gettext_lazy("Left empty: made of the site ID and our number when the segment is pushed."),
        }

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"].strip()
        same = Segment.objects.filter(site=self.instance.site_id, name=name).exclude(pk=self.instance.pk)
        if same.exists():
            raise forms.ValidationError(_("This site has a segment of this name already. Choose another name."))
        return name


class GroupForm(forms.Form):
    """One group: a member of it meets all of the rules that are filled in."""

    tier = forms.MultipleChoiceField(label=KEYS["tier"].label, required=False, widget=forms.CheckboxSelectMultiple)
    points_min = forms.IntegerField(label=KEYS["points_min"].label, required=False, **_POINTS)
    points_max = forms.IntegerField(label=KEYS["points_max"].label, required=False, **_POINTS)
    joined_from = forms.DateField(label=KEYS["joined_from"].label, required=False, widget=DateInput)
    joined_to = forms.DateField(label=KEYS["joined_to"].label, required=False, widget=DateInput)
    last_action_from = forms.DateField(label=KEYS["last_action_from"].label, required=False, widget=DateInput)
    last_action_to = forms.DateField(
        label=KEYS["last_action_to"].label,
        required=False,
        widget=DateInput,
        help_text=gettext_lazy("For instance those who did nothing since then."),
    )
    action_types = forms.MultipleChoiceField(
        label=KEYS["action_types"].label, required=False, widget=forms.CheckboxSelectMultiple
    )
    opt_in_status = forms.ChoiceField(
        label=KEYS["opt_in_status"].label,
        required=False,
        choices=[("", gettext_lazy("Any")), *Member.OptInStatus.choices],
    )
    reachable = forms.ChoiceField(
        label=KEYS["reachable"].label,
        required=False,
        choices=[
            ("", gettext_lazy("Any")),
            ("yes", gettext_lazy("Yes: subscribed, and of an allowed country")),
            ("no", gettext_lazy("No")),
        ],
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        for low, high in _SPANS:
            least, most = data.get(low), data.get(high)
            if least is not None and most is not None and least > most:
                sentence = _("This lies below “%(low)s”, so nobody could match. Swap the two.")
                self.add_error(high, sentence % {"low": self.fields[low].label})
        return data

    def rules(self) -> dict[str, Any]:
        """Return the rules that are filled in, as they are stored; the form must be valid."""
        found: dict[str, Any] = {}
        for name, value in self.cleaned_data.items():
            if value in (None, "", []):
                continue
            if name == "reachable":
                found[name] = value == "yes"
            elif name == "opt_in_status":
                found[name] = [value]
            else:
                found[name] = value.isoformat() if hasattr(value, "isoformat") else value
        return found

    @staticmethod
    def initial_of(rules: dict[str, Any]) -> dict[str, Any]:
        """Return stored rules as the form shows them."""
        shown = dict(rules)
        for name in ("tier", "action_types"):
            if isinstance(shown.get(name), str):
                shown[name] = [shown[name]]
        opt_in = shown.get("opt_in_status")
        if isinstance(opt_in, list):
            shown["opt_in_status"] = opt_in[0].upper() if len(opt_in) == 1 else ""
        if "reachable" in shown:
            shown["reachable"] = "yes" if shown["reachable"] else "no"
        return shown


class Builder:
    """The whole form of a segment: its fields, its groups, and what the buttons for groups ask for."""

    def __init__(self, segment: Segment, data: Any = None) -> None:
        self.segment = segment
        self.form = SegmentForm(data, instance=segment)
        self.error = ""
        stored = self._stored_groups()
        count = _number(data.get("groups"), len(stored)) if data is not None else len(stored)
        tiers, actions = self._choices(segment.site, stored)
        self.groups = [
            self._group(n, data, GroupForm.initial_of(stored[n]) if n < len(stored) else {}, tiers, actions)
            for n in range(min(max(count, 1), MAX_GROUPS))
        ]
        if data is not None:
            self._change_groups(data, tiers, actions)

    @property
    def may_add(self) -> bool:
        return len(self.groups) < MAX_GROUPS

    def _stored_groups(self) -> list[dict[str, Any]]:
        try:
            return groups(self.segment.rules)
        except RulesError as error:
            self.error = str(error)
            return [{}]

    def _choices(self, site: Site, stored: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
        """Return the site's tiers and kinds of actions, with those that the rules name already."""
        named = [GroupForm.initial_of(group) for group in stored]
        tiers = tiers_of(site)
        tiers += [tier for group in named for tier in group.get("tier", []) if tier not in tiers]
        types = ActionType.objects.filter(site=site).order_by("name", "code")[:_MOST_ACTIONS]
        actions = [(kind.code, str(kind)) for kind in types]
        known = {code for code, _name in actions}
        actions += [(code, code) for group in named for code in group.get("action_types", []) if code not in known]
        return [(tier, tier) for tier in dict.fromkeys(tiers)], list(dict(actions).items())

    def _group(self, n: int, data: Any, initial: dict[str, Any], tiers: list[Any], actions: list[Any]) -> GroupForm:
        form = GroupForm(data, prefix=f"group{n}", initial=initial)
        form.fields["tier"].choices = tiers  # type: ignore[attr-defined]
        form.fields["action_types"].choices = actions  # type: ignore[attr-defined]
        return form

    def _change_groups(self, data: Any, tiers: list[Any], actions: list[Any]) -> None:
        """Add an empty group, or take one away, as the pressed button says."""
        gone = _number(data.get("remove"), -1)
        if 0 <= gone < len(self.groups) > 1:
            left = [form for n, form in enumerate(self.groups) if n != gone]
            filled = [form.rules() if form.is_valid() else {} for form in left]
            self.groups = [
                self._group(n, None, GroupForm.initial_of(rules), tiers, actions) for n, rules in enumerate(filled)
            ]
        elif "add" in data and self.may_add:
            self.groups.append(self._group(len(self.groups), None, {}, tiers, actions))

    def is_valid(self) -> bool:
        """Check everything; the rules' own check is the last word, and `error` is its sentence."""
        valid = all([self.form.is_valid(), *(form.is_valid() for form in self.groups)])
        if not valid:
            return False
        return self.rules_are_valid()

    def rules_are_valid(self) -> bool:
        """Check the rules alone, as the live count needs it."""
        if not all(form.is_valid() for form in self.groups):
            self.error = _("Some rules cannot be used yet.")
            return False
        try:
            validate_rules(self.rules())
        except RulesError as error:
            self.error = str(error)
            return False
        return True

    def rules(self) -> dict[str, Any]:
        """Return the rules as they are stored. Empty groups count only when there is no other."""
        filled = [rules for form in self.groups if (rules := form.rules())]
        if len(filled) > 1:
            return {ANY: filled}
        return filled[0] if filled else {}


def _number(text: Any, otherwise: int) -> int:
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 4 else otherwise

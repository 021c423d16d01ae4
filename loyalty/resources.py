"""The one definition of the columns of our files: names, synonyms, cleaning and the sentences of errors.

Used by the import pipeline, by the API and, as resources of django-import-export, by small imports and exports.
Headers are recognised in our own spelling and in three families of Annex Cloud: the API's camelCase, the Member
Report, and the standard field names of its connectors.
"""

import unicodedata
import zoneinfo
from collections.abc import Sequence
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy as _
from import_export.fields import Field
from import_export.resources import ModelResource, Resource

from loyalty.cells import (
    CLEAR,
    Cell,
    DateCell,
    EmailCell,
    MomentCell,
    ObjectCell,
    OptInCell,
    PhoneCell,
    PointsCell,
    StateCell,
    TextCell,
    TimeZoneCell,
)
from loyalty.models import ImportJob, Member, Site
from loyalty.spreadsheets import typed

# A column may go into the member's extended attributes, or an action's data, under a key of its own.
EXTENDED = "extended_attributes."
DATA = "data."
# Countries that write the day before the month.
_DAY_FIRST = frozenset({"GB", "IE", "AU", "NZ"})
# What a clear (`--`) puts into the field.
_EMPTY: dict[str, Any] = {"points": None, "birth_date": None}


def plain(header: str) -> str:
    """Return a header in the form in which headers are compared: letters and digits only, in lower case."""
    text = unicodedata.normalize("NFKC", header).casefold()
    return "".join(char for char in text if char.isalnum()).removeprefix("annex")


class Column(Field):
    """A column of a file. `label` names it in sentences, `synonyms` are the headers it is recognised by, best first."""

    def __init__(self, name: str, label: Any, cell: Cell, *synonyms: str) -> None:
        super().__init__(attribute=name, column_name=name, widget=cell)
        cell.label = label
        self.label = label
        self.synonyms = tuple(dict.fromkeys(plain(word) for word in (name, *synonyms)))

    @property
    def cell(self) -> Cell:
        return self.widget

    def save(self, instance: Any, row: Any, is_m2m: bool = False, **kwargs: Any) -> None:
        """Put the cell of a row into the instance: a blank cell leaves the field as it is, `--` empties it."""
        raw = row.get(self.column_name)
        text = typed(str(raw)) if raw is not None else ""
        if text == CLEAR:
            setattr(instance, self.attribute, _EMPTY.get(self.attribute, ""))
        elif text:
            setattr(instance, self.attribute, self.widget.clean(text, row))


class SiteColumns:
    """What our resources share: columns whose cells know the site's country and time zone."""

    fields: dict[str, Column]

    def adapt(self, site: Site) -> None:
        self.site = site
        day_first = site.default_country in _DAY_FIRST
        for column in self.fields.values():
            cell = column.widget
            if isinstance(cell, PhoneCell):
                cell.country, cell.allowed = site.default_country, tuple(site.allowed_countries)
            if isinstance(cell, DateCell | MomentCell):
                cell.day_first = day_first
            if isinstance(cell, MomentCell):
                cell.zone = zoneinfo.ZoneInfo(site.time_zone)


class MemberResource(SiteColumns, ModelResource):
    """Members of one site, by phone."""

    phone = Column(
        "phone", _("phone"), PhoneCell(""),
        "phone no", "phone number", "mobile", "mobile no", "mobile number", "mobile phone", "mobile phone number",
        "cell", "cell phone", "cell number", "cellphone number", "sms", "sms number", "sms phone", "telephone",
        "telephone number", "tel", "msisdn", "member phone", "customer phone", "phone e164",
    )  # fmt: skip
    email = Column(
        "email", _("e-mail address"), EmailCell(), "email address", "e-mail", "mail", "user email", "member email",
        "customer email", "e-mail address",
    )  # fmt: skip
    external_id = Column(
        "external_id", _("loyalty ID"), TextCell("", 128),
        "loyalty id", "user id", "member id", "customer id", "loyalty number", "loyalty card number", "id",
        "member number", "client user id",
    )  # fmt: skip
    first_name = Column("first_name", _("first name"), TextCell("", 100), "given name", "forename", "fname", "first")
    last_name = Column("last_name", _("last name"), TextCell("", 100), "surname", "family name", "lname", "last")
    tier = Column(
        "tier", _("tier"), TextCell("", 60), "current tier", "tier name", "current tier name", "tier level", "level"
    )
    points = Column(
        "points", _("points"), PointsCell(),
        "available points", "current balance", "points balance", "point balance", "balance", "current points",
    )  # fmt: skip
    birth_date = Column("birth_date", _("birth date"), DateCell(""), "birthday", "birth day", "date of birth", "dob")
    opt_in_status = Column(
        "opt_in_status", _("loyalty opt-in"), OptInCell(), "user opt in status", "opt in", "opted in", "loyalty opt in"
    )
    joined_at = Column(
        "joined_at", _("joining date"), MomentCell("", in_past=True),
        "joined", "join date", "joined date", "create date", "created date", "loyalty anniversary date",
        "anniversary date", "opt in date", "enrollment date", "sign up date", "member since",
    )  # fmt: skip
    state = Column("state", _("state of residence"), StateCell(), "us state", "residence state", "state code")
    time_zone = Column("time_zone", _("time zone"), TimeZoneCell(), "timezone")

    class Meta:
        model = Member
        fields: ClassVar = (
            "phone", "email", "external_id", "first_name", "last_name", "tier", "points", "birth_date",
            "opt_in_status", "joined_at", "state", "time_zone",
        )  # fmt: skip
        import_id_fields = ("phone",)
        skip_unchanged = True
        report_skipped = True
        use_bulk = True
        batch_size = 1000

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.adapt(site)

    def get_queryset(self) -> Any:
        return Member.objects.filter(site=self.site)

    def init_instance(self, row: Any = None) -> Member:
        return Member(site=self.site)


class SubscriberResource(SiteColumns, Resource):
    """A list of subscribers exported from Attentive."""

    phone = Column("phone", _("phone"), PhoneCell(""), *MemberResource.fields["phone"].synonyms)
    subscribed_at = Column(
        "subscribed_at", _("subscription time"), MomentCell(""),
        "subscribed", "subscription date", "subscribed date", "date subscribed", "opt in date", "opted in at",
        "opt in time", "sign up date", "signed up at", "join date", "joined", "created", "created at", "timestamp",
    )  # fmt: skip

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.adapt(site)


class ActionResource(SiteColumns, Resource):
    """Loyalty actions. The API's own cleaning judges them; here only what a file writes in another way is read."""

    activity_id = Column("activity_id", _("activity ID"), TextCell("", 128), "transaction id", "event id")
    action = Column("action", _("action"), TextCell("", 60), "action id", "action code", "action type", "event")
    phone = Column("phone", _("phone"), TextCell("", 200), *MemberResource.fields["phone"].synonyms)
    external_id = Column(
        "external_id", _("loyalty ID"), TextCell("", 128), *MemberResource.fields["external_id"].synonyms
    )
    email = Column("email", _("e-mail address"), EmailCell(), *MemberResource.fields["email"].synonyms)
    points = Column("points", _("points"), PointsCell(), *MemberResource.fields["points"].synonyms)
    points_delta = Column(
        "points_delta", _("change of points"), PointsCell(), "points change", "change", "credit", "points earned"
    )
    occurred_at = Column(
        "occurred_at", _("time of the action"), MomentCell(""),
        "occurred", "date", "time", "timestamp", "create date", "activity date", "action date", "event time",
    )  # fmt: skip
    data = Column("data", _("data"), ObjectCell(), "details", "payload")

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.adapt(site)


MEMBER_FIELDS: tuple[str, ...] = tuple(MemberResource.Meta.fields)
_RESOURCES: dict[str, Any] = {
    ImportJob.Kind.MEMBERS: MemberResource,
    ImportJob.Kind.SUBSCRIBERS: SubscriberResource,
    ImportJob.Kind.ACTIONS: ActionResource,
}


def resource_for(kind: str, site: Site) -> Any:
    """Return the resource of a kind of file, adapted to the site."""
    return _RESOURCES[kind](site)


def column_of(resource: Any, field: str) -> Column | None:
    """Return the column that a field's name stands for, one of free text for a key of one's own; None if unknown."""
    for prefix, kind in ((EXTENDED, MemberResource), (DATA, ActionResource)):
        if field.startswith(prefix) and isinstance(resource, kind) and 0 < len(field.removeprefix(prefix)) <= 200:
            return Column(field, field.removeprefix(prefix), TextCell("", 1000))
    return resource.fields.get(field)


def recognise(resource: Any, headers: Sequence[str]) -> dict[str, str]:
    """Return header → field for the headers that are known, each field once, by its best synonym."""
    found: dict[str, str] = {}
    by_plain: dict[str, str] = {}
    for header in headers:
        by_plain.setdefault(plain(header), header)
    for name, column in resource.fields.items():
        matches = (by_plain[word] for word in column.synonyms if word in by_plain)
        if (best := next((header for header in matches if header not in found), None)) is not None:
            found[best] = name
    for header in headers:
        for prefix in (EXTENDED, "extendedAttribute.", DATA):
            if header not in found and header.startswith(prefix):
                target = DATA if prefix == DATA else EXTENDED
                field = target + header.removeprefix(prefix).strip()
                if column_of(resource, field) is not None and field not in found.values():
                    found[header] = field
    return found

"""What the lists of messages, actions and webhooks share: which period, and two-line cells."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


def with_line(words: str, line: str) -> SafeString:
    """Return a cell of a list with a quiet line under its words."""
    return format_html('<span>{}<br><span class="quiet small">{}</span></span>', words, line)


class PeriodFilter(SimpleListFilter):
    """The last 24 hours, unless another period is chosen or something is searched for."""

    title = gettext_lazy("period")
    parameter_name = "period"
    default = "24h"
    spans: ClassVar[dict[str, timedelta]] = {
        "1h": timedelta(hours=1),
        "24h": timedelta(hours=24),
        "7d": timedelta(days=7),
        "30d": timedelta(days=30),
    }
    column = "created_at"

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.searching = bool(request.GET.get("q"))
        super().__init__(request, *args, **kwargs)
        if self.value() is None:
            # Its button says which period is shown although nobody chose one.
            self.title = self.standard_words()  # type: ignore[assignment]

    def standard_words(self) -> str:
        """Return the period that is shown when none is chosen."""
        return _("any time") if self.searching else _("last 24 hours")

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [
            ("1h", _("last hour")), ("7d", _("last 7 days")), ("30d", _("last 30 days")), ("all", _("any time")),
        ]  # fmt: skip

    @property
    def chosen(self) -> str:
        return self.value() or ("all" if self.searching else self.default)

    def choices(self, changelist: ChangeList) -> Any:
        day = self._day()
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": self.standard_words(),
        }
        for value, label in self.lookup_choices:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": label,
            }
        if day is not None:
            yield {"selected": True, "query_string": changelist.get_query_string(), "display": date_format(day)}

    def _day(self) -> date | None:
        try:
            return parse_date(self.chosen)
        except ValueError:
            return None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.chosen in self.spans:
            return queryset.filter(**{f"{self.column}__gte": timezone.now() - self.spans[self.chosen]})
        if (day := self._day()) is not None:
            begin = timezone.make_aware(datetime.combine(day, datetime.min.time()))
            return queryset.filter(**{f"{self.column}__gte": begin, f"{self.column}__lt": begin + timedelta(days=1)})
        return queryset

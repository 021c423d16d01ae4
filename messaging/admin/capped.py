"""Figures over sliced queries: as exact as a page needs, and never slower than the slice."""

from typing import Any

from django.db.models import BigIntegerField, DateTimeField, F, QuerySet, Subquery

from attentive_integration.markup import number

# Figures count no further than this; beyond it they say “10,000+”.
COUNT_CAP = 10_000


def shown(count: int) -> str:
    """Return a capped count for reading."""
    return f"{number(COUNT_CAP)}+" if count > COUNT_CAP else number(count)


class CountOf(Subquery):
    """The number of rows of a query, or COUNT_CAP + 1 where there are more than COUNT_CAP."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = BigIntegerField()

    def __init__(self, rows: QuerySet[Any]) -> None:
        super().__init__(rows.values("pk")[: COUNT_CAP + 1])


class LatestOf(Subquery):
    """The latest value of a column among the first rows of a query."""

    template = "(SELECT MAX(latest) FROM (%(subquery)s) newest)"
    output_field = DateTimeField()

    def __init__(self, rows: QuerySet[Any], column: str, among: int) -> None:
        super().__init__(rows.annotate(latest=F(column)).values("latest")[:among])

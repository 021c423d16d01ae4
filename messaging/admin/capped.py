"""Figures over sliced queries: as exact as a page needs, and never slower than the slice."""

from typing import Any

from django.db.models import BigIntegerField, DateTimeField, F, QuerySet, Subquery


class CountOf(Subquery):
    """The number of rows of a query that is sliced to what is worth counting."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = BigIntegerField()

    def __init__(self, rows: QuerySet[Any], cap: int) -> None:
        super().__init__(rows.values("pk")[:cap])


class LatestOf(Subquery):
    """The latest value of a column among the first rows of a query."""

    template = "(SELECT MAX(latest) FROM (%(subquery)s) newest)"
    output_field = DateTimeField()

    def __init__(self, rows: QuerySet[Any], column: str, among: int) -> None:
        super().__init__(rows.annotate(latest=F(column)).values("latest")[:among])

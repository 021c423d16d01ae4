"""Figures that stop early or are estimated, so that a page on ten million rows opens as fast as one on ten."""

import random
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.db.models import BigIntegerField, Count, OuterRef, QuerySet, Subquery
from django.utils.functional import cached_property

from attentive_integration.markup import Inexact
from loyalty.models import Site

# Lists and figures count no further than this. Beyond it a list says "more than", and a search finds the row; a figure
# says “≥ 10,000”, or is estimated from a sample of so many rows.
COUNT_CAP = 10_000
SAMPLE = 2_500
# Fewer hits than this in a sample tell only that there are few.
_TELLING = 10


def capped_count(rows: QuerySet[Any], most: int = COUNT_CAP) -> int:
    """Return how many rows there are, or `most` + 1 when there are more."""
    return rows.order_by()[: most + 1].count()


def at_least(count: int, most: int = COUNT_CAP) -> int:
    """Return a capped count as a number that says so when it was capped."""
    return Inexact(most, "≥") if count > most else count


class CountOf(Subquery):
    """The number of rows of a query, or `most` + 1 where there are more."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) counted)"
    output_field = BigIntegerField()

    def __init__(self, rows: QuerySet[Any], most: int = COUNT_CAP) -> None:
        super().__init__(rows.order_by().values("pk")[: most + 1])


def values_of(subqueries: dict[str, Any]) -> dict[str, Any]:
    """Return the values of subqueries that stand for one value each, in one query."""
    # Any row of any table would do; the prefix keeps the names apart from those of its columns.
    named = {f"the_{name}": one for name, one in subqueries.items()}
    found: Any = Site.objects.order_by("pk").values(**named).first()
    return {name: found[f"the_{name}"] for name in subqueries} if found else dict.fromkeys(subqueries)


class CappedPaginator(Paginator):
    """Counts at most `most` rows, and says in `is_capped` when there are more."""

    most = COUNT_CAP

    @cached_property
    def _capped_count(self) -> int:
        rows = self.object_list
        return capped_count(rows, self.most) if isinstance(rows, QuerySet) else len(rows)

    @property
    def count(self) -> int:
        return min(self._capped_count, self.most)

    @property
    def is_capped(self) -> bool:
        return self._capped_count > self.most


@dataclass(frozen=True)
class Sample:
    """Primary keys drawn at random from a range; each stands for `weight` of them, whether there is a row or not."""

    pks: list[int]
    weight: float

    @classmethod
    def between(cls, low: int | None, high: int | None) -> "Sample":
        """Draw from the keys from `low` to `high`, the same ones each time."""
        if low is None or high is None:
            return cls([], 1)
        low, high = min(low, high), max(low, high)
        everyone = range(low, high + 1)
        drawn = random.Random(high).sample(everyone, min(SAMPLE, len(everyone)))  # noqa: S311
        return cls(drawn, len(everyone) / len(drawn))

    def estimate(self, hits: int) -> int:
        """Return how many rows there are if so many of the sample's are among them; exact when all were drawn."""
        if self.weight == 1:
            return hits
        if hits < _TELLING:
            return Inexact(2 * _TELLING * self.weight, "<")
        return Inexact(hits * self.weight)


def ends_of(rows: QuerySet[Any], sites: QuerySet[Any], by: str = "pk") -> dict[str, Subquery]:
    """Return `low` and `high`: the first and the last primary key of the sites' rows, for `values_of`.

    An index gives the ends of each site: its first columns are the site and `by`, which grows with the primary key.
    """
    of_site = rows.filter(site=OuterRef("pk")).values("pk")
    of_sites = sites.order_by()
    first = of_sites.annotate(end=Subquery(of_site.order_by(by)[:1])).exclude(end=None)
    last = of_sites.annotate(end=Subquery(of_site.order_by(f"-{by}")[:1])).exclude(end=None)
    return {
        "low": Subquery(first.order_by("end").values("end")[:1]),
        "high": Subquery(last.order_by("-end").values("end")[:1]),
    }


def estimated_counts(rows: QuerySet[Any], sites: QuerySet[Any]) -> dict[int, int]:
    """Return for each of the sites that has such rows how many: exact up to COUNT_CAP, else estimated. 1 to 3 queries.

    The rows of one site must be found by an index alone.
    """
    of_site = CountOf(rows.filter(site=OuterRef("pk")))
    counts = dict(sites.order_by().annotate(found=of_site).filter(found__gt=0).values_list("pk", "found"))
    if large := [pk for pk, count in counts.items() if count > COUNT_CAP]:
        sample = Sample.between(**values_of(ends_of(rows, sites.filter(pk__in=large))))
        hits = rows.filter(site__in=large, pk__in=sample.pks).order_by().values_list("site").annotate(Count("pk"))
        counts |= {pk: at_least(counts[pk]) for pk in large}
        counts |= {pk: guess for pk, count in hits if (guess := sample.estimate(count)) > COUNT_CAP}
    return counts

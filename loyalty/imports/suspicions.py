"""Notices lists that look made up or damaged, while they are read: a warning for staff, never a refusal."""

from collections import Counter
from collections.abc import Sequence

from django.utils.translation import gettext as _

# As many consecutive numbers in a row are no accident.
_LONG_RUN = 100
# A list of at least so many phones, nearly all with one area code, is rare.
_MANY = 1_000
_ONE_AREA = 0.98


class Suspicions:
    """Counts as the phones pass by."""

    def __init__(self) -> None:
        self.last = self.run = self.longest = 0
        self.areas: Counter[str] = Counter()

    def look_at(self, phones: Sequence[str]) -> None:
        """Take in phones in E.164, in the order of the file."""
        last, run, longest = self.last, self.run, self.longest
        for phone in phones:
            number = int(phone)
            run = run + 1 if number == last + 1 else 1
            last = number
            if run > longest:
                longest = run
        self.last, self.run, self.longest = last, run, longest
        self.areas.update(phone[:5] for phone in phones)

    def sentences(self) -> list[str]:
        """Return what looks strange about the list so far."""
        found = []
        if self.longest >= _LONG_RUN:
            found.append(
                _("%(n)s phones in a row are consecutive numbers. This looks like a made-up list.")
                % {"n": f"{self.longest:,}"}
            )
        total = self.areas.total()
        if total >= _MANY:
            (area, count), *_rest = self.areas.most_common(1)
            if count >= total * _ONE_AREA:
                found.append(
                    _("%(share)d %% of the phones begin with %(area)s. Check that this is the whole list.")
                    % {"share": count * 100 // total, "area": area}
                )
        return found

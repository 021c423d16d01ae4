"""The small pieces of HTML that pages are made of: icons, pills, phones, times, bar charts. All return safe strings.

Used from Python (admin columns) and, under the same names, as template tags (`{% load dashboard %}`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from django.contrib.humanize.templatetags.humanize import naturaltime
from django.templatetags.static import static
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from attentive_integration.phones import grouped, masked

# Every state of the product: its tone (good, warn, bad, info, calm) and its icon. Colour is never the only sign.
STATE_LOOKS: dict[str, tuple[str, str]] = {
    # Sites and campaigns
    "DRAFT": ("calm", "edit"),
    "TEST": ("info", "phone"),
    "REVIEW": ("info", "question"),
    "LIVE": ("good", "check"),
    "PAUSED": ("warn", "pause"),
    "FAILING": ("bad", "warning"),
    # Activation tasks
    "TO_DO": ("calm", "circle"),
    "WAITING": ("warn", "clock"),
    "PASSED": ("good", "check"),
    # A client's link and what was entered there
    "GIVEN": ("good", "check"),
    "TO_CONFIRM": ("warn", "question"),
    "OPENED": ("info", "user"),
    "FINISHED": ("good", "check"),
    "WITHDRAWN": ("calm", "stop"),
    "REPLACED": ("calm", "refresh"),
    "TRIED_OUT": ("bad", "lock"),
    # Messages and attempts
    "QUEUED": ("info", "clock"),
    "HELD": ("warn", "pause"),
    "CLAIMED": ("info", "send"),
    "SENDING": ("info", "send"),
    "OPEN": ("info", "send"),
    "RETRY": ("warn", "refresh"),
    "ACCEPTED": ("good", "check"),
    "REFUSED": ("bad", "cross"),
    "SKIPPED": ("calm", "skip"),
    "EXPIRED": ("calm", "clock"),
    "UNKNOWN": ("warn", "question"),
    "CANCELLED": ("calm", "stop"),
    # Consent
    "TO_ASK": ("info", "clock"),
    "REQUESTED": ("info", "send"),
    "SUBSCRIBED": ("good", "check"),
    "UNSUBSCRIBED": ("bad", "cross"),
    "BLOCKED": ("bad", "lock"),
    "ERASED": ("calm", "trash"),
    # Jobs, webhooks, segments
    "PENDING": ("info", "clock"),
    "RUNNING": ("info", "refresh"),
    "COMPLETE": ("good", "check"),
    "FAILED": ("bad", "cross"),
    "RECEIVED": ("info", "clock"),
    "DONE": ("good", "check"),
    "IGNORED": ("calm", "skip"),
    "ACTIVE": ("good", "check"),
    "INACTIVE": ("calm", "pause"),
    "YES": ("good", "check"),
    "NO": ("calm", "cross"),
}


def icon(name: str, size: str = "", label: str = "") -> SafeString:
    """Return an icon of static/icons.svg; `size` is "", "small" or "large". Without a label it is decoration."""
    return format_html(
        '<svg class="icon{}"{} focusable="false"><use href="{}#{}"></use></svg>',
        f" icon-{size}" if size else "",
        format_html(' role="img" aria-label="{}"', label) if label else mark_safe(' aria-hidden="true"'),
        static("icons.svg"),
        name,
    )


def pill(word: Any, tone: str = "calm", icon_name: str = "dot") -> SafeString:
    """Return a pill with icon and word; `tone` is good, warn, bad, info, calm or brand."""
    return format_html('<span class="pill pill-{}">{}{}</span>', tone, icon(icon_name), word)


def state_pill(state: str, word: Any = "") -> SafeString:
    """Return the pill of a state code such as LIVE; `word` is what stands on it, mostly `get_state_display()`."""
    tone, icon_name = STATE_LOOKS.get(state, ("calm", "dot"))
    return pill(word or state.replace("_", " ").capitalize(), tone, icon_name)


def pill_for_state(row: Any, field_name: str = "state") -> SafeString:
    """Return the pill of a model instance's choice field."""
    return state_pill(getattr(row, field_name), getattr(row, f"get_{field_name}_display")())


def phone_text(e164: str, *, whole: bool) -> str:
    """Return a phone as a person reads it: grouped, or masked for those who may not see it."""
    return grouped(e164) if whole else masked(e164)


def email_text(address: str, *, whole: bool) -> str:
    """Return an e-mail address, or its first letter and its host for those who may not see it."""
    name, at, host = address.partition("@")
    return address if whole or not at else f"{name[:1]}•••@{host}"


def ago(moment: datetime | None, otherwise: str = "–") -> SafeString:
    """Return how long ago (or in how long) a moment is, with the exact time and its zone beneath the pointer."""
    if moment is None:
        return SafeString(otherwise)
    local = timezone.localtime(moment)
    exact = f"{date_format(local, 'DATETIME_FORMAT')} {local.tzname()}"
    words = naturaltime(moment)
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(timespec="seconds"), exact, words)


class Inexact(int):
    """A number that is not counted to the last, with its sign: ≈, ≥ or <. A sum with it is inexact too."""

    sign: str

    def __new__(cls, value: float, sign: str = "≈") -> Self:
        made = super().__new__(cls, round(value))
        made.sign = sign
        return made

    def __add__(self, other: int) -> "Inexact":
        return Inexact(int(self) + int(other))

    __radd__ = __add__


def number(value: int | float | None) -> str:
    """Return a number with the language's grouping; an inexact one with its sign; an en dash for none."""
    if value is None:
        return "–"
    if isinstance(value, Inexact):
        digits = 10 ** max(len(str(int(value))) - 3, 0)
        return f"{value.sign} {number(int(value) // digits * digits)}"
    return number_format(value, use_l10n=True, force_grouping=True)


def check_marks(checks: Sequence[tuple[str, str]]) -> SafeString:
    """Return a row of round marks, one for each (state, label); a label says which check it is and how it stands."""
    marks = []
    for state, label in checks:
        tone, icon_name = STATE_LOOKS.get(state, ("calm", "dash"))
        marks.append((tone, label, icon(icon_name, label=label)))
    return format_html(
        '<span class="check-marks">{}</span>',
        format_html_join("", '<span class="check-mark is-{}" title="{}">{}</span>', marks),
    )


# --- Charts: SVG made here, with the same numbers in a table beneath --------------------------------------------------


@dataclass(frozen=True)
class Series:
    """One colour of a stacked bar chart; `key` finds its value in each row."""

    key: str
    label: str
    tone: str = "brand"


@dataclass
class BarChart:
    """What partials/chart.html draws: bars as rectangles in a coordinate system of `width` × `height`."""

    title: str
    series: Sequence[Series]
    rows: Sequence[tuple[str, Mapping[str, int]]]
    width: int = 720
    height: int = 220
    bars: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(sum(values.values()) for _label, values in self.rows)

    @property
    def table(self) -> list[tuple[str, list[int]]]:
        return [(label, [values.get(one.key, 0) for one in self.series]) for label, values in self.rows]

    @property
    def description(self) -> str:
        """The chart in one sentence, for those who do not see it."""
        return _("%(title)s: %(total)s in all, in %(rows)d columns. The numbers stand in the table beneath.") % {
            "title": self.title,
            "total": number(self.total),
            "rows": len(self.rows),
        }


def bar_chart(title: str, rows: Sequence[tuple[str, Mapping[str, int]]], series: Sequence[Series]) -> BarChart:
    """Lay out a chart of stacked bars; `rows` are (label, {series key: value}), values are not negative.

    Draw it with `{% include "partials/chart.html" with chart=chart %}`.
    """
    chart = BarChart(title, series, rows)
    left, right, top, bottom = 44, 4, 10, 26
    inner_width, inner_height = chart.width - left - right, chart.height - top - bottom
    peak = _round_up(max((sum(values.values()) for _label, values in rows), default=0))
    for step in range(5):
        y = top + inner_height - inner_height * step / 4
        chart.rules.append({"y": round(y, 1), "x1": left, "x2": chart.width - right, "text": number(peak * step // 4)})
    slot = inner_width / max(len(rows), 1)
    bar_width = min(slot * 0.62, 34)
    # As many labels as fit, the last one always among them.
    every = max(1, -(-len(rows) * 52 // inner_width))
    for position, (label, values) in enumerate(rows):
        x = left + slot * position + (slot - bar_width) / 2
        y = float(top + inner_height)
        for one in series:
            value = values.get(one.key, 0)
            if value <= 0:
                continue
            size = max(inner_height * value / peak, 1.5)
            y -= size
            chart.bars.append(
                {
                    "x": round(x, 1), "y": round(y, 1), "width": round(bar_width, 1), "height": round(size, 1),
                    "tone": one.tone, "title": f"{label} · {one.label}: {number(value)}",
                }
            )  # fmt: skip
        if (len(rows) - 1 - position) % every == 0:
            chart.labels.append({"x": round(left + slot * (position + 0.5), 1), "y": chart.height - 8, "text": label})
    return chart


def _round_up(value: int) -> int:
    """Return the next number that four rules divide evenly."""
    if value <= 4:
        return 4
    step = 10 ** (len(str(value)) - 1)
    for factor in (1, 2, 4, 6, 8, 10):
        if value <= factor * step and factor * step % 4 == 0:
            return factor * step
    return -(-value // 4) * 4

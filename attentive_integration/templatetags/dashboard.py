"""`{% load dashboard %}`: what templates compose pages from. docs/dashboard.md shows each of them in use."""

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from django import template
from django.contrib.admin.views.main import ChangeList
from django.forms.boundfield import BoundField
from django.template import Context
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from attentive_integration import markup
from attentive_integration.event_words import event_words

register = template.Library()

register.simple_tag(markup.icon)
register.simple_tag(markup.pill)
register.simple_tag(markup.state_pill)
register.simple_tag(markup.pill_for_state)
register.simple_tag(markup.check_marks)
register.filter(markup.ago)
register.filter(markup.number)
register.filter(event_words)


@register.simple_tag(takes_context=True)
def phone(context: Context, e164: str) -> str:
    """Show a phone: grouped for users who may see whole phones, masked for the others."""
    return markup.phone_text(e164, whole=bool(context.get("sees_pii")))


@register.simple_tag(takes_context=True)
def email(context: Context, address: str) -> str:
    """Show an e-mail address, masked for users who may not see it."""
    return markup.email_text(address, whole=bool(context.get("sees_pii")))


@register.simple_tag(takes_context=True)
def page_url(context: Context, name: str, *args: Any, **query: Any) -> str:
    """Return the address of a page with the chosen site in it; keyword arguments become the query."""
    address = reverse(name, args=args)
    site = context.get("chosen_site")
    wanted = {"site": site.site_id if site else "", **query}
    wanted = {key: value for key, value in wanted.items() if value not in ("", None)}
    return f"{address}?{urlencode(wanted)}" if wanted else address


@register.simple_block_tag
def card(
    content: str,
    title: str = "",
    icon: str = "",
    note: str = "",
    tone: str = "",
    link: str = "",
    link_text: str = "",
    flush: bool = False,
    level: int = 2,
) -> str:
    """A card around its content. `flush` is for tables and lists, which reach to the card's edge."""
    return render_to_string(
        "partials/card.html",
        {
            "content": content, "title": title, "icon": icon, "note": note, "tone": tone, "link": link,
            "link_text": link_text or _("See all"), "flush": flush, "level": level,
        },
    )  # fmt: skip


@register.simple_block_tag
def notice(content: str, tone: str = "info", title: str = "", role: str = "") -> str:
    """A coloured box with title, cause and remedy; put buttons in a `<div class="row">` at its end."""
    icons = {"good": "check", "warn": "warning", "bad": "warning", "info": "info"}
    return render_to_string(
        "partials/notice.html",
        {"content": content, "tone": tone, "title": title, "role": role, "icon": icons.get(tone, "info")},
    )


@register.simple_block_tag
def page_header(content: str, title: str, eyebrow: str = "", lead: str = "", pill: str = "") -> str:
    """The page's `<h1>` with its actions (the content: links and forms with buttons)."""
    return render_to_string(
        "partials/page_header.html",
        {"actions": mark_safe(content.strip()), "title": title, "eyebrow": eyebrow, "lead": lead, "pill": pill},
    )


@register.simple_block_tag
def empty(content: str, title: str, icon: str = "info", text: str = "") -> str:
    """An empty state: what this is, why it is empty, and (the content) one primary button."""
    return render_to_string(
        "partials/empty.html", {"content": mark_safe(content.strip()), "title": title, "icon": icon, "text": text}
    )


@register.simple_tag
def stat(
    label: str, value: int | str | None, url: str = "", note: str = "", tone: str = "", icon: str = ""
) -> SafeString:
    """One figure in a `<div class="grid grid-stats">`; a number is grouped, and with `url` the figure is a link."""
    shown = markup.number(value) if isinstance(value, int) or value is None else value
    return render_to_string(
        "partials/stat.html",
        {"label": label, "value": shown, "url": url, "note": note, "tone": tone, "icon": icon},
    )


@register.simple_tag
def field(bound: BoundField, help_text: str = "", label: str = "") -> SafeString:
    """A form field with label, help and errors, tied together for screen readers."""
    return render_to_string("partials/field.html", {"field": bound, "help_text": help_text, "label": label})


@register.simple_tag
def progress(done: int, total: int, label: str) -> SafeString:
    """A progress bar; the label is read out, so it says what is done."""
    return format_html('<progress value="{}" max="{}" aria-label="{}"></progress>', done, max(total, 1), label)


@register.simple_tag
def data_table(
    headers: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "", cards: bool = True
) -> SafeString:
    """A table; the first cell of each row is its heading. With `cards` each row is a block on a phone.

    A header is a word, or a pair (word, "number") for a column of numbers.
    """
    columns = [(header, "") if isinstance(header, str) else tuple(header) for header in headers]
    table = [list(zip(columns, row, strict=False)) for row in rows]
    return render_to_string(
        "partials/table.html", {"columns": columns, "rows": table, "caption": caption, "cards": cards}
    )


@register.simple_tag
def copyable(text: str, label: str) -> SafeString:
    """A text with a button that copies it (the button appears only where scripts run)."""
    return render_to_string("partials/copyable.html", {"text": text, "label": label})


@register.filter
def dict_get(mapping: dict[str, Any], key: str) -> Any:
    """The value of a key that a template cannot spell, such as one with a dash; None without it."""
    return mapping.get(key)


# --- For the admin's own lists ----------------------------------------------------------------------------------------


@register.simple_tag
def result_cells(result: Iterable[str], headers: Sequence[dict[str, Any]]) -> SafeString:
    """The cells of one row of a change list, each knowing its column's name for the phone layout."""
    cells = []
    for header, cell in zip(headers, result, strict=False):
        label = (
            format_html(' data-label="{}"', capfirst(str(header["text"]).strip()))
            if "checkbox" not in cell[:60]
            else ""
        )
        tag, scope = ("<th", ' scope="row"') if cell.startswith("<th") else ("<td", "")
        cells.append(cell.replace(tag, f"{tag}{label}{scope}", 1))
    return mark_safe("".join(cells))


@register.simple_tag
def sort_state(header: dict[str, Any]) -> SafeString:
    """The `aria-sort` of a column heading."""
    if not header.get("sortable") or not header.get("sort_priority"):
        return SafeString("")
    return mark_safe(f' aria-sort="{"ascending" if header.get("ascending") else "descending"}"')


@register.inclusion_tag("partials/pagination.html")
def change_list_pages(cl: ChangeList) -> dict[str, Any]:
    """The pages of a change list."""
    return pages_context(
        cl.paginator.page(cl.page_num) if cl.result_count else None,
        lambda number: cl.get_query_string({"p": number}),
        str(cl.opts.verbose_name if cl.result_count == 1 else cl.opts.verbose_name_plural),
    )


@register.inclusion_tag("partials/pagination.html", takes_context=True)
def pages(context: Context, page: Any, noun: str = "") -> dict[str, Any]:
    """The pages of a `Page` of any view, which reads `?p=`; the rest of the query stays."""
    query = context["request"].GET.copy()

    def address(number: int) -> str:
        query["p"] = str(number)
        return f"?{query.urlencode()}"

    return pages_context(page, address, noun)


def pages_context(page: Any, address: Any, noun: str) -> dict[str, Any]:
    if page is None:
        return {"total": markup.number(0), "noun": noun, "links": []}
    paginator = page.paginator
    numbers = paginator.get_elided_page_range(page.number, on_each_side=2, on_ends=1) if paginator.num_pages > 1 else []
    links = [
        {"number": one, "url": address(one) if isinstance(one, int) else "", "current": one == page.number}
        for one in numbers
    ]
    total = markup.number(paginator.count)
    if getattr(paginator, "is_capped", False):
        total = _("more than %(count)s") % {"count": total}
    return {"total": total, "noun": noun, "links": links}

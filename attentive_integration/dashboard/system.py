from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse


def system(dashboard: Any, request: HttpRequest) -> HttpResponse:
    context = {**dashboard.each_context(request), "title": "system", "is_home": True}
    return TemplateResponse(request, "admin/index.html", context)

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse


def home(dashboard: Any, request: HttpRequest) -> TemplateResponse:
    context = {**dashboard.each_context(request), "title": "home", "is_home": True}
    return TemplateResponse(request, "admin/index.html", context)

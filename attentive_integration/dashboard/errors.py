"""What a damaged or too large request is told, and one that failed here; the other pages are found by name."""

import logging
import secrets

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader

logger = logging.getLogger(__name__)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer 413 to a request that is too large, 400 to any other that cannot be read."""
    too_large = isinstance(exception, RequestDataTooBig | TooManyFieldsSent | TooManyFilesSent)
    status = 413 if too_large else 400
    return render(request, f"{status}.html", status=status)


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer 500 with a number that the log has too: Django writes the traceback right after it."""
    number = secrets.token_hex(4).upper()
    logger.error("Error %s, its traceback follows: %s %s", number, request.method, request.path)
    # Nothing of the request is used here, because it may be what failed.
    return HttpResponse(loader.get_template("500.html").render({"number": number}), status=500)

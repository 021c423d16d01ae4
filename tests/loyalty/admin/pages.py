"""What the tests of the dashboard's pages share."""

import re
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

# Queries that a page may make, whatever it shows.
MOST_QUERIES = 15


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def queries_of(client: Client, address: str) -> int:
    """Return how many queries a page makes; it must open."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = client.get(address)
    assert answer.status_code == 200, answer.status_code
    return len(captured)


def text_of(answer: Any) -> str:
    """Return what a person reads on a page, without the markup."""
    html = re.sub(r"(?s)<(script|style|svg).*?</\1>", " ", answer.content.decode())
    main = html[html.index("<main") :] if "<main" in html else html
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())

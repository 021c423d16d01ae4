"""The inbound API on PostgreSQL: single posts, batches, and what a frozen broker costs a request."""

import http.client
import json
import os
import signal
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from django.utils import timezone

from attentive_integration.annex_cloud import encode_access_token
from loyalty.models import LoyaltyAction, Site
from tests.bench.measuring import Row, sandbox
from tests.factories import make_campaign
from tests.soak.people import connected_site, phone

_CLIENTS = 8
_MEMBERS = 2_000


def actions() -> list[Row]:
    """Post actions one by one, in batches of a thousand, and one by one while the broker stands still."""
    site = connected_site(sandbox(), "posting", members=_MEMBERS)
    make_campaign(site)
    singles = _posts_per_second(site, "single", posts=2_000, size=1)
    batches = _posts_per_second(site, "batch", posts=40, size=1_000)
    broker = int(os.environ["BROKER_PID"])
    os.kill(broker, signal.SIGSTOP)
    try:
        frozen = _post_all(site, "frozen", posts=1_500, size=1)
    finally:
        os.kill(broker, signal.SIGCONT)
    assert LoyaltyAction.objects.count() == 2_000 + 40_000 + 1_500
    slowest = statistics.quantiles(frozen, n=100)[98] * 1_000
    return [
        Row("ingest API: single posts/s", singles, at_least=200),
        Row("ingest API: actions/s in batches of 1,000", batches * 1_000, at_least=5_000),
        Row("ingest API: p99 of a post while the broker is frozen, ms", slowest, at_most=500),
    ]


def _posts_per_second(site: Site, name: str, *, posts: int, size: int) -> float:
    started = time.perf_counter()
    _post_all(site, name, posts=posts, size=size)
    return posts / (time.perf_counter() - started)


def _post_all(site: Site, name: str, *, posts: int, size: int) -> list[float]:
    """Post from several clients, each over one connection; return the seconds of each post."""
    shares = [range(client, posts, _CLIENTS) for client in range(_CLIENTS)]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        return [
            taken for share in pool.map(lambda share: _post_share(site, name, share, size), shares) for taken in share
        ]


def _post_share(site: Site, name: str, share: range, size: int) -> list[float]:
    headers = {
        "Authorization": f"Bearer {encode_access_token(site.site_id, 'loyalty-posting')}",
        "Content-Type": "application/json",
    }
    connection = http.client.HTTPConnection(urlsplit(os.environ["PUBLIC_URL"]).netloc, timeout=60)
    seconds = []
    for number in share:
        items = [_action(f"{name}-{number}-{place}", number * size + place) for place in range(size)]
        body = json.dumps(items)
        started = time.perf_counter()
        connection.request("POST", f"/api/v1/sites/{site.site_id}/actions", body, headers)
        answer = connection.getresponse()
        results = json.loads(answer.read())["results"]
        seconds.append(time.perf_counter() - started)
        assert answer.status == 202 and {result["status"] for result in results} == {"accepted"}, results[:3]
    return seconds


def _action(activity_id: str, number: int) -> dict[str, object]:
    return {
        "activity_id": activity_id, "action": "109", "phone": phone(number % _MEMBERS), "points": 120,
        "occurred_at": timezone.now().isoformat(), "data": {"order_id": activity_id},
    }  # fmt: skip

"""The dashboard at a million members and five million messages: `python -m tests.bench pages [--sizes 9000 50000]`.

Four people, two of them superusers, walk through every page over HTTP, 200 ms after each answer; the web server is
started as the image starts it. Beforehand every query of every page is explained: how many rows of the large tables it
reads, whatever it shows.
"""

import http.client
import os
import random
import statistics
import sys
import time
import urllib.parse
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from attentive_integration.embedded_broker import free_port
from loyalty.models import Segment, SiteMembership
from messaging.models import Campaign
from tests.bench import seeding
from tests.bench.measuring import Row, end, start, wait_until
from tests.bench.plans import large_reads

MEMBERS, MESSAGES = 1_000_000, 5_000_000
USERS = ("super1", "super2", "admin1", "admin2")
PASSWORD = "for-benches-only"  # noqa: S105
THINK_SECONDS = 0.2
ROUNDS = 8
MOST_QUERIES = 15
SEED = 20_261_125

_LISTS = {
    "members": "loyalty/member", "messages": "messaging/message", "actions": "loyalty/loyaltyaction",
    "consent": "loyalty/consent", "webhooks": "messaging/webhookevent", "imports": "loyalty/importjob",
    "exports": "loyalty/exportjob", "segments": "loyalty/segment", "campaigns": "messaging/campaign",
    "audit": "loyalty/auditentry", "sites": "loyalty/site", "users": "auth/user", "roles": "loyalty/sitemembership",
    "stops": "loyalty/sendingstop",
}  # fmt: skip
_LARGE, _SMALL = "site=1000001", "site=1000002"
# What follows the list's address; {…} is filled with something else each time.
_FILTERS = {
    "members": (
        _LARGE, _SMALL, f"{_LARGE}&p=2", f"{_LARGE}&p=200", "p=200", "sms=SUBSCRIBED", f"{_LARGE}&sms=TO_ASK",
        f"{_LARGE}&sms=UNKNOWN", f"{_LARGE}&sms=BLOCKED", f"{_LARGE}&tier=Gold", f"{_LARGE}&tier=Diamond", "tier=Gold",
        f"{_LARGE}&import=7", f"{_LARGE}&tier=Gold&sms=UNSUBSCRIBED", "q={email}", "q={loyalty_id}", "q=Ada",
        f"{_LARGE}&q=Ada+La", "q=Nobody", f"{_LARGE}&q=Ada&sms=BLOCKED",
    ),
    "messages": (
        _LARGE, _SMALL, "period=all", f"{_LARGE}&period=all", f"{_LARGE}&period=all&p=200", "period=7d&p=2",
        "state=UNKNOWN&period=all", f"{_LARGE}&state=REFUSED&period=all", f"{_LARGE}&state=CANCELLED&period=30d",
        "state=HELD&period=all", f"{_LARGE}&period=all&reason=NO_ANSWER", "period=all&reason=BRACE",
        f"{_LARGE}&period=all&reason=BRACE", f"{_LARGE}&period=all&campaign={{campaign}}",
        f"{_LARGE}&period=all&campaign={{campaign}}&state=REFUSED", "q=%23{message}", "q={activity}",
        "member__id__exact={member}&period=all", "member__id__exact=1&period=all",
    ),
    "actions": (
        _LARGE, "period=all", f"{_LARGE}&period=all&p=200", f"{_LARGE}&period=all&outcome=NO_CAMPAIGN",
        "outcome=WAITING&period=all", "member={member}&period=all", "q={activity}", "q={loyalty_id}",
    ),
    "consent": (
        _LARGE, f"{_LARGE}&p=200", f"{_LARGE}&state=TO_ASK", f"{_LARGE}&state=BLOCKED", "state=TO_ASK",
        "state=BLOCKED", f"{_LARGE}&channel=EMAIL", "channel=EMAIL", "q={email}",
    ),
    "webhooks": (
        _LARGE, "period=all", "period=all&p=200", f"{_LARGE}&state__exact=FAILED&period=all",
        "state__exact=FAILED&period=all",
    ),
    "imports": (_LARGE, "p=2", "state__exact=FAILED"),
    "exports": (_LARGE, "p=2"),
    "segments": (_LARGE,),
    "campaigns": (_LARGE,),
    "audit": (_LARGE, "p=200", "event=token.set", f"{_LARGE}&event=token.set", "q=person7", f"{_LARGE}&q=nothing"),
    "sites": ("q=Harbor", "state=LIVE"),
}  # fmt: skip
_PAGES = {
    "home": "", "home of a site": f"?{_LARGE}", "system": "system/", "site overview": "loyalty/site/{site}/overview/",
    "activate": "loyalty/site/{site}/activate/", "member": "loyalty/member/{member}/change/",
    "member with 500 texts": "loyalty/member/1/change/", "message": "messaging/message/{message}/change/",
    "message, timeline": "messaging/message/{message}/change/?tab=timeline",
    "messages, export": f"messaging/message/export/?{_LARGE}", "action": "loyalty/loyaltyaction/{message}/change/",
    "consent queue": "loyalty/consent/queue/", "consent queue of a site": f"loyalty/consent/queue/?{_LARGE}",
    "address": "loyalty/consent/{consent}/change/", "campaign": "messaging/campaign/{campaign}/change/",
    "campaign, go live": "messaging/campaign/{campaign}/go-live/",
    "campaign, versions": "messaging/campaign/{campaign}/versions/",
    "campaign, shadow": "messaging/campaign/{campaign}/shadow/", "segment": "loyalty/segment/{segment}/change/",
    "new segment": f"loyalty/segment/add/?{_LARGE}", "import": "loyalty/importjob/{job}/change/",
    "new import": f"loyalty/importjob/add/?{_LARGE}", "export": "loyalty/exportjob/{job}/change/",
    "new export": f"loyalty/exportjob/add/?{_LARGE}", "webhook": "messaging/webhookevent/{job}/change/",
    "resume": "loyalty/sendingstop/1000001/resume/", "search, e-mail": "search/?q={email}",
    "search, loyalty ID": "search/?q={loyalty_id}", "search, message": "search/?q=%23{message}",
    "search, nothing": "search/?q=nobody+at+all",
}  # fmt: skip
_PHONE_SEARCHES = {
    "search, phone": "search/?q={phone}", "members, phone": "loyalty/member/?q={phone}",
    "members of a site, phone": f"loyalty/member/?{_LARGE}&q={{phone}}",
    "messages, phone": "messaging/message/?q={phone}", "consent, phone": "loyalty/consent/?q={phone}",
    "actions, phone": "loyalty/loyaltyaction/?q={phone}",
}  # fmt: skip
# The live counts of the segment builder: the form that its script posts.
_COUNTS = {
    "everybody": {}, "by tier": {"group0-tier": "Gold"}, "few": {"group0-points_min": "4999"},
    "reachable": {"group0-tier": "Gold", "group0-points_min": "1000", "group0-reachable": "yes"},
    "lately active": {"group0-last_action_from": "2026-01-01"}, "nobody": {"group0-tier": "Diamond"},
}  # fmt: skip


def pages(username: str) -> dict[str, tuple[str, dict[str, str] | None]]:
    """Return the pages of a user by name: the address beneath /admin/, and the form where it is a POST."""
    found: dict[str, tuple[str, dict[str, str] | None]] = {}
    for name, place in _LISTS.items():
        for query in ("", *_FILTERS.get(name, ())):
            found[f"{name} {query}".strip()] = f"{place}/{'?' if query else ''}{query}", None
    found |= {name: (address, None) for name, address in (_PAGES | _PHONE_SEARCHES).items()}
    found |= {
        f"segment count, {name}": (f"loyalty/segment/count/?{_LARGE}", {"groups": "1", **form})
        for name, form in _COUNTS.items()
    }
    if not username.startswith("super"):
        del found["users"]
    return found


class Filling:
    """What stands for {…} in an address, different each time and the same in each run."""

    def __init__(self, facts: dict[str, Any], seed: int) -> None:
        self.facts = facts
        self.random = random.Random(seed)  # noqa: S311

    def __call__(self, address: str) -> str:
        member = self.random.randint(2, self.facts["members"])
        message = self.random.randint(1, self.facts["messages"])
        values = {
            "member": member, "message": message, "loyalty_id": f"M{member}", "email": f"Member{member}@example.com",
            "activity": f"A{message:09d}", "phone": urllib.parse.quote_plus(self._spelling(member)),
            "consent": member - (member % 10 == 0), "job": self.random.randint(1, 300),
            **{name: self.random.choice(self.facts[name]) for name in ("site", "campaign", "segment")},
        }  # fmt: skip
        return address.format(**values)

    def _spelling(self, member: int) -> str:
        """Return the member's phone in one of the spellings that people use."""
        area = ("770", "404", "212", "312", "415", "206", "617", "305")[member % 8]
        first, last = divmod(2_000_000 + member, 10_000)
        spellings = ("+1{a}{f}{l}", "({a}) {f}-{l}", "{a}-{f}-{l}", "1 {a} {f} {l}", "{a}.{f}.{l}", "{a}{f}{l}")
        return self.random.choice(spellings).format(a=area, f=first, l=f"{last:04d}")


def dashboard(members: str = str(MEMBERS), messages: str = str(MESSAGES), rounds: str = str(ROUNDS)) -> list[Row]:
    """Explain every page of a dashboard with so many members and messages, then let the users walk through them."""
    facts = seed(int(members), int(messages))
    explained = explain(facts)
    times = _walk(facts, int(rounds))
    for page, seconds in sorted(times.items(), key=lambda item: -_p95(item[1])):
        middle = statistics.median(seconds) * 1000
        print(f"{page:<66} p95 {_p95(seconds):>6.0f} ms   median {middle:>6.0f} ms", file=sys.stderr)
    for page, found in explained.items():
        for line in found["scans"]:
            print(f"{page} scans: {line}", file=sys.stderr)
    worst = max(times, key=lambda page: _p95(times[page]))
    by_phone = [second for page in _PHONE_SEARCHES for second in times[page]]
    scanning = [page for page, found in explained.items() if found["scans"]]
    greedy = [page for page, found in explained.items() if found["queries"] > MOST_QUERIES]
    load = f"load {os.getloadavg()[0]:.1f}"
    size = f"{int(members):,} members, {int(messages):,} messages"
    return [
        Row(f"worst p95 of {len(times)} pages, ms; {size}", _p95(times[worst]), at_most=300, note=f"{worst}; {load}"),
        Row("p95 of a search by phone, ms", _p95(by_phone), at_most=100, note=f"{len(by_phone)} searches; {load}"),
        Row("pages that scan a large table", len(scanning), at_most=0, note=", ".join(scanning)[:200]),
        Row(f"pages with more than {MOST_QUERIES} queries", len(greedy), at_most=0, note=", ".join(greedy)[:200]),
    ]


def _p95(seconds: list[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1] * 1000 if len(seconds) > 1 else seconds[0] * 1000


# --- Over HTTP --------------------------------------------------------------------------------------------------------


class Browser:
    """One person's connection to the web server, logged in."""

    def __init__(self, port: int, username: str) -> None:
        self.username = username
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.cookies: dict[str, str] = {}
        self.request("login/")
        self.request("login/", {"username": username, "password": PASSWORD})
        if "sessionid" not in self.cookies:
            raise RuntimeError(f"{username} could not log in.")

    def request(self, address: str, form: dict[str, str] | None = None) -> int:
        """Ask for a page beneath /admin/ and read it whole; return its status."""
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        body = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Referer"] = f"http://127.0.0.1:{self.connection.port}/admin/"
            body = urllib.parse.urlencode({**form, "csrfmiddlewaretoken": self.cookies["csrftoken"]})
        try:
            self.connection.request("GET" if form is None else "POST", f"/admin/{address}", body, headers)
            answer = self.connection.getresponse()
        except http.client.RemoteDisconnected:
            # It was idle for too long for the server; a browser asks once more, on a new one.
            self.connection.close()
            self.connection.request("GET" if form is None else "POST", f"/admin/{address}", body, headers)
            answer = self.connection.getresponse()
        answer.read()
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, _equals, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status


def _walk(facts: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Let every user open every page `rounds` times, after once that is not counted; return the seconds by page."""
    port = free_port()
    # As in the Dockerfile.
    options = ("--workers", "2", "--threads", "8", "--no-control-socket", "--log-level", "warning")
    server = start("-m", "gunicorn", "attentive_integration.wsgi", "--bind", f"127.0.0.1:{port}", *options)
    times: dict[str, list[float]] = defaultdict(list)
    try:
        wait_until(lambda: _answers(port), seconds=30)
        with ThreadPoolExecutor(len(USERS)) as people:
            walks = [
                people.submit(_use, Browser(port, name), Filling(facts, SEED + n), rounds, times)
                for n, name in enumerate(USERS)
            ]
        for walk in walks:
            walk.result()
    finally:
        end([server])
    return times


def _use(browser: Browser, fill: Filling, rounds: int, times: dict[str, list[float]]) -> None:
    everything = list(pages(browser.username).items())
    for turn in range(rounds + 1):
        fill.random.shuffle(everything)
        for name, (address, form) in everything:
            place = fill(address)
            started = time.perf_counter()
            status = browser.request(place, form)
            if turn:
                times[name].append(time.perf_counter() - started)
            # A search with one hit leads there.
            if status not in (200, 302):
                raise RuntimeError(f"{name}: {status} at {place}")
            time.sleep(THINK_SECONDS if turn else 0)


def _answers(port: int) -> bool:
    try:
        probe = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        probe.request("GET", "/healthz")
        return probe.getresponse().status == 200
    except OSError:
        return False


# --- In the database --------------------------------------------------------------------------------------------------


def seed(members: int, messages: int) -> dict[str, Any]:
    """Fill the database and make the users; return what addresses are filled with."""
    sites = seeding.seed(members, messages)
    for name in USERS:
        user = User.objects.create_user(name, password=PASSWORD, is_staff=True, is_superuser=name.startswith("super"))
        if not user.is_superuser:
            SiteMembership.objects.bulk_create(
                SiteMembership(user=user, site=site, role=SiteMembership.Role.ADMIN) for site in sites
            )
    return {
        "members": members,
        "messages": messages,
        "site": [site.pk for site in sites],
        "campaign": list(Campaign.objects.values_list("pk", flat=True)),
        "segment": list(Segment.objects.values_list("pk", flat=True)),
    }


def explain(facts: dict[str, Any]) -> dict[str, Any]:
    """Open every page once as each kind of user, and explain its queries: large reads, and how many there are."""
    found: dict[str, Any] = {name: {"scans": [], "queries": 0} for name in pages(USERS[0])}
    fill = Filling(facts, SEED)
    for username in ("super1", "admin1"):
        client = Client(SERVER_NAME="127.0.0.1", raise_request_exception=True)
        client.force_login(User.objects.get(username=username))
        for name, (address, form) in pages(username).items():
            queries: list[tuple[str, Any]] = []

            def note(execute: Any, sql: str, params: Any, many: bool, context: Any, to: Any = queries) -> Any:
                to.append((sql, params))
                return execute(sql, params, many, context)

            with connection.execute_wrapper(note):
                place = f"/admin/{fill(address)}"
                client.get(place) if form is None else client.post(place, form)
            found[name]["queries"] = max(found[name]["queries"], len(queries))
            found[name]["scans"] += [f"{username}: {scan}" for scan in large_reads(queries)]
    return found

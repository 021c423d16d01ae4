"""The dashboard at a million members and five million messages, on PostgreSQL: `python -m tests.bench.pages`.

Four people, two of them superusers, walk through every page over HTTP, 200 ms after each answer; the web server is
started as the image starts it. Beforehand every query of every page is explained: how many rows of the large tables it
reads, whatever it shows.
"""

import argparse
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import defaultdict
from pathlib import Path
from typing import Any

import django
from django.db import connection, transaction

from attentive_integration.embedded_broker import free_port
from tests.postgres import PostgresCluster

ROOT = Path(__file__).resolve().parent.parent.parent
MEMBERS, MESSAGES = 1_000_000, 5_000_000
USERS = ("super1", "super2", "admin1", "admin2")
PASSWORD = "for-benches-only"  # noqa: S105
THINK_SECONDS = 0.2
ROUNDS = 8
# Lists and figures stop at ten thousand rows; who reads ten times as many of a large table scans it, index or not.
MOST_ROWS = 100_000
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


def pages() -> dict[str, tuple[str, dict[str, str] | None]]:
    """Return every page by its name: the address beneath /admin/, and the form where it is a POST."""
    found: dict[str, tuple[str, dict[str, str] | None]] = {}
    for name, place in _LISTS.items():
        for query in ("", *_FILTERS.get(name, ())):
            found[f"{name} {query}".strip()] = f"{place}/{'?' if query else ''}{query}", None
    found |= {name: (address, None) for name, address in (_PAGES | _PHONE_SEARCHES).items()}
    found |= {
        f"segment count, {name}": (f"loyalty/segment/count/?{_LARGE}", {"groups": "1", **form})
        for name, form in _COUNTS.items()
    }
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


def rows(
    members: int = MEMBERS, messages: int = MESSAGES, rounds: int = ROUNDS, *, tell: bool = False
) -> list[dict[str, Any]]:
    """Return the measures of the dashboard with so many members and messages; `tell` prints each page's as well."""
    with tempfile.TemporaryDirectory(prefix="loyalty-sms-bench-") as folder, PostgresCluster() as cluster:
        port = free_port()
        environment = {
            **os.environ,
            "DATABASE_URL": cluster.url,
            "DATA_DIR": folder,
            "SECRET_KEY": "for-benches-only-" * 4,
            "FIELD_ENCRYPTION_KEYS": "A" * 43 + "=",
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "DJANGO_SETTINGS_MODULE": "attentive_integration.settings",
            "LOG_LEVEL": "WARNING",
        }
        facts = _child(environment, "seed", "--members", str(members), "--messages", str(messages))
        return measured(environment, port, facts, rounds, tell=tell)


def measured(
    environment: dict[str, str], port: int, facts: dict[str, Any], rounds: int, *, tell: bool
) -> list[dict[str, Any]]:
    """Explain every page, then let the users walk; return the rows of the table."""
    explained = _child(environment, "explain", "--facts", json.dumps(facts))
    if tell:
        for page, found in explained.items():
            for line in found["scans"]:
                print(f"SCAN {page}: {line}")
            if found["queries"] > MOST_QUERIES:
                print(f"QUERIES {page}: {found['queries']}")
    times = _walk(environment, port, facts, rounds)
    if tell:
        for page, seconds in sorted(times.items(), key=lambda item: -_p95(item[1])):
            print(f"{page:<60} p95 {_p95(seconds):>6.0f} ms   median {statistics.median(seconds) * 1000:>6.0f} ms")
    worst = max(times, key=lambda page: _p95(times[page]))
    by_phone = [second for page in _PHONE_SEARCHES for second in times[page]]
    scanning = [page for page, found in explained.items() if found["scans"]]
    greedy = [page for page, found in explained.items() if found["queries"] > MOST_QUERIES]
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
    size = f"{facts['members']:,} members, {facts['messages']:,} messages"
    return [
        _row(f"worst p95 of {len(times)} pages, 4 users, {size}, ms", _p95(times[worst]), 300.0, f"{worst}; {machine}"),
        _row("p95 of a search by phone, ms", _p95(by_phone), 100.0, f"{len(by_phone)} searches; {machine}"),
        _row(f"pages that read more than {MOST_ROWS:,} rows of a large table", len(scanning), 0.0, ", ".join(scanning)),
        _row(f"pages with more than {MOST_QUERIES} queries", len(greedy), 0.0, ", ".join(greedy)),
    ]


def _row(measure: str, value: float, at_most: float, note: str) -> dict[str, Any]:
    return {"measure": measure, "value": round(value, 1), "at_most": at_most, "note": note[:200]}


def _p95(seconds: list[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    return statistics.quantiles(seconds, n=20, method="inclusive")[-1] * 1000 if len(seconds) > 1 else seconds[0] * 1000


def _child(environment: dict[str, str], *arguments: str) -> Any:
    command = [sys.executable, "-m", "tests.bench.pages", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- Over HTTP --------------------------------------------------------------------------------------------------------


class Browser:
    """One person's connection to the web server, logged in."""

    def __init__(self, port: int, username: str) -> None:
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
        self.connection.request("GET" if form is None else "POST", f"/admin/{address}", body, headers)
        answer = self.connection.getresponse()
        answer.read()
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            name, _equals, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status


def _walk(environment: dict[str, str], port: int, facts: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Let every user open every page `rounds` times, after once that is not counted; return the seconds by page."""
    # As in the Dockerfile.
    options = ["--workers", "2", "--threads", "8", "--no-control-socket", "--log-level", "warning"]
    command = [sys.executable, "-m", "gunicorn", "attentive_integration.wsgi", "--bind", f"127.0.0.1:{port}", *options]
    server = subprocess.Popen(command, cwd=ROOT, env=environment)
    times: dict[str, list[float]] = defaultdict(list)
    failures: list[str] = []
    try:
        _wait_for(port)
        people = [
            threading.Thread(target=_use, args=(Browser(port, name), Filling(facts, SEED + n), rounds, times, failures))
            for n, name in enumerate(USERS)
        ]
        for person in people:
            person.start()
        for person in people:
            person.join()
    finally:
        server.terminate()
        server.wait(timeout=30)
    if failures:
        raise RuntimeError(f"{len(failures)} pages did not open: {failures[:5]}")
    return times


def _use(browser: Browser, fill: Filling, rounds: int, times: dict[str, list[float]], failures: list[str]) -> None:
    everything = list(pages().items())
    for turn in range(rounds + 1):
        fill.random.shuffle(everything)
        for name, (address, form) in everything:
            place = fill(address)
            started = time.perf_counter()
            status = browser.request(place, form)
            if turn:
                times[name].append(time.perf_counter() - started)
            # A search with one hit leads there; users and the like are for superusers.
            if status not in (200, 302, 403):
                failures.append(f"{name}: {status} at {place}")
            time.sleep(THINK_SECONDS if turn else 0)


def _wait_for(port: int) -> None:
    for _turn in range(100):
        try:
            probe = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            probe.request("GET", "/healthz")
            if probe.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise RuntimeError("The web server did not start.")


# --- In a child process -----------------------------------------------------------------------------------------------


def seed(members: int, messages: int) -> dict[str, Any]:
    """Fill the database and make the users; return what addresses are filled with."""
    from django.contrib.auth.models import User  # noqa: PLC0415

    from loyalty.models import Segment, SiteMembership  # noqa: PLC0415
    from messaging.models import Campaign  # noqa: PLC0415
    from tests.bench import seeding  # noqa: PLC0415

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


def explain(facts: dict[str, Any], only: str = "") -> dict[str, Any]:
    """Open every page once as each kind of user, and explain its queries: large reads, and how many there are."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    wanted = {name: page for name, page in pages().items() if only in name}
    found: dict[str, Any] = {name: {"scans": [], "queries": 0} for name in wanted}
    fill = Filling(facts, SEED)
    for username in ("super1", "admin1"):
        client = Client(SERVER_NAME="127.0.0.1", raise_request_exception=True)
        client.force_login(User.objects.get(username=username))
        for name, (address, form) in wanted.items():
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


def large_reads(queries: list[tuple[str, Any]]) -> list[str]:
    """Run these queries again, without effect, and say which read more than MOST_ROWS rows of a large table."""
    from tests.bench import seeding  # noqa: PLC0415

    large = {model._meta.db_table for model in seeding.LARGE}
    reads = []
    for sql, params in queries:
        if not sql.lstrip("( ").startswith(("SELECT", "WITH", "UPDATE")):
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params)
            plan = cursor.fetchone()[0][0]
            transaction.set_rollback(True)
        waiting = [plan["Plan"]]
        while waiting:
            node = waiting.pop()
            waiting += node.get("Plans", [])
            removed = sum(value for key, value in node.items() if key.startswith("Rows Removed by"))
            read = round((node["Actual Rows"] + removed) * node["Actual Loops"])
            if node.get("Relation Name") in large and read > MOST_ROWS:
                what = f"{node['Node Type']} of {read:,} rows of {node['Relation Name']}"
                reads.append(f"{what}, {plan['Execution Time']:.0f} ms: …{sql[-300:]}")
    return reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", nargs="?", default="rows", choices=["rows", "seed", "explain"])
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--messages", type=int, default=MESSAGES)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each user opens each page")
    parser.add_argument("--only", default="", help="explain only pages whose name has this in it")
    parser.add_argument("--facts", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task == "rows":
        for row in rows(options.members, options.messages, options.rounds, tell=True):
            print(f"{row['measure']:<62} {row['value']:>8} (at most {row['at_most']})  {row['note']}")
        return
    django.setup()
    if options.task == "seed":
        print(json.dumps(seed(options.members, options.messages)))
    else:
        print(json.dumps(explain(options.facts, options.only)))


if __name__ == "__main__":
    main()

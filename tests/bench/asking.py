"""The pace of subscribing and unsubscribing, from three processes with one token."""

import time
from concurrent.futures import ThreadPoolExecutor

from loyalty import consent, unsubscribing
from loyalty.models import Consent, Site
from tests.bench.measuring import Row, end, ledger, sandbox, start, wait_until
from tests.soak.people import connected_site, phone

SECONDS = 40
_PROCESSES = 3


def paces() -> list[Row]:
    """Ask members to subscribe, then take others out: the share of the vendor's limit that is used, and refusals."""
    site = connected_site(sandbox(), "asked", members=3_000, subscribed=1_000)
    consent.mark_to_ask(site, [phone(number) for number in range(1_000, 3_000)])
    commands = [("manage.py", "subscribe_members", "--site", site.site_id)] * _PROCESSES
    rows = _pace("subscribe", "SUBSCRIBE", 10, commands)
    out = ("-m", "tests.bench.measuring", "asking.take_out", site.site_id)
    commands = [(*out, str(number), str(_PROCESSES)) for number in range(_PROCESSES)]
    return rows + _pace("unsubscribe", "UNSUBSCRIBE", 5, commands)


def _pace(name: str, kind: str, limit: int, commands: list[tuple[str, ...]]) -> list[Row]:
    running = [start(*command) for command in commands]
    try:
        wait_until(lambda: len(ledger(kind)) > limit, seconds=60)
        before, since = len(ledger(kind)), time.monotonic()
        time.sleep(SECONDS)
        called, span = len(ledger(kind)) - before, time.monotonic() - since
    finally:
        end(running)
    refused = sandbox().company("asked")["counters"].get("too many requests", 0)
    share = called / (limit * span)
    return [
        Row(f"{name}, three processes: share of {limit}/s", share, at_least=0.95, note=f"over {SECONDS} s"),
        Row(f"{name}, three processes: refusals", refused, at_most=0),
    ]


def take_out(site_id: str, number: str, of: str) -> list[Row]:
    """Unsubscribe this process's share of the members, four at a time, until it is ended."""
    site = Site.objects.get(site_id=site_id)
    joined = Consent.objects.filter(site=site, state=Consent.State.SUBSCRIBED).order_by("pk")
    mine = list(joined.values_list("address", flat=True)[int(number) :: int(of)])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda address: unsubscribing.unsubscribe(site, address), mine))
    return []

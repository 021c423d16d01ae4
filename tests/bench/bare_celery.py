"""What sending is measured against: one Celery task a message over a pooled session, and nothing recorded."""

import os
import subprocess
import sys
import time

import requests
from celery import Celery
from requests.adapters import HTTPAdapter

from tests.bench.measuring import ROOT, end, ledger, wait_until
from tests.soak.people import phone

app = Celery("bare", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, task_default_queue="bare", worker_prefetch_multiplier=4)

_session = requests.Session()
_session.mount("http://", HTTPAdapter(pool_maxsize=32))


@app.task(name="bare.send")
def send(url: str, token: str, to: str, body: str) -> None:
    """Text one person."""
    _session.post(url, json={"to": to, "body": body, "type": "TRANSACTIONAL"},
                  headers={"Authorization": f"Bearer {token}"}, timeout=15)  # fmt: skip


def rate(*, messages: int, workers: int, company: str) -> float:
    """Fill the queue, start so many workers of twenty threads, and return accepted messages a second."""
    url = f"{os.environ['ATTENTIVE_API_URL']}/1/messages"
    marker = f"{time.time()}"
    for number in range(messages):
        send.delay(url, f"legacy-{company}", phone(number % 300), f"{marker} {number}")
    before = len(ledger("MESSAGE"))
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.bare_celery", "worker", "-Q", "bare", "-P", "threads",
               "-c", "20", "-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]  # fmt: skip
    running = [subprocess.Popen([*command, "-n", f"bare{number}@localhost"], cwd=ROOT) for number in range(workers)]
    try:
        wait_until(lambda: len(ledger("MESSAGE")) - before >= messages, seconds=120, every=0.5)
    finally:
        end(running)
    times = [int(str(record["at"])) for record in ledger("MESSAGE")[before:]]
    return messages / ((max(times) - min(times)) / 1000)

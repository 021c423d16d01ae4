"""What sending is measured against: one Celery task a message over a pooled session, and nothing recorded."""

import os

import requests
from celery import Celery
from requests.adapters import HTTPAdapter

app = Celery("bare", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, task_default_queue="bare", worker_prefetch_multiplier=4)

_session = requests.Session()
_session.mount("http://", HTTPAdapter(pool_maxsize=32))


@app.task(name="bare.send")
def send(url: str, token: str, to: str, body: str) -> None:
    """Text one person."""
    _session.post(
        url, json={"to": to, "body": body, "type": "TRANSACTIONAL"}, headers={"Authorization": f"Bearer {token}"},
        timeout=15,
    )  # fmt: skip

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import pools

from attentive_integration import wake
from attentive_integration.celery import app
from attentive_integration.embedded_broker import EmbeddedBroker


@pytest.fixture(autouse=True)
def publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wake, "_publisher", wake._Publisher())


@pytest.fixture
def broker(tmp_path: Path, settings: Any) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path) as running:
        settings.REDIS_URL = running.url
        before = app.conf.broker_url
        app.conf.broker_url = running.url
        forget_connections()
        yield running
        app.conf.broker_url = before
        forget_connections()


def forget_connections() -> None:
    pools.reset()
    app._pool = app.amqp._producer_pool = None


def waiting(broker: EmbeddedBroker, queue: str) -> int:
    with app.connection_for_read(broker.url) as connection:
        return int(connection.default_channel.client.llen(queue))


def test_equal_wake_ups_that_wait_are_one(broker: EmbeddedBroker) -> None:
    for _ in range(50):
        wake.wake("messaging.tasks.send_due")
    wake._publisher.flush(10)
    assert 1 <= waiting(broker, "send") < 50


def test_a_frozen_broker_holds_nobody_up(broker: EmbeddedBroker) -> None:
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for number in range(2_000):
            wake.wake("loyalty.tasks.subscribe_site", number)
        assert time.monotonic() - began < 0.5
    finally:
        broker.process.send_signal(signal.SIGCONT)


def test_without_a_broker_nobody_is_woken(settings: Any) -> None:
    settings.REDIS_URL = ""
    wake.wake("messaging.tasks.send_due")
    assert not wake._publisher._waiting

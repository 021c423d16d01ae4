"""`/healthz` and `/readyz` against a real broker, a real database, and neither."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from attentive_integration import heartbeats
from attentive_integration.embedded_broker import EmbeddedBroker
from attentive_integration.models import Heartbeat
from messaging.tasks import heartbeat
from tests.factories import make_action, make_member, make_message, make_site


@pytest.fixture
def broker(tmp_path: Path, settings: Any) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path / "broker") as running:
        settings.REDIS_URL = running.url
        yield running


def ready() -> tuple[int, list[str], dict[str, Any]]:
    answer = Client().get("/readyz")
    assert "no-store" in answer.headers["Cache-Control"]
    return answer.status_code, answer.json()["failed"], answer.json()["checks"]


def test_healthz_needs_no_database() -> None:
    # No `db` mark: any query would fail this test.
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert Client().post("/healthz").status_code == 405


@pytest.mark.django_db
def test_ready_without_a_broker(settings: Any) -> None:
    settings.REDIS_URL = ""
    status, failed, checks = ready()
    assert (status, failed) == (200, [])
    assert checks["broker"] == checks["worker"] == checks["beat"] == {"ok": True, "state": "not used"}


@pytest.mark.django_db
def test_ready_with_everything(broker: EmbeddedBroker) -> None:
    heartbeats.show_alive(heartbeats.WORKER)
    heartbeats.show_alive(heartbeats.BEAT)
    assert ready()[:2] == (200, [])


@pytest.mark.django_db
def test_missing_and_silent_processes_are_named(broker: EmbeddedBroker) -> None:
    heartbeats.show_alive(heartbeats.BEAT)
    Heartbeat.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    status, failed, checks = ready()
    assert (status, failed) == (503, ["worker", "beat"])
    assert "Start one." in checks["worker"]["error"]
    assert "300 s old" in checks["beat"]["error"]


@pytest.mark.django_db
def test_a_broker_that_is_frozen_or_gone_is_named_soon(broker: EmbeddedBroker) -> None:
    heartbeats.show_alive(heartbeats.WORKER)
    heartbeats.show_alive(heartbeats.BEAT)
    assert broker.process is not None
    os.kill(broker.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert ready()[:2] == (503, ["broker"])
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    assert time.monotonic() - began < 5
    broker.stop()
    status, failed, checks = ready()
    assert (status, failed) == (503, ["broker"])
    assert str(broker.port) not in str(checks)


@pytest.mark.django_db
def test_unapplied_migrations_are_named(settings: Any) -> None:
    settings.REDIS_URL = ""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'messaging'")
    status, failed, checks = ready()
    assert (status, failed) == (503, ["migrations"])
    assert "manage.py migrate" in checks["migrations"]["error"]


@pytest.mark.django_db
def test_work_that_waits_too_long_is_named(settings: Any) -> None:
    settings.REDIS_URL = ""
    hour_ago = timezone.now() - timedelta(hours=1)
    member = make_member(make_site())
    make_message(member, state="QUEUED", due_at=timezone.now() + timedelta(hours=8))
    make_message(member, state="HELD", due_at=hour_ago)
    make_action(member, recorded_at=hour_ago, processed_at=hour_ago)
    member.actions.update(processed_at=timezone.now())
    assert ready()[:2] == (200, [])
    message = make_message(member, due_at=hour_ago)
    member.actions.update(processed_at=timezone.now())
    assert ready()[:2] == (503, ["queue"])
    message.delete()
    assert ready()[:2] == (200, [])
    make_action(member, recorded_at=hour_ago)
    assert ready()[:2] == (503, ["queue"])


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_gone_is_named_without_its_address(settings: Any) -> None:
    settings.REDIS_URL = ""
    name = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = "/nowhere/at/all" if connection.vendor == "sqlite" else "no_such_database"
    try:
        status, failed, checks = ready()
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
    assert (status, failed) == (503, ["database", "migrations", "queue"])
    assert "no" + "where" not in str(checks) and "no_such" not in str(checks)


@pytest.mark.django_db
def test_signs_of_life_are_few(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    assert "worker" not in heartbeats.ages()
    heartbeats.show_alive("worker")
    with django_assert_num_queries(1):
        heartbeats.show_alive("worker")
    Heartbeat.objects.update(beat_at=timezone.now() - timedelta(minutes=1))
    heartbeats.show_alive("worker")
    assert heartbeats.ages()["worker"] < 5


@pytest.mark.django_db
def test_the_task_that_beat_orders_shows_both(broker: EmbeddedBroker) -> None:
    heartbeat()
    assert ready()[:2] == (200, [])

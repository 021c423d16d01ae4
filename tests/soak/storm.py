"""The storm: an installation at work while everything around it, and it itself, is killed, frozen and cut off.

Actions are posted over HTTP, Celery workers and a CRON loop send them, people reply STOP. Every second or so chance,
drawn from the seed, does one bad thing. Then the weather clears, the backlog drains by itself, and the books of both
sides are compared.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from typing import Any

import redis
from django.db import OperationalError, connection
from django.db.models import Q
from django.utils import timezone

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.embedded_broker import EmbeddedBroker
from loyalty import consent
from loyalty.models import ConsentEvent, LoyaltyAction, Site
from messaging.models import Message, SendAttempt, WebhookEvent
from tests.factories import make_campaign
from tests.installation import BEAT, WORKER, Installation
from tests.postgres import PostgresCluster
from tests.soak.people import connected_site, phone

SITES = 8
MEMBERS = 400
_BODY = "Thanks {{ first_name }}, we received order {{ data.order_id }}."
_MESSAGES_PATH = "/1/messages"
# Bad answers, each for a while and with a probability.
_WEATHER: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 429, "retry_after": "1"},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 500},
    {"kind": "status_after", "status": 502},
    {"kind": "status_after", "status": 504},
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "close_after"},
    {"kind": "garbage"},
    {"kind": "cut"},
    {"kind": "delay", "seconds": 1.0},
    {"kind": "delay_after", "seconds": 6.0},
)


class Keeper:
    """Keeps one process alive, in a session of its own; it rests for so many seconds between two starts."""

    def __init__(self, installation: Installation, *command: str, rest: float = 1.0) -> None:
        self.installation, self.command, self.rest = installation, command, rest
        self.started_at = -rest
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._log = (installation.folder / f"kept-{id(self)}.log").open("wb")

    def keep(self) -> None:
        is_running = self.process is not None and self.process.poll() is None
        if not is_running and time.monotonic() - self.started_at >= self.rest:
            # Whatever it left behind ends too: a real supervisor kills the whole group.
            self.signal_all(signal.SIGKILL)
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                [sys.executable, *self.command], env=self.installation.environment, stdout=self._log, stderr=self._log,
                start_new_session=True,
            )  # fmt: skip
            self.starts += 1

    def signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)

    def signal_all(self, number: int) -> None:
        """Signal the process and its children, which share its session."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def end(self) -> None:
        self.signal_all(signal.SIGCONT)
        self.signal_all(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=10)


class Storm:
    """One storm. `run` returns what went wrong, in sentences."""

    def __init__(self, installation: Installation, cluster: PostgresCluster, broker: EmbeddedBroker, seed: int) -> None:
        self.installation, self.cluster, self.broker = installation, cluster, broker
        self.sandbox = installation.sandbox
        self.random = random.Random(seed)
        self.did: Counter[str] = Counter()
        self.companies = [f"storm{number}" for number in range(SITES)]
        self.sites: list[Site] = []
        self.accepted: set[tuple[str, str]] = set()
        self.stopped: set[tuple[str, str]] = set()
        self.is_over = threading.Event()
        self.workers = [Keeper(installation, *WORKER, "-n", f"storm{number}@localhost") for number in range(2)]
        self.beat = Keeper(installation, *BEAT, str(installation.folder / "beat"))
        self.cron = Keeper(installation, "manage.py", "run_campaigns", rest=10.0)
        self.kept = [*self.workers, self.beat, self.cron]

    def run(self, *, minutes: float, actions: int) -> list[str]:
        self._set_up()
        started = time.monotonic()
        until = started + minutes * 60
        posting = [threading.Thread(target=self._post, args=(part, actions, until)) for part in range(3)]
        for thread in posting:
            thread.start()
        try:
            self._rage(until)
            self._clear()
            for thread in posting:
                thread.join(timeout=300)
            drained = self._drain(until=time.monotonic() + max(300, minutes * 60))
        finally:
            self.is_over.set()
            for keeper in self.kept:
                keeper.end()
        problems = self._judge(actions)
        if not drained:
            problems.insert(0, "The backlog did not drain.")
        self.did["seconds in all"] = round(time.monotonic() - started)
        return problems

    def _set_up(self) -> None:
        for company in self.companies:
            site = connected_site(self.sandbox, company, members=MEMBERS)
            make_campaign(site, _BODY)
            self.sites.append(site)
            self.sandbox.configure_company(
                company, webhook_url=f"{self.installation.url}/webhooks/attentive/{site.uuid}/",
                webhook_signing_key=f"signing-{company}", webhook_jitter_seconds=2.0, webhook_replay=0.3,
            )  # fmt: skip

    # --- The work -----------------------------------------------------------------------------------------------------

    def _post(self, part: int, actions: int, until: float) -> None:
        """Post a share of the actions in batches, evenly over the time, and repeat each until it is answered 202."""
        chance = random.Random(f"{part}")
        mine = range(part, actions, 3)
        started, done = time.monotonic(), 0
        while done < len(mine):
            batch = mine[done : done + chance.randint(1, 40)]
            self._post_until_taken(chance.randrange(SITES), [*batch])
            done += len(batch)
            behind = started + (until - started) * 0.9 * done / len(mine) - time.monotonic()
            time.sleep(max(0.0, behind))

    def _post_until_taken(self, at: int, numbers: list[int]) -> None:
        site, company = self.sites[at], self.companies[at]
        items = [
            {
                "activity_id": f"{company}-{number}", "action": "109", "phone": phone(number * 7 % MEMBERS),
                "occurred_at": timezone.now().isoformat(), "data": {"order_id": f"{company}-{number}"},
            }
            for number in numbers
        ]  # fmt: skip
        token = encode_access_token(site.site_id, f"loyalty-{company}")
        while True:
            try:
                status, answer = self.installation.post(f"/api/v1/sites/{site.site_id}/actions", items, token=token)
            except (OSError, HTTPException):
                status, answer = 0, {}
            if status == 202:
                taken = [result["activity_id"] for result in answer["results"]]
                assert {result["status"] for result in answer["results"]} <= {"accepted", "duplicate"}, answer
                self.accepted.update((company, activity_id) for activity_id in taken)
                return
            self.did["posts repeated"] += 1
            time.sleep(0.5)

    # --- The weather --------------------------------------------------------------------------------------------------

    def _rage(self, until: float) -> None:
        deeds: list[tuple[int, Callable[[], None]]] = [
            (6, self._bad_answers),
            (4, self._stop_from_a_phone),
            (2, self._opt_out_here),
            (4, self._kill_a_worker),
            (2, self._kill_a_workers_child),
            (3, self._freeze_a_worker),
            (3, self._kill_cron),
            (2, self._flush_redis),
            (2, self._freeze_redis),
            (1, self._restart_redis),
            (1, self._restart_postgres),
            (1, self._vendor_down),
            (1, self._refuse_a_token),
            (2, self._kill_web),
        ]
        weights = [weight for weight, _deed in deeds]
        while time.monotonic() < until:
            for keeper in self.kept:
                keeper.keep()
            (_weight, deed), *_ = self.random.choices(deeds, weights)
            self.did[deed.__name__.strip("_").replace("_", " ")] += 1
            with suppress(OperationalError, ValueError):
                deed()
            for _ in range(self.random.randint(1, 6)):
                self._stop_from_a_phone()
            time.sleep(self.random.uniform(0.3, 2.0))

    def _bad_answers(self) -> None:
        fault = self.random.choice(_WEATHER)
        number = self.sandbox.add_fault(
            _MESSAGES_PATH, times=None, probability=self.random.uniform(0.05, 0.4),
            company=self.random.choice(self.companies), **fault,
        )  # fmt: skip
        self._later(self.random.uniform(2, 8), lambda: self.sandbox.remove_fault(number))

    def _vendor_down(self) -> None:
        self.sandbox.add_fault("/", "down", times=None, seconds=self.random.uniform(1, 4))

    def _refuse_a_token(self) -> None:
        company = self.random.choice(self.companies)
        self.sandbox.configure_company(company, refused=["legacy"])
        self._later(3, lambda: self.sandbox.configure_company(company, refused=[]))

    def _stop_from_a_phone(self) -> None:
        at = self.random.randrange(SITES)
        # A tenth of the members may leave, so that there is somebody left to text.
        number = phone(self.random.randrange(MEMBERS // 10))
        self.sandbox.reply(self.companies[at], number, self.random.choice(["STOP", "Stop ", "unsubscribe", "QUIT"]))
        self.stopped.add((self.companies[at], number))

    def _opt_out_here(self) -> None:
        at = self.random.randrange(SITES)
        number = phone(self.random.randrange(MEMBERS // 10))
        consent.opt_out(self.sites[at], number, evidence="storm")
        self.stopped.add((self.companies[at], number))

    def _kill_a_worker(self) -> None:
        self.random.choice(self.workers).signal_all(signal.SIGKILL)

    def _kill_a_workers_child(self) -> None:
        worker = self.random.choice(self.workers)
        if worker.process is not None:
            for child in _children(worker.process.pid)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def _freeze_a_worker(self) -> None:
        worker = self.random.choice(self.workers)
        worker.signal_all(signal.SIGSTOP)
        # Sometimes for longer than a lease lasts.
        self._later(self.random.choice([1, 3, 20]), lambda: worker.signal_all(signal.SIGCONT))

    def _kill_cron(self) -> None:
        self.cron.signal_all(signal.SIGKILL)

    def _kill_web(self) -> None:
        """Kill the web server's worker; its master starts another."""
        if self.installation.server is not None:
            for child in _children(self.installation.server.pid)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    def _flush_redis(self) -> None:
        with suppress(redis.RedisError):
            redis.Redis.from_url(self.broker.url, socket_timeout=1).flushall()

    def _freeze_redis(self) -> None:
        process = self.broker.process
        if process is not None:
            process.send_signal(signal.SIGSTOP)
            self._later(self.random.uniform(2, 8), lambda: process.send_signal(signal.SIGCONT))

    def _restart_redis(self) -> None:
        if self.broker.process is not None:
            self.broker.process.kill()
            self.broker.process.wait()
        self.broker.start()

    def _restart_postgres(self) -> None:
        connection.close()
        self.cluster.restart()

    def _later(self, seconds: float, deed: Callable[[], object]) -> None:
        def do() -> None:
            # Not at all when the storm is over by then: clearing has done it.
            if not self.is_over.wait(seconds):
                with suppress(ValueError, OSError):
                    deed()

        threading.Thread(target=do, daemon=True).start()

    # --- Afterwards ---------------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        """The weather clears; from here on nobody does anything."""
        self.is_over.set()
        connection.close()
        self.sandbox.clear_faults()
        for company in self.companies:
            self.sandbox.configure_company(company, refused=[])
        if self.broker.process is not None:
            self.broker.process.send_signal(signal.SIGCONT)
        for keeper in self.kept:
            keeper.signal_all(signal.SIGCONT)
            keeper.keep()

    def _drain(self, until: float) -> bool:
        """Wait until everything has been sent and heard; the processes are only kept alive."""
        while time.monotonic() < until:
            for keeper in self.kept:
                keeper.keep()
            waiting = sum(company["webhooks"]["waiting"] for company in self.sandbox.state()["companies"])
            left = (
                LoyaltyAction.objects.filter(processed_at=None).count()
                + Message.objects.filter(state__in=["QUEUED", "CLAIMED", "SENDING", "HELD"]).count()
                + WebhookEvent.objects.filter(state="RECEIVED").count()
            )
            if not left and not waiting:
                return True
            time.sleep(1)
        return False

    def _judge(self, actions: int) -> list[str]:
        records = self.sandbox.ledger("MESSAGE")
        texts = Counter((record["company"], record["to"], record["body"]) for record in records)
        company_of = dict(zip([site.pk for site in self.sites], self.companies, strict=True))
        stored = set(LoyaltyAction.objects.values_list("site_id", "activity_id"))
        stored_names = {(company_of[site_id], activity_id) for site_id, activity_id in stored}
        messages = list(Message.objects.order_by("pk"))
        by_state = Counter(message.state for message in messages)
        self.did.update({f"messages {state}": n for state, n in by_state.items()})
        self.did["texts accepted"] = texts.total()
        self.did["people who left"] = len(self.stopped)
        undelivered = sum(company["webhooks"]["failed"] for company in self.sandbox.state()["companies"])
        wrong: Counter[str] = Counter()
        wrong["actions answered 202 and lost"] = len(self.accepted - stored_names)
        wrong["actions without exactly one message"] = LoyaltyAction.objects.exclude(outcome="MATCHED").count() + abs(
            len(stored) - len(messages)
        )
        wrong["actions missing"] = abs(actions - len(stored))
        wrong["texts doubled"] = sum(times - 1 for times in texts.values())
        unclear = set(
            SendAttempt.objects.filter(Q(outcome="UNKNOWN") | Q(cause="CONFIRMED")).values_list("message_id", flat=True)
        )
        for message in messages:
            times = texts.pop((company_of[message.site_id], message.to, message.body), 0)
            if message.state == "ACCEPTED":
                wrong["accepted messages without a text"] += times == 0
            elif message.state == "UNKNOWN":
                # Every text that arrived was confirmed by its webhook; what is unknown did not arrive.
                wrong["unknown messages whose text arrived and was confirmed"] += times
                wrong["unknown messages without an unclear call"] += message.pk not in unclear
            elif message.state in ("SKIPPED", "REFUSED"):
                wrong["messages called not sent whose text arrived"] += times
            else:
                wrong["messages in no final state"] += 1
        wrong["texts without a message"] = len(texts)
        self.did["unclear calls"] = len(unclear)
        self.did["webhooks given up"] = undelivered
        # A webhook that Attentive gave up confirms nothing.
        arrived = "unknown messages whose text arrived and was confirmed"
        wrong[arrived] = max(0, wrong[arrived] - undelivered)
        wrong["calls begun after the commit of an opt-out"] = _begun_after_an_opt_out()
        verdict = self.installation.run("verify_invariants", "--ledger", str(self.sandbox.ledger_path), "--json")
        problems = [f"{count} {name}." for name, count in wrong.items() if count]
        if verdict.returncode:
            problems.append(f"verify_invariants: {(verdict.stdout + verdict.stderr)[-800:]}")
        return problems


def _begun_after_an_opt_out() -> int:
    """Count calls that began after the first opt-out of their phone stood; nobody came back in this storm."""
    outs = ConsentEvent.objects.filter(to_state="UNSUBSCRIBED").order_by("-recorded_at")
    rows = outs.values_list("consent__site", "consent__address", "recorded_at")
    first = {(site, address): at for site, address, at in rows}
    attempts = SendAttempt.objects.values_list("message__site", "message__to", "started_at")
    return sum(at > first[site, to] for site, to, at in attempts if (site, to) in first)


def _children(pid: int) -> list[int]:
    """Return the children of one of our own processes."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []

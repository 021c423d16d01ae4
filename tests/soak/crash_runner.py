"""Runs cases of the crash matrix in an installation: real processes, killed where the case says, then left alone.

After each death leases are shortened instead of waited for, and the work goes on undisturbed. What is asserted is the
same everywhere: nothing lost, nothing doubled, UNKNOWN exactly for the calls that had begun, and no invariant violated.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPException
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.embedded_broker import free_port
from attentive_integration.models import RateLimit
from attentive_integration.webhooks import sign
from loyalty import consent
from loyalty.models import Breaker, Consent, LoyaltyAction, Member
from messaging import decisions, invariants
from messaging.acceptance_ledger import compare
from messaging.models import Message
from tests.factories import make_action, make_campaign, make_user
from tests.installation import Installation
from tests.soak.crash_cases import OUTCOMES, Case
from tests.soak.people import connected_site, phone

_BODY = "Thanks {{ first_name }}, we received order {{ data.order_id }}."
_FINAL = {"ACCEPTED", "UNKNOWN", "REFUSED", "SKIPPED"}
# Points after which some call had certainly begun, and those before which none had.
_BEGUN = {"after_attempt_commit", "before_call", "after_call", "before_outcome_commit", "outcome_half_written"}
_NOT_BEGUN = {
    "before_messages", "after_messages", "before_match_commit", "after_match_commit", "before_claim_commit",
    "after_claim", "before_slots_commit", "after_slots_commit", "after_look_locks", "before_attempt_commit",
}  # fmt: skip
_ROWS = 10_500


class CrashRunner:
    """Runs one case after the other in one installation, each with a site of its own."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._violations = self._count_violations()
        self._number = 0

    def run(self, case: Case) -> list[str]:
        """Return what went wrong; nothing when the case holds."""
        self._number += 1
        scene = Scene(self.installation, case, f"crash{self._number}")
        try:
            _DRIVES[case.drive](scene)
        except AssertionError as problem:
            scene.problems.append(str(problem))
        before, self._violations = self._violations, self._count_violations()
        fresh = self._violations - before
        return scene.problems + [f"{count} {name}" for name, count in fresh.items()]

    def _count_violations(self) -> Counter[str]:
        here = invariants.violations()
        there = compare(self.installation.sandbox.ledger_path).violations
        return Counter({name: n for found in (here, there) for names in found.values() for name, n in names.items()})


class Scene:
    """The site of one case: what happens to it, and what may be said of it afterwards."""

    def __init__(self, installation: Installation, case: Case, company: str) -> None:
        self.installation, self.case, self.company = installation, case, company
        self.sandbox = installation.sandbox
        subscribed = 0 if case.drive == "subscribe" else case.actions
        self.site = connected_site(self.sandbox, company, members=case.actions, subscribed=subscribed)
        self.campaign = make_campaign(self.site, _BODY)
        self.problems: list[str] = []

    # --- What happens -------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Let each member do something that is to be texted."""
        for number, member in enumerate(Member.objects.filter(site=self.site).order_by("pk")):
            make_action(member, action_type=self.campaign.action_type, data={"order_id": f"{self.company}-{number}"})

    def earlier_runs(self) -> None:
        for point, outcome in self.case.before:
            if point:
                self.die("run_campaigns", point=point, outcome=outcome)
            else:
                self.fault(outcome)
                self.installation.manage("run_campaigns")
                self.sandbox.clear_faults()
            self.hasten()

    def fault(self, outcome: str, path: str = "/1/messages", method: str = "POST") -> None:
        if (order := OUTCOMES[outcome]) is not None:
            self.sandbox.add_fault(path, times=None, company=self.company, method=method, **order)

    def die(self, *command: str, point: str = "", outcome: str = "", path: str = "/1/messages") -> None:
        """Run a command that must die at the point; what it is answered ends with it."""
        self.fault(outcome or self.case.outcome, path)
        process = self.installation.start(
            "manage.py", *command, CRASH_AT=point or self.case.point, **self.case.environment
        )
        status = process.wait(timeout=120)
        self.sandbox.clear_faults()
        assert status == -signal.SIGKILL, f"{command[0]} ended with {status} instead of dying"

    def hasten(self) -> None:
        """Let leases, pauses and the breaker's probe be over."""
        past = Now() - timedelta(seconds=1)
        Message.objects.filter(lease_until__isnull=False).update(lease_until=past)
        Message.objects.filter(state="QUEUED").update(due_at=past)
        Consent.objects.filter(lease_until__isnull=False).update(lease_until=past)
        Consent.objects.filter(due_at__isnull=False).update(due_at=None)
        Breaker.objects.filter(opened_at__isnull=False).update(probe_at=past)
        RateLimit.objects.update(blocked_until=None)

    def recover(self) -> None:
        """Run the CRON job undisturbed until everything of the site is settled."""
        for _ in range(5):
            self.hasten()
            self.installation.manage("run_campaigns", "--json")
            states = set(Message.objects.filter(site=self.site).values_list("state", flat=True))
            if states <= _FINAL and not LoyaltyAction.objects.filter(site=self.site, processed_at=None).exists():
                return
        self.problems.append(f"not settled: {sorted(states)}")

    # --- What may be said ---------------------------------------------------------------------------------------------

    def messages(self) -> list[Message]:
        return list(Message.objects.filter(site=self.site).order_by("pk"))

    def begun(self) -> set[int]:
        """Return the messages of which nobody can know whether they arrived."""
        return {message.pk for message in self.messages() if message.state in ("SENDING", "UNKNOWN")}

    def texts(self) -> Counter[tuple[str, str]]:
        """Return how often each text was accepted at Attentive."""
        lines = [record for record in self.sandbox.ledger("MESSAGE") if record["company"] == self.company]
        return Counter((record["to"], record["body"]) for record in lines)

    def lines(self, kind: str) -> Counter[str]:
        return Counter(line["phone"] for line in self.sandbox.ledger(kind) if line["company"] == self.company)

    def judge(self, begun: set[int]) -> None:
        """Each action has its one message, each message its one text or a reason; UNKNOWN are those that had begun."""
        texts, messages = self.texts(), self.messages()
        actions = list(LoyaltyAction.objects.filter(site=self.site).values_list("pk", "outcome"))
        assert len(actions) == self.case.actions, f"{len(actions)} actions"
        assert all(outcome == "MATCHED" for _pk, outcome in actions), "actions without a match"
        assert sorted(message.action_id for message in messages) == sorted(pk for pk, _ in actions), "messages lost"
        for message in messages:
            times = texts[message.to, message.body]
            expected = {"ACCEPTED": (1,), "UNKNOWN": (0, 1), "REFUSED": (0,)}.get(message.state, ())
            if times not in expected:
                self.problems.append(f"message {message.pk} is {message.state} and was accepted {times} times")
            if (message.state == "UNKNOWN") != (message.pk in begun):
                self.problems.append(f"message {message.pk} is {message.state}, begun: {message.pk in begun}")

    def serve_crashing(self) -> str:
        """Start a web server that dies at the point, and return its address."""
        port = free_port()
        self.server = self.installation.start(
            "-m", "gunicorn", "attentive_integration.wsgi", "--no-control-socket", "-b", f"127.0.0.1:{port}",
            "--workers", "1", "--threads", "2", CRASH_AT=self.case.point,
        )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.installation.get(f"{url}/healthz")
                return url
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the web server did not start")

    def post_and_die(self, path: str, body: Any, **how: Any) -> None:
        url = self.serve_crashing()
        try:
            status, _answer = self.installation.post(url + path, body, **how)
            raise AssertionError(f"the request was answered {status}")
        except (OSError, HTTPException):
            pass
        finally:
            self.server.terminate()
            self.server.wait(timeout=30)


# --- What the process was doing ---------------------------------------------------------------------------------------


def _tick(scene: Scene) -> None:
    scene.act()
    scene.earlier_runs()
    scene.die("run_campaigns")
    begun = scene.begun()
    if not scene.case.before:
        assert begun or scene.case.point not in _BEGUN, "no call had begun"
        assert not begun or scene.case.point not in _NOT_BEGUN, "calls had begun"
    scene.recover()
    scene.judge(begun)


def _confirm(scene: Scene) -> None:
    """Webhooks say which of the unclear texts arrived; the process dies while it notes one of them."""
    scene.act()
    scene.earlier_runs()
    arrived = scene.messages()[1:]
    for message in arrived:
        text = f"{scene.company}: {message.body}"
        assert _hear(scene, "sms.sent", message.to, message={"id": message.pk, "text": text}) == 200
    scene.die("run_campaigns")
    scene.recover()
    scene.judge({message.pk for message in scene.messages()} - {message.pk for message in arrived})


def _decide(scene: Scene) -> None:
    """A person orders unclear texts again, and the order dies before it stands."""
    scene.act()
    scene.earlier_runs()
    user = make_user(scene.site)
    scene.die(
        "shell", "-v0", "-c",
        "from django.contrib.auth.models import User; from messaging import decisions; "
        "from messaging.models import Message; "
        f"decisions.send_again(Message.objects.filter(site={scene.site.pk}), by=User.objects.get(pk={user.pk}))",
    )  # fmt: skip
    assert {message.state for message in scene.messages()} == {"UNKNOWN"}, "an order stands by half"
    decisions.send_again(scene.messages(), by=user)
    scene.recover()
    assert {message.state for message in scene.messages()} == {"ACCEPTED"}, "an order was lost"
    assert set(scene.texts().values()) == {2}, "each text was ordered twice"


def _ingest(scene: Scene) -> None:
    path = f"/api/v1/sites/{scene.site.site_id}/actions"
    token = encode_access_token(scene.site.site_id, f"loyalty-{scene.company}")
    batch = [
        {
            "activity_id": f"{scene.company}-{number}", "action": "109", "phone": phone(number),
            "occurred_at": timezone.now().isoformat(), "data": {"order_id": f"{scene.company}-{number}"},
        }
        for number in range(scene.case.actions)
    ]  # fmt: skip
    scene.post_and_die(path, batch, token=token)
    status, answer = scene.installation.post(path, batch, token=token)
    assert status == 202, f"the second post was answered {status}"
    statuses = {result["status"] for result in answer["results"]}
    assert statuses == {"duplicate" if scene.case.point == "after_actions_commit" else "accepted"}, str(statuses)
    scene.recover()
    scene.judge(set())


def _webhook(scene: Scene) -> None:
    """A STOP whose request dies comes again, as Attentive repeats it; nothing is texted after it was heard."""
    stopped = phone(0)
    body, headers = _event(scene, "sms.unsubscribed", stopped)
    path = f"/webhooks/attentive/{scene.site.uuid}/"
    scene.post_and_die(path, body, headers=headers)
    heard = consent.state_of(scene.site, stopped) == "UNSUBSCRIBED"
    assert heard == (scene.case.point == "after_webhook_commit"), f"heard: {heard}"
    status, _answer = scene.installation.post(path, body, headers=headers)
    assert status == 200, f"the repeat was answered {status}"
    assert consent.state_of(scene.site, stopped) == "UNSUBSCRIBED", "the opt-out was lost"
    scene.act()
    scene.recover()
    assert scene.messages()[0].reason == "OPTED_OUT", scene.messages()[0].reason
    assert sorted(to for to, _body in scene.texts()) == sorted(phone(n) for n in range(1, scene.case.actions))


def _hear(scene: Scene, kind: str, to: str, **fields: Any) -> int:
    body, headers = _event(scene, kind, to, **fields)
    return scene.installation.post(f"/webhooks/attentive/{scene.site.uuid}/", body, headers=headers)[0]


def _event(scene: Scene, kind: str, to: str, **fields: Any) -> tuple[bytes, dict[str, str]]:
    event = {"type": kind, "timestamp": int(time.time() * 1000), "subscriber": {"phone": to}, **fields}
    body = json.dumps(event).encode()
    return body, {"x-attentive-hmac-sha256": sign(f"signing-{scene.company}", body)}


def _subscribe(scene: Scene) -> None:
    """Members wait to be asked; one of them is subscribed at Attentive already and must not be asked at all."""
    known, *asked = [phone(number) for number in range(scene.case.actions)]
    scene.sandbox.add_subscribers(scene.company, [known])
    consent.mark_to_ask(scene.site, [known, *asked])
    command = ("subscribe_members", "--site", scene.site.site_id)
    scene.die(*command, path="/v1/subscriptions")
    requested = set(Consent.objects.filter(site=scene.site, state="REQUESTED").values_list("address", flat=True))
    for _ in range(2):
        scene.hasten()
        scene.installation.manage(*command)
    lines = scene.lines("SUBSCRIBE")
    assert max(lines.values(), default=0) <= 1, f"asked twice: {lines}"
    assert known not in lines, "a subscriber was asked"
    states = dict(Consent.objects.filter(site=scene.site).values_list("address", "state"))
    for number in [known, *asked]:
        expected = "SUBSCRIBED" if number == known or lines[number] else "REQUESTED"
        if states[number] != expected or (expected == "REQUESTED" and number not in requested):
            scene.problems.append(f"{number} is {states[number]}, asked {lines[number]} times")


def _unsubscribe(scene: Scene) -> None:
    out = phone(0)
    command = ("unsubscribe_member", "--site", scene.site.site_id, out, "--json")
    scene.die(*command, path="/v1/subscriptions/unsubscribe")
    assert consent.state_of(scene.site, out) == "UNSUBSCRIBED", "the opt-out was lost"
    scene.installation.manage(*command)
    assert scene.lines("UNSUBSCRIBE")[out] <= 1, "the goodbye text came twice"
    scene.act()
    scene.recover()
    assert scene.texts()[out, scene.messages()[0].body] == 0, "a text after the opt-out"


def _import(scene: Scene) -> None:
    when = timezone.now().isoformat()
    rows = [f"{scene.company}-{number},109,{phone(number % 5)},{when}" for number in range(_ROWS)]
    path = scene.installation.write(
        f"{scene.company}.csv", "\n".join(["activity_id,action,phone,occurred_at", *rows, ""])
    )
    command = ("import_actions", "--site", scene.site.site_id, path, "--json")
    scene.die(*command)
    counts = scene.installation.manage(*command)
    assert (counts["read"], counts["accepted"], counts["duplicate"]) == (_ROWS, _ROWS, 0), str(counts)
    stored = LoyaltyAction.objects.filter(site=scene.site).count()
    assert stored == _ROWS, f"{stored} actions of {_ROWS}"


_DRIVES: dict[str, Callable[[Scene], None]] = {
    "tick": _tick,
    "confirm": _confirm,
    "decide": _decide,
    "ingest": _ingest,
    "webhook": _webhook,
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "import": _import,
}

"""The sandbox as a child process, for the demo and the tests."""

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent.parent
_END_SECONDS = 10


class SandboxControl:
    """Steers and looks into a sandbox that runs somewhere, through its control API."""

    def __init__(self, control_url: str = "") -> None:
        self.control_url = control_url

    # --- Steering -----------------------------------------------------------------------------------------------------

    def configure_company(self, company: str, **fields: Any) -> dict[str, Any]:
        """Set fields of a company, made on first use, and return it.

        Fields: name, domain, contact_email, site_id, double_opt_in, read_only, sms_sent (bool), refused (a list of app,
        legacy, loyalty), app_key, legacy_token, loyalty_token, sign_up_sources (id → type), webhook_url,
        webhook_signing_key, webhook_events (empty: all), webhook_jitter_seconds, webhook_replay (probability).
        """
        return self._call("POST", f"/sandbox/companies/{quote(company)}", fields)

    def add_subscribers(
        self, company: str, phones: list[str], *, type: str = "MARKETING", status: str = "SUBSCRIBED"
    ) -> None:
        """Make phones (E.164) subscribers of a company, without a text and without a webhook."""
        fields = {"phones": phones, "type": type, "status": status}
        self._call("POST", f"/sandbox/companies/{quote(company)}/subscribers", fields)

    def reply(self, company: str, phone: str, text: str) -> dict[str, Any]:
        """Answer from a phone, such as STOP or Y, and return the phone afterwards."""
        return self._call("POST", f"/sandbox/companies/{quote(company)}/phones/{quote(phone)}/replies", {"text": text})

    def add_fault(self, path: str, kind: str, times: int | None = 1, **options: Any) -> int:
        """Order a fault (see faults.KINDS) for requests whose path begins so, and return its id.

        `times` None lasts until it is cleared. Options: probability, method, company, status, retry_after, seconds.
        """
        return self._call("POST", "/sandbox/faults", {"path": path, "kind": kind, "times": times, **options})["id"]

    def remove_fault(self, number: int) -> None:
        """Switch one fault off, by the id that `add_fault` returned."""
        self._call("DELETE", f"/sandbox/faults/{number}")

    def clear_faults(self) -> None:
        """Switch every fault off; a sandbox that was down comes up."""
        self._call("DELETE", "/sandbox/faults")

    def set(self, **settings: Any) -> dict[str, Any]:
        """Change settings: limits (class → calls a second or None), duplicate_seconds, refuse_duplicates."""
        return self._call("POST", "/sandbox/settings", settings)

    # --- Looking ------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return companies with their counters and webhook queues, faults and settings."""
        return self._call("GET", "/sandbox/state")

    def company(self, company: str) -> dict[str, Any]:
        """Return one company of `state`; KeyError when it does not exist."""
        return {found["key"]: found for found in self.state()["companies"]}[company]

    def phones(self, company: str) -> dict[str, dict[str, Any]]:
        """Return each address of a company with its `subscriptions` and its `screen`, oldest text first."""
        return self._call("GET", f"/sandbox/companies/{quote(company)}/phones")

    def segments(self, company: str) -> dict[str, list[str]]:
        """Return the members of each of the company's segments at Attentive, by external id."""
        return self._call("GET", f"/sandbox/companies/{quote(company)}/segments")

    def texts(self, company: str, phone: str) -> list[str]:
        """Return the texts that a phone got from the company, the company's name in front."""
        screen = self.phones(company).get(phone, {}).get("screen", [])
        return [bubble["text"] for bubble in screen if bubble["side"] == "BRAND"]

    def wait_for_webhooks(self, seconds: float = 10.0) -> None:
        """Return when no webhook is waiting; raises TimeoutError after so many seconds."""
        deadline = time.monotonic() + seconds
        while any(company["webhooks"]["waiting"] for company in self.state()["companies"]):
            if time.monotonic() > deadline:
                raise TimeoutError("Webhooks are still waiting.")
            time.sleep(0.05)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.control_url + path,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["message"]) from None


class SandboxProcess(SandboxControl):
    """Use as a context manager: `url` serves both vendors, `ledger_path` is the ledger, the methods steer it.

    `port` 0 takes a free one; without `ledger_path` the ledger lies in a temporary folder that goes with the process.
    """

    def __init__(self, port: int = 0, ledger_path: Path | str | None = None) -> None:
        super().__init__()
        self._port = port
        self._folder = tempfile.TemporaryDirectory(prefix="loyalty-sms-sandbox-")
        self.ledger_path = Path(ledger_path) if ledger_path else Path(self._folder.name) / "ledger.jsonl"
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        log_path = Path(self._folder.name) / "sandbox.log"
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, str(ROOT / "manage.py"), "sandbox", "--port", str(self._port),
                    "--ledger", str(self.ledger_path), "--json",
                ],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                # Ctrl-C in the terminal must reach us first: we end our children in order.
                start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            words = log_path.read_text(errors="replace").strip()
            self.__exit__()
            raise RuntimeError(f"The sandbox did not start: {words[-1000:]}")
        addresses = json.loads(line)
        self.url, self.control_url = addresses["url"], addresses["control_url"]
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None
        self._folder.cleanup()

    def ledger(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the ledger's records in order, of one kind or all."""
        if not self.ledger_path.exists():
            return []
        records = [json.loads(line) for line in self.ledger_path.read_text().splitlines()]
        return [record for record in records if kind in ("", record["kind"])]

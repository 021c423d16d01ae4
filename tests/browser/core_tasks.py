"""The five tasks that staff do most, from the log-in to their end, by keyboard alone."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from playwright.sync_api import Page

from attentive_integration.annex_cloud import encode_access_token
from tests.browser.keyboard import Keyboard
from tests.browser.steps import connection_of
from tests.installation import Installation


class CoreTasks:
    """The tasks in the order in which a new client needs them; each stands on what the ones before have left.

    `company` names the client at the sandbox; the installation needs a worker.
    """

    def __init__(self, page: Page, installation: Installation, company: str, site_id: str, phone: str) -> None:
        self.page, self.installation = page, installation
        self.company, self.site_id, self.phone = company, site_id, phone
        self.keys = Keyboard(page)
        self.tasks: dict[str, Callable[[], None]] = {
            "activate a site": self.activate,
            "import members": self.import_members,
            "write and start a campaign": self.start_campaign,
            "find why a person got no text": self.find_reason,
            "export a segment": self.export_segment,
        }
        installation.sandbox.configure_company(company, site_id=site_id)

    def activate(self) -> None:
        self._open("")
        self.keys.press("Connect a client")
        self.keys.skip_menu()
        for label, value in connection_of(self.company, self.site_id, "+14045550199").items():
            self.keys.type(label, value)
        self.keys.press("Save and test")
        for button in ("1. Subscribe it", "2. Send a test text"):
            self.keys.skip_menu()
            self.keys.press(button)
        self.keys.skip_menu()
        self.keys.press("Go live")
        self.keys.skip_menu()
        self.keys.press("Go live")
        self._read("is live.")

    def import_members(self) -> None:
        rows = f"Mobile,First name,Tier\n{self.phone},Ada,Gold\n404-555-0102,Grace,Gold\ncall me,Nobody,Gold\n"
        self._open("loyalty/importjob/")
        self.keys.press("Import a file")
        self.keys.skip_menu()
        self.keys.choose_file("File", self.installation.write("list.csv", rows))
        self.keys.press("Upload and match columns")
        self._read("Columns")
        self.keys.skip_menu()
        self.keys.press("Check the whole file")
        self._reload_until("button", "Import 2 rows")
        self.keys.skip_menu()
        self.keys.press("Import 2 rows")
        self._reload_until("link", "Open the members that this import created")

    def start_campaign(self) -> None:
        self._post_action("order-0")
        self._open("messaging/campaign/")
        self.keys.press("New campaign")
        self.keys.skip_menu()
        self.keys.press("Use this text: Points earned")
        self.keys.skip_menu()
        self.keys.press("Make the draft")
        self.page.wait_for_url(re.compile(r"/campaign/\d+/change/"))
        self.keys.skip_menu()
        self.keys.type("Text", "Thanks {{ first_name|there }}, you have {{ points|new }} points.")
        self.keys.press("Save")
        self.keys.skip_menu()
        self.keys.press("Hand in for review")
        for _ in range(2):
            self.keys.skip_menu()
            self.keys.press("Go live")
        self._read("This campaign is live.")

    def find_reason(self) -> None:
        # Nobody has subscribed yet, so the text of this action is not sent.
        self._post_action("order-1")
        self.installation.manage("run_campaigns")
        self._open("")
        self.keys.type("Find a phone, an e-mail, a loyalty ID or a message", self.phone.removeprefix("+1"))
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")
        self._read("Not sent: not subscribed")

    def export_segment(self) -> None:
        path = self.installation.write("subscribers.csv", f"phone\n{self.phone}\n")
        self.installation.manage("import_subscribers", "--site", self.site_id, "--evidence", "For the test", path)
        self._open("loyalty/segment/")
        self.keys.press("New segment")
        self.keys.skip_menu()
        self.keys.tick("Gold")
        self.keys.type("Name", f"Gold members of {self.company}")
        self.keys.press("Save")
        self._read("is saved")
        self.keys.skip_menu()
        self.keys.press("Export")
        self.keys.skip_menu()
        self.keys.press("Start the export")
        self._reload_until("link", "Download")
        self.keys.skip_menu()
        self.keys.go_to("Download")
        with self.page.expect_download() as waiting:
            self.page.keyboard.press("Enter")
        assert waiting.value.path().read_text() == f"phone\n{self.phone}\n"

    def _open(self, address: str) -> None:
        query = f"?site={self.site_id}" if address else ""
        self.page.goto(f"{self.installation.url}/admin/{address}{query}")

    def _read(self, words: str) -> None:
        self.page.get_by_role("main").get_by_text(words).first.wait_for()

    def _reload_until(self, role: Any, name: str) -> None:
        """Wait for a worker; a page without scripts is loaded again by the one who waits."""
        wanted = self.page.get_by_role("main").get_by_role(role, name=name, exact=True)
        for _ in range(100):
            if wanted.count():
                return
            self.page.wait_for_timeout(300)
            self.page.reload()
        raise AssertionError(f"“{name}” did not appear on {self.page.url}")

    def _post_action(self, activity_id: str) -> None:
        action = {
            "activity_id": activity_id, "action": "109", "phone": self.phone, "points": 120, "points_delta": 20,
            "occurred_at": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        token = encode_access_token(self.site_id, f"loyalty-{self.company}")
        status, answer = self.installation.post(f"/api/v1/sites/{self.site_id}/actions", action, token=token)
        assert status == 202, answer

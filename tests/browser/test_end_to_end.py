"""The whole way in a real Chromium, with a real worker: from an empty database to the text and the segment file."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from attentive_integration.annex_cloud import encode_access_token
from attentive_integration.embedded_broker import EmbeddedBroker
from tests.browser.chromium import chromium
from tests.browser.steps import fill_in_connection, log_in, make_superuser
from tests.installation import Installation

pytestmark = pytest.mark.browser

ADA, GUEST = "+17705550101", "+14045550199"
# How long a worker may take for a few rows on a busy machine, in milliseconds.
PATIENCE = 15_000


@pytest.fixture
def installation(tmp_path: Any) -> Iterator[Installation]:
    with EmbeddedBroker(tmp_path / "broker") as broker, Installation(REDIS_URL=broker.url) as running:
        make_superuser(running)
        queues = "celery,send,import,export,webhook"
        running.start("-m", "celery", "-A", "attentive_integration", "worker", "-c", "1", "-Q", queues)
        yield running


def test_from_an_empty_database_to_a_text_and_to_a_file(installation: Installation) -> None:
    installation.sandbox.configure_company("harbor")
    admin = f"{installation.url}/admin"
    with chromium() as browser:
        page: Any = browser.new_page(accept_downloads=True)
        page.set_default_timeout(PATIENCE)
        main = page.get_by_role("main")

        def send(activity_id: str) -> None:
            action = {
                "activity_id": activity_id, "action": "109", "phone": ADA, "points": 120, "points_delta": 20,
                "occurred_at": datetime.now(UTC).isoformat(),
            }  # fmt: skip
            token = encode_access_token("1000001", "loyalty-harbor")
            status, answer = installation.post("/api/v1/sites/1000001/actions", action, token=token)
            assert status == 202, answer

        def press(name: str, role: str = "button") -> None:
            main.get_by_role(role, name=name, exact=True).first.click()

        log_in(page, installation)

        # The site, by hand.
        press("Connect a client", "link")
        fill_in_connection(page, company="harbor", site_id="1000001", guest=GUEST)
        press("Save and test")
        press("1. Subscribe it")
        press("2. Send a test text")
        press("Go live", "link")
        press("Go live")
        main.get_by_text("Harbor Goods is live.").first.wait_for()
        # Whatever the time of day is while this runs.
        press("Settings", "link")
        page.get_by_label("Quiet from", exact=False).fill("")
        page.get_by_label("Quiet until", exact=False).fill("")
        press("Save")

        # The list, through the wizard.
        page.goto(f"{admin}/loyalty/importjob/add/?site=1000001")
        rows = b"Mobile,First name,Tier\n(770) 555-0101,Ada,Gold\n404-555-0102,Grace,Gold\ncall me,Nobody,Gold\n"
        page.set_input_files("input[type=file]", {"name": "list.csv", "mimeType": "text/csv", "buffer": rows})
        press("Upload and match columns")
        press("Check the whole file")
        press("Import 2 rows")
        main.get_by_role("link", name="Open the members that this import created").click()
        page.get_by_text("+1 770-555-0101").first.wait_for()

        # One of the two has subscribed at Attentive.
        installation.sandbox.add_subscribers("harbor", [ADA])
        path = installation.write("subscribers.csv", f"phone\n{ADA}\n")
        installation.manage("import_subscribers", "--site", "1000001", "--evidence", "Attentive's export", path)

        # The campaign, for an action that Annex Cloud has reported before.
        send("order-0")
        page.goto(f"{admin}/messaging/campaign/add/?site=1000001&start=points-earned")
        press("Make the draft")
        page.wait_for_url(re.compile(r"/campaign/\d+/change/"))
        page.get_by_label("Text", exact=True).fill("Thanks {{ first_name|there }}, you have {{ points|new }} points.")
        press("Save")
        press("Hand in for review")
        press("Go live", "link")
        press("Go live")
        main.get_by_text("This campaign is live.").wait_for()

        # The action, and what becomes of it.
        send("order-1")
        installation.manage("run_campaigns")
        text = "Thanks Ada, you have 120 points."
        page.goto(installation.sandbox.url)
        page.get_by_text(text).first.wait_for()
        page.goto(f"{admin}/messaging/message/?site=1000001")
        main.locator("#result_list tbody th a").first.click()
        main.get_by_text(text).first.wait_for()
        assert "Accepted" in main.inner_text()

        # The segment and its file: only the subscriber is in it.
        page.goto(f"{admin}/loyalty/segment/add/?site=1000001")
        page.get_by_label("Gold", exact=True).check()
        page.get_by_label("Name", exact=False).first.fill("Gold members")
        press("Save")
        main.get_by_text("is saved").wait_for()
        press("Export", "link")
        press("Start the export")
        with page.expect_download() as waiting:
            press("Download", "link")
        assert waiting.value.path().read_bytes() == b"phone\n" + ADA.encode() + b"\n"

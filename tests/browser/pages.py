"""Every page of the dashboard, once: the pictures and the measurements go through this list, so that none is forgotten.

An address may name rows in braces; `furnishing.py` makes them and tells their numbers. `test_pages.py` compares the
list with the dashboard's addresses.
"""

from dataclasses import dataclass

PAGES = {
    # What belongs to no client, or to all of them.
    "home": "/admin/",
    "home-of-a-site": "/admin/?site=1000001",
    "search": "/admin/search/",
    "search-found": "/admin/search/?q=312+555+0105",
    "search-nothing": "/admin/search/?q=nobody@example.com",
    "system": "/admin/system/",
    "audit": "/admin/loyalty/auditentry/",
    "audit-entry": "/admin/loyalty/auditentry/{entry}/change/",
    "stops": "/admin/loyalty/sendingstop/",
    "stop": "/admin/loyalty/sendingstop/1000001/stop/",
    "stop-all": "/admin/loyalty/sendingstop/all/stop/",
    "resume": "/admin/loyalty/sendingstop/1000003/resume/",
    "demo": "/demo/",
    # People who work here.
    "password": "/admin/password_change/",
    "password-changed": "/admin/password_change/done/",
    "users": "/admin/auth/user/",
    "user-new": "/admin/auth/user/add/",
    "user": "/admin/auth/user/{user}/change/",
    "user-password": "/admin/auth/user/{user}/password/",
    "user-delete": "/admin/auth/user/{user}/delete/",
    "user-history": "/admin/auth/user/{user}/history/",
    "roles": "/admin/loyalty/sitemembership/",
    "role-new": "/admin/loyalty/sitemembership/add/",
    "role": "/admin/loyalty/sitemembership/{role}/change/",
    "role-delete": "/admin/loyalty/sitemembership/{role}/delete/",
    "forbidden": "/admin/loyalty/member/add/",
    "not-found": "/admin/nowhere/",
    # Sites.
    "sites": "/admin/loyalty/site/",
    "sites-failing": "/admin/loyalty/site/?state=FAILING",
    "site-new": "/admin/loyalty/site/add/",
    "site-set-up": "/admin/loyalty/site/setup/",
    "site-overview": "/admin/loyalty/site/{live_site}/overview/",
    "site-overview-held": "/admin/loyalty/site/{held_site}/overview/",
    "site-activate": "/admin/loyalty/site/{waiting_site}/activate/",
    "site-activate-refused": "/admin/loyalty/site/{held_site}/activate/",
    "site-ask-client": "/admin/loyalty/site/{waiting_site}/ask-client/",
    "site-ask-client-rotating": "/admin/loyalty/site/{live_site}/ask-client/",
    "site-credentials": "/admin/loyalty/site/{live_site}/credentials/",
    "site-settings": "/admin/loyalty/site/{live_site}/change/",
    "site-pause": "/admin/loyalty/site/{live_site}/do/pause/",
    # What the client sees, who has no account.
    "client-link": "{client_link}",
    "client-link-closed": "/keys/link_unknown/",
    # Members, and the files that bring them.
    "members": "/admin/loyalty/member/?site=1000001",
    "members-filtered": "/admin/loyalty/member/?tier=Gold",
    "member": "/admin/loyalty/member/{member}/change/",
    "member-unsubscribe": "/admin/loyalty/member/{member}/do/unsubscribe/",
    "member-erase": "/admin/loyalty/member/{member}/erase/",
    "imports": "/admin/loyalty/importjob/",
    "import-new": "/admin/loyalty/importjob/add/?site=1000001",
    "import-new-subscribers": "/admin/loyalty/importjob/add/?site=1000001&kind=SUBSCRIBERS",
    "import-new-actions": "/admin/loyalty/importjob/add/?site=1000001&kind=ACTIONS",
    "import-match": "/admin/loyalty/importjob/{to_match}/change/",
    "import-match-again": "/admin/loyalty/importjob/{checked}/match/",
    "import-checking": "/admin/loyalty/importjob/{checking}/change/",
    "import-checked": "/admin/loyalty/importjob/{checked}/change/",
    "import-running": "/admin/loyalty/importjob/{importing}/change/",
    "import-result": "/admin/loyalty/importjob/{imported}/change/",
    "import-failed": "/admin/loyalty/importjob/{failed}/change/",
    "import-undo": "/admin/loyalty/importjob/{imported}/do/undo/",
    # Campaigns, their messages, and what is heard.
    "campaigns": "/admin/messaging/campaign/?site=1000001",
    "campaign-new": "/admin/messaging/campaign/add/?site=1000001",
    "campaign-new-site": "/admin/messaging/campaign/add/",
    "campaign-name": "/admin/messaging/campaign/add/?site=1000001&start=welcome",
    "campaign": "/admin/messaging/campaign/{live_campaign}/change/",
    "campaign-draft": "/admin/messaging/campaign/{draft}/change/",
    "campaign-go-live": "/admin/messaging/campaign/{draft}/go-live/",
    "campaign-versions": "/admin/messaging/campaign/{live_campaign}/versions/",
    "campaign-shadow": "/admin/messaging/campaign/{live_campaign}/shadow/",
    "campaign-test": "/admin/messaging/campaign/{live_campaign}/test/",
    "campaign-pause": "/admin/messaging/campaign/{live_campaign}/do/pause/",
    "messages": "/admin/messaging/message/?site=1000001&period=7d",
    "messages-unknown": "/admin/messaging/message/?state=UNKNOWN&period=7d",
    "message-accepted": "/admin/messaging/message/{accepted}/change/",
    "message-refused": "/admin/messaging/message/{refused}/change/",
    "message-skipped": "/admin/messaging/message/{skipped}/change/",
    "message-unknown": "/admin/messaging/message/{unknown}/change/",
    "message-held": "/admin/messaging/message/{held}/change/",
    "message-timeline": "/admin/messaging/message/{refused}/change/?tab=timeline",
    "message-send-again": "/admin/messaging/message/{unknown}/do/send-again/",
    "messages-export": "/admin/messaging/message/export/",
    "actions": "/admin/loyalty/loyaltyaction/",
    "action": "/admin/loyalty/loyaltyaction/{action}/change/",
    "webhooks": "/admin/messaging/webhookevent/",
    "webhook": "/admin/messaging/webhookevent/{webhook}/change/",
    # Segments, exports, consent.
    "segments": "/admin/loyalty/segment/?site=1000001",
    "segment-new": "/admin/loyalty/segment/add/?site=1000001",
    "segment-new-site": "/admin/loyalty/segment/add/",
    "segment": "/admin/loyalty/segment/{segment}/change/",
    "segment-frozen": "/admin/loyalty/segment/{frozen}/change/",
    "segment-freeze": "/admin/loyalty/segment/{segment}/do/freeze/",
    "segment-delete": "/admin/loyalty/segment/{segment}/delete/",
    "exports": "/admin/loyalty/exportjob/",
    "export-new": "/admin/loyalty/exportjob/add/?site=1000001",
    "export-new-site": "/admin/loyalty/exportjob/add/",
    "export-new-members": "/admin/loyalty/exportjob/add/?site=1000001&kind=MEMBERS",
    "export-result": "/admin/loyalty/exportjob/{exported}/change/",
    "export-running": "/admin/loyalty/exportjob/{exporting}/change/",
    "export-cancel": "/admin/loyalty/exportjob/{exporting}/do/cancel/",
    "consents": "/admin/loyalty/consent/",
    "consent": "/admin/loyalty/consent/{opted_out}/change/",
    "subscribe-queue": "/admin/loyalty/consent/queue/",
    "subscribe-queue-of-a-site": "/admin/loyalty/consent/queue/?site=1000001",
}  # fmt: skip

# What these answer instead of 200.
STATUS = {"forbidden": 403, "not-found": 404, "client-link-closed": 404}


@dataclass(frozen=True)
class Sent:
    """A form of a page, filled in and sent: label or selector → text.

    True ticks a box, bytes are a file, a choice goes by its value.
    """

    page: str
    fields: dict[str, str | bool | bytes]
    button: str
    # A part of what the page must say then.
    sentence: str


_ACTION = "#changelist-form select"
# Forms that were filled in wrongly, and what is asked before many rows are changed.
FORMS = {
    "password-wrong": Sent("password", {"Old password": "wrong"}, "Change my password", "correct the errors"),
    "user-nameless": Sent("user-new", {}, "Save", "correct the errors"),
    "user-bad-address": Sent("user", {"Email address": "no address"}, "Save", "correct the error"),
    "users-delete": Sent(
        "users", {".action-select": True, _ACTION: "delete_selected"}, "Go", "Are you sure"
    ),
    "role-for-nobody": Sent("role-new", {"User name": "nobody"}, "Save", "no active user of this name"),
    "site-nameless": Sent("site-new", {}, "Save and test", "correct the errors"),
    "site-set-up-no-json": Sent("site-set-up", {"Set-up file": b"\x89PNG"}, "Make the draft", "correct the error"),
    "site-settings-wrong": Sent("site-settings", {"Frequency caps": "often"}, "Save", "correct the error"),
    "site-activate-mixed-up": Sent(
        "site-activate", {"Access token or loyalty token": "app-maple"}, "Save and test", "belongs elsewhere"
    ),
    "site-ask-client-for-nothing": Sent("site-ask-client-rotating", {}, "Make the link", "Choose at least one key"),
    "site-ask-client-link": Sent(
        "site-ask-client-rotating", {"Attentive legacy token": True}, "Make the link", "The link for the client"
    ),
    "client-link-refused": Sent("client-link", {"Attentive app key": "app-revoked"}, "Save and test", "Refused"),
    "client-link-other-client": Sent(
        "client-link", {"Attentive app key": "app-bluebird"}, "Save and test", "to be confirmed"
    ),
    "site-next-token": Sent("site-credentials", {"#next-ATTENTIVE_APP": "app-harbor"}, "Add", "Next: "),
    "members-unsubscribe": Sent(
        "members", {".action-select": True, _ACTION: "unsubscribe_selected"}, "Go", "1 member is selected"
    ),
    "members-checked": Sent(
        "members", {".action-select": True, _ACTION: "check_selected"}, "Go", "Asked just now"
    ),
    "import-no-file": Sent("import-new", {}, "Upload and match columns", "This field is required"),
    "import-no-list": Sent("import-new", {"File": b"\x89PNG\x00\x00"}, "Upload and match columns", "damaged"),
    "campaign-nameless": Sent("campaign-name", {"Name": ""}, "Make the draft", "correct the error"),
    "campaign-bad-text": Sent("campaign-draft", {"Text": "Hi {{ surname }}"}, "Save", "correct the error"),
    "messages-send-again": Sent(
        "messages-unknown", {".action-select": True, _ACTION: "send_again_selected"}, "Go", "Send again"
    ),
    "messages-export-no-site": Sent("messages-export", {}, "Start the export", "Choose the site"),
    "segment-nameless": Sent("segment-new", {"Points from": "9", "Points up to": "3"}, "Save", "correct the error"),
    "export-nothing": Sent("export-new", {}, "Start the export", "correct the error"),
}  # fmt: skip

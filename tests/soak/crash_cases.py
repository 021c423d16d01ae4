"""The crash matrix as a list: where a process dies, what Attentive answers meanwhile, and what it was doing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What a call may come to: a fault of the sandbox, None for an accepted text.
OUTCOMES: dict[str, dict[str, Any] | None] = {
    "200": None,
    "400": {"kind": "status", "status": 400},
    "401": {"kind": "status", "status": 401},
    "403": {"kind": "status", "status": 403},
    "404": {"kind": "status", "status": 404},
    "429": {"kind": "status", "status": 429, "retry_after": "1"},
    "500": {"kind": "status", "status": 500},
    "502": {"kind": "status_after", "status": 502},
    "503": {"kind": "status", "status": 503, "retry_after": "1"},
    "504": {"kind": "status_after", "status": 504},
    "reset": {"kind": "reset_after"},
    "timeout": {"kind": "delay_after", "seconds": 3.0},
    "garbage": {"kind": "garbage"},
    "redirect": {"kind": "status", "status": 302},
}


@dataclass(frozen=True)
class Case:
    """One process that dies at `point` while the calls of its site come to `outcome`.

    `before` are runs ahead of it: the point at which each dies ("" = it ends by itself) and the outcome of its calls.
    """

    drive: str
    point: str
    outcome: str = "200"
    before: tuple[tuple[str, str], ...] = ()
    actions: int = 5
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.drive}-{self.point}-{self.outcome}"


# A pace at which some of the claimed messages find no slot, and some wait while the first ones are refused.
_SLOW = {"RATE_LIMIT_DEFAULT": "20"}
_BEFORE_THE_CALL = (
    "before_messages", "after_messages", "before_match_commit", "after_match_commit", "before_claim_commit",
    "after_claim", "before_slots_commit", "after_slots_commit", "after_look_locks", "before_attempt_commit",
    "after_attempt_commit", "before_call",
)  # fmt: skip
_AFTER_THE_CALL = (
    "after_call", "before_outcome_commit", "outcome_half_written", "after_outcome_commit", "after_lessons",
)  # fmt: skip

CASES: tuple[Case, ...] = (
    *(Case("tick", point) for point in _BEFORE_THE_CALL),
    *(Case("tick", point, outcome) for point in _AFTER_THE_CALL for outcome in OUTCOMES),
    Case("tick", "before_give_back", actions=12, environment=_SLOW),
    Case("tick", "after_claims_freed", before=(("after_claim", "200"),)),
    Case("tick", "before_sweep_commit", before=(("before_call", "200"),)),
    Case("tick", "after_sweep", before=(("after_call", "reset"),)),
    Case("tick", "after_hold", "401", actions=40, environment=_SLOW),
    Case("tick", "after_probe_claim", before=(("", "401"),)),
    Case("tick", "after_release", before=(("", "401"),)),
    Case("confirm", "before_confirmation_commit", before=(("", "reset"),)),
    Case("decide", "before_decision_commit", before=(("", "reset"),)),
    Case("ingest", "before_actions_commit"),
    Case("ingest", "after_actions_commit"),
    Case("webhook", "before_consent_commit"),
    Case("webhook", "before_webhook_commit"),
    Case("webhook", "after_webhook_commit"),
    Case("subscribe", "after_ask_claim"),
    Case("subscribe", "after_eligibility"),
    Case("subscribe", "before_request_commit"),
    Case("subscribe", "after_request_commit"),
    *(Case("subscribe", "after_subscribe_calls", outcome) for outcome in OUTCOMES),
    Case("unsubscribe", "after_opt_out_commit"),
    Case("unsubscribe", "after_unsubscribe_call"),
    Case("import", "before_slice_commit"),
    Case("import", "after_slice_commit"),
    Case("import", "before_import_end"),
)

# One of each kind of window, for `make test`.
SUBSET = (
    "tick-before_match_commit-200",
    "tick-after_claim-200",
    "tick-after_attempt_commit-200",
    "tick-after_call-reset",
    "tick-before_outcome_commit-200",
    "tick-outcome_half_written-502",
    "tick-after_outcome_commit-401",
    "tick-before_sweep_commit-200",
    "ingest-after_actions_commit-200",
    "webhook-before_webhook_commit-200",
    "subscribe-after_request_commit-200",
)

"""Faults to order: what is done to the next requests of a path, before or after they are accepted."""

import asyncio
import itertools
import random
from dataclasses import asdict, dataclass, field
from typing import Any

from attentive_integration.sandbox.http_server import Manner, Reply

# What each kind does, in the words of the page.
KINDS = {
    "status": "Refuse with a status",
    "delay": "Wait, then go on",
    "reset_before": "Reset before accepting",
    "close_before": "Close before accepting",
    "status_after": "Accept, then answer a status",
    "delay_after": "Accept, then answer late",
    "reset_after": "Accept, then reset",
    "close_after": "Accept, then close",
    "garbage": "Accept, then answer garbage",
    "drip": "Accept, then drip the answer",
    "cut": "Accept, then cut the answer",
    "down": "Refuse connections",
}
DOWN = "down"
_GARBAGE = b"\x00<html>{ not json \xff\xfe"
_MANNERS = {
    "reset_before": Manner.RESET,
    "close_before": Manner.CLOSE,
    "reset_after": Manner.RESET,
    "close_after": Manner.CLOSE,
    "drip": Manner.DRIP,
    "cut": Manner.CUT,
}
_numbers = itertools.count(1)


class FaultError(ValueError):
    """A fault that cannot be ordered. `str()` says why."""


@dataclass
class Fault:
    """One ordered fault. `times` None means until it is cleared; `seconds` is a wait, for `down` its length."""

    kind: str
    path: str = "/"
    times: int | None = 1
    probability: float = 1.0
    method: str = ""
    company: str = ""
    status: int = 500
    retry_after: str = ""
    seconds: float = 0.0
    fired: int = 0
    id: int = field(default_factory=lambda: next(_numbers))

    def meets(self, method: str, path: str, company: str) -> bool:
        """Say whether the fault is for this request; the probability is drawn here."""
        return (
            self.kind != DOWN
            and path.startswith(self.path)
            and (not self.method or self.method == method)
            and (not self.company or self.company == company)
            and random.random() < self.probability
        )

    async def before(self) -> Reply | None:
        """Act before the request is accepted; a reply means that it is not."""
        if self.kind == "status":
            return self._refusal()
        if self.kind == "delay":
            await asyncio.sleep(self.seconds)
        if self.kind in ("reset_before", "close_before"):
            return Reply(manner=_MANNERS[self.kind])
        return None

    async def after(self, reply: Reply) -> Reply:
        """Spoil the reply of a request that is accepted and in the ledger."""
        if self.kind == "status_after":
            return self._refusal()
        if self.kind == "delay_after":
            await asyncio.sleep(self.seconds)
        elif self.kind == "garbage":
            return Reply(reply.status, _GARBAGE)
        elif self.kind in ("reset_after", "close_after", "drip", "cut"):
            reply.manner = _MANNERS[self.kind]
        return reply

    def _refusal(self) -> Reply:
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return Reply(self.status, {"message": f"The sandbox was told to answer {self.status}."}, headers)


class Faults:
    """The faults that are switched on."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, order: dict[str, Any]) -> Fault:
        """Switch a fault on. Raises FaultError for unknown kinds and fields and for values out of range."""
        unknown = set(order) - set(Fault.__dataclass_fields__) | set(order) & {"id", "fired"}
        if unknown:
            raise FaultError(f"A fault has no {', '.join(sorted(unknown))}.")
        if order.get("kind") not in KINDS:
            raise FaultError(f"The kind of a fault is one of {', '.join(KINDS)}.")
        try:
            fault = Fault(
                kind=order["kind"],
                path=str(order.get("path") or "/"),
                times=None if order.get("times", 1) is None else int(order.get("times", 1)),
                probability=float(order.get("probability", 1.0)),
                method=str(order.get("method") or "").upper(),
                company=str(order.get("company") or ""),
                status=int(order.get("status", 500)),
                retry_after=str(order.get("retry_after") or ""),
                seconds=float(order.get("seconds", 0.0)),
            )
        except (TypeError, ValueError):
            raise FaultError("times, probability, status and seconds of a fault are numbers.") from None
        if not (200 <= fault.status <= 599 and 0 <= fault.probability <= 1 and 0 <= fault.seconds <= 86_400):
            raise FaultError("A status is 200 to 599, a probability 0 to 1, and seconds are at most a day.")
        if fault.times is not None and fault.times < 1:
            raise FaultError("A fault happens at least once.")
        if not all(character.isprintable() for character in fault.retry_after):
            raise FaultError("Retry-After is one line.")
        self._faults.append(fault)
        return fault

    def meeting(self, method: str, path: str, company: str) -> list[Fault]:
        """Return the faults for this request, counted as fired, in the order in which they were switched on."""
        if not self._faults:
            return []
        met = [fault for fault in self._faults if fault.meets(method, path, company)]
        for fault in met:
            fault.fired += 1
        self._faults = [fault for fault in self._faults if fault.times is None or fault.fired < fault.times]
        return met

    def remove(self, number: int) -> None:
        self._faults = [fault for fault in self._faults if fault.id != number]

    def clear(self) -> None:
        self._faults = []

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults]

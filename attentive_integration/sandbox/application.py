"""The sandbox as a whole: two ports, and the way of a vendor's request from its token to its answer."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attentive_integration.sandbox import annex_cloud, attentive, segments
from attentive_integration.sandbox.control import Control
from attentive_integration.sandbox.faults import DOWN, Fault, Faults
from attentive_integration.sandbox.http_server import BadRequest, HttpServer, Reply, Request
from attentive_integration.sandbox.ledger import Ledger
from attentive_integration.sandbox.pace import Pace, Verdict, endpoint_class
from attentive_integration.sandbox.routes import Call, Refused, Route, find
from attentive_integration.sandbox.state import Company, State, TokenKind

VENDOR_PATHS = ("/1/", "/v1/", "/v2/", "/api/")
_ATTENTIVE_ROUTES = (*attentive.ROUTES, *segments.ROUTES)


class Sandbox:
    """Both vendors on one port, with the page and the control API; the control API also has a port of its own.

    Port 0 takes a free one. The control port goes on answering while the first one is down.
    """

    def __init__(self, *, port: int, control_port: int = 0, ledger_path: Path | None = None) -> None:
        self.state = State()
        self.faults = Faults()
        self.pace = Pace()
        self.ledger = Ledger(ledger_path)
        self.control = Control(self)
        self.server = HttpServer(self.handle, port)
        self.control_server = HttpServer(self.control.handle, control_port)
        self._down: Fault | None = None
        self._up_again: asyncio.TimerHandle | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT; calls `ready` when both ports listen. Raises OSError when one is taken."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await self.server.open()
        await self.control_server.open()
        ready()
        await stopped.wait()
        self.server.close()
        self.control_server.close()
        self.ledger.close()

    # --- A request of a vendor ----------------------------------------------------------------------------------------

    async def handle(self, request: Request) -> Reply:
        """Answer a request to the first port."""
        if not request.path.startswith(VENDOR_PATHS):
            return await self.control.handle(request)
        caller = _Caller(self.state, request)
        # The pace is taken on arrival, so that an ordered delay does not blur it.
        verdict = self._take(caller)
        faults = self.faults.meeting(request.method, request.path, caller.company.key if caller.company else "")
        for fault in faults:
            if (reply := await fault.before()) is not None:
                return reply
        reply = caller.answer() if verdict.allowed else caller.refuse_pace()
        reply.headers.update(verdict.headers())
        if reply.record is not None:
            await self.ledger.write(reply.record)
        for fault in faults:
            reply = await fault.after(reply)
        return reply

    def _take(self, caller: "_Caller") -> Verdict:
        if caller.refusal is not None or caller.is_annex_cloud:
            return Verdict(True)
        return self.pace.take(caller.token, endpoint_class(caller.request.method, caller.request.path))

    # --- Being down ---------------------------------------------------------------------------------------------------

    def go_down(self, fault: Fault) -> None:
        """Refuse connections for the fault's seconds, or until `come_up` when it names none."""
        self.server.close()
        self._down = fault
        if fault.seconds > 0:
            loop = asyncio.get_running_loop()
            self._up_again = loop.call_later(fault.seconds, lambda: loop.create_task(self.come_up()))

    async def come_up(self) -> None:
        """Listen again, when a fault had closed the first port."""
        if self._up_again is not None:
            self._up_again.cancel()
            self._up_again = None
        if self._down is not None:
            self.faults.remove(self._down.id)
            self._down = None
            self.state.version += 1
            await self.server.open()

    async def settle_down(self) -> None:
        """Come up again when the fault that closed the port was taken away."""
        if self._down is not None and not any(fault["kind"] == DOWN for fault in self.faults.as_json()):
            await self.come_up()


class _Caller:
    """Who calls and what for: a company and a route, or the refusal."""

    def __init__(self, state: State, request: Request) -> None:
        self.state = state
        self.request = request
        self.is_annex_cloud = request.path.startswith("/api/")
        self.token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.company: Company | None = None
        self.refusal: Refused | None = None
        try:
            if self.is_annex_cloud:
                self.company = annex_cloud.company_of(state, request)
                self.route, self.part = _found(annex_cloud.ROUTES, request)
            else:
                self.route, self.part = _found(_ATTENTIVE_ROUTES, request)
                self._authorise()
        except Refused as refusal:
            self.refusal = refusal

    def answer(self) -> Reply:
        """Let the rule answer."""
        try:
            if self.refusal is not None:
                raise self.refusal
            assert self.company is not None
            return self.route.rule(Call(self.state, self.company, self.request, self.part))
        except BadRequest as error:
            return Reply(400, {"errorCode": "AC1004", "errorMessage": str(error)} if self.is_annex_cloud else
                         {"message": str(error)})  # fmt: skip
        except Refused as refusal:
            return Reply(refusal.status, refusal.body)

    def refuse_pace(self) -> Reply:
        """Answer that this call came too soon after others with its token, and count it."""
        if self.company is not None:
            self.company.count("too many requests")
        return Reply(429, {"message": "Too many requests"})

    def _authorise(self) -> None:
        """Tell the company by its token, which must be of the route's family and in force."""
        legacy = self.route.kind is TokenKind.LEGACY
        unknown = Refused(403, "Invalid API token") if legacy else Refused(401, "Unauthorized")
        with suppress(ValueError):
            if (found := self.state.by_token(self.token)) is not None:
                kind, self.company = found
                if kind is not self.route.kind:
                    raise Refused(403, "Invalid API token")
                if kind in self.company.refused:
                    raise unknown
                if self.route.writes and self.company.read_only:
                    raise Refused(403, "The application does not have the required permission")
                return
        raise unknown


def _found(routes: tuple[Route, ...], request: Request) -> tuple[Route, str]:
    found = find(routes, request.method, request.path)
    if found is None:
        if routes is annex_cloud.ROUTES:
            raise annex_cloud.failure(404, "AC1001", "Request failed")
        raise Refused(404, "Not found")
    return found

"""Named points at which a test may kill the process, to show that nothing is lost or doubled there.

Costs nothing in production: without CRASH_AT in the environment, `crash_point` is a function that does nothing.
"""

import os
import signal

_CRASH_AT = os.environ.get("CRASH_AT", "")


def _kill_at(name: str) -> None:
    if name == _CRASH_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def _do_nothing(name: str) -> None:
    """Stand where `_kill_at` would."""


crash_point = _kill_at if _CRASH_AT else _do_nothing

"""Wake-ups for the Celery workers. One may be lost without harm: the rows in the database are the queue.

A wake-up is handed to a thread of this process and published from there, so that a frozen broker never holds up the
request or the command that asks for it. Equal wake-ups that still wait are one.
"""

import atexit
import logging
import os
import threading
import time

from django.conf import settings

from attentive_integration.celery import app

logger = logging.getLogger(__name__)

# More different wake-ups than this do not wait; the tick finds their work anyway.
_WAITING_AT_MOST = 1_000
# A wake-up that nobody took for so long is of no use any more: the next tick has done its work (seconds).
_EXPIRES = 60
# Between two wake-ups a process waits a moment, in which further equal ones become one (seconds).
_PAUSE = 0.05
# How long a process that ends gives its last wake-ups.
_LAST_SECONDS = 2.0

_Wish = tuple[str, tuple[int | str, ...]]


class _Publisher:
    """Publishes what waits, one after the other, from a daemon thread that is started when first needed."""

    def __init__(self) -> None:
        self._waiting: dict[_Wish, None] = {}
        self._changed = threading.Condition()
        self._busy = False
        self._thread: threading.Thread | None = None

    def put(self, wish: _Wish) -> None:
        with self._changed:
            if len(self._waiting) >= _WAITING_AT_MOST:
                return
            self._waiting[wish] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._publish_for_ever, name="wake-ups", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def flush(self, seconds: float) -> None:
        """Wait until everything is published, for so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout=seconds)

    def _publish_for_ever(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                wish = next(iter(self._waiting))
                del self._waiting[wish]
                self._busy = True
            task_name, args = wish
            try:
                app.send_task(task_name, args=args, retry=False, expires=_EXPIRES)
            except Exception as error:  # whatever the broker's client raises: the wake-up is missed, nothing else
                logger.warning("A wake-up for %s was missed: %s", task_name, type(error).__name__)
            time.sleep(_PAUSE)


_publisher = _Publisher()


def wake(task_name: str, *args: int | str) -> None:
    """Ask a worker to run a task soon; never raises and never waits. Without REDIS_URL there is nobody to wake."""
    if settings.REDIS_URL:
        _publisher.put((task_name, args))


def _after_fork() -> None:
    """Give a forked process a publisher of its own: threads do not survive a fork."""
    global _publisher
    _publisher = _Publisher()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _publisher.flush(_LAST_SECONDS))

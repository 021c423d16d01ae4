"""Celery's side of messaging: each task is a wake-up for work that stands in the database."""

from celery import shared_task

from attentive_integration import heartbeats
from messaging import exports, tick, webhooks

# Celery's tasks are short; what is left is taken by the next one.
_SECONDS = 20.0


@shared_task(name="messaging.tasks.send_due")
@heartbeats.shown("messaging.tasks.send_due")
def send_due() -> None:
    """Turn new actions into messages and send what is due."""
    tick.run_tick(seconds=_SECONDS)


@shared_task(name="messaging.tasks.webhook_process")
def webhook_process() -> None:
    """Do what stored webhooks ask for beyond consent."""
    webhooks.process_webhooks(limit=500)


@shared_task(name="messaging.tasks.heartbeat")
def heartbeat() -> None:
    """Show that beat published and a worker ran: `readyz` looks at the age of both rows."""
    heartbeats.show_alive(heartbeats.BEAT)
    heartbeats.show_alive(heartbeats.WORKER)
    heartbeats.show_alive("messaging.tasks.heartbeat")


# A large file takes minutes; the job's own lease tells whether its worker lives.
@shared_task(name="messaging.tasks.export_due", soft_time_limit=3_500, time_limit=3_600)
@heartbeats.shown("messaging.tasks.export_due")
def export_due() -> None:
    """Carry out the export jobs that wait, of segments, members and messages, and delete files whose time is over."""
    exports.run_due()

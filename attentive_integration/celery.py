"""The Celery application. A Celery message is only a wake-up: the rows in the database are the queue."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "attentive_integration.settings")
app = Celery("attentive_integration")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

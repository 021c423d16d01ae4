"""The WSGI entry point, for gunicorn and every other WSGI server."""

import os

from django.core.wsgi import get_wsgi_application

from attentive_integration.request_bodies import WholeBodies

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "attentive_integration.settings")
application = WholeBodies(get_wsgi_application())

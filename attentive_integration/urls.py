"""Every address of the product."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from attentive_integration.dashboard import errors
from attentive_integration.health import healthz, readyz
from loyalty.api import api
from loyalty.views import client_link
from messaging.views import attentive_webhook

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", api.urls),
    path("keys/<str:token>/", client_link, name="client-link"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("webhooks/attentive/<uuid:site_uuid>/", attentive_webhook, name="attentive-webhook"),
]
if settings.ENVIRONMENT_LABEL == "DEMO":
    urlpatterns.append(path("demo/", include("messaging.demo.urls")))

handler400 = errors.bad_request
handler500 = errors.server_error

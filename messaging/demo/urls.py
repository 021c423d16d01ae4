from django.urls import path

from . import views

urlpatterns = [
    path("", views.console, name="demo_console"),
    path("fire/", views.fire, name="demo_fire"),
    path("login/<str:code>/<str:token>/", views.log_in, name="demo_login"),
]

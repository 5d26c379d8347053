"""Two views, and the admin pages, where the ledger is."""

from __future__ import annotations

from challenges import views
from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("challenges", views.challenges),
    path("admin/", admin.site.urls),
]

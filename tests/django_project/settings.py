"""Two databases in files of SQLite, Django's admin, and a small application with models."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django

_FOLDER = Path(tempfile.mkdtemp(prefix="oni-django-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)

# Where the default database is: a file, or a server as SQLAlchemy's URLs name it.
_URL = urlsplit(os.environ.get("ONI_TEST_DATABASE", str(_FOLDER / "default.sqlite3")))


def _sqlite(name: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            # A machine that fails is none of these tests' matter.
            "init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=normal",
            "timeout": 30,
        },
    }


def _postgresql() -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _URL.path.strip("/"),
        "USER": _URL.username,
        "HOST": _URL.hostname,
        "PORT": _URL.port,
    }


DATABASES = {
    "default": _postgresql() if _URL.scheme else _sqlite(_URL.path),
    "other": _sqlite(str(_FOLDER / "other.sqlite3")),
}
ONI = {"outbox": ["other"], "deliver": os.environ.get("ONI_TEST_DELIVER", "worker")}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "oni.sources.django",
    "tests.django_project.blog",
    "tests.django_project.challenges",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MIGRATION_MODULES = {"blog": None, "challenges": None}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.django_project.urls"
_MAILER = "django.core.mail.backends.locmem.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": _MAILER}}
else:
    EMAIL_BACKEND = _MAILER
SECRET_KEY = "for tests only"
ALLOWED_HOSTS = ["testserver", "127.0.0.1"]
STATIC_URL = "/static/"
USE_TZ = True

"""The web applications of the example make tokens that the example's settings let in."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from time import time
from typing import Any

import pytest

from oni.server._settings_file import load_settings
from oni.server.auth._jwt import BadTokenError
from oni.server.auth._keys import keys_of
from oni.server.auth._tokens import Tokens

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tokens"
SECRET = "not much of a mystery, as tests have it"

DJANGO = """\
import sys
from types import SimpleNamespace
import django
from django.conf import settings

settings.configure(
    ONI_SECRET=sys.argv[1],
    LOGIN_URL="/login",
    SECRET_KEY="x",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF="django_views",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
)
django.setup()
from django.test import RequestFactory
import django_views

django_views.urlpatterns = []
request = RequestFactory().post("/oni/token")
request.user = SimpleNamespace(is_authenticated=False)
assert django_views.connection_token(request).status_code == 302
request.user = SimpleNamespace(is_authenticated=True, pk=7, get_username=lambda: "bob")
print(django_views.connection_token(request).content.decode())
"""


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """Give what the daemon proves tokens with."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "secret").write_text(SECRET + "\n")
    settings = load_settings(tmp_path / "oni.toml")
    assert settings.warnings() == ()
    return Tokens(settings.auth, keys_of(settings.auth, settings.folder), time)


def _flask_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ONI_SECRET_FILE", str(tmp_path / "secret"))
    spec = importlib.util.spec_from_file_location("flask_app", EXAMPLE / "flask_app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def test_flask(tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is logged in gets tokens for itself, and for the channels that are open to it."""
    client = _flask_app(tmp_path, monkeypatch).test_client()
    assert client.post("/oni/token").status_code == 403
    client.post("/login", data={"user": "bob"})
    identity = tokens.identity(client.post("/oni/token").get_json()["token"])
    assert (identity.user, identity.grant.info) == ("bob", {"name": "Bob"})
    assert list(identity.grant.subs) == ["news:all"]
    assert identity.grant.ttl is not None and 590 < identity.grant.ttl <= 600
    for channel, status in (("report:7", 200), ("report:8", 403), ("chat:7", 403)):
        answer = client.post("/oni/subscription_token", json={"channel": channel})
        assert answer.status_code == status
    answer = client.post("/oni/subscription_token", json={"channel": "report:7"})
    assert tokens.permission(answer.get_json()["token"], "report:7", "bob", "any").ttl
    client.post("/login", data={"user": "alice"})
    answer = client.post("/oni/subscription_token", json={"channel": "report:7"})
    assert answer.status_code == 403


def test_django(tokens: Tokens) -> None:
    """The view for Django does the same; it runs in a process of its own, as Django does."""
    done = subprocess.run(
        [sys.executable, "-c", DJANGO, SECRET],
        cwd=EXAMPLE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = done.stdout.partition('"token": "')[2].partition('"')[0]
    identity = tokens.identity(found)
    assert (identity.user, identity.grant.info) == ("7", {"name": "bob"})
    with pytest.raises(BadTokenError):
        tokens.identity(found[:-4] + "AAAA")

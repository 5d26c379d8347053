"""``oni sources``, ``oni ledger`` and the daemon with a ledger, in processes of their own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from oni.interfaces import ILedgerStore
from oni.ledger import store_for
from oni.sources import Event, EventSources, event
from oni.values import Handling, LedgerEvent
from tests.integration import sources_app
from tests.integration.daemon import (
    ENDED,
    GIVEN_UP,
    OPEN,
    RunningDaemon,
    daemon,
    environment,
    free_port,
    wait_until,
)
from tests.integration.postgres import Postgres, needs_postgres, running_postgres

ONI = (sys.executable, "-m", "oni")
APP = "tests.integration.sources_app"
SETTINGS = f"""\
[server]
stop_timeout = {{stop}}
[ledger]
url = "{{url}}"
[sources]
configure = "{APP}:configure"
instances = "{APP}:instances"
"""
URL = "sqlite:///ledger.db"
WITHIN = 30.0  # seconds, on a busy machine


def write_settings(folder: Path, url: str = URL, stop: float = 10.0) -> Path:
    """Write a settings file."""
    path = folder / "oni.toml"
    path.write_text(SETTINGS.format(url=url, stop=stop))
    return path


def oni(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*ONI, *arguments, "--config", "oni.toml"],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@contextmanager
def opened(folder: Path) -> Iterator[ILedgerStore]:
    """Open the ledger in this process."""
    store = store_for(f"sqlite:///{folder / 'ledger.db'}")
    store.open()
    try:
        yield store
    finally:
        store.close()


def admit(folder: Path, *events: Event) -> None:
    """Take events in as a program would that only admits."""
    sources = EventSources()
    sources_app.configure(sources)
    with opened(folder) as store, store.transaction() as transaction:
        for each in sources.ledger_events(events):
            assert transaction.admit(each) == "admitted"


def states(folder: Path) -> dict[str, str]:
    """Give each key's state."""
    with opened(folder) as store, store.transaction(read=True) as transaction:
        return {each.key: each.state for each in transaction.deliveries(None, None, 1000)}


def handled(folder: Path) -> list[str]:
    """Give the keys that were handled."""
    path = folder / "handled"
    return path.read_text().splitlines() if path.exists() else []


class Worker:
    """A running ``oni sources work``.

    Attributes:
        process: Its process.
    """

    def __init__(self, folder: Path, options: Sequence[str]) -> None:
        self._log = folder / "worker.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [*ONI, "sources", "work", *options],
                cwd=folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        """Give what it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def said(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.log() or self.process.poll() is not None, text, WITHIN)
        assert text in self.log(), self.log()

    def end(self) -> tuple[int, float]:
        """Send SIGTERM; give the exit code, and after how many seconds it came."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WITHIN), time.monotonic() - began


@contextmanager
def worker(folder: Path, *options: str) -> Iterator[Worker]:
    """Run a worker while the block runs."""
    running = Worker(folder, options or ("--config", "oni.toml"))
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


class TestWork:
    """``oni sources work``."""

    def test_delivers(self, tmp_path: Path) -> None:
        """It runs what is due, says what nobody handles here, and ends well."""
        write_settings(tmp_path)
        admit(tmp_path, *(event("post", number) for number in range(3)))
        with opened(tmp_path) as store, store.transaction() as transaction:
            transaction.admit(LedgerEvent("lonely", handlings=(Handling("nobody"),)))
        with worker(tmp_path) as running:
            running.said("1 deliveries wait for the handler nobody, which is not registered here")
            wait_until(lambda: len(handled(tmp_path)) == 3, "three handled", WITHIN)
            assert "delivers to: block, hang, thread, write" in running.log()
            code, _ = running.end()
        assert code == 0, running.log()
        assert "Traceback" not in running.log()
        assert set(states(tmp_path).values()) == {"done", "pending"}

    @pytest.mark.parametrize(
        ("group", "state"),
        [("hang-in-a-thread", "pending"), ("hang", "uncertain"), ("block", "running")],
    )
    def test_a_handler_that_never_ends(self, tmp_path: Path, group: str, state: str) -> None:
        """SIGTERM ends it within the bound, with 75, and what was given up can be found.

        Where a handler blocks the reactor itself nobody could say so in the ledger: the next
        process sees that the owner has died.
        """
        write_settings(tmp_path, stop=2.0)
        admit(tmp_path, event(group, 1))
        with worker(tmp_path) as running:
            wait_until(lambda: handled(tmp_path), "it hangs", WITHIN)
            code, took = running.end()
        assert code == GIVEN_UP, running.log()
        # The time limit, a second's grace, and what a busy machine needs to write stacks.
        assert took < 2.0 + 1.0 + 12.0
        assert set(states(tmp_path).values()) == {state}

    def test_a_second_signal(self, tmp_path: Path) -> None:
        """Who asks twice waits no longer."""
        write_settings(tmp_path, stop=60.0)
        admit(tmp_path, event("hang", 1))
        with worker(tmp_path) as running:
            wait_until(lambda: handled(tmp_path), "it hangs", WITHIN)
            running.process.send_signal(signal.SIGTERM)
            running.said("Oni stops")
            time.sleep(0.5)  # two signals within a moment are one, sent to a whole group
            code, _ = running.end()
        assert code == GIVEN_UP

    def test_a_ledger_that_is_none(self, tmp_path: Path) -> None:
        """A damaged file ends it with 1, and is left as it is."""
        write_settings(tmp_path)
        (tmp_path / "ledger.db").write_text("this is no database\n" * 100)
        done = oni(tmp_path, "sources", "work")
        assert done.returncode == 1
        assert "the ledger cannot be opened" in done.stdout

    def test_a_database_that_comes_later(self, tmp_path: Path) -> None:
        """It waits for a database that is away, and works when that is there."""
        write_settings(tmp_path, "sqlite:///later/ledger.db")
        with worker(tmp_path) as running:
            running.said("the ledger is not open yet: ")
            (tmp_path / "later").mkdir()
            running.said("delivers to: ")
            assert running.end()[0] == 0


class TestProcess:
    """``oni sources process``."""

    def test_every_instance(self, tmp_path: Path) -> None:
        """Every row goes through its sources once; the second time nothing is new."""
        write_settings(tmp_path)
        subprocess.run(
            [sys.executable, "-m", APP, "150"],
            cwd=tmp_path,
            env=environment(),
            check=True,
            timeout=WITHIN,
        )
        first = oni(tmp_path, "sources", "process", "--json")
        assert json.loads(first.stdout) == {
            "instances": 150,
            "events": 149,
            "admitted": 149,
            "failures": 1,
        }
        assert first.returncode == 1
        assert "post 100 is odd" in first.stderr
        assert len(handled(tmp_path)) == 149
        again = oni(tmp_path, "sources", "process", f"{APP}.Post")
        assert again.stdout == "150 instances, 149 events, 0 admitted, 1 failures\n"
        assert len(handled(tmp_path)) == 149


class TestLedger:
    """``oni ledger`` on a terminal."""

    def test_progress(self, tmp_path: Path) -> None:
        """A person is asked, and sees how far it is."""
        write_settings(tmp_path)
        with opened(tmp_path) as store, store.transaction() as transaction:
            for number in range(200):
                handling = Handling("mail", max_attempts=1)
                transaction.admit(LedgerEvent(f"k{number}", handlings=(handling,)))
            for claim in transaction.claim(["mail"], 200, "me", 10.0):
                transaction.fail(claim, "no", True, None)
        answer, shown = _on_terminal(
            tmp_path, b"y\n", "ledger", "retry", "--state", "dead", "--handler", "mail"
        )
        assert answer == 0, shown
        assert "retry 200 dead deliveries of mail? [y/N]" in shown
        assert "/200" in shown
        assert set(states(tmp_path).values()) == {"pending"}


def _on_terminal(folder: Path, data: bytes, *arguments: str) -> tuple[int, str]:
    """Run a command on a terminal, and answer its question; give exit code and screen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*ONI, *arguments, "--config", "oni.toml"],
        cwd=folder,
        env={**environment(), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + WITHIN
    try:
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if data and b"[y/N]" in shown:
                os.write(ours, data)
                data = b""
        return process.wait(WITHIN), shown.decode(errors="replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)


DAEMON = f"""\
{OPEN}
[app]
configure = "{APP}:configure_server"
[ledger]
url = "{{url}}"
look_every = 0.2
[sources]
configure = "{APP}:configure"
"""


def figures(text: str) -> Mapping[str, float]:
    """Read what ``/metrics`` says of the ledger."""
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("oni_ledger")]
    return {name: float(value) for name, value in lines}


def is_ready(running: RunningDaemon) -> bool:
    """Say whether new clients are welcome."""
    return running.request("GET", "/readyz")[0] == 200


class TestDaemon:
    """``twistd oni`` with a ledger."""

    def test_sources(self, tmp_path: Path) -> None:
        """Its handlers reach the sources, which handle each key once; ``/metrics`` tells of it."""
        with daemon(tmp_path, DAEMON.replace("{url}", URL)) as running:
            wait_until(lambda: is_ready(running), "ready", WITHIN)
            for text in ("a", "b", "a"):
                running.publish("news", text)
            assert handled(tmp_path) == ["4:posta", "4:postb"]

            def done() -> Any:
                found = figures(running.request("GET", "/metrics")[1].decode())
                return found.get('oni_ledger_deliveries{state="done"}') == 2 and found

            found = wait_until(done, "two done", WITHIN)
            assert found["oni_ledger_up"] == 1
            assert found['oni_ledger_events_total{result="duplicate"}'] == 1
            assert found['oni_ledger_attempts_total{result="completed"}'] == 2
        assert set(states(tmp_path).values()) == {"done"}

    def test_a_handler_that_never_ends(self, tmp_path: Path) -> None:
        """SIGTERM ends it within its bound, with 75; what waits is there for the next one."""
        text = DAEMON.replace("{url}", URL).replace("[server]", "[server]\nstop_timeout = 2.0")
        admit(tmp_path, event("hang-in-a-thread", 1))
        with daemon(tmp_path, text, tracebacks=True) as running:
            wait_until(lambda: handled(tmp_path), "it hangs", WITHIN)
            assert running.stop() == GIVEN_UP, running.log()
        assert set(states(tmp_path).values()) == {"pending"}

    @needs_postgres
    def test_a_database_that_is_away(self) -> None:
        """It starts and serves, says that it is not ready, and is when the database is there.

        When that goes away later clients are still welcome, and it is told of.
        """
        with running_postgres() as server:
            self.look_at(server)

    def look_at(self, server: Postgres) -> None:
        """Start a daemon before its database."""
        server.stop()
        folder = server_folder(server)
        port = free_port()
        with daemon(
            folder, DAEMON.replace("{url}", server.url), port=port, tracebacks=True
        ) as running:
            status, body, _ = running.request("GET", "/readyz")
            assert (status, json.loads(body)["reasons"]) == (503, ["the ledger is not open yet"])
            status, body, _ = running.request("GET", "/healthz")
            assert (status, json.loads(body)["status"]) == (200, "degraded")
            server.start()
            wait_until(lambda: is_ready(running), "ready", WITHIN)
            running.publish("news", "a")
            assert handled(folder) == ["4:posta"]
            server.kill()

            def degraded() -> bool:
                told = json.loads(running.request("GET", "/healthz")[1])
                return bool(told["status"] == "degraded")

            wait_until(degraded, "degraded", WITHIN)
            assert is_ready(running)
            server.start()
            wait_until(lambda: not degraded(), "well again", WITHIN)
            code = running.stop()
        assert code == ENDED, running.log()


def server_folder(server: Postgres) -> Path:
    """Give a folder beside the server's data."""
    folder = server._data.parent / "daemon"
    folder.mkdir()
    return folder


PROJECT = """\
import os

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "db.sqlite3",
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=wal; PRAGMA synchronous=full",
        },
    }
}
INSTALLED_APPS = ["oni.sources.django", "shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "for tests only"
ONI = {"deliver": os.environ.get("SHOP_DELIVERS", "worker"), "stop_timeout": 2.0}
MIGRATION_MODULES = {"shop": None}
"""
MODELS = """\
from django.db import models


class Order(models.Model):
    total = models.IntegerField()


class Mail(models.Model):
    order = models.IntegerField()
"""
APPS = """\
import threading

from django.apps import AppConfig

from oni.sources.django import api


def orders(order):
    yield api.event("order", order.pk, {"order": order})


def send(event):
    from shop.models import Mail

    order = event["context"]["order"]
    Mail.objects.create(order=order.pk)
    if order.total < 0:
        threading.Event().wait()


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from shop.models import Order

        api.register_model_event_source(Order, orders)
        api.register_group_handler(send, "^order$", name="send")
"""
SHELL = """\
import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "mysite"
django.setup()
from shop.models import Order

what, *totals = sys.argv[1:]
if what == "save":
    for total in totals:
        Order.objects.create(total=int(total))
elif what == "behind":
    Order.objects.bulk_create(Order(total=int(total)) for total in totals)
"""


def mails(project: Path) -> int:
    """Count what the project's handler has written."""
    with closing(sqlite3.connect(project / "db.sqlite3", timeout=30)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM shop_mail").fetchone()[0])


class TestDjango:
    """A Django project by ``--django``, and in a daemon."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        """Make a project with tables."""
        shop = tmp_path / "shop"
        shop.mkdir()
        for path, text in (
            (tmp_path / "mysite.py", PROJECT),
            (tmp_path / "shell.py", SHELL),
            (shop / "__init__.py", ""),
            (shop / "models.py", MODELS),
            (shop / "apps.py", APPS),
        ):
            path.write_text(text)
        self.run(tmp_path, "-m", "django", "migrate", "--run-syncdb", "--settings", "mysite")
        return tmp_path

    def run(self, folder: Path, *arguments: str) -> str:
        """Run Python in the project; give what it prints."""
        path = os.pathsep.join((str(folder), environment()["PYTHONPATH"]))
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**environment(), "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def test_work_and_process(self, project: Path) -> None:
        """A worker runs the project's handlers; ``process`` finds rows that nobody told of."""
        self.run(project, "shell.py", "save", "1", "2")
        assert mails(project) == 0
        with worker(project, "--django", "mysite") as running:
            running.said("delivers to: send")
            wait_until(lambda: mails(project) == 2, "two mails", WITHIN)
            assert running.end()[0] == 0, running.log()
        self.run(project, "shell.py", "behind", "3", "4", "5")
        out = self.run(project, "-m", "oni", "sources", "process", "--django", "mysite")
        assert out == "5 instances, 5 events, 3 admitted, 0 failures"

    def test_a_handler_that_never_ends(self, project: Path) -> None:
        """What the project says of the time that handlers have holds."""
        self.run(project, "shell.py", "save", "-1")
        with worker(project, "--django", "mysite") as running:
            wait_until(lambda: mails(project) == 1, "it hangs", WITHIN)
            assert running.end()[0] == GIVEN_UP, running.log()

    def test_no_project(self, tmp_path: Path) -> None:
        """A module that is not there is one line."""
        done = subprocess.run(
            [*ONI, "sources", "work", "--django", "nope.settings"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert "there is no module 'nope' on Python's path" in line

    def test_daemon(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A daemon has the project's event sources, and delivers where the project says so."""
        self.run(project, "shell.py", "save", "1")
        monkeypatch.setenv("SHOP_DELIVERS", "here")
        text = f'{OPEN}[sources]\ndjango_settings = "mysite"\n'
        with daemon(project, text) as running:
            wait_until(lambda: is_ready(running), "ready", WITHIN)
            wait_until(lambda: mails(project) == 1, "one mail", WITHIN)

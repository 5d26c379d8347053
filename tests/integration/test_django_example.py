"""The Django example as its readers run it: its one command, under gunicorn, and with a worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "django"
WITHIN = 100.0  # seconds, on a busy machine
GROUPS = {"challenge_created", "challenge_inactivity_2d", "challenge_ends_2d", "challenge_ended"}


pytestmark = pytest.mark.timeout(3 * WITHIN)


class Project:
    """The example with data of its own.

    Args:
        data: The folder for them.
        deliver: What the settings say.
    """

    def __init__(self, data: Path, deliver: str = "here") -> None:
        self.data = data
        # Tests of other projects may have named theirs in this process.
        known = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
        self.environment = {
            **known,
            "EXAMPLE_DATA": str(data),
            "EXAMPLE_DELIVER": deliver,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

    def manage(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ``manage.py`` to its end."""
        return subprocess.run(
            [sys.executable, str(EXAMPLE / "manage.py"), *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WITHIN,
        )

    def run(self, program: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the project's shell."""
        return self.manage("shell", "--no-imports", "-c", program)

    @contextmanager
    def started(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """Run something until the block ends, by SIGTERM."""
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=EXAMPLE,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise

    @contextmanager
    def served(self, *options: str) -> Iterator[str]:
        """Run it under gunicorn, and give its address."""
        server = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "2", *options]
        with self.started(*server, "mysite.wsgi") as process:
            assert process.stdout is not None
            seen = ""
            for line in process.stdout:
                seen += line
                if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                    yield f"{address[0]}/challenges"
                    return
            pytest.fail(f"it ended: {seen}")

    def mails(self) -> list[str]:
        """Give the subjects of all mails that were sent."""
        texts = [path.read_text() for path in (self.data / "mails").glob("*")]
        return [
            subject for text in texts for subject in re.findall(r"^Subject: (.*)$", text, re.M)
        ]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Give the example with its tables."""
    made = Project(tmp_path)
    done = made.manage("migrate", "--verbosity=0")
    assert done.returncode == 0, done.stderr
    return made


def ask(address: str, email: str = "") -> Any:
    """Get what was sent; or save a challenge before."""
    data = f"email={email}".encode() if email else None
    with urllib.request.urlopen(address, data, timeout=WITHIN) as answer:
        return json.load(answer)


def wait_for(address: str, number: int) -> list[tuple[str, str]]:
    """Wait until so many mails are noted, and give them."""
    deadline = time.monotonic() + WITHIN
    while True:
        sent = [tuple(each) for each in ask(address)["sent"]]
        if len(sent) >= number:
            return sent
        assert time.monotonic() < deadline, sent
        time.sleep(0.05)


def test_its_one_command(tmp_path: Path) -> None:
    """A save that is rolled back sends nothing; four saves send four mails."""
    project = Project(tmp_path)
    done = project.manage("try_it")
    assert done.returncode == 0, done.stderr
    counts = re.findall(r"(\d+) mails so far", done.stdout)
    assert counts == ["0", "4", "4"], done.stdout
    assert set(project.mails()) == GROUPS
    assert len(project.mails()) == 4


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["plain", "preload"])
def test_gunicorn(project: Project, preload: list[str]) -> None:
    """Whichever of two forked workers saves delivers, also with a preloaded application."""
    with project.served("--workers", "2", *preload) as address:
        for name in "abab":
            ask(address, f"{name}@example.com")
        sent = wait_for(address, 8)
    assert len(sent) == 8
    assert set(sent) == {(f"{n}@example.com", group) for n in "ab" for group in GROUPS}
    assert len(project.mails()) == 8


def test_worker(tmp_path: Path) -> None:
    """With ``deliver="worker"`` the web's process only admits, and a worker delivers."""
    project = Project(tmp_path, "worker")
    assert project.manage("migrate", "--verbosity=0").returncode == 0
    with project.served() as address:
        ask(address, "ann@example.com")
        assert ask(address)["sent"] == []
        with project.started(str(EXAMPLE / "manage.py"), "oni_sources", "work") as worker:
            assert len(wait_for(address, 4)) == 4
        assert worker.returncode == 0
    assert len(project.mails()) == 4


def test_killed_after_the_commit(project: Project) -> None:
    """What was committed by a process that died at once is delivered by the next, once."""
    died = project.run(
        "import os\n"
        "from datetime import date, timedelta\n"
        "from django.db import transaction\n"
        "from challenges.models import Challenge\n"
        "today = date.today()\n"
        "with transaction.atomic():\n"
        "    transaction.on_commit(lambda: os.kill(os.getpid(), 9))\n"
        "    Challenge.objects.create(email='a@example.com',\n"
        "        start_date=today - timedelta(30), end_date=today - timedelta(1))\n"
    )
    assert died.returncode == -9
    assert project.mails() == []
    with project.served() as address:
        assert len(wait_for(address, 4)) == 4
        ask(address, "a@example.com")
    assert len(project.mails()) == 4


def test_process(project: Project) -> None:
    """What was never saved through a signal is found by the command, and nothing twice."""
    saved = project.run(
        "from datetime import date, timedelta\n"
        "from challenges.models import Challenge\n"
        "a_month = timedelta(30)\n"
        "Challenge.objects.bulk_create(Challenge(email=f'{n}@example.com',\n"
        "    start_date=date.today() - a_month, end_date=date.today() + a_month)\n"
        "    for n in range(5))\n"
    )
    assert saved.returncode == 0, saved.stderr
    first, second = (project.manage("oni_sources", "process", "--batch=2") for _ in range(2))
    assert (first.returncode, first.stdout) == (0, "5 instances, 10 events, 10 new\n")
    assert (second.returncode, second.stdout) == (0, "5 instances, 10 events, 0 new\n")
    assert len(project.mails()) == 10
    unknown = project.manage("oni_sources", "process", "challenges.Sent")
    assert unknown.returncode == 1
    assert "challenges.Sent has no sources" in unknown.stderr


PROGRAM = """
import os, sys, time
sys.path.insert(0, {example!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "mysite.settings"
from mysite import settings
settings.ONI = {oni!r}
import django
django.setup()
from datetime import date, timedelta
from challenges.models import Challenge
from oni.sources.django import api
"""


def test_handlers_that_hang(project: Project) -> None:
    """SIGTERM ends a worker in time also where a handler does not end, and the exit code tells."""
    program = PROGRAM.format(example=str(EXAMPLE), oni={"deliver": "worker", "stop_timeout": 0.5})
    program += (
        "def hang(event):\n"
        "    print('it hangs', flush=True)\n"
        "    time.sleep(1000)\n"
        "api.register_group_handler(hang, '^hang$')\n"
        "api.process_events([api.event('hang', 1)])\n"
        "from django.core.management import call_command\n"
        "call_command('oni_sources', 'work')\n"
    )
    with project.started("-c", program) as worker:
        assert worker.stdout is not None
        assert "it hangs\n" in iter(worker.stdout.readline, "")
    assert worker.returncode == 75


def test_a_ledger_of_its_own(project: Project) -> None:
    """Where the ledger is in no database of the project's, events come by the outbox, once."""
    ledger = f"sqlite:///{project.data}/ledger.db"
    program = PROGRAM.format(example=str(EXAMPLE), oni={"ledger": ledger, "outbox": ["default"]})
    program += (
        "challenge = Challenge(email='a@example.com',\n"
        "    start_date=date.today() - timedelta(30), end_date=date.today())\n"
        "for _ in range(3):\n"
        "    challenge.save()\n"
        "from challenges.events import events_from_challenge\n"
        "for record in api.process_events(events_from_challenge(challenge)):\n"
        "    print(record.event.group, {each.state for each in record.deliveries})\n"
    )
    with project.started("-c", program) as process:
        said, _ = process.communicate(timeout=WITHIN)
    expected = GROUPS - {"challenge_ended"}
    assert sorted(said.splitlines()) == sorted(f"{group} {{'done'}}" for group in expected)
    assert set(project.mails()) == expected
    assert len(project.mails()) == 3


def test_not_migrated(tmp_path: Path) -> None:
    """A worker whose tables are missing ends, and says what to do."""
    done = Project(tmp_path).manage("oni_sources", "work")
    assert done.returncode == 1
    assert "manage.py migrate" in done.stderr

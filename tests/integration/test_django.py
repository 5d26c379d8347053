"""A Django project that delivers in its own process, on SQLite and PostgreSQL; real threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.integration.postgres import Postgres, needs_postgres, running_postgres

WITHIN = 170.0  # seconds, on a busy machine: most of it is the reading of modules
ROOT = Path(__file__).resolve().parents[2]
EXPECTED: dict[str, Any] = {
    "nothing_runs_before_it_is_needed": [False, 1],
    "delivered_after_the_commit": [False, "now", True, True],
    "kinds_of_handlers": [
        {
            "blocking": False,
            "coroutine": True,
            "deferred": True,
            "fired": True,
            "transact": [False, True],
        },
        ["done"] * 4,
    ],
    "one_crossing_for_a_batch": [50, 1, 0],
    "refused_on_the_reactors_thread": ["ReactorThreadError"] * 2,
    "within_a_transaction": [[], [], ["w2"]],
    "a_row_that_is_gone": ["dead", True, True],
    "an_effect_with_its_completion": [0, 1, 2],
    "another_database": ["elsewhere"],
    "a_wake_never_fails": ["after"],
    "a_fork_after_the_start": [True, True],
}


pytestmark = pytest.mark.timeout(WITHIN + 10)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """Run a server."""
    with running_postgres() as server:
        yield server


def environment(**more: str) -> dict[str, str]:
    """Give an environment in which the project's tests find everything."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def run_cases(url: str) -> dict[str, Any]:
    """Run the cases in a process of their own, and give what each gave."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.django_cases", url],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    results = dict(json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0, (results, done.stderr)
    return results


def test_sqlite(tmp_path: Path) -> None:
    """Everything that has to do with threads, processes and commits, in a file of SQLite."""
    assert run_cases(str(tmp_path / "db.sqlite3")) == EXPECTED


@needs_postgres
def test_postgres(postgres: Postgres) -> None:
    """The same on PostgreSQL."""
    assert run_cases(postgres.url) == EXPECTED


@needs_postgres
def test_signals_on_postgres(postgres: Postgres) -> None:
    """Saves, bulk statements and the admin pages are the same on PostgreSQL."""
    files = ("saves", "querysets", "admin")
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE DATABASE signals")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *(f"tests/sources/django/test_{name}.py" for name in files),
            "--deselect=tests/sources/django/test_admin.py::AdminTests::test_the_index_is_used",
        ],
        cwd=ROOT,
        env=environment(ONI_TEST_DATABASE=f"{postgres.url.rpartition('/')[0]}/signals"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    assert done.returncode == 0, done.stdout[-5000:]

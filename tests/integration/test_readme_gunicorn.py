"""README's words on gunicorn hold: ``setup`` after the fork works, before it fails at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

APPLICATION = """
from oni.blocking import BlockingEventDispatcher
from oni.twisted_event_dispatcher import EventDispatcher

dispatcher = BlockingEventDispatcher(EventDispatcher(allowed_match_spec_keywords=("kind",)))

def application(environ, start_response):
    try:
        dispatcher.start()
        dispatcher.add_event_handler(
            lambda order: f"booked {order}", "during", times=1, kind="order"
        )
        answer = dispatcher.fire_event("three apples", kind="order").values[0]
    except Exception as error:
        answer = type(error).__name__
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
"""
STARTED_TOO_EARLY = "import oni.blocking\noni.blocking.setup()\n" + APPLICATION


def gunicorn_settings() -> str:
    """Give the settings file that README shows."""
    (text,) = re.findall(r"^```python\n(# gunicorn.conf.py\n.*?)^```", README, re.M | re.S)
    return str(text)


@contextmanager
def gunicorn(folder: Path, application: str, *options: str, settings: str) -> Iterator[str]:
    """Run an application under gunicorn with one worker, and give its address."""
    (folder / "web.py").write_text(application)
    (folder / "gunicorn.conf.py").write_text(settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, "web:application"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HOME": str(folder)},  # it keeps a socket there
        start_new_session=True,
    )
    try:
        yield _address(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        found = re.search(r"Listening at: (http://\S+)", line)
        if found:
            return found[1]
    raise AssertionError(f"gunicorn did not start: {said}")


def get(address: str) -> str:
    """Ask the application once."""
    with urllib.request.urlopen(address, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["as it is", "preload"])
def test_setup_after_the_fork(tmp_path: Path, options: tuple[str, ...]) -> None:
    """With README's hook, a worker fires events, whether the application was preloaded or not."""
    with gunicorn(tmp_path, APPLICATION, *options, settings=gunicorn_settings()) as address:
        assert get(address) == "booked three apples"
        assert get(address) == "booked three apples"


def test_setup_before_the_fork(tmp_path: Path) -> None:
    """An application that was set up before the fork gets the error that README names."""
    with gunicorn(tmp_path, STARTED_TOO_EARLY, "--preload", settings="") as address:
        assert get(address) == "ForkedProcessError"
    assert "`ForkedProcessError`" in README

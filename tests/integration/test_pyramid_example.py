"""The Pyramid example as its how-to page runs it: ``pserve``, the page's requests, the ledger."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from tests.integration.clients import bare, needs_websockets
from tests.integration.daemon import (
    CHECKOUT,
    daemon,
    environment,
    free_port,
    wait_until,
)

PAGE = (CHECKOUT / "docs/how-to/pyramid.rst").read_text(encoding="utf-8")
SITE = "http://127.0.0.1:6543"

WITHIN = 60.0  # seconds, on a machine that has much else to do

pytestmark = pytest.mark.timeout(300)


class Running:
    """The application, answering.

    Attributes:
        site: Where it is.
    """

    def __init__(self, site: str, log: Path) -> None:
        self.site = site
        self._log = log

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ask(self, path: str, body: str | None = None, method: str | None = None) -> Any:
        """Make a request; give status and answer."""
        data = None if body is None else body.encode()
        request = Request(self.site + path, data, method=method)
        try:
            with urlopen(request, timeout=WITHIN) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            return bool(self.ask("/blogs/mine/articles")[0] == 200)
        except URLError:
            return False

    def curl(self, command: str) -> Any:
        """Do what a command of the page does."""
        curl = ArgumentParser()
        curl.add_argument("-d")
        curl.add_argument("-X")
        curl.add_argument("address")
        said = curl.parse_args(shlex.split(command)[1:])
        return self.ask(said.address.removeprefix(SITE), said.d, said.X)


def block(language: str, number: int = 0) -> str:
    """Give one of the page's blocks in a language."""
    found = re.findall(rf"^\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", PAGE, re.MULTILINE)
    return dedent(found[number]).strip() + "\n"


def replace(file: Path, pattern: str, by: str) -> None:
    """Write something else into a file, in one place."""
    text, times = re.subn(pattern, lambda _: by, file.read_text(encoding="utf-8"), flags=re.M)
    assert times == 1, pattern
    file.write_text(text, encoding="utf-8")


@contextmanager
def running(folder: Path, for_pages: bool = False) -> Iterator[Running]:
    """Run the page's command in a copy of the example, on a free port.

    Args:
        folder: Where the copy goes.
        for_pages: Whether another process is to call the listener, as the page says at its end.
    """
    shutil.copytree(
        CHECKOUT / "examples" / "pyramid", folder, ignore=shutil.ignore_patterns("blog.db*", "__*")
    )
    port = str(free_port())
    replace(folder / "blog.ini", r"\b6543\b", port)
    if for_pages:
        replace(folder / "blog.ini", r"(?:^event_listeners.*\n)+", block("ini"))
        replace(folder / "blog.py", r"(?<=    )sources = EventSources\(.*\n", block("python"))
    [command] = re.findall(r"^   \$ PYTHONPATH=\. pserve (.*)$", PAGE, re.MULTILINE)
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("pserve")), *shlex.split(command)],
            cwd=folder,
            env={**environment(), "PYTHONPATH": f".{os.pathsep}{environment()['PYTHONPATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    site = Running(f"http://127.0.0.1:{port}", folder / "log")
    try:
        wait_until(lambda: process.poll() is not None or site.answers(), "it answers", WITHIN)
        assert process.poll() is None, site.log()
        yield site
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def told(text: str) -> list[str]:
    """Give the lines that the listener has logged, or that the page shows of it."""
    return re.findall(r"^ *(INFO (?:create|update|delete) .*)$", text, re.MULTILINE)


def test_page(tmp_path: Path) -> None:
    """The page's requests have its answers; the listener hears of what was committed, alone."""
    commands = re.findall(r"^   \$ (curl .*)$", PAGE, re.MULTILINE)
    with running(tmp_path / "example") as site:
        answers = [site.curl(command) for command in commands]
        assert answers == [
            (201, {"id": 1, "title": "Hello"}),
            (400, {"error": "please do not shout"}),
            (400, {"error": "there is such an article"}),
            (200, {"id": 1, "title": "Good morning"}),
            (200, [{"id": 1, "title": "Good morning"}]),
        ]
        assert site.ask("/blogs/mine/articles/2", method="DELETE")[0] == 404
        for nonsense in ('{"title": null}', "[]", "{"):
            assert site.ask("/blogs/mine/articles", nonsense)[0] == 400
        assert site.ask("/blogs/mine/articles/1", method="DELETE")[0] == 200
        expected = [*told(PAGE), "INFO delete article 1 by nobody known"]
        wait_until(lambda: len(told(site.log())) >= len(expected), "it has heard", WITHIN)
    assert sorted(told(site.log())) == sorted(expected)
    database = sqlite3.connect(tmp_path / "example" / "blog.db")
    try:
        kept = database.execute("SELECT group_name FROM oni_event ORDER BY rowid").fetchall()
    finally:
        database.close()
    groups = [group for (group,) in kept]
    assert groups == [f"resource.article.{action}" for action in ("create", "update", "delete")]


@needs_websockets
def test_websocket(tmp_path: Path) -> None:
    """A websocket of the daemon hears of what was committed, and of nothing that was refused."""
    folder = tmp_path / "example"
    listen = '[server]\nlisten = ["tcp:{port}:interface=127.0.0.1"]\n\n'
    with (
        running(folder, for_pages=True) as site,
        daemon(folder, listen + block("toml")) as oni,
        bare(oni) as client,
    ):
        assert "subscribe" in client.ask(id=7, subscribe={"channel": "articles"})
        for title, status in (("Hello", 201), ("HELLO", 400), ("Hello", 400), ("Bye", 201)):
            assert site.ask("/blogs/mine/articles", json.dumps({"title": title}))[0] == status
        assert site.ask("/blogs/mine/articles/2", method="DELETE")[0] == 200
        told: list[tuple[str, int]] = []
        while len(told) < 3:
            said = json.loads(client.socket.recv(timeout=WITHIN))
            if not said:
                client.socket.send("{}")  # a ping's answer
                continue
            publication = said["push"]["pub"]
            payload = publication["data"]["payload"]
            told.append((publication["tags"]["event"], payload["article_id"]))
        assert sorted(told) == [
            ("article_create", 1),
            ("article_create", 2),
            ("article_delete", 2),
        ]

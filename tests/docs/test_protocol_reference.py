"""The reference pages of protocol and HTTP API say what there is."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from oni.protocol import CLOSES, ERRORS, UNSUBSCRIBES
from oni.server._api_calls import ApiCalls
from oni.server._oni import Oni
from oni.server._settings import Settings
from tests.server.house import HouseTestCase

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PROTOCOL = (REFERENCE / "protocol.rst").read_text(encoding="utf-8")
HTTP_API = (REFERENCE / "http_api.rst").read_text(encoding="utf-8")


def _rows(page: str) -> dict[str, str]:
    """Give the rows of a page's tables: the first column, and the beginning of the second."""
    found = re.findall(r"^(\S+) +(\S.*)$", page, re.MULTILINE)
    return {first.strip("`"): rest for first, rest in found}


def test_codes() -> None:
    """Every code is in a table, with its text, and no other is."""
    rows = {int(key): text for key, text in _rows(PROTOCOL).items() if key.isdigit()}
    texts = {code: error.message for code, error in ERRORS.items()}
    texts |= {code: close.reason for code, close in CLOSES.items()}
    texts |= {code: one.reason for code, one in UNSUBSCRIBES.items()}
    prose = {400, 4000}  # sentences about applications' own codes begin with these
    assert set(rows) - prose == set(texts)
    for code, text in texts.items():
        assert rows[code].startswith(f"{text} "), (code, rows[code])


def test_temporary() -> None:
    """What may be tried again is marked, but for what is never sent."""
    for code, error in ERRORS.items():
        marked = re.search(rf"^{code} .*\*Temporary\.\*", PROTOCOL, re.MULTILINE)
        assert bool(marked) is (error.temporary and code != 113), code


class CallTests(HouseTestCase):
    """The calls of the HTTP API."""

    def test_calls(self) -> None:
        """Every call has a row."""
        calls = ApiCalls(Oni(Settings(), self.reactor, channels=self.channels), lambda: 0.0)
        for method in (*calls._calls, "batch"):
            self.assertTrue(calls.knows(method))
            self.assertIn(method, _rows(HTTP_API))

    def test_example(self) -> None:
        """The page's application gives and answers what the page says."""
        (block,) = re.findall(
            r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", PROTOCOL, re.MULTILINE
        )
        names: dict[str, Any] = {}
        exec(textwrap.dedent(block), names)
        names["configure"](self.oni)
        client = self.websocket()
        told = client.ask("connect")
        self.assertEqual((told["data"], told["ttl"]), ({"theme": "dark"}, 3600))
        self.assertEqual(list(told["subs"]), ["news:"])
        self.assertEqual(client.ask("rpc", method="add", data={"a": 1, "b": 2}), {"data": 3})
        self.assertEqual(client.ask("refresh", token="t")["ttl"], 3600)

"""The reference page of the limits says what the server says of itself.

``python -m tests.docs.test_limits_reference`` writes the page's list anew.
"""

from __future__ import annotations

import textwrap
from itertools import groupby
from pathlib import Path

from oni.server._settings import describe
from oni.server.limits._listed import Limit, limits

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "reference" / "limits.rst"
BEGIN = ".. The list below is written by tests/docs/test_limits_reference.py.\n"
SECTIONS = ("server", "channels", "backend")


def written() -> str:
    """Write the list: each group with its limits."""
    parts = [BEGIN]
    for group, found in groupby(limits(), lambda limit: limit.group):
        parts.append(f"\n{group}\n{'-' * len(group)}\n")
        parts += [_entry(limit) for limit in found]
    return "".join(parts)


def _entry(limit: Limit) -> str:
    name = f"``{limit.name}``" if limit.is_set else limit.name.capitalize()
    value = f"``{limit.value}``" if limit.is_set else limit.value
    more = f":ref:`Setting <setting-{limit.name}>`." if limit.is_set else "It cannot be set."
    said = f"{value}. {limit.help} Beyond it: {limit.beyond}. {more}"
    text = textwrap.fill(said, 96, break_long_words=False, break_on_hyphens=False)
    return f"\n{name}\n{textwrap.indent(text, '   ')}\n"


def test_reference_page() -> None:
    """The page lists every limit with its value, its meaning and what happens beyond it."""
    found = PAGE.read_text(encoding="utf-8")
    assert found[found.index(BEGIN) :] == written()


def test_every_limit_is_listed() -> None:
    """No setting that bounds something is left out."""
    listed = {limit.name for limit in limits()}
    for info in describe():
        section, _, key = info.path.partition(".")
        bounds = key.startswith("max_") or key.endswith(
            ("_timeout", "_bytes", "_entries", "_size")
        )
        if section in SECTIONS and bounds:
            assert info.path in listed, info.path


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(head + written(), encoding="utf-8")

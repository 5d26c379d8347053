"""The reference page of the settings says what the daemon says of itself.

``python -m tests.docs.test_settings_reference`` writes the page's list anew.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from oni.server._settings import SECTIONS, SettingInfo, describe
from oni.server._settings_file import parse_settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "reference" / "settings.rst"
BEGIN = ".. The list below is written by tests/docs/test_settings_reference.py.\n"


def written() -> str:
    """Write the list: each section with its keys."""
    parts = [BEGIN]
    for section in SECTIONS:
        title = f"``[{section}]``"
        parts.append(f"\n{title}\n{'-' * len(title)}\n")
        parts += [_entry(info) for info in describe() if info.path.rpartition(".")[0] == section]
    return "".join(parts)


def _entry(info: SettingInfo) -> str:
    about = f"{info.help} {info.kind[0].upper()}{info.kind[1:]}."
    default = f"Default: ``{info.default}``." if info.default else "Without default."
    text = textwrap.fill(f"{about} {default}", 96, break_long_words=False, break_on_hyphens=False)
    key = info.path.rpartition(".")[2]
    return f"\n.. _setting-{info.path}:\n\n``{key}``\n{textwrap.indent(text, '   ')}\n"


def test_reference_page() -> None:
    """The page lists every key with type, default and meaning, and nothing else."""
    found = PAGE.read_text(encoding="utf-8")
    assert found[found.index(BEGIN) :] == written()


def test_examples() -> None:
    """Every settings file that the documentation shows is right."""
    count = 0
    for page in sorted(DOCS.rglob("*.rst")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^\.\. code-block:: toml\n\n((?:   .*\n|\n)+)", text, re.M):
            parse_settings(textwrap.dedent(block))
            count += 1
    assert count >= 5


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(head + written(), encoding="utf-8")

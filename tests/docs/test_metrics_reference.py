"""The reference page of the figures says what ``/metrics`` tells.

``python -m tests.docs.test_metrics_reference`` writes the page's lists anew.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from oni.server.metrics import FIGURES, NOT_COUNTED, Figure

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/metrics.rst"
BEGIN = ".. The lists below are written by tests/docs/test_metrics_reference.py.\n"


def written() -> str:
    """Write the lists: every figure, and those that are not there."""
    parts = [BEGIN, "\n", *(_entry(figure) for figure in FIGURES)]
    title = "Not counted"
    parts.append(f"{title}\n{'-' * len(title)}\n\n")
    parts += [f"``{name}``\n{_filled(f'{why}.')}\n\n" for name, why in NOT_COUNTED.items()]
    return "".join(parts).rstrip("\n") + "\n"


def _entry(figure: Figure) -> str:
    labels = ", ".join(f"``{label}``" for label in figure.labels)
    by = f" By {labels}." if labels else ""
    return f"``{figure.name}``\n{_filled(f'{figure.kind.capitalize()}. {figure.help}{by}')}\n\n"


def _filled(text: str) -> str:
    filled = textwrap.fill(
        text[0].upper() + text[1:], 96, break_long_words=False, break_on_hyphens=False
    )
    return textwrap.indent(filled, "   ")


def test_reference_page() -> None:
    """The page lists every figure with kind, meaning and labels, and nothing else."""
    found = PAGE.read_text(encoding="utf-8")
    assert found[found.index(BEGIN) :] == written()


if __name__ == "__main__":
    head = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(head + written(), encoding="utf-8")
